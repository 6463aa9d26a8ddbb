"""The script that scores pulled folders: what does not agree with the registry is named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def entry(sha256: str, primary: float) -> Any:
    return SimpleNamespace(head={"sha256": sha256, "scores": {"primary": primary}})


def test_rows_are_compared_with_the_registry(load_script: Any) -> None:
    script = load_script("score_pulled")
    rows = [
        {"task": "a", "head_sha256": "1", "recorded": "0.9000", "pulled": "0.9010"},
        {"task": "b", "head_sha256": "2", "recorded": "0.9000", "pulled": "0.8000"},
        {"task": "c", "head_sha256": "3", "recorded": "0.9000", "pulled": "0.9000"},
        {"task": "d", "head_sha256": "4", "recorded": "0.9000", "pulled": "0.9000"},
    ]
    entries = {"a": entry("1", 0.9), "b": entry("2", 0.9), "c": entry("9", 0.9)}
    assert script.apart(rows, entries) == [
        "b: 0.8000 from the pulled folder, 0.9000 recorded",
        "c: the row is of another head",
        "d: the row is of another head",
    ]
