"""Delivery: what a run leaves is listed, loadable, and says where it comes from."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from toys import LAYERS, REGIME, WIDTH

from tupate_hub import Zoo
from tupate_hub.collect.add import open_or_start
from tupate_hub.embedding import read_embedding
from tupate_hub.errors import FormatError, TargetExists
from tupate_hub.space import Space
from tupate_hub.training.batches import collate
from tupate_hub.training.delivery import deliver, name_in, refuse_taken, run_folder
from tupate_hub.training.features import encode
from tupate_hub.training.methods import get_method
from tupate_hub.training.model import build_model
from tupate_hub.training.regime import Setup
from tupate_hub.training.tuner import tune

BASE_ID = "acme/toy-bert"
SPACE = Space(BASE_ID, "lora")
FULL = dataclasses.replace(REGIME, early=(0.1, 0.5, 1.0))
BY = {"by": "tupate-hub train"}


@pytest.fixture(scope="module")
def runs(base, load):
    """`runs("toy_spans")` is a run with early checkpoints up to its end, made once a task and method."""
    made = {}

    def run(name, method="lora", setup=None):
        key = (name, method, setup and setup.head)
        if key not in made:
            short = dataclasses.replace(FULL, steps=10, evaluations=2)
            made[key] = tune(base, load(name), get_method(method), short, setup=setup)
        return made[key]

    return run


@pytest.fixture
def zoo(tmp_path):
    return open_or_start(tmp_path / "zoo")


def test_the_embedding_is_in_the_registry_with_all_that_is_known(zoo, runs, load):
    result = runs("toy_classes")
    found = deliver(zoo, result, BASE_ID, BY)
    opened = Zoo.open(zoo.root)
    entry = opened.registry.entry("toy_classes", "toy-bert/lora")
    task = opened.registry.task("toy_classes")
    assert opened.verify() == [] and found.file == zoo.root / entry.file
    assert (task.kind, task.metric, task.train_size) == ("classification", "accuracy", 1000)
    assert entry.scores["primary"] == pytest.approx(result.record.scores["primary"], abs=1e-4)
    assert entry.source["by"] == "tupate-hub train"
    assert entry.source["data_sha256"] == load("toy_classes").sha256
    space = opened.registry.space("toy-bert/lora")
    assert (space.base_sha256, space.settings["r"]) == (result.record.base_sha256, 8)
    stored = opened.load(entry)
    for block, own in zip(stored.blocks, found.embedding.blocks, strict=True):
        np.testing.assert_array_equal(block.parts["B"], own.parts["B"])


def test_the_header_tells_how_it_was_tuned(zoo, runs):
    facts = read_embedding(deliver(zoo, runs("toy_classes"), BASE_ID, {**BY, "start_from": "sst2"}).file).facts
    assert facts["source"]["start_from"] == "sst2"
    assert (facts["training"]["device"], facts["training"]["head"]) == ("cpu", "trained")
    assert facts["training"]["early"] == [0.1, 0.5, 1.0]
    assert "licence" not in facts  # that of a user's parameters is the user's to say


def test_early_embeddings_are_the_run_at_those_steps(zoo, runs):
    result = runs("toy_spans")
    found = deliver(zoo, result, BASE_ID, BY)
    assert [path.name for path in found.early] == [f"toy_spans@{share}.safetensors" for share in ("0.1", "0.5", "1")]
    assert {path.parent for path in found.early} == {run_folder(zoo, SPACE, "toy_spans") / "early"}
    half = read_embedding(found.early[1])
    assert (half.task, half.space, half.facts["training"]) == ("toy_spans@0.5", SPACE, {"step": 5, "steps": 10})
    assert "scores" not in half.facts
    expected = result.early["0.5"][f"bert.{half.blocks[0].name}.loras.task.lora_B"]
    np.testing.assert_array_equal(half.blocks[0].parts["B"], expected)
    assert not np.array_equal(half.blocks[0].parts["B"], read_embedding(found.early[2]).blocks[0].parts["B"])


def test_early_embeddings_compare_with_the_registry(zoo, runs):
    found = deliver(zoo, runs("toy_classes"), BASE_ID, BY)
    (neighbor,) = found.zoo.similar(found.early[2])
    assert neighbor.task == "toy_classes" and neighbor.score > 0.9


@pytest.mark.parametrize("name", ["toy_classes", "toy_numbers", "toy_spans", "toy_choices"])
def test_adapter_and_head_load_in_the_library_and_compute_the_same(zoo, runs, base, load, tokenizer, name):
    from adapters import AutoAdapterModel

    data, result = load(name), runs(name)
    folder = deliver(zoo, result, BASE_ID, BY).adapter
    model = AutoAdapterModel.from_pretrained(str(base), local_files_only=True)
    model.load_adapter(str(folder), use_safetensors=True, set_active=True)
    model.active_head = name
    page = (folder / "README.md").read_text()
    assert "task head is included, with the labels' names" in page
    assert "not included" not in page
    assert "PATH" not in page
    assert f'"{folder}"' in page
    mine = build_model(base, data, get_method("lora"), 3)
    state = {key: torch.tensor(array) for key, array in {**result.tensors, **result.head}.items()}
    mine.load_state_dict(state, strict=False)
    batch = collate(encode(tokenizer, data.kind, data.validation[:4], 32), tokenizer.pad_token_id)
    inputs = {key: values for key, values in batch.items() if key in tokenizer.model_input_names}
    with torch.no_grad():
        ours, theirs = mine.eval()(**inputs), model.eval()(**inputs)
    for key in ("logits", "start_logits", "end_logits"):
        if key in ours:
            torch.testing.assert_close(theirs[key], ours[key], rtol=0, atol=1e-5)
    if name == "toy_classes":
        assert model.get_labels_dict(name) == {0: "bad", 1: "good"}


def test_what_the_library_has_no_form_of_says_how_it_is_loaded_here(zoo, runs):
    folder = deliver(zoo, runs("toy_classes", "bitfit"), BASE_ID, BY).adapter
    assert folder.name == "adapter"
    assert {path.name for path in folder.iterdir()} == {"toy_classes.safetensors", "head.safetensors", "README.md"}
    page = (folder / "README.md").read_text()
    assert f'tupate_hub.load("{folder}")' in page
    assert "not included" not in page


def test_without_a_head_of_its_own_there_is_the_adapter_alone(zoo, runs):
    found = deliver(zoo, runs("toy_classes", setup=Setup(head="labels")), BASE_ID, BY)
    assert found.embedding.facts["training"]["head"] == "labels"
    assert 0 <= found.embedding.facts["training"]["zero_shot"] <= 1
    assert {path.name for path in found.adapter.iterdir()} == {
        "adapter_config.json",
        "adapter.safetensors",
        "README.md",
    }
    both = deliver(zoo, runs("toy_classes", "bitfit", Setup(head="labels")), BASE_ID, BY)
    assert {path.name for path in both.adapter.iterdir()} == {"toy_classes.safetensors", "README.md"}
    assert both.head is None


def test_another_run_that_came_first_is_kept(zoo, runs):
    deliver(zoo, runs("toy_classes"), BASE_ID, BY)
    deliver(zoo, runs("toy_spans"), BASE_ID, BY)  # by a zoo that was opened before the first was there
    assert list(Zoo.open(zoo.root).tasks) == ["toy_classes", "toy_spans"]


def test_the_same_again_gives_the_same_files(zoo, runs):
    first = deliver(zoo, runs("toy_classes"), BASE_ID, BY)
    before = {path: path.read_bytes() for path in zoo.root.rglob("*") if path.is_file()}
    again = deliver(first.zoo, runs("toy_classes"), BASE_ID, BY)
    assert {path: path.read_bytes() for path in zoo.root.rglob("*") if path.is_file()} == before
    assert again.entry == first.entry


def test_a_taken_task_is_refused_in_its_space_alone(zoo, runs):
    zoo = deliver(zoo, runs("toy_classes"), BASE_ID, BY).zoo
    with pytest.raises(TargetExists, match=r"'toy_classes' is in space 'toy-bert/lora'") as caught:
        refuse_taken(zoo, SPACE, "toy_classes")
    assert "`force=True`" in caught.value.hint
    refuse_taken(zoo, SPACE, "toy_spans")
    refuse_taken(zoo, Space(BASE_ID, "prefix"), "toy_classes")


def test_a_name_is_the_registry_s_or_made_plain(zoo, runs):
    zoo = deliver(zoo, runs("toy_classes"), BASE_ID, BY).zoo
    assert name_in(zoo, "Toy-Classes") == "toy_classes"
    assert name_in(zoo, "my data (2)") == "my-data-2"
    for bad in ("", "...", "moments", "index-update"):
        with pytest.raises(FormatError):
            name_in(zoo, bad)


def test_the_head_s_configuration_is_what_the_library_writes(zoo, runs, base, load, tmp_path):
    model = build_model(base, load("toy_spans"), get_method("lora"), 0)
    model.save_head(str(tmp_path / "theirs"), "task", use_safetensors=True)
    theirs = json.loads((tmp_path / "theirs" / "head_config.json").read_text())
    folder = deliver(zoo, runs("toy_spans"), BASE_ID, BY).adapter
    ours = json.loads((folder / "head_config.json").read_text())
    assert ours["config"] == theirs["config"]
    assert ours.keys() == theirs.keys()
    assert (ours["name"], ours["model_name"], ours["hidden_size"]) == ("toy_spans", BASE_ID, WIDTH)
    assert LAYERS == 2
