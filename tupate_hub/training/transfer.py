"""Transfer: how much better a target is learned when a run starts from a source's tuned parameters, really measured.

With and without the source a run has the same examples, in the same order, the same first head and the same budget
(common random numbers), so that the difference of two scores has less noise than either of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tupate_hub.data.dataset import TaskData
from tupate_hub.data.splits import limited
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.training.methods import Method
from tupate_hub.training.regime import Regime, Setup, regime_for
from tupate_hub.training.tuner import Progress, score_on_the_way
from tupate_hub.training.warmstart import starting_tensors

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
    one.name: one
    for one in (
        Protocol("few-shot", 200, 150, (40, 150)),
        Protocol("few-shot-converged", 200, 600, (300, 450, 600)),
        Protocol("limited", 1000, 300, (300,)),
        Protocol("full", None, 400, (400,), batch_size=None),
    )
}


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
