"""The toy base model, and what is tuned on it, made once a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from toys import REGIME, make_base


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny matrices gain nothing from threads, which on a busy machine wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the toy base model; not to be written to."""
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def tokenizer(base: Path) -> Any:
    from tupate_hub.training.model import load_tokenizer

    return load_tokenizer(base)


@pytest.fixture(scope="session")
def tuned(base: Path, load: Callable[[str], Any]) -> Callable[[str], Any]:
    """`tuned("toy_classes")` is the result of one undisturbed run of a toy task, made once."""
    from tupate_hub.training.methods import get_method
    from tupate_hub.training.tuner import tune

    @cache
    def run(name: str) -> Any:
        return tune(base, load(name), get_method("lora"), REGIME)

    return run
