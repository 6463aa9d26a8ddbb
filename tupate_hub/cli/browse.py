"""Verbs that look: list, show, spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from tupate_hub.cli import output, sizes
from tupate_hub.errors import TupateHubError

if TYPE_CHECKING:
    from tupate_hub.registry import Entry, Registry, Task


@click.command("list")
@click.option("--space", help="Only the tasks of this space.")
@click.option("--kind", help="Only tasks of this kind: classification, regression, extractive_qa, multiple_choice.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many. [default: all of them]")
@click.option("--page", type=click.IntRange(1), default=1, help="With --limit: the first N, the next N, ...")
@output.registry_option
@output.json_option
def list_command(
    space: str | None, kind: str | None, limit: int | None, page: int, registry: str | None, as_json: bool
) -> None:
    """List the tasks that a registry holds.

    \b
      tupate-hub list --kind extractive_qa
      tupate-hub list --limit 50 --page 2
    """
    if limit is None and page > 1:
        raise TupateHubError("--page turns pages, which have a length.", hint="add --limit N")
    held = output.opened(registry).registry
    entries, more = _page(held, space, kind, limit, page)
    if as_json:
        output.document([{**asdict(entry), "kind": held.tasks[entry.task].kind} for entry in entries])
        return
    columns = ["task", "space", "kind", "train size", "metric", "score", "baseline", "note"]
    rows = zip(held.rows(entries), entries, strict=True)
    cells = [[*{**row, "note": output.some(entry.flags)}.values()] for row, entry in rows]
    output.table(columns, cells, right=("train size", "score", "baseline"))
    if more:
        output.note(f"there are more: --limit {limit} --page {page + 1}")


def _page(
    held: Registry, space: str | None, kind: str | None, limit: int | None, page: int
) -> tuple[Sequence[Entry], bool]:
    """The embeddings that are asked for, and whether there are more behind them."""
    listed = held.entries if space is None else held.in_space(held.space(space).name)
    start, stop = (0, None) if limit is None else ((page - 1) * limit, page * limit)
    if kind is None:
        return listed[start:stop], stop is not None and stop < len(listed)
    of_kind = (entry for entry in listed if held.tasks[entry.task].kind == kind)
    found = list(islice(of_kind, start, stop))
    return found, next(of_kind, None) is not None


@click.command("show")
@click.argument("task")
@click.option("--space", help="The space of the embedding.")
@output.registry_option
@output.json_option
def show_command(task: str, space: str | None, registry: str | None, as_json: bool) -> None:
    """Show everything that is known of one embedding.

    \b
      tupate-hub show sst2
    """
    from tupate_hub.compare.magnitude import Magnitude

    zoo = output.opened(registry)
    entry = zoo.registry.find(task, space)
    known = zoo.registry.tasks[entry.task]
    if not entry.has_file:
        _show_facts(zoo.registry, known, entry, as_json)
        return
    embedding = zoo.outline(task, space)
    size = Magnitude.of(embedding.blocks) if zoo.remote is None else None  # of one on the Hub the header is enough
    blocks = [
        {
            "name": block.name,
            "form": block.form,
            "scale": block.scale,
            "shapes": {part: list(array.shape) for part, array in block.parts.items()},
        }
        for block in embedding.blocks
    ]
    if as_json:
        output.document(
            {
                "task": asdict(known),
                "entry": asdict(entry),
                "facts": dict(embedding.facts),
                "parameters": embedding.parameters,
                **({} if size is None else sizes.as_document(size)),
                "blocks": blocks,
            }
        )
        return
    output.lines(
        [
            *_known(zoo.registry, known, entry),
            ("file", f"{entry.file}, {entry.bytes} bytes"),
            ("sha256", entry.sha256),
            ("parameters", f"{embedding.parameters} in {len(embedding.blocks)} blocks"),
            *([] if size is None else sizes.as_lines(size)),
            ("flags", output.some(entry.flags) or None),
            *_flat(embedding.facts),
        ]
    )


def _known(registry: Registry, task: Task, entry: Entry) -> list[tuple[str, output.Cell]]:
    """What is known of an embedding without its numbers."""
    return [
        ("task", f"{task.name}: {task.title}"),
        ("aliases", output.some(task.aliases)),
        ("kind", task.kind),
        ("dataset", task.dataset),
        ("licence", task.licence),
        ("space", f"{entry.space}: {registry.spaces[entry.space].space}"),
    ]


def _show_facts(registry: Registry, task: Task, entry: Entry, as_json: bool) -> None:
    """Show an embedding whose numbers the registry does not keep."""
    if as_json:
        about = {"task": asdict(task), "entry": asdict(entry)}
        output.document({**about, "facts": {}, "parameters": None, "blocks": []})
        return
    kept: list[tuple[str, output.Cell]] = [
        ("kept", f"its {entry.kept} alone"),
        ("sha256", entry.sha256 or None),
        ("flags", output.some(entry.flags) or None),
    ]
    output.lines([*_known(registry, task, entry), *kept, *_flat({"source": entry.source, "scores": entry.scores})])


@click.command("spaces")
@output.registry_option
@output.json_option
def spaces_command(registry: str | None, as_json: bool) -> None:
    """List the spaces: base model and method.

    \b
      tupate-hub spaces
    """
    held = output.opened(registry).registry
    rows = [
        {
            "space": space.name,
            "base": space.base,
            "method": space.method,
            "embeddings": len(held.in_space(space.name)),
            "default": space.name == held.default_space,
        }
        for space in held.spaces.values()
    ]
    if as_json:
        output.document(rows)
        return
    cells: list[list[output.Cell]] = [
        [
            space.name,
            space.base,
            space.method,
            len(held.in_space(space.name)),
            "default" if space.name == held.default_space else "",
        ]
        for space in held.spaces.values()
    ]
    output.table(["space", "base", "method", "embeddings", "note"], cells, right=("embeddings",))


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, output.Cell]]:
    """Nested facts as dotted names and values."""
    pairs: list[tuple[str, output.Cell]] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            pairs += _flat(value, f"{prefix}{name}.")
        else:
            shown = output.some(value) if isinstance(value, list) else value
            pairs.append((prefix + name, str(shown) if isinstance(shown, float) else shown))
    return pairs
