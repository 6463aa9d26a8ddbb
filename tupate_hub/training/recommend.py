"""Recommend: tune briefly, rank the zoo on the way, and stop when its answer no longer changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import isnan

from tupate_hub.data.dataset import TaskData
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError, WorkFailed
from tupate_hub.evaluation.trial import TrialForecast, joined
from tupate_hub.registry import SpaceEntry
from tupate_hub.search.by_gain import rank_by_gain
from tupate_hub.training.basemodel import BaseModel, find_base
from tupate_hub.training.methods import Method, get_method
from tupate_hub.training.model import base_sha256
from tupate_hub.training.recommendation import Look, Recommendation, TriedSource, is_stable
from tupate_hub.training.record import read_tensors
from tupate_hub.training.regime import Setup, regime_for, within_reach
from tupate_hub.training.result import Snapshot
from tupate_hub.training.run import Progress, Pulse
from tupate_hub.training.trial import Watch, try_sources
from tupate_hub.training.tuner import trace
from tupate_hub.zoo import Zoo

#: Shares of the steps at which the zoo is ranked: close together where answers still change.
LOOKS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class RecommendOptions:
    """Where to look, for how many tasks, and for how long.

    Parameters
    ----------
    space : str, optional
        The space to look in. Default: the registry's.
    base : str, optional
        The folder of the space's base model, or its id on the Hub. Default: what the space says.
    k : int
        How many tasks to recommend.
    most_seconds : float
        The run ends after so many at the latest.
    most_steps : int, optional
        And after so many steps. Default: those of the space's regime.
    device : str
        `cpu`, `cuda` or `mps`.
    trial : bool
        Try each source's model on the labelled examples as well (`trial.try_sources`), where the kind allows it.

    Raises
    ------
    FormatError
        When there is nothing to recommend, or no time or step to do it in.
    """

    space: str | None = None
    base: str | None = None
    k: int = 5
    most_seconds: float = 240.0
    most_steps: int | None = None
    device: str = "cpu"
    trial: bool = True

    def __post_init__(self) -> None:
        if self.k < 1:
            raise FormatError(f"{self.k} tasks are too few to recommend.", hint="`k=5`")
        if self.most_seconds <= 0 or isnan(self.most_seconds):
            raise FormatError(f"{self.most_seconds} seconds are too few.", hint="`most_seconds=300`")
        if self.most_steps is not None and self.most_steps < 1:
            raise FormatError(f"{self.most_steps} steps are too few.", hint="`most_steps=100`")


@dataclass(frozen=True)
class RecommendPlan:
    """What options come to: a space of the registry, its base model, and its method with its sizes."""

    options: RecommendOptions
    space: SpaceEntry
    base: BaseModel
    method: Method


def plan_recommendation(zoo: Zoo, options: RecommendOptions) -> RecommendPlan:
    """Find the space in a zoo, and its base model.

    Raises
    ------
    UnknownName
        For a space that the zoo lacks, or one whose method cannot be tuned here.
    FormatError
        When the base model is not the one that the space was tuned on, or the space holds nothing.
    NotAvailableOffline
        When the base model cannot be fetched.
    """
    space = zoo.registry.space(options.space)
    base = find_base(options.base or space.base, zoo.registry.spaces.values())
    if not zoo.registry.in_space(space.name):
        raise FormatError(f"The space {space.name!r} holds no embedding to rank.", hint="tupate-hub spaces")
    if space.base_sha256 and base_sha256(base.folder) != space.base_sha256:
        raise FormatError(
            f"{base.folder} is not the base model that {space.name!r} was tuned on: its weights differ.",
            hint=f"`base={space.base!r}`",
        )
    return RecommendPlan(options, space, base, method_of_space(space))


def recommend(
    zoo: Zoo,
    plan: RecommendPlan,
    data: TaskData,
    *,
    progress: Progress = lambda steps, total: steps,
    pulse: Pulse = lambda step, loss, held_out: None,
    seen: Callable[[Look], None] = lambda look: None,
    watch: Watch = lambda sources: sources,
) -> Recommendation:
    """Tune a task in a space's base model and method, ranking the zoo at each of `LOOKS` until the answer is stable.

    Then each source's model is tried on the labelled examples: a short run on few examples says little of the task, the
    labels say much.

    The run is the space's own: its regime, its sizes and its initialisation, so that the checkpoints compare with what
    the zoo holds. It also ends after the options' seconds or steps, whichever comes first.

    Parameters
    ----------
    progress, pulse : callable, optional
        As `tuner.trace` takes them.
    seen : callable, optional
        Called with each look.
    watch : callable, optional
        Wraps the sources that are tried, for a progress bar.

    Raises
    ------
    WorkFailed
        When there was no time for a single ranking.
    """
    began = time.perf_counter()
    options, space = plan.options, plan.space
    regime = regime_for(data.kind, plan.method, init_seed=init_seed_of(space))

    def limited(steps: Iterable[int], total: int) -> Iterator[int]:
        for made, step in enumerate(progress(steps, total)):
            if made == options.most_steps or time.perf_counter() - began > options.most_seconds:
                return
            yield step

    looks: list[Look] = []
    steps = 0
    reached, setup = within_reach(data, regime), Setup(options.device)
    for snapshot in trace(
        plan.base.folder, reached, plan.method, regime, LOOKS, setup=setup, progress=limited, pulse=pulse
    ):
        ranking = zoo.similar(embedded(snapshot, space, data), space=space.name, explain=True)
        looks.append(Look(snapshot.step, snapshot.loss, time.perf_counter() - began, ranking))
        steps = snapshot.steps
        seen(looks[-1])
        if is_stable(looks, options.k):
            break
    if not looks:
        raise WorkFailed("There was no time for a single step.", hint="give it more time: `most_seconds=300`")
    last = looks[-1].ranking
    prospects = rank_by_gain(zoo, last, options.k, len(data.train), data.kind) if space.gain else None
    found = Recommendation(tuple(looks), options.k, steps, prospects)
    return _with_trial(found, zoo, plan, data, regime.steps, watch) if options.trial else found


def _with_trial(
    found: Recommendation, zoo: Zoo, plan: RecommendPlan, data: TaskData, whole_run: int, watch: Watch
) -> Recommendation:
    """The same with the sources tried, where the kind of task allows it."""
    trial = try_sources(plan.base.folder, data, zoo.load_space(plan.space.name), watch=watch)
    if trial is None:
        return found
    forecast = TrialForecast.from_dict(plan.space.gain.get("trial"), f"Space {plan.space.name!r}")
    neighbors = [one for one in found.ranking.neighbors if one.task in trial.sources]
    scores = joined(
        [one.score for one in neighbors],
        [trial.sources[one.task] for one in neighbors],
        found.looks[-1].step / whole_run,
    )
    order = sorted(range(len(neighbors)), key=lambda at: (-scores[at], neighbors[at].task))
    tried = []
    for rank, at in enumerate(order, start=1):
        rise = trial.rise(neighbors[at].task)
        promise = None if forecast is None else forecast.promise(rise, data.name)
        tried.append(TriedSource(replace(neighbors[at], rank=rank), rise, promise))
    return replace(found, tried=tuple(tried), trial=trial, forecast=forecast)


def method_of_space(space: SpaceEntry) -> Method:
    """The method of a space with the settings that the space records.

    Raises
    ------
    UnknownName
        When it is none that can be tuned here.
    """
    known = get_method(space.method).settings
    return get_method(space.method, **{name: space.settings[name] for name in known if name in space.settings})


def init_seed_of(space: SpaceEntry) -> int:
    """The seed of the first parameters in a space; 0 where it does not say."""
    seed = space.settings.get("init_seed", 0)
    return seed if isinstance(seed, int) else 0


def embedded(snapshot: Snapshot, space: SpaceEntry, data: TaskData) -> TaskEmbedding:
    """The run as it stands, as an embedding of the space."""
    blocks = read_tensors(snapshot.tensors, snapshot.layout).blocks
    return TaskEmbedding(data.name, space.space, blocks, {"data": {"sha256": data.sha256}})
