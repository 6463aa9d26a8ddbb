"""Rows of measured merges: written, read again, and refused where they are something else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tupate_hub.errors import FormatError
from tupate_hub.evaluation.merge_rows import BASE, COLUMNS, MergeRow, append_merge_rows, read_merge_rows

ROW = MergeRow(
    merge="a+b",
    weights="mean",
    task="a",
    score=0.75,
    kept_head=0.5,
    recorded=0.8,
    baseline=0.25,
    weight=0.5,
    survives=0.625,
    disturbed=0.125,
    distance=0.75,
    cosine=-0.25,
    reads=0.5,
    moves=0.25,
    opposite=0.5,
    cancelled=0.125,
    kept=1.0,
    rank=8,
    metric="accuracy",
    examples=100,
    scored_on=50,
    torch="2.13.0",
    transformers="4.57.6",
    adapters="1.3.0",
    seconds=4.5,
)
NOTHING = dict.fromkeys(("kept_head", *COLUMNS[7:18]))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    table = tmp_path / "new" / "rows.csv"
    rows = [ROW, replace(ROW, merge=BASE, weights="", **NOTHING)]
    assert read_merge_rows(table) == []
    append_merge_rows(table, rows[:1])
    append_merge_rows(table, rows[1:])
    assert read_merge_rows(table) == rows
    assert table.read_text().splitlines()[0] == ",".join(COLUMNS)


@pytest.mark.parametrize("column", ["score", "rank", "seconds"])
def test_a_row_that_is_cut_is_refused(column: str, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    append_merge_rows(table, [ROW])
    cells = ROW.cells()
    cells[COLUMNS.index(column)] = "x"
    table.write_text(table.read_text() + ",".join(cells) + "\n")
    with pytest.raises(FormatError, match="cut or malformed"):
        read_merge_rows(table)
    table.write_text("\n".join([",".join(COLUMNS), "a+b,mean,a,0.5"]) + "\n")
    with pytest.raises(FormatError, match="cut or malformed"):
        read_merge_rows(table)


def test_another_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("source,target\na,b\n")
    with pytest.raises(FormatError, match="not a table of merges"):
        read_merge_rows(tmp_path / "rows.csv")
