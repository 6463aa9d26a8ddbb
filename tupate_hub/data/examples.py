"""Examples: rows of a table as the examples of a task, and what is wrong with those that are none."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tupate_hub.data.cells import (
    answers_of,
    is_bio,
    is_missing,
    is_plain,
    label_text,
    labels_of,
    parsed,
    whole_of,
    words_of,
)
from tupate_hub.data.columns import Guess, choice_columns
from tupate_hub.data.faults import Fault, Part, shown
from tupate_hub.data.table import Row, Table

Example = dict[str, Any]

_NOTHING = ("", None)
_MISSING = (-1, "-1")
#: Two classes, however they are written.
TRUTHS = frozenset({"true", "false"})
_WITHOUT_LABEL = "correct the rows, or leave out those without a label: `skip_unlabelled=True`"
_OF_SPANS = re.compile(r"[A-Z]-")
_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")


class Problem(NamedTuple):
    """What is wrong with one row: a sentence about it, and the value that shows it best, if any does."""

    sentence: str
    value: Any = None
    error: bool = True
    hint: str = ""


@dataclass(frozen=True)
class Reader:
    """How the rows of one table are read: its columns, the names of labels, how many choices and the first's number.

    Where `tags_are_numbers` that nobody names, this is one fault of the table, and none of its rows.
    """

    table: Table
    guess: Guess
    label_names: tuple[str, ...]
    choices: int = 0
    first_choice: int = 0
    tags_are_numbers: bool = False

    def cell(self, row: Row, role: str) -> Any:
        """The row's value of a role, None where it has none."""
        column = self.guess.get(role)
        return None if column is None else row.get(column)

    def column(self, role: str) -> str:
        """How messages name the role's column."""
        return f"column {shown(self.guess.columns[role])}"

    def label_index(self, value: Any, role: str) -> int | None:
        """The index of a class or tag, None where it is not known."""
        declared = declared_names(self.table, self.guess, role)
        if declared and isinstance(value, int) and not isinstance(value, bool):
            return value if 0 <= value < len(declared) else None
        name = label_text(value)
        if set(self.label_names) <= TRUTHS:
            name = name.lower()
        return self.label_names.index(name) if name in self.label_names else None


def declared_names(table: Table, guess: Guess, role: str) -> tuple[str, ...]:
    """The names that the table itself gives to the numbers of a role's column."""
    return table.label_names.get(guess.get(role) or "", ())


def label_names(tables: Sequence[Table], guess: Guess) -> tuple[str, ...]:
    """The names of classes or tags: as the source declares them, else sorted, whole numbers by size, "O" first."""
    role = "tags" if guess.kind == "token_classification" else "label"
    if guess.kind not in ("classification", "multi_label", "token_classification"):
        return ()
    declared = next((names for table in tables if (names := declared_names(table, guess, role))), ())
    if declared:
        return declared
    column = guess.columns[role]
    cells = [row.get(column) for table in tables for row in table.rows]
    if guess.kind == "multi_label":
        return tuple(sorted({label for cell in cells if not is_missing(cell) for label in labels_of(cell) or ()}))
    if role == "label":
        labels = {label_text(cell) for cell in cells if is_plain(cell) and not is_missing(cell)}
        if {label.lower() for label in labels} <= TRUTHS:
            labels = {label.lower() for label in labels}
        numbers = all(whole_of(label) is not None for label in labels)
        return tuple(sorted(labels, key=lambda name: (int(name) if numbers else 0, name)))
    tags = {label_text(tag) for cell in cells for tag in words_of(cell) or () if is_plain(tag)} - {""}
    return ("O", *sorted(tags - {"O"})) if are_bio(tags) else tuple(sorted(tags))


def are_bio(tags: Iterable[str]) -> bool:
    """Whether tags mark spans: one of them is O, or has the letter of a scheme. Others are a class for each word."""
    return any(tag == "O" or _OF_SPANS.match(tag) for tag in tags)


def count_choices(tables: Sequence[Table], guess: Guess) -> tuple[int, int]:
    """How many choices most rows have, and the number of the first: 1 where labels count from 1, else 0."""
    if guess.kind != "multiple_choice":
        return 0, 0
    rows = [(table, row) for table in tables for row in table.rows]
    listed = [_choices_of(table, guess, row) or () for table, row in rows]
    counts = Counter(len(choices) for choices in listed if len(choices) > 1)
    labels = [whole_of(row.get(guess.columns["label"])) for _, row in rows]
    numbers = [label for label in labels if label is not None]
    usual = counts.most_common(1)[0][0] if counts else 0
    return usual, int(bool(numbers) and min(numbers) == 1 and max(numbers) == usual)


def read_examples(reader: Reader) -> tuple[list[Example], list[int], list[Fault]]:
    """The good rows as examples in the fields of docs/data.md, their row numbers, and the faults of the others."""
    read = _READERS[reader.guess.kind]
    examples, numbers, damaged = [], [], []
    problems: defaultdict[tuple[str, bool, str], list[tuple[int, Any]]] = defaultdict(list)
    for number, row in zip(reader.table.numbers, reader.table.rows, strict=True):
        example, wrong = read(reader, row)
        line = json.dumps(example, ensure_ascii=False)
        if _HALF_A_CHARACTER.search(line):
            wrong.append(Problem("the encoding is broken: it has half a character"))
        elif "\N{REPLACEMENT CHARACTER}" in line:
            damaged.append(number)
        for problem in wrong:
            problems[problem.sentence, problem.error, problem.hint].append((number, problem.value))
        if not any(problem.error for problem in wrong):
            examples.append(example)
            numbers.append(number)
    where, unit = reader.table.where, reader.table.unit
    faults = []
    for (sentence, error, hint), rows in problems.items():
        value = rows[0][1]
        said = sentence if value is None else f"{sentence}, such as {shown(value)}"
        faults.append(Fault(said, where, unit, tuple(number for number, _ in rows), error, hint))
    if damaged and not any(fault.error for fault in reader.table.faults):
        said = "has \N{REPLACEMENT CHARACTER} where a character was lost"
        faults.append(Fault(said, where, unit, tuple(damaged), error=False))
    return examples, numbers, faults


def is_unlabelled(table: Table, column: str) -> bool:
    """Whether no row has a label, as in published test splits."""
    return all(is_missing(cell := row.get(column)) or cell in _MISSING for row in table.rows)


def part_of(
    table: Table, kind: str, examples: Sequence[Mapping[str, Any]], numbers: Sequence[int], names: Sequence[str]
) -> Part:
    """The examples as what can be compared between rows and splits."""
    labels = None
    if kind in ("classification", "regression"):
        labels = [names[example["label"]] if names else f"{example['label']:g}" for example in examples]
    return Part(table.where, table.unit, numbers, [input_of(kind, example) for example in examples], labels)


def input_of(kind: str, example: Mapping[str, Any]) -> Hashable:
    """What the model sees of an example, in lower case with white space folded."""
    if kind == "token_classification":
        return tuple(word.lower() for word in example["tokens"])
    if kind == "multiple_choice":
        return tuple(map(_folded, (example["context"], example["question"], *example["choices"])))
    fields = ("context", "question") if kind == "extractive_qa" else ("text_a", "text_b")
    return tuple(_folded(example[field] or "") for field in fields)


def _folded(text: str) -> str:
    return " ".join(text.lower().split())


# ---- cells -----------------------------------------------------------------------------------------------------------


def _text(reader: Reader, row: Row, role: str, problems: list[Problem]) -> str:
    """A role's text, which must not be empty."""
    cell = reader.cell(row, role)
    if is_missing(cell):
        problems.append(Problem(f"{reader.column(role)} is {_emptiness(cell)}"))
        return ""
    if not is_plain(cell):
        problems.append(Problem(f"{reader.column(role)} is not text", cell))
        return ""
    return str(cell)


def _several(reader: Reader, row: Row) -> tuple[Example, list[Problem]]:
    """A row of 0 and 1, one a label."""
    problems: list[Problem] = []
    example = _texts(reader, row, problems)
    cell = reader.cell(row, "label")
    if is_missing(cell):
        problems.append(_no_label(reader, cell))
        return example, problems
    declared = declared_names(reader.table, reader.guess, "label")
    labels = _declared(cell, declared) if declared else labels_of(cell)
    if labels is None:
        problems.append(Problem(f"{reader.column('label')} is neither a label nor a list of labels", cell))
        return example, problems
    return {**example, "label": [int(name in labels) for name in reader.label_names]}, problems


def _declared(cell: Any, names: Sequence[str]) -> list[str] | None:
    """The names of a row of 0 and 1, one a name, or of a list of the names' numbers."""
    if not isinstance(cell, list) or not all(isinstance(one, int) and 0 <= one < len(names) for one in cell):
        return None
    if len(cell) == len(names) and set(cell) <= {0, 1}:
        return [name for name, there in zip(names, cell, strict=True) if there]
    return [names[one] for one in cell]


def _emptiness(cell: Any) -> str:
    """How a missing value is missing."""
    empty = cell is None or (isinstance(cell, str) and not cell.strip())
    return "empty" if empty else f"missing: pandas writes {shown(cell)} for that"


def _optional_text(reader: Reader, row: Row, role: str, problems: list[Problem]) -> str:
    cell = reader.cell(row, role)
    return "" if cell in _NOTHING else _text(reader, row, role, problems)


# ---- rows by kind ----------------------------------------------------------------------------------------------------


def _texts(reader: Reader, row: Row, problems: list[Problem]) -> Example:
    first = _text(reader, row, "text", problems)
    second = _text(reader, row, "text_b", problems) if reader.guess.get("text_b") else None
    return {"text_a": first, "text_b": second}


def _class(reader: Reader, row: Row) -> tuple[Example, list[Problem]]:
    problems: list[Problem] = []
    example = _texts(reader, row, problems)
    cell = reader.cell(row, "label")
    if is_missing(cell):
        problems.append(_no_label(reader, cell))
        return example, problems
    label = reader.label_index(cell, "label") if is_plain(cell) else None
    if label is None:
        problems.append(Problem(f"{reader.column('label')} is not a label", cell))
    return {**example, "label": label}, problems


def _no_label(reader: Reader, cell: Any) -> Problem:
    return Problem(f"{reader.column('label')} is {_emptiness(cell)}", hint=_WITHOUT_LABEL)


def _amount(reader: Reader, row: Row) -> tuple[Example, list[Problem]]:
    problems: list[Problem] = []
    example = _texts(reader, row, problems)
    cell = reader.cell(row, "label")
    try:
        value = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if is_missing(cell):
        problems.append(_no_label(reader, cell))
    elif not math.isfinite(value):
        problems.append(Problem(f"{reader.column('label')} is not a number", cell))
    return {**example, "label": value}, problems


def _question(reader: Reader, row: Row) -> tuple[Example, list[Problem]]:
    problems: list[Problem] = []
    context = _text(reader, row, "context", problems)
    question = _text(reader, row, "question", problems)
    texts, starts = [], []
    for answer, place in answers_of(reader.cell(row, "answer"), reader.cell(row, "answer_start")):
        text = str(answer)
        begin = context.find(text) if place is None else whole_of(place)
        if begin is None or begin < 0 or not text.strip() or context[begin : begin + len(text)] != text:
            where = "in its context" if place is None else "at its answer_start"
            said = f"does not stand {where}"
            if place is None and text.strip() and text.lower() in context.lower():
                said = f"stands {where} only with other capitals and small letters"
            problems.append(Problem(f"{reader.column('answer')} {said}", text))
        texts.append(text)
        starts.append(begin)
    return {"context": context, "question": question, "answers": {"text": texts, "answer_start": starts}}, problems


def _choices_of(table: Table, guess: Guess, row: Row) -> list[Any] | None:
    columns = choice_columns(guess, table)
    if len(columns) > 1:
        return [row.get(column) for column in columns]
    cell = parsed(row.get(columns[0]))
    whole = cell.get("text") if isinstance(cell, dict) else cell
    return whole if isinstance(whole, list) else None


def _choice(reader: Reader, row: Row) -> tuple[Example, list[Problem]]:
    problems: list[Problem] = []
    context = _optional_text(reader, row, "context", problems)
    question = _optional_text(reader, row, "question", problems)
    if not problems and not context and not question:
        problems.append(Problem("has neither a context nor a question"))
    choices = _choices_of(reader.table, reader.guess, row)
    if choices is None or len(choices) < 2:
        problems.append(Problem(f"{reader.column('choices')} is not a list of two or more choices"))
    elif len(choices) != reader.choices:
        problems.append(Problem(f"has another number of choices than most rows, {reader.choices}"))
    elif any(choice is not None and not is_plain(choice) for choice in choices):
        problems.append(Problem(f"{reader.column('choices')} has a choice that is not text"))
    choices = ["" if choice is None else str(choice) for choice in choices or ()]
    if any(not choice.strip() for choice in choices):
        problems.append(Problem(f"{reader.column('choices')} has an empty choice", error=False))
    cell = reader.cell(row, "label")
    label = _chosen(reader, parsed(row.get(reader.guess.columns["choices"])), choices, cell)
    if label is None:
        said = "is empty" if cell in _NOTHING else "names no choice"
        problems.append(Problem(f"{reader.column('label')} {said}", None if cell in _NOTHING else cell))
    return {"context": context, "question": question, "choices": choices, "label": label}, problems


def _chosen(reader: Reader, whole: Any, choices: Sequence[str], cell: Any) -> int | None:
    """Which choice a label names: by its number, its letter, its own mark in the list, or its text."""
    marks = whole.get("label") if isinstance(whole, dict) else None
    text = label_text(cell)
    if isinstance(marks, list) and text in map(label_text, marks[: len(choices)]):
        return list(map(label_text, marks)).index(text)
    number = whole_of(cell)
    if number is not None:
        at = number - reader.first_choice
        return at if 0 <= at < len(choices) else None
    if len(text) == 1 and 0 <= ord(text.upper()) - ord("A") < len(choices):
        return ord(text.upper()) - ord("A")
    return choices.index(text) if text in choices else None


def _sentence(reader: Reader, row: Row) -> tuple[Example, list[Problem]]:
    problems: list[Problem] = []
    words, tags = words_of(reader.cell(row, "tokens")), words_of(reader.cell(row, "tags"))
    if not words:
        problems.append(Problem(f"{reader.column('tokens')} is empty or no list of words"))
    elif any(not isinstance(word, str) for word in words):
        problems.append(Problem(f"{reader.column('tokens')} has a word that is not text"))
    elif any(not word.strip() for word in words):
        problems.append(Problem(f"{reader.column('tokens')} has an empty word", error=False))
    if len(words or ()) != len(tags or ()):
        problems.append(Problem("has another number of tags than of tokens"))
    names = [reader.label_index(tag, "tags") for tag in tags or ()]
    spans = are_bio(reader.label_names)
    for tag, index in zip(tags or (), names, strict=True):
        if reader.tags_are_numbers:
            break
        if index is None or (spans and not is_bio(reader.label_names[index])):
            problems.append(Problem(f"{reader.column('tags')} has a tag that is neither O nor B-... nor I-...", tag))
            break
    return {"tokens": words, "tags": names}, problems


_READERS: Mapping[str, Callable[[Reader, Row], tuple[Example, list[Problem]]]] = {
    "classification": _class,
    "multi_label": _several,
    "regression": _amount,
    "extractive_qa": _question,
    "multiple_choice": _choice,
    "token_classification": _sentence,
}
