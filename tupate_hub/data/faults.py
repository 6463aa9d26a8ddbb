"""Faults: what is wrong with rows of data, with the numbers by which an editor shows them; all are told at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tupate_hub.errors import FormatError

FEWEST_ROWS = 10
_FEW_ROWS = 50
_NUMBERS_SHOWN = 10
_VALUES_SHOWN = 5
_LONGEST_VALUE = 40


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong in one place, and the rows that have it.

    `numbers` are lines of the file (`unit` "line") or rows of the table ("row"); none: the whole of `where` has it.
    An `error` stops the work before it starts; anything else is a warning. `hint` is what to do next.
    """

    sentence: str
    where: str
    unit: str = "line"
    numbers: tuple[int, ...] = ()
    error: bool = True
    hint: str = ""

    def __str__(self) -> str:
        """As in `reviews.csv, lines 3 and 17: column 'text' is empty`."""
        if not self.numbers:
            return f"{self.where}: {self.sentence}"
        return f"{self.where}, {_listed(self.unit, self.numbers)}: {self.sentence}"


def _listed(unit: str, numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"{unit} {numbers[0]}"
    if len(numbers) > _NUMBERS_SHOWN:
        return f"{unit}s {', '.join(map(str, numbers[:_NUMBERS_SHOWN]))}, ... ({len(numbers):,} in all)"
    return f"{unit}s {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def shown(value: Any) -> str:
    """A value out of a file as a message may show it: quoted, short, without control characters."""
    text = value if isinstance(value, str) else str(value)
    return repr(text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "...")


def refuse_errors(source: str, faults: Iterable[Fault]) -> tuple[str, ...]:
    """The warnings among the faults, as sentences.

    Raises
    ------
    FormatError
        When a fault is an error. Its message has one line for each fault, warnings last.
    """
    ordered = sorted(faults, key=lambda fault: not fault.error)
    warnings = tuple(str(fault) for fault in ordered if not fault.error)
    errors = [fault for fault in ordered if fault.error]
    if not errors:
        return warnings
    lines = [f"  {fault}" for fault in errors] + [f"  warning: {warning}" for warning in warnings]
    hint = next((fault.hint for fault in errors if fault.hint), "correct the rows, then run the same command again")
    raise FormatError("\n".join([f"{source} cannot be trained on:", *lines]), hint=hint)


@dataclass(frozen=True)
class Part:
    """The examples of one split: where they stand, their row numbers, and for each its input and its label.

    An input is what the model will see, folded so that copies are equal. `labels` is None for kinds that have several
    labels an example, or whose labels mean nothing by themselves.
    """

    where: str
    unit: str
    numbers: Sequence[int]
    inputs: Sequence[Hashable]
    labels: Sequence[str] | None

    def fault(self, sentence: str, rows: Iterable[int] = (), *, error: bool = True, hint: str = "") -> Fault:
        """A fault of this part; `rows` are indices of its examples."""
        return Fault(sentence, self.where, self.unit, tuple(self.numbers[row] for row in rows), error, hint)


def faults_of_parts(parts: Sequence[Part], *, classes: bool, names_declared: bool) -> list[Fault]:
    """What shows only when all examples are seen together; the first part is the one to train on.

    With `names_declared` the classes come from a list of names, or the rows are drawn from more, so that one of them
    that is seen once is rare and not a slip.
    """
    train, *others = parts
    faults = [*_too_few(train), *_one_label(train), *_copies(parts)]
    if classes:
        faults += _seen_once(parts, names_declared)
        faults += _never_trained_on(train, others, names_declared)
        faults += [fault for part in parts for fault in _contradictions(part)]
    return faults


def _too_few(train: Part) -> Iterator[Fault]:
    rows, different = len(train.numbers), len(set(train.inputs))
    if rows < FEWEST_ROWS:
        yield train.fault(f"has {rows} good rows to train on, and {FEWEST_ROWS} is the least")
    elif different < FEWEST_ROWS:
        texts = "text" if different == 1 else "different texts"
        said = f"has {rows} good rows, but only {different} {texts}, and {FEWEST_ROWS} is the least"
        yield train.fault(said, hint="add rows with other texts")
    elif rows < _FEW_ROWS:
        yield train.fault(f"has only {rows} rows: its scores will be rough", error=False)


def _one_label(train: Part) -> Iterator[Fault]:
    if train.labels and len(set(train.labels)) == 1:
        yield train.fault(f"every row has the label {shown(train.labels[0])}, so there is nothing to learn")


def _seen_once(parts: Sequence[Part], names_declared: bool) -> Iterator[Fault]:
    counts = Counter(label for part in parts for label in part.labels or ())
    for part in parts:
        rows = [row for row, label in enumerate(part.labels or ()) if counts[label] == 1]
        if rows:
            labels = _some([label for label in part.labels or () if counts[label] == 1])
            sentence = f"a label seen once cannot be both learned and tested: {labels}"
            yield part.fault(
                sentence, rows, error=not names_declared, hint="correct the label, drop the row, or add rows like it"
            )


def _never_trained_on(train: Part, others: Sequence[Part], names_declared: bool) -> Iterator[Fault]:
    known = set(train.labels or ())
    for part in others:
        labels = part.labels or ()
        rows = [row for row, label in enumerate(labels) if label not in known]
        if rows:
            unknown = _some([labels[row] for row in rows])
            yield part.fault(f"a label that no row of {train.where} has: {unknown}", rows, error=not names_declared)


def _contradictions(part: Part) -> Iterator[Fault]:
    labels_of: defaultdict[Hashable, set[str]] = defaultdict(set)
    for key, label in zip(part.inputs, part.labels or (), strict=True):
        labels_of[key].add(label)
    rows = [row for row, key in enumerate(part.inputs) if len(labels_of[key]) > 1]
    if rows:
        yield part.fault("the same text has different labels", rows, error=False)


def _copies(parts: Sequence[Part]) -> Iterator[Fault]:
    seen: dict[Hashable, str] = {}
    for part in parts:
        by_place: defaultdict[str, list[int]] = defaultdict(list)
        for row, key in enumerate(part.inputs):
            if key in seen:
                by_place[seen[key]].append(row)
        for place, rows in by_place.items():
            yield part.fault(f"also in {place}, so the score will flatter", rows, error=False)
        for key in part.inputs:
            seen.setdefault(key, part.where)


def _some(labels: Iterable[str]) -> str:
    different = list(dict.fromkeys(labels))
    listed = ", ".join(shown(label) for label in different[:_VALUES_SHOWN])
    return listed if len(different) <= _VALUES_SHOWN else f"{listed}, ... ({len(different)} labels)"
