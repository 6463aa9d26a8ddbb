"""Verbs that take adapters in: inspect, add."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tupate_hub.cli import output, sizes
from tupate_hub.errors import TupateHubError

if TYPE_CHECKING:
    from tupate_hub.compare.magnitude import Magnitude
    from tupate_hub.embedding import Adapter, TaskEmbedding
    from tupate_hub.zoo import Zoo

_PATH = click.Path(path_type=Path)


@click.command("inspect")
@click.argument("path")
@click.option("--base", metavar="MODEL", help="The base model, where the file does not name one of the Hub.")
@click.option(
    "--base-weights", type=_PATH, metavar="PATH", help="The base model's folder or safetensors: biases are subtracted."
)
@output.json_option
def inspect_command(path: str, base: str | None, base_weights: Path | None, as_json: bool) -> None:
    """Say what a file or folder of tuned parameters holds.

    PATH may also be a model repository of the Hub: OWNER/NAME, or hf://OWNER/NAME@REVISION.

    \b
      tupate-hub inspect ./my-adapter
      tupate-hub inspect AdapterHub/bert-base-uncased-pf-squad
    """
    from tupate_hub.collect.read_adapter import inspect_path
    from tupate_hub.compare.magnitude import Magnitude

    why, adapter = inspect_path(path, base=base, base_weights=base_weights)
    size = Magnitude.of(adapter.blocks)
    facts = _described(adapter, size)
    if as_json:
        output.document({"path": path, "layout": adapter.layout, "why": why, **facts})
        return
    left_out = [output.counted(count, name) for name, count in adapter.left_out.items()]
    output.lines(
        [
            ("layout", why),
            ("method", adapter.method),
            ("base", adapter.base or "not named: say it with --base MODEL"),
            ("task", adapter.task),
            ("blocks", ", ".join(f"{count} {form}" for form, count in facts["forms"].items())),
            ("ranks", ", ".join(map(str, facts["ranks"])) or None),
            ("parameters", facts["parameters"]),
            *sizes.as_lines(size),
            ("settings", ", ".join(f"{name} {value}" for name, value in adapter.settings.items()) or None),
            ("left out", ", ".join(left_out) or "nothing"),
            *[("note", note) for note in adapter.notes],
            ("first block", adapter.blocks[0].name),
            ("last block", adapter.blocks[-1].name),
        ]
    )


def _described(adapter: Adapter, size: Magnitude) -> dict[str, Any]:
    """The fields of --json."""
    return {
        "method": adapter.method,
        "base": adapter.base,
        "task": adapter.task,
        "forms": dict(Counter(block.form for block in adapter.blocks)),
        "ranks": sorted({len(block.parts["A"]) for block in adapter.blocks if block.form == "lowrank"}),
        "scales": sorted({block.scale for block in adapter.blocks}),
        "parameters": sum(array.size for block in adapter.blocks for array in block.parts.values()),
        **sizes.as_document(size),
        "settings": dict(adapter.settings),
        "left_out": dict(adapter.left_out),
        "notes": list(adapter.notes),
        "blocks": [
            {"name": block.name, "shapes": {part: list(array.shape) for part, array in block.parts.items()}}
            for block in adapter.blocks
        ],
    }


@click.command("add")
@click.argument("path")
@click.option("--task", help="The task's name. [default: what the file says, else its folder's name]")
@click.option("--base", metavar="MODEL", help="The base model, where the file does not name one of the Hub.")
@click.option(
    "--base-weights", type=_PATH, metavar="PATH", help="The base model's safetensors, to subtract its biases."
)
@click.option("--minus", type=_PATH, metavar="PATH", help="PATH is a whole model: add its change from this base model.")
@click.option("--rank", type=click.IntRange(1), help="With --minus: the rank of the update. [default: 16]")
@click.option("--all", "everything", is_flag=True, help="Add every adapter below PATH.")
@click.option("--ray", metavar="ADDRESS", help="With --all: read on the workers of a Ray cluster; local: of one here.")
@click.option("--head", is_flag=True, help="Keep the task's head too, which the adapter has beside it or in it.")
@click.option("--force", is_flag=True, help="Replace a task that the registry has already.")
@output.own_registry_option
@output.json_option
def add_command(
    path: str,
    task: str | None,
    base: str | None,
    base_weights: Path | None,
    minus: Path | None,
    rank: int | None,
    everything: bool,
    ray: str | None,
    head: bool,
    force: bool,
    registry: str | None,
    as_json: bool,
) -> None:
    """Read tuned parameters into a registry of your own.

    PATH may also be a model repository of the Hub: OWNER/NAME, or hf://OWNER/NAME@REVISION. The registry's folder is
    made if it is not there. With --all, everything below PATH that looks like an adapter is read, and a line says what
    became of each.

    \b
      tupate-hub add ./my-lora --task reviews --registry ./my-zoo
      tupate-hub add --all ./downloads --registry ./my-zoo
      tupate-hub add ./finetuned --minus ./base --base bert-base-uncased --registry ./my-zoo
    """
    from tupate_hub.collect.add import add, open_or_start
    from tupate_hub.zoo import ENVIRONMENT

    place = registry or os.environ.get(ENVIRONMENT)
    if not place:
        raise TupateHubError(
            "The bundled zoo takes no additions.",
            hint=f"{output.command('add', path, '--registry', 'DIR')} (it is made if need be)",
        )
    _require_together(task, minus, rank, everything, ray, head)
    zoo = open_or_start(place)
    if everything:
        _add_all(zoo, Path(path), base, base_weights, force, ray, as_json)
        return
    before = zoo.registry
    if minus is not None:
        zoo, embedding = _add_finetuned(zoo, Path(path), minus, base, task, rank, force)
    else:
        zoo, embedding = add(zoo, path, base=base, task=task, base_weights=base_weights, force=force, head=head)
    space = next(entry.name for entry in zoo.registry.spaces.values() if entry.space == embedding.space)
    if as_json:
        kept = {"kept": embedding.facts["settings"]["kept"]} if minus is not None else {}
        output.document({"task": embedding.task, "space": space, "blocks": len(embedding.blocks), **kept})
        return
    done = "is there already, in" if zoo.registry == before else "added to"
    output.note(f"{embedding.task} {done} {zoo.root}, space {space}, {len(embedding.blocks)} blocks")
    for note in embedding.facts["source"]["notes"] if minus is not None else ():
        output.note(f"  {note}")
    output.note(f"  {output.command('similar', embedding.task, '--space', space, '--registry', zoo.root)}")


def _require_together(
    task: str | None, minus: Path | None, rank: int | None, everything: bool, ray: str | None, head: bool
) -> None:
    """Refuse options of `add` of which one leaves nothing for another to do."""
    if everything and (task is not None or minus is not None):
        other = "--task names one adapter" if task is not None else "--minus reads one model"
        raise TupateHubError(f"{other}, --all takes many.", hint="leave one of them out")
    if head and (everything or minus is not None):
        raise TupateHubError("--head is that of one adapter.", hint="leave it out, or add adapters one by one")
    if rank is not None and minus is None:
        raise TupateHubError("--rank is that of a whole model's change.", hint="name its base model: --minus PATH")
    if ray is not None and not everything:
        raise TupateHubError("--ray is for many adapters.", hint="add --all")


def _add_finetuned(
    zoo: Zoo, model: Path, minus: Path, base: str | None, task: str | None, rank: int | None, force: bool
) -> tuple[Zoo, TaskEmbedding]:
    from tupate_hub.collect.finetuned import put_finetuned
    from tupate_hub.readers.finetuned import RANK, open_finetuned

    pair = open_finetuned(model, minus)
    with output.progress(pair.names, "subtract", len(pair.names)) as bar:
        return put_finetuned(zoo, pair, bar, base=base, task=task, rank=rank or RANK, force=force)


def _add_all(
    zoo: Zoo, folder: Path, base: str | None, base_weights: Path | None, force: bool, ray: str | None, as_json: bool
) -> None:
    from tupate_hub.cli.hints import for_verb
    from tupate_hub.collect.add_all import add_all
    from tupate_hub.collect.among import adapters_below, unique_names

    paths = adapters_below(folder)
    names = unique_names(paths, folder)
    with output.progress(paths, "add", len(paths)) as bar:
        zoo, became = add_all(zoo, bar, names, base=base, base_weights=base_weights, force=force, ray=ray)
    taken = [
        {"path": str(path), "what": what, "task": name, "space": space}
        for what, found in (("added", became.added), ("already there", became.kept))
        for path, name, space in found
    ]
    refused = [
        {"path": str(one.path), "reason": one.reason, "hint": for_verb(one.hint, "add")} for one in became.rejected
    ]
    if as_json:
        counts = {"added": len(became.added), "kept": len(became.kept)}
        output.document({**counts, "refused": refused, "adapters": sorted(taken, key=lambda row: row["path"])})
        return
    rows: list[list[output.Cell]] = [[row["path"], row["what"], row["task"], row["space"], ""] for row in taken]
    rows += [[row["path"], "refused", None, None, f"{row['reason']} ({row['hint']})"] for row in refused]
    output.table(
        ["adapter", "what", "task", "space", "reason"],
        [[os.path.relpath(str(row[0]), folder), *row[1:]] for row in sorted(rows, key=lambda row: str(row[0]))],
    )
    kept = f", {len(became.kept)} already there" if became.kept else ""
    output.note(f"{len(became.added)} added to {zoo.root}{kept}, {len(became.rejected)} refused")
