"""Inputs: what a tuned model is asked, without labels: from Python's values, lines of text, or the rows of a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tupate_hub.data.cells import is_plain, parsed, words_of
from tupate_hub.data.columns import Guess, choice_columns, guess_inputs
from tupate_hub.data.table import Row, Table
from tupate_hub.errors import FormatError

Example = dict[str, Any]

_ROWS_SHOWN = 5
_TEXTS = frozenset({"classification", "regression", "multi_label"})


def as_examples(kind: str, inputs: Iterable[Any]) -> list[Example]:
    """Values of Python as examples of a kind, in the fields of docs/data.md, with labels that mean nothing.

    A text, or a pair of texts; for the other kinds, and for all who like names, a mapping of roles: `text`, `text_b`,
    `question`, `context`, `choices`, `tokens`. Tagged sentences may be one text, which is cut at its blanks.

    Raises
    ------
    FormatError
        Naming the first that cannot be asked, or where some are pairs and others are not.
    """
    examples = [_example(kind, _roles(kind, value), f"input {number}") for number, value in enumerate(inputs, 1)]
    if kind in _TEXTS and len({example["text_b"] is None for example in examples}) > 1:
        raise FormatError("Some inputs are pairs of texts and others are not.", hint="give the two kinds one by one")
    return examples


def rows_as_examples(kind: str, table: Table, named: Mapping[str, str]) -> tuple[list[Example], Guess]:
    """The rows of a table as examples, and which of its columns were read.

    Raises
    ------
    FormatError
        As `guess_inputs`, and for rows that hold nothing to be asked, with their numbers.
    """
    guess = guess_inputs(table, kind, named)
    examples, wrong = [], []
    for number, row in zip(table.numbers, table.rows, strict=True):
        try:
            examples.append(_example(kind, _cells(table, guess, row), f"{table.where}, {table.unit} {number}"))
        except FormatError as error:
            wrong.append(error.message)
    if wrong:
        more = f"\n  and {len(wrong) - _ROWS_SHOWN} more" if len(wrong) > _ROWS_SHOWN else ""
        lines = "\n  ".join(wrong[:_ROWS_SHOWN])
        raise FormatError(f"{len(wrong)} rows cannot be asked:\n  {lines}{more}", hint="fill or remove these rows")
    return examples, guess


def table_of_lines(where: str, text: str) -> Table:
    """Lines as a table: objects of JSON one a line, where the first is one, else texts; empty lines are left out.

    Raises
    ------
    FormatError
        For a line that is no object among others that are, or where there is no line.
    """
    numbered = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not numbered:
        raise FormatError(f"{where} has no texts.", hint="give one text a line, or one JSON object a line")
    numbers = [number for number, _ in numbered]
    if not numbered[0][1].lstrip().startswith("{"):
        rows: list[Row] = [{"text": line} for _, line in numbered]
        return Table(where, "line", ("text",), rows, numbers, {})
    rows = []
    for number, line in numbered:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise FormatError(f"{where}, line {number} is no JSON object.", hint="give one object a line")
        rows.append(row)
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    return Table(where, "line", columns, rows, numbers, {})


def _roles(kind: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    if kind == "token_classification":
        return {"tokens": value}
    if kind in _TEXTS and not isinstance(value, str) and isinstance(value, Sequence) and len(value) == 2:
        return {"text": value[0], "text_b": value[1]}
    return {"text": value} if kind in _TEXTS else {}


def _cells(table: Table, guess: Guess, row: Row) -> dict[str, Any]:
    roles = {role: row.get(column) for role, column in guess.columns.items() if role != "choices"}
    if "choices" in guess.columns:
        columns = choice_columns(guess, table)
        cell = parsed(row.get(columns[0]))
        whole = cell.get("text") if isinstance(cell, dict) else cell
        roles["choices"] = whole if len(columns) == 1 else [row.get(column) for column in columns]
    return roles


def _example(kind: str, roles: Mapping[str, Any], where: str) -> Example:
    if kind == "extractive_qa":
        texts = {role: _text(roles, role, where) for role in ("context", "question")}
        return {**texts, "answers": {"text": [], "answer_start": []}}
    if kind == "token_classification":
        words = words_of(roles.get("tokens"))
        if not words or not all(isinstance(word, str) for word in words):
            raise FormatError(f"{where} has no words to be tagged.", hint="give a text, or a list of words")
        return {"tokens": words, "tags": [0] * len(words)}
    if kind == "multiple_choice":
        choices = roles.get("choices")
        if not isinstance(choices, list | tuple) or len(choices) < 2 or not all(map(is_plain, choices)):
            raise FormatError(f"{where} has no list of two or more choices.", hint="give choices and a question")
        leads = {role: str(roles[role]) if roles.get(role) else "" for role in ("context", "question")}
        if not any(leads.values()):
            raise FormatError(f"{where} has neither a context nor a question.", hint="give a question")
        return {**leads, "choices": [str(choice) for choice in choices], "label": 0}
    label: Any = [0] if kind == "multi_label" else 0
    second = None if roles.get("text_b") is None else _text(roles, "text_b", where)
    return {"text_a": _text(roles, "text", where), "text_b": second, "label": label}


def _text(roles: Mapping[str, Any], role: str, where: str) -> str:
    value = roles.get(role)
    if not is_plain(value) or not str(value).strip():
        raise FormatError(f"{where} has no {role}.", hint=f"give its {role}")
    return str(value)
