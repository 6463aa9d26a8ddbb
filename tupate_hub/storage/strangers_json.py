"""JSON that strangers wrote: read only where it is neither nested deeply nor made of so much that it fills the memory.

The standard library's reader makes objects of 50 to 250 bytes of every bracket, and takes what is nested 900 deep:
whatever goes through that, or writes it again, ends with a RecursionError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from tupate_hub.errors import FormatError

MOST_DEPTH = 64
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_BRACKETS = re.compile(r"[^\[\]{}]+")


def parse_object(data: bytes, most_items: int, where: str) -> dict[str, Any]:
    """The JSON object that the bytes of a file are, in UTF-8 with or without a mark.

    Raises
    ------
    FormatError
        When they are none, or `parse_json` refuses them.
    """
    try:
        found = parse_json(data.decode("utf-8-sig"), most_items)
    except ValueError as error:
        raise FormatError(f"{where} is not JSON, or has too much in it.") from error
    if not isinstance(found, dict):
        raise FormatError(f"{where} is not a JSON object.")
    return found


def parse_json(
    text: str,
    most_items: int,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
    constant: Callable[[str], Any] | None = None,
) -> Any:
    """The value of a JSON text of at most about `most_items` values.

    `pairs` and `constant` are `object_pairs_hook` and `parse_constant` of the standard library.

    Raises
    ------
    ValueError
        When it is not JSON, is nested more than `MOST_DEPTH` deep, or has more values.
    """
    opened = text.count("[") + text.count("{")
    if opened + text.count(",") > most_items:
        raise ValueError(f"more than {most_items} values")
    if opened > MOST_DEPTH and _is_deep(text):
        raise ValueError(f"nested more than {MOST_DEPTH} deep")
    return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)


def _is_deep(text: str) -> bool:
    """Whether brackets are left when the innermost pairs were taken away so often; also where they do not pair."""
    brackets = _NO_BRACKETS.sub("", _STRING.sub("", text)).replace("{", "[").replace("}", "]")
    for _ in range(MOST_DEPTH):
        brackets = brackets.replace("[]", "")
    return bool(brackets)
