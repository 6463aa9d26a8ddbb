"""The verb map: the neighbourhood of a task as points of a plane, in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tupate_hub.cli import output
from tupate_hub.cli.columns import display_width, shortened, width
from tupate_hub.cli.rank import view_options
from tupate_hub.errors import TupateHubError

if TYPE_CHECKING:
    from tupate_hub.publish.neighbourhood import Spot

_MOST_NAME = 24


@click.command("map")
@click.argument("query")
@click.option(
    "-k", "--top", "k", type=click.IntRange(2, 200), default=20, show_default=True, help="How many neighbours."
)
@click.option("--width", "columns", type=click.IntRange(40, 400), help="Columns. [default: the terminal's]")
@click.option("--height", "lines", type=click.IntRange(10, 200), default=24, show_default=True, help="Lines.")
@view_options
@output.registry_option
@output.json_option
def map_command(
    query: str,
    k: int,
    columns: int | None,
    lines: int,
    space: str | None,
    similarity: str,
    balance: bool,
    blocks: str | None,
    base: str | None,
    registry: str | None,
    as_json: bool,
) -> None:
    """Draw a task and its neighbours, near where they are similar.

    QUERY is a task or the path of an adapter, as for `similar`.

    \b
      tupate-hub map squad
    """
    from tupate_hub.compare.view import View
    from tupate_hub.publish.neighbourhood import neighbourhood

    view = View(similarity, balance=balance, blocks=blocks)
    spots, share = neighbourhood(output.opened(registry), query, k, space=space, view=view, base=base)
    if len(spots) < 3:
        raise TupateHubError("There are too few tasks here for a map.", hint=output.command("similar", query))
    if as_json:
        points = [{"task": one.name, "x": one.x, "y": one.y, "score": one.score, "kind": one.kind} for one in spots]
        output.document({"query": spots[0].name, "share": share, "points": points})
        return
    picture, unnamed = drawn(spots, columns or width(), lines)
    for line in picture:
        output.text(line)
    output.note(f"◉ {spots[0].name}; the plane shows {share:.0%} of the squared distances between these tasks")
    if unnamed:
        output.note(f"no room for the names of {output.some(unnamed)}")


def drawn(spots: Sequence[Spot], columns: int, lines: int) -> tuple[list[str], list[str]]:
    """Lines of text with a mark for each spot and its name beside it, and the names that there is no room for."""
    canvas = [[" "] * columns for _ in range(lines)]
    low_x, high_x = min(one.x for one in spots), max(one.x for one in spots)
    low_y, high_y = min(one.y for one in spots), max(one.y for one in spots)
    across, down = (high_x - low_x) or 1.0, (high_y - low_y) or 1.0
    room = min(_MOST_NAME, columns // 4)
    places = [
        (round((lines - 1) * (high_y - one.y) / down), round((columns - room - 2) * (one.x - low_x) / across))
        for one in spots
    ]
    for number, (line, column) in enumerate(places):
        if canvas[line][column] != "◉":
            canvas[line][column] = "●" if number else "◉"
    unnamed = []
    for one, (line, column) in zip(spots, places, strict=True):
        name = shortened(output.printable(one.name), room)
        size = display_width(name)
        beside = [(line, column + 2), (line, column - 1 - size)]
        near = [(line + step, column - size // 2) for step in (1, -1) if 0 <= line + step < lines]
        for row, start in (*beside, *near):
            cells = canvas[row][max(0, start - 1) : start + size + 1]
            if start >= 0 and start + size <= columns and all(cell == " " for cell in cells):
                canvas[row][start : start + size] = [*name, *[""] * (size - len(name))]
                break
        else:
            unnamed.append(one.name)
    return ["".join(row).rstrip() for row in canvas], unnamed
