"""`predict` and `score`: texts, tables and pipes in, answers out; a tuned task judged on labelled rows."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_docs import fields, section
from toys import REGIME

from tupate_hub.collect.add import open_or_start
from tupate_hub.training.delivery import deliver
from tupate_hub.training.methods import get_method
from tupate_hub.training.tuner import tune

LINES = ["good great fine the river", "bad awful poor stone", "fine good"]


@pytest.fixture(scope="session")
def left(base: Path, load: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with a task of each kind but amounts, tuned on the toy base."""
    zoo = open_or_start(tmp_path_factory.mktemp("left"))
    regime = replace(REGIME, early=())
    for name in ("toy_classes", "toy_tags", "toy_spans", "toy_choices"):
        zoo = deliver(zoo, tune(base, load(name), get_method("lora"), regime), "acme/toy-bert", {}).zoo
    return zoo.root


@pytest.fixture
def predict(left: Path, base: Path, invoke: Any) -> Any:
    return lambda *arguments: invoke("predict", *arguments, "--registry", left, "--base", base)


@pytest.fixture
def score(left: Path, base: Path, invoke: Any) -> Any:
    return lambda *arguments: invoke("score", *arguments, "--registry", left, "--base", base)


def pipe(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


# --- predict ---------------------------------------------------------------------------------------------------


def test_texts_are_answered_one_a_row(predict: Any) -> None:
    result = predict("toy_classes", *LINES)
    assert result.code == 0, result.err
    header, *rows = [line.split("\t") for line in result.out.splitlines()]
    assert header == ["line", "answer", "probability", "input"]
    assert [row[1] for row in rows] == ["good", "bad", "good"]
    assert [row[3] for row in rows] == LINES


def test_every_json_field_is_documented(predict: Any, score: Any, data_folder: Path) -> None:
    documents = [
        predict("toy_classes", *LINES, "--json").json(),
        predict("toy_tags", "the qabcd jefgh river", "--json").json(),
        predict("toy_choices", '{"question": "how is it ?", "choices": ["good", "bad", "poor"]}', "--json").json(),
        score("toy_classes", data_folder, "--task", "toy_classes", "--json").json(),
        score("toy_tags", data_folder, "--task", "toy_tags", "--json").json(),
    ]
    for document in documents:
        verb = "predict" if "predictions" in document else "score"
        found = fields(document) | fields(document.get("performance", {}))
        assert not {name for name in found if f"`{name}`" not in section(verb)}
    assert set(documents[0]["predictions"][0]["probabilities"]) == {"bad", "good"}


def test_a_table_comes_back_with_the_answers_beside_its_columns(predict: Any, tmp_path: Path) -> None:
    table = tmp_path / "new.csv"
    table.write_text("id,review,prediction\n" + "".join(f'{n},"{line}",?\n' for n, line in enumerate(LINES)))
    out = tmp_path / "answered.csv"
    result = predict("toy_classes", table, "--out", out, "--column", "text=review")
    assert result.code == 0, result.err
    assert "columns: text = review" in result.err
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))
    assert list(rows[0]) == ["id", "review", "prediction", "prediction_2", "probability"]
    assert [(row["id"], row["review"], row["prediction_2"]) for row in rows] == [
        (str(n), line, answer) for n, (line, answer) in enumerate(zip(LINES, ("good", "bad", "good"), strict=True))
    ]
    again = predict("toy_classes", table, "--out", out, "--column", "text=review")
    assert (again.code, "exists already" in again.err) == (2, True)
    assert predict("toy_classes", table, "--out", out, "--column", "text=review", "--force").code == 0


def test_json_lines_in_and_out(predict: Any, tmp_path: Path) -> None:
    table = tmp_path / "new.jsonl"
    table.write_text('{"question": "how many ?", "context": "the river nine stone", "n": [1]}\n')
    result = predict("toy_spans", table, "--out", tmp_path / "out.jsonl")
    assert result.code == 0, result.err
    (row,) = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert row["n"] == [1]
    assert row["prediction"] == {"answer": "nine"}


def test_lines_and_objects_come_in_by_a_pipe(predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, "good great\n\nbad awful\n")
    rows = [line.split("\t") for line in predict("toy_classes").out.splitlines()[1:]]
    assert [row[:2] for row in rows] == [["1", "good"], ["3", "bad"]]
    pipe(monkeypatch, '{"tokens": ["the", "qabcd", "jefgh", "river"]}\n')
    (said,) = predict("toy_tags", "-", "--json").json()["predictions"]
    assert said["answer"] == ["O", "B-name", "I-name", "O"]
    assert said["spans"] == [{"type": "name", "text": "qabcd jefgh", "start": 1, "end": 3}]


def test_a_text_file_has_a_text_on_each_line(predict: Any, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    assert len(predict("toy_classes", path).out.splitlines()) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("toy_clases", "good"), "did you mean toy_classes"),
        (("./nowhere", "good"), "does not exist"),
        (("toy_classes", "missing.csv"), "There is no file missing.csv"),
        (("toy_classes", "good", "--out", "answers.xlsx"), "says no form of table"),
        (("toy_spans", "how many ?"), "seems to be the context"),
        (("toy_classes", "good", "--column", "text"), "names no column"),
        (("toy_choices", '{"question": "x", "choices": ["one"]}'), "two or more choices"),
    ],
)
def test_a_mistake_gets_a_sentence(arguments: tuple[str, ...], said: str, predict: Any) -> None:
    result = predict(*arguments)
    assert result.code == 2
    assert said in result.err
    assert "Traceback" not in result.err


def test_rows_that_hold_nothing_are_named(predict: Any, tmp_path: Path) -> None:
    table = tmp_path / "new.csv"
    table.write_text("text,n\ngood,1\n,2\n  ,3\n", encoding="utf-8")
    result = predict("toy_classes", table, "--out", tmp_path / "out.csv")
    assert result.code == 2
    assert re.search(
        r"2 rows cannot be asked:\s+new.csv, line 3 has no text.\s+new.csv, line 4 has no text", result.err
    )
    assert not (tmp_path / "out.csv").exists()


# --- score -----------------------------------------------------------------------------------------------------


def test_a_file_is_scored_row_by_row(score: Any, tmp_path: Path) -> None:
    table = tmp_path / "test.csv"
    rows = [
        f"{LINES[n % 2]} {'abcdefghij'[n % 10]} {'klmnopqrstuv'[n % 12]},{('good', 'bad')[n % 2]}" for n in range(40)
    ]
    table.write_text("review,verdict\n" + "\n".join(rows) + "\n", encoding="utf-8")
    result = score("toy_classes", table, "--column", "text=review", "--column", "label=verdict")
    assert result.code == 0, result.err
    told = dict(line.split("\t")[:2] for line in result.out.splitlines() if "\t" in line)
    assert told["examples"] == "40"
    assert told["accuracy"].startswith("1.0000")
    document = score("toy_classes", table, "--column", "text=review", "--column", "label=verdict", "--json").json()
    performance = document["performance"]
    assert performance["examples"] == 40
    assert performance["interval"][0] == pytest.approx(0.9124, abs=1e-3)  # Wilson's, of 40 of 40
    assert [one["name"] for one in performance["classes"]] == ["bad", "good"]
    assert performance["confusion"] == [[20, 0], [0, 20]]
    assert (document["baseline"], document["worst"]) == (0.5, [])


def test_the_score_is_that_of_the_run_and_the_worst_come_first(score: Any, left: Path, data_folder: Path) -> None:
    recorded = json.loads((left / "registry.json").read_text())["embeddings"]
    for task in ("toy_classes", "toy_tags", "toy_spans", "toy_choices"):
        document = score(task, data_folder, "--task", task, "--json").json()
        (entry,) = [one for one in recorded if one["task"] == task]
        assert document["performance"]["primary"] == pytest.approx(entry["scores"]["primary"], abs=1e-4)
        assert document["baseline"] == pytest.approx(entry["scores"]["baseline"], abs=1e-4)
        errors = [one["error"] for one in document["worst"]]
        assert errors == sorted(errors, reverse=True)


def test_labels_that_the_model_does_not_know_are_named(score: Any, tmp_path: Path) -> None:
    table = tmp_path / "test.csv"
    rows = "".join(f"{LINES[n % 3]} {'abcdefghijklmno'[n % 15]},{('good', 'so-so')[n % 2]}\n" for n in range(30))
    table.write_text("text,label\n" + rows, encoding="utf-8")
    result = score("toy_classes", table)
    assert result.code == 2
    assert "labels that toy_classes does not know: so-so" in result.err
    assert "it knows bad, good" in result.err


def test_data_of_another_kind_is_refused(score: Any, data_folder: Path) -> None:
    result = score("toy_classes", data_folder, "--task", "toy_tags")
    assert result.code == 2
    assert "toy_classes is classification; the data is token_classification" in result.err
