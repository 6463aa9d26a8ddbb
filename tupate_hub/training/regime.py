"""Regime and setup: how long and how hard the zoo tunes, where a run computes and what it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tupate_hub.arrays import Float32Array
from tupate_hub.data.dataset import TaskData, with_limit
from tupate_hub.runrecord import Regime
from tupate_hub.training.methods import Method

#: What suits a kind better than a regime's defaults: sequences a step cost about the same, and spans learn slowly.
_BY_KIND: Mapping[str, Mapping[str, Any]] = {
    "extractive_qa": {"batch_size": 12, "max_length": 384, "learning_rate": 1e-3},
    "multiple_choice": {"batch_size": 12},
}


def regime_for(kind: str, method: Method, **changes: Any) -> Regime:
    """The regime of the bundled zoo for a kind of task and a method, with some of its fields changed."""
    return Regime(**{"precision": "bfloat16", **_BY_KIND.get(kind, {}), **method.regime, **changes})


def within_reach(data: TaskData, regime: Regime) -> TaskData:
    """The data without training examples that a run cannot come to: of many, as many as its steps take are drawn.

    Its digest stays that of the whole.
    """
    return replace(with_limit(data, max(2, regime.steps * regime.batch_size)), sha256=data.sha256)


@dataclass(frozen=True)
class Setup:
    """Where a run computes, what it starts from and what it minds; the defaults are those of the zoo.

    `device` is `cpu`, `cuda` or `mps`. `head` is `trained`, or `labels`: classes scored by the encoded label names.
    `start` are the method's first values, by the names of `Result.tensors`, instead of those that the seed draws.
    `parts` is in how many parts a step's examples go through the model, one after another, for less memory. Where
    `balanced`, each class weighs the same in the loss. A run with `patience` ends after so many evaluations in a row
    that did not raise the held-out score. Where `latest`, the last of the best checkpoints is kept, else the first:
    many checkpoints answer equally many of few held-out examples.
    """

    device: str = "cpu"
    head: str = "trained"
    start: Mapping[str, Float32Array] = field(default_factory=dict)
    parts: int = 1
    balanced: bool = False
    patience: int | None = None
    latest: bool = False

    def cares(self) -> dict[str, Any]:
        """What is minded beyond what the zoo's runs mind."""
        cares: dict[str, Any] = {"parts": self.parts} if self.parts > 1 else {}
        if self.latest:
            cares["latest"] = True
        if self.balanced:
            cares["class_weights"] = "balanced"
        return cares if self.patience is None else {**cares, "patience": self.patience}
