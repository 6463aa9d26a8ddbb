"""PEFT's own files, made by PEFT on tiny models, against what PEFT itself computes from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from safetensors.torch import load_file, save_file  # noqa: E402
from tiny_models import LAYERS, WIDTH, shake, tiny, weights  # noqa: E402

from tupate_hub.embedding import Adapter, Block  # noqa: E402
from tupate_hub.errors import FormatError  # noqa: E402
from tupate_hub.readers import read_adapter  # noqa: E402
from tupate_hub.readers.names import block_name  # noqa: E402

CLOSE = 1e-5

#: For the places where PEFT itself warns of what it is asked to do.
peft_may_warn = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


def saved(model: Any, folder: Path, base: str = "google-bert/bert-base-uncased", **changes: Any) -> Path:
    """Save an adapter and give its configuration the base model's id, which a random model has not."""
    model.save_pretrained(folder)
    edit(folder, base_model_name_or_path=base, **changes)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not Ellipsis}))


def shaken(kind: str, config: Any) -> Any:
    """A tiny model with an adapter in which nothing is zero."""
    model = peft.get_peft_model(tiny(kind), config)
    parts = ("lora_", "ia3_", "ln_tuning_layers", "prompt_encoder")
    shake([value for name, value in model.named_parameters() if any(part in name for part in parts)])
    return model.eval()


def update(block: Block) -> np.ndarray:
    return block.scale * block.parts["B"] @ block.parts["A"]


def merged_changes(model: Any, kind: str) -> dict[str, np.ndarray]:
    """What merging adds to each weight of the base model, (out, in), by the block's name; what it leaves is absent."""
    before, after = weights(tiny(kind)), weights(model.merge_and_unload())
    changes = {}
    for name, value in after.items():
        difference = value - before[name]
        if name.endswith(".weight") and np.abs(difference).max() > 1e-7 and "LayerNorm" not in name:
            changes[block_name(name.removesuffix(".weight"))] = difference.T if kind == "gpt2" else difference
    return changes


def assert_updates(adapter: Adapter, expected: dict[str, np.ndarray]) -> None:
    found = {block.name: update(block) for block in adapter.blocks if block.form == "lowrank"}
    assert found.keys() == expected.keys()
    for name, change in expected.items():
        np.testing.assert_allclose(found[name], change, atol=CLOSE, err_msg=name)


LORAS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("bert", {"r": 4, "lora_alpha": 16, "target_modules": ["query", "value"]}),
    "rslora": ("bert", {"r": 4, "lora_alpha": 16, "target_modules": ["query", "value"], "use_rslora": True}),
    "alpha below rank": ("bert", {"r": 8, "lora_alpha": 3, "target_modules": ["key"]}),
    "all linear": ("bert", {"r": 2, "target_modules": "all-linear", "task_type": "SEQ_CLS"}),
    "regular expression": ("bert", {"r": 2, "target_modules": r".*layer\.1\.attention.*(query|key)"}),
    "rank pattern": (
        "bert",
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["query", "value"],
            "rank_pattern": {"layer.0.attention.self.query": 2},
        },
    ),
    "alpha pattern": (
        "bert",
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["query", "value", "key"],
            "alpha_pattern": {
                "layer.0.attention.self.query": 32,
                r"layer\.\d+\.attention\.self\.query": 3,
                r".*\.value": 5,
                "^bert.encoder.layer.0.attention.self.key": 7,
                r".*self.key": 9,
            },
        },
    ),
    "patterns and rslora": (
        "bert",
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["query", "value"],
            "use_rslora": True,
            "rank_pattern": {"query": 2},
            "alpha_pattern": {"value": 32, "query": 1},
        },
    ),
    "fan in, fan out": (
        "gpt2",
        {"r": 4, "lora_alpha": 8, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True},
    ),
    "two numbers in a key": ("t5", {"r": 2, "lora_alpha": 8, "target_modules": ["q", "v", "wo"]}),
}


@pytest.mark.parametrize("case", LORAS)
def test_lora_is_what_peft_merges(case: str, tmp_path: Path) -> None:
    kind, options = LORAS[case]
    model = shaken(kind, peft.LoraConfig(**options))
    adapter = read_adapter(saved(model, tmp_path))
    assert (adapter.method, adapter.base, adapter.layout) == ("lora", "bert-base-uncased", "peft")
    # Loaded again, because saving sorts the patterns, and the first that matches counts.
    assert_updates(adapter, merged_changes(peft.PeftModel.from_pretrained(tiny(kind), tmp_path), kind))


def test_two_numbers_in_a_key_stay_apart(tmp_path: Path) -> None:
    adapter = read_adapter(
        saved(shaken("t5", peft.LoraConfig(r=2, target_modules=["q"])), tmp_path, "google-t5/t5-small")
    )
    assert adapter.base == "t5-small"
    assert [block.name for block in adapter.blocks] == [
        f"{place}"
        for place in (
            "decoder.block.0.layer.0.SelfAttention.q",
            "decoder.block.0.layer.1.EncDecAttention.q",
            "decoder.block.1.layer.0.SelfAttention.q",
            "decoder.block.1.layer.1.EncDecAttention.q",
            "encoder.block.0.layer.0.SelfAttention.q",
            "encoder.block.1.layer.0.SelfAttention.q",
        )
    ]


def test_an_embedding_is_a_block_too(tmp_path: Path) -> None:
    model = shaken("bert", peft.LoraConfig(r=2, lora_alpha=6, target_modules=["word_embeddings"]))
    adapter = read_adapter(saved(model, tmp_path))
    (block,) = adapter.blocks
    change = merged_changes(model, "bert")["embeddings.word_embeddings"]
    np.testing.assert_allclose(update(block).T, change, atol=CLOSE)


@peft_may_warn
def test_lora_bias_is_a_block_of_its_own(tmp_path: Path) -> None:
    options = {"r": 4, "lora_alpha": 8, "target_modules": ["query"], "lora_bias": True}
    model = shaken("bert", peft.LoraConfig(**options))
    adapter = read_adapter(saved(model, tmp_path))
    before, after = weights(tiny("bert")), weights(model.merge_and_unload())
    biases = {block.name: block for block in adapter.blocks if block.form == "bias"}
    assert len(biases) == LAYERS
    for name, block in biases.items():
        change = after[f"bert.{name}"] - before[f"bert.{name}"]
        np.testing.assert_allclose(block.scale * block.parts["bias"], change, atol=CLOSE)


def test_dora_is_read_without_its_magnitudes(tmp_path: Path) -> None:
    model = shaken("bert", peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"], use_dora=True))
    adapter = read_adapter(saved(model, tmp_path))
    assert adapter.left_out == {"DoRA magnitudes": 2 * LAYERS}
    assert any("DoRA" in note for note in adapter.notes)
    deltas = {
        block_name(name): module.get_delta_weight("default").detach().numpy()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    assert_updates(adapter, deltas)


def test_adalora_is_what_peft_merges(tmp_path: Path) -> None:
    options = {"init_r": 6, "target_r": 3, "lora_alpha": 9, "target_modules": ["query", "value"], "total_step": 100}
    model = shaken("bert", peft.AdaLoraConfig(**options))
    adapter = read_adapter(saved(model, tmp_path))
    assert adapter.method == "lora"
    assert_updates(adapter, merged_changes(model, "bert"))


@peft_may_warn
def test_adalora_after_pruning_keeps_the_starting_rank_in_its_scale(tmp_path: Path) -> None:
    options = {"init_r": 4, "target_r": 2, "lora_alpha": 9, "target_modules": ["query"], "total_step": 100}
    model = shaken("bert", peft.AdaLoraConfig(**options))
    names = [f"bert.encoder.layer.{layer}.attention.self.query.lora_E" for layer in range(LAYERS)]
    model.peft_config["default"].rank_pattern = {names[0]: [True, False, True, False], names[1]: [True] * 4}
    folder = saved(model, tmp_path)
    loaded = peft.PeftModel.from_pretrained(tiny("bert"), folder)
    adapter = read_adapter(folder)
    assert adapter.settings["r"] == [2, 4]
    assert_updates(adapter, merged_changes(loaded, "bert"))


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_ia3_is_what_peft_merges(kind: str, tmp_path: Path) -> None:
    targets, fed = (["key", "value", "output.dense"], ["output.dense"]) if kind == "bert" else (["c_attn"], [])
    model = shaken(kind, peft.IA3Config(target_modules=targets, feedforward_modules=fed, fan_in_fan_out=kind == "gpt2"))
    adapter = read_adapter(saved(model, tmp_path))
    assert adapter.method == "ia3"
    before, after = weights(tiny(kind)), weights(model.merge_and_unload())
    root = "bert." if kind == "bert" else "transformer."
    for block in adapter.blocks:
        key = f"{root}{block.name.removesuffix('.input')}.weight"
        old, new = (each.T if kind == "gpt2" else each for each in (before[key], after[key]))
        factors = block.parts["scaling"]
        wanted = old * factors[None, :] if block.name.endswith(".input") else old * factors[:, None]
        np.testing.assert_allclose(new, wanted, atol=CLOSE)
    assert len(adapter.blocks) == (4 * LAYERS if kind == "bert" else LAYERS)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("projection", [False, True])
def test_a_prefix_is_what_peft_puts_before_the_keys(kind: str, projection: bool, tmp_path: Path) -> None:
    task = "SEQ_CLS" if kind == "bert" else "CAUSAL_LM"
    options = {"num_virtual_tokens": 5, "prefix_projection": projection, "encoder_hidden_size": 16}
    model = shaken(kind, peft.PrefixTuningConfig(task_type=task, **options))
    adapter = read_adapter(saved(model, tmp_path))
    assert adapter.method == "prefix" and adapter.settings["tokens"] == 5
    cache = model.get_prompt(batch_size=1)
    blocks = {block.name: block.parts["rows"] for block in adapter.blocks}
    assert len(blocks) == 2 * LAYERS
    for layer in range(LAYERS):
        for kind_of, tensor in (("keys", cache.layers[layer].keys), ("values", cache.layers[layer].values)):
            rows = tensor[0].transpose(0, 1).reshape(5, WIDTH).detach().numpy()
            np.testing.assert_allclose(blocks[f"layer.{layer}.{kind_of}"], rows, atol=CLOSE)


@pytest.mark.parametrize("tuning", ["PromptTuningConfig", "PromptEncoderConfig"])
def test_a_prompt_is_what_peft_puts_before_the_input(tuning: str, tmp_path: Path) -> None:
    config = getattr(peft, tuning)(task_type="SEQ_CLS", num_virtual_tokens=6)
    model = shaken("bert", config)
    adapter = read_adapter(saved(model, tmp_path))
    assert adapter.method == "prompt" and adapter.left_out == {"heads": 2}
    (block,) = adapter.blocks
    np.testing.assert_allclose(block.parts["rows"], model.get_prompt(1)[0].detach().numpy(), atol=CLOSE)


def test_an_encoder_decoders_prompt_has_two_halves(tmp_path: Path) -> None:
    model = shaken("t5", peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=6))
    adapter = read_adapter(saved(model, tmp_path))
    rows = model.get_prompt(1)[0].detach().numpy()
    blocks = {block.name: block.parts["rows"] for block in adapter.blocks}
    np.testing.assert_array_equal(blocks["prompt"], rows[:6])
    np.testing.assert_array_equal(blocks["decoder.prompt"], rows[6:])


@peft_may_warn
def test_tuned_norms_are_differences_from_the_base(tmp_path: Path) -> None:
    model = shaken("bert", peft.LNTuningConfig(target_modules=["attention.output.LayerNorm"]))
    folder = saved(model, tmp_path / "adapter")
    save_file(tiny("bert").state_dict(), tmp_path / "model.safetensors")
    adapter = read_adapter(folder, base_weights=tmp_path / "model.safetensors")
    assert adapter.method == "ln_tuning" and len(adapter.blocks) == 2 * LAYERS
    before, after = weights(tiny("bert")), weights(model.merge_and_unload())
    for block in adapter.blocks:
        change = after[f"bert.{block.name}"] - before[f"bert.{block.name}"]
        np.testing.assert_allclose(block.parts["bias"], change, atol=CLOSE)
    assert any("raw" in note for note in read_adapter(folder).notes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_is_read_as_it_is(dtype: Any, tmp_path: Path) -> None:
    model = shaken("bert", peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query"])).to(dtype)
    folder = saved(model, tmp_path)
    stored = load_file(folder / "adapter_model.safetensors")
    assert {value.dtype for value in stored.values()} == {dtype}
    for block in read_adapter(folder).blocks:
        for part in "AB":
            wanted = stored[f"base_model.model.bert.{block.name}.lora_{part}.weight"].float().numpy()
            np.testing.assert_array_equal(block.parts[part], wanted)


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_biases_beside_lora_are_counted(bias: str, tmp_path: Path) -> None:
    model = shaken("bert", peft.LoraConfig(r=4, target_modules=["query"], bias=bias, task_type="SEQ_CLS"))
    adapter = read_adapter(saved(model, tmp_path))
    assert adapter.method == "lora" and len(adapter.blocks) == LAYERS
    assert adapter.left_out["biases"] >= LAYERS and adapter.left_out["heads"] >= 2
    assert any("biases" in note for note in adapter.notes)


def test_biases_alone_are_bitfit(tmp_path: Path) -> None:
    model = shaken("bert", peft.LoraConfig(r=4, target_modules=["query"], bias="all"))
    folder = saved(model, tmp_path / "adapter")
    weights_file = folder / "adapter_model.safetensors"
    kept = {key: value + 1 for key, value in load_file(weights_file).items() if key.endswith("bias")}
    save_file(kept, weights_file)
    save_file(tiny("bert").state_dict(), tmp_path / "model.safetensors")
    adapter = read_adapter(folder, base_weights=tmp_path)
    assert adapter.method == "bitfit" and adapter.left_out["heads"] >= 1
    for block in adapter.blocks:
        np.testing.assert_allclose(block.parts["bias"], 1, atol=CLOSE)


def test_heads_and_full_copies_are_left_out(tmp_path: Path) -> None:
    config = peft.LoraConfig(r=4, target_modules=["query"], modules_to_save=["pooler.dense"], task_type="SEQ_CLS")
    adapter = read_adapter(saved(shaken("bert", config), tmp_path))
    assert adapter.left_out == {"full copies": 2, "heads": 2} and len(adapter.blocks) == LAYERS


@peft_may_warn
def test_an_adapter_of_a_head_is_left_out_with_it(tmp_path: Path) -> None:
    model = shaken("bert", peft.LoraConfig(r=2, target_modules=["query", "classifier"]))
    adapter = read_adapter(saved(model, tmp_path / "bert"))
    assert len(adapter.blocks) == LAYERS and adapter.left_out == {"heads": 2}
    model = shaken("gpt2", peft.LoraConfig(r=2, target_modules=["lm_head"], fan_in_fan_out=False))
    assert [block.name for block in read_adapter(saved(model, tmp_path / "gpt2")).blocks] == ["lm_head"]


def test_a_convolution_is_flattened(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3))
    before = base[0].weight.detach().clone()
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, lora_alpha=6, target_modules=["0"]))
    shake([value for name, value in model.named_parameters() if "lora_" in name])
    (block,) = read_adapter(saved(model, tmp_path)).blocks
    change = (model.merge_and_unload()[0].weight - before).detach().numpy()
    np.testing.assert_allclose(update(block), change.reshape(8, -1), atol=CLOSE)


def test_the_old_bin_file_is_the_same_adapter(tmp_path: Path) -> None:
    model = shaken("bert", peft.LoraConfig(r=4, target_modules=["query"]))
    new = saved(model, tmp_path / "new")
    model.save_pretrained(tmp_path / "old", safe_serialization=False)
    assert (tmp_path / "old" / "adapter_model.bin").is_file()
    for one, other in zip(read_adapter(new).blocks, read_adapter(tmp_path / "old").blocks, strict=True):
        assert one.name == other.name and one.scale == other.scale
        np.testing.assert_array_equal(one.parts["B"], other.parts["B"])


def test_keys_with_the_adapters_name_in_them(tmp_path: Path) -> None:
    folder = saved(shaken("bert", peft.LoraConfig(r=4, target_modules=["query"])), tmp_path)
    plain = read_adapter(folder)
    weights_file = folder / "adapter_model.safetensors"
    tensors = load_file(weights_file)
    save_file({key.replace(".weight", ".default.weight"): value for key, value in tensors.items()}, weights_file)
    assert [block.name for block in read_adapter(folder).blocks] == [block.name for block in plain.blocks]
    again = {key.replace(".weight", ".b.weight"): value.clone() for key, value in tensors.items()}
    save_file({**tensors, **again}, weights_file)
    with pytest.raises(FormatError, match="two tensors for one place"):
        read_adapter(folder)
    both = {key.replace(".weight", f".{name}.weight"): value.clone() for key, value in tensors.items() for name in "ab"}
    save_file({key: value for key, value in both.items() if (".b." in key) == ("layer.0" in key)}, weights_file)
    with pytest.raises(FormatError, match="holds 2 adapters: 'a', 'b'"):
        read_adapter(folder)


@pytest.mark.parametrize("enabled", [[True, False, True], [True, True, True], [False, True, False]])
def test_a_fused_projection_of_old_files(enabled: list[bool], tmp_path: Path) -> None:
    """loralib's MergedLinear, and PEFT before 0.3: a grouped convolution whose output is spread over enabled parts."""
    torch.manual_seed(1)
    rank, width, groups = 3, 8, sum(enabled)
    a, b = torch.randn(groups * rank, WIDTH), torch.randn(groups * width, rank, 1)
    grouped = torch.nn.functional.conv1d(a.unsqueeze(0), b, groups=groups).squeeze(0)
    expected = torch.zeros(len(enabled), width, WIDTH)
    expected[torch.tensor(enabled)] = grouped.reshape(groups, width, WIDTH)
    prefix = "base_model.model.transformer.h.0.self_attention.query_key_value"
    save_file({f"{prefix}.lora_A.weight": a, f"{prefix}.lora_B.weight": b}, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 6, "enable_lora": enabled, "merge_weights": False}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (block,) = read_adapter(tmp_path).blocks
    assert block.name == "h.0.self_attention.query_key_value"
    np.testing.assert_allclose(update(block), 2 * expected.reshape(-1, WIDTH).numpy(), atol=CLOSE)


REFUSED: dict[str, Any] = {
    "RANDLORA": lambda: peft.RandLoraConfig(r=4, target_modules=["query"]),
    "OFT": lambda: peft.OFTConfig(oft_block_size=8, target_modules=["query"]),
    "FOURIERFT": lambda: peft.FourierFTConfig(n_frequency=10, target_modules=["query"]),
    "HRA": lambda: peft.HRAConfig(r=4, target_modules=["query"]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_compared_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    folder = saved(peft.get_peft_model(tiny("bert"), REFUSED[kind]()), tmp_path)
    with pytest.raises(
        FormatError, match=f"type '{kind}', which is not read: its|type '{kind}', which is not read: it "
    ) as error:
        read_adapter(folder)
    assert "LORA" in error.value.hint


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"use_qalora": True}, "use_qalora"),
        ({"target_parameters": ["experts.weight"]}, "target_parameters"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"peft_type": "NEW_ONE"}, "NEW_ONE.*not known here"),
        ({"peft_type": ["LORA"]}, "not a method's name"),
        ({"lora_alpha": "much"}, "'lora_alpha' is 'much'"),
        ({"lora_alpha": True}, "'lora_alpha' is True"),
        ({"alpha_pattern": {"(a+)+b": 1}}, "expression '\\(a\\+\\)\\+b' is not read"),
        ({"alpha_pattern": ["query"]}, "'alpha_pattern' is a list"),
        ({"alpha_pattern": {"query": "two"}}, "'query' is 'two'"),
    ],
)
def test_an_option_that_is_not_applied_is_refused(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    folder = saved(shaken("bert", peft.LoraConfig(r=4, target_modules=["query"])), tmp_path, **changes)
    with pytest.raises(FormatError, match=sentence):
        read_adapter(folder)


@peft_may_warn
def test_pissa_that_was_converted_is_an_ordinary_lora(tmp_path: Path) -> None:
    model = peft.get_peft_model(tiny("bert"), peft.LoraConfig(r=2, target_modules=["query"], init_lora_weights="pissa"))
    model.save_pretrained(tmp_path / "start")
    shake([value for name, value in model.named_parameters() if "lora_" in name])
    config = json.loads((tmp_path / "start" / "adapter_config.json").read_text())
    assert config["init_lora_weights"] == "pissa"
    with pytest.raises(FormatError, match="'pissa', which moves a part of the base model"):
        read_adapter(tmp_path / "start")
    edit(tmp_path / "start", init_lora_weights=True)
    folder = tmp_path / "converted"
    model.save_pretrained(folder, path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    adapter = read_adapter(folder)
    assert adapter.settings["r"] == 4
    assert_updates(adapter, merged_changes(model, "bert"))


def test_an_untrained_adapter_is_read_and_said_to_be_so(tmp_path: Path) -> None:
    model = peft.get_peft_model(tiny("bert"), peft.LoraConfig(r=4, target_modules=["query"]))
    adapter = read_adapter(saved(model, tmp_path))
    assert any("never trained" in note for note in adapter.notes)


def test_the_user_says_the_base_and_the_task(tmp_path: Path) -> None:
    folder = saved(shaken("bert", peft.LoraConfig(r=4, target_modules=["query"])), tmp_path, base="/home/me/bert")
    adapter = read_adapter(folder)
    assert adapter.base is None and "'/home/me/bert'" in adapter.notes[0]
    said = read_adapter(folder, base="google-bert/bert-base-cased", task="sst2")
    assert (said.base, said.task, said.notes) == ("bert-base-cased", "sst2", ())
