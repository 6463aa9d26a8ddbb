"""Files: what reads a table, by the suffix of its name."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from tupate_hub.data.columnar import read_parquet
from tupate_hub.data.faults import shown
from tupate_hub.data.objects import read_json, read_words
from tupate_hub.data.separated import read_csv, read_tsv
from tupate_hub.data.table import MOST_ROWS, Table
from tupate_hub.errors import FormatError

#: A path and how many rows to draw at most, to a table.
TableReader = Callable[[Path, int], Table]


def read_table(path: Path, most: int = MOST_ROWS) -> Table:
    """Read one CSV, TSV, JSON lines, JSON, CoNLL or Parquet file; text may be gzipped. Of more rows `most` are drawn.

    Raises
    ------
    FormatError
        For another suffix, or a file that cannot be read.
    """
    reader = reader_of(path)
    if reader is None:
        raise FormatError(
            f"{shown(path.name)} is not a table that can be read.",
            hint="give .csv, .tsv, .jsonl, .json, .conll or .parquet; text may end in .gz",
        )
    try:
        table = reader(path, most)
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(
            f"{path} cannot be read ({type(error).__name__}).", hint="check that the file is whole"
        ) from error
    if not table.rows and not table.faults:
        raise FormatError(f"{path} has no rows.", hint="give a file with a header and rows")
    return table


def reader_of(path: Path) -> TableReader | None:
    """What reads files of this suffix, None where nothing does."""
    return _READERS.get(Path(path.name.removesuffix(".gz")).suffix.lower())


def has_header(path: Path) -> bool:
    """Whether the first line of a file of this suffix names its columns."""
    return reader_of(path) in (read_csv, read_tsv)


_READERS: Mapping[str, TableReader] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".tab": read_tsv,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".json": read_json,
    ".conll": read_words,
    ".bio": read_words,
    ".iob": read_words,
    ".parquet": read_parquet,
}
