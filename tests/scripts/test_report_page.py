"""The report's page: what measuring again says, and how far predictors come on the way there."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "evaluation"


def test_the_share_of_the_way_is_from_a_random_order_to_measuring_again(monkeypatch: pytest.MonkeyPatch) -> None:
    if not SCRIPTS.is_dir():
        pytest.skip("no scripts beside the package")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    ranks = {"random": 0.5, "source-mean": 0.4, "update": 0.6, "gain": 0.74, "again": 0.9}
    orders = {name: {"ndcg_rank": rank, "regret@1": 2.04, "regret@3": 1.0} for name, rank in ranks.items()}
    lines = (
        import_module("report_page").again_table({"limited-300": {"seeds": 2, "targets": 11, **orders}}).splitlines()
    )
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]
    assert [row[4:6] for row in cells] == [
        ["0.500", "0.00"],
        ["0.400", "-0.25"],
        ["0.600", "0.25"],
        ["0.740", "0.60"],
        ["0.900", "1.00"],
    ]
    assert {tuple(row[:3]) for row in cells} == {("1,000 examples, 300 steps", "2", "11")}
    assert {tuple(row[6:]) for row in cells} == {("2.0", "1.0")}
