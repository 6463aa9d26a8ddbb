"""The verb duplicates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tupate_hub.cli import output

if TYPE_CHECKING:
    from tupate_hub.registry import Entry


@click.command("duplicates")
@click.option("--space", help="Only this space. [default: all of them]")
@click.option("--above", type=float, default=0.9, show_default=True, help="The least score of a pair.")
@output.registry_option
@output.json_option
def duplicates_command(space: str | None, above: float, registry: str | None, as_json: bool) -> None:
    """Find embeddings that are near-duplicates of one another.

    Two runs of one task do not score so high by chance: such a pair is one run saved twice, its checkpoints, or a copy.

    \b
      tupate-hub duplicates --registry ./my-zoo
    """
    from tupate_hub.search.duplicates import find_duplicates

    zoo = output.opened(registry)
    spaces = [zoo.registry.space(space).name] if space is not None else list(zoo.registry.spaces)
    rows = []
    for name in spaces:
        total = len(zoo.registry.in_space(name))

        def watched(entries: Iterator[Entry], name: str = name, total: int = total) -> Iterator[Entry]:
            with output.progress(entries, name, total) as bar:
                yield from bar

        rows += [{"space": name, **asdict(pair)} for pair in find_duplicates(zoo, name, above, watched)]
    if as_json:
        output.document(rows)
        return
    if rows:
        cells = [[row["space"], row["first"], row["second"], row["score"], _note(row)] for row in rows]
        output.table(["space", "first", "second", "score", "note"], cells, right=("score",))
    output.note(f"{len(rows)} pairs score {above:g} or more")


def _note(row: dict[str, Any]) -> str:
    return ", ".join(["same file"] * row["same_file"] + ["by sketches"] * (not row["exact"]))
