"""Table: the rows of a file as they stand there, with the numbers by which an editor shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tupate_hub.data.draw import Draw
from tupate_hub.data.faults import Fault

Row = Mapping[str, Any]

#: So many rows of a file or split are read, drawn by chance, unless more are asked for: more than a usual run can use.
MOST_ROWS = 100_000


@dataclass(frozen=True)
class Table:
    """Rows of one file or split.

    `where` is how messages name it; `numbers` are the rows' lines in the file (`unit` "line") or places in the table
    ("row"). `label_names` has the names that the source itself declares for whole numbers, by column. `faults` are the
    rows that could not be read. `drawn_from` is how many rows there are, where these were drawn from more.
    """

    where: str
    unit: str
    columns: tuple[str, ...]
    rows: Sequence[Row]
    numbers: Sequence[int]
    label_names: Mapping[str, tuple[str, ...]]
    faults: tuple[Fault, ...] = ()
    drawn_from: int | None = None


def table_of(
    where: str,
    unit: str,
    columns: tuple[str, ...],
    drawn: Draw[tuple[int, Row]],
    faults: Sequence[Fault] = (),
    label_names: Mapping[str, tuple[str, ...]] | None = None,
) -> Table:
    """The table of the numbered rows that were drawn, with a warning where there were more."""
    kept = drawn.kept()
    more = drawn.seen if drawn.seen > len(kept) else None
    told = tuple(faults) if more is None else (*faults, drawn_fault(where, len(kept), more))
    rows, numbers = [row for _, row in kept], [number for number, _ in kept]
    return Table(where, unit, columns, rows, numbers, label_names or {}, told, more)


def drawn_fault(where: str, kept: int, seen: int) -> Fault:
    """The warning about rows that are not read."""
    return Fault(f"{kept:,} of its {seen:,} rows are used, drawn by chance and always the same", where, error=False)
