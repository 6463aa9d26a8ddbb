"""Rows of measured transfer: a table that several processes fill, in the form that zoo/truth/ has."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tupate_hub.errors import FormatError, TupateHubError
from tupate_hub.evaluation.transfer_rows import COLUMNS, TransferRow, append_rows, read_rows, require_table
from tupate_hub.evaluation.truth import read_truth

ROW = TransferRow(
    source="sst2",
    target="trec",
    score=0.8,
    baseline_score_without_transfer=0.5,
    regime="few-shot",
    seed=0,
    metric="accuracy",
    steps=40,
    examples=200,
    scored_on=500,
    method="lora",
    device="cpu",
    torch="2.13.0",
    adapters="1.3.0",
    transformers="4.57.6",
    seconds=4.12,
)


def test_the_form_of_the_recorded_tables(tmp_path: Path) -> None:
    append_rows(tmp_path / "new" / "rows.csv", [ROW, replace(ROW, baseline_score_without_transfer=None)])
    assert (tmp_path / "new" / "rows.csv").read_bytes() == (
        b"source,target,score,baseline_score_without_transfer,regime,seed,metric,steps,examples,scored_on,"
        b"method,device,torch,adapters,transformers,seconds\n"
        b"sst2,trec,0.80000,0.50000,few-shot,0,accuracy,40,200,500,lora,cpu,2.13.0,1.3.0,4.57.6,4.1\n"
        b"sst2,trec,0.80000,,few-shot,0,accuracy,40,200,500,lora,cpu,2.13.0,1.3.0,4.57.6,4.1\n"
    )


def test_names_with_commas_and_quotes_survive(tmp_path: Path) -> None:
    odd = 'a "b", c'
    append_rows(tmp_path / "rows.csv", [replace(ROW, source=odd)])
    (row,) = read_rows(tmp_path / "rows.csv")
    assert tuple(row) == COLUMNS
    assert (row["source"], row["score"]) == (odd, "0.80000")


def test_many_at_once_write_one_header_and_every_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: append_rows(path, [replace(ROW, seed=seed)] * 2), range(40)))
    assert sorted(int(row["seed"]) for row in read_rows(path)) == sorted([*range(40)] * 2)


def test_no_table_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "absent.csv") == []


def test_the_rows_are_truth(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    append_rows(path, [ROW, replace(ROW, source="mnli", score=0.6)])
    truth = read_truth(path)
    assert (truth.targets, truth.sources) == (("trec",), ("mnli", "sst2"))
    np.testing.assert_allclose(truth.scores, [[0.6, 0.8]])
    assert (truth.baseline.tolist(), truth.metric) == ([0.5], ("accuracy",))


def test_another_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("text,label\ngood,1\n")
    with pytest.raises(FormatError, match=r"is not a table of transfer runs: its columns are text,label") as caught:
        read_rows(tmp_path / "reviews.csv")
    assert "source,target,score" in caught.value.hint


def test_a_place_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TupateHubError, match="cannot be written"):
        append_rows(tmp_path / "file" / "rows.csv", [ROW])
    with pytest.raises(TupateHubError, match="cannot be written"):
        append_rows(tmp_path, [ROW])


def test_a_table_is_tried_before_there_are_rows_and_nothing_stays(tmp_path: Path) -> None:
    require_table(tmp_path / "new" / "deeper" / "rows.csv")
    require_table(tmp_path / "rows.csv")
    assert list(tmp_path.iterdir()) == []
    append_rows(tmp_path / "rows.csv", [ROW])
    before = (tmp_path / "rows.csv").read_bytes()
    require_table(tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_bytes() == before
    with pytest.raises(TupateHubError, match="cannot be written"):
        require_table(tmp_path)
    (tmp_path / "other.csv").write_text("text,label\n")
    with pytest.raises(FormatError, match="is not a table of transfer runs"):
        require_table(tmp_path / "other.csv")


def test_a_trial_takes_no_row_that_another_writes_meanwhile(tmp_path: Path) -> None:
    tables = [tmp_path / f"{number}.csv" for number in range(50)]
    with ThreadPoolExecutor(4) as pool:
        for table in tables:
            trials = [pool.submit(require_table, table) for _ in range(3)]
            pool.submit(append_rows, table, [ROW]).result()
            for trial in trials:
                trial.result()
    assert [len(read_rows(table)) for table in tables] == [1] * len(tables)
