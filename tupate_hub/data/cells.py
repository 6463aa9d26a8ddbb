"""Cells: what one cell of a table says: a list or object however it was written, a label, a number, words, answers."""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

#: Python's own parser is asked for shorter cells only: its tree takes far more memory than the text.
_LONGEST_LITERAL = 100_000
_PIECE = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d{1,18})"""
_ARRAY = re.compile(rf"\[\s*{_PIECE}(?:\s+{_PIECE})*\s*\]", re.DOTALL)
_ARRAY_INSIDE = re.compile(
    rf"array\(\s*(\[\s*(?:{_PIECE}(?:\s*,\s*{_PIECE})*)?\s*\])(?:,\s*dtype=[\w'<>]+)?\s*\)", re.DOTALL
)
_NOTHING = ("", None)
_BETWEEN_LABELS = ("|", ";")
#: What pandas writes for a missing value where a text was asked for.
_MISSING_TEXTS = frozenset({"nan", "NaN", "<NA>"})


def parsed(cell: Any) -> Any:
    """What a cell of text says where it holds a list or an object, the cell itself otherwise.

    That is JSON, or what pandas writes into a CSV file: a Python literal, or numpy's arrays, which have no commas.
    """
    if not isinstance(cell, str) or cell.lstrip()[:1] not in ("[", "{"):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        literal = _literal(cell.strip()) if len(cell) <= _LONGEST_LITERAL else None
        return cell if literal is None else literal


def _literal(text: str) -> list[Any] | dict[str, Any] | None:
    """The list or object of a Python literal as JSON would have it, None where it is none."""
    if _ARRAY.fullmatch(text):
        text = "[" + ",".join(re.findall(_PIECE, text, re.DOTALL)) + "]"
    else:
        text = _ARRAY_INSIDE.sub(r"\1", text)
    try:
        with warnings.catch_warnings():  # of escapes that Python does not know
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text)
        plain = json.loads(json.dumps(value))  # lists of tuples; no sets, no bytes
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return plain if isinstance(plain, list | dict) else None


def is_missing(cell: Any) -> bool:
    """Whether a cell holds nothing, or what pandas writes where it holds nothing."""
    if isinstance(cell, str):
        return not cell.strip() or cell.strip() in _MISSING_TEXTS
    return cell is None or cell != cell


def is_plain(cell: Any) -> bool:
    """Whether a cell holds a text or a number."""
    return isinstance(cell, str | int | float) and not (isinstance(cell, float) and math.isnan(cell))


def label_text(value: Any) -> str:
    """A label as text: `1`, `1.0` and `"1"` are one label."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def whole_of(cell: Any) -> int | None:
    """The whole number in a cell, None where there is none."""
    if isinstance(cell, bool) or not is_plain(cell):
        return None
    text = label_text(cell)
    return int(text) if text.lstrip("-").isdecimal() and len(text) < 19 else None


def number_of(cell: Any) -> float | None:
    """The finite number in a cell, None where there is none."""
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None


def words_of(cell: Any) -> list[Any] | None:
    """A list of words or tags, out of a list, a list in a cell, or text with spaces between them."""
    cell = parsed(cell)
    if isinstance(cell, str):
        return cell.split()
    return cell if isinstance(cell, list) else None


def is_bio(tag: str) -> bool:
    """Whether a tag is `O`, or begins or goes on with something."""
    return tag == "O" or (tag[:2] in ("B-", "I-") and len(tag) > 2)


def labels_of(cell: Any) -> list[str] | None:
    """The labels of a cell that may hold several: a list, a list in a cell, or text with bars or semicolons between."""
    cell = parsed(cell)
    if isinstance(cell, list):
        return [label_text(one) for one in cell] if all(map(is_plain, cell)) else None
    if not is_plain(cell):
        return None
    text = label_text(cell)
    mark = next((mark for mark in _BETWEEN_LABELS if mark in text), None)
    return [text] if mark is None else [part.strip() for part in text.split(mark) if part.strip()]


def holds_several(cells: Sequence[Any]) -> Any:
    """A cell with several labels, where the same labels come in other company as well; None where that is not so."""
    split = [(cell, labels) for cell in cells if (labels := labels_of(cell))]
    several = [(cell, labels) for cell, labels in split if len(labels) > 1]
    wholes = {tuple(labels) for _, labels in split}
    company = Counter(label for labels in wholes for label in labels)
    shared = sum(all(company[label] > 1 for label in labels) for _, labels in several)
    return several[0][0] if several and 2 * shared >= len(several) else None


def answers_of(cell: Any, start: Any = None) -> list[tuple[Any, Any]]:
    """The answers in a cell, each with its place, None where none is said; `start` is what another cell says.

    An answer is text, a list of texts, a list of SQuAD's objects, or the Hub's one object with two lists.
    """
    cell, start = parsed(cell), parsed(start)
    if isinstance(cell, dict):
        cell, start = cell.get("text"), cell.get("answer_start", start)
    texts = [text for text in (cell if isinstance(cell, list) else [cell]) if text not in _NOTHING]
    starts = start if isinstance(start, list) else [] if start in (*_NOTHING, -1, "-1") else [start]
    padded = [*starts, *[None] * len(texts)]
    pairs = [
        (text.get("text"), text.get("answer_start")) if isinstance(text, dict) else (text, padded[at])
        for at, text in enumerate(texts)
    ]
    return [(text, place) for text, place in pairs if text not in _NOTHING]
