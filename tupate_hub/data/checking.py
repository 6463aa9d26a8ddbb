"""Checking: the tables of a source as examples, and everything that is wrong with them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tupate_hub.data.cells import is_bio, is_missing, number_of, whole_of, words_of
from tupate_hub.data.columns import Guess, choice_columns
from tupate_hub.data.examples import (
    TRUTHS,
    Example,
    Reader,
    count_choices,
    declared_names,
    is_unlabelled,
    label_names,
    part_of,
    read_examples,
)
from tupate_hub.data.faults import Fault, faults_of_parts, shown
from tupate_hub.data.table import Table

_LABELS = {"extractive_qa": "answer", "token_classification": "tags"}
_TEXTS = ("text", "text_b", "context", "question")
_NEARLY_ALL = 0.95
_SAMPLE = 1000
_GROUPS_SHOWN = 5


@dataclass(frozen=True)
class Checked:
    """The good rows of each split as examples, the names of classes or tags, and all faults."""

    splits: Mapping[str, Sequence[Example]]
    label_names: tuple[str, ...]
    faults: tuple[Fault, ...]


def check(tables: Mapping[str, Table], guess: Guess, *, skip_unlabelled: bool = False) -> Checked:
    """Read every table with the columns of the first, which is the one to train on.

    A test split without labels is left out with a warning, and, where that is asked for, so are rows without a label.
    """
    usable, faults = _usable(tables, guess)
    if skip_unlabelled and guess.kind != "extractive_qa":  # whose questions may have no answer
        usable, left_out = _labelled(usable, guess)
        faults += left_out
    listed = list(usable.values())
    names, (choices, first) = label_names(listed, guess), count_choices(listed, guess)
    splits, parts = {}, []
    for split, table in usable.items():
        numbered = list(_numbered_tags(table, guess))
        examples, numbers, row_faults = read_examples(Reader(table, guess, names, choices, first, bool(numbered)))
        splits[split] = examples
        parts.append(part_of(table, guess.kind, examples, numbers, names))
        faults += [*numbered, *row_faults, *_only_numbers(table, guess)]
    declared = any(declared_names(table, guess, "label") for table in listed)
    if parts:
        rare = declared or any(table.drawn_from for table in listed)
        faults += faults_of_parts(parts, classes=guess.kind == "classification", names_declared=rare)
    if guess.kind == "classification" and not declared:
        faults += _alike(listed, guess.columns["label"], names)
    return Checked(splits, names, tuple(faults))


def _usable(tables: Mapping[str, Table], guess: Guess) -> tuple[dict[str, Table], list[Fault]]:
    """The tables that have the columns, and labels; the faults of the others and of reading them."""
    label = guess.columns[_LABELS.get(guess.kind, "label")]
    kept: dict[str, Table] = {}
    faults: list[Fault] = []
    for split, table in tables.items():
        faults += table.faults
        missing = [column for column in _columns(guess, table) if column not in table.columns]
        if split == "test" and (label in missing or is_unlabelled(table, label)):
            faults.append(Fault("has no labels and is not used", table.where, error=False))
        elif missing:
            faults.append(Fault(f"has no column {shown(missing[0])}", table.where, hint="give each split its columns"))
        else:
            kept[split] = table
    return kept, faults


def _labelled(tables: Mapping[str, Table], guess: Guess) -> tuple[dict[str, Table], list[Fault]]:
    """The tables without their rows that have no label, and how many those are."""
    column, kept, faults = guess.columns[_LABELS.get(guess.kind, "label")], {}, []
    for split, table in tables.items():
        there = [at for at, row in enumerate(table.rows) if not is_missing(row.get(column))]
        if missing := len(table.rows) - len(there):
            faults.append(Fault(f"{missing:,} rows without a label are left out", table.where, error=False))
        rows, numbers = [table.rows[at] for at in there], [table.numbers[at] for at in there]
        kept[split] = replace(table, rows=rows, numbers=numbers)
    return kept, faults


def _columns(guess: Guess, table: Table) -> list[str]:
    single = [column for role, column in guess.columns.items() if role != "choices"]
    return single + list(choice_columns(guess, table) if "choices" in guess.columns else ())


# ---- columns as a whole ----------------------------------------------------------------------------------------------


def _only_numbers(table: Table, guess: Guess) -> Iterator[Fault]:
    """Texts that are none: a column of numbers, as of ids, was taken for them."""
    for role in _TEXTS:
        column = guess.get(role)
        cells = [row.get(column) for row in table.rows] if column else []
        count = sum(number_of(cell) is not None for cell in cells)
        if count and count >= _NEARLY_ALL * len(cells):
            said = "holds only numbers" if count == len(cells) else "holds almost only numbers"
            yield Fault(f"column {shown(column)} {said}", table.where, error=False)


def _alike(tables: Sequence[Table], column: str, names: Sequence[str]) -> Iterator[Fault]:
    """Labels that may be slips of one another."""
    yield from _slips(tables, column, str, str.strip, "labels that differ only in blanks around them count as one")
    if not set(names) <= TRUTHS:
        yield from _slips(tables, column, str.strip, str.lower, "labels that differ only in case are different classes")


def _slips(
    tables: Sequence[Table], column: str, read: Callable[[str], str], fold: Callable[[str], str], said: str
) -> Iterator[Fault]:
    """A warning for each table about labels that are one when folded, by the rows that have the rarer spellings."""
    cells = [[read(cell) if isinstance(cell := row.get(column), str) else "" for row in table.rows] for table in tables]
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label, _ in Counter(label for listed in cells for label in listed).most_common():
        groups[fold(label)].append(label)
    several = [group for key, group in groups.items() if key and len(group) > 1]
    rarer = {label for group in several for label in group[1:]}
    named = "; ".join(" and ".join(map(shown, group)) for group in several[:_GROUPS_SHOWN])
    more = f"; ... ({len(several)} labels)" if len(several) > _GROUPS_SHOWN else ""
    for table, listed in zip(tables, cells, strict=True):
        rows = tuple(number for number, label in zip(table.numbers, listed, strict=True) if label in rarer)
        if rows:
            yield Fault(f"{said}: {named}{more}", table.where, table.unit, rows, error=False)


def _numbered_tags(table: Table, guess: Guess) -> Iterator[Fault]:
    """Tags as numbers whose names are not in the file, as `datasets` writes them into JSON."""
    if guess.kind != "token_classification" or declared_names(table, guess, "tags"):
        return
    column = guess.columns["tags"]
    tags = [whole_of(tag) for row in table.rows for tag in words_of(row.get(column)) or ()]
    numbers = [tag for tag in tags if tag is not None]
    if 2 * len(numbers) > len(tags):
        said = f"column {shown(column)} holds the numbers {min(numbers)} to {max(numbers)}, and tags must be names"
        hint = _hint_on_tags(table, column, max(numbers) + 1)
        yield Fault(f"{said}: O, B-place, I-place, ...", table.where, hint=hint)


def _hint_on_tags(table: Table, column: str, count: int) -> str:
    """What makes names of the numbers: another column that has them, or a command for JSON lines."""
    named = next((other for other in table.columns if _holds_tags(table, other)), None)
    if named:
        return f"`columns={{'tags': {named!r}}}`"
    plain = re.fullmatch(r"[\w.-]+\.(?:jsonl|ndjson)", table.where) and re.fullmatch(r"\w+", column)
    if plain and isinstance(table.rows[0].get(column), list):
        tags = f"[names[int(tag)] for tag in row['{column}']]"
        rows = f"[{{**row, '{column}': {tags}}} for row in map(json.loads, open('{table.where}'))]"
        code = f"import json; names = 'O B-place I-place'.split(); [print(json.dumps(row)) for row in {rows}]"
        return f'put the {count} names, in their order, into: python3 -c "{code}" > named-{table.where}'
    return (
        "write the names in place of the numbers, or give the dataset as OWNER/NAME or as its Parquet, which name them"
    )


def _holds_tags(table: Table, column: str) -> bool:
    cells = [words_of(row.get(column)) or [None] for row in table.rows[:_SAMPLE]]
    return all(isinstance(tag, str) and is_bio(tag) for tags in cells for tag in tags)
