"""The measurement of budgets: the table of docs/training.md is that of the recorded rows."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_means_are_by_run_and_checkpoint(load_script):
    script = load_script("measure_budget")
    row = {"target": "a", "held_out": "", "first": ""}
    rows = [
        {**row, "run": "longer", "step": "100 of 400", "score": "0.5", "own_place": "1", "ndcg": "0.2"},
        {**row, "run": "longer", "step": "at 50 of 400", "score": "", "own_place": "3", "ndcg": "0.4"},
        {**row, "run": "longer", "step": "50 of 400", "score": "0.7", "own_place": "2", "ndcg": "0.4"},
    ]
    assert script.means(rows).splitlines()[2:] == [
        "| longer | the kept one | 0.600 | 1.5 | 0.300 |",
        "| longer | at 50 of 400 |  | 3.0 | 0.400 |",
    ]


def test_the_page_has_the_table_of_the_rows(load_script):
    script = load_script("measure_budget")
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- budget -->\n(.*?)\n<!-- end of budget -->", page, flags=re.DOTALL)
    rows = script.read(ROOT / "zoo" / "truth" / "budget.csv")
    assert table == script.means(rows)
