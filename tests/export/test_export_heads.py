"""Heads exported: PEFT's and the adapters library's models give what the head itself gives of the model's states."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from loading import BASE, architecture, inputs, quiet_libraries, write
from peft import PeftModel
from tiny_models import LAYERS, WIDTH, tiny

from tupate_hub.embedding import TaskEmbedding, make_block
from tupate_hub.errors import FormatError
from tupate_hub.export import export
from tupate_hub.export.heads import as_saved_modules
from tupate_hub.head import FILENAME, Head, make_head, parse_head
from tupate_hub.space import Space

__all__ = ["quiet_libraries"]

#: Logits are of size 1 to 30. What the bridge through tanh adds is 2e-6 of a state, and float32 rounds.
CLOSE = 2e-4
KINDS = {
    "classification": ("ForSequenceClassification", 3),
    "regression": ("ForSequenceClassification", 1),
    "token_classification": ("ForTokenClassification", 4),
    "extractive_qa": ("ForQuestionAnswering", 2),
    "multiple_choice": ("ForMultipleChoice", 1),
}
ATTENTION = {
    "bert": "encoder.layer.{}.attention.self.query",
    "roberta": "encoder.layer.{}.attention.self.query",
    "distilbert": "transformer.layer.{}.attention.q_lin",
}


def lora(kind: str) -> TaskEmbedding:
    draw = np.random.default_rng(2)
    blocks = tuple(
        make_block(
            ATTENTION[kind].format(layer), {"A": draw.normal(size=(2, WIDTH)), "B": 0.1 * draw.normal(size=(WIDTH, 2))}
        )
        for layer in range(LAYERS)
    )
    return TaskEmbedding("toy", Space(BASE, "lora"), blocks, {"architecture": architecture(kind)})


def head_for(kind: str, layers: int = 1, pooled: bool = False, activation: str = "tanh") -> Head:
    draw = np.random.default_rng(4)
    outputs = KINDS[kind][1]
    sizes = [(WIDTH, WIDTH)] * (layers - 1) + [(outputs, WIDTH)]
    made = [(draw.normal(size=size) / 3, draw.normal(size=size[0])) for size in sizes]
    names = tuple("abcd"[:outputs]) if kind in ("classification", "token_classification") else ()
    return make_head("toy", kind, names, made, pooled=pooled, activation=activation)


def states(model: Any, given: dict[str, Any]) -> Any:
    """What the headed model's encoder gives, of shape (batch, length, width)."""
    with torch.no_grad():
        return model.base_model(**given).last_hidden_state


def by_hand(head: Head, hidden: Any) -> Any:
    activation = {"tanh": torch.tanh, "relu": torch.relu}[head.activation]
    for number, layer in enumerate(head.layers):
        hidden = activation(hidden) if number else hidden
        hidden = hidden @ torch.from_numpy(layer.weight).T + torch.from_numpy(layer.bias)
    return hidden


def headed(kind: str, task: str) -> Any:
    """A tiny model of transformers with a new head for the kind of task, and the weights of `tiny`."""
    encoder = tiny(kind)
    config = replace_labels(encoder.config, KINDS[task][1])
    name = {"bert": "Bert", "roberta": "Roberta", "distilbert": "DistilBert"}[kind]
    model = getattr(transformers, name + KINDS[task][0])(config)
    model.base_model.load_state_dict(encoder.base_model.state_dict(), strict=False)
    return model.eval()


def replace_labels(config: Any, count: int) -> Any:
    config.num_labels = count
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "qa_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    return config


def answered(model: Any, task: str, given: dict[str, Any]) -> Any:
    with torch.no_grad():
        if task == "multiple_choice":
            return model(**{name: value[None] for name, value in given.items()}).logits[0][:, None]
        found = model(**given)
    if task == "extractive_qa":
        return torch.stack([found.start_logits, found.end_logits], dim=-1)
    return found.logits


@pytest.mark.parametrize("task", KINDS)
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_peft_gives_what_the_head_gives_of_the_states(kind: str, task: str, tmp_path: Path) -> None:
    head = head_for(task)
    folder = write(tmp_path / "out", export(lora(kind), "peft", head=head))
    model = PeftModel.from_pretrained(headed(kind, task), str(folder)).eval()
    given = inputs(kind)
    hidden = states(model.get_base_model(), given)
    expected = by_hand(head, hidden if task in ("token_classification", "extractive_qa") else hidden[:, 0])
    torch.testing.assert_close(answered(model, task, given), expected, rtol=0, atol=CLOSE)
    assert parse_head((folder / FILENAME).read_bytes(), "x").kind == task


@pytest.mark.parametrize(("kind", "activation"), [("bert", "tanh"), ("roberta", "tanh"), ("distilbert", "relu")])
def test_a_head_of_two_layers_fits_as_it_is(kind: str, activation: str, tmp_path: Path) -> None:
    """As AdapterHub's heads and BERT's own are: nothing is lost but the rounding of sums."""
    head = head_for("classification", layers=2, activation=activation)
    folder = write(tmp_path / "out", export(lora(kind), "peft", head=head))
    model = PeftModel.from_pretrained(headed(kind, "classification"), str(folder)).eval()
    given = inputs(kind)
    expected = by_hand(head, states(model.get_base_model(), given)[:, 0])
    torch.testing.assert_close(answered(model, "classification", given), expected, rtol=0, atol=2e-5)


def test_a_head_on_the_base_model_s_own_pooler(tmp_path: Path) -> None:
    head = head_for("classification", pooled=True)
    files = export(lora("bert"), "peft", head=head)
    assert json.loads(files["adapter_config.json"])["modules_to_save"] == ["classifier"]
    model = PeftModel.from_pretrained(headed("bert", "classification"), str(write(tmp_path / "out", files))).eval()
    given = inputs()
    with torch.no_grad():
        expected = by_hand(head, model.get_base_model().bert(**given).pooler_output)
    torch.testing.assert_close(answered(model, "classification", given), expected, rtol=0, atol=2e-5)


def test_the_bridge_is_exact_to_rounding_for_states_of_any_likely_size() -> None:
    """Through tanh at 2^-12 of its size: the third-order term is (x / 4096)^2 / 3 of x."""
    head = head_for("classification")
    tensors, modules = as_saved_modules(lora("bert"), head, "peft")
    assert modules == ["classifier", "pooler"]
    hidden = torch.linspace(-10, 10, 7 * WIDTH).reshape(7, WIDTH)
    layers = {name: torch.from_numpy(array) for name, array in tensors.items()}
    pooled = torch.tanh(hidden @ layers["bert.pooler.dense.weight"].T + layers["bert.pooler.dense.bias"])
    found = pooled @ layers["classifier.weight"].T + layers["classifier.bias"]
    torch.testing.assert_close(found, by_hand(head, hidden), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "head", "said"),
    [
        ("roberta", head_for("classification", pooled=True), "lacks"),
        ("bert", head_for("token_classification", layers=2), "has one"),
        ("bert", head_for("classification", layers=2, activation="relu"), "two layers with tanh"),
        ("bert", head_for("classification", layers=3), "two layers with tanh"),
        ("gpt2", head_for("classification"), "not known"),
    ],
)
def test_what_the_class_has_no_place_for_is_refused(kind: str, head: Head, said: str) -> None:
    embedding = lora("bert")
    embedding = replace(embedding, facts={"architecture": {**embedding.facts["architecture"], "model_type": kind}})
    with pytest.raises(FormatError, match=said) as caught:
        export(embedding, "peft", head=head)
    assert "bare=True" in caught.value.hint


def test_bare_folders_have_no_head() -> None:
    files = export(lora("bert"), "peft", bare=True, head=head_for("classification"))
    assert FILENAME not in files
    assert "modules_to_save" not in json.loads(files["adapter_config.json"])


def test_labels_that_are_code_stay_text(tmp_path: Path) -> None:
    """A stranger's label may hold quotation marks and the end of a block of code."""
    names = ('a"]; raise SystemExit #', "```\n\n[x](y)", "c")
    head = replace(head_for("classification"), label_names=names)
    page = export(lora("bert"), "peft", head=head)["README.md"].decode()
    (line,) = [line for line in page.splitlines() if line.startswith("labels = ")]
    told: dict[str, Any] = {}
    exec(line, told)
    assert tuple(told["labels"]) == names
    assert page.count("```") == 2
