"""The suggestion: what it leaves out and why, and that the rest survives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import LORA, each_block, lora_block
from hypothesis import given, settings
from hypothesis import strategies as st

from tupate_hub.compare.blend import blend
from tupate_hub.compare.interference import interference, products
from tupate_hub.compare.suggestion import MOST_DISTURBED, suggest
from tupate_hub.embedding import Block, TaskEmbedding


def wide(task: str, seed: int) -> TaskEmbedding:
    """Rank 2 of 40 x 30, so that strangers have little in common."""
    rng = np.random.default_rng(seed)
    return TaskEmbedding(task, LORA, tuple(lora_block(rng, f"layer.{n}.query", 2, 40, 30) for n in range(3)))


def scaled(one: TaskEmbedding, factor: float) -> TaskEmbedding:
    return each_block(one, lambda block: Block(block.name, block.parts, block.scale * factor))


def test_strangers_are_all_kept_with_weights_near_one() -> None:
    found = suggest(products([wide("a", 1), wide("b", 2), wide("c", 3)]))
    assert (found.chosen, found.dropped) == ((0, 1, 2), ())
    np.testing.assert_allclose(found.weights, 1, atol=0.2)
    np.testing.assert_allclose(found.found.survives, 1, rtol=1e-5)


def test_a_copy_is_left_out() -> None:
    a, b = wide("a", 1), wide("b", 2)
    found = suggest(products([a, b, replace(scaled(a, 2.0), task="c")]))
    assert found.chosen == (0, 1)
    (drop,) = found.dropped
    assert (drop.update, drop.why, drop.other) == (2, "repeats", 0)
    assert drop.value == pytest.approx(1)
    assert found.weights[2] == 0


def test_one_that_drowns_the_others_is_left_out() -> None:
    found = suggest(products([wide("a", 1), scaled(wide("b", 2), 1000.0), wide("c", 3)]))
    assert found.chosen == (0, 2)
    (drop,) = found.dropped
    assert (drop.update, drop.why) == (1, "disturbs")
    assert drop.other in (0, 2)
    assert drop.value > MOST_DISTURBED


def test_of_two_the_one_that_drowns_the_other_goes() -> None:
    found = suggest(products([scaled(wide("a", 1), 1000.0), wide("b", 2)]))
    assert found.chosen == (1,)
    np.testing.assert_allclose(found.weights, [0, 1])


def test_an_opposite_is_left_out() -> None:
    a, b = wide("a", 1), wide("b", 2)
    against = replace(blend([a, b], [-1.0, 0.1], rank=4), task="c")
    found = suggest(products([a, b, against]))
    assert found.chosen == (0, 1)
    (drop,) = found.dropped
    assert (drop.update, drop.why, drop.other) == (2, "contradicts", 0)
    assert drop.value < -0.9


def test_what_another_brings_along_is_left_out() -> None:
    """a + b has cosine .7 with a, of which it holds twice as much."""
    a, b = wide("a", 1), wide("b", 2)
    found = suggest(products([a, replace(blend([a, b], [2.0, 1.9], rank=4), task="c")]))
    assert found.chosen == (1,)
    (drop,) = found.dropped
    assert (drop.update, drop.why, drop.other) == (0, "covered", 1)
    assert drop.value > 1


def test_smaller_groups_keep_what_is_alike() -> None:
    """c is half a, d is alone."""
    a, b, d = wide("a", 1), wide("b", 2), wide("d", 4)
    c = replace(blend([a, b], [1.0, 0.8], rank=4), task="c")
    known = products([a, d, b, c])
    smaller = suggest(known).smaller
    assert [group.chosen for group in smaller] == [(0, 2, 3), smaller[1].chosen]
    assert smaller[1].chosen in ((0, 3), (2, 3))
    for group in smaller:
        shares = np.zeros(4)
        shares[list(group.chosen)] = 1 / len(group.chosen)
        assert group.survives == pytest.approx(interference(known, shares).survives[list(group.chosen)].min())
    assert smaller[1].survives > smaller[0].survives


@given(st.integers(0, 2**32 - 1), st.lists(st.sampled_from([0.01, 1.0, 30.0]), min_size=4, max_size=4))
@settings(max_examples=20)
def test_what_is_kept_is_not_disturbed_beyond_the_limit(seed: int, factors: list[float]) -> None:
    known = products([scaled(wide(str(at), seed + at), factor) for at, factor in enumerate(factors)])
    found = suggest(known)
    assert sorted([*found.chosen, *(drop.update for drop in found.dropped)]) == [0, 1, 2, 3]
    assert (found.weights[list(found.chosen)] > 0).all()
    assert found.found.disturbed[list(found.chosen)].max() <= MOST_DISTURBED
