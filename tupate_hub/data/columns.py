"""Columns: which column of a table plays which role in a task, by what the user says, its name and its content."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tupate_hub.data.cells import answers_of, holds_several, is_bio, is_missing, number_of, parsed
from tupate_hub.data.faults import shown
from tupate_hub.data.table import Row, Table
from tupate_hub.errors import FormatError

#: What a kind needs and what it may have besides.
ROLES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "classification": (("text", "label"), ("text_b",)),
    "multi_label": (("text", "label"), ("text_b",)),
    "regression": (("text", "label"), ("text_b",)),
    "extractive_qa": (("context", "question", "answer"), ("answer_start",)),
    "multiple_choice": (("choices", "label"), ("context", "question")),
    "token_classification": (("tokens", "tags"), ()),
}

#: The roles that a model fills.
ANSWERS = frozenset({"label", "answer", "answer_start", "tags"})

#: Names by which people call a role, the most telling first. Case and punctuation do not count.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "text": (
        "text", "text_a", "text1", "sentence", "sentence1", "sentence_a", "premise", "review", "review_text", "content",
        "comment", "message", "tweet", "utterance", "question1", "question", "query", "body", "document", "passage",
        "title", "input", "sms",
    ),
    "label": (
        "label", "labels", "target", "class", "category", "gold_label", "answerkey", "answer_key", "correct",
        "sentiment", "intent", "topic", "emotion", "score", "rating", "stars", "similarity", "similarity_score",
        "relatedness_score", "output", "answer", "y",
    ),
    "context": ("context", "passage", "paragraph", "article", "document", "story", "ctx", "premise"),
    "question": ("question", "query", "goal"),
    "answer": ("answers", "answer", "answer_text"),
    "answer_start": ("answer_start", "start", "start_position"),
    "choices": ("choices", "options", "endings", "alternatives"),
    "tokens": ("tokens", "words"),
    "tags": ("tags", "ner_tags", "bio_tags", "slots", "tag", "ner", "labels"),
}  # fmt: skip

#: First and second texts that come together.
_PAIRS = (
    ("text_a", "text_b"), ("text", "text_b"), ("text1", "text2"), ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"), ("premise", "hypothesis"), ("question1", "question2"), ("question", "sentence"),
    ("question", "passage"), ("query", "passage"), ("query", "document"), ("title", "body"), ("title", "content"),
)  # fmt: skip

_USUAL = {name for names in (*_NAMES.values(), *_PAIRS) for name in names} | {"id", "idx", "index", "split"}
_ONE_CHOICE = re.compile(r"(?:(?:choice|option|ending|answer|alternative|sol|solution)_?([0-9a-h])|([a-h]))")
_SAMPLE = 1000
_COLUMNS_SHOWN = 20
_MOST_CLASSES = 200
_LONGEST_LABEL = 60
_LONGEST_NAME = 40
_MANY_WORDS = 4


@dataclass(frozen=True)
class Guess:
    """A task's kind, and the column of each role; several columns of choices are joined by commas.

    `guessed` are the roles that nobody named.
    """

    kind: str
    columns: Mapping[str, str]
    guessed: tuple[str, ...]

    def get(self, role: str) -> str | None:
        """The role's column, None where the task has none."""
        return self.columns.get(role)


def guess_columns(table: Table, kind: str | None = None, named: Mapping[str, str] | None = None) -> Guess:
    """Which column is what. Explicit names win; a second text is not guessed where the first is named.

    Raises
    ------
    FormatError
        For a role or column that is not there, a role that no column seems to play, or a kind that is not certain.
    """
    named = dict(named or {})
    _refuse_conll(table)
    _require_known(table, kind, named)
    rows = table.rows[:_SAMPLE]
    kind = kind or _kind_by_names(table, named) or _kind_by_label(table, named, rows)
    needed, optional = ROLES[kind]
    stray = sorted(set(named) - {*needed, *optional})
    if stray:
        raise FormatError(
            f"The kind {kind} has no role {shown(stray[0])}.", hint="it has " + ", ".join((*needed, *optional))
        )
    roles = _fill(table, rows, kind, named)
    for role in needed:
        if role not in roles:
            raise FormatError(
                f"No column of {table.where} seems to be the {role}: it has {_listed(table.columns)}.",
                hint=f"`columns={{{role!r}: 'NAME'}}`",
            )
    ordered = {role: roles[role] for role in (*needed, *optional) if role in roles}
    return Guess(kind, ordered, tuple(role for role in ordered if role not in named))


def guess_inputs(table: Table, kind: str, named: Mapping[str, str] | None = None) -> Guess:
    """Which column holds what a task of the kind is asked: as `guess_columns`, of a table that needs no labels.

    A table of one column holds texts, whatever that is called. Errors as `guess_columns`.
    """
    named = dict(named or {})
    _require_known(table, kind, named)
    needed, optional = ROLES[kind]
    asked = [role for role in (*needed, *optional) if role not in ANSWERS]
    if len(table.columns) == 1 and needed[0] in ("text", "tokens"):
        named.setdefault(needed[0], table.columns[0])
    absent = dict.fromkeys(ANSWERS & {*needed, *optional}, "")
    roles = _fill(table, table.rows[:_SAMPLE], kind, {**absent, **named})
    for role in needed:
        if role in asked and role not in roles:
            raise FormatError(
                f"No column of {table.where} seems to be the {role}: it has {_listed(table.columns)}.",
                hint=f"`columns={{{role!r}: 'NAME'}}`",
            )
    ordered = {role: roles[role] for role in asked if role in roles}
    return Guess(kind, ordered, tuple(role for role in ordered if role not in named))


def choice_columns(guess: Guess, table: Table) -> tuple[str, ...]:
    """The columns of the choices: one that holds lists, or one for each choice."""
    whole = guess.columns["choices"]
    return (whole,) if whole in table.columns else tuple(whole.split(","))


def lacks_header(table: Table) -> bool:
    """Whether the names of the columns look like a row: long, whole sentences, or values that their columns have."""
    names = [_folded(column) for column in table.columns]
    if set(names) & _USUAL or any(_ONE_CHOICE.fullmatch(name) for name in names):
        return False
    if names == [str(at) for at in range(len(names))]:  # as pandas names columns that have no names
        return False
    values = [{str(row.get(column)).strip() for row in table.rows[:_SAMPLE]} for column in table.columns]
    return any(
        len(column) > _LONGEST_NAME or _is_sentence(column) or (column and column in seen)
        for column, seen in zip(table.columns, values, strict=True)
    )


def _is_sentence(name: str) -> bool:
    return len(name.split()) >= _MANY_WORDS and re.search(r"[.,;:!?]", name) is not None


def _refuse_conll(table: Table) -> None:
    """One word a line, in a file whose suffix promises a header, is no table."""
    last = table.columns[-1] if table.columns else ""
    if is_bio(last) and all(is_bio(str(row.get(last))) for row in table.rows):
        plain = table.where.removesuffix(".gz")
        conll = f"{Path(plain).with_suffix('.conll')}{table.where[len(plain) :]}"
        raise FormatError(
            f"{table.where} has no header, but a word and its tag on each line.", hint=f"cp {table.where} {conll}"
        )


def _require_known(table: Table, kind: str | None, named: Mapping[str, str]) -> None:
    if kind is not None and kind not in ROLES:
        raise FormatError(f"Unknown kind {shown(kind)}.", hint="known: " + ", ".join(ROLES))
    roles = sorted({role for sides in ROLES.values() for side in sides for role in side})
    for role, column in named.items():
        if role not in roles:
            raise FormatError(f"Unknown role {shown(role)}.", hint="known: " + ", ".join(roles))
        wanted = column.split(",") if role == "choices" and column not in table.columns else [column]
        for name in wanted:
            if name not in table.columns:
                close = get_close_matches(name, table.columns, n=1)
                raise FormatError(
                    f"{table.where} has no column {shown(name)}: it has {_listed(table.columns)}.",
                    hint=f"`columns={{{role!r}: {(close[0] if close else 'NAME')!r}}}`",
                )


def _listed(columns: Sequence[str]) -> str:
    listed = ", ".join(shown(column) for column in columns[:_COLUMNS_SHOWN]) or "none"
    return listed if len(columns) <= _COLUMNS_SHOWN else f"{listed}, ... ({len(columns)} columns)"


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _by_name(table: Table, role: str, taken: Iterable[str] = ()) -> str | None:
    free = {_folded(column): column for column in reversed(table.columns) if column not in set(taken)}
    return next((free[name] for name in _NAMES[role] if name in free), None)


# ---- kinds -----------------------------------------------------------------------------------------------------------


def _kind_by_names(table: Table, named: Mapping[str, str]) -> str | None:
    """The kinds that their columns give away."""
    if {"tokens", "tags"} & set(named):
        return "token_classification"
    if "choices" in named:
        return "multiple_choice"
    if {"answer", "answer_start"} & set(named):
        return "extractive_qa"
    if {"text", "text_b"} & set(named):
        return None
    if _by_name(table, "tokens") and _by_name(table, "tags"):
        return "token_classification"
    if _choices(table) and _by_name(table, "label"):
        return "multiple_choice"
    context, question, answer = (_by_name(table, role) for role in ("context", "question", "answer"))
    if context and question and answer and _answers_are_inside(table.rows[:_SAMPLE], context, answer):
        return "extractive_qa"
    return None


def _answers_are_inside(rows: Sequence[Row], context: str, answer: str) -> bool:
    """Whether most answers that there are have their places beside them, or are pieces of the context."""
    given = [(row, cell) for row in rows if (cell := parsed(row.get(answer))) not in (None, "", [])]
    inside = sum(_is_inside(cell, str(row.get(context))) for row, cell in given)
    return inside > len(given) / 2


def _is_inside(cell: Any, context: str) -> bool:
    if isinstance(cell, dict):
        return "answer_start" in cell
    return any(place is not None or (isinstance(text, str) and text in context) for text, place in answers_of(cell))


def _kind_by_label(table: Table, named: Mapping[str, str], rows: Sequence[Row]) -> str:
    """Classification or regression, by the values of the label; whole numbers other than 0 and 1 may be either."""
    column = named.get("label") or _fill(table, rows, "classification", named).get("label")
    if column is None:
        raise FormatError(
            f"What kind of task {table.where} holds is not clear: it has {_listed(table.columns)}.",
            hint=f"`kind={'|'.join(ROLES)!r}`",
        )
    values = [cell for row in rows if not is_missing(cell := row.get(column))]
    if column in table.label_names or any(isinstance(value, bool) for value in values):
        return "classification"
    if (several := holds_several(values)) is not None:
        raise FormatError(
            f"Column {shown(column)} of {table.where} seems to hold several labels a cell, such as {shown(several)}.",
            hint="`kind='multi_label'`, or `kind='classification'` where that is one label",
        )
    numbers = [number for number in map(number_of, values) if number is not None]
    if 2 * len(numbers) < len(values):
        return "classification"
    if any(number != int(number) for number in numbers):
        return "regression"
    if set(numbers) == {0, 1}:
        return "classification"
    raise FormatError(
        f"Column {shown(column)} of {table.where} holds whole numbers, which may be classes or amounts.",
        hint="`kind='classification'`, or `kind='regression'`",
    )


# ---- roles -----------------------------------------------------------------------------------------------------------


def _fill(table: Table, rows: Sequence[Row], kind: str, named: Mapping[str, str]) -> dict[str, str]:
    """The named roles, and the others that can be guessed."""
    roles = dict(named)
    if kind in ("classification", "multi_label", "regression"):
        return _fill_texts(table, rows, kind, roles)
    needed, optional = ROLES[kind]
    for role in (*needed, *optional):
        if role not in roles:
            column = _choices(table) if role == "choices" else _by_name(table, role, _taken(roles))
            if column:
                roles[role] = column
    return roles


def _taken(roles: Mapping[str, str]) -> list[str]:
    return [name for column in roles.values() for name in (column, *column.split(","))]


def _fill_texts(table: Table, rows: Sequence[Row], kind: str, roles: dict[str, str]) -> dict[str, str]:
    folded = {_folded(column): column for column in table.columns}
    if "text" not in roles and "text_b" not in roles:
        pair = next(
            ((folded[first], folded[second]) for first, second in _PAIRS if first in folded and second in folded), None
        )
        if pair and roles.get("label") not in pair:
            roles["text"], roles["text_b"] = pair
    if "label" not in roles:
        column = _by_name(table, "label", roles.values()) or _only(
            column for column in table.columns if column not in roles.values() and _may_be_label(rows, column, kind)
        )
        if column:
            roles["label"] = column
    if "text" not in roles:
        column = _by_name(table, "text", roles.values()) or _only(
            column for column in table.columns if column not in roles.values() and _may_be_text(rows, column)
        )
        if column:
            roles["text"] = column
    return roles


def _only(columns: Iterable[str]) -> str | None:
    """The one column there is; none where there are several to choose from."""
    listed = list(columns)
    return listed[0] if len(listed) == 1 else None


def _may_be_label(rows: Sequence[Row], column: str, kind: str) -> bool:
    values = [str(cell) for row in rows if not is_missing(cell := row.get(column))]
    if kind == "regression":
        return sum(number_of(value) is not None for value in values) > len(values) / 2 and not _counts_the_rows(values)
    different = set(values)
    short = max(map(len, different), default=0) <= _LONGEST_LABEL
    return short and 2 <= len(different) <= min(_MOST_CLASSES, len(values) // 2)


def _counts_the_rows(values: Sequence[str]) -> bool:
    """Whether the column only counts the rows."""
    return all(value.isdigit() for value in values) and len(set(values)) == len(values)


def _may_be_text(rows: Sequence[Row], column: str) -> bool:
    texts = [row.get(column) for row in rows]
    words = [len(text.split()) for text in texts if isinstance(text, str)]
    return len(words) > len(texts) / 2 and sum(words) >= 2 * len(words)


def _choices(table: Table) -> str | None:
    """A column that holds lists of choices, or the columns that hold one choice each, joined by commas."""
    whole = _by_name(table, "choices")
    if whole:
        return whole
    parts: dict[str, list[str]] = {}
    for column in table.columns:
        match = _ONE_CHOICE.fullmatch(_folded(column))
        if match:
            mark = match[1] or match[2]
            parts.setdefault(_folded(column).removesuffix(mark), []).append(column)
    several = [columns for columns in parts.values() if len(columns) > 1]
    return ",".join(sorted(several[0], key=_folded)) if several else None
