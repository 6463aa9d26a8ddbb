"""The packed kernel of a space: the same scores as from the embeddings, in a file that is checked."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders import LORA, bottleneck, dense, lora, prompt
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.compare.kernel import kernel, off_diagonal, pack
from tupate_hub.compare.pair_index import SCHEMA, PairIndex, build_pair_index, parse_pair_index
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError, SpaceMismatch, UnknownName
from tupate_hub.storage.safetensors import TensorFile, parse_tensorfile


def zoo(count: int = 4, seed: int = 0) -> list[TaskEmbedding]:
    return [lora(f"t{number}", seed + number, rank=1 + number % 3) for number in range(count)]


def index(count: int = 4, seed: int = 0) -> PairIndex:
    return build_pair_index(LORA.name, "update", zoo(count, seed), [f"{number:064x}" for number in range(count)])


NORMS = np.array([1.0, 2.0])


def file_of(tensors: dict[str, Any] | None = None, **changes: str | None) -> bytes:
    """An index file of two tasks with some fields set, or left out where None."""
    whole = {
        "schema": SCHEMA,
        "space": LORA.name,
        "similarity": "update",
        "tasks": '["a", "b"]',
        "digests": '["x", "y"]',
        **changes,
    }
    metadata = {key: value for key, value in whole.items() if value is not None}
    right = {"norms": NORMS, "high": np.zeros(1, np.int16), "low": np.zeros(1, np.uint8)}
    return TensorFile(right if tensors is None else tensors, metadata).to_bytes()


def first_schema(triangle: Any) -> bytes:
    """The same as versions before the second schema wrote it."""
    return file_of({"kernel": np.array(triangle, np.float32)}, schema="tupate-hub-index/1")


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_the_scores_are_those_of_the_embeddings(seed: int, count: int) -> None:
    packed = pack(zoo(count, seed))
    np.testing.assert_allclose(index(count, seed).scores(), kernel(packed, packed).scores(), atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_an_index_survives_its_file(seed: int, count: int) -> None:
    one = index(count, seed)
    found = parse_pair_index(one.to_bytes(), "x")
    assert (found.space, found.similarity, found.tasks, found.digests) == (
        one.space,
        one.similarity,
        one.tasks,
        one.digests,
    )
    np.testing.assert_array_equal(found.norms, one.norms)
    np.testing.assert_allclose(found.pairs, one.pairs, rtol=0, atol=2**-24)
    assert found.to_bytes() == one.to_bytes()


def test_every_way_to_ask_gives_the_same_scores() -> None:
    one = index(6)
    scores = one.scores()
    np.testing.assert_array_equal(scores, scores.T)
    np.testing.assert_array_equal(np.stack([one.row(at) for at in range(6)]), scores)
    np.testing.assert_array_equal(off_diagonal(scores), one.pairs)
    np.testing.assert_array_equal(np.diag(scores), 1)


def test_sizes_are_those_of_the_updates() -> None:
    embeddings = zoo(5)
    embeddings[3] = replace(embeddings[3], blocks=embeddings[3].blocks[1:])
    digests = [f"{number:064x}" for number in range(5)]
    built = build_pair_index(LORA.name, "update", embeddings, digests)
    sizes = parse_pair_index(built.to_bytes(), "x").sizes
    assert sizes is not None
    full = [dense(one) for one in embeddings]
    squares = [[float((one[name] ** 2).sum()) if name in one else 0.0 for name in sizes.blocks] for one in full]
    np.testing.assert_allclose(sizes.squares, squares, rtol=1e-5)
    changes = [np.median([np.linalg.norm(w) / np.sqrt(len(w)) for w in one.values()]) for one in full]
    np.testing.assert_allclose(sizes.changes, changes, rtol=1e-5)
    packed = pack(embeddings)
    for row in range(5):
        for found, whole in zip(sizes.coverage(row), kernel(packed, packed).coverage(), strict=True):
            np.testing.assert_allclose(found, whole[row], rtol=1e-5)
    louder = replace(sizes, changes=sizes.changes * np.float32(1.01))
    assert not sizes.differs(replace(sizes, squares=sizes.squares * np.float32(1 + 1e-6)))
    assert sizes.differs(louder)
    assert "other sizes" in replace(built, sizes=louder).difference(built)


SIZES = {"squares": np.ones((2, 1), np.float32), "changes": np.ones(2, np.float32)}


@pytest.mark.parametrize(
    ("changed", "blocks"),
    [
        ({}, None),
        ({}, "{}"),
        ({}, "[1]"),
        ({}, '["q", "v"]'),
        ({"changes": np.ones(3, np.float32)}, '["q"]'),
        ({"changes": np.ones(2)}, '["q"]'),
        ({"changes": np.array([np.nan, 1], np.float32)}, '["q"]'),
        ({"squares": np.zeros((2, 1), np.float32)}, '["q"]'),
        ({"squares": np.full((2, 1), np.inf, np.float32)}, '["q"]'),
        ({"squares": -np.ones((2, 1), np.float32)}, '["q"]'),
    ],
)
def test_sizes_that_are_none_are_refused(changed: dict[str, Any], blocks: str | None) -> None:
    right = {"norms": NORMS, "high": np.zeros(1, np.int16), "low": np.zeros(1, np.uint8), **SIZES}
    assert parse_pair_index(file_of(right, blocks='["q"]'), "x").sizes is not None
    with pytest.raises(FormatError, match=r"^x is not an index"):
        parse_pair_index(file_of({**right, **changed}, blocks=blocks), "x")


@pytest.mark.parametrize("make", [bottleneck, prompt])
def test_every_method_has_an_index(make: Any) -> None:
    one = build_pair_index("space", "tupate", [make("a", 0), make("b", 1)], ["x", "y"])
    vectors = [side.blocks[0].parts["rows"].mean(axis=0) if make is prompt else side.vector()
               for side in (make("a", 0), make("b", 1))]  # fmt: skip
    expected = vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1])
    assert one.scores()[0, 1] == pytest.approx(expected, abs=1e-6)


def test_the_file_is_what_the_page_says() -> None:
    cosines = np.array([0.5, -0.25, 1.0])
    one = PairIndex("s", "update", ("a", "b", "c"), ("x", "y", "z"), np.array([1.0, 2, 3]), cosines)
    file = parse_tensorfile(one.to_bytes(), "x")
    assert json.loads(file.metadata["tasks"]) == ["a", "b", "c"]
    assert file.tensors["norms"].tolist() == [1, 2, 3]
    assert (file.tensors["high"].dtype, file.tensors["low"].dtype) == (np.int16, np.uint8)
    whole = [256 * int(high) + int(low) for high, low in zip(*(file.tensors[n] for n in ("high", "low")), strict=True)]
    assert whole == [round(0.5 * (2**23 - 1)), round(-0.25 * (2**23 - 1)), 2**23 - 1]


@pytest.mark.parametrize("cosine", [-1.0, 1.0, 1.0 + 1e-12, -1.0 - 1e-12, 0.0, 1e-9, -(2.0**-23)])
def test_no_cosine_is_lost(cosine: float) -> None:
    one = PairIndex("s", "update", ("a", "b"), ("x", "y"), NORMS, np.array([cosine]))
    (found,) = parse_pair_index(one.to_bytes(), "x").pairs
    assert abs(found) <= 1
    assert found == pytest.approx(cosine, abs=2**-24 + 1e-11)


def test_the_first_schema_is_read() -> None:
    found = parse_pair_index(first_schema((4, 3, 9)), "x")
    assert (found.tasks, found.norms.tolist(), found.pairs.tolist()) == (("a", "b"), [2, 3], [0.5])
    assert parse_pair_index(found.to_bytes(), "x").scores()[0, 1] == pytest.approx(0.5, abs=1e-7)


def test_an_index_of_nothing() -> None:
    nothing = build_pair_index("s", "update", [], [])
    assert parse_pair_index(nothing.to_bytes(), "x").scores().shape == (0, 0)


def test_the_smallest_valid_file_is_read() -> None:
    assert parse_pair_index(file_of(), "x").tasks == ("a", "b")


@pytest.mark.parametrize("name", ["schema", "space", "similarity", "tasks", "digests"])
def test_a_missing_field_makes_it_no_index(name: str) -> None:
    with pytest.raises(FormatError, match=r"^x is not an index"):
        parse_pair_index(file_of(**{name: None}), "x")


@pytest.mark.parametrize("name", ["tasks", "digests"])
@pytest.mark.parametrize(
    "text", ["", "{", "3", "null", '["a"]', '["a", "b", "c"]', '["a", 3]', '["a", {}]', '["a", null]', "[" * 100_000]
)
def test_tasks_and_digests_are_lists_of_text_that_fit_the_kernel(name: str, text: str) -> None:
    with pytest.raises(FormatError, match=r"^x is not an index"):
        parse_pair_index(file_of(**{name: text}), "x")


@pytest.mark.parametrize("schema", ["tupate-hub-index/3", "tupate-hub-embedding/1", ""])
def test_another_schema_is_refused(schema: str) -> None:
    with pytest.raises(FormatError, match="x is not an index of a space"):
        parse_pair_index(file_of(schema=schema), "x")


@pytest.mark.parametrize(
    "triangle",
    [(), (1,), (1, 0), (1, 0, 1, 0), ((1, 0), (0, 1)), 1, (np.nan, 0, 1), (1, np.inf, 1), (0, 0, 1), (1, 0, -1)],
    ids=str,
)
def test_a_kernel_that_does_not_fit_or_has_no_norms_is_refused(triangle: Any) -> None:
    with pytest.raises(FormatError, match=r"^x is not an index"):
        parse_pair_index(first_schema(triangle), "x")


@pytest.mark.parametrize(
    "change",
    [
        {"norms": np.array([1.0, 0.0])},
        {"norms": np.array([1.0, -1.0])},
        {"norms": np.array([1.0, np.nan])},
        {"norms": np.array([np.inf, 1.0])},
        {"norms": np.ones(3)},
        {"norms": np.ones(2, np.float32)},
        {"high": np.zeros(2, np.int16)},
        {"high": np.zeros((1, 1), np.int16)},
        {"high": np.zeros(1, np.int64)},
        {"low": np.zeros(0, np.uint8)},
        {"low": np.zeros(1, np.int8)},
    ],
    ids=str,
)
def test_numbers_that_do_not_fit_are_refused(change: dict[str, Any]) -> None:
    right = parse_tensorfile(file_of(), "x").tensors
    assert parse_pair_index(file_of({**right}), "x").norms.tolist() == NORMS.tolist()
    with pytest.raises(FormatError, match=r"^x is not an index"):
        parse_pair_index(file_of({**right, **change}), "x")


def test_a_file_without_its_numbers_is_refused() -> None:
    metadata = parse_tensorfile(file_of(), "x").metadata
    with pytest.raises(FormatError, match="x is not an index of a space"):
        parse_pair_index(TensorFile({"kernel": np.ones(3, np.float32)}, metadata).to_bytes(), "x")


def test_an_embedding_is_no_index() -> None:
    with pytest.raises(FormatError, match="x is not an index of a space"):
        parse_pair_index(lora("a", 0).to_bytes(), "x")


def test_a_truncated_index_is_refused() -> None:
    data = index().to_bytes()
    for length in (0, 7, 8, 50, len(data) - 1):
        with pytest.raises(FormatError, match=r"^x "):
            parse_pair_index(data[:length], "x")


def test_an_index_is_of_one_space_and_a_known_similarity() -> None:
    with pytest.raises(SpaceMismatch):
        build_pair_index("s", "update", [lora("a", 0), prompt("b", 1)], ["x", "y"])
    with pytest.raises(UnknownName):
        build_pair_index("s", "cosine", [lora("a", 0)], ["x"])
