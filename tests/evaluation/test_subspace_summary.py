"""Rows of the subspace experiment and what they are summed up to."""

from dataclasses import replace

import numpy as np
import pytest

from tupate_hub.errors import FormatError
from tupate_hub.evaluation.subspace_rows import (
    COLUMNS,
    SubspaceRow,
    Trial,
    append_subspace_rows,
    read_subspace_rows,
)
from tupate_hub.evaluation.subspace_summary import References, chosen, paired, relative

PLAIN = SubspaceRow("none", "", 0, 0, 0, "none", "a", "cls", False, 0.5, None, 0, 0, "prompt", "cpu", "2", 1.0)


def row(maps="msf", measure="same", task="a", score=0.7, seen=False, **fields):
    return replace(PLAIN, maps=maps, measure=measure, task=task, score=score, seen=seen, **fields)


def table(none, full, new=None):
    rows = [row("none", "none", task, score) for task, score in none.items()]
    rows += [row("full", "same", task, score, True) for task, score in full.items()]
    return rows + [row("full", "new", task, score, True) for task, score in (new or full).items()]


def test_rows_survive_the_table(tmp_path):
    rows = [row(score=0.1234), row(task="b", held_out=0.25, seed=3, seen=True)]
    append_subspace_rows(tmp_path / "t.csv", rows[:1])
    append_subspace_rows(tmp_path / "t.csv", rows[1:])
    assert read_subspace_rows(tmp_path / "t.csv") == rows
    assert (tmp_path / "t.csv").read_text().splitlines()[0] == ",".join(COLUMNS)


def test_no_table_has_no_rows(tmp_path):
    assert read_subspace_rows(tmp_path / "none.csv") == []


@pytest.mark.parametrize("text", ["a,b\n1,2\n", ",".join(COLUMNS) + "\nmsf,random,0\n"])
def test_a_table_of_something_else_or_a_cut_one_is_refused(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(FormatError, match=r"t\.csv"):
        read_subspace_rows(tmp_path / "t.csv")


def test_a_task_counts_where_full_tuning_makes_it_better():
    known = References.of(table({"a": 0.5, "b": 0.6, "c": 0.6}, {"a": 0.7, "b": 0.6, "c": 0.5}))
    assert known.counted() == ["a"]


def test_the_ratio_is_a_mean_of_ratios_and_the_gain_a_ratio_of_sums():
    known = References.of(table({"a": 0.5, "b": 0.2}, {"a": 0.8, "b": 0.4}))
    found = relative([row(task="a", score=0.6), row(task="b", score=0.3)], known, draws=50)
    assert found.ratio.mean == pytest.approx((0.6 / 0.8 + 0.3 / 0.4) / 2)
    assert found.gain.mean == pytest.approx((0.1 + 0.1) / (0.3 + 0.2))
    assert (found.tasks, found.seeds) == (2, 1)


def test_new_data_is_compared_with_full_tuning_on_it():
    known = References.of(table({"a": 0.5}, {"a": 0.8}, {"a": 0.6}))
    assert relative([row(measure="new", score=0.6)], known, draws=5).ratio.mean == pytest.approx(1)
    assert relative([], known) is None


def test_the_interval_covers_and_narrows_with_tasks():
    rng = np.random.default_rng(1)

    def width(count):
        tasks = [f"t{n}" for n in range(count)]
        known = References.of(table(dict.fromkeys(tasks, 0.4), dict.fromkeys(tasks, 0.8)))
        rows = [row(task=task, score=float(rng.normal(0.7, 0.05))) for task in tasks]
        found = relative(rows, known, draws=300).ratio
        assert found.low < found.mean < found.high
        return found.high - found.low

    assert width(200) < 0.5 * width(10)


def test_rows_are_those_of_the_measurement_over_all_tasks_of_the_split():
    rows = [
        row(task="a", dim=5, split="random", fitted_on=50),
        row(task="a", dim=5, split="random", fitted_on=15),
        row(task="b", dim=5, split="random", fitted_on=50, seen=True),
        row(task="c", dim=5, split="random", fitted_on=50, measure="decoded"),
        row(task="d", dim=5, split="random", fitted_on=50, family="non-cls"),
    ]
    trial = Trial("msf", "random", dim=5)
    assert [one.task for one in chosen(rows, trial, "IST, unseen tasks")] == ["a", "d"]
    assert [one.task for one in chosen(rows, trial, "IST, unseen tasks", "cls")] == ["a"]
    assert chosen(rows, replace(trial, fitted_on=15), "IST, unseen tasks") == [rows[1]]
    assert [one.task for one in chosen(rows, trial, "MSF, unseen tasks")] == ["c"]


def test_differences_are_paired_by_seed_and_task():
    rows = [row(task="a", score=0.7), row(task="b", score=0.5)]
    found = paired(rows, {(0, "a"): 0.6, (0, "b"): 0.6}, draws=100)
    assert found.mean == pytest.approx(0.0) and found.low == pytest.approx(-0.1) and found.high == pytest.approx(0.1)
