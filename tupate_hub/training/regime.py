"""Regime and Setup: how long and how hard to tune, where a run computes and what it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tupate_hub.arrays import Float32Array
from tupate_hub.training.methods import Method

#: What suits a kind better than a regime's defaults: sequences a step cost about the same, and spans learn slowly.
_BY_KIND: Mapping[str, Mapping[str, Any]] = {
    "extractive_qa": {"batch_size": 12, "max_length": 384, "learning_rate": 1e-3},
    "multiple_choice": {"batch_size": 12},
}


@dataclass(frozen=True)
class Regime:
    """How long and how hard to tune. A step is one optimizer step on `batch_size` examples.

    Small tasks stop after `most_epochs` passes, so `steps` is an upper bound. The head learns `head_factor` times as
    fast as the method's parameters: it starts from nothing, and parameters that move no more than the task asks for
    carry less noise. `early` are shares of the steps after which the parameters are kept as well.
    """

    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 5e-4
    head_factor: float = 10.0
    warmup_share: float = 0.06
    most_epochs: int = 10
    evaluations: int = 5
    max_length: int = 128
    precision: str = "float32"
    seed: int = 0
    init_seed: int = 0
    early: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5)

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Linear warm-up over `warmup_share` of the steps, then linear decay to zero."""
        warmup = max(1, int(self.warmup_share * steps))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return self.learning_rate * max(0.0, (steps - step) / max(1, steps - warmup))


def regime_for(kind: str, method: Method, **changes: Any) -> Regime:
    """The regime of the bundled zoo for a kind of task and a method, with some of its fields changed."""
    return Regime(**{"precision": "bfloat16", **_BY_KIND.get(kind, {}), **method.regime, **changes})


@dataclass(frozen=True)
class Setup:
    """Where a run computes and what it starts from; the defaults are those of the zoo.

    `device` is `cpu`, `cuda` or `mps`. `head` is `trained`, or `labels`: classes scored by the encoded label names.
    `start` are the method's first values, by the names of `Result.tensors`, instead of those that the seed draws.
    """

    device: str = "cpu"
    head: str = "trained"
    start: Mapping[str, Float32Array] = field(default_factory=dict)
