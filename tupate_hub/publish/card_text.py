"""The words of a card: texts of strangers as Markdown, figures, counts."""

from __future__ import annotations

from typing import Any

from tupate_hub.publish.browse import number

#: A table of the card has so many rows; the viewer's has more.
MOST_ROWS = 200
_MOST_TEXT = 160


def escaped(words: str) -> str:
    """Text from a stranger as Markdown that shows it and does nothing else; long ones are cut."""
    kept = "".join(char if char.isprintable() else " " for char in words[: _MOST_TEXT + 1])
    if len(kept) > _MOST_TEXT:
        kept = kept[: _MOST_TEXT - 1] + "…"
    kept = "".join(f"\\{char}" if char in "\\`*_{}[]#!~$@" else char for char in kept)
    for markup, text in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("://", "\\://"), ("www.", "www\\.")):
        kept = kept.replace(markup, text)
    return kept.strip()


def figure(value: Any) -> str:
    """A number of a registry with three places, "" for what is none."""
    found = number(value)
    return "" if found is None else f"{found:.3f}"


def counted(many: int, noun: str) -> str:
    """How many there are of something."""
    return f"{many} {noun}" if many == 1 else f"{many} {noun}s"


def more(total: int) -> str:
    """What follows a table that is too long for a card."""
    return f"\n{total - MOST_ROWS} more are in the table of the viewer.\n" if total > MOST_ROWS else ""
