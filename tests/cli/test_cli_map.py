"""map: a neighbourhood as text, and tables that fit a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub import Zoo
from tupate_hub.cli import output
from tupate_hub.cli.columns import display_width, fitting, padded, shortened
from tupate_hub.cli.map import drawn
from tupate_hub.publish.neighbourhood import Spot, neighbourhood


def test_points_lie_as_far_apart_as_scores_say(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    spots, share = neighbourhood(zoo, "imdb", 2)
    assert share == pytest.approx(1)
    assert [one.name for one in spots] == ["imdb", *(one.task for one in zoo.similar("imdb", 2))]
    for one in spots[1:]:
        apart = np.hypot(one.x - spots[0].x, one.y - spots[0].y)
        assert apart == pytest.approx(np.sqrt(2 - 2 * (one.score or 0)), abs=1e-5)


def test_the_command_draws_every_task_once(toy_zoo: Path, invoke: Any) -> None:
    result = invoke("map", "imdb", "--registry", toy_zoo, "-k", 5, "--width", 80, "--height", 12)
    assert result.code == 0
    assert len(result.out.splitlines()) <= 12
    assert all(len(line) <= 80 for line in result.out.splitlines())
    assert result.out.count("◉") == 1
    found = invoke("map", "imdb", "--registry", toy_zoo, "-k", 5, "--json").json()
    assert set(found) == {"query", "share", "points"}
    assert [set(one) for one in found["points"]] == [{"task", "x", "y", "score", "kind"}] * 6
    said = result.out + result.err
    assert all(one["task"] in said for one in found["points"])


def test_too_few_tasks_make_no_map(toy_zoo: Path, invoke: Any) -> None:
    zoo = Path(str(toy_zoo))
    invoke("init", zoo.parent / "small")
    result = invoke("map", "imdb", "--registry", zoo, "-k", 1)
    assert result.code == 2


@given(st.lists(st.tuples(st.text(max_size=30), st.floats(-1, 1), st.floats(-1, 1)), min_size=2, max_size=30),
       st.integers(40, 120), st.integers(10, 30))  # fmt: skip
def test_any_names_and_places_fit(spots: list[tuple[str, float, float]], columns: int, lines: int) -> None:
    picture, unnamed = drawn([Spot(name, x, y) for name, x, y in spots], columns, lines)
    assert len(picture) == lines
    assert all(display_width(line) <= columns for line in picture)
    assert "".join(picture).count("◉") >= 1
    assert len(unnamed) < len(spots)


@given(st.lists(st.integers(1, 80), min_size=1, max_size=9), st.data())
def test_columns_fit_where_they_can(wanted: list[int], data: st.DataObject) -> None:
    fixed = data.draw(st.lists(st.booleans(), min_size=len(wanted), max_size=len(wanted)))
    most = data.draw(st.integers(20, 200))
    found = fitting(wanted, fixed, most)
    total = sum(found) + 2 * (len(found) - 1)
    for want, still, got in zip(wanted, fixed, found, strict=True):
        assert got == want if still else min(want, 8) <= got <= want
    if total > most:
        assert all(still or got <= 8 for still, got in zip(fixed, found, strict=True))


@given(st.text(max_size=40), st.integers(1, 30))
def test_shortened_texts_fit_and_say_so(text: str, most: int) -> None:
    found = shortened(text, most)
    assert display_width(found) <= most
    assert found == text or found.endswith("…")
    assert display_width(padded(found, most, right=True)) == max(most, display_width(found))


@pytest.mark.parametrize(
    ("share", "expected"), [(0, ""), (1, "██████████"), (0.5, "█████"), (0.0125, "▏"), (-1, ""), (2, "██████████")]
)
def test_bars_are_in_eighths(share: float, expected: str) -> None:
    assert output.bar(share) == expected


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("columns", "more"), [(80, []), (120, ["--explain"])])
def test_on_a_terminal_tables_fit_it(columns: int, more: list[str], toy_zoo: Path) -> None:
    command = [sys.executable, "-m", "tupate_hub", "similar", "imdb", *more, "--registry", str(toy_zoo)]
    for colour in ({}, {"NO_COLOR": "1"}):
        ours, theirs = pty.openpty()
        environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", **colour}
        done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, env=environment, check=False)
        os.close(theirs)
        text = os.read(ours, 100_000).decode()
        os.close(ours)
        assert done.returncode == 0
        assert ("\x1b[" in text) == (not colour)
        lines = text.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()
        assert lines[0].split()[:3] == ["rank", "task", "score"]
        assert "█" in lines[1]
        assert max(map(display_width, lines)) <= columns
