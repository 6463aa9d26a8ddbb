"""Transfer: how much better a target is learned when a run starts from a source's tuned parameters, really measured.

With and without the source a run has the same examples, in the same order, the same first head and the same budget
(common random numbers), so that the difference of two scores has less noise than either of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tupate_hub.data.dataset import TaskData
from tupate_hub.data.splits import limited
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import TupateHubError
from tupate_hub.evaluation.transfer_rows import TransferRow
from tupate_hub.runrecord import Regime
from tupate_hub.training.methods import Method
from tupate_hub.training.regime import Setup, regime_for
from tupate_hub.training.result import versions
from tupate_hub.training.run import Progress
from tupate_hub.training.side_by_side import score_side_by_side
from tupate_hub.training.tuner import score_on_the_way
from tupate_hub.training.warmstart import Places, starting_tensors

_ALL_PASSES = 1 << 20
#: Sequences of few examples a step, so that a few hundred runs are affordable; spans keep to the start of a passage.
_SMALL_BATCHES: Mapping[str, Mapping[str, Any]] = {
    "extractive_qa": {"batch_size": 8, "max_length": 192},
    "multiple_choice": {"batch_size": 8},
}


@dataclass(frozen=True)
class Protocol:
    """How transfer is measured: the target's examples, the steps of a run and after which of them it is scored.

    `examples` is the number of training examples (None: all), drawn anew by each seed with the classes' shares kept;
    `scored_on` how many validation examples are scored, the same in every run.
    """

    name: str
    examples: int | None
    steps: int
    score_at: tuple[int, ...]
    scored_on: int = 500
    batch_size: int | None = 16

    def regime(self, kind: str, method: Method, seed: int) -> Regime:
        """The regime of a run: `seed` orders the examples and draws the head, whatever the run starts from."""
        size: dict[str, Any] = {} if self.batch_size is None else {"batch_size": self.batch_size}
        small = {} if self.batch_size is None else _SMALL_BATCHES.get(kind, {})
        changes = {**size, **small, "steps": self.steps, "most_epochs": _ALL_PASSES, "early": ()}
        return regime_for(kind, method, **changes, seed=seed, init_seed=seed)

    def cut(self, data: TaskData, seed: int) -> TaskData:
        """The target's data as a run of that seed sees it."""
        most = self.examples or len(data.train)
        train = [data.train[at] for at in limited(data.kind, data.train, most, seed)]
        scored = [data.validation[at] for at in limited(data.kind, data.validation, self.scored_on, 0)]
        return replace(data, train=train, held_out=data.held_out[:1], validation=scored)


#: What zoo/truth/ holds. Few examples: how much sooner, and how much better in the end. Converged: the same examples
#: from nothing until nothing more is gained. LIMITED and FULL as in Vu et al. (2020).
PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("few-shot", 200, 150, (40, 150)),
        Protocol("few-shot-converged", 200, 600, (300, 450, 600)),
        Protocol("limited", 1000, 300, (300,)),
        Protocol("full", None, 400, (400,), batch_size=None),
    )
}


#: How many times the steps of a run a run from nothing gets that is to converge, and when it is scored.
_CONVERGED = (2, 3, 4)


def protocol_for(
    available: int, *, examples: int | None = None, steps: int | None = None, score_at: Sequence[int] = ()
) -> Protocol:
    """A protocol with numbers of one's own; what is not given is that of the nearest of `PROTOCOLS`.

    The nearest is the smallest that has as many examples as there are. It is returned itself where no number differs.

    Parameters
    ----------
    available : int
        How many training examples the target has.
    examples : int, optional
        How many of them each seed draws; all by default.
    steps : int, optional
        Of each run. The scores on the way move with it.
    score_at : sequence of int, optional
        After how many steps to score; the last step is always one of them.

    Raises
    ------
    TupateHubError
        When a score is asked for after more steps than there are.
    """
    count = min(available, examples or available)
    near = next(protocol for protocol in _BY_SIZE if protocol.examples is None or count <= protocol.examples)
    made = steps or near.steps
    if late := [at for at in score_at if not 1 <= at <= made]:
        raise TupateHubError(
            f"There is no score after {late[0]} steps in a run of {made}.",
            hint=f"`score_at={made}`, or `steps={late[0]}`",
        )
    marks = tuple(score_at) or tuple(max(1, round(at * made / near.steps)) for at in near.score_at)
    own = replace(near, name="own", examples=examples, steps=made, score_at=tuple(sorted({*marks, made})))
    same_size = examples is None if near.examples is None else count == near.examples
    return near if same_size and (own.steps, own.score_at) == (near.steps, near.score_at) else own


_BY_SIZE = tuple(PROTOCOLS[name] for name in ("few-shot", "limited", "full"))


def until_converged(protocol: Protocol) -> Protocol:
    """The same for a run from nothing that is four times as long, scored on the way from the second quarter on."""
    steps = [protocol.steps * times for times in _CONVERGED]
    return replace(protocol, name=f"{protocol.name}-converged", steps=steps[-1], score_at=tuple(steps))


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
    known = versions()
    return TransferRow(
        source=source,
        target=data.name,
        score=score.value,
        baseline_score_without_transfer=without,
        regime=protocol.name,
        seed=seed,
        metric=data.metric,
        steps=score.steps,
        examples=min(protocol.examples or len(data.train), len(data.train)),
        scored_on=protocol.scored_on,
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
