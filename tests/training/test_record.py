"""Record: the embedding of a run is what the model merges, and its header tells everything about the run."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import LAYERS, ORIGIN, REGIME, TASKS, WIDTH

from tupate_hub.embedding import parse_embedding
from tupate_hub.space import Space
from tupate_hub.training.methods import NAME, get_method
from tupate_hub.training.model import build_model
from tupate_hub.training.record import to_embedding
from tupate_hub.training.tuner import Regime, tune

BASE_ID = "acme/toy-bert"


@pytest.fixture(scope="session")
def record(tuned):
    """`record("toy_classes")` is the embedding of a finished run."""

    def make(name):
        result = tuned(name)
        return to_embedding(result, BASE_ID, {"by": "a test"}, licence="Apache-2.0")

    return make


def merged_change(model, block):
    """What merging the adapter adds to a weight of the base model."""
    weight = model.get_submodule(f"bert.{block}").weight
    before = weight.detach().clone()
    model.merge_adapter(NAME)
    after = weight.detach().clone()
    model.reset_adapter()
    return (after - before).numpy()


def assert_is_what_merges(model, result, embedding):
    state = {name: torch.tensor(value) for name, value in result.tensors.items()}
    model.load_state_dict(state, strict=False)
    for block in embedding.blocks:
        expected = merged_change(model, block.name)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(block.scale * block.parts["B"] @ block.parts["A"], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["toy_classes", "toy_spans"])
def test_each_block_is_what_the_library_merges(base, load, tuned, record, name):
    model = build_model(base, load(name), get_method("lora"), 0)
    embedding = record(name)
    assert len(embedding.blocks) == 2 * LAYERS
    assert_is_what_merges(model, tuned(name), embedding)


def test_another_rank_alpha_and_targets(base, load):
    method = get_method("lora", r=3, alpha=12, targets=["key", "value"])
    data = load("toy_classes")
    result = tune(base, data, method, Regime(steps=5, batch_size=8, learning_rate=1e-2, evaluations=1, max_length=32))
    embedding = to_embedding(result, BASE_ID)
    assert {block.scale for block in embedding.blocks} == {4.0}
    assert_is_what_merges(build_model(base, data, method, 0), result, embedding)


def test_blocks_are_named_after_their_place(record):
    names = [f"encoder.layer.{n}.attention.self.{place}" for n in range(LAYERS) for place in ("query", "value")]
    embedding = record("toy_classes")
    assert [block.name for block in embedding.blocks] == names
    assert {block.parts["A"].shape for block in embedding.blocks} == {(8, WIDTH)}
    assert {block.parts["B"].shape for block in embedding.blocks} == {(WIDTH, 8)}
    assert {block.scale for block in embedding.blocks} == {2.0}


def test_the_space_is_the_base_model_and_the_method(record):
    assert record("toy_spans").space == Space(BASE_ID, "lora")
    assert record("toy_spans").task == "toy_spans"


@pytest.mark.parametrize("name", TASKS)
def test_the_file_gives_the_embedding_back(record, name):
    embedding = record(name)
    again = parse_embedding(embedding.to_bytes(), name)
    assert (again.task, again.space) == (embedding.task, embedding.space)
    assert again.facts == json.loads(json.dumps(embedding.facts))  # tuples become lists
    for one, other in zip(again.blocks, embedding.blocks, strict=True):
        assert (one.name, one.scale) == (other.name, other.scale)
        for part in ("A", "B"):  # the run has rounded them already, so float16 loses nothing
            np.testing.assert_array_equal(one.parts[part], other.parts[part])
    assert again.to_bytes() == embedding.to_bytes()


def test_the_header_tells_everything(base, load, record):
    data = load("toy_classes")
    facts = record("toy_classes").facts
    assert facts["base_sha256"] == hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
    assert facts["architecture"] == {
        "model_type": "bert",
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 48,
    }
    assert facts["settings"] == {"r": 8, "alpha": 16, "targets": ["query", "value"], "init_seed": 0}
    assert facts["task_kind"] == "classification"
    assert facts["data"] == {
        "name": ORIGIN["original_dataset"],
        "class": ORIGIN["class"],
        "original_train_size": ORIGIN["original_train_size"],
        "licence": ORIGIN["licence"],
        "source": ORIGIN["source"],
        "sha256": data.sha256,
    }
    assert facts["licence"] == "Apache-2.0"
    assert facts["source"] == {"kind": "trained", "by": "a test"}
    assert {"python", "torch", "adapters", "transformers", "numpy", "tupate-hub"} <= set(facts["software"])
    assert facts["software"]["torch"] == torch.__version__


def test_the_header_has_the_run_s_figures(load, tuned, record):
    data, result = load("toy_classes"), tuned("toy_classes")
    training, scores = (record("toy_classes").facts[key] for key in ("training", "scores"))
    assert training["steps"] == REGIME.steps
    assert training["best_step"] in (10, 20, 30, 40)
    assert (training["train_examples"], training["validation_examples"]) == (len(data.train), len(data.validation))
    assert 0 < REGIME.steps * REGIME.batch_size - training["examples_seen"] < REGIME.batch_size  # a pass ends in few
    for name in ("batch_size", "learning_rate", "seed", "init_seed", "precision", "max_length", "head_factor"):
        assert training[name] == getattr(REGIME, name)
    assert training["seconds"] > 0 and training["final_loss"] > 0
    assert scores["primary"] == result.record.scores["primary"] == scores["accuracy"]
    assert scores["metric"] == "accuracy"
    assert scores["baseline"] == result.record.baseline
    assert scores["baseline_rule"].startswith("always ")


def test_no_number_of_the_header_is_not_a_number(record):
    for name in TASKS:
        json.dumps(record(name).facts, allow_nan=False)


def test_a_tensor_of_another_method_is_an_error(tuned):
    result = tuned("toy_classes")
    with pytest.raises(ValueError, match=r"not part of lora: \{'heads': 2\}"):
        to_embedding(replace(result, tensors={**result.tensors, **result.head}), BASE_ID)
