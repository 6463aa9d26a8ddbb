"""The packed kernel of a space: the same scores as from the embeddings, in a file that is checked."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from builders import LORA, bottleneck, lora, prompt
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError, SpaceMismatch, UnknownName
from tupate_hub.index import SCHEMA, Index, build_index, parse_index
from tupate_hub.similarity import kernel, pack
from tupate_hub.tensorfile import TensorFile, parse_tensorfile


def zoo(count: int = 4, seed: int = 0) -> list[TaskEmbedding]:
    return [lora(f"t{number}", seed + number, rank=1 + number % 3) for number in range(count)]


def index(count: int = 4, seed: int = 0) -> Index:
    return build_index(LORA.name, "update", zoo(count, seed), [f"{number:064x}" for number in range(count)])


def file_of(triangle: Any = (1, 0, 1), **changes: str | None) -> bytes:
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
    return TensorFile({"kernel": np.array(triangle, np.float32)}, metadata).to_bytes()


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_the_scores_are_those_of_the_embeddings(seed: int, count: int) -> None:
    packed = pack(zoo(count, seed))
    np.testing.assert_allclose(index(count, seed).scores(), kernel(packed, packed).scores(), atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_an_index_survives_its_file(seed: int, count: int) -> None:
    one = index(count, seed)
    found = parse_index(one.to_bytes(), "x")
    assert (found.space, found.similarity, found.tasks, found.digests) == (
        one.space,
        one.similarity,
        one.tasks,
        one.digests,
    )
    np.testing.assert_array_equal(found.kernel, one.kernel.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(found.scores(), one.scores(), atol=1e-6)
    assert found.to_bytes() == one.to_bytes()


def test_the_kernel_is_symmetric_to_the_last_bit_and_every_task_is_its_own_nearest() -> None:
    one = index(6)
    np.testing.assert_array_equal(one.kernel, one.kernel.T)
    np.testing.assert_allclose(np.diag(one.scores()), 1, atol=1e-12)
    assert (one.scores().argmax(axis=1) == np.arange(6)).all()


@pytest.mark.parametrize("make", [bottleneck, prompt])
def test_every_method_has_an_index(make: Any) -> None:
    one = build_index("space", "tupate", [make("a", 0), make("b", 1)], ["x", "y"])
    vectors = [side.blocks[0].parts["rows"].mean(axis=0) if make is prompt else side.vector()
               for side in (make("a", 0), make("b", 1))]  # fmt: skip
    expected = vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1])
    assert one.scores()[0, 1] == pytest.approx(expected, abs=1e-6)


def test_the_file_is_the_upper_triangle_row_by_row() -> None:
    one = Index("s", "update", ("a", "b", "c"), ("x", "y", "z"), np.array([[1.0, 2, 3], [2, 4, 5], [3, 5, 6]]))
    file = parse_tensorfile(one.to_bytes(), "x")
    assert file.tensors["kernel"].tolist() == [1, 2, 3, 4, 5, 6]
    assert file.tensors["kernel"].dtype == np.float32
    assert json.loads(file.metadata["tasks"]) == ["a", "b", "c"]
    np.testing.assert_array_equal(parse_index(one.to_bytes(), "x").kernel, one.kernel)


def test_an_index_of_nothing() -> None:
    nothing = build_index("s", "update", [], [])
    assert parse_index(nothing.to_bytes(), "x").scores().shape == (0, 0)


def test_the_smallest_valid_file_is_read() -> None:
    assert parse_index(file_of(), "x").tasks == ("a", "b")


@pytest.mark.parametrize("name", ["schema", "space", "similarity", "tasks", "digests"])
def test_a_missing_field_makes_it_no_index(name: str) -> None:
    with pytest.raises(FormatError, match=r"^x is no"):
        parse_index(file_of(**{name: None}), "x")


@pytest.mark.parametrize("name", ["tasks", "digests"])
@pytest.mark.parametrize(
    "text", ["", "{", "3", "null", '["a"]', '["a", "b", "c"]', '["a", 3]', '["a", {}]', '["a", null]', "[" * 100_000]
)
def test_tasks_and_digests_are_lists_of_text_that_fit_the_kernel(name: str, text: str) -> None:
    with pytest.raises(FormatError, match=r"^x is no"):
        parse_index(file_of(**{name: text}), "x")


@pytest.mark.parametrize("schema", ["tupate-hub-index/2", "tupate-hub-embedding/1", ""])
def test_another_schema_is_refused(schema: str) -> None:
    with pytest.raises(FormatError, match=f"x is no {SCHEMA} file"):
        parse_index(file_of(schema=schema), "x")


@pytest.mark.parametrize(
    "triangle",
    [(), (1,), (1, 0), (1, 0, 1, 0), ((1, 0), (0, 1)), 1, (np.nan, 0, 1), (1, np.inf, 1), (1, 0, -np.inf)],
    ids=str,
)
def test_a_kernel_that_does_not_fit_or_is_not_finite_is_refused(triangle: Any) -> None:
    with pytest.raises(FormatError, match=r"^x is no"):
        parse_index(file_of(triangle), "x")


@pytest.mark.parametrize("triangle", [(0, 0, 1), (1, 0, 0), (1, 0, -1)])
def test_a_task_without_a_norm_is_refused(triangle: Any) -> None:
    with pytest.raises(FormatError, match="diagonal is not positive"):
        parse_index(file_of(triangle), "x")


def test_a_file_without_a_kernel_is_refused() -> None:
    metadata = parse_tensorfile(file_of(), "x").metadata
    with pytest.raises(FormatError, match="x is no index of a space"):
        parse_index(TensorFile({"other": np.ones(3, np.float32)}, metadata).to_bytes(), "x")


def test_an_embedding_is_no_index() -> None:
    with pytest.raises(FormatError, match="x is no index of a space"):
        parse_index(lora("a", 0).to_bytes(), "x")


def test_a_truncated_index_is_refused() -> None:
    data = index().to_bytes()
    for length in (0, 7, 8, 50, len(data) - 1):
        with pytest.raises(FormatError, match=r"^x "):
            parse_index(data[:length], "x")


def test_an_index_is_of_one_space_and_a_known_similarity() -> None:
    with pytest.raises(SpaceMismatch):
        build_index("s", "update", [lora("a", 0), prompt("b", 1)], ["x", "y"])
    with pytest.raises(UnknownName):
        build_index("s", "cosine", [lora("a", 0)], ["x"])
