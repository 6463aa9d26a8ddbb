"""Tuner: one task, one method, one base model, tuned to the end, or looked at on the way."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from tupate_hub.data.dataset import TaskData
from tupate_hub.runrecord import Regime
from tupate_hub.training.methods import Method
from tupate_hub.training.regime import Setup
from tupate_hub.training.result import Result, Snapshot
from tupate_hub.training.run import Progress, Pulse, Run, Say


def tune(
    base: Path,
    data: TaskData,
    method: Method,
    regime: Regime,
    *,
    setup: Setup | None = None,
    checkpoint: Path | None = None,
    progress: Progress = lambda steps, total: steps,
    report: Say = lambda line: None,
    pulse: Pulse = lambda step, loss, held_out: None,
    warn: Say = lambda sentence: None,
) -> Result:
    """Tune one method on one task and score it.

    The checkpoint with the best held-out score is kept. Its tensors are rounded to float16, in which the zoo stores
    them, before the validation examples are scored, so that the figure belongs to the file.

    Parameters
    ----------
    base : Path
        Folder of the base model.
    checkpoint : Path, optional
        File to resume from and to write to after each evaluation; on a CPU, a resumed run gives the same result.
    progress : callable, optional
        Wraps the iteration over the remaining steps; its second argument is the total.
    report : callable, optional
        Called with a line after each evaluation.
    pulse : callable, optional
        Called after each step with its number, the mean of the last losses, and the last held-out score.
    warn : callable, optional
        Called with a sentence about what the user should know, as soon as it shows: texts that are cut, a loss that
        rises, a score that was still rising at the end.

    Raises
    ------
    TupateHubError
        When the device is not there, or the labels are to be scored of a task without any.
    WorkFailed
        When the loss is not a finite number, or there is no step to make.
    """
    run = Run(base, data, method, regime, setup or Setup(), checkpoint)
    run.train(progress, report, pulse, warn)
    return run.finish(report)


def trace(
    base: Path,
    data: TaskData,
    method: Method,
    regime: Regime,
    at: Collection[float],
    *,
    setup: Setup | None = None,
    progress: Progress = lambda steps, total: steps,
    pulse: Pulse = lambda step, loss, held_out: None,
) -> Iterator[Snapshot]:
    """Tune as `tune` does, and yield the parameters at the shares `at` of the steps and at the last step made.

    Nothing is evaluated or kept on disk. Whoever has seen enough stops iterating, or lets `progress` end.
    """
    run = Run(base, data, method, regime, setup or Setup(), None)
    marks = {max(1, round(run.steps * share)) for share in at}
    run.model.train()
    seen = 0
    for done in run.advance(progress, pulse):
        if done in marks:
            seen = done
            yield run.snapshot()
    if run.done > seen:
        yield run.snapshot()


def score_on_the_way(
    base: Path,
    data: TaskData,
    method: Method,
    regime: Regime,
    at: Collection[int],
    *,
    setup: Setup | None = None,
    progress: Progress = lambda steps, total: steps,
    pulse: Pulse = lambda step, loss, held_out: None,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Tune as `tune` does, and yield (steps made, scores of the validation examples) after each of the steps `at`.

    No checkpoint is chosen and nothing is kept: the scores are those of the parameters as they stand, in the regime's
    own precision, so that a few hundred short runs can be compared at equal steps.
    """
    run = Run(base, data, method, regime, setup or Setup(), None)
    run.model.train()
    for done in run.advance(progress, pulse):
        if done in at:
            with run.precision():
                yield done, run.validate()
