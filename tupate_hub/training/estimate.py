"""Estimate: what a run will come to and how long it will take, from a few of its steps."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from tupate_hub.data.dataset import TaskData
from tupate_hub.training.model import is_head
from tupate_hub.training.regime import within_reach
from tupate_hub.training.run import Run
from tupate_hub.training.train import TrainPlan, regime_of, setup_of

_WARM, _MEASURED = 1, 4
#: Examples that are answered in the time in which as many are learned: no gradient is computed.
_FASTER = 3


@dataclass(frozen=True)
class Estimate:
    """What a run will come to: `parameters` that are tuned, the head aside; steps and passes; the time.

    `seconds_per_step` is the mean of `measured` steps. `seconds` are those of all runs where there are several, their
    evaluations included, which are taken to be three times as fast as training.
    """

    steps: int
    passes: float
    batch_size: int
    max_length: int
    parameters: int
    seconds_per_step: float
    measured: int
    seconds: float
    runs: int


def estimate(plan: TrainPlan, data: TaskData) -> Estimate:
    """Make a few steps of the run that is planned, and leave nothing behind.

    Raises
    ------
    FormatError
        As `train.train`: what would be refused there is refused here.
    """
    regime = regime_of(plan, data.kind)
    task = within_reach(data, regime)
    run = Run(plan.base.folder, task, plan.method, regime, setup_of(plan, task, regime), None)
    ticks = [time.perf_counter()]
    run.model.train()
    for _ in run.advance(lambda steps, total: _some(steps), lambda step, loss, held_out: None):
        ticks.append(time.perf_counter())
    warm = min(_WARM, len(ticks) - 2)
    measured = len(ticks) - 1 - warm
    pace = (ticks[-1] - ticks[warm]) / measured
    looked_at = regime.evaluations * len(task.held_out) + len(task.validation)
    tuned = sum(
        value.numel() for name, value in run.model.named_parameters() if value.requires_grad and not is_head(name)
    )
    return Estimate(
        steps=run.steps,
        passes=run.steps * regime.batch_size / len(run.train_features),
        batch_size=regime.batch_size,
        max_length=regime.max_length,
        parameters=tuned,
        seconds_per_step=pace,
        measured=measured,
        seconds=plan.options.seeds * pace * (run.steps + looked_at / regime.batch_size / _FASTER),
        runs=plan.options.seeds,
    )


def _some(steps: Iterable[int]) -> Iterator[int]:
    return islice(steps, _WARM + _MEASURED)
