"""Spans as they are compared: answers in a text by their words, tagged spans by type and place."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def words_of_answer(text: str) -> list[str]:
    """The words of an answer as SQuAD compares them: lower case, without punctuation and English articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()


def answer_f1(accepted: Sequence[str], answer: str) -> float:
    """F1 of the words shared with the nearest accepted answer; where none is accepted, no answer is right."""
    return max((_overlap(words_of_answer(one), words_of_answer(answer)) for one in accepted), default=float(not answer))


def _overlap(wanted: list[str], given: list[str]) -> float:
    if not wanted or not given:
        return float(wanted == given)
    shared = sum((Counter(wanted) & Counter(given)).values())
    return 2 * shared / (len(wanted) + len(given))


def tagged_spans(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """The spans that BIO tags mark: type, first word and the word after the last.

    An I- tag that goes on with nothing of its type begins a span of its own, as in conlleval.
    """
    spans, begun, inside = set(), 0, ""
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, kind = tag.partition("-")
        if inside and (prefix != "I" or kind != inside):
            spans.add((inside, begun, position))
            inside = ""
        if prefix in ("B", "I") and not inside:
            begun, inside = position, kind
    return spans
