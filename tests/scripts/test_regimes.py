"""Regimes: a target's seed counts once most of its sources were measured, so that a table may grow while it is judged."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "evaluation"


def test_a_seed_counts_once_most_sources_were_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not SCRIPTS.is_dir():
        pytest.skip("no scripts beside the package")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    rows = [("trec", "0", 10), ("trec", "1", 7), ("trec", "2", 6), ("trec", "3", 0), ("cola", "1", 2)]
    lines = [f"-,{target},{seed}" for target, seed, _ in rows]
    lines += [f"s{number},{target},{seed}" for target, seed, count in rows for number in range(count)]
    (tmp_path / "few.csv").write_text("\n".join(["source,target,seed", *lines]) + "\n", encoding="utf-8")
    whole = import_module("regimes").whole_seeds(tmp_path / "few.csv")
    assert whole == {("trec", "0"), ("trec", "1"), ("cola", "1")}
