"""Columns: how wide a table's are on a terminal, and texts that fit them."""

from __future__ import annotations

from collections.abc import Sequence

_GAP = 2
_LEAST = 8


def width() -> int:
    """How many columns the terminal has; COLUMNS says it where it is set."""
    from shutil import get_terminal_size  # what it imports takes longer than --help may

    return get_terminal_size((100, 24)).columns


def fitting(wanted: Sequence[int], fixed: Sequence[bool], most: int) -> list[int]:
    """Widths of columns with two blanks between them, so that a line has at most `most` columns if it can.

    The widest that are not `fixed` become narrower first, none of them narrower than 8.
    """
    found = list(wanted)
    while sum(found) + _GAP * (len(found) - 1) > most:
        loose = [at for at, still in enumerate(fixed) if not still and found[at] > _LEAST]
        if not loose:
            break
        found[max(loose, key=lambda at: found[at])] -= 1
    return found


def shortened(text: str, most: int) -> str:
    """A text of at most so many columns, with a mark where something is left out.

    >>> shortened("sentence-transformers", 9)
    'sentence…'
    """
    if display_width(text) <= most:
        return text
    kept = text
    while kept and display_width(kept) > most - 1:
        kept = kept[:-1]
    return f"{kept}…"


def padded(text: str, most: int, right: bool) -> str:
    """A text with blanks to so many columns."""
    blanks = " " * max(0, most - display_width(text))
    return blanks + text if right else text + blanks


def display_width(text: str) -> int:
    """How many columns a terminal gives a text: two for wide characters, none for those that combine."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)
