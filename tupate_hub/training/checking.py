"""Checking: the tables of a source as examples, and everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tupate_hub.training.columns import Guess, choice_columns
from tupate_hub.training.examples import (
    Example,
    Reader,
    count_choices,
    declared_names,
    is_unlabelled,
    label_names,
    part_of,
    read_examples,
)
from tupate_hub.training.faults import Fault, faults_of_parts, shown
from tupate_hub.training.table import Table

_LABELS = {"extractive_qa": "answer", "token_classification": "tags"}


@dataclass(frozen=True)
class Checked:
    """The good rows of each split as examples, the names of classes or tags, and all faults."""

    splits: Mapping[str, Sequence[Example]]
    label_names: tuple[str, ...]
    faults: tuple[Fault, ...]


def check(tables: Mapping[str, Table], guess: Guess) -> Checked:
    """Read every table with the columns of the first, which is the one to train on.

    A test split without labels is left out with a warning.
    """
    usable, faults = _usable(tables, guess)
    listed = list(usable.values())
    names, (choices, first) = label_names(listed, guess), count_choices(listed, guess)
    splits, parts = {}, []
    for split, table in usable.items():
        examples, numbers, found = read_examples(Reader(table, guess, names, choices, first))
        splits[split] = examples
        parts.append(part_of(table, guess.kind, examples, numbers, names))
        faults += found
    declared = any(declared_names(table, guess, "label") for table in listed)
    if parts:
        faults += faults_of_parts(parts, classes=guess.kind == "classification", names_declared=declared)
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


def _columns(guess: Guess, table: Table) -> list[str]:
    single = [column for role, column in guess.columns.items() if role != "choices"]
    return single + list(choice_columns(guess, table) if "choices" in guess.columns else ())
