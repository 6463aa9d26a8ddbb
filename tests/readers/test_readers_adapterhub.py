"""AdapterHub's own files, made by the adapters library on tiny models, against what the library itself computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
adapters = pytest.importorskip("adapters")

from tiny_models import LAYERS, WIDTH, shake, tiny, weights  # noqa: E402

from tupate_hub.embedding import Block  # noqa: E402
from tupate_hub.errors import FormatError  # noqa: E402
from tupate_hub.readers import read_adapter  # noqa: E402
from tupate_hub.readers.names import block_name  # noqa: E402

CLOSE = 1e-5
NAME = "my_task"


def with_adapter(kind: str, config: Any) -> Any:
    """A tiny model with an adapter of the library's in which nothing is zero."""
    model = tiny(kind)
    adapters.init(model)
    model.add_adapter(NAME, config=config)
    shake([value for name, value in model.named_parameters() if NAME in name])
    return model.eval()


def saved(model: Any, folder: Path, safe: bool = False, **changes: Any) -> Path:
    model.save_adapter(str(folder), NAME, use_safetensors=safe)
    edit(folder, model_name="google-bert/bert-base-uncased", **changes)
    return folder


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def reloaded(kind: str, folder: Path) -> Any:
    model = tiny(kind)
    adapters.init(model)
    assert model.load_adapter(str(folder)) == NAME
    return model.eval()


def update(block: Block) -> np.ndarray:
    return block.scale * block.parts["B"] @ block.parts["A"]


def merged_changes(model: Any, kind: str) -> dict[str, np.ndarray]:
    """What the library's merging adds to each weight, (out, in), by the block's name."""
    before = weights(model)
    model.merge_adapter(NAME)
    changes = {}
    for name, value in weights(model).items():
        difference = value - before[name]
        if name.endswith(".weight") and np.abs(difference).max() > 1e-7:
            changes[block_name(name.removesuffix(".weight"))] = difference.T if kind == "gpt2" else difference
    return changes


def assert_updates(blocks: Any, expected: dict[str, np.ndarray]) -> None:
    found = {block.name: update(block) for block in blocks if block.form == "lowrank"}
    assert found.keys() == expected.keys()
    for name, change in expected.items():
        np.testing.assert_allclose(found[name], change, atol=CLOSE, err_msg=name)


def bottlenecks(model: Any) -> dict[str, Any]:
    """The library's own modules of bottleneck adapters by block name."""
    suffix = f".adapters.{NAME}"
    return {block_name(n.removesuffix(suffix)): m for n, m in model.named_modules() if n.endswith(suffix)}


BOTTLENECKS: dict[str, tuple[Any, str]] = {
    "seq_bn": ("seq_bn", "adapter"),
    "double_seq_bn": ("double_seq_bn", "adapter-houlsby"),
    "after attention alone": (
        adapters.BnConfig(mh_adapter=True, output_adapter=False, reduction_factor=4, non_linearity="relu"),
        "adapter",
    ),
    "par_bn": ("par_bn", "scaled-parallel"),
    "par_bn, scaling 1": (adapters.ParBnConfig(scaling=1.0), "parallel"),
    "par_bn, learned": (adapters.ParBnConfig(scaling="learned"), "scaled-parallel"),
    "adapter plus": (adapters.AdapterPlusConfig(stochastic_depth=0.0, reduction_factor=4), "adapter"),
}


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("case", BOTTLENECKS)
def test_a_bottleneck_computes_what_the_librarys_does(case: str, safe: bool, tmp_path: Path) -> None:
    config, method = BOTTLENECKS[case]
    model = with_adapter("bert", config)
    adapter = read_adapter(saved(model, tmp_path, safe))
    assert (adapter.method, adapter.base, adapter.task) == (method, "bert-base-uncased", NAME)
    modules = bottlenecks(model)
    assert {block.name for block in adapter.blocks} == modules.keys()
    inputs = torch.randn(1, 7, WIDTH, generator=torch.Generator().manual_seed(0))
    for block in adapter.blocks:
        module, parts = modules[block.name], block.parts
        theirs = module(inputs, torch.zeros_like(inputs))[0]
        hidden = module.non_linearity(inputs @ torch.tensor(parts["down"].T) + torch.tensor(parts["down_bias"]))
        ours = block.scale * (hidden @ torch.tensor(parts["up"].T) + torch.tensor(parts["up_bias"]))
        torch.testing.assert_close(ours, theirs, atol=CLOSE, rtol=1e-5)


LORAS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("bert", {"r": 4, "alpha": 16}),
    "everywhere": (
        "bert",
        {"r": 4, "alpha": 2, "attn_matrices": ["q", "k", "v"], "intermediate_lora": True, "output_lora": True},
    ),
    "fused query and value": ("gpt2", {"r": 4, "alpha": 12}),
    "fused key alone": ("gpt2", {"r": 4, "alpha": 12, "attn_matrices": ["k"]}),
    "fused, all three, and more": (
        "gpt2",
        {"r": 2, "alpha": 12, "attn_matrices": ["q", "k", "v"], "intermediate_lora": True, "output_lora": True},
    ),
}


@pytest.mark.parametrize("case", LORAS)
def test_lora_is_what_the_library_merges(case: str, tmp_path: Path) -> None:
    kind, options = LORAS[case]
    model = with_adapter(kind, adapters.LoRAConfig(**options))
    adapter = read_adapter(saved(model, tmp_path))
    assert adapter.method == "lora"
    assert_updates(adapter.blocks, merged_changes(model, kind))


@pytest.mark.parametrize(
    "version", ["adapters.1.0.1", "adapters.1.1.0", "adapters.1.3.0", "adapters.1.1.0.dev0", "0.9"]
)
def test_the_old_librarys_scale_is_the_one_it_trained_with(version: str, tmp_path: Path) -> None:
    model = with_adapter("bert", adapters.LoRAConfig(r=4, alpha=16))
    folder = saved(model, tmp_path, version=version)
    adapter = read_adapter(folder)
    assert_updates(adapter.blocks, merged_changes(reloaded("bert", folder), "bert"))
    old = version in ("adapters.1.0.1", "adapters.1.1.0.dev0")
    assert adapter.blocks[0].scale == (1.0 if old else 4.0)
    assert any("1.1.0" in note for note in adapter.notes) == old


def test_missing_fields_take_the_librarys_defaults(tmp_path: Path) -> None:
    folder = saved(with_adapter("bert", adapters.LoRAConfig(r=8, alpha=8)), tmp_path)
    edit(folder, config={"architecture": "lora"}, version="adapters.1.3.0")
    assert_updates(read_adapter(folder).blocks, merged_changes(reloaded("bert", folder), "bert"))
    plain = saved(with_adapter("bert", "seq_bn"), tmp_path / "bn")
    config = json.loads((plain / "adapter_config.json").read_text())["config"]
    edit(
        plain,
        config={key: config[key] for key in ("mh_adapter", "output_adapter", "reduction_factor", "non_linearity")},
    )
    assert {block.scale for block in read_adapter(plain).blocks} == {1.0}


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_ia3_is_what_the_library_merges(kind: str, tmp_path: Path) -> None:
    model = with_adapter(kind, adapters.IA3Config())
    adapter = read_adapter(saved(model, tmp_path))
    assert adapter.method == "ia3" and len(adapter.blocks) == (3 if kind == "bert" else 2) * LAYERS
    before = weights(model)
    model.merge_adapter(NAME)
    after = weights(model)
    root = "bert." if kind == "bert" else "transformer."
    for block in adapter.blocks:
        key = f"{root}{block.name}.weight"
        old, new = (each.T if kind == "gpt2" else each for each in (before[key], after[key]))
        np.testing.assert_allclose(new, old * block.parts["scaling"][:, None], atol=CLOSE)


def prefix_of(model: Any, place: str = "self_prefix") -> list[tuple[np.ndarray, np.ndarray]]:
    """The library's keys and values of each layer, (n, width)."""
    pool = next(module for module in model.modules() if hasattr(module, "prefix_tunings"))
    states = pool.prefix_tunings[NAME](1)[place]
    flat = [state[:, 0].transpose(1, 2).flatten(2).detach().numpy() for state in states]
    return [(state[0], state[1]) for state in flat]


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize(
    "options",
    [
        {"flat": True},
        {"bottleneck_size": 16},
        {"bottleneck_size": 16, "non_linearity": "relu"},
        {"bottleneck_size": 8, "non_linearity": "gelu"},
        {"bottleneck_size": 8, "non_linearity": "swish"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_a_prefix_is_what_the_library_puts_before_the_keys(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    model = with_adapter(kind, adapters.PrefixTuningConfig(prefix_length=5, **options))
    adapter = read_adapter(saved(model, tmp_path))
    assert adapter.method == "prefix"
    assert adapter.left_out["aliases"] > 0
    blocks = {block.name: block.parts["rows"] for block in adapter.blocks}
    assert len(blocks) == 2 * LAYERS
    for layer, (keys, values) in enumerate(prefix_of(model)):
        np.testing.assert_allclose(blocks[f"layer.{layer}.keys"], keys, atol=CLOSE)
        np.testing.assert_allclose(blocks[f"layer.{layer}.values"], values, atol=CLOSE)


def test_an_ejected_prefix_is_the_same_adapter(tmp_path: Path) -> None:
    model = with_adapter("bert", adapters.PrefixTuningConfig(prefix_length=5, bottleneck_size=16))
    before = read_adapter(saved(model, tmp_path / "before")).blocks
    model.eject_prefix_tuning(NAME)
    folder = saved(model, tmp_path / "after")
    config = json.loads((folder / "adapter_config.json").read_text())["config"]
    edit(folder, config=config | {"flat": True})
    for one, other in zip(before, read_adapter(folder).blocks, strict=True):
        assert one.name == other.name
        np.testing.assert_allclose(one.parts["rows"], other.parts["rows"], atol=CLOSE)


def test_an_encoder_decoder_has_three_prefixes(tmp_path: Path) -> None:
    model = with_adapter("t5", adapters.PrefixTuningConfig(prefix_length=5, flat=True))
    blocks = {block.name: block.parts["rows"] for block in read_adapter(saved(model, tmp_path)).blocks}
    assert len(blocks) == 3 * 2 * LAYERS
    for place, prefix in (("self_prefix", ""), ("encoder_prefix", "encoder."), ("cross_prefix", "cross.")):
        for layer, (keys, values) in enumerate(prefix_of(model, place)):
            np.testing.assert_allclose(blocks[f"{prefix}layer.{layer}.keys"], keys, atol=CLOSE)
            np.testing.assert_allclose(blocks[f"{prefix}layer.{layer}.values"], values, atol=CLOSE)


def test_layers_left_out_keep_the_others_numbers(tmp_path: Path) -> None:
    model = with_adapter("bert", adapters.PrefixTuningConfig(prefix_length=5, flat=True, leave_out=[0]))
    blocks = read_adapter(saved(model, tmp_path)).blocks
    assert [block.name for block in blocks] == ["layer.1.keys", "layer.1.values"]
    np.testing.assert_allclose(blocks[0].parts["rows"], prefix_of(model)[0][0], atol=CLOSE)


def test_a_prompt_is_the_librarys_embedding(tmp_path: Path) -> None:
    model = with_adapter("bert", adapters.PromptTuningConfig(prompt_length=6))
    adapter = read_adapter(saved(model, tmp_path))
    assert adapter.method == "prompt"
    (theirs,) = [v for n, v in model.named_parameters() if "prompt_embedding" in n and NAME in n]
    np.testing.assert_array_equal(adapter.blocks[0].parts["rows"], theirs.detach().numpy())


def test_mam_is_a_prefix_and_parallel_adapters(tmp_path: Path) -> None:
    config = adapters.MAMConfig(
        adapters.PrefixTuningConfig(prefix_length=5, bottleneck_size=8), adapters.ParBnConfig(reduction_factor=4)
    )
    model = with_adapter("bert", config)
    adapter = read_adapter(saved(model, tmp_path))
    assert adapter.method == "mam" and len(adapter.blocks) == 3 * LAYERS
    assert {block.scale for block in adapter.blocks if block.form == "bottleneck"} == {4.0}
    keys = next(block for block in adapter.blocks if block.name == "layer.0.keys")
    np.testing.assert_allclose(keys.parts["rows"], prefix_of(model)[0][0], atol=CLOSE)


def test_unipelt_is_lora_prefix_and_adapters_without_gates(tmp_path: Path) -> None:
    model = with_adapter(
        "bert",
        adapters.UniPELTConfig(
            prefix_tuning=adapters.PrefixTuningConfig(prefix_length=5, bottleneck_size=8, use_gating=True)
        ),
    )
    adapter = read_adapter(saved(model, tmp_path))
    forms = [block.form for block in adapter.blocks]
    assert adapter.method == "unipelt"
    assert (forms.count("lowrank"), forms.count("rows"), forms.count("bottleneck")) == (2 * LAYERS, 2 * LAYERS, LAYERS)
    assert adapter.left_out["gates"] >= 4 * LAYERS and any("open gate" in note for note in adapter.notes)
    # With gates the library multiplies by the gate in place of alpha / r (methods/lora.py, forward).
    assert {block.scale for block in adapter.blocks if block.form == "lowrank"} == {1.0}


def test_another_union_is_called_by_its_methods(tmp_path: Path) -> None:
    config = adapters.ConfigUnion(adapters.LoRAConfig(r=4), adapters.PromptTuningConfig(prompt_length=3))
    adapter = read_adapter(saved(with_adapter("bert", config), tmp_path))
    assert adapter.method == "lora+prompt" and len(adapter.blocks) == 2 * LAYERS + 1


def test_dora_is_read_without_its_magnitudes(tmp_path: Path) -> None:
    model = with_adapter("bert", adapters.DoRAConfig(r=4, alpha=8))
    adapter = read_adapter(saved(model, tmp_path))
    assert adapter.left_out == {"DoRA magnitudes": 2 * LAYERS}
    modules = dict(model.named_modules())
    for block in adapter.blocks:
        delta = modules[f"bert.{block.name}.loras.{NAME}"].delta_w.detach().numpy()
        np.testing.assert_allclose(update(block), 2 * delta, atol=CLOSE)


def test_invertible_adapters_are_counted(tmp_path: Path) -> None:
    adapter = read_adapter(saved(with_adapter("bert", "seq_bn_inv"), tmp_path))
    assert adapter.method == "adapter" and adapter.left_out == {"invertible adapters": 8}


def test_legacy_keys_are_read_as_the_library_loads_them(tmp_path: Path) -> None:
    folder = saved(with_adapter("bert", "double_seq_bn"), tmp_path)
    weights_file = folder / "pytorch_adapter.bin"
    state = torch.load(weights_file, weights_only=True)
    old = {
        key.replace("attention.output.adapters", "attention.output.attention_text_task_adapters").replace(
            "layer.0.output.adapters", "layer.0.output.layer_text_task_adapters"
        ): value
        for key, value in state.items()
    }
    assert any("layer_text_task_adapters" in key for key in old)
    torch.save(old, weights_file)
    model = reloaded("bert", folder)
    blocks = read_adapter(folder).blocks
    assert len(blocks) == 2 * LAYERS
    for block in blocks:
        theirs = bottlenecks(model)[block.name].adapter_up.weight.detach().numpy()
        np.testing.assert_array_equal(block.parts["up"], theirs)


def test_the_adapters_name_and_the_library_do_not_matter(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    one = read_adapter(saved(with_adapter("bert", adapters.LoRAConfig(r=4)), tmp_path / "one"))
    model = peft.get_peft_model(tiny("bert"), peft.LoraConfig(r=2, target_modules=["query", "value"]))
    model.save_pretrained(tmp_path / "other")
    other = read_adapter(tmp_path / "other")
    bare = peft.get_peft_model(tiny("bert").bert, peft.LoraConfig(r=2, target_modules=["query", "value"]))
    bare.save_pretrained(tmp_path / "bare")
    names = [block.name for block in one.blocks]
    assert names[0] == "encoder.layer.0.attention.self.query"
    assert names == [block.name for block in other.blocks]
    assert names == [block.name for block in read_adapter(tmp_path / "bare").blocks]


def test_files_of_old_torch_need_torch(tmp_path: Path) -> None:
    from tupate_hub.training.legacy import load_legacy

    folder = saved(with_adapter("bert", "seq_bn"), tmp_path)
    new = read_adapter(folder)
    weights_file = folder / "pytorch_adapter.bin"
    state = torch.load(weights_file, weights_only=True)
    torch.save(state, weights_file, _use_new_zipfile_serialization=False)
    with pytest.raises(FormatError, match="torch"):
        read_adapter(folder)
    for one, other in zip(new.blocks, read_adapter(folder, legacy=load_legacy).blocks, strict=True):
        np.testing.assert_array_equal(one.parts["up"], other.parts["up"])


def test_heads_of_the_librarys_flexible_models_stay_in_their_file(tmp_path: Path) -> None:
    model = adapters.BertAdapterModel(tiny("bert").config)
    model.add_adapter(NAME, config="seq_bn")
    model.add_classification_head(NAME, num_labels=3)
    model.save_adapter(str(tmp_path), NAME, with_head=True)
    assert (tmp_path / "pytorch_model_head.bin").is_file()
    adapter = read_adapter(tmp_path)
    assert [block.name for block in adapter.blocks] == [f"encoder.layer.{layer}.output" for layer in range(LAYERS)]
    with pytest.raises(FormatError, match="never opened"):
        read_adapter(tmp_path / "pytorch_model_head.bin")


REFUSED: dict[str, Any] = {
    "compacter": lambda: adapters.CompacterConfig(reduction_factor=8),
    "mtl_lora": None,
}


@pytest.mark.parametrize("architecture", REFUSED)
def test_what_cannot_be_compared_is_refused_by_name(architecture: str, tmp_path: Path) -> None:
    make = REFUSED[architecture] or (lambda: adapters.LoRAConfig(r=4))
    folder = saved(with_adapter("bert", make()), tmp_path)
    if REFUSED[architecture] is None:
        config = json.loads((folder / "adapter_config.json").read_text())["config"]
        edit(folder, config=config | {"architecture": architecture})
    with pytest.raises(FormatError, match=f"architecture '{architecture}', which is not read: [A-Z]"):
        read_adapter(folder)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"architecture": "union"}, "not listed"),
        ({"architecture": "union", "configs": ["lora"]}, "not listed"),
        ({"architecture": "union", "configs": [{}, {}]}, "union of two bottleneck"),
        ({"architecture": "union", "configs": [{"architecture": "union", "configs": []}]}, "unions inside unions"),
        ({"architecture": "lora"}, "no tuned parameters"),
        ({"architecture": ["lora"]}, "it is not a name"),
        ({"architecture": "later"}, "not known here"),
        ({"scaling": {}}, "'scaling' is an object"),
    ],
)
def test_a_configuration_that_does_not_fit(config: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    folder = saved(with_adapter("bert", "seq_bn"), tmp_path)
    edit(folder, config=config)
    with pytest.raises(FormatError, match=sentence):
        read_adapter(folder)


def test_halves_that_are_missing_are_named(tmp_path: Path) -> None:
    folder = saved(with_adapter("bert", "seq_bn"), tmp_path)
    weights_file = folder / "pytorch_adapter.bin"
    state = torch.load(weights_file, weights_only=True)
    torch.save({key: value for key, value in state.items() if not key.endswith("adapter_up.bias")}, weights_file)
    with pytest.raises(FormatError, match=r"without its 'adapter_up.bias'"):
        read_adapter(folder)
    normed = {key.replace("adapter_up.bias", "adapter_norm_after.bias"): value for key, value in state.items()}
    torch.save(normed, weights_file)
    with pytest.raises(FormatError, match="layer norms of their own"):
        read_adapter(folder)
    two = {key.replace(NAME, "another") if "layer.0" in key else key: value for key, value in state.items()}
    torch.save(two, weights_file)
    with pytest.raises(FormatError, match="holds 2 adapters: 'another', 'my_task'"):
        read_adapter(folder)


# --- VeRA and LoReFT -----------------------------------------------------------------------------------------------


def test_vera_is_what_the_library_merges(tmp_path: Path) -> None:
    model = with_adapter("bert", adapters.VeraConfig(r=4, alpha=6))
    adapter = read_adapter(saved(model, tmp_path))
    assert adapter.method == "lora" and not adapter.left_out and len(adapter.blocks) == 2 * LAYERS
    assert_updates(adapter.blocks, merged_changes(model, "bert"))


@pytest.mark.parametrize("tied", [False, True])
def test_loreft_is_the_map_that_the_library_applies(tied: bool, tmp_path: Path) -> None:
    model = with_adapter("bert", adapters.LoReftConfig(r=3, suffix_positions=2, tied_weights=tied))
    adapter = read_adapter(saved(model, tmp_path))
    assert adapter.method == "loreft" and any("first 3 and the last 2" in note for note in adapter.notes)
    blocks = {block.name: block.parts for block in adapter.blocks}
    assert len(blocks) == (LAYERS if tied else 2 * LAYERS)
    x = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(2))
    for layer in range(LAYERS):
        units = model.bert.encoder.layer[layer].reft_layer.refts[NAME].units
        for unit, place in zip(units, ("both",) if tied else ("prefix", "suffix"), strict=True):
            parts = blocks[f"encoder.layer.{layer}.{place}"]
            change = (x.numpy() @ parts["down"].T + parts["down_bias"]) @ parts["up"].T + parts["up_bias"]
            np.testing.assert_allclose(change, (unit(x) - x).detach().numpy(), atol=CLOSE)


def test_a_unit_that_acts_nowhere_is_left_out(tmp_path: Path) -> None:
    adapter = read_adapter(saved(with_adapter("bert", adapters.LoReftConfig(r=2)), tmp_path))
    assert len(adapter.blocks) == LAYERS and adapter.left_out == {"units that act nowhere": LAYERS}


@pytest.mark.parametrize("variant", ["NoReftConfig", "DiReftConfig"])
def test_a_reft_that_does_not_say_which_it_is_is_refused(variant: str, tmp_path: Path) -> None:
    folder = saved(with_adapter("bert", getattr(adapters, variant)(r=2)), tmp_path)
    with pytest.raises(FormatError, match="may be NoReFT or DiReFT"):
        read_adapter(folder)
