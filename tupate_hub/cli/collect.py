"""Verbs that take adapters in: inspect, add."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tupate_hub.cli import output
from tupate_hub.errors import TupateHubError

if TYPE_CHECKING:
    from tupate_hub.embedding import TaskEmbedding
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
    from tupate_hub.collect.read_adapter import find_adapter, legacy_reader
    from tupate_hub.readers import load_adapter

    found_at = find_adapter(path)
    place = found_at if isinstance(found_at, Path) else found_at.folder
    loaded = load_adapter(place, base=base, base_weights=base_weights, legacy=legacy_reader())
    detection, adapter = loaded.detection, loaded.adapter
    forms = Counter(block.form for block in adapter.blocks)
    ranks = sorted({len(block.parts["A"]) for block in adapter.blocks if block.form == "lowrank"})
    facts = {
        "path": path,
        "layout": detection.layout,
        "why": detection.why,
        "method": adapter.method,
        "base": adapter.base,
        "task": adapter.task,
        "forms": dict(forms),
        "ranks": ranks,
        "scales": sorted({block.scale for block in adapter.blocks}),
        "parameters": sum(array.size for block in adapter.blocks for array in block.parts.values()),
        "settings": dict(adapter.settings),
        "left_out": dict(adapter.left_out),
        "notes": list(adapter.notes),
        "blocks": [
            {"name": block.name, "shapes": {part: list(array.shape) for part, array in block.parts.items()}}
            for block in adapter.blocks
        ],
    }
    if as_json:
        output.document(facts)
        return
    output.lines(
        [
            ("layout", detection.why),
            ("method", adapter.method),
            ("base", adapter.base or "not named: say it with --base MODEL"),
            ("blocks", ", ".join(f"{count} {form}" for form, count in forms.items())),
            ("ranks", ", ".join(map(str, ranks)) or None),
            ("parameters", sum(array.size for block in adapter.blocks for array in block.parts.values())),
            ("settings", ", ".join(f"{name} {value}" for name, value in adapter.settings.items())),
            ("left out", ", ".join(f"{count} {name}" for name, count in adapter.left_out.items()) or "nothing"),
            *[("note", note) for note in adapter.notes],
            ("first block", adapter.blocks[0].name),
            ("last block", adapter.blocks[-1].name),
        ]
    )


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
@click.option("--force", is_flag=True, help="Replace a task that the registry has already.")
@output.registry_option
@output.json_option
def add_command(
    path: str,
    task: str | None,
    base: str | None,
    base_weights: Path | None,
    minus: Path | None,
    rank: int | None,
    everything: bool,
    force: bool,
    registry: str | None,
    as_json: bool,
) -> None:
    """Read tuned parameters into a registry of your own.

    PATH may also be a model repository of the Hub: OWNER/NAME, or hf://OWNER/NAME@REVISION. The registry's folder is
    made if it is not there. With --all, everything below PATH that looks like an adapter is read, and what is refused
    is listed with the reason.

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
    zoo = open_or_start(place)
    if minus is not None and everything:
        raise TupateHubError("--minus reads one model, --all takes many adapters.", hint="leave one of them out")
    if rank is not None and minus is None:
        raise TupateHubError("--rank is that of a whole model's change.", hint="name its base model: --minus PATH")
    if everything:
        if task is not None:
            raise TupateHubError("--task names one adapter, --all takes many.", hint="leave one of them out")
        _add_all(zoo, Path(path), base, base_weights, force, as_json)
        return
    if minus is not None:
        zoo, embedding = _add_finetuned(zoo, Path(path), minus, base, task, rank, force)
    else:
        zoo, embedding = add(zoo, path, base=base, task=task, base_weights=base_weights, force=force)
    space = next(entry.name for entry in zoo.registry.spaces.values() if entry.space == embedding.space)
    if as_json:
        kept = {"kept": embedding.facts["settings"]["kept"]} if minus is not None else {}
        output.document({"task": embedding.task, "space": space, "blocks": len(embedding.blocks), **kept})
        return
    output.note(f"{embedding.task} added to {zoo.root}, space {space}, {len(embedding.blocks)} blocks")
    for note in embedding.facts["source"]["notes"] if minus is not None else ():
        output.note(f"  {note}")
    output.note(f"  {output.command('similar', embedding.task, '--space', space, '--registry', zoo.root)}")


def _add_finetuned(
    zoo: Zoo, model: Path, minus: Path, base: str | None, task: str | None, rank: int | None, force: bool
) -> tuple[Zoo, TaskEmbedding]:
    from tupate_hub.collect.finetuned import put_finetuned
    from tupate_hub.readers.finetuned import RANK, open_finetuned

    pair = open_finetuned(model, minus)
    with output.progress(pair.names, "subtract", len(pair.names)) as bar:
        return put_finetuned(zoo, pair, bar, base=base, task=task, rank=rank or RANK, force=force)


def _add_all(zoo: Zoo, folder: Path, base: str | None, base_weights: Path | None, force: bool, as_json: bool) -> None:
    from tupate_hub.cli.hints import for_verb
    from tupate_hub.collect.add import add_all
    from tupate_hub.readers import find_adapters

    paths = find_adapters(folder)
    if not paths:
        raise TupateHubError(f"There is no adapter below {folder}.", hint="tupate-hub inspect PATH")
    names = _names(folder, paths)
    with output.progress(paths, "add", len(paths)) as bar:
        zoo, refused = add_all(zoo, bar, names, base=base, base_weights=base_weights, force=force)
    added = len(paths) - len(refused)
    if as_json:
        rows = [
            {"path": str(rejected.path), "reason": rejected.reason, "hint": for_verb(rejected.hint, "add")}
            for rejected in refused
        ]
        output.document({"added": added, "refused": rows})
        return
    output.table(
        ["refused", "reason"], [[str(rejected.path.relative_to(folder)), rejected.reason] for rejected in refused]
    )
    output.note(f"{added} added to {zoo.root}, {len(refused)} refused")


def _names(folder: Path, paths: list[Path]) -> list[str]:
    """A name for each path: its last part where that is unique, else its whole way below the folder."""
    last = [path.stem if path.is_file() else path.name for path in paths]
    count = Counter(last)
    whole = ["__".join(path.relative_to(folder).parts) or path.resolve().name for path in paths]
    return [name if count[name] == 1 else way for name, way in zip(last, whole, strict=True)]
