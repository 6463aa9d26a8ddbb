"""Objects: rows as JSON objects, one a line or in one list; SQuAD's document; and CoNLL's words, one a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from tupate_hub.data.corpus import Corpus, is_squad, read_conll, read_squad
from tupate_hub.data.draw import Draw
from tupate_hub.data.faults import Fault, shown
from tupate_hub.data.table import Row, Table, table_of
from tupate_hub.data.textlines import TextLines, opened
from tupate_hub.errors import FormatError

_FIELDS_SHOWN = 5
_SPACE = re.compile(r"[ \t\n\r]*")
_NO_JSON = object()

Numbered = Iterable[tuple[int, Any]]


def read_json(path: Path, most: int) -> Table:
    """JSON lines, one list of objects, or SQuAD's document."""
    with opened(path) as text:
        lines = ((number, line) for number, line in enumerate(text, 1) if line.strip())
        number, first = next(lines, (1, ""))
        if first.lstrip().startswith("["):
            whole = first + "".join(line for _, line in lines)
            return _of_objects(path.name, "row", _elements(path.name, whole), text, most)
        value, rest = _loaded(first), list[tuple[int, str]]()
        if value is _NO_JSON and first.lstrip().startswith("{"):  # an object of several lines, or a broken line
            rest = list(lines)
            value = _loaded(first + "".join(line for _, line in rest))
            alone = value is not _NO_JSON
        else:
            rest = [line for line in [next(lines, None)] if line is not None]
            alone = not rest and path.name.removesuffix(".gz").lower().endswith(".json")
        if is_squad(value):
            return _of_corpus(path.name, read_squad(path.name, value), text.faults, most)
        if alone and isinstance(value, dict):
            raise _one_object(path.name, value)
        every = chain([(number, first)], rest, lines)
        return _of_objects(path.name, "line", ((at, _loaded(line)) for at, line in every if line), text, most)


def read_words(path: Path, most: int) -> Table:
    """CoNLL's columns, one word a line."""
    with opened(path) as text:
        whole = "".join(text)
        return _of_corpus(path.name, read_conll(path.name, whole), text.faults, most)


def _loaded(text: str) -> Any:
    """The value of a JSON text, `_NO_JSON` where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NO_JSON


def _elements(name: str, text: str) -> Iterator[tuple[int, Any]]:
    """The elements of a list, one by one: all of them together may be many times as large as their text."""
    decode, number = json.JSONDecoder().raw_decode, 0
    at = _after_space(text, text.index("[") + 1)
    try:
        while text[at] != "]" or number:
            value, at = decode(text, at)
            number += 1
            yield number, value
            at = _after_space(text, at)
            if text[at] == "]":
                break
            if text[at] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
            at = _after_space(text, at + 1)
        if _after_space(text, at + 1) < len(text):
            raise json.JSONDecodeError("Extra data", text, at + 1)
    except (ValueError, RecursionError, IndexError) as error:
        said = "it ends too early" if isinstance(error, IndexError) else error
        raise FormatError(f"{name} is not JSON ({said}).", hint="give JSON lines: one object a line") from error


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _one_object(name: str, value: dict[str, Any]) -> FormatError:
    """What to say of a document that is one object: often the rows are in one of its fields, or it is by column."""
    fields = ", ".join(map(shown, list(value)[:_FIELDS_SHOWN])) + (", ..." if len(value) > _FIELDS_SHOWN else "")
    hint = "give a list of objects, or one object a line"
    inside = next((field for field, rows in value.items() if isinstance(rows, list) and _holds_objects(rows)), None)
    if inside is not None:
        code = f"import json; print(json.dumps(json.load(open({name!r}))[{inside!r}]))"
        hint = f'its rows are in {inside!r}: python3 -c "{code}" > rows-{name}'
    elif value and all(isinstance(column, list | dict) for column in value.values()):
        code = f"import pandas; pandas.read_json({name!r}).to_json({f'rows-{name}'!r}, orient='records')"
        hint = f'it is written by column: python3 -c "{code}"'
    return FormatError(f"{name} is one JSON object, with {fields}, where a list of objects is expected.", hint=hint)


def _holds_objects(rows: list[Any]) -> bool:
    return bool(rows) and all(isinstance(row, dict) for row in rows[:10])


def _of_objects(name: str, unit: str, values: Numbered, text: TextLines, most: int) -> Table:
    """The table of the values that are objects; the others are faults."""
    drawn: Draw[tuple[int, Row]] = Draw(most)
    columns: dict[str, None] = {}
    broken, others = [], []
    for number, value in values:
        if isinstance(value, dict):
            drawn.add((number, value))
            columns.update(dict.fromkeys(value))
        elif value is _NO_JSON:
            broken.append(number)
        else:
            others.append(number)
    faults = [
        Fault("this is not JSON", name, "line", tuple(broken)),
        Fault("this is not a JSON object with a field for each column", name, unit, tuple(others)),
    ]
    return table_of(name, unit, tuple(columns), drawn, [*text.faults, *(fault for fault in faults if fault.numbers)])


def _of_corpus(name: str, corpus: Corpus, faults: Iterable[Fault], most: int) -> Table:
    drawn: Draw[tuple[int, Row]] = Draw(most)
    for pair in zip(corpus.numbers, corpus.rows, strict=True):
        drawn.add(pair)
    return table_of(name, corpus.unit, corpus.columns, drawn, [*faults, *corpus.faults])
