"""Outputs: rows with what was predicted of them, in the form of the file's name."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tupate_hub.data.outputs import predicted_table, require_writable
from tupate_hub.data.table import Table
from tupate_hub.errors import FormatError

TABLE = Table("x", "line", ("text", "more"), [{"text": 'a, "b"\nc', "more": [1]}, {"text": "d"}], [2, 3], {})
SAID = [{"answer": "good", "probability": 0.9}, {"answer": ["B-x", "O"]}]


def test_csv_and_tsv_get_columns() -> None:
    for suffix, delimiter in ((".csv", ","), (".TSV", "\t")):
        text = predicted_table(Path(f"o{suffix}"), TABLE, SAID).decode()
        rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
        assert rows == [
            {"text": 'a, "b"\nc', "more": "[1]", "prediction": "good", "probability": "0.9"},
            {"text": "d", "more": "", "prediction": "B-x O", "probability": ""},
        ]


def test_json_lines_get_an_object() -> None:
    lines = predicted_table(Path("o.jsonl"), TABLE, SAID).decode().splitlines()
    assert [json.loads(line)["prediction"] for line in lines] == SAID


def test_taken_names_get_a_number() -> None:
    table = Table("x", "line", ("prediction", "prediction_2"), [{"prediction": 1, "prediction_2": 2}], [2], {})
    assert predicted_table(Path("o.csv"), table, [{"answer": "x"}]).decode().splitlines() == [
        "prediction,prediction_2,prediction_3", "1,2,x"
    ]  # fmt: skip


def test_labels_with_blanks_are_a_list_of_json() -> None:
    table = Table("x", "line", ("text",), [{"text": "a"}], [2], {})
    (row,) = csv.DictReader(io.StringIO(predicted_table(Path("o.csv"), table, [{"answer": ["a b", "c"]}]).decode()))
    assert json.loads(row["prediction"]) == ["a b", "c"]


def test_another_suffix_is_refused() -> None:
    with pytest.raises(FormatError, match="says no form of table"):
        require_writable(Path("x.xlsx"))
