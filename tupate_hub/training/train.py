"""Train: what a user asks of a run, what that comes to, and the run itself, from the data to the registry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tupate_hub.architectures import require_tunable
from tupate_hub.data.dataset import TaskData
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError
from tupate_hub.head import Head
from tupate_hub.runrecord import Regime
from tupate_hub.space import Space
from tupate_hub.training.basemodel import BaseModel, find_base
from tupate_hub.training.delivery import Delivery, SeedScore, deliver, name_in, refuse_taken, reserved
from tupate_hub.training.design import Budget, for_budget, parse_budget, require_modest
from tupate_hub.training.methods import Method, get_method
from tupate_hub.training.options import DEFAULT_METHOD, EVALUATIONS
from tupate_hub.training.options import TrainOptions as TrainOptions
from tupate_hub.training.regime import Setup, regime_for, within_reach
from tupate_hub.training.result import Result
from tupate_hub.training.run import Progress, Pulse, Say
from tupate_hub.training.starthead import source_head, starting_head
from tupate_hub.training.tuner import tune
from tupate_hub.training.warmstart import method_of, source_and_base, starting_tensors
from tupate_hub.zoo import Zoo

#: Shares of the steps after which a run's parameters are kept as well.
EARLY = (0.05, 0.1, 0.25, 0.5, 1.0)
#: More than any run reaches: where passes are asked for steps are no limit, and the other way round.
_NO_LIMIT_OF_STEPS, _NO_LIMIT_OF_PASSES = 10**9, 10**6
#: Models whose first positions are kept for padding.
_POSITIONS_FROM_TWO = ("roberta", "xlm-roberta", "camembert")


@dataclass(frozen=True)
class TrainPlan:
    """What options come to: the base model, the method with its sizes, and the source, None where there is none.

    `budget` is what the options' budget came to, None where they have none; `head` that of the source, where the run
    starts from it.
    """

    options: TrainOptions
    base: BaseModel
    method: Method
    source: TaskEmbedding | None = None
    budget: Budget | None = None
    head: Head | None = None

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
    head = source_head(zoo, options.start_from, source) if options.start_head else None
    if options.settings or options.budget is not None or options.method not in (None, source.space.method):
        method, budget = _method(options.method or source.space.method, base, options)
        return TrainPlan(options, base, method, source, budget, head)
    return TrainPlan(options, base, method_of(source), source, None, head)


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
    """The regime of a plan's run for a kind of task: the bundled zoo's, but for what the options say and the passes.

    The zoo ends a run after ten passes over few examples. A user's run makes all of its steps: measured on 200
    examples, they bring more, and the embedding ranks the zoo no worse (scripts/evaluation/measure_budget.py).

    Raises
    ------
    FormatError
        When more tokens are asked for than the base model reads.
    """
    options = plan.options
    changes: dict[str, Any] = {"precision": options.precision, "seed": options.seed, "early": EARLY}
    changes["most_epochs"] = _NO_LIMIT_OF_PASSES
    if options.epochs is not None:
        changes |= {"most_epochs": options.epochs, "steps": options.steps or _NO_LIMIT_OF_STEPS}
    elif options.steps is not None:
        changes["steps"] = options.steps
    if options.patience is not None:
        changes["evaluations"] = EVALUATIONS
    for name in ("batch_size", "learning_rate", "max_length", "init_seed"):
        if getattr(options, name) is not None:
            changes[name] = getattr(options, name)
    regime = regime_for(kind, plan.method, **changes)
    most = longest(plan.base)
    if most is None or regime.max_length <= most:
        return regime
    if options.max_length is not None:
        raise FormatError(
            f"{plan.base.id} reads {most} tokens at most, not {options.max_length}.", hint=f"`max_length={most}`"
        )
    return replace(regime, max_length=most)


def train(
    plan: TrainPlan,
    data: TaskData,
    target: Zoo,
    *,
    progress: Progress = lambda steps, total: steps,
    report: Say = lambda line: None,
    pulse: Pulse = lambda step, loss, held_out: None,
    warn: Say = lambda sentence: None,
) -> Delivery:
    """Tune a task as planned and add its embedding to a registry of the user's own.

    A run that was killed goes on where it stopped when it is asked for again. `delivery` says what it leaves.

    Parameters
    ----------
    target : Zoo
        What `collect.add.open_or_start` gives of a folder.
    progress, report, pulse, warn : callable, optional
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
    task, regime = replace(data, name=name_in(target, data.name)), regime_of(plan, data.kind)
    require_tunable(plan.base.architecture(), plan.method.name, task.kind, plan.options.head)
    if not plan.options.force:
        refuse_taken(target, plan.space, task.name)
    task, setup = within_reach(task, regime), setup_of(plan, task, regime)
    if len(task.train) < len(data.train):
        warn(f"{len(task.train):,} of the {len(data.train):,} training examples are used: the run comes to no more")
    tuned = partial(tune, setup=setup, progress=progress, report=report, pulse=pulse, warn=warn)
    with reserved(target, plan.space, task.name) as folder:
        files = _checkpoints(folder, plan.options.seeds)
        results = []
        for at, file in enumerate(files):
            if len(files) > 1:
                report(f"{task.name}: seed {regime.seed + at}, run {at + 1} of {len(files)}")
            one = replace(regime, seed=regime.seed + at)
            results.append(tuned(plan.base.folder, task, plan.method, one, checkpoint=file))
        best = max(results, key=lambda result: result.record.held_out_score)
        delivery = deliver(target, best, plan.base.id, origin_of(plan))
        for file in files:
            file.unlink(missing_ok=True)
    return replace(delivery, seeds=tuple(map(_as_one_of_several, results))) if len(files) > 1 else delivery


def _checkpoints(folder: Path, runs: int) -> list[Path]:
    """A file for each of several runs, of which those that are done are not made again."""
    return [folder / (f"checkpoint-{at}.pt" if runs > 1 else "checkpoint.pt") for at in range(runs)]


def _as_one_of_several(result: Result) -> SeedScore:
    record = result.record
    return SeedScore(record.regime.seed, record.scores["primary"], record.held_out_score)


def setup_of(plan: TrainPlan, data: TaskData, regime: Regime) -> Setup:
    """What a plan's run starts from and minds.

    Raises
    ------
    FormatError
        When the source does not fit the run.
    """
    options, start = plan.options, {}
    if plan.source is not None:
        start = starting_tensors(plan.base.folder, data, plan.method, regime.init_seed, plan.source)
    if plan.head is not None:
        start |= starting_head(plan.head, data, plan.base.architecture()["hidden_size"])
    balanced = options.class_weights == "balanced"
    return Setup(options.device, options.head, start, options.accumulate, balanced, options.patience, latest=True)


def origin_of(plan: TrainPlan) -> dict[str, Any]:
    """Where the embedding of a plan's run comes from, as its header says it."""
    known = {"by": "tupate-hub train"}
    return known if plan.source is None else {**known, "start_from": plan.options.start_from}


def longest(base: BaseModel) -> int | None:
    """How many tokens a base model reads at most; None where its configuration does not say."""
    known = base.architecture()
    positions = known.get("max_position_embeddings") or known.get("n_positions")
    if not isinstance(positions, int):
        return None
    return positions - 2 if known.get("model_type") in _POSITIONS_FROM_TWO else positions
