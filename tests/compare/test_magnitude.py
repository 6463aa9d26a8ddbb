"""Magnitude: norms, the change of outputs and ranks, against full updates; what diverged and what did not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import bottleneck, dense, lora, prompt
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.compare.lowrank import Factors
from tupate_hub.compare.magnitude import DIVERGED, Magnitude, effective_rank, output_changes, singular_values
from tupate_hub.embedding import TaskEmbedding, layer_of, make_block
from tupate_hub.readers import read_adapter

SHARED = Path(__file__).parents[3] / "shared" / "adapters"


def louder(one: TaskEmbedding, factor: float) -> TaskEmbedding:
    return replace(one, blocks=tuple(replace(block, scale=block.scale * factor) for block in one.blocks))


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_it_is_that_of_the_full_update(seed: int, rank: int) -> None:
    one = lora("x", seed, rank=rank, scale=0.7)
    full = {name: np.asarray(w, dtype=np.float64) for name, w in dense(one).items()}
    found = Magnitude.of(one.blocks)
    assert found.norm == pytest.approx(np.sqrt(sum((w**2).sum() for w in full.values())), rel=1e-4)
    for name, w in full.items():
        assert found.changes[name] == pytest.approx(np.linalg.norm(w) / np.sqrt(len(w)), rel=1e-4)
    assert found.output_change == pytest.approx(np.median([*found.changes.values()]))
    by_layer: dict[str, float] = {}
    for name, w in full.items():
        by_layer[layer_of(name)] = by_layer.get(layer_of(name), 0.0) + float((w**2).sum())
    assert found.by_layer() == pytest.approx({name: np.sqrt(square) for name, square in by_layer.items()}, rel=1e-4)
    squares = np.array([[norm**2] for norm in found.norms.values()])
    outputs = np.array([len(full[name]) for name in found.norms])
    assert output_changes(squares, outputs) == pytest.approx([found.output_change])


def test_the_change_is_that_of_outputs_where_inputs_have_variance_one() -> None:
    one = lora("x", 3, rank=2, scale=2.0)
    (name, w), *_ = dense(one).items()
    inputs = np.random.default_rng(0).standard_normal((200_000, w.shape[1]))
    assert np.sqrt(((inputs @ w.T) ** 2).mean()) == pytest.approx(Magnitude.of(one.blocks).changes[name], rel=0.02)


def test_many_at_once_leave_out_what_they_lack() -> None:
    squares, outputs = np.array([[4.0, 0.0], [16.0, 9.0], [36.0, 0.0]]), np.array([1, 1, 1])
    np.testing.assert_allclose(output_changes(squares, outputs), [4.0, 3.0])
    np.testing.assert_allclose(output_changes(np.zeros((0, 2)), np.zeros(0, int)), [0.0, 0.0])
    np.testing.assert_allclose(output_changes(np.zeros((2, 2)), np.ones(2, int)), [0.0, 0.0])


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_singular_values_are_those_of_the_product(seed: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    a, bt = (rng.standard_normal((rank, width)).astype(np.float32) for width in (6, 7))
    expected = np.linalg.svd(bt.T.astype(float) @ a, compute_uv=False)[:rank]
    np.testing.assert_allclose(singular_values(Factors(a, bt)), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0, 3.0, 3.0], 3.0), ([5.0, 0.0], 1.0), ([0.0, 0.0], 0.0), ([np.nan, 1.0], 0.0), ([np.inf], 0.0)],
)
def test_the_effective_rank_counts_directions(values: list[float], expected: float) -> None:
    assert effective_rank(np.array(values)) == pytest.approx(expected)


@pytest.mark.parametrize("factor", [0.5, 0.99, 1.01, 2.0, 1e30, 1e300])
def test_an_update_diverged_that_changes_outputs_too_far(factor: float) -> None:
    one = lora("x", 5)
    change = Magnitude.of(one.blocks).output_change
    assert Magnitude.of(louder(one, factor * DIVERGED / change).blocks).diverged == (factor > 1)


@pytest.mark.parametrize("make", [prompt, bottleneck])
def test_other_methods_are_not_judged(make: Any) -> None:
    one = make("x", 1)
    found = Magnitude.of(one.blocks)
    assert (found.output_change, found.effective_rank, found.diverged) == (0.0, 0.0, False)
    assert found.norm > 0


def test_a_bias_beside_lora_counts_for_the_norm_alone() -> None:
    bias = make_block("head", {"bias": np.array([3.0, 4.0], np.float32)})
    alone = Magnitude.of(lora("x", 2).blocks)
    both = Magnitude.of([*lora("x", 2).blocks, bias])
    assert both.output_change == alone.output_change
    assert both.norm**2 == pytest.approx(alone.norm**2 + 25)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the folder `shared` beside the checkout")
def test_of_strangers_adapters_the_one_that_diverged_is_told() -> None:
    found = {}
    for path in sorted(SHARED.iterdir()):
        config = path / "adapter_config.json"
        weights = [*path.glob("adapter_model.*"), *path.glob("adapters.*")]
        if config.exists() and weights and weights[0].stat().st_size > 10_000:
            found[path.name] = Magnitude.of(read_adapter(path).blocks, spectrum=False)
    assert len(found) > 20
    assert [name for name, size in found.items() if size.diverged] == ["fegbewunmi__Light-finetuning__gpt-lora"]
    others = [size.output_change for size in found.values() if not size.diverged]
    assert max(others) < DIVERGED / 5
