"""Sign conflicts, against the updates formed in full; estimates, against the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import LORA, dense, lora, lora_block, single
from hypothesis import given, settings
from hypothesis import strategies as st

from tupate_hub.compare.signs import sign_conflicts
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import TupateHubError

WEIGHTS = [0.5, 0.3, 0.2]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_where_blocks_are_small_every_entry_counts(seed: int) -> None:
    sources = [lora("a", seed, 1), lora("b", seed + 1, 2), lora("c", seed + 2, 3)]
    full = [np.concatenate([update.ravel() for update in dense(one).values()]) for one in sources]
    found = sign_conflicts(sources, WEIGHTS)
    assert found.looked_at == 1
    for i in range(3):
        for j in range(3):
            assert found.opposite[i, j] == pytest.approx((full[i] * full[j] < 0).mean(), abs=2 / len(full[0]))
    weighed = np.array(WEIGHTS)[:, None] * np.array(full)
    assert found.cancelled == pytest.approx(1 - np.abs(weighed.sum(axis=0)).sum() / np.abs(weighed).sum(), abs=1e-4)
    np.testing.assert_array_equal(found.error, 0)


def large(task: str, seed: int) -> TaskEmbedding:
    """Blocks of 200 x 50 entries."""
    rng = np.random.default_rng(seed)
    return TaskEmbedding(task, LORA, tuple(lora_block(rng, f"layer.{n}.query", 2, 50, 200) for n in range(4)))


def test_an_estimate_lies_within_its_error() -> None:
    """Over many draws: as far from the whole as the error says, within a quarter of it."""
    sources = [large("a", 1), large("b", 2)]
    whole = sign_conflicts(sources, [0.5, 0.5])
    draws = [sign_conflicts(sources, [0.5, 0.5], most=1000, seed=seed) for seed in range(60)]
    assert {draw.looked_at for draw in draws} == {0.1}
    apart = np.array([draw.opposite[0, 1] - whole.opposite[0, 1] for draw in draws])
    said = np.mean([draw.error[0, 1] for draw in draws])
    assert np.sqrt(np.square(apart).mean()) == pytest.approx(said, rel=0.25)
    cancelled = [draw.cancelled for draw in draws]
    assert np.mean(cancelled) == pytest.approx(whole.cancelled, abs=0.01)


def test_the_same_seed_draws_the_same_rows() -> None:
    sources = [large("a", 1), large("b", 2)]
    first, again, other = (sign_conflicts(sources, [1, 1], most=500, seed=seed) for seed in (3, 3, 4))
    assert first.opposite[0, 1] == again.opposite[0, 1] != other.opposite[0, 1]


def test_a_row_that_is_longer_than_the_limit_is_looked_at_all_the_same() -> None:
    found = sign_conflicts([large("a", 1), large("b", 2)], [1, 1], most=1)
    assert found.looked_at == pytest.approx(2 / 200)
    assert 0 < found.opposite[0, 1] < 1
    assert found.error[0, 1] > 0


def test_opposites_and_copies() -> None:
    one = large("a", 1)
    against = replace(one, blocks=tuple(replace(block, scale=-block.scale) for block in one.blocks))
    found = sign_conflicts([one, against, one], [1, 1, 0])
    assert found.opposite[0].tolist() == [0, 1, 0]
    assert found.cancelled == pytest.approx(1)


def test_what_shares_no_block_has_no_signs_to_compare() -> None:
    one = lora("a", 1)
    found = sign_conflicts([replace(one, blocks=one.blocks[:1]), replace(one, blocks=one.blocks[1:])], [1, 1])
    assert np.isnan(found.opposite[0, 1])
    assert found.cancelled == pytest.approx(0, abs=1e-6)


def test_entries_that_are_zero_have_no_sign() -> None:
    pair = [single(name, "bias", np.array(values)) for name, values in (("a", [1.0, 0, 2, -1]), ("b", [0, 1.0, 2, 1]))]
    found = sign_conflicts(pair, [1, 1])
    assert found.opposite[0, 1] == pytest.approx(1 / 2)
    assert found.cancelled == pytest.approx(2 / 8)


def test_some_blocks_alone() -> None:
    sources = [lora("a", 1), lora("b", 2)]
    name = sources[0].blocks[1].name
    found = sign_conflicts(sources, [1, 1], blocks=[name])
    first, second = (dense(one)[name] for one in sources)
    assert found.opposite[0, 1] == pytest.approx((first * second < 0).mean())


def test_no_entries_are_refused() -> None:
    with pytest.raises(TupateHubError, match="0 entries"):
        sign_conflicts([lora("a", 1)], [1], most=0)
