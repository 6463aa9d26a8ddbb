"""Moments and `effect`: the file, hostile files, and the similarity against the definition tr(W C W'ᵀ)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from builders import BASE, INNER, LORA, NAMES, PLACE, covariance, dense, input_covariance, lora, normal, prompt
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.compare.input_covariance import SCHEMA, InputCovariance, parse_input_covariance
from tupate_hub.compare.kernel import kernel, pack
from tupate_hub.embedding import Block, TaskEmbedding, make_block
from tupate_hub.errors import FormatError, SpaceMismatch, UnknownName
from tupate_hub.storage.safetensors import TensorFile, parse_tensorfile

#: The share of the mean eigenvalue that is added to the diagonal of C.
SHRINKAGE = 0.01


def identity(factor: float = 1.0) -> InputCovariance:
    return input_covariance(inputs={name: factor * np.eye(INNER, dtype=np.float32) for name in set(PLACE.values())})


def scores(embeddings: list[TaskEmbedding], known: InputCovariance | None, similarity: str = "effect") -> np.ndarray:
    packed = pack(embeddings, similarity, known)
    return kernel(packed, packed).scores()


def regular(known: InputCovariance, block: str) -> np.ndarray:
    moment = known.inputs[known.place[block]].astype(np.float64)
    return moment + np.eye(len(moment)) * SHRINKAGE * np.trace(moment) / len(moment)


# --- effect ----------------------------------------------------------------------------------------------------


def test_effect_is_the_trace_of_the_full_updates() -> None:
    known, embeddings = input_covariance(), [lora(f"task{seed}", seed, rank=1 + seed) for seed in range(4)]
    packed = pack(embeddings, "effect", known)
    found = kernel(packed, packed)
    for row, name in enumerate(found.blocks):
        full = [dense(one)[name] for one in embeddings]
        expected = [[np.trace(w @ regular(known, name) @ v.T) for v in full] for w in full]
        np.testing.assert_allclose(found.cross[row], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_effect_is_the_mean_product_of_the_outputs() -> None:
    """E<W x, W' x> over the very inputs of which C was made, up to the documented shrinkage."""
    x = normal(np.random.default_rng(3), 50, INNER).astype(np.float64)
    inputs = {name: (x.T @ x / 50).astype(np.float32) for name in set(PLACE.values())}
    first, second = lora("a", 0), lora("b", 1)
    found = kernel(
        pack([first], "effect", input_covariance(inputs=inputs)),
        pack([second], "effect", input_covariance(inputs=inputs)),
    )
    for row, name in enumerate(found.blocks):
        w, v = dense(first)[name], dense(second)[name]
        outputs = float(np.mean(np.sum((x @ w.T) * (x @ v.T), axis=1)))
        shrunk = SHRINKAGE * np.trace(x.T @ x / 50) / INNER * float((w * v).sum())
        assert found.cross[row, 0, 0] == pytest.approx(outputs + shrunk, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("factor", [1.0, 1e-3, 40.0])
def test_effect_of_white_inputs_is_update(factor: float) -> None:
    embeddings = [lora(f"task{seed}", seed, rank=1 + seed) for seed in range(4)]
    np.testing.assert_allclose(scores(embeddings, identity(factor)), scores(embeddings, None, "update"), atol=1e-6)
    one, packed = pack(embeddings, "update"), pack(embeddings, "effect", identity(factor))
    np.testing.assert_allclose(packed.squares, one.squares * factor * (1 + SHRINKAGE), rtol=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_effect_does_not_see_the_coordinates_of_an_update(seed: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = lora("one", seed % 1000, rank), lora("other", 5)
    basis = np.linalg.qr(rng.standard_normal((rank, rank)))[0] @ np.diag(np.exp(rng.uniform(-1, 1, rank)))

    def turned(block: Block) -> Block:
        parts = {"A": np.linalg.inv(basis) @ block.parts["A"], "B": block.parts["B"] @ basis}
        return make_block(block.name, parts, block.scale)

    again = TaskEmbedding("again", LORA, tuple(map(turned, one.blocks)))
    found = scores([one, again, other], input_covariance())
    assert found[0, 1] == pytest.approx(1, abs=1e-5)
    assert found[0, 2] == pytest.approx(found[1, 2], abs=1e-5)


def test_what_the_inputs_never_visit_hardly_counts() -> None:
    seen = np.zeros((INNER, INNER), dtype=np.float32)
    seen[0, 0] = 1
    known = input_covariance(inputs=dict.fromkeys(PLACE.values(), seen))
    a = np.zeros((1, INNER), dtype=np.float32)
    a[0, 0] = 1
    b = np.ones((5, 1), dtype=np.float32)

    def along(task: str, axis: int, strength: float) -> TaskEmbedding:
        tilted = a.copy()
        tilted[0, axis] += strength
        return TaskEmbedding(task, LORA, (make_block("layer.0.query", {"A": tilted, "B": b}),))

    pair = [along("a", 1, 3.0), along("b", 2, 3.0)]
    assert scores(pair, None, "update")[0, 1] == pytest.approx(0.1, abs=1e-6)
    assert scores(pair, known)[0, 1] > 0.9


def test_effect_without_moments_names_the_next_command() -> None:
    with pytest.raises(UnknownName, match="needs statistics of the base model") as caught:
        pack([lora("one", 0)], "effect")
    assert "tupate-hub stats" in caught.value.hint


def test_a_place_of_which_nothing_is_known() -> None:
    with pytest.raises(FormatError, match=r"Nothing is known of the inputs of 'layer\.1\.value'") as caught:
        pack([lora("one", 0)], "effect", input_covariance(place={name: PLACE[name] for name in NAMES[:3]}))
    assert caught.value.hint == "`similarity='update'`"


def test_moments_of_another_width() -> None:
    wide = input_covariance(inputs={name: covariance(0, INNER + 1) for name in set(PLACE.values())})
    with pytest.raises(SpaceMismatch, match="has 6 inputs, the base model's has 7"):
        pack([lora("one", 0)], "effect", wide)


def test_other_forms_of_block_are_compared_as_updates() -> None:
    prompts = [prompt("a", 0), prompt("b", 1)]
    np.testing.assert_array_equal(scores(prompts, input_covariance()), scores(prompts, None, "update"))


@pytest.mark.parametrize("moment", [np.zeros((INNER, INNER)), -np.eye(INNER), np.diag([1, 1, 1, 1, 1, -1])])
def test_what_is_no_second_moment_is_told_when_it_is_used(moment: np.ndarray) -> None:
    wrong = input_covariance(inputs=dict.fromkeys(PLACE.values(), moment.astype(np.float32)))
    with pytest.raises(FormatError, match="not a covariance") as caught:
        pack([lora("one", 0)], "effect", parse_input_covariance(wrong.to_bytes(), "x"))
    assert "tupate-hub stats" in caught.value.hint


@pytest.mark.parametrize("name", NAMES)
def test_a_root_is_one(name: str) -> None:
    root = input_covariance().root(name).astype(np.float64)
    np.testing.assert_allclose(root @ root.T, regular(input_covariance(), name), rtol=1e-5, atol=1e-6)


def test_blocks_of_one_input_share_their_root() -> None:
    known = input_covariance()
    assert known.root("layer.0.query") is known.root("layer.0.value")
    assert known.root("layer.0.query") is not known.root("layer.1.query")


# --- the file --------------------------------------------------------------------------------------------------


def test_moments_come_back_as_they_were() -> None:
    known = input_covariance()
    found = parse_input_covariance(known.to_bytes(), "x")
    assert (found.base, found.base_sha256, found.tokens, found.place) == (BASE, "ab" * 32, 20, PLACE)
    assert found.inputs.keys() == known.inputs.keys()
    for name, moment in known.inputs.items():
        np.testing.assert_allclose(found.inputs[name], moment, rtol=1e-6)
        np.testing.assert_array_equal(found.inputs[name], found.inputs[name].T)


def test_the_file_is_the_same_every_time() -> None:
    data = input_covariance().to_bytes()
    backwards = input_covariance(
        place=dict(reversed(PLACE.items())), inputs=dict(reversed(input_covariance().inputs.items()))
    )
    assert backwards.to_bytes() == data
    assert parse_input_covariance(data, "x").to_bytes() == data


def test_the_file_holds_each_number_once() -> None:
    file = parse_tensorfile(input_covariance().to_bytes(), "x")
    assert {name: array.shape for name, array in file.tensors.items()} == dict.fromkeys(set(PLACE.values()), (21,))
    assert {array.dtype for array in file.tensors.values()} == {np.dtype("<f4")}
    assert file.metadata["schema"] == SCHEMA


def damaged(**changed: Any) -> bytes:
    """A file of input covariances with other metadata (None takes a field away) or other tensors."""
    file = parse_tensorfile(input_covariance().to_bytes(), "x")
    tensors = changed.pop("tensors", file.tensors)
    metadata = {name: value for name, value in {**file.metadata, **changed}.items() if value is not None}
    return TensorFile(tensors, metadata).to_bytes()


def test_damaging_nothing_is_read() -> None:
    assert parse_input_covariance(damaged(), "x").tokens == 20


@pytest.mark.parametrize(
    "changed",
    [
        *({name: None} for name in ("schema", "base", "base_sha256", "tokens", "place")),
        {"schema": "tupate-hub-moments/2"},
        {"schema": "tupate-hub-index/1"},
        *({"tokens": text} for text in ("", "many", "1.5", "9" * 5000)),
        *({"place": text} for text in ("", "{", "3", '"text"', "[1]", "[[]]", '{"a": []}', '{"a": 1}', "[" * 100_000)),
        {"place": json.dumps({"layer.0.query": "elsewhere"})},
        *(
            {"tensors": {"layer.0.query": array, "layer.1.query": array}}
            for array in (
                np.zeros(0, np.float32),
                np.zeros(20, np.float32),
                np.zeros((3, 7), np.float32),
                np.zeros((), np.float32),
                np.full(21, np.nan, np.float32),
                np.full(21, np.inf, np.float32),
            )
        ),
    ],
    ids=lambda changed: str(changed)[:60],
)  # fmt: skip
def test_a_hostile_file_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="hostile"):
        parse_input_covariance(damaged(**changed), "hostile")


@given(st.data())
def test_a_mutated_file_gives_moments_or_a_sentence(data: st.DataObject) -> None:
    raw = bytearray(input_covariance().to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = parse_input_covariance(bytes(raw[: data.draw(st.integers(0, len(raw)))]), "mutated")
        pack([lora("one", 0)], "effect", found)
    except (FormatError, SpaceMismatch) as error:
        assert "\n" not in error.message
