"""Sizes: an adapter of another base model is refused by what its blocks are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import BASE, lora, prompt

from tupate_hub import Zoo
from tupate_hub.collect.add import add_embeddings, open_or_start
from tupate_hub.embedding import TaskEmbedding, make_block, order_blocks
from tupate_hub.space import Space


def wide(task: str, width: int, base: str = BASE) -> TaskEmbedding:
    rows = np.random.default_rng(width).standard_normal((3, width)).astype(np.float32)
    return TaskEmbedding(task, Space(base, "prompt"), (make_block("prompt", {"rows": rows}),))


def added(folder: Path, *embeddings: TaskEmbedding) -> list[str]:
    """The reasons of those that are refused."""
    _, became = add_embeddings(open_or_start(folder), [(Path(one.task), one) for one in embeddings])
    return [one.reason for one in became.rejected]


def test_prompts_of_two_widths_are_of_two_models(tmp_path: Path) -> None:
    (reason,) = added(tmp_path / "together", wide("a", 8), wide("b", 10), wide("c", 8))
    assert reason == f"'b' is not of {BASE}: its block 'prompt' has a width of 10, that of 'a' a width of 8."
    assert added(tmp_path / "apart", wide("a", 8)) == []
    (reason,) = added(tmp_path / "apart", wide("b", 10))
    assert "that of 'a' a width of 8" in reason
    assert Zoo.open(tmp_path / "apart").verify() == []


def test_other_ranks_and_other_targets_are_welcome(tmp_path: Path) -> None:
    ones = [lora("a", 0, rank=2), lora("b", 1, rank=5)]
    rest = lora("c", 2)
    ones.append(replace(rest, blocks=rest.blocks[:1]))
    assert added(tmp_path, *ones) == []


def test_blocks_that_share_no_size_with_the_spaces_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = {"A": rng.standard_normal((2, 50)), "B": rng.standard_normal((60, 2))}
    strange = TaskEmbedding("x", lora("a", 0).space, order_blocks([make_block("h.0.mlp", parts)]))
    (reason,) = added(tmp_path, lora("a", 0), strange)
    assert "whose blocks have other sizes: its block 'h.0.mlp' has 50 inputs and 60 outputs" in reason


@pytest.mark.parametrize(("width", "fits"), [(1024, True), (768, False)])
def test_the_first_of_a_known_model_has_its_width(width: int, fits: bool, tmp_path: Path) -> None:
    reasons = added(tmp_path, wide("a", width, "roberta-large"))
    assert bool(reasons) != fits
    assert all("roberta-large, which is 1024 wide" in reason for reason in reasons)


def test_what_is_not_replaced_stays(tmp_path: Path) -> None:
    added(tmp_path, prompt("a", 1))
    before = Zoo.open(tmp_path).registry
    assert added(tmp_path, wide("b", 100))
    assert Zoo.open(tmp_path).registry == before
