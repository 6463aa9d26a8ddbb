"""View: blocks chosen, balanced, centred; contributions, layers and intervals, against the updates in full."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from builders import LORA, dense, lora, lora_block
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.compare.kernel import Kernel, centred, kernel, pack
from tupate_hub.compare.view import Compared, View
from tupate_hub.embedding import TaskEmbedding, order_blocks
from tupate_hub.errors import UnknownName

NAMES = ("layer.0.query", "layer.0.value", "layer.1.query", "layer.1.value")
ZOO = [lora(f"task{seed}", seed, rank=1 + seed % 3) for seed in range(5)]
QUERY = lora("query", 50, rank=3)


def partial(task: str, seed: int, names: Sequence[str]) -> TaskEmbedding:
    """An embedding that changed only some places."""
    rng = np.random.default_rng(seed)
    return TaskEmbedding(task, LORA, order_blocks(lora_block(rng, name) for name in names))


def kernels(query: TaskEmbedding, zoo: Sequence[TaskEmbedding]) -> tuple[Kernel, Kernel]:
    everything = pack(zoo)
    return kernel(pack([query]), everything), kernel(everything, everything)


def compared(view: View, query: TaskEmbedding = QUERY, zoo: Sequence[TaskEmbedding] = ZOO) -> Compared:
    across, inside = (view.of(one) for one in kernels(query, zoo))
    return Compared.centred(across, inside) if view.centre else Compared.plainly(across)


def full(one: TaskEmbedding, view: View, names: Sequence[str] = NAMES) -> dict[str, np.ndarray]:
    """What a view leaves of an embedding, as vectors: the chosen blocks' updates, of length one if balanced."""
    updates = {name: update.ravel() for name, update in dense(one).items()}
    chosen = [name for name in names if view.blocks is None or view.blocks in name]
    width = next(iter(updates.values())).size
    vectors = {name: updates.get(name, np.zeros(width)) for name in chosen}
    if not view.balance:
        return vectors
    return {name: one / (np.linalg.norm(one) or 1.0) for name, one in vectors.items()}


def by_hand(view: View, query: TaskEmbedding = QUERY, zoo: Sequence[TaskEmbedding] = ZOO) -> np.ndarray:
    """Contributions of shape (blocks, tasks) by their definition."""
    x, ys = full(query, view), [full(one, view) for one in zoo]
    if view.centre:
        mean = {name: np.mean([y[name] for y in ys], axis=0) for name in x}
        x, *ys = ({name: one[name] - mean[name] for name in x} for one in (x, *ys))
    norm = [np.sqrt(sum(float(v @ v) for v in one.values())) for one in (x, *ys)]
    return np.array([[x[name] @ y[name] / (norm[0] * n) for y, n in zip(ys, norm[1:], strict=True)] for name in x])


EVERY_VIEW = [
    View(centre=centre, balance=balance, blocks=blocks)
    for centre in (False, True)
    for balance in (False, True)
    for blocks in (None, "query", "layer.1")
]


# --- of --------------------------------------------------------------------------------------------------------


def test_a_view_of_nothing_special_is_the_kernel_itself() -> None:
    across, _ = kernels(QUERY, ZOO)
    assert View().of(across) is across
    assert View().plain and View(centre=True).plain and View("tupate").plain
    assert not View(balance=True).plain
    assert not View(blocks="query").plain


@pytest.mark.parametrize(
    ("part", "chosen"),
    [
        ("query", ["layer.0.query", "layer.1.query"]),
        ("layer.1", ["layer.1.query", "layer.1.value"]),
        ("layer.0.value", ["layer.0.value"]),
        ("0*que", ["layer.0.query"]),
        ("layer.?.v", ["layer.0.value", "layer.1.value"]),
        ("", list(NAMES)),
        ("*", list(NAMES)),
    ],
)
def test_blocks_are_chosen_by_a_part_of_their_names(part: str, chosen: list[str]) -> None:
    across, _ = kernels(QUERY, ZOO)
    found = View(blocks=part).of(across)
    assert list(found.blocks) == chosen
    rows = [across.blocks.index(name) for name in chosen]
    np.testing.assert_array_equal(found.cross, across.cross[rows])
    np.testing.assert_array_equal(found.y_squares, across.y_squares[rows])


@pytest.mark.parametrize("part", ["output", "layer.2", "QUERY", "layer.1.query.x", "["])
def test_a_part_that_no_block_has_lists_the_kinds(part: str) -> None:
    with pytest.raises(UnknownName, match="No block's name has") as caught:
        View(blocks=part).of(kernels(QUERY, ZOO)[0])
    assert caught.value.hint == "known: query, value"


def test_balancing_makes_every_block_count_the_same() -> None:
    across, inside = kernels(QUERY, ZOO)
    balanced = View(balance=True).of(inside)
    np.testing.assert_allclose(np.diagonal(balanced.cross, axis1=1, axis2=2), 1, atol=1e-6)
    np.testing.assert_array_equal(balanced.x_squares, np.ones((4, 5)))
    cosines = across.cross[:, 0] / np.sqrt(across.x_squares * across.y_squares)
    np.testing.assert_allclose(compared(View(balance=True)).scores(), cosines.mean(axis=0), atol=1e-12)


@given(st.lists(st.floats(0.1, 100), min_size=4, max_size=4))
def test_balanced_scores_do_not_depend_on_the_blocks_lengths(scales: list[float]) -> None:
    louder = TaskEmbedding(
        "louder", LORA,
        tuple(type(block)(block.name, block.parts, block.scale * factor)
              for block, factor in zip(QUERY.blocks, scales, strict=True)),
    )  # fmt: skip
    view = View(balance=True)
    np.testing.assert_allclose(compared(view, louder).scores(), compared(view).scores(), atol=1e-5)


# --- scores and contributions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("view", EVERY_VIEW, ids=str)
def test_contributions_are_those_of_the_full_updates_and_add_up(view: View) -> None:
    found = compared(view)
    parts = found.contributions()
    np.testing.assert_allclose(parts, by_hand(view), atol=1e-6)
    np.testing.assert_allclose(parts.sum(axis=0), found.scores(), atol=1e-12)
    assert (np.abs(found.scores()) <= 1 + 1e-6).all()


@pytest.mark.parametrize("view", EVERY_VIEW, ids=str)
def test_a_task_of_the_zoo_is_compared_as_among_all_pairs(view: View) -> None:
    """The query's row and the zoo's own pairs are two ways to the same numbers."""
    _, inside = kernels(QUERY, ZOO)
    chosen = view.of(inside)
    pairs = centred(chosen.cross.sum(axis=0)) if view.centre else chosen.scores()
    for row, one in enumerate(ZOO):
        np.testing.assert_allclose(compared(view, one).scores(), pairs[row], atol=1e-6)
        assert compared(view, one).scores()[row] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("view", EVERY_VIEW, ids=str)
def test_places_that_some_lack(view: View) -> None:
    query, zoo = partial("query", 1, NAMES[:3]), [*ZOO, partial("few", 2, NAMES[1:])]
    found = compared(view, query, zoo)
    np.testing.assert_allclose(found.contributions(), by_hand(view, query, zoo), atol=1e-6)
    np.testing.assert_allclose(found.contributions().sum(axis=0), found.scores(), atol=1e-12)


@pytest.mark.parametrize("centre", [False, True])
def test_a_place_that_only_the_query_has(centre: bool) -> None:
    query = partial("query", 1, [*NAMES, "layer.2.query"])
    found = compared(View(centre=centre), query)
    assert found.blocks[-1] == "layer.2.query"
    assert not found.contributions()[-1].any()
    assert found.square[-1] > 0


@pytest.mark.parametrize("balance", [False, True])
def test_a_task_without_any_chosen_block_scores_nothing(balance: bool) -> None:
    view, zoo = View(balance=balance, blocks="query"), [*ZOO, partial("values", 2, ["layer.0.value"])]
    found = compared(view, QUERY, zoo)
    assert found.scores()[-1] == 0
    assert not found.contributions()[:, -1].any()
    pairs = view.of(kernels(QUERY, zoo)[1]).scores()
    assert np.isfinite(pairs).all()
    assert not pairs[-1].any()


def test_centring_a_zoo_of_one_leaves_nothing() -> None:
    found = compared(View(centre=True), QUERY, ZOO[:1])
    np.testing.assert_array_equal(found.scores(), [0])
    assert np.isfinite(found.intervals()).all()


# --- layers ----------------------------------------------------------------------------------------------------


def test_layers_are_cosines_within_the_layer() -> None:
    found = compared(View())
    layers = found.by_layer()
    assert layers.shape == (2, 5)
    for row, layer in enumerate(("layer.0", "layer.1")):
        np.testing.assert_allclose(layers[row], compared(View(blocks=layer)).scores(), atol=1e-12)


def test_a_layer_that_one_side_lacks_is_nothing() -> None:
    layers = compared(View(), partial("query", 1, NAMES[:2])).by_layer()
    assert layers[0].all()
    assert not layers[1].any()


# --- intervals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", EVERY_VIEW, ids=str)
def test_the_interval_of_identical_embeddings_is_their_score(view: View) -> None:
    found = compared(view, ZOO[2])
    low, high = found.intervals()
    assert found.scores()[2] == pytest.approx(1, abs=1e-6)
    assert low[2] == pytest.approx(1, abs=1e-6)
    assert high[2] == pytest.approx(1, abs=1e-6)
    assert (low <= high).all()


def test_intervals_are_deterministic_by_their_seed() -> None:
    found = compared(View())
    np.testing.assert_array_equal(found.intervals(), found.intervals())
    assert (found.intervals(seed=0) != found.intervals(seed=1)).any()


def test_intervals_hold_the_score_and_widen_with_the_level() -> None:
    found = compared(View(), partial("query", 99, NAMES), [lora(f"task{seed}", seed, layers=2) for seed in range(20)])
    (low, high), (lowest, highest), score = found.intervals(), found.intervals(level=0.99), found.scores()
    assert ((low <= score) & (score <= high)).mean() > 0.9
    assert (lowest <= low).all() and (high <= highest).all()
    assert (high - low).min() > 0


def test_the_interval_of_a_single_block_is_its_score() -> None:
    found = compared(View(blocks="layer.0.query"))
    np.testing.assert_allclose(found.intervals(), np.broadcast_to(found.scores(), (2, 5)), atol=1e-12)


def test_a_bootstrap_over_blocks_by_hand() -> None:
    """With two blocks there are three multisets; each quantile is one of their scores or lies between two."""
    found = compared(View(blocks="query"))
    possible = np.array([
        [w @ found.cross[:, t] / np.sqrt((w @ found.square) * (w @ found.squares[:, t])) for t in range(5)]
        for w in (np.array([2, 0]), np.array([1, 1]), np.array([0, 2]))
    ])  # fmt: skip
    low, high = found.intervals(draws=400)
    np.testing.assert_allclose(low, possible.min(axis=0), atol=1e-12)
    np.testing.assert_allclose(high, possible.max(axis=0), atol=1e-12)
