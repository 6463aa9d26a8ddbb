"""Interference, against updates formed in full and seen through their singular vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import LORA, dense, each_block, lora, lora_block, prompt, single
from hypothesis import given, settings
from hypothesis import strategies as st

from tupate_hub.compare import interference as module
from tupate_hub.compare.blend import blend
from tupate_hub.compare.interference import MOST_UPDATES, equal_shares, interference, products
from tupate_hub.embedding import Block, TaskEmbedding, make_block, order_blocks
from tupate_hub.errors import FormatError, SpaceMismatch, TupateHubError, WorkFailed

seeds = st.integers(0, 2**32 - 1)
#: Float32 factors: what is said of them agrees with what is formed in full to six digits.
CLOSE = {"rtol": 2e-4, "atol": 2e-5}


def three(seed: int) -> list[TaskEmbedding]:
    """Updates of rank 1, 2 and 3, of which the last lacks a block."""
    whole = [lora("a", seed, 1), lora("b", seed + 1, 2, scale=0.5), lora("c", seed + 2, 3)]
    return [*whole[:2], replace(whole[2], blocks=whole[2].blocks[:3])]


def total(updates: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> float:
    return float(sum((updates[name] * others[name]).sum() for name in updates if name in others))


def weighed(sources: list[TaskEmbedding], weights: list[float]) -> dict[str, np.ndarray]:
    full = [dense(one) for one in sources]
    return {
        name: np.sum([w * one[name] for w, one in zip(weights, full, strict=True) if name in one], axis=0)
        for name in full[0]
    }


def scaled(one: TaskEmbedding, factor: float) -> TaskEmbedding:
    return each_block(one, lambda block: Block(block.name, block.parts, block.scale * factor))


def frame(update: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The outputs that an update moves and the inputs that it reads, as orthonormal columns."""
    u, _, vt = np.linalg.svd(update)
    return u[:, :rank], vt[:rank].T


@given(seeds, st.lists(st.floats(0.125, 2, width=32), min_size=3, max_size=3))
@settings(max_examples=20)
def test_it_is_what_the_updates_in_full_give(seed: int, weights: list[float]) -> None:
    sources = three(seed)
    found = interference(products(sources), weights)
    merged, full = weighed(sources, weights), [dense(one) for one in sources]
    for at, (one, weight) in enumerate(zip(full, weights, strict=True)):
        square = total(one, one)
        survives = total(merged, one) / square
        inside = 0.0
        for name, update in one.items():
            moves, reads = frame(update, at + 1)
            inside += np.square(moves.T @ (merged[name] - weight * update) @ reads).sum()
        across = max(0.0, inside - (survives - weight) ** 2 * square)
        assert found.norms[at] == pytest.approx(np.sqrt(square), rel=1e-5)
        assert found.survives[at] == pytest.approx(survives, rel=1e-4, abs=1e-5)
        apart = {name: merged[name] - one.get(name, 0) for name in merged}
        assert found.distance[at] == pytest.approx(np.sqrt(total(apart, apart) / square), rel=1e-3, abs=1e-3)
        assert found.disturbed[at] == pytest.approx(np.sqrt(across / square), rel=1e-3, abs=1e-3)
        for other, update in enumerate(full):
            cosine = total(one, update) / np.sqrt(square * total(update, update))
            assert found.cosines[at, other] == pytest.approx(cosine, abs=1e-5)
    assert found.norm == pytest.approx(np.sqrt(total(merged, merged)), rel=1e-4)


@given(seeds)
@settings(max_examples=15)
def test_overlaps_are_mean_squared_cosines_of_principal_angles(seed: int) -> None:
    sources = [lora("a", seed, 2, layers=1), lora("b", seed + 1, 3, layers=1)]
    known = products(sources)
    first, second = (dense(one) for one in sources)
    for row, name in enumerate(known.blocks):
        moves, reads = frame(first[name], 2), frame(second[name], 3)
        for measured, mine, theirs in ((known.moves, moves[0], reads[0]), (known.reads, moves[1], reads[1])):
            angles = np.linalg.svd(mine.T @ theirs, compute_uv=False)
            assert measured[row, 0, 1] == pytest.approx(np.square(angles).mean(), abs=1e-4)
    np.testing.assert_allclose(known.chance[:, 0, 0, 1], 3 / 6)
    np.testing.assert_allclose(known.chance[:, 1, 0, 1], 3 / 5)


def test_random_directions_overlap_by_chance() -> None:
    rng = np.random.default_rng(0)
    made = [
        TaskEmbedding(str(at), LORA, tuple(lora_block(rng, f"layer.{n}.query", 4, 60, 40) for n in range(30)))
        for at in range(2)
    ]
    found = interference(products(made), [0.5, 0.5])
    assert found.reads[0, 1] == pytest.approx(found.chance[0, 0, 1], rel=0.15)
    assert found.moves[0, 1] == pytest.approx(found.chance[1, 0, 1], rel=0.15)


def test_the_coordinates_do_not_matter() -> None:
    """(B R, R^-1 A) for (B, A), and a rank that is never used."""
    rng = np.random.default_rng(5)
    change = rng.standard_normal((2, 2))

    def moved(block: Block) -> Block:
        a, b = np.linalg.inv(change) @ block.parts["A"], block.parts["B"] @ change
        return make_block(block.name, {"A": np.vstack([a, a[:1]]), "B": np.pad(b, ((0, 0), (0, 1)))}, block.scale)

    one, other = lora("a", 1), lora("b", 2)
    known, again = products([one, other]), products([each_block(one, moved), other])
    for name in ("seen", "reads", "moves", "chance"):
        np.testing.assert_allclose(getattr(again, name), getattr(known, name), **CLOSE)


def test_copies_survive_a_mean_and_are_not_disturbed() -> None:
    one = lora("a", 1)
    found = interference(products([one, replace(one, task="b")]), [0.5, 0.5])
    np.testing.assert_allclose(found.survives, 1, **CLOSE)
    np.testing.assert_allclose(found.disturbed, 0, atol=1e-3)
    np.testing.assert_allclose(found.cosines, 1, **CLOSE)


def test_opposites_cancel() -> None:
    one = lora("a", 1)
    found = interference(products([one, scaled(one, -1)]), [0.5, 0.5])
    np.testing.assert_allclose(found.survives, 0, atol=1e-6)
    assert found.norm == pytest.approx(0, abs=1e-5)
    assert found.unrelated > 1


def test_updates_of_different_places_leave_each_other_alone() -> None:
    whole = lora("a", 1)
    first, second = replace(whole, blocks=whole.blocks[:2]), replace(whole, task="b", blocks=whole.blocks[2:])
    found = interference(products([first, second]), [0.5, 0.5])
    np.testing.assert_allclose(found.survives, 0.5)
    np.testing.assert_allclose(found.disturbed, 0)
    assert np.isnan(found.reads[0, 1])
    assert found.cosines[0, 1] == 0


def test_without_weight_only_what_the_others_bring_survives() -> None:
    found = interference(products([lora("a", 1), lora("b", 2)]), [1, 0])
    assert found.survives[0] == pytest.approx(1)
    assert found.survives[1] == pytest.approx(found.cosines[0, 1] * found.norms[0] / found.norms[1])
    assert found.disturbed[0] == pytest.approx(0, abs=1e-6)
    assert found.disturbed[1] > 0.1
    assert interference(products([lora("a", 1), lora("b", 2)]), [0, 0]).total == 0


def test_of_a_layer_that_an_update_leaves_alone_nothing_is_said() -> None:
    one = lora("a", 1)
    half = replace(one, task="b", blocks=one.blocks[:2])
    (_, last) = products([one, half]).by_layer().values()
    found = interference(last, [0.5, 0.5])
    assert np.isnan([found.survives[1], found.disturbed[1], found.distance[1]]).all()
    assert (found.survives[0], found.distance[0], found.total) == (0.5, 0.5, 0)


def test_layers_add_up() -> None:
    known = products(three(3))
    layers = known.by_layer()
    assert list(layers) == ["layer.0", "layer.1"]
    np.testing.assert_allclose(sum(part.seen.sum(axis=0) for part in layers.values()), known.seen.sum(axis=0))


@pytest.mark.parametrize(("part", "method"), [("bias", "bitfit"), ("vector", "paper")])
def test_vectors_have_cosines_and_no_subspaces(part: str, method: str) -> None:
    pair = [single(name, part, np.array(values), method) for name, values in (("a", [3.0, 4.0]), ("b", [4.0, 3.0]))]
    found = interference(products(pair), [0.5, 0.5])
    assert found.cosines[0, 1] == pytest.approx(24 / 25)
    assert np.isnan(found.reads).all()
    np.testing.assert_allclose(found.survives, 0.5 + 12 / 25, rtol=1e-6)


# --- weights ---------------------------------------------------------------------------------------------------


@given(seeds)
@settings(max_examples=20)
def test_with_equal_shares_every_update_survives_whole(seed: int) -> None:
    known = products([lora("a", seed), scaled(lora("b", seed + 1), 3.0), lora("c", seed + 2, 1)])
    weights = equal_shares(known)
    if (weights > 0).all():
        np.testing.assert_allclose(interference(known, weights).survives, 1, rtol=1e-3)


def test_equal_shares_of_copies_and_of_strangers() -> None:
    one, other = lora("a", 1), lora("b", 2)
    np.testing.assert_allclose(equal_shares(products([one, replace(one, task="b")])), 0.5, rtol=1e-3)
    first, second = replace(one, blocks=one.blocks[:2]), replace(other, blocks=other.blocks[2:])
    np.testing.assert_allclose(equal_shares(products([first, scaled(second, 50.0)])), 1, rtol=1e-6)
    np.testing.assert_allclose(equal_shares(products([one, other]), [1]), [0, 1])


def test_what_the_others_bring_along_gets_no_weight() -> None:
    """Of 10 a + b there is more of a than a itself has."""
    a, b = lora("a", 1), lora("b", 2)
    weights = equal_shares(products([a, blend([a, b], [10.0, 1.0], rank=4)]))
    assert weights[0] == 0
    assert weights[1] > 0


# --- what is refused -------------------------------------------------------------------------------------------


def test_what_does_not_compare_is_refused() -> None:
    with pytest.raises(SpaceMismatch, match="two spaces"):
        products([lora("a", 1), prompt("b", 2)])
    wide = TaskEmbedding("b", LORA, order_blocks([lora_block(np.random.default_rng(0), "layer.0.query", inner=7)]))
    with pytest.raises(SpaceMismatch, match=r"'layer.0.query' has shape \(7, 5\) in 'b'"):
        products([lora("a", 1), wide])
    with pytest.raises(FormatError, match="'b' is all zero"):
        products([lora("a", 1), scaled(lora("b", 2), 0.0)])
    with pytest.raises(FormatError, match="'b' is too large to measure"):
        products([lora("a", 1), scaled(lora("b", 2), 1e38)])
    with pytest.raises(TupateHubError, match="too many to compare all at once"):
        products([lora(str(at), at) for at in range(MOST_UPDATES + 1)])


def test_more_than_the_memory_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 8 * 4 * 2**3 - 1)
    with pytest.raises(WorkFailed, match="2 updates of 4 blocks"):
        products([lora("a", 1), lora("b", 2)])


@pytest.mark.parametrize("weights", [[1.0], [1.0, np.nan], [1.0, 2.0, 3.0], [-2e6, 1.0], [np.inf, 1.0]])
def test_weights_that_are_none(weights: list[float]) -> None:
    with pytest.raises(TupateHubError, match="2 updates need as many weights"):
        interference(products([lora("a", 1), lora("b", 2)]), weights)
