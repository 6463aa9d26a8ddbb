"""Kernel: packing, refusals, what derives from the three arrays, and centring against the vectors themselves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import BASE, LORA, cosine, dense, each_block, lora, lora_block, prompt, single
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.compare.kernel import Kernel, centred, kernel, off_diagonal, pack
from tupate_hub.embedding import TaskEmbedding, make_block, order_blocks
from tupate_hub.errors import FormatError, SpaceMismatch
from tupate_hub.space import Space

seeds = st.integers(0, 2**32 - 1)
ranks = st.integers(1, 5)


# --- centring --------------------------------------------------------------------------------------------------


def dense_vectors(zoo: list[TaskEmbedding]) -> np.ndarray:
    return np.array([np.concatenate([update.ravel() for update in dense(one).values()]) for one in zoo])


@given(seeds, st.integers(3, 6))
def test_centring_the_kernel_is_centring_the_updates(seed: int, count: int) -> None:
    zoo = [lora(f"t{number}", seed + number) for number in range(count)]
    query = lora("query", seed + count)
    packed = pack(zoo)
    found = kernel(packed, packed).cross.sum(axis=0)
    across = kernel(pack([query]), packed)
    vectors = dense_vectors(zoo)
    moved, moved_query = vectors - vectors.mean(axis=0), dense_vectors([query])[0] - vectors.mean(axis=0)
    np.testing.assert_allclose(centred(found), [[cosine(x, y) for y in moved] for x in moved], atol=1e-5)
    scores = centred(found, across.cross[:, 0].sum(axis=0), float(across.x_squares.sum()))
    np.testing.assert_allclose(scores, [cosine(moved_query, y) for y in moved], atol=1e-5)


def test_centring_one_embedding_leaves_no_direction() -> None:
    np.testing.assert_array_equal(centred(np.array([[4.0]])), [[0.0]])


# --- packing and refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("similarity", ["update", "tupate"])
def test_embeddings_of_two_spaces_do_not_pack(similarity: str) -> None:
    other = replace(lora("y", 1), space=Space("acme/other", "lora"))
    with pytest.raises(SpaceMismatch, match="lora on acme/other and lora on acme/tiny-bert"):
        pack([lora("x", 0), other], similarity)


def test_packs_of_two_spaces_have_no_kernel() -> None:
    with pytest.raises(SpaceMismatch, match="lora on acme/tiny-bert and prompt on acme/tiny-bert"):
        kernel(pack([lora("x", 0)]), pack([prompt("y", 0)]))


def test_tupate_needs_equal_ranks_and_names_the_way_out() -> None:
    zoo = [lora("x", 0, 2), lora("y", 1, 3)]
    with pytest.raises(SpaceMismatch, match=r"'layer.0.query'.*'y'.*'x'.*equal ranks") as caught:
        pack(zoo, "tupate")
    assert caught.value.hint == "`similarity='update'`"
    with pytest.raises(SpaceMismatch, match="equal ranks") as caught:
        kernel(pack(zoo[:1], "tupate"), pack(zoo[1:], "tupate"))
    assert caught.value.hint == "`similarity='update'`"


def test_one_block_name_for_two_shapes_is_refused() -> None:
    rng = np.random.default_rng(0)
    zoo = [TaskEmbedding(str(width), LORA, (lora_block(rng, "only", inner=width),)) for width in (6, 7)]
    with pytest.raises(SpaceMismatch, match=r"shape \(7, 5\) in '7' and \(6, 5\) in '6'\.") as caught:
        pack(zoo)
    assert caught.value.hint == ""
    with pytest.raises(SpaceMismatch, match="'only' has another shape in '6'"):
        kernel(pack(zoo[:1]), pack(zoo[1:]))


@pytest.mark.parametrize(
    "one",
    [
        each_block(lora("zero", 0), lambda block: replace(block, parts={**block.parts, "B": 0 * block.parts["B"]})),
        each_block(lora("zero", 0), lambda block: replace(block, scale=0.0)),
        single("zero", "scaling", np.ones(4, np.float32), "ia3"),
        single("zero", "bias", np.zeros(4, np.float32)),
    ],
    ids=["B", "scale", "ia3", "bias"],
)
def test_an_update_of_zero_has_no_direction(one: TaskEmbedding) -> None:
    with pytest.raises(FormatError, match="update of 'zero' is all zero"):
        pack([one])


@pytest.mark.parametrize("size", [1e15, 1e30])
def test_an_update_too_large_for_float32_is_refused_without_a_warning(size: float) -> None:
    huge = each_block(
        lora("huge", 0),
        lambda block: make_block(block.name, {part: array * size for part, array in block.parts.items()}),
    )
    with pytest.raises(FormatError, match="update of 'huge' is too large"):
        pack([lora("x", 1), huge])


def test_a_scale_beyond_float32_is_refused_without_a_warning() -> None:
    with pytest.raises(FormatError, match="update of 'huge' is too large"):
        pack([each_block(lora("huge", 0), lambda block: replace(block, scale=1e300))])


def test_an_empty_pack_ranks_nothing() -> None:
    found = kernel(pack([lora("x", 0)]), pack([]))
    assert found.scores().shape == (1, 0)


def test_a_pack_keeps_tasks_blocks_and_norms() -> None:
    zoo = [lora("x", 0), replace(lora("y", 1), blocks=order_blocks(lora("y", 1).blocks[:1]))]
    packed = pack(zoo)
    assert packed.tasks == ("x", "y")
    assert packed.blocks == ("layer.0.query", "layer.0.value", "layer.1.query", "layer.1.value")
    assert packed.space == Space(BASE, "lora")
    np.testing.assert_allclose(
        packed.squares[:, 0], [(update**2).sum() for update in dense(zoo[0]).values()], rtol=1e-5
    )
    assert (packed.squares[1:, 1] == 0).all()


def test_scores_derive_from_the_kernel_alone() -> None:
    found = Kernel(("a", "b"), np.array([[[3.0]], [[1.0]]]), np.array([[4.0], [0.0]]), np.array([[3.0], [1.0]]))
    np.testing.assert_allclose(found.contributions()[:, 0, 0], [0.75, 0.25])
    assert found.scores()[0, 0] == 1.0


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_off_the_diagonal_each_pair_stands_once(count: int) -> None:
    matrix = np.arange(count * count, dtype=float).reshape(count, count)
    found = off_diagonal(matrix)
    assert len(found) == math.comb(count, 2)
    assert found.tolist() == [matrix[row, column] for row in range(count) for column in range(row + 1, count)]
