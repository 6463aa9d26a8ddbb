"""Transfer: how much better a target is learned when a run starts from a source's tuned parameters, really measured.

With and without the source a run has the same examples, in the same order, the same first head and the same budget
(common random numbers), so that the difference of two scores has less noise than either of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from tupate_hub.data.dataset import TaskData
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.evaluation.transfer_rows import TransferRow
from tupate_hub.training.methods import Method
from tupate_hub.training.protocol import Protocol
from tupate_hub.training.regime import Setup
from tupate_hub.training.result import versions
from tupate_hub.training.run import Progress
from tupate_hub.training.side_by_side import score_side_by_side
from tupate_hub.training.tuner import score_on_the_way
from tupate_hub.training.warmstart import Places, starting_tensors


@dataclass(frozen=True)
class Score:
    """A target's score after so many steps of a run, `seconds` after the run began."""

    steps: int
    value: float
    seconds: float


def measure(
    base: Path,
    data: TaskData,
    method: Method,
    protocol: Protocol,
    seed: int,
    source: TaskEmbedding | None = None,
    *,
    device: str = "cpu",
    progress: Progress = lambda steps, total: steps,
) -> Iterator[Score]:
    """Tune the target from the source's parameters, or from nothing, and score it where the protocol says.

    Parameters
    ----------
    base : Path
        Folder of the base model.
    data : TaskData
        The target, whole: the protocol cuts it.
    method : Method
        With the source's sizes (`warmstart.method_of`).

    Raises
    ------
    SpaceMismatch, FormatError
        As `warmstart.starting_tensors`.
    WorkFailed
        When the loss is not a finite number.
    """
    began = time.perf_counter()
    cut, regime = protocol.cut(data, seed), protocol.regime(data.kind, method, seed)
    start = {} if source is None else starting_tensors(base, cut, method, seed, source)
    setup = Setup(device=device, start=start)
    for steps, scores in score_on_the_way(base, cut, method, regime, protocol.score_at, setup=setup, progress=progress):
        yield Score(steps, scores["primary"], time.perf_counter() - began)


def measure_side_by_side(
    base: Path,
    data: TaskData,
    method: Method,
    protocol: Protocol,
    seed: int,
    sources: Sequence[TaskEmbedding | None],
    *,
    device: str = "cpu",
    progress: Progress = lambda steps, total: steps,
) -> list[list[Score]]:
    """As `measure` for each of several sources of a method and its sizes, all at once (`training/side_by_side.py`).

    The seconds are a run's share of the whole. A run whose loss is not a finite number has fewer scores.
    """
    began = time.perf_counter()
    cut, regime = protocol.cut(data, seed), protocol.regime(data.kind, method, seed)
    places = Places.of_run(base, cut, method, seed)
    starts = [{} if source is None else places.filled_by(source) for source in sources]
    scores: list[list[Score]] = [[] for _ in sources]
    for one in score_side_by_side(
        base, cut, method, regime, protocol.score_at, starts, device=device, progress=progress
    ):
        seconds = (time.perf_counter() - began) / len(sources)
        scores[one.place].append(Score(one.steps, one.values["primary"], seconds))
    return scores


def transfer_row(
    score: Score,
    source: str,
    data: TaskData,
    protocol: Protocol,
    seed: int,
    method: str,
    device: str,
    without: float | None,
) -> TransferRow:
    """A score as a row of a table of truth; `source` is a name or `SCRATCH`, `without` the same seed's from nothing."""
    known, (examples, scored_on) = versions(), protocol.sizes(len(data.train))
    return TransferRow(
        source=source,
        target=data.name,
        score=score.value,
        baseline_score_without_transfer=without,
        regime=protocol.name,
        seed=seed,
        metric=data.metric,
        steps=score.steps,
        examples=examples,
        scored_on=scored_on,
        method=method,
        device=device,
        torch=known.get("torch", ""),
        adapters=known.get("adapters", ""),
        transformers=known.get("transformers", ""),
        seconds=score.seconds,
    )  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Two runs of one seed: the score from a source after `steps`, and that from nothing after `scratch_steps`."""

    seed: int
    steps: int
    score: float
    scratch_steps: int
    scratch_score: float

    @property
    def difference(self) -> float:
        """What the source adds."""
        return self.score - self.scratch_score


@dataclass(frozen=True)
class Gain:
    """What a source adds on average over seeds, with the standard error of that; None with a single seed."""

    steps: int
    scratch_steps: int
    score: float
    scratch_score: float
    difference: float
    standard_error: float | None
    seeds: int


def compared(
    seed: int, started: Sequence[Score], scratch: Sequence[Score], converged: Sequence[Score] = ()
) -> list[Comparison]:
    """The scores of a seed's runs side by side: at equal steps, and the last ones against that of a converged run."""
    pairs = [*zip(started, scratch, strict=True), *((started[-1], last) for last in converged[-1:])]
    return [Comparison(seed, ours.steps, ours.value, theirs.steps, theirs.value) for ours, theirs in pairs]


def gains(comparisons: Iterable[Comparison]) -> list[Gain]:
    """The mean difference at each pair of steps, and its standard error: that of the differences, not of the scores.

    Runs of one seed share examples, order and head, so their difference varies less than either score.
    """
    groups: dict[tuple[int, int], list[Comparison]] = {}
    for comparison in comparisons:
        groups.setdefault((comparison.steps, comparison.scratch_steps), []).append(comparison)
    means = []
    for (steps, scratch_steps), group in groups.items():
        differences = [comparison.difference for comparison in group]
        error = stdev(differences) / len(group) ** 0.5 if len(group) > 1 else None
        scores = (
            fmean(comparison.score for comparison in group),
            fmean(comparison.scratch_score for comparison in group),
        )
        means.append(Gain(steps, scratch_steps, *scores, fmean(differences), error, len(group)))
    return means
