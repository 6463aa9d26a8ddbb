"""Merged LoRA, written by merge-check and loaded by PEFT: against PEFT's own sums of the same adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
from loading import BASE, assert_differ, assert_same, outputs, quiet_libraries, run_readme, saved_base
from tiny_models import shake, tiny

__all__ = ["quiet_libraries"]

WEIGHTS = (0.7, -0.4)
CONFIGS: dict[str, dict[str, Any]] = {
    "a": {"r": 2, "lora_alpha": 6, "target_modules": ["query", "value"]},
    "b": {"r": 3, "lora_alpha": 4, "use_rslora": True, "target_modules": ["value", "output.dense"]},
}


@pytest.fixture
def tuned(tmp_path: Path) -> Any:
    """A tiny model with two PEFT adapters of different ranks, scales and places, both saved below `tmp_path`."""
    model = peft.get_peft_model(tiny("bert"), peft.LoraConfig(**CONFIGS["a"]), adapter_name="a")
    model.add_adapter("b", peft.LoraConfig(**CONFIGS["b"]))
    shake([value for name, value in model.named_parameters() if "lora_" in name])
    model.save_pretrained(str(tmp_path))
    for name in CONFIGS:
        path = tmp_path / name / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": BASE}))
    return model.eval()


def merged(tmp_path: Path, invoke: Any, *options: str) -> Any:
    """The model that the README of what merge-check writes makes."""
    weights = ",".join(map(str, WEIGHTS))
    folder = tmp_path / "merged"
    done = invoke("merge-check", tmp_path / "a", tmp_path / "b", "--weights", weights, "--write", folder, *options)
    assert done.code == 0, done.err
    return run_readme(folder, saved_base("bert", tmp_path / "base"))


def summed(model: Any, way: str, **more: Any) -> list[Any]:
    """The outputs of PEFT's own weighted sum: `cat` puts the factors beside each other, `svd` forms and truncates."""
    model.add_weighted_adapter(list(CONFIGS), list(WEIGHTS), way, way, **more)
    model.set_adapter(way)
    return outputs(model.eval())


def test_with_all_ranks_it_is_the_sum_of_both(tuned: Any, tmp_path: Path, invoke: Any) -> None:
    loaded = merged(tmp_path, invoke, "--rank", "5")
    whole = summed(tuned, "cat")
    tuned.set_adapter("a")
    assert_differ(outputs(tuned), whole)
    assert_same(outputs(loaded), whole)


def test_with_fewer_it_is_the_truncation_of_the_sum(tuned: Any, tmp_path: Path, invoke: Any) -> None:
    loaded = merged(tmp_path, invoke, "--rank", "2")
    cut = summed(tuned, "svd", svd_rank=2)
    assert_differ(summed(tuned, "cat"), cut)
    assert_same(outputs(loaded), cut)
