"""The verb index."""

from __future__ import annotations

import click

from tupate_hub.cli import output


@click.command("index")
@click.option("--space", help="Only this space. [default: all of them]")
@output.registry_option
@output.json_option
def index_command(space: str | None, registry: str | None, as_json: bool) -> None:
    """Make the files by which the neighbours of a large registry are found.

    From 2,000 embeddings of a space on, similar finds its neighbours by sketches of 2 KB an embedding, and compares the
    best of them exactly. What adds to a registry keeps these files up to date; this makes them where they are missing.

    \b
      tupate-hub index --registry ./my-zoo
    """
    from tupate_hub.collect.nearest import LEAST, keep_nearest

    zoo = output.opened(registry)
    spaces = [zoo.registry.space(space).name] if space is not None else list(zoo.registry.spaces)
    zoo = keep_nearest(zoo, spaces)
    rows = [
        {"space": name, "similarity": similarity, "embeddings": place["tasks"], "bytes": place["bytes"]}
        for name in spaces
        for similarity, place in zoo.registry.space(name).nearest.items()
    ]
    if as_json:
        output.document(rows)
        return
    if rows:
        output.table(list(rows[0]), [list(row.values()) for row in rows], right=("embeddings", "bytes"))
    small = len(spaces) - len({row["space"] for row in rows})
    if small:
        output.note(f"{small} spaces of fewer than {LEAST:,} embeddings need none")
