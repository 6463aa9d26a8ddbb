"""Separated values: rows of cells below a header line, with commas, semicolons, tabs or bars between them."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from tupate_hub.data.draw import Draw
from tupate_hub.data.faults import Fault, shown
from tupate_hub.data.table import Row, Table, table_of
from tupate_hub.data.textlines import opened
from tupate_hub.errors import FormatError

_LONGEST_CELL = 100_000_000
_DELIMITERS = ",;\t|"


def read_csv(path: Path, most: int) -> Table:
    """A table whose header tells what separates its cells."""
    return _cells(path, None, csv.QUOTE_MINIMAL, most)


def read_tsv(path: Path, most: int) -> Table:
    """Many tab-separated files have quotation marks that quote nothing."""
    table = _cells(path, "\t", csv.QUOTE_MINIMAL, most)
    if any(fault.error for fault in table.faults):
        table = min(table, _cells(path, "\t", csv.QUOTE_NONE, most), key=_rows_lost)
    return table


def _rows_lost(table: Table) -> int:
    return sum(len(fault.numbers) for fault in table.faults)


def _cells(path: Path, delimiter: str | None, quoting: Any, most: int) -> Table:
    """Rows of separated values below a header line."""
    name = path.name
    header: tuple[str, ...] = ()
    drawn: Draw[tuple[int, list[str]]] = Draw(most)
    faults: list[Fault] = []
    wrong: defaultdict[int, list[int]] = defaultdict(list)
    with opened(path) as text:
        lines = iter(text)
        before = []  # the header, and what is blank above it
        for line in lines:
            before.append(line)
            if line.strip():
                break
        mark = delimiter or max(_DELIMITERS, key=re.sub(r'"[^"]*"', "", "".join(before).strip()).count)
        for number, cells in _numbered(chain(before, lines), mark, quoting):
            if isinstance(cells, csv.Error):
                faults.append(Fault(f"cannot be read from here on ({cells})", name, "line", (number,)))
            elif not header:
                header = _header(name, cells)
            elif len(cells) == len(header):
                drawn.add((number, cells))
            else:
                wrong[len(cells)].append(number)
        faults[:0] = text.faults
    faults += [
        Fault(f"has {count} cells where the header has {len(header)}", name, "line", tuple(at))
        for count, at in sorted(wrong.items())
    ]
    return table_of(name, "line", header, _named(drawn, header), faults)


def _named(drawn: Draw[tuple[int, list[str]]], header: Sequence[str]) -> Draw[tuple[int, Row]]:
    return drawn.map(lambda pair: (pair[0], dict(zip(header, pair[1], strict=True))))


def _numbered(lines: Iterable[str], delimiter: str, quoting: Any) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Each row that is not blank, by the line on which it begins; last the error that ended the reading, if any."""
    limit = csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    try:
        while True:
            number = reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return
            if cells:
                yield number, cells
    except csv.Error as error:
        yield number, error
    finally:
        csv.field_size_limit(limit)


def _header(name: str, cells: Sequence[str]) -> tuple[str, ...]:
    header = tuple(cell.strip() for cell in cells)
    twice = sorted({cell for cell in header if header.count(cell) > 1})
    if twice:
        raise FormatError(
            f"{name} has two columns of the name {shown(twice[0])}.",
            hint="give each column a name of its own in the first line",
        )
    return header
