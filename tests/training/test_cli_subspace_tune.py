"""The verb subspace with the model in the loop: fit by the task loss, tune by the coordinates alone."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from damage import snapshot
from toys import WIDTH

from tupate_hub.collect.add import add_embeddings
from tupate_hub.embedding import TaskEmbedding, read_embedding
from tupate_hub.errors import WorkFailed
from tupate_hub.registry import Registry
from tupate_hub.runrecord import Regime
from tupate_hub.storage.safetensors import read_tensorfile
from tupate_hub.subspace.maps import pca, with_tanh
from tupate_hub.subspace.subspace import read_subspace
from tupate_hub.training.subspace.encoder import FrozenEncoder
from tupate_hub.training.subspace.manytasks import ManyTasks
from tupate_hub.training.subspace.maps_in_torch import TorchMaps
from tupate_hub.training.subspace.msf import fit
from tupate_hub.training.subspace.start import start_of
from tupate_hub.zoo import Zoo

TASKS = ("toy_classes", "toy_choices")
BASE = "toy/bert"
CPU = torch.device("cpu")
SHORT = Regime(steps=10, batch_size=4, learning_rate=1e-2, evaluations=5, max_length=32)


@pytest.fixture(scope="session")
def prompts(base):
    """A prompt for each task, a little off the start."""
    start = start_of(base, "prompt", BASE)
    rng = np.random.default_rng(0)
    made = []
    for task in TASKS:
        moved = start.vector() + 0.3 * rng.standard_normal(start.parameters)
        block = dataclasses.replace(start.blocks[0], parts={"rows": moved.reshape(16, -1).astype(np.float32)})
        facts = {**start.facts, "source": {"kind": "trained"}}
        made.append(TaskEmbedding(task, start.space, (block,), facts))
    return made


@pytest.fixture
def zoo(prompts, tmp_path):
    """A registry of those prompts."""
    folder = tmp_path / "zoo"
    add_embeddings(Zoo(folder, Registry()), [(folder, one) for one in prompts])
    return folder


@pytest.fixture
def found(invoke, zoo, base, data_folder):
    """That registry with a subspace of one dimension, found by the task loss."""
    result = invoke(
        "subspace", "fit", "--dim", "1", "--hidden", "8", "--steps", "6", "--data", data_folder, "--base", base,
        "--registry", zoo, "--to", zoo, "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    return zoo, result.json()


@pytest.fixture
def parts(prompts, base, load, tokenizer):
    """What `fit` takes: the encoder, the tasks, their parameters and the first maps."""
    many = ManyTasks.of(tokenizer, [load(task) for task in TASKS], max_length=32)
    flat = np.stack([one.vector() for one in prompts])
    return FrozenEncoder(base, prompts[0].blocks, CPU), many, torch.from_numpy(flat), with_tanh(pca(flat, 1), 8)


def test_torch_and_numpy_decode_alike(parts):
    _, _, flat, maps = parts
    learned = TorchMaps(maps, CPU)
    np.testing.assert_allclose(learned.encode(flat).numpy(), maps.encode(flat.numpy()), atol=1e-3)
    codes = torch.tensor([[0.5], [-2.0]])
    np.testing.assert_allclose(learned.decode(codes).numpy(), maps.decode(codes.numpy()), atol=1e-5)
    again = learned.maps()
    np.testing.assert_allclose(again.encode(flat.numpy()), maps.encode(flat.numpy()), atol=1e-3)
    np.testing.assert_allclose(again.decode(codes.numpy()), maps.decode(codes.numpy()), atol=1e-5)


def test_finding_lowers_the_tasks_own_loss(parts):
    encoder, many, flat, start = parts
    regime = dataclasses.replace(SHORT, steps=60, batch_size=16, evaluations=10)
    fitted = fit(encoder, many, flat, start, regime, alpha=1.0)
    first, last = fitted.losses[0][1], fitted.losses[-1][1]
    assert last < first - 0.1


def test_a_heavy_alpha_holds_the_parameters(parts):
    encoder, many, flat, start = parts
    loose, tight = (fit(encoder, many, flat, start, SHORT, alpha=alpha).losses[-1][2] for alpha in (0.0, 1e4))
    assert tight < loose


def test_a_run_that_was_killed_goes_on_and_ends_the_same(parts, tmp_path):
    encoder, many, flat, start = parts
    whole = fit(encoder, many, flat, start, SHORT)

    class Killed(Exception):
        pass

    def killed(steps, total):
        for step in steps:
            if step == 7:
                raise Killed
            yield step

    with pytest.raises(Killed):
        fit(encoder, many, flat, start, SHORT, checkpoint=tmp_path / "x.pt", progress=killed)
    made = []

    def counted(steps, total):
        for step in steps:
            made.append(step)
            yield step

    again = fit(encoder, many, flat, start, SHORT, checkpoint=tmp_path / "x.pt", progress=counted)
    assert made == [6, 7, 8, 9]
    np.testing.assert_allclose(again.maps.decoder[1].weight, whole.maps.decoder[1].weight, atol=1e-5)
    assert [told[0] for told in again.losses] == [told[0] for told in whole.losses]


def test_a_loss_that_is_not_finite_ends_the_work(parts):
    encoder, many, flat, start = parts
    with pytest.raises(WorkFailed, match="not finite"):
        fit(encoder, many, flat * float("nan"), start, SHORT)


def test_fit_says_what_it_has_found_and_leaves_no_checkpoint(found, prompts):
    zoo, said = found
    subspace = read_subspace(zoo / "zoo" / "bert" / "prompt" / "subspace-1.safetensors")
    assert said["file"] == str(zoo / "zoo/bert/prompt/subspace-1.safetensors")
    assert subspace.losses == ("reconstruction", "task") and set(subspace.tasks) == set(TASKS)
    assert subspace.facts["final"]["steps"] == 6 and subspace.facts["base_sha256"] == prompts[0].facts["base_sha256"]
    assert not list(zoo.rglob("checkpoint.pt"))
    assert len(subspace.maps.decoder) == 2


def test_tune_trains_the_coordinates_and_nothing_else(found, invoke, base, data_folder, tmp_path):
    zoo, _ = found
    result = invoke(
        "subspace", "tune", data_folder, "--task", "toy_classes", "--base", base, "--registry", zoo,
        "--steps", "6", "--to", tmp_path / "mine", "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    said = result.json()
    assert said["numbers"] == len(said["coordinates"]) == 1 and said["in_full"] is None
    subspace = Zoo.open(zoo).subspace()
    tuned = read_embedding(next((tmp_path / "mine").rglob("toy_classes.safetensors")))
    np.testing.assert_allclose(tuned.vector(), subspace.maps.decode(np.array([said["coordinates"]]))[0], atol=1e-4)
    assert tuned.facts["coordinates"] == said["coordinates"]
    assert tuned.facts["scores"]["primary"] == said["in_subspace"]


def test_then_full_leaves_the_subspace_from_there(found, invoke, base, data_folder, tmp_path):
    zoo, _ = found
    result = invoke(
        "subspace", "tune", data_folder, "--task", "toy_classes", "--base", base, "--registry", zoo,
        "--steps", "12", "--then-full", "--to", tmp_path / "mine",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "then in full" in result.out
    subspace = Zoo.open(zoo).subspace()
    tuned = read_embedding(next((tmp_path / "mine").rglob("toy_classes.safetensors")))
    decoded = subspace.maps.decode(np.array([tuned.facts["coordinates"]]))[0]
    assert 0.01 < np.abs(tuned.vector() - decoded).max() < 1.0


def test_a_linear_head_says_how_many_numbers_it_adds(found, invoke, base, data_folder, tmp_path, load):
    zoo, _ = found
    command = ("subspace", "tune", data_folder, "--task", "toy_classes", "--base", base, "--registry", zoo,
               "--steps", "60", "--head", "linear")  # fmt: skip
    result = invoke(*command, "--to", tmp_path / "mine", "--json")
    assert result.code == 0, result.err
    said = result.json()
    classes = len(load("toy_classes").label_names)
    assert (said["numbers"], said["head_numbers"]) == (1, classes * (WIDTH + 1))
    file = read_tensorfile(next((tmp_path / "mine").rglob("head.safetensors")))
    assert file.tensors["weight"].shape == (classes, WIDTH) and file.tensors["bias"].shape == (classes,)
    labels = invoke(*command[:-1], "labels", "--to", tmp_path / "other", "--json").json()
    assert labels["head_numbers"] == 0
    assert said["in_subspace"] > labels["in_subspace"]
    then = invoke(*command, "--then-full", "--to", tmp_path / "third")
    assert then.code == 0 and f"{classes * (WIDTH + 1)} of a head" in then.out


def test_choices_have_no_linear_head(found, invoke, base, data_folder, tmp_path):
    zoo, _ = found
    result = invoke("subspace", "tune", data_folder, "--task", "toy_choices", "--base", base, "--registry", zoo,
                    "--head", "linear", "--to", tmp_path / "mine")  # fmt: skip
    assert result.code == 2 and "--head labels" in result.err


@pytest.mark.parametrize("task", ["toy_tags", "toy_spans", "toy_numbers"])
def test_a_task_without_classes_is_refused_before_any_work(found, invoke, base, data_folder, tmp_path, task):
    zoo, _ = found
    result = invoke(
        "subspace", "tune", data_folder, "--task", task, "--base", base, "--registry", zoo, "--to", tmp_path / "mine"
    )  # fmt: skip
    assert result.code == 2 and task in result.err and "tupate-hub train" in result.err
    assert not (tmp_path / "mine" / "registry.json").exists()


def test_a_subspace_of_another_base_model_is_refused(found, invoke, base, data_folder, tmp_path):
    from tupate_hub.storage.safetensors import TensorFile, read_tensorfile

    other = tmp_path / "other"
    other.mkdir()
    for path in base.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    file = read_tensorfile(other / "model.safetensors")
    changed = {name: array + np.float32(1e-3) for name, array in file.tensors.items()}
    (other / "model.safetensors").write_bytes(TensorFile(changed, file.metadata).to_bytes())
    zoo, _ = found
    result = invoke("subspace", "tune", data_folder, "--task", "toy_classes", "--base", other, "--registry", zoo,
                    "--to", tmp_path / "mine")  # fmt: skip
    assert result.code == 2 and BASE in result.err and "Traceback" not in result.err


def test_fit_refuses_tasks_without_classes_by_name(zoo, invoke, prompts, base, data_folder):
    renamed = dataclasses.replace(prompts[0], task="toy_tags")
    add_embeddings(Zoo.open(zoo), [(zoo, renamed)])
    before = snapshot(zoo)
    result = invoke(
        "subspace", "fit", "--dim", "1", "--data", data_folder, "--base", base, "--registry", zoo, "--to", zoo
    )
    assert result.code == 2 and "toy_tags" in result.err and "reconstruction" in result.err
    assert snapshot(zoo) == before


def test_a_narrow_decoder_is_refused(zoo, invoke, base, data_folder):
    result = invoke("subspace", "fit", "--dim", "3", "--hidden", "2", "--data", data_folder, "--base", base,
                    "--registry", zoo, "--to", zoo)  # fmt: skip
    assert result.code == 2 and "--hidden 3" in result.err


def test_a_task_that_is_there_is_replaced_only_by_force(found, invoke, base, data_folder):
    zoo, _ = found
    before = snapshot(zoo)
    command = ("subspace", "tune", data_folder, "--task", "toy_classes", "--base", base, "--registry", zoo,
               "--steps", "2", "--to", zoo)  # fmt: skip
    result = invoke(*command)
    assert result.code == 2 and "--force" in result.err
    assert snapshot(zoo) == before
    assert invoke(*command, "--force").code == 0


def test_coordinates_are_json_that_decode_takes(found, invoke, base, data_folder, tmp_path):
    zoo, _ = found
    result = invoke("subspace", "tune", data_folder, "--task", "toy_choices", "--base", base, "--registry", zoo,
                    "--steps", "2", "--to", tmp_path / "mine", "--json")  # fmt: skip
    (tmp_path / "codes.json").write_text(json.dumps(result.json()))
    decoded = invoke("subspace", "decode", tmp_path / "codes.json", "--registry", zoo, "--to", tmp_path / "x")
    assert decoded.code == 0, decoded.err
