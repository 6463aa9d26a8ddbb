"""CSV rows: tables that grow by whole rows, while other processes add to them as well."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tupate_hub.storage.atomic import alone, told_in_one_sentence


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
