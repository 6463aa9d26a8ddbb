"""Blocks, adapters and the embedding file: checked on the way in, byte-identical on the way out."""

from __future__ import annotations

import json
import random
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from builders import BASE, LORA, bottleneck, lora, lora_block, prompt, single
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.embedding import (
    FORMS,
    SCHEMA,
    Adapter,
    TaskEmbedding,
    embed,
    make_block,
    natural_key,
    order_blocks,
    parse_embedding,
    read_embedding,
    shared_names,
)
from tupate_hub.errors import FormatError
from tupate_hub.space import Space
from tupate_hub.storage.safetensors import TensorFile, parse_tensorfile

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "lowrank": {"A": (2, 4), "B": (3, 2)},
    "bottleneck": {"down": (2, 4), "down_bias": (2,), "up": (4, 2), "up_bias": (4,)},
    "bias": {"bias": (4,)},
    "scaling": {"scaling": (4,)},
    "rows": {"rows": (2, 4)},
    "vector": {"vector": (4,)},
}


def parts(form: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {part: rng.standard_normal(shape).astype(np.float32) for part, shape in SHAPES[form].items()}


def same(x: TaskEmbedding, y: TaskEmbedding) -> bool:
    """Whether two embeddings are equal to the last bit."""
    return (x.task, x.space, x.facts) == (y.task, y.space, y.facts) and [
        (one.name, one.scale, [(part, array.tolist()) for part, array in one.parts.items()]) for one in x.blocks
    ] == [(one.name, one.scale, [(part, array.tolist()) for part, array in one.parts.items()]) for one in y.blocks]


def file_of(tensors: dict[str, np.ndarray] | None = None, **metadata: str | None) -> bytes:
    """An embedding file with some fields of its header set, or left out where None."""
    whole = {"schema": SCHEMA, "task": "t", "base": BASE, "method": "lora", "scales": "{}", **metadata}
    one = {"b.A": np.ones((1, 2), np.float32), "b.B": np.ones((2, 1), np.float32)}
    return TensorFile(tensors or one, {key: value for key, value in whole.items() if value is not None}).to_bytes()


# --- blocks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_block_knows_its_form_and_keeps_its_parts_in_order(form: str) -> None:
    given_parts = parts(form)
    block = make_block("b", dict(reversed(given_parts.items())), 2)
    assert block.form == form
    assert tuple(block.parts) == FORMS[form]
    assert isinstance(block.scale, float)
    for part, array in given_parts.items():
        np.testing.assert_array_equal(block.parts[part], array)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_parts_become_float32(dtype: str) -> None:
    assert make_block("b", {"bias": np.ones(3, dtype)}).parts["bias"].dtype == np.float32


@pytest.mark.parametrize("names", [("A",), ("A", "B", "C"), ("down", "up"), ("weights",), ()])
def test_parts_that_make_up_no_form_are_named(names: tuple[str, ...]) -> None:
    with pytest.raises(FormatError, match=r"file\.bin: the parts \[.*\] of 'b' do not make up a known block"):
        make_block("b", {name: np.ones(2) for name in names}, where="file.bin")


@pytest.mark.parametrize(
    ("form", "part", "shape"),
    [
        ("lowrank", "A", (3, 4)),
        ("lowrank", "A", (4,)),
        ("lowrank", "B", (3, 2, 1)),
        ("lowrank", "B", (2, 3)),
        ("lowrank", "A", (2, 0)),
        ("bottleneck", "down", (3, 4)),
        ("bottleneck", "down_bias", (3,)),
        ("bottleneck", "down_bias", (2, 1)),
        ("bottleneck", "up", (2, 4)),
        ("bottleneck", "up_bias", (2,)),
        ("bias", "bias", (2, 2)),
        ("bias", "bias", ()),
        ("bias", "bias", (0,)),
        ("scaling", "scaling", (1, 4)),
        ("rows", "rows", (4,)),
        ("rows", "rows", (0, 4)),
        ("rows", "rows", (1, 2, 3)),
        ("vector", "vector", ()),
    ],
)
def test_shapes_that_do_not_fit_are_shown(form: str, part: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(FormatError, match="the shapes of 'b' do not fit together") as caught:
        make_block("b", {**parts(form), part: np.ones(shape)})
    assert f"{part} {shape}" in caught.value.message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("form", FORMS)
def test_a_number_that_is_not_finite_in_float32_is_refused(form: str, bad: float) -> None:
    for part in SHAPES[form]:
        spoiled = {name: array.astype(np.float64) for name, array in parts(form).items()}
        spoiled[part].flat[-1] = bad
        with pytest.raises(FormatError, match="'b' holds NaN or infinity"):
            make_block("b", spoiled)


@pytest.mark.parametrize("scale", [np.nan, np.inf])
def test_a_scale_that_is_not_finite_is_refused(scale: float) -> None:
    with pytest.raises(FormatError, match="'b' holds NaN or infinity"):
        make_block("b", parts("bias"), scale)


# --- order -----------------------------------------------------------------------------------------------------


def test_numbers_in_names_are_ordered_as_numbers() -> None:
    names = ["a.0.x", "a.1.q", "a.1.v", "a.2", "a.2.b", "a.10", "b", "b2", "b10", "b10a"]
    shuffled = random.Random(0).sample(names, len(names))
    assert sorted(shuffled, key=natural_key) == names
    assert sorted(["a.10", "a.2", "a.01", "a.1"], key=natural_key) == ["a.01", "a.1", "a.2", "a.10"]


@given(st.lists(st.text(alphabet="01a.٣", max_size=4), unique=True, max_size=8))
def test_the_order_of_names_is_total(names: list[str]) -> None:
    assert sorted(names, key=natural_key) == sorted(reversed(names), key=natural_key)
    assert len({natural_key(name) for name in names}) == len(names)


def test_a_name_may_have_any_number_of_digits() -> None:
    assert sorted(["a" + "9" * 5000, "a1" + "0" * 5000, "a2"], key=natural_key)[0] == "a2"


def test_blocks_come_in_canonical_order() -> None:
    rng = np.random.default_rng(0)
    blocks = [lora_block(rng, name) for name in ("layer.10.q", "layer.2.v", "layer.2.q")]
    assert [block.name for block in order_blocks(blocks)] == ["layer.2.q", "layer.2.v", "layer.10.q"]


def test_no_block_and_two_of_one_name_are_refused() -> None:
    block = lora_block(np.random.default_rng(0), "b")
    with pytest.raises(FormatError, match=r"^x holds no tuned parameters\.$"):
        order_blocks([], "x")
    with pytest.raises(FormatError, match=r"^x holds two blocks of one name\.$"):
        order_blocks([block, block], "x")


def test_shared_names_are_all_names_of_all_embeddings_once() -> None:
    one, other = lora("x", 0, layers=1), lora("y", 1, layers=11)
    names = shared_names([one, other])
    assert names[:2] == ("layer.0.query", "layer.0.value")
    assert names[-1] == "layer.10.value"
    assert len(names) == 22


# --- embeddings ------------------------------------------------------------------------------------------------


def test_the_vector_is_blocks_in_order_parts_in_order_rows_in_order() -> None:
    embedding = lora("x", 0, rank=2, layers=11)
    pieces = []
    for number in range(11):
        for place in ("query", "value"):
            block = embedding.by_name[f"layer.{number}.{place}"]
            pieces += [block.parts["A"].ravel(), block.parts["B"].ravel()]
    np.testing.assert_array_equal(embedding.vector(), np.concatenate(pieces))
    assert embedding.parameters == len(embedding.vector()) == 11 * 2 * (2 * 6 + 5 * 2)


def test_the_vector_of_a_bottleneck() -> None:
    block = bottleneck("x", 0, layers=1).blocks[0]
    expected = [block.parts[part].ravel() for part in ("down", "down_bias", "up", "up_bias")]
    np.testing.assert_array_equal(bottleneck("x", 0, layers=1).vector(), np.concatenate(expected))


def test_scales_are_no_part_of_the_vector() -> None:
    np.testing.assert_array_equal(lora("x", 0, scale=1).vector(), lora("x", 0, scale=7).vector())


def test_an_embedding_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        lora("x", 0).task = "y"
    with pytest.raises(FrozenInstanceError):
        lora("x", 0).blocks[0].scale = 3


def test_embedding_an_adapter_keeps_what_is_known() -> None:
    blocks = lora("x", 0).blocks
    adapter = Adapter("lora", BASE, blocks, {"r": 2, "alpha": 4})
    embedding = embed(adapter, "sst2", {"licence": "mit"})
    assert embedding == TaskEmbedding("sst2", LORA, blocks, {"settings": {"r": 2, "alpha": 4}, "licence": "mit"})


def test_an_adapter_without_a_base_model_asks_for_it() -> None:
    with pytest.raises(FormatError, match="adapter of 'sst2' names no base model") as caught:
        embed(Adapter("lora", None, lora("x", 0).blocks), "sst2")
    assert caught.value.hint == "name it: `base=MODEL_ID`"


# --- the file --------------------------------------------------------------------------------------------------

FACTS: dict[str, Any] = {
    "base_sha256": "ab" * 32,
    "settings": {"r": 8, "alpha": 16, "targets": ["query", "value"], "dropout": 0.0},
    "data": {"dataset": "stanfordnlp/sst2", "train": 67349, "sha256": "cd" * 32},
    "training": {"seed": 0, "steps": 400, "lr": 5e-4, "head": None},
    "scores": {"metric": "accuracy", "primary": 0.8429, "baseline": 0.5092},
    "software": {"torch": "2.13.0", "adapters": "1.3.0"},
    "licence": "cc-by-4.0",
    "source": "Émile – 感情",
    "flag": True,
    "nothing": None,
}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(
    "embedding",
    [
        lora("sst2", 0, rank=3, scale=0.1, **FACTS),
        bottleneck("sst2", 1),
        prompt("sst2", 2, **FACTS),
        single("sst2", "bias", np.array([1, 2], np.float32)),
        single("sst2", "scaling", np.array([1, 2], np.float32), "ia3", 3.5),
        single("sst2", "vector", np.array([1, 2], np.float32)),
    ],
    ids=["lora", "bottleneck", "prompt", "bias", "scaling", "vector"],
)
def test_an_embedding_survives_its_file(embedding: TaskEmbedding, dtype: str) -> None:
    data = embedding.to_bytes(dtype)
    found = parse_embedding(data, "x")
    rounded = replace(
        embedding,
        blocks=tuple(
            make_block(block.name, {part: array.astype(dtype) for part, array in block.parts.items()}, block.scale)
            for block in embedding.blocks
        ),
    )
    assert same(found, rounded)
    assert found.to_bytes(dtype) == data


facts = st.dictionaries(
    st.text(alphabet="abcé_", min_size=1, max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


@given(facts)
def test_every_fact_survives_the_file(known: dict[str, Any]) -> None:
    data = lora("x", 0, layers=1, **known).to_bytes()
    assert parse_embedding(data, "x").facts == known


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_scale_survives_the_file(scale: float) -> None:
    found = parse_embedding(lora("x", 0, layers=1, scale=scale).to_bytes(), "x")
    assert [block.scale for block in found.blocks] == [scale, scale]


def test_the_bytes_do_not_depend_on_the_order_of_facts_and_blocks() -> None:
    one = lora("x", 0, **FACTS)
    other = replace(one, facts=dict(reversed(FACTS.items())), blocks=tuple(reversed(one.blocks)))
    assert one.to_bytes() == other.to_bytes() == one.to_bytes()


def test_the_file_is_half_the_size_by_default() -> None:
    file = parse_tensorfile(lora("x", 0).to_bytes(), "x")
    assert {array.dtype for array in file.tensors.values()} == {np.dtype("float16")}


def test_the_library_reads_the_file_and_its_header(tmp_path: Path) -> None:
    embedding = lora("sst2", 0, **FACTS)
    path = tmp_path / "sst2.safetensors"
    path.write_bytes(embedding.to_bytes("float32"))
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        np.testing.assert_array_equal(file.get_tensor("layer.0.query.A"), embedding.by_name["layer.0.query"].parts["A"])
    assert (metadata["schema"], metadata["task"], metadata["base"], metadata["method"]) == (
        SCHEMA,
        "sst2",
        BASE,
        "lora",
    )
    assert json.loads(metadata["training"]) == FACTS["training"]
    assert json.loads(metadata["scales"])["layer.1.value"] == 2.0


def test_bfloat16_files_are_read() -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save

    numbers = {"b.A": torch.randn(2, 3).bfloat16(), "b.B": torch.randn(4, 2).bfloat16()}
    metadata = {"schema": SCHEMA, "task": "t", "base": BASE, "method": "lora", "scales": "{}"}
    block = parse_embedding(save(numbers, metadata), "x").blocks[0]
    np.testing.assert_array_equal(block.parts["B"], numbers["b.B"].float().numpy())


def test_a_file_is_read_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(lora("x", 0).to_bytes("float32"))
    assert same(read_embedding(path), lora("x", 0))
    with pytest.raises(FormatError, match=r"missing cannot be read: No such file"):
        read_embedding(tmp_path / "missing")


@pytest.mark.parametrize("value", [65520.0, -1e5, 3e38])
def test_numbers_beyond_float16_are_not_written_as_infinity(value: float) -> None:
    embedding = single("huge", "bias", np.array([1, value], np.float32))
    with pytest.raises(FormatError, match=r"'huge': 'only\.bias' holds numbers that float16 cannot") as caught:
        embedding.to_bytes()
    assert caught.value.hint == "write float32"
    assert parse_embedding(embedding.to_bytes("float32"), "x").blocks[0].parts["bias"][1] == np.float32(value)


def test_the_largest_float16_is_written() -> None:
    embedding = single("large", "bias", np.array([65504, -65504], np.float32))
    assert parse_embedding(embedding.to_bytes(), "x").blocks[0].parts["bias"].tolist() == [65504, -65504]


@pytest.mark.parametrize("name", ["schema", "task", "base", "method", "scales"])
def test_a_fact_cannot_take_the_place_of_a_field(name: str) -> None:
    with pytest.raises(FormatError, match=f"cannot be named '{name}'"):
        replace(lora("x", 0), facts={name: "other"}).to_bytes()


# --- files that are not right ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_truncated_file_is_refused(dtype: str) -> None:
    data = lora("x", 0, **FACTS).to_bytes(dtype)
    begin = 8 + int.from_bytes(data[:8], "little")
    for length in (0, 1, 7, 8, 9, begin // 2, begin - 1, begin, begin + 1, (begin + len(data)) // 2, len(data) - 1):
        with pytest.raises(FormatError, match=r"^cut\.safetensors "):
            parse_embedding(data[:length], "cut.safetensors")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_and_infinity_are_refused_by_the_name_of_the_block(dtype: str, bad: float) -> None:
    tensors = {"b.A": np.ones((1, 2), dtype), "b.B": np.array([[1], [bad]], dtype)}
    with pytest.raises(FormatError, match=r"^x: 'b' holds NaN or infinity\.$"):
        parse_embedding(file_of(tensors), "x")


@pytest.mark.parametrize("schema", [None, "", "tupate-hub-embedding/2", "tupate-hub-index/1", "1"])
def test_another_schema_is_refused(schema: str | None) -> None:
    with pytest.raises(FormatError, match=f"x is not a {SCHEMA} file") as caught:
        parse_embedding(file_of(schema=schema), "x")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["task", "base", "method", "scales"])
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(FormatError, match=f"^x has a header without '{name}'"):
        parse_embedding(file_of(**{name: None}), "x")


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("scales", "{"),
        ("scales", "[" * 100_000),
        ("licence", "mit"),
        ("data", ""),
        ("data", "{" * 3),
        ("data", '{"a":' * 50_000),
        ("data", "9" * 5000),
        ("data", '"\\ud800"'),
        ("data", '{"\\udfff": 1}'),
    ],
)
def test_facts_that_are_not_json_are_refused(field: str, text: str) -> None:
    with pytest.raises(FormatError, match=r"^x has a header whose facts are not JSON"):
        parse_embedding(file_of(**{field: text}), "x")


@pytest.mark.parametrize("scales", ["[]", "3", "null", '{"b": "2"}', '{"b": true}', '{"b": null}', '{"b": [1]}'])
def test_scales_that_are_no_numbers_are_refused(scales: str) -> None:
    with pytest.raises(FormatError, match=r"^x has a header whose scales are not numbers"):
        parse_embedding(file_of(scales=scales), "x")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
def test_scales_that_are_not_finite_are_refused(number: str) -> None:
    with pytest.raises(FormatError, match=r"^x.*'b'"):
        parse_embedding(file_of(scales=f'{{"b": {number}}}'), "x")


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        ({"b.A": np.ones((1, 2))}, "the parts ['A'] of 'b'"),
        ({"weight": np.ones((1, 2))}, "the parts ['weight'] of ''"),
        ({"b.A": np.ones((1, 2)), "b.B": np.ones((2, 2))}, "the shapes of 'b'"),
        ({"b.A": np.ones(2), "b.B": np.ones(2)}, "the shapes of 'b'"),
        ({"b.rows": np.ones((0, 2))}, "the shapes of 'b'"),
    ],
)
def test_tensors_that_make_up_no_block_are_refused(tensors: dict[str, np.ndarray], complaint: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_embedding(file_of({name: array.astype(np.float32) for name, array in tensors.items()}), "x")
    assert complaint in caught.value.message


def test_a_file_without_tensors_is_refused() -> None:
    whole = {"schema": SCHEMA, "task": "t", "base": BASE, "method": "lora", "scales": "{}"}
    with pytest.raises(FormatError, match="x holds no tuned parameters"):
        parse_embedding(TensorFile({}, whole).to_bytes(), "x")


def test_the_smallest_file_is_read() -> None:
    found = parse_embedding(file_of(), "x")
    assert (found.task, found.space, found.blocks[0].scale, found.facts) == ("t", Space(BASE, "lora"), 1.0, {})


@given(st.data())
def test_one_changed_byte_gives_an_embedding_or_an_error(data: st.DataObject) -> None:
    whole = bytearray(lora("x", 0, layers=1, licence="mit").to_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = parse_embedding(bytes(whole), "x")
    except FormatError as error:
        assert error.message.startswith("x")
    else:
        assert np.isfinite(found.vector()).all()


def test_the_order_of_facts_does_not_change_the_bytes() -> None:
    one = replace(lora("x", 0), facts={"scores": {"primary": 1.0}, "data": {"sha256": "a"}})
    other = replace(one, facts=dict(reversed(one.facts.items())))
    assert one.to_bytes() == other.to_bytes()
