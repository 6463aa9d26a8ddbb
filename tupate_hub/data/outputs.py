"""Outputs: a table with what was predicted of its rows, as CSV, TSV or JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tupate_hub.data.table import Table
from tupate_hub.errors import FormatError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
#: What a table gets of a prediction's fields, and what its columns are then called.
_COLUMNS = {"answer": "prediction", "probability": "probability", "choice": "choice"}


def require_writable(path: Path) -> None:
    """Refuse a file of another suffix, before any work.

    Raises
    ------
    FormatError
        Naming the suffixes.
    """
    if path.suffix.lower() not in (*_DELIMITERS, ".jsonl"):
        raise FormatError(f"{path.name} says no form of table.", hint="call it .csv, .tsv or .jsonl")


def predicted_table(path: Path, table: Table, predictions: Sequence[Mapping[str, Any]]) -> bytes:
    """The table's rows with what was predicted of each, in the form of the path's suffix.

    JSON lines get every field of a prediction under `prediction`; CSV and TSV get columns `prediction`, and where there
    is one `probability` and `choice`. Names that the table has already get a number: `prediction_2`.
    """
    if path.suffix.lower() == ".jsonl":
        name = _free("prediction", table.columns)
        rows = [{**row, name: fields} for row, fields in zip(table.rows, predictions, strict=True)]
        return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows).encode()
    wanted = [field for field in _COLUMNS if any(field in fields for fields in predictions)]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=_DELIMITERS[path.suffix.lower()], lineterminator="\n")
    writer.writerow([*table.columns, *(_free(_COLUMNS[field], table.columns) for field in wanted)])
    for row, fields in zip(table.rows, predictions, strict=True):
        cells = [_cell(row.get(column)) for column in table.columns]
        writer.writerow([*cells, *(_cell(fields.get(field)) for field in wanted)])
    return text.getvalue().encode()


def _free(name: str, taken: Sequence[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _cell(value: Any) -> str:
    """A value as a cell: lists of words with blanks between them, other lists and objects as JSON."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, str) and " " not in one for one in value):
        return " ".join(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
