"""Corpus: the files in which corpora are published as rows: SQuAD's JSON, and CoNLL's columns with one word a line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tupate_hub.data.faults import Fault
from tupate_hub.errors import FormatError

_TAG = re.compile(r"O|[A-Z]-.+")
_DOCUMENT = "-DOCSTART-"


@dataclass(frozen=True)
class Corpus:
    """Rows with their columns and numbers, as a table wants them."""

    unit: str
    columns: tuple[str, ...]
    rows: Sequence[dict[str, Any]]
    numbers: Sequence[int]
    faults: tuple[Fault, ...] = ()


# ---- SQuAD -----------------------------------------------------------------------------------------------------------


def is_squad(document: Any) -> bool:
    """Whether a JSON document is made as SQuAD 1.1 and 2.0 are: articles of paragraphs, each with its questions."""
    articles = document.get("data") if isinstance(document, dict) else None
    return isinstance(articles, list) and any(
        isinstance(article, dict) and isinstance(article.get("paragraphs"), list) for article in articles
    )


def read_squad(name: str, document: Any) -> Corpus:
    """A row for each question, in the file's order; the answers of a question that has none are empty."""
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    wrong: dict[str, list[int]] = {"paragraph": [], "question": [], "answers": []}
    for at, paragraph in enumerate(_paragraphs(document), 1):
        asked = paragraph.get("qas") if isinstance(paragraph, dict) else None
        if not isinstance(asked, list):
            wrong["paragraph"].append(at)
            continue
        for question in asked:
            number = len(numbers) + len(wrong["question"]) + 1
            if not isinstance(question, dict):
                wrong["question"].append(number)
                continue
            silent = question.get("is_impossible") is True
            if not silent and "answers" not in question:
                wrong["answers"].append(number)
            answers = [] if silent else question.get("answers")
            rows.append({"context": paragraph.get("context"), "question": question.get("question"), "answers": answers})
            numbers.append(number)
    if len(wrong["answers"]) == len(rows):  # a split without labels
        wrong["answers"] = []
    faults = (
        Fault("has no list 'qas' of questions", name, "paragraph", tuple(wrong["paragraph"])),
        Fault("this is not a JSON object with a question", name, "row", tuple(wrong["question"])),
        Fault("has neither answers nor is_impossible", name, "row", tuple(wrong["answers"])),
    )
    told = tuple(fault for fault in faults if fault.numbers)
    return Corpus("row", ("context", "question", "answers"), rows, numbers, told)


def _paragraphs(document: Any) -> Iterator[Any]:
    """All paragraphs; an article that has none stands for one that cannot be read."""
    for article in document["data"]:
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        yield from paragraphs if isinstance(paragraphs, list) else [None]


# ---- CoNLL -----------------------------------------------------------------------------------------------------------


def read_conll(name: str, text: str) -> Corpus:
    """A row for each sentence, numbered by the line on which it begins: the first column and the last one.

    Raises
    ------
    FormatError
        When most lines have one column, which leaves no tags.
    """
    lines = [line.rstrip(" \t") for line in re.split(r"\r\n|\r|\n", text)]
    between = re.compile(r"\t+" if all("\t" in line for line in lines if _has_word(line)) else r"[ \t]+")
    sentences = list(_sentences(lines, between))
    widths = Counter(len(cells) for sentence in sentences for _, cells in sentence)
    width = widths.most_common(1)[0][0] if widths else 2
    if width == 1:
        raise FormatError(
            f"{name} has one column, where each word should have its tag beside it.",
            hint="write a word, a blank and its tag on each line, such as: Paris B-place",
        )
    wrong: dict[int, list[int]] = {}
    rows, numbers = [], []
    for sentence in sentences:
        odd = [(number, len(cells)) for number, cells in sentence if len(cells) != width]
        for number, count in odd:
            wrong.setdefault(count, []).append(number)
        if not odd:
            rows.append({"tokens": [cells[0] for _, cells in sentence], "tags": [cells[-1] for _, cells in sentence]})
            numbers.append(sentence[0][0])
    faults = tuple(
        Fault(f"has {count} columns where most lines have {width}", name, "line", tuple(at))
        for count, at in sorted(wrong.items())
    )
    return Corpus("line", ("tokens", "tags"), rows, numbers, faults)


def _has_word(line: str) -> bool:
    return bool(line) and not line.startswith((_DOCUMENT, "#"))


def _sentences(lines: Sequence[str], between: re.Pattern[str]) -> Iterator[list[tuple[int, list[str]]]]:
    """The cells of each sentence's lines, with the lines' numbers."""
    sentence: list[tuple[int, list[str]]] = []
    for number, line in enumerate(lines, 1):
        cells = [cell.strip(" ") for cell in between.split(line)]
        if not line or line.startswith(_DOCUMENT):
            if sentence:
                yield sentence
            sentence = []
        elif sentence or not _is_comment(line, cells):
            sentence.append((number, cells))
    if sentence:
        yield sentence


def _is_comment(line: str, cells: Sequence[str]) -> bool:
    """Whether a line above a sentence says something about it, as `# id = 3`; `# O` is a word with its tag."""
    return line.startswith("#") and not _TAG.fullmatch(cells[-1])
