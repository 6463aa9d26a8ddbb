"""Exported folders, written to disk and loaded by the lines of Python that their README gives."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import LAYERS, WIDTH, tiny

BASE = "acme/tiny-bert"
#: Outputs are of size 1 to 4 and computed in double precision. What is left is the rounding of the float32 parameters,
#: which the shaken weights (up to 5) magnify: 4e-6 at most. In float32 the passes themselves differ by 2e-5.
CLOSE = 1e-5


@pytest.fixture(autouse=True)
def quiet_libraries() -> Iterator[None]:
    """The libraries warn of heads that start anew; each test looks at the outputs itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


def architecture(kind: str) -> dict[str, Any]:
    """What a trained embedding's facts say of the tiny model."""
    return {"model_type": kind, "hidden_size": WIDTH, "num_hidden_layers": LAYERS}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """The folder, made of the files."""
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def run_readme(folder: Path, base: Path, called: str = BASE) -> Any:
    """The model that the README's code makes, where the base model of that name is in a folder."""
    page = (folder / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert f'"{called}"' in code
    names: dict[str, Any] = {}
    exec(code.replace(f'"{called}"', repr(str(base))).replace("PATH", str(folder)), names)
    return names["model"].eval()


def saved_base(kind: str, folder: Path) -> Path:
    """The tiny model of that kind with its head, on disk."""
    tiny(kind).save_pretrained(folder)
    return folder


def inputs(kind: str = "bert") -> dict[str, Any]:
    """Three texts, one of them shorter, and for BERT two segments."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(2, 50, (3, 9), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    found = {"input_ids": ids, "attention_mask": mask}
    if kind == "bert":
        found["token_type_ids"] = torch.cat([torch.zeros(3, 4), torch.ones(3, 5)], dim=1).long()
    return found


def outputs(model: Any, **given: Any) -> list[Any]:
    """What the model or its encoder gives in double precision; the inputs are BERT's where none are given."""
    with torch.no_grad():
        found = model.double()(**(given or inputs()))
    names = ("logits", "start_logits", "end_logits", "last_hidden_state")
    return [getattr(found, name) for name in names if getattr(found, name, None) is not None]


def last_hidden(model: Any, **given: Any) -> list[Any]:
    """What a head sees, of a model with a head or of a flexible one of the adapters library without; in double precision."""
    with torch.no_grad():
        found = model.double()(**(given or inputs()), output_hidden_states=True)
    return [found.hidden_states[-1]]


def assert_same(first: list[Any], second: list[Any]) -> None:
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=CLOSE)


def assert_differ(first: list[Any], second: list[Any]) -> None:
    assert any(one.shape != other.shape or (one - other).abs().max() > 0.01 for one, other in zip(first, second))  # noqa: B905
