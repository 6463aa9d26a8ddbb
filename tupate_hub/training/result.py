"""Result: what a run has come to, at its end or on the way, and the versions of what made it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from tupate_hub.arrays import Float32Array
from tupate_hub.evaluation.performance import Performance, performance
from tupate_hub.runrecord import RunRecord

_PACKAGES = ("tupate-hub", "torch", "adapters", "transformers", "numpy")


@dataclass(frozen=True)
class Layout:
    """How a run's tensors are to be read: its method, and what the method looked like inside the base model.

    `saved_config` is what the `adapters` library would write beside them, {} for a method that it does not have.
    """

    task: str
    method: str
    saved_config: Mapping[str, Any]
    architecture: Mapping[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """A run after `step` of its `steps`: the method's tensors, and the mean of the last losses."""

    step: int
    steps: int
    loss: float
    tensors: Mapping[str, Float32Array]
    layout: Layout


class Evaluation(NamedTuple):
    """A look at a run on its way: after so many steps, the mean of the last losses and the held-out score."""

    step: int
    loss: float
    held_out: float


@dataclass(frozen=True)
class Answers:
    """What the kept checkpoint said of the validation examples, and what is right, as `scoring.score` takes them."""

    gold: Sequence[Any] = ()
    predicted: Sequence[Any] = ()
    label_names: Sequence[str] = ()


@dataclass(frozen=True)
class Result:
    """A finished run: its record, and the tuned tensors under the `adapters` library's names.

    `early` maps shares of the `planned` steps to the tensors at that point; `head_config` is what the library writes
    beside the head, {} where there is none. `losses` are those of the steps, `curve` the evaluations on the way.
    """

    record: RunRecord
    tensors: Mapping[str, Float32Array]
    layout: Layout
    head: Mapping[str, Float32Array] = field(default_factory=dict)
    head_config: Mapping[str, Any] = field(default_factory=dict)
    early: Mapping[str, Mapping[str, Float32Array]] = field(default_factory=dict)
    planned: int = 0
    losses: Sequence[float] = ()
    curve: Sequence[Evaluation] = ()
    answers: Answers = Answers()

    def performance(self) -> Performance:
        """The figures of the validation examples in detail."""
        record, answers = self.record, self.answers
        return performance(record.kind, record.metric, answers.label_names, answers.gold, answers.predicted)


def versions() -> dict[str, str]:
    """Those of Python and of the packages that a run depends on."""
    installed = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed
