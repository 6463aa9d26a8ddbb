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
from tupate_hub.training.regime import Setup
from tupate_hub.training.run import Run

#: Examples that are looked at: enough for batches as long as the run's, few enough to be read at once.
_EXAMPLES, _SCORED = 512, 32
_WARMING, _TIMED = 1, 3


@dataclass(frozen=True)
class Cost:
    """What a run would take: `steps` of `step_seconds` each, `seconds` with the scoring between and after them.

    `parameters` are the method's own, without the head's; `bytes` what their embedding has on disk, in float16.
    """

    steps: int
    step_seconds: float
    seconds: float
    parameters: int
    bytes: int


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
    scored = regime.evaluations * len(data.held_out) + len(data.validation)
    tuned = {name: value.numel() for name, value in run.model.named_parameters() if value.requires_grad}
    parameters = sum(size for name, size in tuned.items() if not is_head(name))
    return Cost(steps, step, steps * step + scored * scoring, parameters, 2 * parameters + _HEADER)


#: About what an embedding's header has: its facts, and the names of its blocks.
_HEADER = 6_000


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
