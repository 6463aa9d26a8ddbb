"""Inputs: values, lines and rows as what a task is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tupate_hub.data.files import read_table
from tupate_hub.data.inputs import as_examples, rows_as_examples, table_of_lines
from tupate_hub.errors import FormatError


def asked(kind: str, path: Path, named: dict[str, str] | None = None) -> tuple[list[dict[str, Any]], dict[str, str]]:
    examples, guess = rows_as_examples(kind, read_table(path), named or {})
    return examples, dict(guess.columns)


def test_values_of_python() -> None:
    assert as_examples("classification", ["a b", {"text": "c"}]) == [
        {"text_a": "a b", "text_b": None, "label": 0},
        {"text_a": "c", "text_b": None, "label": 0},
    ]
    assert as_examples("regression", [("a", "b")]) == [{"text_a": "a", "text_b": "b", "label": 0}]
    assert as_examples("token_classification", ["a b", ["c d", "e"]]) == [
        {"tokens": ["a", "b"], "tags": [0, 0]},
        {"tokens": ["c d", "e"], "tags": [0, 0]},
    ]
    (question,) = as_examples("extractive_qa", [{"question": "q", "context": "c"}])
    assert (question["question"], question["context"]) == ("q", "c")
    (choice,) = as_examples("multiple_choice", [{"question": "q", "choices": ("x", 2)}])
    assert (choice["choices"], choice["context"]) == (["x", "2"], "")


def test_the_columns_of_a_table_without_labels_are_found(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,premise,hypothesis\n1,a b,c d\n", encoding="utf-8")
    examples, columns = asked("classification", path)
    assert columns == {"text": "premise", "text_b": "hypothesis"}
    assert examples[0]["text_b"] == "c d"
    path.write_text("question,A,B,C\nwhich,x,y,z\n", encoding="utf-8")
    examples, columns = asked("multiple_choice", path)
    assert examples[0]["choices"] == ["x", "y", "z"]


def test_a_label_column_is_no_text_and_a_lone_column_is(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("label,review\ngood,a b c\n", encoding="utf-8")
    assert asked("classification", path)[1] == {"text": "review"}
    path.write_text("words of people\na b c\nd\n", encoding="utf-8")
    examples, columns = asked("classification", path)
    assert columns == {"text": "words of people"}
    assert [one["text_a"] for one in examples] == ["a b c", "d"]


def test_lines_are_texts_or_objects() -> None:
    lines = table_of_lines("stdin", "a\n\n b c\n")
    assert (lines.columns, lines.numbers) == (("text",), [1, 3])
    objects = table_of_lines("stdin", '{"question": "q"}\n{"question": "r", "context": "c"}\n')
    assert objects.columns == ("question", "context")


@pytest.mark.parametrize(
    ("text", "said"),
    [("\n  \n", "has no texts"), ('{"a": 1}\nb\n', "line 2 is no JSON object"), ("{a}\n", "line 1 is no JSON object")],
)
def test_lines_that_are_neither_are_refused(text: str, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        table_of_lines("stdin", text)


def test_a_missing_role_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("question,n\nq,1\n", encoding="utf-8")
    with pytest.raises(FormatError, match="seems to be the context") as caught:
        asked("extractive_qa", path)
    assert "`columns={'context': 'NAME'}`" in caught.value.hint
    with pytest.raises(FormatError, match="has no column"):
        asked("extractive_qa", path, {"context": "passage"})
