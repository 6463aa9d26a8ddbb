"""What PEFT writes, checked; and what is said of damaged files, against what PEFT does with them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_adapters import rules
from tiny_models import tiny

MISSING = "Found missing adapter keys"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny("bert").save_pretrained(folder)
    return folder


def saved(folder: Path, trained: bool = True, **options: Any) -> Path:
    """A LoRA that PEFT saved; `trained` gives it a B that is not zero."""
    torch.manual_seed(0)
    model = get_peft_model(tiny("bert"), LoraConfig(r=2, target_modules=["query", "value"], **options))
    if trained:
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "acme/tiny"}))
    return folder


def loads(folder: Path) -> bool:
    """Whether PEFT finds all of the adapter's tensors."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        PeftModel.from_pretrained(tiny("bert"), folder)
    return not any(MISSING in str(one.message) for one in said)


def test_what_peft_saves_is_sound_on_its_own_base_model(base: Path, tmp_path: Path) -> None:
    folder = saved(tmp_path / "x", task_type="SEQ_CLS")
    assert rules(folder, base=base) == {"head-there"}
    assert loads(folder)


def test_a_fresh_one_is_all_zero(base: Path, tmp_path: Path) -> None:
    assert rules(saved(tmp_path / "x", trained=False), base=base) >= {"all-zero"}


def test_another_model_lacks_its_modules(tmp_path: Path) -> None:
    tiny("distilbert").save_pretrained(tmp_path / "base")
    assert "not-in-base" in rules(saved(tmp_path / "x"), base=tmp_path / "base")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda key: f"_orig_mod.{key}", False),
        (lambda key: key.removeprefix("base_model.model."), False),
        (lambda key: f"base_model.model.{key}", False),
        (lambda key: key.replace(".weight", ".default.weight"), True),
        (lambda key: key, True),
    ],
)
def test_wrapped_keys_are_those_that_peft_does_not_find(
    change: Callable[[str], str], found: bool, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "x")
    file = folder / "adapter_model.safetensors"
    save_file({change(key): tensor for key, tensor in load_file(file).items()}, file)
    assert ("wrapped-keys" not in rules(folder)) == found == loads(folder)


def test_peft_stops_where_the_rank_differs(tmp_path: Path) -> None:
    folder = saved(tmp_path / "x")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "r": 3}))
    assert "rank-differs" in rules(folder)
    with pytest.raises(RuntimeError, match="size mismatch"):
        PeftModel.from_pretrained(tiny("bert"), folder)


@pytest.mark.filterwarnings("ignore:PiSSA changes the base weights")
def test_pissa_before_and_after_its_conversion(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = get_peft_model(tiny("bert"), LoraConfig(r=2, target_modules=["query"], init_lora_weights="pissa"))
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "start")
    model.peft_config["default"].init_lora_weights = "pissa"
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter += 0.02 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "raw")
    model.save_pretrained(tmp_path / "converted", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    assert rules(tmp_path / "raw", base=base) >= {"unconverted-start", "part-of-base"}
    assert not rules(tmp_path / "converted", base=base) & {"unconverted-start", "part-of-base"}
    assert "part-of-base" in rules(tmp_path / "start", base=base)  # whose configuration says nothing of it
