"""The verb train, and what every verb that tunes asks of its data and its base model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib import import_module
from logging import ERROR, getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from warnings import filterwarnings

import click

from tupate_hub.cli import output
from tupate_hub.data.kinds import KINDS
from tupate_hub.errors import FormatError, TupateHubError
from tupate_hub.extras import require_extra

if TYPE_CHECKING:
    from tupate_hub.data.dataset import DataOptions, Loaded
    from tupate_hub.embedding import TaskEmbedding
    from tupate_hub.training.options import TrainOptions

F = TypeVar("F", bound=Callable[..., Any])

_LORA_ON = {"attention": ["query", "value"], "ffn": ["intermediate", "output"]}
#: Options that are fields of `TrainOptions` as they are typed.
_AS_THEY_ARE = (
    "method", "start_from", "start_head", "space", "base", "budget", "steps", "epochs", "batch_size", "accumulate",
    "max_length", "learning_rate", "patience", "class_weights", "seed", "seeds", "init_seed", "precision", "device",
    "head", "force",
)  # fmt: skip


def data_options(function: F) -> F:
    """What DATA is and where to compute, the same on both verbs."""
    for option in (
        click.option(
            "--device", type=click.Choice(["cpu", "cuda", "mps"]), default="cpu", show_default=True, help="Where."
        ),
        click.option("--limit", type=click.IntRange(2), help="Take so many of the training examples."),
        click.option("--skip-unlabelled", is_flag=True, help="Leave out rows without a label."),
        click.option("--base", metavar="MODEL", help="The base model's folder, or its id on the Hub."),
        click.option("--task", metavar="NAME", help="The task's name; in a folder of tasks, which one."),
        click.option("--column", "columns", multiple=True, metavar="ROLE=NAME", help="Which column is the text, ..."),
        click.option("--kind", type=click.Choice(KINDS), help="The kind of task, where the data does not tell."),
    ):
        function = option(function)
    return function


@click.command("train")
@click.argument("data")
@data_options
@click.option("--method", help="How to tune. [default: lora, or the method of --start-from]")
@click.option("--start-from", metavar="TASK|PATH",
              help="Start from a task of the registry, an adapter, or the average of several: a+b+c.")  # fmt: skip
@click.option("--start-head", is_flag=True, help="Start from its head too: the labels must be the same.")
@click.option("--space", help="The space of the task to start from.")
@click.option(
    "--head",
    type=click.Choice(["trained", "labels"]),
    default="trained",
    show_default=True,
    help="A head of its own, or classes scored by their encoded names.",
)
@click.option("--lora-on", type=click.Choice(list(_LORA_ON)), help="Where LoRA goes. [default: attention]")
@click.option("--reparametrise", is_flag=True, help="Tune a prefix through a small network.")
@click.option("--set", "sizes", multiple=True, metavar="NAME=VALUE", help="Of the method: r=16.")
@click.option("--budget", metavar="SHARE", help="The method's size as a share of the base model: 0.5%.")
@click.option("--steps", type=click.IntRange(1),
              help="Optimizer steps. [default: 400 of LoRA, 200 of others; 10 passes at most]")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), help="Passes over the data, instead of steps.")
@click.option("--patience", type=click.IntRange(1), metavar="N",
              help="End after N evaluations, of 20, that did not raise the held-out score.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1), help="Examples a step. [default: by kind]")
@click.option("--accumulate", type=click.IntRange(1), default=1, metavar="N",
              help="Put a step's examples through the model in N parts, for less memory.")  # fmt: skip
@click.option("--max-length", type=click.IntRange(8), metavar="TOKENS",
              help="Tokens of a text that are read. [default: 128; 384 of questions on a context]")  # fmt: skip
@click.option("--lr", "learning_rate", type=click.FloatRange(0, min_open=True),
              help="Learning rate; the head's moves with it. [default: by kind and method]")  # fmt: skip
@click.option("--class-weights", type=click.Choice(["none", "balanced"]), default="none", show_default=True,
              help="Let each class weigh the same, for skewed labels.")  # fmt: skip
@click.option("--metric", help="Scores the task and chooses the checkpoint: macro_f1, ... [default: by kind]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the examples' order.")
@click.option("--seeds", type=click.IntRange(1), default=1, metavar="N",
              help="N runs, from --seed on: tells mean and spread, keeps the best.")  # fmt: skip
@click.option("--init-seed", type=int, help="Of the first parameters. [default: the zoo's]")
@click.option("--precision", type=click.Choice(["bfloat16", "float32"]), default="bfloat16", show_default=True,
              help="Of the computation; results are float32.")  # fmt: skip
@click.option("--to", default="tupate-zoo", show_default=True, metavar="DIR",
              help="The registry's folder to add to; it is made if need be.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace a task that the folder's registry has already.")
@click.option("--dry-run", is_flag=True, help="Check data and options, make a few steps, say how long it will take.")
@click.option("--tensorboard", metavar="DIR", help="Write loss and score for TensorBoard, if that is installed.")
@output.registry_option
@output.json_option
def train_command(
    data: str, to: str, registry: str | None, as_json: bool, dry_run: bool, tensorboard: str | None, **options: Any
) -> None:
    """Tune a task of your own and add its embedding to a registry.

    DATA is a CSV, TSV, JSON lines, Parquet, CoNLL or SQuAD file, a folder of tasks (docs/data.md), or a dataset's id
    on the Hub. A run that was killed goes on where it stopped when the same command is given again. --registry is where
    --start-from looks; the embedding, its early checkpoints, the adapter and its head go to --to.

    \b
      tupate-hub train reviews.csv --kind classification
      tupate-hub train reviews.csv --column text=review --column label=stars --start-from sst2
      tupate-hub train ./data --task sst2 --method prefix --budget 0.5%
    """
    require_extra("train")
    if options["start_from"] is None:
        require_base(options["base"], options["method"], options["kind"])
    how = _train_options(options)
    zoo = output.opened(registry)
    loaded = load(data, data_asked(options))  # what is wrong with the data is told before torch is loaded
    require_training()
    from tupate_hub.cli.tuned import Told, print_cost, print_run
    from tupate_hub.collect.add import open_or_start
    from tupate_hub.training.cost import cost_of_plan
    from tupate_hub.training.delivery import name_in
    from tupate_hub.training.tensorboard import events
    from tupate_hub.training.train import plan_training, train

    plan = plan_training(zoo, how, loaded.data.kind)
    if plan.budget is not None:
        output.note(str(plan.budget))
    target = open_or_start(to)
    if plan.source is not None:
        output.note(about_source(options["start_from"], plan.source))
    if dry_run:
        print_cost(cost_of_plan(plan, loaded.data), plan, loaded, as_json)
        return
    meter, told = output.Meter(name_in(target, loaded.data.name), as_json), Told()
    with nullcontext() if tensorboard is None else events(Path(tensorboard)) as writer, output.resumable():

        def pulse(step: int, loss: float, held_out: float | None) -> None:
            meter.pulse(step, loss, held_out)
            if writer is not None:
                writer(step, loss, held_out)

        delivery = train(plan, loaded.data, target, progress=meter.over, report=meter.say, pulse=pulse, warn=told.warn)
    print_run(delivery, loaded, zoo, told, as_json, options["base"])


# --- what is asked ---------------------------------------------------------------------------------------------


def require_base(written: str | None, method: str | None = None, kind: str | None = None) -> None:
    """Refuse in one sentence a base model that is nowhere or cannot be tuned so, before torch is loaded."""
    require_extra("train")
    from tupate_hub.architectures import require_tunable
    from tupate_hub.training.basemodel import find_config

    require_tunable(find_config(written), method, kind)


def require_training() -> None:
    """Refuse in one sentence where the extra is not installed, and keep its libraries quiet where it is."""
    require_extra("train")
    import_module("tupate_hub.training.model")  # loads transformers, which sets its logger up
    filterwarnings("ignore", category=FutureWarning, module=r"torch\.nn\.modules")  # of transformers, about adapters
    for name in ("transformers", "adapters"):
        getLogger(name).setLevel(ERROR)


def data_asked(options: Mapping[str, Any]) -> DataOptions:
    """What `data_options` say about DATA."""
    from tupate_hub.data.dataset import DataOptions

    columns = {}
    for written in options["columns"]:
        role, equals, name = written.partition("=")
        if not (role and equals and name):
            raise TupateHubError(f"{written!r} names no column.", hint="--column text=review")
        columns[role] = name
    task = options["task"]
    return DataOptions(
        kind=options["kind"],
        columns=columns,
        task=task,
        name=task,
        limit=options["limit"],
        metric=options.get("metric"),
        skip_unlabelled=options["skip_unlabelled"],
    )


def load(data: str, options: DataOptions) -> Loaded:
    """The data, with what was guessed about it said on stderr."""
    from tupate_hub.data.dataset import load_data

    loaded = load_data(data, options)
    task = loaded.data
    sizes = f"{len(task.train)} to train on, {len(task.held_out)} held out, {len(task.validation)} to score"
    output.note(f"{task.name}: {task.kind}, {sizes}")
    if loaded.columns:
        output.note("columns: " + ", ".join(f"{role} = {name}" for role, name in loaded.columns.items()))
    for warning in loaded.warnings:
        output.note(warning)
    return loaded


def about_source(written: str, source: TaskEmbedding) -> str:
    """A line about what a run starts from."""
    parts = f"starting from {written}: {source.space.method}, {len(source.blocks)} blocks"
    known = source.facts.get("blend")
    if known is None:
        return parts
    rank = "" if known["rank"] is None else f"; rank {known['rank']} keeps {known['kept']:.0%} of its squared norm"
    return f"{parts}, the average of {len(known['of'])} updates{rank}"


def _train_options(options: Mapping[str, Any]) -> TrainOptions:
    from tupate_hub.training.options import TrainOptions

    settings: dict[str, Any] = {}
    if options["lora_on"]:
        settings["targets"] = _LORA_ON[options["lora_on"]]
    if options["reparametrise"]:
        settings["reparametrise"] = True
    for written in options["sizes"]:
        name, _, value = written.partition("=")
        settings[name] = _setting(name, value)
    return TrainOptions(settings=settings, **{name: options[name] for name in _AS_THEY_ARE})


def _setting(name: str, value: str) -> Any:
    """A setting's value: `r`, `tokens` and `alpha` are numbers, `on` and a `scaling` may be words."""
    words = {"on": ("ffn", "attention"), "scaling": ("learned",)}
    if value in words.get(name, ()):
        return value
    number = {"r": int, "tokens": int, "alpha": float, "scaling": float}.get(name)
    try:
        if number is not None and number(value) > 0:
            return number(value)
    except ValueError:
        pass
    raise FormatError(
        f"{name!r} cannot be set to {value[:40]!r}.", hint="r=16, tokens=8, alpha=32, on=attention, scaling=learned"
    )
