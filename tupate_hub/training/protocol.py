"""Protocol: how transfer is measured: a target's examples, the steps of a run, and when it is scored. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tupate_hub.data.dataset import TaskData
from tupate_hub.data.splits import cut, limited
from tupate_hub.errors import TupateHubError
from tupate_hub.runrecord import Regime
from tupate_hub.training.methods import Method
from tupate_hub.training.regime import regime_for

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
    `scored_on` how many validation examples are scored, the same in every run. With `halves` no others are needed: two
    seeds that follow each other draw the same examples, and each tunes on one half of them and scores the other.
    """

    name: str
    examples: int | None
    steps: int
    score_at: tuple[int, ...]
    scored_on: int = 500
    batch_size: int | None = 16
    halves: bool = False

    def regime(self, kind: str, method: Method, seed: int) -> Regime:
        """The regime of a run: `seed` orders the examples and draws the head, whatever the run starts from."""
        size: dict[str, Any] = {} if self.batch_size is None else {"batch_size": self.batch_size}
        small = {} if self.batch_size is None else _SMALL_BATCHES.get(kind, {})
        changes = {**size, **small, "steps": self.steps, "most_epochs": _ALL_PASSES, "early": ()}
        return regime_for(kind, method, **changes, seed=seed, init_seed=seed)

    def sizes(self, available: int) -> tuple[int, int]:
        """How many of so many training examples a run is tuned on, and how many examples it is scored on at most."""
        drawn = min(available, self.examples or available)
        return (drawn - drawn // 2, drawn // 2) if self.halves else (drawn, self.scored_on)

    def cut(self, data: TaskData, seed: int) -> TaskData:
        """The target's data as a run of that seed sees it."""
        most = self.examples or len(data.train)
        draw, half = divmod(seed, 2) if self.halves else (seed, 0)
        train = [data.train[at] for at in limited(data.kind, data.train, most, draw)]
        if self.halves:
            parts = [[train[at] for at in part] for part in cut(data.kind, train, (len(train) // 2,), draw)]
            return replace(data, train=parts[half], held_out=data.held_out[:1], validation=parts[1 - half])
        scored = [data.validation[at] for at in limited(data.kind, data.validation, self.scored_on, 0)]
        return replace(data, train=train, held_out=data.held_out[:1], validation=scored)


#: What zoo/truth/ holds. Few examples: how much sooner, and how much better in the end. Converged: the same examples
#: from nothing until nothing more is gained. Halves: what short runs say of a source before one has chosen it, as in
#: the first rung of successive halving (Jamieson and Talwalkar 2016). LIMITED and FULL as in Vu et al. (2020).
PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("few-shot", 200, 150, (40, 150)),
        Protocol("few-shot-converged", 200, 600, (300, 450, 600)),
        Protocol("few-shot-halves", 200, 40, (40,), halves=True),
        Protocol("limited", 1000, 300, (300,)),
        Protocol("full", None, 400, (400,), batch_size=None),
    )
}
_BY_SIZE = tuple(PROTOCOLS[name] for name in ("few-shot", "limited", "full"))
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


def until_converged(protocol: Protocol) -> Protocol:
    """The same for a run from nothing that is four times as long, scored on the way from the second quarter on."""
    steps = [protocol.steps * times for times in _CONVERGED]
    return replace(protocol, name=f"{protocol.name}-converged", steps=steps[-1], score_at=tuple(steps))
