"""Table: the rows of a file as they stand there, with the numbers by which an editor shows them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tupate_hub.data.corpus import Corpus, is_squad, read_conll, read_squad
from tupate_hub.data.faults import Fault, shown
from tupate_hub.errors import FormatError
from tupate_hub.extras import install_command, is_installed

Row = Mapping[str, Any]

_LONGEST_CELL = 100_000_000
_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Table:
    """Rows of one file or split.

    `where` is how messages name it; `numbers` are the rows' lines in the file (`unit` "line") or places in the table
    ("row"). `label_names` has the names that the source itself declares for whole numbers, by column. `faults` are the
    rows that could not be read.
    """

    where: str
    unit: str
    columns: tuple[str, ...]
    rows: Sequence[Row]
    numbers: Sequence[int]
    label_names: Mapping[str, tuple[str, ...]]
    faults: tuple[Fault, ...] = ()


def read_table(path: Path) -> Table:
    """Read one CSV, TSV, JSON lines, JSON, CoNLL or Parquet file; text may be gzipped.

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
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise FormatError(
            f"{path} cannot be read ({type(error).__name__}).", hint="check that the file is whole"
        ) from error
    table = reader(path.name, raw)
    if not table.rows and not table.faults:
        raise FormatError(f"{path} has no rows.", hint="give a file with a header and rows")
    return table


def reader_of(path: Path) -> Callable[[str, bytes], Table] | None:
    """What reads files of this suffix, None where nothing does."""
    return _READERS.get(Path(path.name.removesuffix(".gz")).suffix.lower())


def has_header(path: Path) -> bool:
    """Whether the first line of a file of this suffix names its columns."""
    return reader_of(path) in (_read_csv, _read_tsv)


# ---- text ------------------------------------------------------------------------------------------------------------


def _decoded(name: str, raw: bytes) -> tuple[str, list[Fault]]:
    """The text of a file; lines that are not UTF-8 are faults."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return raw.decode("utf-16"), []
        except UnicodeDecodeError:
            raw = raw[2:]
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    bad = [number for number, line in enumerate(raw.split(b"\n"), 1) if b"\0" in line or not _is_utf8(line)]
    if not bad:
        return raw.decode(), []
    hint = f"save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 {name} > utf8-{name}"
    fault = Fault("the encoding is broken: this is not UTF-8 text", name, "line", tuple(bad), hint=hint)
    return raw.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}"), [fault]


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_csv(name: str, raw: bytes) -> Table:
    text, faults = _decoded(name, raw)
    header = re.sub(r'"[^"]*"', "", text.lstrip().partition("\n")[0])
    delimiter = max(_DELIMITERS, key=header.count)
    table = _cells(name, text, delimiter, csv.QUOTE_MINIMAL)
    return replace(table, faults=(*faults, *table.faults))


def _read_tsv(name: str, raw: bytes) -> Table:
    """Many tab-separated files have quotation marks that quote nothing."""
    text, faults = _decoded(name, raw)
    table = _cells(name, text, "\t", csv.QUOTE_MINIMAL)
    if table.faults:
        table = min(table, _cells(name, text, "\t", csv.QUOTE_NONE), key=lambda candidate: _rows_lost(candidate.faults))
    return replace(table, faults=(*faults, *table.faults))


def _rows_lost(faults: Sequence[Fault]) -> int:
    return sum(len(fault.numbers) for fault in faults)


def _cells(name: str, text: str, delimiter: str, quoting: Any) -> Table:
    """Rows of separated values below a header line."""
    rows, numbers, faults = [], [], []
    wrong: defaultdict[int, list[int]] = defaultdict(list)
    header: tuple[str, ...] = ()
    for number, cells in _numbered_cells(text, delimiter, quoting):
        if isinstance(cells, csv.Error):
            faults.append(Fault(f"cannot be read from here on ({cells})", name, "line", (number,)))
        elif not header:
            header = _header(name, cells)
        elif len(cells) == len(header):
            rows.append(dict(zip(header, cells, strict=True)))
            numbers.append(number)
        else:
            wrong[len(cells)].append(number)
    faults += [
        Fault(f"has {count} cells where the header has {len(header)}", name, "line", tuple(at))
        for count, at in sorted(wrong.items())
    ]
    return Table(name, "line", header, rows, numbers, {}, tuple(faults))


def _numbered_cells(text: str, delimiter: str, quoting: Any) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Each row that is not blank, by the line on which it begins; last the error that ended the reading, if any."""
    limit = csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
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


# ---- JSON, CoNLL and Parquet -----------------------------------------------------------------------------------------


def _read_json(name: str, raw: bytes) -> Table:
    """JSON lines, one list of objects, or SQuAD's document."""
    text, faults = _decoded(name, raw)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not text.lstrip().startswith("["):
            return _read_json_lines(name, text, faults)
        raise FormatError(f"{name} is not JSON ({error}).", hint="give JSON lines: one object a line") from error
    if isinstance(document, list):
        return _of_objects(name, "row", list(enumerate(document, 1)), faults)
    if is_squad(document):
        return _of_corpus(name, read_squad(name, document), faults)
    return _read_json_lines(name, text, faults)


def _read_json_lines(name: str, text: str, faults: list[Fault]) -> Table:
    values: list[tuple[int, Any]] = []
    broken = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                values.append((number, json.loads(line)))
            except (ValueError, RecursionError):
                broken.append(number)
    if broken:
        faults.append(Fault("this is not JSON", name, "line", tuple(broken)))
    return _of_objects(name, "line", values, faults)


def _of_objects(name: str, unit: str, values: Sequence[tuple[int, Any]], faults: Sequence[Fault]) -> Table:
    good = [(number, value) for number, value in values if isinstance(value, dict)]
    others = tuple(number for number, value in values if not isinstance(value, dict))
    if others:
        faults = [*faults, Fault("this is not a JSON object with a field for each column", name, unit, others)]
    columns = tuple(dict.fromkeys(column for _, value in good for column in value))
    rows, numbers = [value for _, value in good], [number for number, _ in good]
    return Table(name, unit, columns, rows, numbers, {}, tuple(faults))


def _of_corpus(name: str, corpus: Corpus, faults: Sequence[Fault]) -> Table:
    told = (*faults, *corpus.faults)
    return Table(name, corpus.unit, corpus.columns, corpus.rows, corpus.numbers, {}, told)


def _read_conll(name: str, raw: bytes) -> Table:
    text, faults = _decoded(name, raw)
    return _of_corpus(name, read_conll(name, text), faults)


def _read_parquet(name: str, raw: bytes) -> Table:
    if not is_installed("pyarrow"):
        raise FormatError(f"{name} is Parquet, which needs the extra 'data'.", hint=install_command("data"))
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(io.BytesIO(raw))
        rows = table.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise FormatError(
            f"{name} is not readable Parquet ({type(error).__name__}).", hint="check that the file is whole"
        ) from error
    names = _declared_names((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    return Table(name, "row", tuple(table.column_names), rows, range(1, len(rows) + 1), names)


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


_READERS: Mapping[str, Callable[[str, bytes], Table]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".tab": _read_tsv,
    ".jsonl": _read_json,
    ".ndjson": _read_json,
    ".json": _read_json,
    ".conll": _read_conll,
    ".bio": _read_conll,
    ".iob": _read_conll,
    ".parquet": _read_parquet,
}
