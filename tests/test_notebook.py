"""Notebook: rankings and zoos as tables, in which a stranger's text stays text."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from damage import change

from tupate_hub import Zoo
from tupate_hub.errors import TupateHubError
from tupate_hub.notebook import MOST_ROWS, html_table


def test_a_ranking_shows_itself(toy_zoo: Path) -> None:
    ranking = Zoo.open(toy_zoo).similar("imdb")
    html = ranking._repr_html_()
    assert html.count("<tr>") == len(ranking) + 1
    assert f"<td>{ranking.neighbors[0].task}</td>" in html
    assert f"{ranking.neighbors[0].score:.3f}</td>" in html
    assert [row["task"] for row in ranking.rows()] == [one.task for one in ranking]
    assert "<p>" in replace(ranking, neighbors=())._repr_html_()


def test_a_zoo_shows_itself_and_no_markup_of_strangers(toy_zoo: Path) -> None:
    change(toy_zoo, lambda data: data["tasks"]["imdb"].update(metric="<script>alert(1)</script>"))
    zoo = Zoo.open(toy_zoo)
    html = zoo._repr_html_()
    assert html.count("<tr>") == len(zoo.registry.entries) + 1
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_long_tables_are_cut_and_say_so() -> None:
    html = html_table([{"n": number} for number in range(MOST_ROWS + 3)], "many")
    assert html.count("<tr>") == MOST_ROWS + 1
    assert "3 more" in html


def test_pandas_gets_every_row(toy_zoo: Path) -> None:
    pandas = pytest.importorskip("pandas")
    zoo = Zoo.open(toy_zoo)
    frame = zoo.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == len(zoo.registry.entries)
    assert list(frame.columns) == ["task", "space", "kind", "train size", "metric", "score", "baseline", "note"]
    assert list(zoo.similar("imdb").to_pandas()["rank"]) == [1, 2, 3, 4, 5]


def test_without_pandas_a_sentence_says_so(toy_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setattr("tupate_hub.notebook.is_installed", lambda package: False)
    with pytest.raises(TupateHubError, match="needs pandas"):
        Zoo.open(toy_zoo).to_pandas()
