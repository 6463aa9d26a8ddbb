"""docs/api.md: its examples give what the page says, and it speaks of every public name."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import tupate_hub

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


def test_the_examples_give_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 30
    assert result.failed == 0


@pytest.mark.parametrize("name", tupate_hub.__all__)
def test_the_page_speaks_of_every_public_name(name: str) -> None:
    assert f"`{name}`" in PAGE.read_text(encoding="utf-8")
