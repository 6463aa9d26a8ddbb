"""Verbs that look: list, show, spaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from tupate_hub.cli import output, sizes


@click.command("list")
@click.option("--space", help="Only the tasks of this space.")
@click.option("--kind", help="Only tasks of this kind: classification, regression, extractive_qa, multiple_choice.")
@output.registry_option
@output.json_option
def list_command(space: str | None, kind: str | None, registry: str | None, as_json: bool) -> None:
    """List the tasks that a registry holds.

    \b
      tupate-hub list --kind extractive_qa
    """
    held = output.opened(registry).registry
    wanted = held.space(space).name if space is not None else None
    entries = [
        entry
        for entry in held.entries
        if (wanted is None or entry.space == wanted) and (kind is None or held.tasks[entry.task].kind == kind)
    ]
    if as_json:
        output.document([{**asdict(entry), "kind": held.tasks[entry.task].kind} for entry in entries])
        return
    columns = ["task", "space", "kind", "train size", "metric", "score", "baseline", "note"]
    rows = zip(held.rows(entries), entries, strict=True)
    cells = [[*{**row, "note": output.some(entry.flags)}.values()] for row, entry in rows]
    output.table(columns, cells, right=("train size", "score", "baseline"))


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
    embedding = zoo.outline(task, space)
    known = zoo.registry.tasks[embedding.task]
    entry = zoo.registry.find(task, space)
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
            ("task", f"{known.name}: {known.title}"),
            ("aliases", output.some(known.aliases)),
            ("kind", known.kind),
            ("dataset", known.dataset),
            ("licence", known.licence),
            ("space", f"{entry.space}: {embedding.space}"),
            ("file", f"{entry.file}, {entry.bytes} bytes"),
            ("sha256", entry.sha256),
            ("parameters", f"{embedding.parameters} in {len(embedding.blocks)} blocks"),
            *([] if size is None else sizes.as_lines(size)),
            ("flags", output.some(entry.flags) or None),
            *_flat(embedding.facts),
        ]
    )


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
