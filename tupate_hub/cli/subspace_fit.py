"""The verb subspace fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tupate_hub.cli import output
from tupate_hub.cli.tune import require_training
from tupate_hub.errors import TargetExists, TupateHubError

if TYPE_CHECKING:
    from tupate_hub.embedding import TaskEmbedding
    from tupate_hub.subspace.split import Split
    from tupate_hub.subspace.subspace import Subspace
    from tupate_hub.zoo import Zoo


@click.command("fit")
@click.option("--space", help="The space of the embeddings; see `tupate-hub spaces`.")
@click.option("--tasks", default="all", show_default=True, metavar="SPLIT",
              help="Names with commas between them, or a JSON file with the lists `seen` and `unseen`.")  # fmt: skip
@click.option("--dim", type=click.IntRange(1), default=5, show_default=True, help="How many coordinates.")
@click.option("--loss", type=click.Choice(["task", "reconstruction"]), default="task", show_default=True,
              help="task: through the base model too; reconstruction: the embeddings alone, no torch.")  # fmt: skip
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="DIR", help="The tasks' data folder, for the task loss."
)
@click.option("--base", metavar="MODEL", help="The base model's folder, or its id on the Hub.")
@click.option("--hidden", type=click.IntRange(1), default=128, show_default=True, help="Width of the decoder.")
@click.option("--steps", type=click.IntRange(1), default=150, show_default=True, help="Optimizer steps.")
@click.option("--lr", "learning_rate", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True,
              help="Learning rate of the decoder; the encoder's is a hundredth of it.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of the examples' order and the first maps.")
@click.option("--device", type=click.Choice(["cpu", "cuda", "mps"]), default="cpu", show_default=True, help="Where.")
@click.option("--to", default="tupate-zoo", show_default=True, metavar="DIR",
              help="The registry's folder to add to; it is made if need be.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace a subspace that the folder's registry has already.")
@output.registry_option
@output.json_option
def fit_command(
    space: str | None, tasks: str, dim: int, loss: str, to: str, force: bool, registry: str | None, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Find the subspace of the tasks of a space.

    With --loss task the tasks' own losses, through the frozen base model, are added to 200 times the reconstruction's
    (MSF); a run that was killed goes on when the same command is given again. --loss reconstruction gives principal
    components, at once.

    \b
      tupate-hub subspace fit --space prompt --dim 5 --data ./data
      tupate-hub subspace fit --space lora --dim 10 --loss reconstruction
    """
    from tupate_hub.collect.add import open_or_start
    from tupate_hub.collect.keep import keep_subspace
    from tupate_hub.subspace.split import read_split
    from tupate_hub.subspace.subspace import principal

    zoo, target = output.opened(registry), open_or_start(to)
    entry = zoo.registry.space(space)
    split = read_split(tasks, zoo.registry, entry.name)
    name = f"subspace-{dim}{'-' + split.name if split.name else ''}"
    taken = [held for held in target.registry.spaces.values() if held.space == entry.space and name in held.subspaces]
    if taken and not force:
        raise TargetExists(f"{to} has a subspace {name!r} of {entry.name!r} already.", hint="replace it: `force=True`")
    digests = {one.task: one.sha256 for one in zoo.registry.in_space(entry.name)}
    facts = {
        "split": split.name,
        "unseen": list(split.unseen),
        "sources": {task: digests[task] for task in split.seen},
        "seed": options["seed"],
    }
    embeddings = [zoo.embedding(task, entry.name) for task in split.seen]
    if loss == "reconstruction":
        subspace = principal(embeddings, dim, facts)
        checkpoint = None
    else:
        checkpoint = target.folder / "runs" / entry.name / name / "checkpoint.pt"
        subspace = _with_task_loss(zoo, embeddings, split, facts, dim, checkpoint, as_json, options)
    target, file = keep_subspace(target, subspace, force=force)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    _show(subspace, target, file, as_json)


def _with_task_loss(
    zoo: Zoo,
    embeddings: list[TaskEmbedding],
    split: Split,
    facts: dict[str, Any],
    dim: int,
    checkpoint: Path,
    as_json: bool,
    options: dict[str, Any],
) -> Subspace:
    """MSF, with progress on stderr."""
    if options["data"] is None:
        raise TupateHubError(
            "The task loss needs the tasks' examples.", hint="`data=DIR` (docs/data.md), or `loss='reconstruction'`"
        )
    require_training()
    from tupate_hub.training.basemodel import find_base
    from tupate_hub.training.subspace.find import FitOptions, few_shots, find_subspace

    data = few_shots(options["data"], split.seen)
    base = find_base(options["base"] or embeddings[0].space.base, zoo.registry.spaces.values())
    meter = output.Meter("subspace", as_json)
    chosen = {name: options[name] for name in ("hidden", "steps", "learning_rate", "seed", "device")}
    return find_subspace(
        base, embeddings, data, FitOptions(dim, **chosen), facts,
        checkpoint=checkpoint, progress=meter.over, say=meter.say,
    )  # fmt: skip


def _show(subspace: Subspace, target: Zoo, file: str, as_json: bool) -> None:
    path = target.folder / file
    final = subspace.facts.get("final", {})
    if as_json:
        output.document(
            {
                "space": str(subspace.space),
                "subspace": subspace.name,
                "dim": subspace.dim,
                "tasks": list(subspace.tasks),
                "losses": list(subspace.losses),
                "final": final,
                "bytes": path.stat().st_size,
                "file": str(path),
            }
        )
        return
    output.lines(
        [
            ("space", str(subspace.space)),
            ("subspace", f"{subspace.name}, {subspace.dim} coordinates over {len(subspace.tasks)} tasks"),
            ("losses", ", ".join(subspace.losses)),
            *((name.replace("_", " "), value) for name, value in final.items()),
            ("file", f"{path}, {path.stat().st_size} bytes"),
        ]
    )
    output.note(f"  tupate-hub subspace encode TASK --subspace {path}")
    output.note(f"  tupate-hub subspace tune DATA --subspace {path}")
