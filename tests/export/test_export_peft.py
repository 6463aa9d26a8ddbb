"""Folders for PEFT: made from its own files and from those of the adapters library, loaded as the README says."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import adapters
import numpy as np
import peft
import pytest
import torch
import transformers
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
from tupate_hub.embedding import TaskEmbedding, make_block, order_blocks
from tupate_hub.errors import FormatError
from tupate_hub.export import export
from tupate_hub.space import Space

__all__ = ["quiet_libraries"]

NAME = "my_task"
TUNED = ("lora_", "ia3_", "prompt_encoder")
ATTENTION = {"bert": ["query", "value"], "roberta": ["query", "value"], "distilbert": ["q_lin", "v_lin"]}
#: The feed-forward's weights; BERT's second has the same name as attention's.
FEED_FORWARD = {
    "bert": ("intermediate.dense", "output.dense"),
    "roberta": ("intermediate.dense", "output.dense"),
    "distilbert": ("lin1", "lin2"),
}


def tuned(kind: str, config: Any, model: Any = None) -> Any:
    """A tiny model with a PEFT adapter in which nothing is zero, its head as it was."""
    made = peft.get_peft_model(model or tiny(kind), config)
    shake([value for name, value in made.named_parameters() if any(part in name for part in TUNED)])
    return made.eval()


def read(model: Any, folder: Path, kind: str, task_kind: str = "classification") -> TaskEmbedding:
    """What PEFT saves of the model, as a stranger's file is read, with what a registry knows of base and task."""
    model.save_pretrained(str(folder))
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": BASE}))
    one = read_for_registry(folder, task="toy")
    known = {**one.facts.get("architecture", {}), **architecture(kind)}
    return replace(one, facts={**one.facts, "architecture": known, "task_kind": task_kind})


def read_adapters(kind: str, config: Any, folder: Path) -> tuple[Any, TaskEmbedding]:
    """A model tuned with the adapters library, and what is read of its file."""
    model = tiny(kind)
    adapters.init(model)
    model.add_adapter(NAME, config=config)
    shake([value for name, value in model.named_parameters() if NAME in name])
    model.set_active_adapters(NAME)
    model.save_adapter(str(folder), NAME)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_name": BASE}))
    one = read_for_registry(folder, task="toy")
    return model.eval(), replace(one, facts={**one.facts, "task_kind": "classification"})


def cases(kind: str) -> dict[str, Any]:
    attention, (inner, outer) = ATTENTION[kind], FEED_FORWARD[kind]
    sizes = {"num_virtual_tokens": 4, "token_dim": WIDTH, "num_layers": LAYERS, "num_attention_heads": 4}
    first = f"transformer.layer.0.attention.{attention[0]}"
    if kind != "distilbert":
        first = f"encoder.layer.0.attention.self.{attention[0]}"
    found = {
        "lora": peft.LoraConfig(r=4, lora_alpha=16, target_modules=attention),
        "lora, rank-stabilised": peft.LoraConfig(r=4, lora_alpha=3, use_rslora=True, target_modules=attention),
        "lora, ranks and scales that differ": peft.LoraConfig(
            r=4, lora_alpha=3, target_modules=attention, rank_pattern={first: 2}, alpha_pattern={attention[0]: 7}
        ),
        "lora, feed-forward too": peft.LoraConfig(r=4, target_modules=[*attention, inner]),
        "lora, wherever there is room": peft.LoraConfig(r=4, target_modules=[*attention, inner, outer]),
        "lora, one layer": peft.LoraConfig(r=4, target_modules=attention, layers_to_transform=[0]),
        "lora, biases of its own": peft.LoraConfig(r=4, lora_alpha=8, target_modules=attention, lora_bias=True),
        "ia3": peft.IA3Config(target_modules=[*attention, outer], feedforward_modules=[outer]),
        "ia3, attention": peft.IA3Config(target_modules=attention, feedforward_modules=[]),
        "prompt": peft.PromptTuningConfig(task_type="SEQ_CLS", **sizes),
        "p-tuning": peft.PromptEncoderConfig(task_type="SEQ_CLS", encoder_hidden_size=8, **sizes),
    }
    if kind == "bert":  # of the others, DistilBERT takes no prefix, and RoBERTa's fails in PEFT's own class
        found |= {
            "prefix": peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=5),
            "prefix, projected": peft.PrefixTuningConfig(
                task_type="SEQ_CLS", num_virtual_tokens=5, prefix_projection=True, encoder_hidden_size=8
            ),
        }
    return found


CASES = [(kind, case) for kind in ATTENTION for case in cases(kind)]


# --- from PEFT ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_the_readme_makes_a_model_with_the_outputs_of_the_tuned_one(kind: str, case: str, tmp_path: Path) -> None:
    model = tuned(kind, cases(kind)[case])
    folder = write(tmp_path / "out", export(read(model, tmp_path / "saved", kind), "peft"))
    expected = outputs(model, **inputs(kind))
    assert_same(outputs(run_readme(folder, saved_base(kind, tmp_path / "base")), **inputs(kind)), expected)
    assert_differ(outputs(tiny(kind), **inputs(kind)), expected)


@pytest.mark.parametrize("case", cases("bert"))
def test_it_reads_back_as_it_was(case: str, tmp_path: Path) -> None:
    embedding = read(tuned("bert", cases("bert")[case]), tmp_path / "saved", "bert")
    again = read_for_registry(write(tmp_path / "out", export(embedding, "peft")))
    assert again.space == embedding.space
    assert [block.name for block in again.blocks] == [block.name for block in embedding.blocks]
    for one, other in zip(again.blocks, embedding.blocks, strict=True):
        assert one.scale == pytest.approx(other.scale)
        for part, array in other.parts.items():
            np.testing.assert_array_equal(one.parts[part], array)


@pytest.mark.parametrize("case", ["lora", "ia3", "prefix", "prompt"])
def test_bare_folders_load_into_a_model_without_a_head(case: str, tmp_path: Path) -> None:
    config = cases("bert")[case]
    if config.task_type:
        config.task_type = "FEATURE_EXTRACTION"
    model = tuned("bert", config, tiny("bert").bert)
    embedding = read(model, tmp_path / "saved", "bert", "multiple_choice")
    folder = write(tmp_path / "out", export(embedding, "peft", bare=True))
    given = inputs("roberta")  # PEFT's model for features takes no segments
    assert_same(outputs(run_readme(folder, saved_base("bert", tmp_path / "base")), **given), outputs(model, **given))


@pytest.mark.parametrize(
    ("kind", "case"), [(kind, case) for kind, case in CASES if case in ("lora", "ia3", "prefix", "prompt")]
)
def test_a_strangers_file_tells_enough_to_be_written_again(kind: str, case: str, tmp_path: Path) -> None:
    config = cases(kind)[case]
    config.task_type = "SEQ_CLS"
    model = tuned(kind, config)
    model.save_pretrained(str(tmp_path / "saved"))
    one = read_for_registry(tmp_path / "saved", base=BASE)
    folder = write(tmp_path / "out", export(one, "peft"))
    loaded = run_readme(folder, saved_base(kind, tmp_path / "base"))
    assert_same(outputs(loaded, **inputs(kind)), outputs(model, **inputs(kind)))


LANGUAGE = {
    "lora": peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=16, target_modules=["c_attn", "lm_head"]),
    "ia3": peft.IA3Config(task_type="CAUSAL_LM", target_modules=["c_attn", "c_fc"], feedforward_modules=["c_fc"]),
    "prompt": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "prefix": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
}


@pytest.mark.parametrize("case", LANGUAGE)
def test_so_does_one_for_a_language_model(case: str, tmp_path: Path) -> None:
    model = tuned("gpt2", copy.deepcopy(LANGUAGE[case]))
    model.save_pretrained(str(tmp_path / "saved"))
    one = read_for_registry(tmp_path / "saved", base=BASE)
    loaded = run_readme(write(tmp_path / "out", export(one, "peft")), saved_base("gpt2", tmp_path / "base"))
    given = inputs("gpt2")
    assert_same(outputs(loaded, **given), outputs(model, **given))
    assert_differ(outputs(tiny("gpt2"), **given), outputs(model, **given))


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(task_type="SEQ_2_SEQ_LM", r=4, lora_alpha=16, target_modules=["q", "v"]),
        peft.IA3Config(task_type="SEQ_2_SEQ_LM", target_modules=["k", "v", "wo"], feedforward_modules=["wo"]),
    ],
    ids=["lora", "ia3"],
)
def test_an_encoder_decoders_layers_have_no_prefix(config: Any, tmp_path: Path) -> None:
    model = tuned("t5", copy.deepcopy(config))
    model.save_pretrained(str(tmp_path / "saved"))
    one = read_for_registry(tmp_path / "saved", base=BASE)
    folder = write(tmp_path / "out", export(one, "peft"))
    written = json.loads((folder / "adapter_config.json").read_text())
    assert written["task_type"] == "SEQ_2_SEQ_LM"
    loaded = run_readme(folder, saved_base("t5", tmp_path / "base"))
    given = {**inputs("t5"), "decoder_input_ids": inputs("t5")["input_ids"][:, :4]}
    assert_same(outputs(loaded, **given), outputs(model, **given))


def test_an_encoder_decoders_prompt_has_two_halves(tmp_path: Path) -> None:
    model = tuned("t5", peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3))
    model.save_pretrained(str(tmp_path / "saved"))
    one = read_for_registry(tmp_path / "saved", base=BASE)
    folder = write(tmp_path / "out", export(one, "peft"))
    again = read_for_registry(folder)
    assert {block.name: block.parts["rows"].shape for block in again.blocks} == {
        "prompt": (3, WIDTH),
        "decoder.prompt": (3, WIDTH),
    }
    loaded = run_readme(folder, saved_base("t5", tmp_path / "base"))
    given = {**inputs("t5"), "decoder_input_ids": inputs("t5")["input_ids"][:, :4]}
    assert_same(outputs(loaded, **given), outputs(model, **given))


HEADS = {
    "regression": ("AutoModelForSequenceClassification", "SEQ_CLS"),
    "extractive_qa": ("AutoModelForQuestionAnswering", "QUESTION_ANS"),
    "token_classification": ("AutoModelForTokenClassification", "TOKEN_CLS"),
    "multiple_choice": ("AutoModelForMultipleChoice", None),
}


@pytest.mark.parametrize(
    ("task_kind", "method"),
    [("multiple_choice", "lora")]  # for which PEFT has no prompts
    + [(kind, method) for kind in HEADS if kind != "multiple_choice" for method in ("lora", "prompt", "prefix")],
)
def test_each_kind_of_task_has_its_model_class(task_kind: str, method: str, tmp_path: Path) -> None:
    auto, task_type = HEADS[task_kind]
    torch.manual_seed(5)
    head = getattr(transformers, auto).from_config(tiny("bert").config)
    head.save_pretrained(tmp_path / "base")
    config = cases("bert")[method]
    config.task_type = task_type
    model = tuned("bert", config, head)
    folder = write(tmp_path / "out", export(read(model, tmp_path / "saved", "bert", task_kind), "peft"))
    assert f"import {auto}\n" in (folder / "README.md").read_text()
    given = inputs("roberta" if task_kind == "extractive_qa" else "bert")  # PEFT drops the segments of questions
    if task_type is None:
        given = {name: value[None].expand(2, -1, -1).contiguous() for name, value in given.items()}
    assert_same(outputs(run_readme(folder, tmp_path / "base"), **given), outputs(model, **given))


# --- from one library to the other --------------------------------------------------------------------------------

BOTH = {
    "lora": adapters.LoRAConfig(r=4, alpha=16, attn_matrices=["q", "k", "v"]),
    "lora, feed-forward": adapters.LoRAConfig(
        r=4, alpha=3, selfattn_lora=False, intermediate_lora=True, output_lora=True
    ),
    "lora, a layer left out": adapters.LoRAConfig(r=4, alpha=4, leave_out=[1]),
    "ia3": adapters.IA3Config(),
    "prefix": adapters.PrefixTuningConfig(prefix_length=5, bottleneck_size=8),
}


@pytest.mark.parametrize(
    ("kind", "case"),
    [(kind, case) for kind in ATTENTION for case in BOTH if kind == "bert" or case != "prefix"],
)
def test_peft_computes_what_the_adapters_library_does(kind: str, case: str, tmp_path: Path) -> None:
    model, embedding = read_adapters(kind, BOTH[case], tmp_path / "saved")
    folder = write(tmp_path / "out", export(embedding, "peft"))
    loaded = run_readme(folder, saved_base(kind, tmp_path / "base"))
    assert_same(outputs(loaded, **inputs(kind)), outputs(model, **inputs(kind)))


def test_peft_takes_the_fused_projection_of_gpt2(tmp_path: Path) -> None:
    model, one = read_adapters("gpt2", adapters.LoRAConfig(r=4, alpha=12), tmp_path / "saved")
    settings = {**one.facts["settings"], "task_type": "CAUSAL_LM"}
    one = replace(one, facts={**one.facts, "task_kind": None, "settings": settings})
    loaded = run_readme(write(tmp_path / "out", export(one, "peft")), saved_base("gpt2", tmp_path / "base"))
    assert_same(outputs(loaded, **inputs("gpt2")), outputs(model, **inputs("gpt2")))


@pytest.mark.parametrize(
    ("kind", "case"),
    [(kind, case) for kind, case in CASES if case in ("lora", "lora, feed-forward too", "ia3, attention", "prefix")],
)
def test_the_adapters_library_computes_what_peft_does(kind: str, case: str, tmp_path: Path) -> None:
    model = tuned(kind, cases(kind)[case])
    embedding = read(model, tmp_path / "saved", kind)
    folder = write(tmp_path / "out", export(embedding, "adapters"))
    loaded = run_readme(folder, saved_base(kind, tmp_path / "base"))
    assert_same(last_hidden(loaded, **inputs(kind)), last_hidden(model, **inputs(kind)))


def test_robertas_prefixes_go_from_one_library_to_the_other(tmp_path: Path) -> None:
    """Through models without a head; for one with a head of PEFT's own making, the user is told so."""
    base, given = saved_base("roberta", tmp_path / "base"), inputs("roberta")
    model, theirs = read_adapters("roberta", BOTH["prefix"], tmp_path / "adapters")
    folder = write(tmp_path / "to-peft", export(theirs, "peft", bare=True))
    assert_same(outputs(run_readme(folder, base), **given), outputs(model.base_model, **given))
    refused(theirs, "fails", "`form='peft'` `bare=True`")
    config = peft.PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=5)
    encoder = tuned("roberta", config, tiny("roberta").roberta)
    folder = write(tmp_path / "to-adapters", export(read(encoder, tmp_path / "peft", "roberta"), "adapters"))
    assert_same(outputs(run_readme(folder, base).base_model, **given), outputs(encoder, **given))


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("task_kind", ["extractive_qa", "token_classification"])
def test_prefixes_of_the_adapters_library_answer_and_tag_in_peft(kind: str, task_kind: str, tmp_path: Path) -> None:
    model, one = read_adapters(kind, BOTH["prefix"], tmp_path / "saved")
    one = replace(one, facts={**one.facts, "task_kind": task_kind})
    if (kind, task_kind) == ("bert", "extractive_qa"):
        refused(one, "drops the 'token_type_ids'")
        return
    auto = getattr(transformers, HEADS[task_kind][0])
    head = auto.from_pretrained(saved_base(kind, tmp_path / "tiny"))
    head.save_pretrained(tmp_path / "base")
    setattr(head, head.base_model_prefix, model.base_model)
    loaded = run_readme(write(tmp_path / "out", export(one, "peft")), tmp_path / "base")
    assert_same(outputs(loaded, **inputs(kind)), outputs(head.eval(), **inputs(kind)))


def test_positions_make_the_difference_between_the_libraries(tmp_path: Path) -> None:
    """Without the README's line on positions the outputs would be others: the line is needed."""
    model, embedding = read_adapters("bert", BOTH["prefix"], tmp_path / "saved")
    files = export(embedding, "peft")
    page = files["README.md"].decode()
    (line,) = [line for line in page.splitlines() if line.startswith("positions[")]
    folder = write(tmp_path / "out", {**files, "README.md": page.replace(line, "").encode()})
    assert_differ(outputs(run_readme(folder, saved_base("bert", tmp_path / "base"))), outputs(model))


# --- the configuration --------------------------------------------------------------------------------------------


def test_target_modules_are_short_only_where_every_layer_has_them(tmp_path: Path) -> None:
    def targets(case: str) -> list[str]:
        embedding = read(tuned("bert", cases("bert")[case]), tmp_path / case, "bert")
        return list(json.loads(export(embedding, "peft")["adapter_config.json"])["target_modules"])

    assert targets("lora") == ["query", "value"]
    assert targets("ia3, attention") == ["query", "value"]
    assert targets("lora, one layer") == [f"encoder.layer.0.attention.self.{name}" for name in ("query", "value")]
    assert len(targets("lora, wherever there is room")) == 5 * LAYERS
    assert all(name.startswith("encoder.layer.") for name in targets("ia3"))


def test_a_scale_that_is_no_whole_alpha_survives() -> None:
    block = make_block("layer.0.query", {"A": np.ones((3, 2)), "B": np.ones((2, 3))}, 1e-8 / 3)
    files = export(TaskEmbedding("x", Space(BASE, "lora"), (block,)), "peft", bare=True)
    assert json.loads(files["adapter_config.json"])["lora_alpha"] == pytest.approx(1e-8, rel=1e-6)


# --- refusals -----------------------------------------------------------------------------------------------------


def refused(embedding: TaskEmbedding, why: str, instead: str = "`form='adapters'`") -> None:
    with pytest.raises(FormatError) as caught:
        export(embedding, "peft")
    assert why in caught.value.message
    assert caught.value.hint == f"take another form: {instead}"


@pytest.mark.parametrize("method", ["seq_bn", "double_seq_bn", "par_bn", "mam"])
def test_bottlenecks_are_refused_and_have_a_place_in_the_adapters_library(method: str, tmp_path: Path) -> None:
    _, embedding = read_adapters("bert", method, tmp_path / "saved")
    refused(embedding, f"PEFT has no {embedding.space.method}")
    assert "adapter.safetensors" in export(embedding, "adapters")


def test_a_prompt_of_one_library_is_refused_by_the_other(tmp_path: Path) -> None:
    _, theirs = read_adapters("bert", adapters.PromptTuningConfig(prompt_length=4), tmp_path / "adapters")
    refused(theirs, "PEFT before them")
    ours = read(tuned("bert", cases("bert")["prompt"]), tmp_path / "peft", "bert")
    with pytest.raises(FormatError, match="PEFT puts a prompt before") as caught:
        export(ours, "adapters")
    assert caught.value.hint.endswith("`form='peft'`")


def test_a_prefix_with_a_layer_left_out_is_refused(tmp_path: Path) -> None:
    for left_out in ([0], [1]):
        config = adapters.PrefixTuningConfig(flat=True, prefix_length=5, leave_out=left_out)
        _, one = read_adapters("bert", config, tmp_path / str(left_out))
        one = replace(one, facts={**one.facts, "architecture": architecture("bert")})
        refused(one, "leaves out layers")


def test_a_prefix_for_distilbert_is_refused(tmp_path: Path) -> None:
    _, one = read_adapters("distilbert", BOTH["prefix"], tmp_path / "saved")
    refused(one, "no past keys and values")


def test_a_prefix_of_no_known_library_or_model_is_refused(tmp_path: Path) -> None:
    _, one = read_adapters("bert", BOTH["prefix"], tmp_path / "saved")
    refused(replace(one, facts={**one.facts, "source": {}}), "which library's prefix it is", "`form='embedding'`")
    encoder = {"encoder": "bert"}
    refused(replace(one, facts={**one.facts, "architecture": encoder}), "how this model counts them is not known")
    ours = read(tuned("bert", cases("bert")["prefix"]), tmp_path / "peft", "bert")
    unknown = replace(ours, facts={**ours.facts, "architecture": {}})
    assert "adapter_config.json" in export(unknown, "peft")
    with pytest.raises(FormatError, match="how this model counts them is not known"):
        export(unknown, "adapters")


@pytest.mark.parametrize("case", ["prompt", "prefix"])
@pytest.mark.parametrize("task_kind", ["multiple_choice", "?", ["classification"]])
def test_a_kind_that_peft_has_no_prompts_for_points_to_bare(case: str, task_kind: Any, tmp_path: Path) -> None:
    one = read(tuned("bert", cases("bert")[case]), tmp_path / "saved", "bert", task_kind)
    refused(one, "PEFT has no prompts for the kind of task", "`form='peft'` `bare=True`")
    assert "FEATURE_EXTRACTION" in export(one, "peft", bare=True)["adapter_config.json"].decode()
    settings = {**one.facts["settings"], "task_type": "?"}
    refused(
        replace(one, facts={**one.facts, "task_kind": None, "settings": settings}),
        "'None'",
        "`form='peft'` `bare=True`",
    )


def test_biases_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    one = read(tuned("bert", cases("bert")["lora"]), tmp_path / "saved", "bert")
    query = "encoder.layer.0.attention.self.query"

    def with_bias(name: str, size: int, scale: float) -> TaskEmbedding:
        bias = make_block(f"{name}.bias", {"bias": np.ones(size)}, scale)
        return replace(one, blocks=order_blocks([*one.blocks, bias]))

    assert "lora_B.bias" in str(export(with_bias(query, WIDTH, 4.0), "peft")["adapter_model.safetensors"])
    refused(with_bias(query, WIDTH, 1.0), "does not fit its LoRA", "`form='embedding'`")
    refused(with_bias(query, WIDTH + 1, 4.0), "does not fit its LoRA", "`form='embedding'`")
    refused(with_bias("pooler.dense", WIDTH, 4.0), "stands beside no LoRA", "`form='embedding'`")


def test_a_layer_scaled_on_both_sides_is_refused(tmp_path: Path) -> None:
    one = read(tuned("bert", cases("bert")["ia3"]), tmp_path / "saved", "bert")
    both = make_block("encoder.layer.0.output.dense", {"scaling": np.ones(WIDTH)})
    refused(replace(one, blocks=order_blocks([*one.blocks, both])), "cannot both be scaled", "`form='embedding'`")
