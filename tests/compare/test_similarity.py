"""The catalogue of inner products: what must not matter does not, and the scores are those of the full updates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import bottleneck, cosine, dense, each_block, lora, normal, prompt, single
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.compare.kernel import kernel, pack
from tupate_hub.compare.similarity import DEFAULT, SIMILARITIES, available, get_similarity
from tupate_hub.embedding import Block, TaskEmbedding, make_block
from tupate_hub.errors import SpaceMismatch, UnknownName

seeds = st.integers(0, 2**32 - 1)
ranks = st.integers(1, 5)


def score(x: TaskEmbedding, y: TaskEmbedding, similarity: str = "update") -> float:
    return float(kernel(pack([x], similarity), pack([y], similarity)).scores()[0, 0])


def dense_score(x: TaskEmbedding, y: TaskEmbedding) -> float:
    """The definition itself: sum over shared blocks of <s B A, s' B' A'>, over the norms."""
    first, second = dense(x), dense(y)
    cross = sum(float((first[name] * second[name]).sum()) for name in first.keys() & second.keys())
    norms = [np.sqrt(sum(float((update**2).sum()) for update in side.values())) for side in (first, second)]
    return cross / (norms[0] * norms[1])


# --- update: what must not matter ------------------------------------------------------------------------------


@given(seeds, ranks, ranks)
def test_update_equals_the_dense_computation(seed: int, first: int, second: int) -> None:
    x, y = lora("x", seed, first), lora("y", seed + 1, second, scale=0.5)
    assert score(x, y) == pytest.approx(dense_score(x, y), abs=1e-5)


@given(seeds, ranks)
def test_update_does_not_see_an_invertible_change_of_factors(seed: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = lora("x", seed, rank), lora("y", seed + 1, 3)

    def mixed(block: Block) -> Block:
        left, right = (np.linalg.qr(rng.standard_normal((rank, rank)))[0] for _ in range(2))
        spread = rng.uniform(0.5, 2, rank)
        change, inverse = left * spread @ right, right.T / spread @ left.T
        return make_block(block.name, {"A": inverse @ block.parts["A"], "B": block.parts["B"] @ change}, block.scale)

    moved = each_block(x, mixed)
    assert score(moved, y) == pytest.approx(score(x, y), abs=1e-5)
    assert score(moved, x) == pytest.approx(1, abs=1e-5)


@given(seeds, ranks, st.integers(1, 4), st.booleans())
def test_update_does_not_see_rank_padding(seed: int, rank: int, more: int, zero_a: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y = lora("x", seed, rank), lora("y", seed + 1)

    def padded(block: Block) -> Block:
        a, b = block.parts["A"], block.parts["B"]
        extra_a, extra_b = normal(rng, more, a.shape[1]), normal(rng, b.shape[0], more)
        extra_a, extra_b = (0 * extra_a, extra_b) if zero_a else (extra_a, 0 * extra_b)
        return make_block(block.name, {"A": np.vstack([a, extra_a]), "B": np.hstack([b, extra_b])}, block.scale)

    assert score(each_block(x, padded), y) == pytest.approx(score(x, y), abs=1e-6)


@given(seeds, st.randoms(use_true_random=False))
def test_update_does_not_see_the_order_of_blocks(seed: int, random: object) -> None:
    x, y = lora("x", seed), lora("y", seed + 1)
    blocks = list(x.blocks)
    random.shuffle(blocks)
    assert score(replace(x, blocks=tuple(blocks)), y) == pytest.approx(score(x, y), abs=1e-12)


@given(seeds, ranks, st.floats(1e-3, 1e3), st.sampled_from(["scale", "A", "B"]))
def test_update_does_not_see_a_positive_scale(seed: int, rank: int, factor: float, where: str) -> None:
    x, y = lora("x", seed, rank), lora("y", seed + 1)

    def scaled(block: Block) -> Block:
        if where == "scale":
            return replace(block, scale=block.scale * factor)
        parts = {part: array * factor if part == where else array for part, array in block.parts.items()}
        return make_block(block.name, parts, block.scale)

    moved = each_block(x, scaled)
    assert score(moved, y) == pytest.approx(score(x, y), abs=1e-5)
    assert score(y, moved) == pytest.approx(score(x, y), abs=1e-5)


@given(seeds)
def test_update_turns_round_with_the_sign(seed: int) -> None:
    x, y = lora("x", seed), lora("y", seed + 1)
    assert score(each_block(x, lambda block: replace(block, scale=-block.scale)), y) == pytest.approx(-score(x, y))


@pytest.mark.parametrize("similarity", ["update", "tupate"])
@given(seed=seeds, rank=ranks)
def test_self_similarity_is_one_and_the_score_is_symmetric(similarity: str, seed: int, rank: int) -> None:
    x, y = lora("x", seed, rank), lora("y", seed + 1, rank)
    assert score(x, x, similarity) == pytest.approx(1, abs=1e-6)
    assert score(x, y, similarity) == pytest.approx(score(y, x, similarity), abs=1e-9)
    assert abs(score(x, y, similarity)) <= 1 + 1e-6


@pytest.mark.parametrize("similarity", ["update", "tupate"])
@given(seed=seeds)
def test_contributions_add_up_to_the_score(similarity: str, seed: int) -> None:
    zoo = [lora(f"t{number}", seed + number) for number in range(4)]
    found = kernel(pack(zoo[:2], similarity), pack(zoo[2:], similarity))
    parts = found.contributions()
    assert parts.shape == (4, 2, 2)
    assert found.blocks == tuple(block.name for block in zoo[0].blocks)
    np.testing.assert_allclose(parts.sum(axis=0), found.scores(), atol=1e-12)


def test_a_contribution_is_the_blocks_own_share() -> None:
    x, y = lora("x", 1), lora("y", 2)
    parts = kernel(pack([x]), pack([y])).contributions()[:, 0, 0]
    first, second = dense(x), dense(y)
    norms = [np.sqrt(sum((update**2).sum() for update in side.values())) for side in (first, second)]
    expected = [(first[name] * second[name]).sum() / norms[0] / norms[1] for name in x.by_name]
    np.testing.assert_allclose(parts, expected, atol=1e-6)


@given(seeds)
def test_a_block_that_one_side_lacks_contributes_nothing_but_its_norm(seed: int) -> None:
    x, y = lora("x", seed), lora("y", seed + 1)
    less = replace(y, blocks=y.blocks[:1])
    found = kernel(pack([x]), pack([less]))
    parts = dict(zip(found.blocks, found.contributions()[:, 0, 0], strict=True))
    assert [name for name, part in parts.items() if part != 0] == [y.blocks[0].name]
    assert score(x, less) == pytest.approx(dense_score(x, less), abs=1e-5)


def test_embeddings_without_a_common_block_are_orthogonal() -> None:
    x, y = lora("x", 0), lora("y", 1)
    assert score(replace(x, blocks=x.blocks[:2]), replace(y, blocks=y.blocks[2:])) == 0


@given(seeds, st.lists(ranks, min_size=2, max_size=6))
def test_mixed_ranks_and_missing_blocks_in_one_zoo(seed: int, sizes: list[int]) -> None:
    zoo = [lora(f"t{number}", seed + number, rank) for number, rank in enumerate(sizes)]
    zoo[0] = replace(zoo[0], blocks=zoo[0].blocks[1:])
    zoo[-1] = replace(zoo[-1], blocks=zoo[-1].blocks[:2])
    packed = pack(zoo)
    found = kernel(packed, packed).scores()
    expected = [[dense_score(x, y) for y in zoo] for x in zoo]
    np.testing.assert_allclose(found, expected, atol=1e-5)


# --- the other methods -----------------------------------------------------------------------------------------


def affine_score(x: TaskEmbedding, y: TaskEmbedding) -> float:
    """The cosine of the bottleneck adapters' linear maps over [x; 1], the up bias a map of its own."""

    def maps(one: TaskEmbedding) -> np.ndarray:
        rows = []
        for block in one.blocks:
            down = np.column_stack([block.parts["down"], block.parts["down_bias"]]).astype(np.float64)
            constant = np.zeros((len(block.parts["up"]), down.shape[1]))
            constant[:, -1] = block.parts["up_bias"]
            rows.append(block.scale * (block.parts["up"] @ down + constant))
        return np.ravel(rows)

    return cosine(maps(x), maps(y))


@given(seeds, st.integers(1, 6), st.integers(1, 6))
def test_bottleneck_equals_the_dense_computation(seed: int, first: int, second: int) -> None:
    x, y = bottleneck("x", seed, first), bottleneck("y", seed + 1, second)
    assert score(x, y) == pytest.approx(affine_score(x, y), abs=1e-5)


@given(seeds, st.integers(1, 6))
def test_bottleneck_does_not_see_order_and_positive_scale_of_hidden_units(seed: int, hidden: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = bottleneck("x", seed, hidden), bottleneck("y", seed + 1)

    def moved(block: Block) -> Block:
        order, size = rng.permutation(hidden), rng.uniform(0.2, 5, hidden)
        parts = {
            "down": (block.parts["down"] * size[:, None])[order],
            "down_bias": (block.parts["down_bias"] * size)[order],
            "up": (block.parts["up"] / size)[:, order],
            "up_bias": block.parts["up_bias"],
        }
        return make_block(block.name, parts, block.scale)

    assert score(each_block(x, moved), y) == pytest.approx(score(x, y), abs=1e-5)


def test_bottleneck_sees_its_biases() -> None:
    x = bottleneck("x", 0)
    for part in ("down_bias", "up_bias"):
        changed = each_block(
            x, lambda block, part=part: replace(block, parts={**block.parts, part: -block.parts[part]})
        )
        assert score(changed, x) < 0.999


@pytest.mark.parametrize("similarity", ["update", "tupate"])
@given(seed=seeds, rows=st.integers(1, 6), others=st.integers(1, 6))
def test_rows_do_not_see_the_order_of_positions(similarity: str, seed: int, rows: int, others: int) -> None:
    x, y = prompt("x", seed, rows), prompt("y", seed + 1, others)
    means = [one.blocks[0].parts["rows"].mean(axis=0).astype(np.float64) for one in (x, y)]
    order = np.random.default_rng(seed).permutation(rows)
    moved = each_block(x, lambda block: replace(block, parts={"rows": block.parts["rows"][order]}))
    assert score(x, y, similarity) == pytest.approx(cosine(*means), abs=1e-5)
    assert score(moved, y, similarity) == pytest.approx(score(x, y, similarity), abs=1e-5)


def test_the_flat_variant_compares_prompts_position_by_position() -> None:
    x, y = prompt("x", 1, 4), prompt("y", 2, 4)
    assert score(x, y, "tupate-flat") == pytest.approx(cosine(x.vector(), y.vector()), abs=1e-6)
    first, second = lora("x", 3), lora("y", 4)
    assert score(first, second, "tupate-flat") == pytest.approx(score(first, second, "tupate"), abs=1e-7)
    assert "tupate-flat" not in available(True, True)
    with pytest.raises(SpaceMismatch, match="tupate-flat compares coordinates"):
        score(x, prompt("z", 3, 5), "tupate-flat")


@given(seeds)
def test_biases_and_vectors_are_compared_as_they_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = normal(rng, 9), normal(rng, 9)
    for part in ("bias", "vector"):
        assert score(single("x", part, first), single("y", part, second, scale=3)) == pytest.approx(
            cosine(first, second), abs=1e-5
        )


def test_scalings_are_compared_by_their_difference_from_one() -> None:
    x, y = np.array([1.5, 1.0, 0.5], np.float32), np.array([1.25, 1.0, 1.25], np.float32)
    first, second = single("x", "scaling", x, "ia3"), single("y", "scaling", y, "ia3")
    assert score(first, second) == pytest.approx(0, abs=1e-7)
    assert score(first, second, "tupate") == pytest.approx(cosine(x, y), abs=1e-6)


def test_tupate_is_the_cosine_of_the_flattened_parameters() -> None:
    x, y = lora("x", 3, scale=2), lora("y", 4, scale=9)
    assert score(x, y, "tupate") == pytest.approx(cosine(x.vector(), y.vector()), abs=1e-6)
    first, second = bottleneck("x", 3), bottleneck("y", 4)
    assert score(first, second, "tupate") == pytest.approx(cosine(first.vector(), second.vector()), abs=1e-6)


# --- refusals --------------------------------------------------------------------------------------------------


def test_the_default_is_update_and_every_similarity_says_what_it_is() -> None:
    assert DEFAULT == "update"
    assert {"update", "tupate"} <= set(SIMILARITIES)
    assert all(one.name == name and one.summary for name, one in SIMILARITIES.items())


def test_an_unknown_similarity_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="'cosine'") as caught:
        get_similarity("cosine")
    assert caught.value.hint == "known: " + ", ".join(SIMILARITIES)
