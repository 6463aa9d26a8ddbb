"""Exported folders, loaded by the libraries they are for: the outputs are those of the model the embedding came from."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import lora, prompt

from tupate_hub.embedding import TaskEmbedding, make_block, order_blocks, parse_embedding
from tupate_hub.errors import FormatError, TupateHubError, UnknownName
from tupate_hub.export import EXPORTS, export
from tupate_hub.readers import read_adapter
from tupate_hub.space import Space
from tupate_hub.tensorfile import parse_tensorfile

torch = pytest.importorskip("torch", reason="needs the extra `train`")
adapters = pytest.importorskip("adapters", reason="needs the extra `train`")
peft = pytest.importorskip("peft", reason="needs the extra `peft`")
transformers = pytest.importorskip("transformers", reason="needs the extra `train`")

BASE = "acme/tiny-bert"
KINDS = {
    "classification": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "extractive_qa": "AutoModelForQuestionAnswering",
    "multiple_choice": "AutoModelForMultipleChoice",
}


@pytest.fixture(autouse=True)
def quiet_libraries() -> Iterator[None]:
    """The libraries warn of heads that start anew; each test looks at the loaded keys itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


def tiny_config() -> Any:
    return transformers.BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Saves a random tiny BERT under the named model class, once each; returns its folder."""
    root = tmp_path_factory.mktemp("bases")

    def saved(auto: str) -> Path:
        folder = root / auto
        if not folder.exists():
            torch.manual_seed(0)
            getattr(transformers, auto).from_config(tiny_config()).save_pretrained(folder)
        return folder

    return saved


def tokens(shape: tuple[int, ...] = (3, 9)) -> Any:
    return torch.randint(0, 60, shape, generator=torch.Generator().manual_seed(1))


def tuned(base: Path, auto: str, targets: tuple[str, ...] = ("q", "v")) -> Any:
    """A LoRA of the `adapters` library in a tiny BERT, with values that float16 holds exactly."""
    model = getattr(transformers, auto).from_pretrained(base)
    adapters.init(model)
    model.add_adapter("task", adapters.LoRAConfig(r=4, alpha=8, attn_matrices=list(targets)))
    model.set_active_adapters("task")
    generator = torch.Generator().manual_seed(2)
    for name, value in model.named_parameters():
        if ".loras.task." in name:
            value.data = torch.randn(value.shape, generator=generator).mul(0.3).half().float()
    return model.eval()


def as_embedding(model: Any, kind: str) -> TaskEmbedding:
    """What the training side makes of such a model, through the bytes of its float16 file."""
    record = pytest.importorskip("tupate_hub.training.record")
    prefix = "" if hasattr(model, "bert") else "bert."
    tensors = {prefix + n: v.detach().numpy() for n, v in model.named_parameters() if ".loras.task." in n}
    facts: dict[str, Any] = {name: 0 for name in record._TRAINING}
    facts |= {
        "task": "toy",
        "kind": kind,
        "method": "lora",
        "settings": {"r": 4, "alpha": 8},
        "regime": {"init_seed": 0},
        "architecture": {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2},
        "base_sha256": "0" * 64,
        "data_sha256": "1" * 64,
        "data": dict.fromkeys(("original_dataset", "class", "original_train_size", "licence", "source"), ""),
        "scores": {},
        "metric": "accuracy",
        "baseline": 0.5,
        "baseline_rule": "always 0",
        "versions": {},
    }
    return parse_embedding(record.to_embedding(tensors, facts, BASE).to_bytes(), "toy")


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def outputs(model: Any, ids: Any) -> list[Any]:
    with torch.no_grad():
        found = model(input_ids=ids)
    names = ("logits", "start_logits", "end_logits", "last_hidden_state")
    return [getattr(found, name) for name in names if getattr(found, name, None) is not None]


def assert_same(first: list[Any], second: list[Any]) -> None:
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def load_peft(model: Any, folder: Path) -> Any:
    """The model with the folder's adapter; fails where a LoRA weight of the model is not in the folder, or the reverse."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = peft.PeftModel.from_pretrained(model, str(folder)).eval()
    assert not [one for one in caught if "lora_" in str(one.message)]
    inside = {name.replace(".default", "") for name, _ in loaded.named_parameters() if "lora_" in name}
    assert inside == set(parse_tensorfile((folder / "adapter_model.safetensors").read_bytes(), "it").tensors)
    return loaded


@pytest.mark.parametrize("kind", KINDS)
def test_peft_gives_the_outputs_of_the_tuned_model(kind: str, bases: Callable[[str], Path], tmp_path: Path) -> None:
    auto = KINDS[kind]
    base = bases(auto)
    original = tuned(base, auto)
    folder = write(tmp_path / "out", export(as_embedding(original, kind), "peft"))
    ids = tokens((2, 3, 9)) if kind == "multiple_choice" else tokens()
    untuned = getattr(transformers, auto).from_pretrained(base).eval()
    before = outputs(untuned, ids)
    assert_same(outputs(load_peft(untuned, folder), ids), outputs(original, ids))
    assert not torch.allclose(before[0], outputs(original, ids)[0], atol=1e-3)


def test_bare_peft_gives_the_outputs_of_a_model_without_a_head(bases: Callable[[str], Path], tmp_path: Path) -> None:
    base = bases("AutoModel")
    original = tuned(base, "AutoModel")
    folder = write(tmp_path / "out", export(as_embedding(original, "classification"), "peft", bare=True))
    loaded = load_peft(transformers.AutoModel.from_pretrained(base), folder)
    assert_same(outputs(loaded, tokens()), outputs(original, tokens()))


def test_adapters_loads_the_folder_into_a_flexible_model(bases: Callable[[str], Path], tmp_path: Path) -> None:
    base = bases("AutoModel")
    original = tuned(base, "AutoModel")
    folder = write(tmp_path / "out", export(as_embedding(original, "classification"), "adapters"))
    model = adapters.AutoAdapterModel.from_pretrained(base)
    name = model.load_adapter(str(folder), use_safetensors=True, set_active=True)
    assert name == "toy"
    assert_same(outputs(model.eval(), tokens()), outputs(original, tokens()))


def test_adapters_loads_the_folder_into_an_initialised_model(bases: Callable[[str], Path], tmp_path: Path) -> None:
    base = bases("AutoModel")
    original = tuned(base, "AutoModel", ("q", "k", "v"))
    folder = write(tmp_path / "out", export(as_embedding(original, "classification"), "adapters"))
    model = transformers.AutoModel.from_pretrained(base)
    adapters.init(model)
    model.load_adapter(str(folder), use_safetensors=True, set_active=True)
    assert_same(outputs(model.eval(), tokens()), outputs(original, tokens()))


def mixed(skip: str = "", layers: int = 2) -> TaskEmbedding:
    """A LoRA of several ranks and scales on the tiny BERT, without the block `skip`."""
    rng = np.random.default_rng(3)
    blocks = []
    for number, rank in zip(range(layers), (3, 1), strict=True):
        for target, scale in (("query", 0.5), ("value", 2.0)):
            name = f"encoder.layer.{number}.attention.self.{target}"
            parts = {"A": 0.3 * rng.standard_normal((rank, 32)), "B": 0.3 * rng.standard_normal((32, rank))}
            if name != skip:
                blocks.append(make_block(name, parts, scale))
    architecture = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2}
    return TaskEmbedding("toy", Space(BASE, "lora"), order_blocks(blocks), {"architecture": architecture})


def with_updates_added(model: Any, embedding: TaskEmbedding) -> Any:
    """The model with s B A added to its weights: what any loaded adapter has to compute."""
    for block in embedding.blocks:
        weight = model.get_submodule(block.name).weight
        weight.data += torch.from_numpy(block.scale * block.parts["B"] @ block.parts["A"])
    return model.eval()


@pytest.mark.parametrize("skip", ["", "encoder.layer.0.attention.self.value", "encoder.layer.1.attention.self.query"])
def test_peft_takes_ranks_and_scales_that_differ_and_blocks_that_are_missing(
    skip: str, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    embedding, base = mixed(skip), bases("AutoModel")
    folder = write(tmp_path / "out", export(embedding, "peft", bare=True))
    loaded = load_peft(transformers.AutoModel.from_pretrained(base), folder)
    expected = with_updates_added(transformers.AutoModel.from_pretrained(base), embedding)
    assert_same(outputs(loaded, tokens()), outputs(expected, tokens()))


def test_the_peft_folder_reads_back_as_the_same_blocks(tmp_path: Path) -> None:
    embedding = mixed()
    for bare in (False, True):
        adapter = read_adapter(write(tmp_path / f"bare-{bare}", export(embedding, "peft", bare=bare)))
        assert (adapter.method, adapter.base) == ("lora", BASE)
        assert [block.name for block in adapter.blocks] == [block.name for block in embedding.blocks]
        for read, block in zip(adapter.blocks, embedding.blocks, strict=True):
            expected = block.scale * block.parts["B"] @ block.parts["A"]
            np.testing.assert_allclose(read.scale * read.parts["B"] @ read.parts["A"], expected, atol=1e-6)


def test_the_adapters_folder_reads_back_as_the_same_blocks(bases: Callable[[str], Path], tmp_path: Path) -> None:
    embedding = as_embedding(tuned(bases("AutoModel"), "AutoModel"), "classification")
    adapter = read_adapter(write(tmp_path / "out", export(embedding, "adapters")))
    assert [block.name for block in adapter.blocks] == [block.name for block in embedding.blocks]
    for read, block in zip(adapter.blocks, embedding.blocks, strict=True):
        assert read.scale == block.scale
        np.testing.assert_array_equal(read.parts["A"], block.parts["A"])
        np.testing.assert_array_equal(read.parts["B"], block.parts["B"])


def test_the_embedding_form_is_the_same_embedding() -> None:
    one = lora("sst2", 0, licence="cc-by-4.0")
    ((name, data),) = export(one, "embedding").items()
    assert name == "sst2.safetensors"
    read = parse_embedding(data, name)
    assert (read.task, read.space, dict(read.facts)) == (one.task, one.space, dict(one.facts))
    np.testing.assert_array_equal(read.vector(), one.vector())


@pytest.mark.parametrize("form", EXPORTS)
def test_the_same_embedding_gives_the_same_bytes(form: str, bases: Callable[[str], Path]) -> None:
    embedding = as_embedding(tuned(bases("AutoModel"), "AutoModel"), "classification")
    assert export(embedding, form) == export(embedding, form)


def test_target_modules_are_short_only_where_every_layer_has_them() -> None:
    def targets(embedding: TaskEmbedding) -> list[str]:
        return list(json.loads(export(embedding, "peft", bare=True)["adapter_config.json"])["target_modules"])

    assert targets(mixed()) == ["query", "value"]
    assert len(targets(mixed(skip="encoder.layer.0.attention.self.value"))) == 3
    assert targets(lora("x", 0, layers=1)) == ["layer.0.query", "layer.0.value"]


def test_a_scale_that_is_no_whole_alpha_survives() -> None:
    block = make_block("layer.0.query", {"A": np.ones((3, 2)), "B": np.ones((2, 3))}, 1e-8 / 3)
    files = export(TaskEmbedding("x", Space(BASE, "lora"), (block,)), "peft", bare=True)
    assert json.loads(files["adapter_config.json"])["lora_alpha"] == pytest.approx(1e-8, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_readme_names_the_model_class_that_fits(kind: str, bases: Callable[[str], Path]) -> None:
    embedding = as_embedding(tuned(bases("AutoModel"), "AutoModel"), kind)
    assert f"import {KINDS[kind]}\n" in export(embedding, "peft")["README.md"].decode()
    assert "import AutoModel\n" in export(embedding, "peft", bare=True)["README.md"].decode()


def test_unknown_form_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="Unknown form 'gguf'") as caught:
        export(lora("x", 0), "gguf")
    assert all(form in caught.value.hint for form in EXPORTS)


@pytest.mark.parametrize("form", ["peft", "adapters"])
def test_a_method_without_a_counterpart_is_refused_by_name(form: str) -> None:
    with pytest.raises(FormatError, match="prompt cannot be written") as caught:
        export(prompt("x", 0), form)
    assert "--as embedding" in caught.value.hint


def test_adapters_refuses_several_ranks_and_points_to_peft() -> None:
    with pytest.raises(FormatError, match="one rank") as caught:
        export(mixed(), "adapters")
    assert caught.value.hint.endswith("--as peft")


@pytest.mark.parametrize("architecture", [{}, {"model_type": "mamba"}, {"model_type": ["bert"]}, ["bert"], "bert"])
def test_an_unknown_model_type_points_to_bare(architecture: object) -> None:
    one = lora("x", 0, architecture=architecture)
    with pytest.raises(TupateHubError, match="not known to the exporter") as caught:
        export(one, "peft")
    assert "--bare" in caught.value.hint
    assert "adapter_config.json" in export(one, "peft", bare=True)
