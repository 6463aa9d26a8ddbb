"""Every directory of the collection of strangers' adapters, against what is to come of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tupate_hub.errors import FormatError
from tupate_hub.readers import detect, find_adapters, read_adapter

SHARED = Path(__file__).parents[3] / "shared" / "adapters"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the folder `shared` beside the checkout")

NONE_NAMED = "names no base model"
UNTRAINED = "never trained"


@dataclass(frozen=True)
class Read:
    """What a directory is read as; `rank` is a LoRA's rank, a prompt's tokens, a bottleneck's hidden width."""

    method: str
    base: str | None
    blocks: int
    rank: int
    scale: float
    left_out: int = 0
    note: str = ""


DISTILBERT, GPT2, BERT = "distilbert-base-uncased", "gpt2", "bert-base-uncased"
LAB = "opendatahub-io__vllm-tgis-adapter__tests__fixtures__"
GOOGLE = "google-research__prompt-tuning__prompt_tuning__pretrained_prompts__t5_1_1_lm100k_base__"

EXPECTED: dict[str, Read | str] = {
    "0112LY__logo-gemma-lora__adapter": Read("lora", "google/gemma-3-270m-it", 36, 4, 1),
    "AnHu2410__MD_crosslingual__adapter": Read("adapter", "bert-base-multilingual-cased", 12, 48, 1),
    "Dheena731__tinyLlama-finetune": "holds a configuration and no weights",
    "Hareshjethani__BERT-GPT2-Multitask-Finetuning": Read("lora", BERT, 24, 8, 4, 2),
    "JetRunner__TuPaTE__task_embeddings": "holds 20 files that could be read",
    "Karangarg01__peft-hate-speech-detection__model": Read("lora", DISTILBERT, 12, 8, 2, 4),
    "Rahul-8905__Email_Summarizer__fine_tuned_model": Read("lora", "google/flan-t5-small", 72, 8, 2),
    "SowravPawar__Self-Healing-Classification__model": Read("lora", DISTILBERT, 12, 8, 4, 4),
    "Surneval__sentiment-classifier-app__model": r"adapter_model\.safetensors is a Git LFS pointer",
    "Tashu014__lora-imdb-distilbert": Read("lora", DISTILBERT, 12, 8, 2, 4),
    "TheSotti__Lightweight-Fine-Tuning-to-FM__gpt-lora": Read("lora", GPT2, 24, 8, 4, 1),
    "Umar-khan4260__Text-Classification__model": r"adapter_config\.json is a Git LFS pointer",
    "anirudh-ak__peft-gpt2__model__lora_model": Read("lora", GPT2, 12, 8, 1, 1),
    "ao-wei__gemma3-270m-svg-lora-partb__adapter": Read("lora", "google/gemma-3-270m-it", 72, 4, 4),
    "arshiaanjum__faq-classifier-distilbert-lora__best_model": Read("lora", DISTILBERT, 12, 8, 2, 4),
    "b-ritter__project_01_peft__gpt-lora": Read("lora", GPT2, 12, 8, 4, 1),
    "dayanidhi04__emotion-classification-distilbert-lora": Read("lora", DISTILBERT, 12, 8, 2, 4),
    "eranmoss__Udacity_Nanodegree_generative_AI__peft_model": Read(
        "lora", "distilbert-base-uncased-finetuned-sst-2-english", 12, 4, 4
    ),
    "fegbewunmi__Light-finetuning__gpt-lora": Read("lora", GPT2, 12, 8, 1),
    f"{GOOGLE}mrpc": Read("prompt", None, 1, 100, 1, note=NONE_NAMED),
    f"{GOOGLE}sst2": Read("prompt", None, 1, 100, 1, note=NONE_NAMED),
    "guilhermmeabreu__lab_08": Read("lora", "facebook/opt-125m", 24, 16, 2),
    "hitoshikumagai__Apply-Lightweight-Fine-Tuning-to-a-Foundation-Model__gpt-lora": Read("lora", GPT2, 12, 1, 1, 1),
    "hungphamdinh__MLX_Model": Read("lora", None, 8, 8, 1, note="does not say its scale"),
    "logan-lev__lightweight-finetuning__gpt-lora": Read("lora", GPT2, 12, 8, 4, 1),
    f"{LAB}bloomz-560m-prompt-adapter": Read("prompt", "bigscience/bloomz-560m", 1, 8, 1),
    f"{LAB}granite-3b-code-instruct-lora": "placeholder of 13 bytes",
    "othorizedshogun__poem-generator__model": Read("lora", "PY007/TinyLlama-1.1B-intermediate-step-480k-1T", 44, 4, 8),
    "phuongsky__lora-gpt2-pipeline__outputs": Read("lora", "distilgpt2", 6, 8, 4),
    "schadow98__udacity_fine_tuning_to_a_foundation_model__bert-lora": Read("lora", BERT, 24, 16, 1),
    "snehakumari1996__TinyLlama_LoRA_CLI_Copilot__lora_adapter": "holds a configuration and no weights",
    "souravt__product-search__peft_model": Read("lora", "sentence-transformers/all-MiniLM-L6-v2", 12, 8, 2),
    "subro608__Deep_learning_Bert_project2__checkpoint-2400": Read("lora", "roberta-base", 12, 2, 2, 4),
    "sukhmandhawan__LightWeightFineTUning__peft_model": Read("lora", GPT2, 12, 4, 4, 1, UNTRAINED),
    "trungmac07__Bert_Fine_Tuning_Sentiment_Analysis__fine_tuned_model": Read("lora", "bert-base-cased", 24, 1, 1, 2),
    "wyek1n__MLX-CLI__adapters": Read("lora", None, 8, 8, 10, note="local base model"),
    "wyek1n__MLX-CLI__adapters__0000100": Read("lora", None, 8, 8, 10, note="local base model"),
    "yoonyerin__be-great": Read("lora", GPT2, 12, 8, 4),
    "zouhe0__LLM-Homework__adapter": Read("lora", None, 72, 4, 4, note="local base model"),
}
THUNLP = "thunlp__Prompt-Transferability__"


def directories() -> list[str]:
    return sorted(path.name for path in SHARED.iterdir() if path.is_dir()) if SHARED.is_dir() else []


def expected(directory: str) -> Read | str:
    if directory.startswith(THUNLP):
        return Read("prompt", None, 1, 100, 1, note=NONE_NAMED)
    return EXPECTED[directory]


@pytest.mark.parametrize("directory", directories())
def test_a_directory_ends_as_the_table_says(directory: str) -> None:
    outcome, path = expected(directory), SHARED / directory
    if isinstance(outcome, str):
        with pytest.raises(FormatError, match=outcome) as error:
            read_adapter(path)
        assert error.value.exit_code == 2 and "\n" not in error.value.message
        return
    adapter = read_adapter(path)
    first = adapter.blocks[0]
    rank = len(next(iter(first.parts.values())))
    assert (adapter.method, adapter.base, len(adapter.blocks), rank) == (
        outcome.method,
        outcome.base,
        outcome.blocks,
        outcome.rank,
    )
    assert {block.scale for block in adapter.blocks} == {outcome.scale}
    assert sum(adapter.left_out.values()) == outcome.left_out
    if outcome.note:
        assert any(outcome.note in note for note in adapter.notes)
    elif outcome.base is not None:
        assert adapter.notes == ()
    assert detect(path).weights.parent == path
    assert read_adapter(path, base="some/model").base == "some/model"


def test_the_table_has_every_directory_and_no_other() -> None:
    named = {name for name in directories() if not name.startswith(THUNLP)}
    assert named == EXPECTED.keys()
    assert len(directories()) == len(EXPECTED) + 32


def test_prompts_know_their_task_and_width() -> None:
    for directory in directories():
        if not directory.startswith(THUNLP):
            continue
        adapter = read_adapter(SHARED / directory, base="google-t5/t5-small")
        stem, _, model = directory.removeprefix(THUNLP).partition("Prompt")
        assert adapter.task == stem and adapter.base == "t5-small"
        assert adapter.blocks[0].parts["rows"].shape == (100, 768 if model == "Roberta" else 512)


def test_the_authors_vectors_have_a_space_of_their_own() -> None:
    files = find_adapters(SHARED / "JetRunner__TuPaTE__task_embeddings")
    assert len(files) == 20
    for path in files:
        adapter = read_adapter(path)
        assert (adapter.method, adapter.base, adapter.task) == ("plain", "JetRunner/TuPaTE", path.stem)
        np.testing.assert_array_equal(adapter.blocks[0].parts["vector"], np.load(path).astype(np.float32))


def test_all_are_found_below_the_folder() -> None:
    found = find_adapters(SHARED)
    assert len(found) == len(directories()) - 1 + 20
    bare = {"task_prompt", *(path.name for path in SHARED.glob("*/*.np[yz]") if path.name != "adapters.npz")}
    assert {path.name for path in found if path.is_file()} == bare


def test_one_transposition_apart_from_the_file() -> None:
    raw = np.load(SHARED / "hungphamdinh__MLX_Model" / "adapters.npz")
    for block in read_adapter(SHARED / "hungphamdinh__MLX_Model").blocks:
        np.testing.assert_array_equal(block.parts["A"], raw[f"model.{block.name}.lora_a"].T)
        np.testing.assert_array_equal(block.parts["B"], raw[f"model.{block.name}.lora_b"].T)
