"""CSV rows: tables that grow by whole rows, while other processes add to them as well."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from tupate_hub.errors import FormatError
from tupate_hub.storage.atomic import alone, told_in_one_sentence

T = TypeVar("T")


def read_cells(path: Path, columns: Sequence[str], what: str, make: Callable[[dict[str, str]], T]) -> list[T]:
    """What `make` makes of each row of a table of those columns; nothing where there is no file yet.

    Raises
    ------
    FormatError
        When the file is no table of `what`, or a row is cut or malformed: `make` raises TypeError or ValueError.
    """
    if not path.exists():
        return []
    with told_in_one_sentence(path), path.open(newline="", encoding="utf-8", errors="replace") as stream:
        reader = csv.DictReader(stream)
        if list(reader.fieldnames or columns) != list(columns):
            raise FormatError(f"{path} is not a table of {what}.", hint="name a new file")
        try:
            return [make(cells) for cells in reader]
        except (TypeError, ValueError) as error:
            raise FormatError(
                f"{path} has a row that is cut or malformed: {error}.", hint="take the row out"
            ) from error


def append_cells(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Add rows, behind a first line of the columns' names in a new file; they are on the disk when this returns.

    Raises
    ------
    TupateHubError, WorkFailed
        When the file cannot be written, in one sentence.
    """
    with alone(path.parent), told_in_one_sentence(path), path.open("a", newline="", encoding="utf-8") as stream:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if stream.tell() == 0:
            writer.writerow(columns)
        writer.writerows(rows)
        stream.write(text.getvalue())
        stream.flush()
        os.fsync(stream.fileno())
