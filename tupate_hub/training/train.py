"""Train: what a user asks of a run, what that comes to, and the run itself, from the data to the registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from tupate_hub.architectures import require_tunable
from tupate_hub.data.dataset import TaskData
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError, UnknownName
from tupate_hub.runrecord import Regime
from tupate_hub.space import Space
from tupate_hub.training.basemodel import BaseModel, find_base
from tupate_hub.training.delivery import Delivery, deliver, name_in, refuse_taken, reserved
from tupate_hub.training.design import Budget, for_budget, parse_budget, require_modest
from tupate_hub.training.methods import Method, get_method
from tupate_hub.training.regime import Setup, regime_for
from tupate_hub.training.run import Progress, Pulse, Say
from tupate_hub.training.tuner import tune
from tupate_hub.training.warmstart import method_of, source_and_base, starting_tensors
from tupate_hub.zoo import Zoo

PRECISIONS = ("bfloat16", "float32")
HEADS = ("trained", "labels")
DEFAULT_METHOD = "lora"
#: Shares of the steps after which a run's parameters are kept as well.
EARLY = (0.05, 0.1, 0.25, 0.5, 1.0)
#: More than any run reaches: where passes are asked for steps are no limit, and the other way round.
_NO_LIMIT_OF_STEPS, _NO_LIMIT_OF_PASSES = 10**9, 10**6


@dataclass(frozen=True)
class TrainOptions:
    """What to tune and how. What is None is decided by the source, the method or the kind of task.

    Parameters
    ----------
    method : str, optional
        A name of `METHODS`. Default: that of the source, else `lora`.
    start_from : str, optional
        A task of the zoo, an adapter, or several joined by `+`, whose average is taken.
    space : str, optional
        The space of the task to start from.
    base : str, optional
        The base model's folder, or its id on the Hub. Default: that of the source, else the bundled zoo's.
    settings : mapping
        The method's settings that are not its defaults: `{"r": 16}`.
    budget : str, optional
        The method's size as a share of the base model: `"0.5%"`.
    steps, epochs : int, optional
        Optimizer steps; passes over the data. Where both are given, whichever ends first.
    batch_size : int, optional
        Examples a step.
    learning_rate : float, optional
        The head's moves with it.
    seed : int
        Of the examples' order.
    precision : str
        Of the computation, one of `PRECISIONS`; results are float32.
    device : str
        `cpu`, `cuda` or `mps`.
    head : str
        One of `HEADS`: a head of its own, or classes scored by their encoded names.
    force : bool
        Replace a task that the registry has already.

    Raises
    ------
    FormatError
        When a number is not above 0.
    UnknownName
        For another precision or head.
    """

    method: str | None = None
    start_from: str | None = None
    space: str | None = None
    base: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    budget: str | None = None
    steps: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    precision: str = "bfloat16"
    device: str = "cpu"
    head: str = "trained"
    force: bool = False

    def __post_init__(self) -> None:
        for name, usual in (("steps", 400), ("epochs", 10), ("batch_size", 32)):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise FormatError(f"{number} {name.replace('_', ' ')} is too few.", hint=f"`{name}={usual}`")
        if self.learning_rate is not None and not 0 < self.learning_rate < inf:
            raise FormatError(f"{self.learning_rate} is not a learning rate.", hint="`learning_rate=5e-4`")
        for name, known in (("precision", PRECISIONS), ("head", HEADS)):
            if getattr(self, name) not in known:
                raise UnknownName(f"Unknown {name} {getattr(self, name)!r}.", hint=f"known: {', '.join(known)}")


@dataclass(frozen=True)
class TrainPlan:
    """What options come to: the base model, the method with its sizes, and the source, None where there is none.

    `budget` is what the options' budget came to, None where they have none.
    """

    options: TrainOptions
    base: BaseModel
    method: Method
    source: TaskEmbedding | None = None
    budget: Budget | None = None

    @property
    def space(self) -> Space:
        """The space that the embedding will be in."""
        return Space(self.base.id, self.method.name)


def plan_training(zoo: Zoo, options: TrainOptions, kind: str | None = None) -> TrainPlan:
    """Find the source in a zoo, the base model by the names of its spaces, and the method's sizes.

    A source gives its own sizes, unless a method, settings or a budget are asked for. Where the task's `kind` is known
    already, a base model without such a head is refused before its weights are read or fetched.

    Raises
    ------
    UnknownName
        For an unknown task, space, method or setting.
    FormatError
        When there is no such base model or adapter, it cannot be tuned so, or the sizes or the budget cannot be had.
    SpaceMismatch
        When the source was tuned on another base model.
    NotAvailableOffline
        When the base model or the source cannot be fetched.
    """
    if options.start_from is None:
        name = get_method(options.method or DEFAULT_METHOD).name
        base = find_base(options.base, zoo.registry.spaces.values(), method=name, kind=kind)
        method, budget = _method(name, base, options)
        return TrainPlan(options, base, method, None, budget)
    source, base = source_and_base(
        zoo, options.start_from, method=options.method, space=options.space, base=options.base, kind=kind
    )
    if options.settings or options.budget is not None or options.method not in (None, source.space.method):
        method, budget = _method(options.method or source.space.method, base, options)
        return TrainPlan(options, base, method, source, budget)
    return TrainPlan(options, base, method_of(source), source)


def _method(name: str, base: BaseModel, options: TrainOptions) -> tuple[Method, Budget | None]:
    """The method with its settings, and what the budget came to, if there is one."""
    method = get_method(name, **options.settings)
    if options.budget is None:
        require_modest(method, base.architecture())
        return method, None
    share = parse_budget(options.budget)
    budget = for_budget(name, share, base.parameters(), base.architecture(), options.settings)
    return get_method(name, **budget.settings), budget


def regime_of(plan: TrainPlan, kind: str) -> Regime:
    """The regime of a plan's run for a kind of task: the bundled zoo's, but for what the options say."""
    options = plan.options
    changes: dict[str, Any] = {"precision": options.precision, "seed": options.seed, "early": EARLY}
    if options.epochs is not None:
        changes |= {"most_epochs": options.epochs, "steps": options.steps or _NO_LIMIT_OF_STEPS}
    elif options.steps is not None:
        changes |= {"steps": options.steps, "most_epochs": _NO_LIMIT_OF_PASSES}
    if options.batch_size is not None:
        changes["batch_size"] = options.batch_size
    if options.learning_rate is not None:
        changes["learning_rate"] = options.learning_rate
    return regime_for(kind, plan.method, **changes)


def train(
    plan: TrainPlan,
    data: TaskData,
    target: Zoo,
    *,
    progress: Progress = lambda steps, total: steps,
    report: Say = lambda line: None,
    pulse: Pulse = lambda step, loss, held_out: None,
) -> Delivery:
    """Tune a task as planned and add its embedding to a registry of the user's own.

    A run that was killed goes on where it stopped when it is asked for again. `delivery` says what it leaves.

    Parameters
    ----------
    target : Zoo
        What `collect.add.open_or_start` gives of a folder.
    progress, report, pulse : callable, optional
        As `tuner.tune` takes them.

    Raises
    ------
    TargetExists
        When the registry has the task in that space, without `force`.
    FormatError
        When the source does not fit the run, the base model has no head for the data's kind, or the task's name cannot
        be one.
    WorkFailed
        When another process tunes the same, the loss is not a finite number, or there is no step to make.
    """
    task = replace(data, name=name_in(target, data.name))
    options = plan.options
    require_tunable(plan.base.architecture(), plan.method.name, task.kind, options.head)
    if not options.force:
        refuse_taken(target, plan.space, task.name)
    start = {} if plan.source is None else starting_tensors(plan.base.folder, task, plan.method, 0, plan.source)
    with reserved(target, plan.space, task.name) as folder:
        checkpoint = folder / "checkpoint.pt"
        result = tune(
            plan.base.folder,
            task,
            plan.method,
            regime_of(plan, task.kind),
            setup=Setup(options.device, options.head, start),
            checkpoint=checkpoint,
            progress=progress,
            report=report,
            pulse=pulse,
        )
        origin = {"by": "tupate-hub train", **({} if plan.source is None else {"start_from": options.start_from})}
        delivery = deliver(target, result, plan.base.id, origin)
        checkpoint.unlink(missing_ok=True)
    return delivery
