"""Columnar: rows of Parquet, with the names of classes that the `datasets` library leaves there."""

from __future__ import annotations

import json
from pathlib import Path

from tupate_hub.data.draw import Draw
from tupate_hub.data.table import Row, Table, table_of
from tupate_hub.errors import FormatError
from tupate_hub.extras import install_command, is_installed

_ROWS_AT_ONCE = 10_000


def read_parquet(path: Path, most: int) -> Table:
    """A table of Parquet, whose rows are numbered from 1."""
    if not is_installed("pyarrow"):
        raise FormatError(f"{path.name} is Parquet, which needs the extra 'data'.", hint=install_command("data"))
    import pyarrow
    from pyarrow import parquet

    drawn: Draw[tuple[int, Row]] = Draw(most)
    try:
        with path.open("rb") as stream:
            file = parquet.ParquetFile(stream)
            schema = file.schema_arrow
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    drawn.add((drawn.seen + 1, row))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise FormatError(
            f"{path.name} is not readable Parquet ({type(error).__name__}).", hint="check that the file is whole"
        ) from error
    names = _declared_names((schema.metadata or {}).get(b"huggingface", b"{}"))
    return table_of(path.name, "row", tuple(schema.names), drawn, label_names=names)


def _declared_names(metadata: bytes) -> dict[str, tuple[str, ...]]:
    """The names of classes by column, as the `datasets` library leaves them in a Parquet file; none if they are odd."""
    names = {}
    try:
        for column, feature in json.loads(metadata)["info"]["features"].items():
            declared = feature.get("names") or feature.get("feature", {}).get("names") or ()
            if all(isinstance(name, str) for name in declared):
                names[column] = tuple(declared)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return {}
    return {column: declared for column, declared in names.items() if declared}
