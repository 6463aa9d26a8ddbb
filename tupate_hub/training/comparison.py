"""Comparison: a user's task really tuned from several starts and from nothing, at equal steps, seed by seed.

The runs of one seed have the same examples in the same order and the same first head, so that the difference of two
scores has less noise than either (`training/transfer.py`). What is kept is chosen by the held-out score: the score that
is told is of examples that chose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

from tupate_hub.data.dataset import TaskData
from tupate_hub.errors import FormatError
from tupate_hub.evaluation.transfer_rows import SCRATCH, TransferRow
from tupate_hub.training.delivery import Delivery, deliver, name_in, refuse_taken, reserved
from tupate_hub.training.options import TrainOptions
from tupate_hub.training.protocol import Protocol
from tupate_hub.training.recommend import RecommendPlan
from tupate_hub.training.recommendation import Recommendation
from tupate_hub.training.regime import within_reach
from tupate_hub.training.result import Result
from tupate_hub.training.run import Progress, Pulse, Say
from tupate_hub.training.train import TrainPlan, origin_of, plan_training, regime_of, setup_of
from tupate_hub.training.transfer import Gain, Score, compared, gains, transfer_row
from tupate_hub.training.tuner import tune
from tupate_hub.zoo import Zoo


@dataclass(frozen=True)
class CompareOptions:
    """How a comparison is made.

    Parameters
    ----------
    picks : int
        From so many of the recommended tasks, beside from nothing.
    seeds : int
        Runs from each start.
    steps : int, optional
        Of each run. Default: those of `train`.
    force : bool
        Replace a task that the registry has already.

    Raises
    ------
    FormatError
        When a number is not above 0.
    """

    picks: int = 3
    seeds: int = 2
    steps: int | None = None
    force: bool = False

    def __post_init__(self) -> None:
        for name, usual in (("picks", 3), ("seeds", 2), ("steps", 400)):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise FormatError(f"{number} {name} are too few.", hint=f"`{name}={usual}`")


@dataclass(frozen=True)
class Start:
    """What one start came to: a task, or `SCRATCH`; the score and the held-out score of each seed's run.

    `gain` is what it adds to the runs from nothing, None for those.
    """

    source: str
    scores: tuple[float, ...]
    held_out: tuple[float, ...]
    gain: Gain | None = None

    @property
    def score(self) -> float:
        """The mean over seeds."""
        return fmean(self.scores)


@dataclass(frozen=True)
class Comparison:
    """The starts, the best by mean held-out score first; the best run of the best start as it was delivered.

    `rows` are the runs as a table of measured transfer has them, which `evaluate` reads.
    """

    starts: tuple[Start, ...]
    delivery: Delivery
    rows: tuple[TransferRow, ...]

    @property
    def best(self) -> Start:
        """The start whose best run is kept."""
        return self.starts[0]


def picks_of(recommendation: Recommendation, most: int) -> list[str]:
    """The first tasks that were recommended, in the order in which they are shown."""
    if recommendation.tried:
        ordered = [one.neighbor for one in recommendation.tried]
    elif recommendation.prospects is not None:
        ordered = [one.neighbor for one in recommendation.prospects.prospects]
    else:
        ordered = list(recommendation.ranking.neighbors)
    others = [one.task for one in ordered if "same data" not in one.notes]
    return others[:most]


def compare(
    zoo: Zoo,
    plan: RecommendPlan,
    data: TaskData,
    picks: Sequence[str],
    target: Zoo,
    options: CompareOptions | None = None,
    *,
    began: Callable[[str, int], None] = lambda source, seed: None,
    progress: Progress = lambda steps, total: steps,
    report: Say = lambda line: None,
    pulse: Pulse = lambda step, loss, held_out: None,
    warn: Say = lambda sentence: None,
) -> Comparison:
    """Tune from each of the picks and from nothing, with each seed, and add the best run to a registry.

    A comparison that was killed goes on with the runs that it has not made.

    Parameters
    ----------
    began : callable, optional
        Called with the source and the seed before each run.
    progress, report, pulse, warn : callable, optional
        As `tuner.tune` takes them.

    Raises
    ------
    TargetExists
        When the registry has the task in that space, without `force`.
    SpaceMismatch, FormatError, UnknownName, WorkFailed
        As `train.plan_training` and `train.train`.
    """
    options, task = options or CompareOptions(), replace(data, name=name_in(target, data.name))
    plans = {source: _planned(zoo, plan, source, options) for source in (SCRATCH, *picks)}
    if not options.force:
        refuse_taken(target, plan.space.space, task.name)
    results: dict[str, list[Result]] = {source: [] for source in plans}
    watched = partial(tune, progress=progress, report=report, pulse=pulse, warn=warn)
    with reserved(target, plan.space.space, task.name) as folder:
        files = []
        for seed in range(options.seeds):
            for source, its in plans.items():
                began(source, seed)
                files.append(folder / f"compare-{source}-{seed}.pt")
                results[source].append(_run(its, task, seed, files[-1], watched))
        starts = _ordered(results)
        best = max(results[starts[0].source], key=lambda result: result.record.held_out_score)
        delivery = deliver(target, best, plan.base.id, origin_of(plans[starts[0].source]))
        for file in files:
            file.unlink(missing_ok=True)
    return Comparison(starts, delivery, _rows(results, task, plan.options.device))


def _planned(zoo: Zoo, plan: RecommendPlan, source: str, options: CompareOptions) -> TrainPlan:
    asked = TrainOptions(base=str(plan.base.folder), steps=options.steps, device=plan.options.device)
    if source == SCRATCH:
        asked = replace(asked, method=plan.method.name, settings=plan.method.settings)
    else:
        asked = replace(asked, start_from=source, space=plan.space.name)
    return replace(plan_training(zoo, asked), base=plan.base)


def _run(plan: TrainPlan, data: TaskData, seed: int, checkpoint: Path, tuned: Callable[..., Result]) -> Result:
    regime = replace(regime_of(plan, data.kind), seed=seed)
    task = within_reach(data, regime)
    setup = setup_of(plan, task, regime)
    return tuned(plan.base.folder, task, plan.method, regime, setup=setup, checkpoint=checkpoint)


def _score(result: Result) -> Score:
    return Score(result.record.steps, result.record.scores["primary"], result.record.seconds)


def _ordered(results: dict[str, list[Result]]) -> tuple[Start, ...]:
    scratch = [[_score(result)] for result in results[SCRATCH]]
    starts = []
    for source, runs in results.items():
        pairs = [compared(seed, [_score(run)], scratch[seed])[0] for seed, run in enumerate(runs)]
        gain = None if source == SCRATCH else gains(pairs)[0]
        scores = tuple(run.record.scores["primary"] for run in runs)
        starts.append(Start(source, scores, tuple(run.record.held_out_score for run in runs), gain))
    return tuple(sorted(starts, key=lambda start: -fmean(start.held_out)))


def _rows(results: dict[str, list[Result]], data: TaskData, device: str) -> tuple[TransferRow, ...]:
    rows = []
    for source, runs in results.items():
        for seed, run in enumerate(runs):
            record = run.record
            protocol = Protocol("compare", record.train_examples, record.steps, (record.steps,), len(data.validation))
            without = results[SCRATCH][seed].record.scores["primary"]
            rows.append(transfer_row(_score(run), source, data, protocol, seed, record.method, device, without))
    return tuple(rows)
