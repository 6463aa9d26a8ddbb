"""Duplicates: pairs are found by sketches and told by exact scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import LORA, TASKS, lora, peft
from damage import put

from tupate_hub import Zoo
from tupate_hub.errors import TupateHubError
from tupate_hub.search.duplicates import find_duplicates


@pytest.fixture
def copied(toy_zoo: Path) -> Path:
    """snli is mnli's embedding, three times as large."""
    one = Zoo.open(toy_zoo).embedding("mnli")
    louder = tuple(replace(block, scale=3 * block.scale) for block in one.blocks)
    put(toy_zoo, f"zoo/{LORA.name}/snli.safetensors", replace(one, task="snli", blocks=louder).to_bytes("float32"))
    return toy_zoo


def test_a_copy_is_found(copied: Path) -> None:
    (pair,) = find_duplicates(Zoo.open(copied), LORA.name)
    assert (pair.first, pair.second, pair.same_file) == ("mnli", "snli", False)
    assert pair.score == pytest.approx(1, abs=1e-6)


def test_scores_are_those_of_similar(copied: Path) -> None:
    zoo = Zoo.open(copied)
    found = {(one.first, one.second): one.score for one in find_duplicates(zoo, LORA.name, 0.3)}
    for name, *_ in TASKS:
        for one in zoo.similar(name):
            pair = (name, one.task) if (name, one.task) in found else (one.task, name)
            if one.score >= 0.3:
                assert found[pair] == pytest.approx(one.score, abs=1e-5)


@pytest.mark.parametrize("above", [0.1, -1, 1.5, float("nan")])
def test_what_is_no_score_of_duplicates(above: float, toy_zoo: Path) -> None:
    with pytest.raises(TupateHubError, match="no score of near-duplicates"):
        find_duplicates(Zoo.open(toy_zoo), LORA.name, above)


def test_the_command_looks_at_every_space(copied: Path, tmp_path: Path, invoke: Any) -> None:
    result = invoke("duplicates", "--registry", copied)
    assert [line.split("\t") for line in result.out.splitlines()] == [
        ["space", "first", "second", "score", "note"],
        [LORA.name, "mnli", "snli", "1.000", ""],
    ]
    assert result.err == "1 pairs score 0.9 or more\n"
    nothing = invoke("duplicates", "--registry", copied, "--space", "tiny-bert/prompt")
    assert (nothing.code, nothing.out) == (0, "")
    mine = tmp_path / "mine"
    for name in ("one", "two"):
        assert invoke("add", peft(tmp_path / name), "--registry", mine).code == 0
    (row,) = invoke("duplicates", "--registry", mine, "--json").json()
    assert (row["first"], row["second"], row["same_file"]) == ("one", "two", True)
    assert set(row) == {"space", "first", "second", "score", "same_file", "exact"}
    assert invoke("duplicates", "--above", "0.1").code == 2
    assert lora("x", 0).space == LORA
