"""Files that torch wrote before 1.6, read through torch where it is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tupate_hub.embedding import read_embedding
from tupate_hub.extras import install_command


@pytest.fixture
def prompt(tmp_path: Path) -> tuple[Path, np.ndarray]:
    values = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "task_prompt"
    torch.save(values, path, _use_new_zipfile_serialization=False)
    return path, values.numpy()


def test_add_reads_a_legacy_file(prompt: tuple[Path, np.ndarray], tmp_path: Path, invoke: Any) -> None:
    path, values = prompt
    zoo = tmp_path / "zoo"
    assert invoke("add", path, "--task", "mine", "--base", "acme/tiny", "--registry", zoo).code == 0
    (file,) = zoo.glob("zoo/*/*/mine.safetensors")
    (block,) = read_embedding(file).blocks
    np.testing.assert_array_equal(block.parts["rows"], values)


def test_without_torch_a_sentence_says_so(
    prompt: tuple[Path, np.ndarray], tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    said = invoke("inspect", prompt[0], "--base", "roberta-base")
    assert said.code == 2
    assert "torch" in said.err
    assert install_command("train") in said.err


def test_a_hostile_legacy_file_is_refused(tmp_path: Path, invoke: Any) -> None:
    path = tmp_path / "task_prompt"

    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return eval, ("open('/nonexistent')",)

    torch.save(Evil(), path, _use_new_zipfile_serialization=False)
    said = invoke("inspect", path, "--base", "roberta-base")
    assert said.code == 2
    assert "Traceback" not in said.err
