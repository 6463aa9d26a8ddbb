"""What this project tunes, exported and loaded by the libraries: the outputs are those of the tuned model."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from loading import assert_same, last_hidden, outputs, quiet_libraries, run_readme, write

from tupate_hub.embedding import TaskEmbedding, parse_embedding
from tupate_hub.export import export
from tupate_hub.training.methods import get_method
from tupate_hub.training.model import build_model
from tupate_hub.training.record import to_embedding
from tupate_hub.training.regime import Regime
from tupate_hub.training.tuner import tune

__all__ = ["quiet_libraries"]

BASE_ID = "acme/toy-bert"
SHORT = Regime(steps=3, batch_size=8, learning_rate=1e-2, evaluations=1, max_length=32)
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("lora", {}),
    ("lora", {"r": 3, "alpha": 2, "targets": ["query", "key", "value", "intermediate", "output"]}),
    ("ia3", {}),
    ("adapter", {"r": 5}),
    ("adapter-houlsby", {}),
    ("parallel", {"r": 7}),
    ("parallel", {"on": "attention"}),
    ("scaled-parallel", {}),
    ("scaled-parallel", {"scaling": "learned"}),
    ("prefix", {"tokens": 4}),
    ("prefix", {"tokens": 4, "reparametrise": True}),
    ("mam", {}),
    ("prompt", {"tokens": 4}),
]


@pytest.fixture(scope="module")
def run(base: Path, load: Any) -> Any:
    """`run("prefix", {"tokens": 3})` is what a tuned model's head sees, and its embedding from its file's bytes."""

    @cache
    def make(name: str, written: str) -> tuple[list[Any], TaskEmbedding]:
        method = get_method(name, **json.loads(written))
        result = tune(base, load("toy_classes"), method, SHORT)
        model = build_model(base, load("toy_classes"), method, SHORT.init_seed)
        model.load_state_dict({key: torch.tensor(value) for key, value in result.tensors.items()}, strict=False)
        data = to_embedding(result, BASE_ID).to_bytes("float32")
        seen: list[Any] = []
        model.base_model.register_forward_hook(lambda module, given, found: seen.append(found.last_hidden_state))
        outputs(model.eval(), **ids())
        return seen, parse_embedding(data, "it")

    return lambda name, settings: make(name, json.dumps(settings))


def ids() -> dict[str, Any]:
    found = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(found)
    mask[0, 6:] = 0
    return {"input_ids": found, "attention_mask": mask}


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_the_adapters_library_gives_the_outputs_of_the_tuned_model(
    name: str, settings: dict[str, Any], run: Any, base: Path, tmp_path: Path
) -> None:
    expected, embedding = run(name, settings)
    folder = write(tmp_path / "out", export(embedding, "adapters"))
    found = last_hidden(run_readme(folder, base, BASE_ID), **ids())
    if name == "prompt":  # training hides the prompt's own positions from the head
        tokens = len(embedding.blocks[0].parts["rows"])
        found = [torch.cat([hidden[:, :1], hidden[:, 1 + tokens :]], dim=1) for hidden in found]
    assert_same(found, expected)


@pytest.mark.parametrize(("name", "settings"), [one for one in VARIANTS if one[0] in ("lora", "ia3", "prefix")])
def test_peft_gives_the_outputs_of_the_tuned_model(
    name: str, settings: dict[str, Any], run: Any, base: Path, tmp_path: Path
) -> None:
    expected, embedding = run(name, settings)
    bare = write(tmp_path / "bare", export(embedding, "peft", bare=True))
    assert_same(outputs(run_readme(bare, base, BASE_ID), **ids()), expected)
    headed = run_readme(write(tmp_path / "headed", export(embedding, "peft")), base, BASE_ID)
    assert_same(last_hidden(headed, **ids()), expected)


@pytest.mark.parametrize(("name", "settings"), [one for one in VARIANTS if one[0] not in ("lora", "ia3", "prefix")])
def test_runs_of_before_the_settings_were_kept_are_written_alike(name: str, settings: dict[str, Any], run: Any) -> None:
    """What an older run's facts do not say is how this project has always placed its adapters and prompts."""
    _, embedding = run(name, settings)
    later = ("original_ln_before", "original_ln_after", "residual_before_ln", "leave_out", "combine")
    kept = {key: value for key, value in embedding.facts["settings"].items() if key not in later}
    older = replace(embedding, facts={**embedding.facts, "settings": kept})
    assert len(kept) < len(embedding.facts["settings"])
    assert export(older, "adapters") == export(embedding, "adapters")
