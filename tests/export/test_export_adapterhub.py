"""Folders for the adapters library: made from its own files, loaded by it, with the outputs of the model they came from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import adapters
import numpy as np
import pytest
import torch
from loading import (
    BASE,
    architecture,
    assert_differ,
    assert_same,
    inputs,
    last_hidden,
    outputs,
    quiet_libraries,
    run_readme,
    saved_base,
    write,
)
from tiny_models import LAYERS, WIDTH, shake, tiny

from tupate_hub.collect.read_adapter import read_for_registry
from tupate_hub.embedding import TaskEmbedding, embed, make_block, order_blocks
from tupate_hub.errors import FormatError
from tupate_hub.export import export
from tupate_hub.space import Space
from tupate_hub.storage.safetensors import parse_tensorfile

__all__ = ["quiet_libraries"]

NAME = "my_task"
PREFIX = adapters.PrefixTuningConfig(flat=True, prefix_length=5)
#: By what it is: the library's configuration and the method that it is read as.
CASES: dict[str, tuple[Any, str]] = {
    "lora": (adapters.LoRAConfig(r=4, alpha=16), "lora"),
    "lora, feed-forward": (
        adapters.LoRAConfig(r=4, alpha=3, selfattn_lora=False, intermediate_lora=True, output_lora=True),
        "lora",
    ),
    "lora, everywhere": (
        adapters.LoRAConfig(r=4, alpha=2, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True),
        "lora",
    ),
    "lora, a layer left out": (adapters.LoRAConfig(r=4, alpha=4, leave_out=[0]), "lora"),
    "ia3": (adapters.IA3Config(), "ia3"),
    "ia3, query alone": (adapters.IA3Config(attn_matrices=["q"], intermediate_lora=False), "ia3"),
    "adapter": (adapters.SeqBnConfig(), "adapter"),
    "adapter, a size that does not divide": (adapters.SeqBnConfig(reduction_factor=5), "adapter"),
    "adapter, larger than the model": (adapters.SeqBnConfig(reduction_factor=0.3), "adapter"),
    "adapter, sizes by layer": (adapters.SeqBnConfig(reduction_factor={"0": 4, "default": 8}), "adapter"),
    "adapter, first layer left out": (adapters.SeqBnConfig(leave_out=[0], non_linearity="gelu"), "adapter"),
    "adapter, last layer left out": (adapters.SeqBnConfig(leave_out=[1], non_linearity="swish"), "adapter"),
    "adapter, residual after the sum": (adapters.SeqBnConfig(residual_before_ln="post_add"), "adapter"),
    "adapter plus": (adapters.AdapterPlusConfig(stochastic_depth=0.0, reduction_factor=4), "adapter"),
    "adapter-houlsby": (adapters.DoubleSeqBnConfig(), "adapter-houlsby"),
    "parallel": (adapters.ParBnConfig(scaling=1.0), "parallel"),
    "parallel, attention": (adapters.ParBnConfig(scaling=1.0, mh_adapter=True, output_adapter=False), "parallel"),
    "scaled-parallel": (adapters.ParBnConfig(), "scaled-parallel"),
    "scaled-parallel, learned": (adapters.ParBnConfig(scaling="learned"), "scaled-parallel"),
    "scaled-parallel, by channel": (adapters.ParBnConfig(scaling="channel"), "scaled-parallel"),
    "prefix": (PREFIX, "prefix"),
    "prefix, a layer left out": (PREFIX.replace(leave_out=[0]), "prefix"),
    "prefix, reparametrised": (adapters.PrefixTuningConfig(prefix_length=5, bottleneck_size=8), "prefix"),
    "prompt": (adapters.PromptTuningConfig(prompt_length=4), "prompt"),
    "prompt, after the first token": (
        adapters.PromptTuningConfig(prompt_length=4, combine="prefix_after_bos"),
        "prompt",
    ),
    "mam": (adapters.MAMConfig(PREFIX, adapters.ParBnConfig(reduction_factor=4)), "mam"),
    "mam, reparametrised and learned": (
        adapters.MAMConfig(
            adapters.PrefixTuningConfig(prefix_length=3, bottleneck_size=8), adapters.ParBnConfig(scaling="learned")
        ),
        "mam",
    ),
    "two others": (
        adapters.ConfigUnion(adapters.LoRAConfig(r=4), adapters.PromptTuningConfig(prompt_length=3)),
        "lora+prompt",
    ),
}


def tuned(kind: str, config: Any) -> Any:
    """A tiny model with an adapter of the library's in which nothing is zero."""
    model = tiny(kind)
    adapters.init(model)
    model.add_adapter(NAME, config=config)
    shake([value for name, value in model.named_parameters() if NAME in name])
    model.set_active_adapters(NAME)
    return model.eval()


def read(model: Any, folder: Path, **changes: Any) -> TaskEmbedding:
    """What the library saves of the model, as a stranger's file is read; `changes` are made to its configuration."""
    model.save_adapter(str(folder), NAME)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_name": BASE, **changes}))
    return read_for_registry(folder)


def made(case: str, folder: Path, kind: str = "bert") -> TaskEmbedding:
    return read(tuned(kind, CASES[case][0]), folder)


def without(embedding: TaskEmbedding, group: str, *names: str) -> TaskEmbedding:
    kept = {name: value for name, value in embedding.facts[group].items() if name not in names}
    return replace(embedding, facts={**embedding.facts, group: kept})


def with_facts(embedding: TaskEmbedding, group: str, **values: Any) -> TaskEmbedding:
    return replace(embedding, facts={**embedding.facts, group: {**embedding.facts.get(group, {}), **values}})


# --- outputs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("case", CASES)
def test_the_readme_makes_a_model_with_the_outputs_of_the_tuned_one(case: str, kind: str, tmp_path: Path) -> None:
    model = tuned(kind, CASES[case][0])
    embedding = read(model, tmp_path / "saved")
    assert embedding.space.method == CASES[case][1]
    loaded = run_readme(write(tmp_path / "out", export(embedding, "adapters")), saved_base(kind, tmp_path / "base"))
    expected = last_hidden(model, **inputs(kind))
    assert_same(last_hidden(loaded, **inputs(kind)), expected)
    assert_differ(last_hidden(tiny(kind), **inputs(kind)), expected)


@pytest.mark.parametrize("case", CASES)
def test_it_reads_back_as_it_was(case: str, tmp_path: Path) -> None:
    embedding = made(case, tmp_path / "saved")
    again = read_for_registry(write(tmp_path / "out", export(embedding, "adapters")))
    assert (again.task, again.space) == (NAME, embedding.space)
    assert again.facts["source"]["left_out"] == {}
    assert [block.name for block in again.blocks] == [block.name for block in embedding.blocks]
    for one, other in zip(again.blocks, embedding.blocks, strict=True):
        assert one.scale == other.scale
        for part, array in other.parts.items():
            np.testing.assert_array_equal(one.parts[part], array)


@pytest.mark.parametrize("case", [case for case in CASES if "channel" not in case and "adapter plus" not in case])
def test_the_keys_are_those_that_the_library_saves(case: str, tmp_path: Path) -> None:
    """But for a reparametrised prefix, which becomes a flat one, and for the aliases of a prefix."""
    embedding = made(case, tmp_path / "saved")
    theirs = torch.load(tmp_path / "saved" / "pytorch_adapter.bin", weights_only=True)
    keys = {key.partition(".self_prefix.")[0] for key in theirs if ".pool." not in key}
    ours = parse_tensorfile(export(embedding, "adapters")["adapter.safetensors"], "it").tensors
    assert {key.partition(".self_prefix.")[0] for key in ours} == keys


@pytest.mark.parametrize("case", ["lora, everywhere", "ia3", "adapter-houlsby", "scaled-parallel", "prefix", "prompt"])
def test_where_the_model_type_is_not_known_it_loads_all_the_same(case: str, tmp_path: Path) -> None:
    model = tuned("bert", CASES[case][0])
    embedding = without(read(model, tmp_path / "saved"), "architecture", "model_type", "hidden_size")
    folder = write(tmp_path / "out", export(embedding, "adapters"))
    assert not any(
        key.startswith("bert.") for key in parse_tensorfile((folder / "adapter.safetensors").read_bytes(), "it").tensors
    )
    loaded = run_readme(folder, saved_base("bert", tmp_path / "base"))
    assert_same(last_hidden(loaded), last_hidden(model))
    headed = tiny("bert")
    adapters.init(headed)
    headed.load_adapter(str(folder), use_safetensors=True, set_active=True)
    assert_same(outputs(headed.eval()), outputs(model))
    assert read_for_registry(folder).space == embedding.space


def test_ranks_and_scales_that_differ_become_one(tmp_path: Path) -> None:
    rng, blocks = np.random.default_rng(3), []
    for layer, rank in enumerate((3, 1)):
        for target, scale in (("query", 0.5), ("value", -2.0)):
            parts = {"A": rng.standard_normal((rank, WIDTH)), "B": rng.standard_normal((WIDTH, rank))}
            blocks.append(make_block(f"encoder.layer.{layer}.attention.self.{target}", parts, scale))
    for dropped in range(len(blocks)):
        kept = [block for block in blocks if block != blocks[dropped]]
        one = TaskEmbedding("toy", Space(BASE, "lora"), order_blocks(kept), {"architecture": architecture("bert")})
        folder = write(tmp_path / str(dropped), export(one, "adapters"))
        expected = tiny("bert")
        for block in kept:
            update = block.scale * block.parts["B"] @ block.parts["A"]
            expected.bert.get_submodule(block.name).weight.data += torch.from_numpy(update)
        loaded = run_readme(folder, saved_base("bert", tmp_path / "base"))
        assert_same(last_hidden(loaded), last_hidden(expected))


def test_a_scale_that_nobody_changed_is_one_number(tmp_path: Path) -> None:
    config = json.loads(export(made("scaled-parallel", tmp_path / "saved"), "adapters")["adapter_config.json"])[
        "config"
    ]
    assert (config["scaling"], config["is_parallel"], config["reduction_factor"]) == (4.0, True, 2.0)
    config = json.loads(export(made("lora", tmp_path / "other"), "adapters")["adapter_config.json"])["config"]
    assert (config["alpha"], config["r"], config["attn_matrices"]) == (16, 4, ["q", "v"])


def test_a_name_with_a_dot_becomes_one_that_torch_takes(tmp_path: Path) -> None:
    model = tuned("bert", CASES["lora"][0])
    embedding = replace(read(model, tmp_path / "saved"), task="squad_v1.1")
    folder = write(tmp_path / "out", export(embedding, "adapters"))
    assert_same(last_hidden(run_readme(folder, saved_base("bert", tmp_path / "base"))), last_hidden(model))
    assert read_for_registry(folder).task == "squad_v1-1"


def test_activations_of_files_without_a_version_keep_their_meaning(tmp_path: Path) -> None:
    model = tuned("bert", adapters.SeqBnConfig(non_linearity="gelu"))
    model.save_adapter(str(tmp_path / "saved"), NAME)
    path = tmp_path / "saved" / "adapter_config.json"
    config = {**json.loads(path.read_text()), "model_name": BASE}
    del config["version"]
    path.write_text(json.dumps(config))
    theirs = tiny("bert")
    adapters.init(theirs)
    theirs.load_adapter(str(tmp_path / "saved"), set_active=True)
    folder = write(tmp_path / "out", export(read_for_registry(tmp_path / "saved"), "adapters"))
    assert json.loads((folder / "adapter_config.json").read_text())["config"]["non_linearity"] == "gelu_new"
    loaded = run_readme(folder, saved_base("bert", tmp_path / "base"))
    assert_same(last_hidden(loaded), last_hidden(theirs.eval()))


# --- refusals -----------------------------------------------------------------------------------------------------


def refused(embedding: TaskEmbedding, why: str, instead: str = "`form='embedding'`") -> None:
    with pytest.raises(FormatError) as caught:
        export(embedding, "adapters")
    assert why in caught.value.message
    assert repr(embedding.task) in caught.value.message
    assert caught.value.hint == f"take another form: {instead}"


@pytest.mark.parametrize(
    ("case", "setting"),
    [
        *(
            ("adapter", name)
            for name in ("non_linearity", "original_ln_before", "original_ln_after", "residual_before_ln")
        ),
        ("mam", "original_ln_after"),
        ("prompt", "combine"),
    ],
)
def test_a_setting_that_matters_and_is_not_known_is_refused_by_name(case: str, setting: str, tmp_path: Path) -> None:
    embedding = made(case, tmp_path / "saved")
    refused(without(embedding, "settings", setting), repr(setting))
    refused(with_facts(embedding, "settings", **{setting: ["?"]}), repr(setting))


@pytest.mark.parametrize("case", ["adapter", "parallel", "prefix", "mam"])
def test_layers_that_may_be_missing_are_refused(case: str, tmp_path: Path) -> None:
    """Where nobody says how deep the model is, the library would start adapters of its own in the other layers."""
    embedding = without(made(case, tmp_path / "saved"), "settings", "leave_out")
    refused(embedding, "num_hidden_layers")
    deeper = with_facts(embedding, "architecture", num_hidden_layers=LAYERS + 2)
    config = json.loads(export(deeper, "adapters")["adapter_config.json"])["config"]
    assert [one["leave_out"] for one in config.get("configs", [config])] == [[2, 3]] * len(config.get("configs", [1]))


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        (adapters.DoRAConfig(r=4), "DoRA magnitudes"),
        (adapters.SeqBnInvConfig(), "invertible adapters"),
        (adapters.LoRAConfig(r=4, use_gating=True), "gates"),
        (
            adapters.UniPELTConfig(prefix_tuning=adapters.PrefixTuningConfig(bottleneck_size=8, use_gating=True)),
            "gates",
        ),
    ],
)
def test_what_was_left_out_and_matters_is_refused_by_name(config: Any, missing: str, tmp_path: Path) -> None:
    refused(read(tuned("bert", config), tmp_path / "saved"), f"its {missing} were left out")


def test_a_head_that_was_left_out_does_not_matter(tmp_path: Path) -> None:
    embedding = with_facts(made("lora", tmp_path / "saved"), "source", left_out={"heads": 2, "aliases": 4})
    assert "adapter.safetensors" in export(embedding, "adapters")


@pytest.mark.parametrize("case", ["lora", "ia3"])
def test_a_place_that_the_library_has_not_is_refused(case: str, tmp_path: Path) -> None:
    embedding = made(case, tmp_path / "saved")
    elsewhere = broken(embedding, lambda block: replace(block, name=block.name.replace("attention.self", "mixer")))
    refused(
        elsewhere, "'encoder.layer.0.mixer.key'" if case == "ia3" else "'encoder.layer.0.mixer.query'", "`form='peft'`"
    )


@pytest.mark.parametrize("case", ["lora", "ia3"])
def test_the_fused_weight_of_gpt2_comes_apart_again(case: str, tmp_path: Path) -> None:
    embedding = read(tuned("gpt2", CASES[case][0]), tmp_path / "saved")
    again = read_for_registry(write(tmp_path / "out", export(embedding, "adapters")))
    assert [block.name for block in again.blocks] == [block.name for block in embedding.blocks]
    for block in again.blocks:
        same = embedding.by_name[block.name]
        assert block.scale == same.scale and block.parts.keys() == same.parts.keys()
        assert all((part == same.parts[name]).all() for name, part in block.parts.items())


def test_a_sum_of_updates_of_a_fused_weight_does_not_come_apart(tmp_path: Path) -> None:
    embedding = read(tuned("gpt2", CASES["lora"][0]), tmp_path / "saved")

    def mixed(block: Any) -> Any:
        turn = np.linalg.qr(np.random.default_rng(0).normal(size=(len(block.parts["A"]),) * 2))[0].astype(np.float32)
        return make_block(block.name, {"A": turn.T @ block.parts["A"], "B": block.parts["B"] @ turn}, block.scale)

    refused(broken(embedding, mixed), "does not part", "`form='peft'`")


def broken(embedding: TaskEmbedding, change: Any) -> TaskEmbedding:
    """The embedding with its blocks as `change` makes them, None for those to drop."""
    blocks = [changed for block in embedding.blocks if (changed := change(block)) is not None]
    return replace(embedding, blocks=order_blocks(blocks))


def test_adapters_that_are_not_alike_in_every_layer_are_refused(tmp_path: Path) -> None:
    houlsby = made("adapter-houlsby", tmp_path / "saved")
    lacking = broken(houlsby, lambda block: None if block.name == "encoder.layer.0.output" else block)
    refused(lacking, "a layer lacks one of its adapters")

    def narrowed(block: Any) -> Any:
        if block.name != "encoder.layer.1.output":
            return block
        parts = {
            "down": block.parts["down"][:1],
            "down_bias": block.parts["down_bias"][:1],
            "up": block.parts["up"][:, :1],
        }
        return make_block(block.name, {**parts, "up_bias": block.parts["up_bias"]}, block.scale)

    refused(broken(houlsby, narrowed), "differ in size within a layer")


def test_halves_of_a_prefix_are_refused(tmp_path: Path) -> None:
    embedding = made("prefix", tmp_path / "saved")
    refused(broken(embedding, lambda block: None if block.name == "layer.1.values" else block), "not of one shape")
    short = broken(
        embedding,
        lambda block: make_block(block.name, {"rows": block.parts["rows"][:2]}) if block.name[6] == "1" else block,
    )
    refused(short, "not of one shape")
    cross = broken(embedding, lambda block: replace(block, name=f"cross.{block.name}"))
    refused(cross, "a layer of the encoder or the decoder has no prefix")
    odd = broken(embedding, lambda block: replace(block, name=f"beside.{block.name}"))
    refused(odd, "no place for the prefix 'beside.layer.0.keys'")


@pytest.mark.parametrize("name", ["encoder.output", "encoder.layer.5000.output", "encoder.layer.²3.output", "9" * 400])
def test_a_bottleneck_in_no_layer_is_refused(name: str, tmp_path: Path) -> None:
    embedding = made("adapter", tmp_path / "saved")
    first = embedding.blocks[0].name
    with pytest.raises(FormatError, match=r"not in a layer|no place for"):
        export(broken(embedding, lambda block: replace(block, name=name) if block.name == first else block), "adapters")


def test_a_prompt_of_no_known_library_is_refused(tmp_path: Path) -> None:
    for case in ("prompt", "prefix"):
        refused(without(made(case, tmp_path / case), "source", "layout"), f"which library's {case} it is")
    adapter = embed(replace(read_adapter_of(tmp_path / "prompt"), base=BASE), "toy")
    refused(adapter, "which library's prompt it is")


def read_adapter_of(folder: Path) -> Any:
    from tupate_hub.readers import read_adapter

    return read_adapter(folder)


def test_blocks_that_are_no_part_of_the_method_are_refused(tmp_path: Path) -> None:
    embedding = made("mam", tmp_path / "saved")
    refused(replace(embedding, space=Space(BASE, "prefix")), "is not part of the method")
    refused(replace(embedding, space=Space(BASE, "unipelt")), "it has no lowrank block")
    lora = made("lora", tmp_path / "lora")
    bias = make_block("encoder.layer.0.attention.self.query.bias", {"bias": np.ones(WIDTH)}, 4.0)
    refused(replace(lora, blocks=order_blocks([*lora.blocks, bias])), "no biases of its own", "`form='peft'`")
