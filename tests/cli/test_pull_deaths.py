"""Killed at any change of the disk, a pull leaves the folder that was there or the new one, and can be given again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damage import elsewhere
from dying import again_without_torch, can_fork, deaths
from orchards import written

pytestmark = [
    pytest.mark.skipif(not can_fork, reason="needs fork"),
    pytest.mark.skipif(again_without_torch, reason="done in the first environment"),
]


@pytest.mark.parametrize("form", [("--as", "peft", "--bare")], ids=["peft"])
def test_pulling_from_the_hub(published: str, invoke: Callable[..., Any], tmp_path: Path, form: tuple[str, ...],
                              monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    command = ("pull", "rte", *form, "--registry", "acme/zoo")
    assert invoke(*command, "--to", tmp_path / "clean").code == 0
    expected, points = elsewhere(written(tmp_path / "clean"), tmp_path / "clean"), 0

    def work_at(point: int) -> Callable[[], object]:
        monkeypatch.setenv("TUPATE_HUB_CACHE", str(tmp_path / f"cache{point}"))
        return lambda: invoke(*command, "--to", tmp_path / f"at{point}")

    for point in deaths(work_at):
        folder = tmp_path / f"at{point}"
        if folder.exists():
            assert elsewhere(written(folder), folder) == expected
        assert invoke(*command, "--to", folder, "--force").code == 0
        assert elsewhere(written(folder), folder) == expected
        points = point
    assert points > 5
