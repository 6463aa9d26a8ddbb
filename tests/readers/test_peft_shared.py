"""PEFT's methods whose update is a product of the file's tensors, each against what PEFT itself merges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from safetensors.torch import load_file, save_file  # noqa: E402
from tiny_models import LAYERS, WIDTH, shake, tiny, weights  # noqa: E402

from tupate_hub.embedding import Adapter  # noqa: E402
from tupate_hub.errors import FormatError  # noqa: E402
from tupate_hub.readers import find_adapters, read_adapter  # noqa: E402
from tupate_hub.readers.names import block_name  # noqa: E402

CLOSE = 1e-5
BASE = "google-bert/bert-base-uncased"
WEIGHTS = "adapter_model.safetensors"


def tuned(kind: str, config: Any) -> Any:
    """A tiny model with an adapter in which every trained number was moved."""
    model = peft.get_peft_model(tiny(kind), config)
    shake([value for value in model.parameters() if value.requires_grad])
    return model.eval()


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def changes(kind: str, folder: Path) -> dict[str, np.ndarray]:
    """What PEFT adds to each weight, (out, in), when it loads a folder and merges it; unchanged ones are absent."""
    model = peft.PeftModel.from_pretrained(tiny(kind), folder)
    before, after = weights(tiny(kind)), weights(model.merge_and_unload())
    found = {name: value - before[name] for name, value in after.items()}
    found = {name: each for name, each in found.items() if np.abs(each).max() > 1e-7}
    return {
        block_name(name.removesuffix(".weight")): each.T if kind == "gpt2" else each for name, each in found.items()
    }


def assert_updates(adapter: Adapter, expected: dict[str, np.ndarray]) -> None:
    found = {block.name: block.scale * block.parts["B"] @ block.parts["A"] for block in adapter.blocks}
    assert found.keys() == expected.keys() and expected
    for name, change in expected.items():
        np.testing.assert_allclose(found[name], change, atol=CLOSE, err_msg=name)


def rewrite(folder: Path, **tensors: Any) -> Path:
    """Replace tensors of a saved file by the end of their keys; None takes them away."""
    stored = load_file(folder / WEIGHTS)
    for key in list(stored):
        end = key.rpartition(".")[2]
        if end in tensors:
            del stored[key]
            if tensors[end] is not None:
                stored[key] = tensors[end].clone()
    save_file(stored, folder / WEIGHTS)
    return folder


ATTENTION = ["query", "value"]
METHODS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "LoHa": ("bert", "LoHa", {"r": 2, "alpha": 6, "target_modules": ["query", "dense"]}),
    "LoHa whose r² is beyond the width": ("bert", "LoHa", {"r": 7, "alpha": 6, "target_modules": ["query", "dense"]}),
    "LoHa with patterns": (
        "bert",
        "LoHa",
        {
            "r": 2,
            "alpha": 6,
            "target_modules": ATTENTION,
            "rank_pattern": {"query": 3},
            "alpha_pattern": {"layer.1.attention.self.value": 1},
        },
    ),
    "LoKr": ("bert", "LoKr", {"r": 2, "alpha": 6, "target_modules": ["query", "dense"]}),
    "LoKr, both factored": ("bert", "LoKr", {"r": 1, "target_modules": ATTENTION, "decompose_both": True}),
    "LoKr, both whole": ("bert", "LoKr", {"r": 20, "alpha": 5, "target_modules": ["query", "dense"]}),
    "LoKr, whole with patterns": (
        "bert",
        "LoKr",
        {"r": 20, "target_modules": ATTENTION, "rank_pattern": {"query": 30}, "alpha_pattern": {"value": 1}},
    ),
    "LoKr of a small factor": ("bert", "LoKr", {"r": 2, "target_modules": ["dense"], "decompose_factor": 2}),
    "VeRA": ("bert", "Vera", {"r": 4, "target_modules": ["query", "value"]}),
    "VeRA of a transposed weight": ("gpt2", "Vera", {"r": 4, "target_modules": ["c_attn"], "fan_in_fan_out": True}),
    "VB-LoRA": ("bert", "VBLoRA", {"r": 2, "num_vectors": 12, "vector_length": 8, "topk": 3, "target_modules": ["dense"]}),
    "VB-LoRA, chosen alone": (
        "bert",
        "VBLoRA",
        {"r": 2, "num_vectors": 12, "vector_length": 8, "target_modules": ATTENTION, "save_only_topk_weights": True},
    ),
    "DeLoRA": ("bert", "Delora", {"r": 3, "delora_lambda": 7, "target_modules": ["query", "dense"]}),
}  # fmt: skip


@pytest.mark.parametrize("case", METHODS)
def test_an_update_is_what_peft_merges(case: str, tmp_path: Path) -> None:
    kind, method, options = METHODS[case]
    folder = saved(tuned(kind, getattr(peft, f"{method}Config")(**options)), tmp_path)
    adapter = read_adapter(folder, base=BASE)
    assert adapter.method == "lora" and adapter.settings["tuned_as"] == method.lower() and not adapter.left_out
    assert_updates(adapter, changes(kind, folder))


def test_a_lohas_factors_are_thin(tmp_path: Path) -> None:
    folder = saved(tuned("bert", peft.LoHaConfig(r=2, target_modules=["query"])), tmp_path)
    assert {len(block.parts["A"]) for block in read_adapter(folder, base=BASE).blocks} == {4}


def test_a_vera_of_layers_of_several_widths_needs_the_base_models(tmp_path: Path) -> None:
    config = peft.VeraConfig(r=4, target_modules=["query", "output.dense"])
    folder = saved(tuned("bert", config), tmp_path / "adapter")
    with pytest.raises(FormatError, match="does not say how wide") as error:
        read_adapter(folder, base=BASE)
    assert "base_weights=FOLDER" in error.value.hint
    tiny("bert").save_pretrained(tmp_path / "base")
    adapter = read_adapter(folder, base=BASE, base_weights=tmp_path / "base")
    assert {block.parts["A"].shape[1] for block in adapter.blocks} == {WIDTH, 2 * WIDTH}
    assert_updates(adapter, changes("bert", folder))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_vera_without_its_matrices_is_refused(tmp_path: Path) -> None:
    config = peft.VeraConfig(r=4, target_modules=["query"], save_projection=False)
    with pytest.raises(FormatError, match="without its shared matrices") as error:
        read_adapter(saved(tuned("bert", config), tmp_path), base=BASE)
    assert "save_projection=True" in error.value.hint


def test_a_lokr_of_too_many_numbers_is_refused_and_says_the_limit(tmp_path: Path, monkeypatch: Any) -> None:
    from tupate_hub.readers import products

    folder = saved(tuned("bert", peft.LoKrConfig(r=2, target_modules=["query"])), tmp_path)
    monkeypatch.setattr(products, "_MOST_MADE", 1000)
    monkeypatch.setattr(products, "_MOST_TIMES", 1)
    with pytest.raises(FormatError, match="too many numbers as pairs") as error:
        read_adapter(folder, base=BASE)
    assert "1000 numbers" in error.value.hint


MALFORMED: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "a factor that is missing": ("LoHa", {"r": 2}, {"hada_w2_b": None}, "no hada_w2_b"),
    "factors that do not fit": ("LoHa", {"r": 2}, {"hada_w1_a": torch.ones(5, 2)}, "do not fit together"),
    "a matrix that is missing": ("LoKr", {"r": 2}, {"lokr_w1": None}, "no lokr_w1_a"),
    "a matrix that is none": ("LoKr", {"r": 2}, {"lokr_w1": torch.ones(4)}, "do not fit together"),
    "shared matrices of another rank": ("Vera", {"r": 4}, {"vera_A": torch.ones(3, WIDTH)}, "shapes do not fit"),
    "a vector that is missing": ("Vera", {"r": 4}, {"vera_lambda_d": None}, "shapes do not fit"),
    "no bank": ("VBLoRA", {"vector_length": 8, "num_vectors": 9}, {"vblora_vector_bank": None}, "vector bank"),
    "no logits": ("VBLoRA", {"vector_length": 8, "num_vectors": 9}, {"vblora_logits_B": None}, "without fitting logits"),
    "no norms": ("Delora", {"r": 2}, {"delora_w_norm": None}, "norms of its base weight"),
    "norms of another width": ("Delora", {"r": 2}, {"delora_w_norm": torch.ones(5)}, "norms of its base weight"),
    "an overflow": (
        "VBLoRA",
        {"vector_length": 8, "num_vectors": 9, "save_only_topk_weights": True},
        {"vblora_logits_A_topk_weights": torch.full((4, 4, 1), 3e38), "vblora_vector_bank": torch.full((9, 8), 3e38)},
        "NaN or infinity",
    ),
    "NaN": ("Delora", {"r": 2}, {"delora_lambda": torch.tensor([float("nan")])}, "NaN or infinity"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_malformed_gets_a_sentence(case: str, tmp_path: Path) -> None:
    method, options, tensors, sentence = MALFORMED[case]
    config = getattr(peft, f"{method}Config")(target_modules=["query"], **options)
    folder = rewrite(saved(tuned("bert", config), tmp_path), **tensors)
    with pytest.raises(FormatError, match=sentence):
        read_adapter(folder, base=BASE)


def test_vectors_beyond_the_bank_are_refused(tmp_path: Path) -> None:
    options = {"vector_length": 8, "num_vectors": 9, "save_only_topk_weights": True}
    folder = saved(tuned("bert", peft.VBLoRAConfig(target_modules=["query"], **options)), tmp_path)
    stored = load_file(folder / WEIGHTS)
    key = next(key for key in stored if key.endswith("A_topk_indices"))
    stored[key] = torch.full_like(stored[key], 9)
    save_file(stored, folder / WEIGHTS)
    with pytest.raises(FormatError, match="beyond its bank"):
        read_adapter(folder, base=BASE)


# --- beside LoRA ---------------------------------------------------------------------------------------------------


def test_trained_tokens_beside_lora_are_left_out_and_counted(tmp_path: Path) -> None:
    config = peft.LoraConfig(r=2, target_modules=["query"], trainable_token_indices=[3, 7, 9])
    adapter = read_adapter(saved(tuned("bert", config), tmp_path), base=BASE)
    assert len(adapter.blocks) == LAYERS and adapter.left_out == {"trained tokens": 3}
    assert any("name tokens" in note for note in adapter.notes)


def test_trained_tokens_alone_are_refused(tmp_path: Path) -> None:
    config = peft.TrainableTokensConfig(token_indices=[3, 7], target_modules=["word_embeddings"])
    with pytest.raises(FormatError, match="name tokens and not a place"):
        read_adapter(saved(tuned("bert", config), tmp_path), base=BASE)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_eva_is_an_ordinary_lora_of_differing_ranks(tmp_path: Path) -> None:
    eva = peft.EvaConfig(rho=2.0)
    options = {"r": 3, "lora_alpha": 6, "target_modules": ["query", "output.dense"], "eva_config": eva}
    model = peft.get_peft_model(tiny("bert"), peft.LoraConfig(init_lora_weights="eva", **options))
    ids = torch.randint(2, 50, (32, 9), generator=torch.Generator().manual_seed(1))
    data = [{"input_ids": part, "attention_mask": torch.ones_like(part)} for part in ids.split(8)]
    peft.initialize_lora_eva_weights(model, data, show_progress_bar=False)
    shake([value for name, value in model.named_parameters() if "lora_B" in name])
    folder = saved(model.eval(), tmp_path)
    adapter = read_adapter(folder, base=BASE)
    assert len({len(block.parts["A"]) for block in adapter.blocks}) > 1  # what EVA is for
    assert_updates(adapter, changes("bert", folder))


def test_an_xlora_names_its_parts(tmp_path: Path) -> None:
    """Its own file has the classifier alone (peft/tuners/xlora/model.py); its parts lie in folders of their own."""
    parts = {}
    for number in "12":
        model = tuned("bert", peft.LoraConfig(r=2, target_modules=["query"]))
        parts[number] = str(saved(model, tmp_path / "adapters" / number))
    config = peft.XLoraConfig(task_type="CAUSAL_LM", hidden_size=WIDTH, adapters=parts)
    config.save_pretrained(tmp_path / "adapters")
    save_file({"internal_xlora_classifier.inner.0.weight": torch.ones(2, 3)}, tmp_path / "adapters" / WEIGHTS)
    with pytest.raises(FormatError, match="mixes 2 adapters by the input") as error:
        read_adapter(tmp_path / "adapters", base=BASE)
    assert all(part[:60] in error.value.hint for part in parts.values())  # long ones are cut
    found = find_adapters(tmp_path)
    assert {str(path) for path in found} == {str(tmp_path / "adapters"), *parts.values()}
    assert all(read_adapter(Path(part), base=BASE).blocks for part in parts.values())
