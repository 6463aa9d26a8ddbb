"""Cost: how long a run will take on this machine and how much it leaves, from a few of its steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from tupate_hub.data.dataset import TaskData
from tupate_hub.runrecord import Regime
from tupate_hub.training.methods import Method
from tupate_hub.training.model import is_head
from tupate_hub.training.regime import Setup, within_reach
from tupate_hub.training.run import Run
from tupate_hub.training.train import TrainPlan, regime_of, setup_of

#: Examples that are looked at: enough for batches as long as the run's, few enough to be read at once.
_EXAMPLES, _SCORED = 512, 32
_WARMING, _TIMED = 1, 3


@dataclass(frozen=True)
class Cost:
    """What a run would take: `steps` of `step_seconds` each, `seconds` with the scoring between and after them.

    The steps make so many `passes` over the data; `step_seconds` is the median of `measured` ones. `parameters` are the
    method's own, without the head's; `bytes` what their embedding has on disk, in float16. Where several `runs` are
    made, `seconds` are those of all.
    """

    steps: int
    passes: float
    step_seconds: float
    measured: int
    seconds: float
    parameters: int
    bytes: int
    runs: int = 1


def cost_of(base: Path, data: TaskData, method: Method, regime: Regime, *, setup: Setup | None = None) -> Cost:
    """Measure a run by its first steps and a few of the examples that it will score; nothing is kept.

    Errors as `tuner.tune`.
    """
    few = replace(
        data, train=data.train[:_EXAMPLES], held_out=data.held_out[:_SCORED], validation=data.validation[:_SCORED]
    )
    run = Run(base, few, method, replace(regime, steps=_WARMING + _TIMED, most_epochs=10**6), setup or Setup(), None)
    run.model.train()
    clock, ends = time.perf_counter(), []
    for _ in run.advance(lambda steps, total: steps, lambda step, loss, held_out: None):
        now = time.perf_counter()
        ends.append(now - clock)
        clock = now
    step = median(ends[_WARMING:])
    scoring = _seconds(run.validate) / len(few.validation)
    features = len(run.train_features) / len(few.train) * len(data.train)  # a long context gives several
    steps = min(regime.steps, regime.most_epochs * math.ceil(features / regime.batch_size))
    passes = steps * regime.batch_size / features
    scored = regime.evaluations * len(data.held_out) + len(data.validation)
    tuned = {name: value.numel() for name, value in run.model.named_parameters() if value.requires_grad}
    parameters = sum(size for name, size in tuned.items() if not is_head(name))
    seconds = steps * step + scored * scoring
    return Cost(steps, passes, step, _TIMED, seconds, parameters, 2 * parameters + _HEADER)


def cost_of_plan(plan: TrainPlan, data: TaskData) -> Cost:
    """What the runs of a plan would take; what `train.train` would refuse is refused here."""
    regime = regime_of(plan, data.kind)
    task, seeds = within_reach(data, regime), plan.options.seeds
    found = cost_of(plan.base.folder, task, plan.method, regime, setup=setup_of(plan, task, regime))
    return replace(found, runs=seeds, seconds=seeds * found.seconds)


#: About what an embedding's header has: its facts, and the names of its blocks.
_HEADER = 6_000


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
