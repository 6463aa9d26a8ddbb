"""Heads of strangers: found beside or in their adapters, kept by `add` when asked, and exported again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tupate_hub import Zoo
from tupate_hub.collect.add import add, open_or_start
from tupate_hub.collect.read_head import find_head
from tupate_hub.embedding import TaskEmbedding, make_block
from tupate_hub.errors import FormatError
from tupate_hub.export import export
from tupate_hub.head import FILENAME, Head, make_head
from tupate_hub.space import Space
from tupate_hub.storage.safetensors import TensorFile

SHARED = Path(__file__).parents[3] / "shared" / "adapters"
WIDTH = 6


def head_of(kind: str, layers: int = 1, activation: str = "tanh", **more: Any) -> Head:
    draw = np.random.default_rng(1)
    outputs = {"extractive_qa": 2, "regression": 1}.get(kind, 3)
    sizes = [(WIDTH, WIDTH)] * (layers - 1) + [(outputs, WIDTH)]
    names = ("no", "yes", "so-so") if kind in ("classification", "token_classification") else ()
    made = [(draw.normal(size=size), draw.normal(size=size[0])) for size in sizes]
    return make_head("sst2", kind, names, made, activation=activation, **more)


PLACES = {"distilbert": "transformer.layer.{}.attention.q_lin"}


def embedding(model_type: str = "bert") -> TaskEmbedding:
    draw = np.random.default_rng(2)
    place = PLACES.get(model_type, "encoder.layer.{}.attention.self.query")
    blocks = tuple(
        make_block(place.format(layer), {"A": draw.normal(size=(2, WIDTH)), "B": draw.normal(size=(WIDTH, 2))})
        for layer in range(2)
    )
    sizes = {"model_type": model_type, "hidden_size": WIDTH, "num_hidden_layers": 2}
    return TaskEmbedding("sst2", Space("acme/tiny-bert", "lora"), blocks, {"architecture": sizes})


def left(folder: Path, form: str, head: Head, model_type: str = "bert") -> Path:
    """A folder as a library leaves it: without this project's own file of the head."""
    folder.mkdir()
    for name, data in export(embedding(model_type), form, head=head).items():
        if name != FILENAME:
            (folder / name).write_bytes(data)
    return folder


def assert_same(found: Head | None, head: Head, names: bool) -> None:
    assert found is not None
    assert (found.kind, found.pooled) == (head.kind, head.pooled)
    assert found.label_names == (head.label_names if names else ())
    assert len(found.layers) == len(head.layers)
    for layer, other in zip(found.layers, head.layers, strict=True):
        np.testing.assert_array_equal(layer.weight, other.weight)
        np.testing.assert_array_equal(layer.bias, other.bias)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["classification", "regression", "token_classification", "extractive_qa"])
def test_the_adapters_library_s_heads_come_back(kind: str, layers: int, tmp_path: Path) -> None:
    head = head_of(kind, layers)
    named = kind in ("classification", "token_classification")
    assert_same(find_head(left(tmp_path / "x", "adapters", head)), head, names=named)


@pytest.mark.parametrize(("model_type", "activation"), [("bert", "tanh"), ("roberta", "tanh"), ("distilbert", "relu")])
def test_peft_s_heads_of_two_layers_come_back(model_type: str, activation: str, tmp_path: Path) -> None:
    head = head_of("classification", 2, activation)
    found = find_head(left(tmp_path / "x", "peft", head, model_type))
    assert_same(found, head, names=False)
    assert found is not None
    assert found.activation == activation


def test_peft_s_heads_of_tags_and_of_a_pooler_come_back(tmp_path: Path) -> None:
    tags, pooled = head_of("token_classification"), head_of("classification", pooled=True)
    assert_same(find_head(left(tmp_path / "tags", "peft", tags)), tags, names=False)
    assert_same(find_head(left(tmp_path / "pooled", "peft", pooled)), pooled, names=False)


def test_an_adapter_without_a_head_has_none(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    for name, data in export(embedding(), "peft", bare=True).items():
        (tmp_path / "bare" / name).write_bytes(data)
    assert find_head(tmp_path / "bare") is None
    assert find_head(tmp_path) is None
    with pytest.raises(FormatError, match="holds no head of a known form"):
        add(open_or_start(tmp_path / "zoo"), tmp_path / "bare", task="x", head=True)
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize(
    "tensors",
    [
        {"heads.x.1.weight": np.ones((3, 6)), "heads.x.1.bias": np.ones(2)},
        {"heads.x.1.weight": np.full((3, 6), np.nan)},
        {"heads.x.1.bias": np.ones(3)},
        {"other": np.ones(3)},
    ],
)
def test_hostile_heads_are_refused_in_a_sentence(tensors: dict[str, Any], tmp_path: Path) -> None:
    config = {"config": {"head_type": "classification", "label2id": {"a": "b"}}}
    (tmp_path / "head_config.json").write_text(json.dumps(config))
    (tmp_path / "model_head.safetensors").write_bytes(TensorFile(tensors).to_bytes())
    with pytest.raises(FormatError, match=r"model_head"):
        find_head(tmp_path)


def test_add_keeps_a_head_when_asked_and_it_is_exported_again(tmp_path: Path, invoke: Any) -> None:
    head = head_of("classification", 2)
    folder = left(tmp_path / "theirs", "adapters", head)
    registry = tmp_path / "zoo"
    assert invoke("add", folder, "--task", "films", "--registry", registry).code == 0
    assert not Zoo.open(registry).registry.find("films").head
    added = invoke("add", folder, "--task", "reviews", "--head", "--registry", registry)
    assert added.code == 0, added.err
    zoo = Zoo.open(registry)
    kept = zoo.head(zoo.registry.find("reviews"))
    assert kept is not None
    assert (kept.task, kept.label_names, len(kept.layers)) == ("reviews", ("no", "yes", "so-so"), 2)
    assert zoo.verify() == []
    pulled = invoke("pull", "reviews", "--as", "adapters", "--to", tmp_path / "ours", "--registry", registry)
    assert pulled.code == 0, pulled.err
    again = find_head(tmp_path / "ours")
    assert again is not None
    np.testing.assert_allclose(again.layers[1].weight, head.layers[1].weight, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/adapters")
@pytest.mark.parametrize(
    ("name", "names", "outputs", "layers", "pooled"),
    [
        ("AnHu2410__MD_crosslingual__adapter", ("1", "0"), 2, 2, False),
        ("Hareshjethani__BERT-GPT2-Multitask-Finetuning", (), 2, 1, True),
        ("dayanidhi04__emotion-classification-distilbert-lora", (), 6, 2, False),
        ("subro608__Deep_learning_Bert_project2__checkpoint-2400", (), 4, 2, False),
    ],
)
def test_heads_of_real_adapters(name: str, names: tuple[str, ...], outputs: int, layers: int, pooled: bool) -> None:
    head = find_head(SHARED / name)
    assert head is not None
    assert (head.kind, head.label_names, head.outputs, len(head.layers), head.pooled) == (
        "classification", names, outputs, layers, pooled
    )  # fmt: skip
    assert head.width == 768
