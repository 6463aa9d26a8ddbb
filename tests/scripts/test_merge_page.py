"""The recorded merges: what they were foretold follows from the zoo, and the page from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tupate_hub import Zoo
from tupate_hub.evaluation.merge_rows import MergeRow, read_merge_rows

ROOT = Path(__file__).parents[2]
SPACE = "all-MiniLM-L6-v2/lora"


@pytest.fixture(scope="module")
def rows() -> list[MergeRow]:
    found = read_merge_rows(ROOT / "zoo" / "truth" / "merges.csv")
    if not found:
        pytest.skip("needs zoo/truth/merges.csv")
    return found


def test_what_was_foretold_follows_from_the_zoo(rows: list[MergeRow], load_script: Any) -> None:
    script = load_script("measure_merge")
    bench = script.Bench(Zoo.open(ROOT), SPACE, ROOT, ROOT)
    merged = [row for row in rows if row.weights]
    assert {row.merge for row in merged} == set(script.MERGES)
    for row in merged[::5]:
        _, foretold = script.foretell(bench, script.Row(row.merge, row.weights, row.task))
        for name, value in foretold.items():
            assert getattr(row, name) == pytest.approx(value, abs=1e-4), (row.merge, row.task, name)


def test_every_row_that_is_wanted_is_there_once(rows: list[MergeRow], load_script: Any) -> None:
    script = load_script("measure_merge")
    made = [script.Row(row.merge, row.weights, row.task) for row in rows]
    assert len(made) == len(set(made))
    assert set(made) == set(script.wanted(script.MERGES))


def test_the_page_is_what_the_rows_give(load_script: Any) -> None:
    page = load_script("merge_page")
    assert page.build() == page.PAGE.read_bytes()


def test_the_page_counts_what_a_row_loses(rows: list[MergeRow], load_script: Any) -> None:
    page = load_script("merge_page")
    found = page.losses(rows)
    one = next(one for one in found if (one.row.merge, one.row.task, one.row.weights) == ("snli+trec", "trec", "mean"))
    own = next(row for row in rows if row.merge == row.task == "trec")
    assert one.points["new head"] == pytest.approx(100 * (own.score - one.row.score))
    assert one.points["kept head"] == pytest.approx(100 * (own.score - one.row.kept_head))
    cosines = [one.row.cosine for one in found if page.is_pair(one)]
    assert cosines == sorted(cosines, reverse=True)
