"""DownloadedAdapter: adapters in the cache, whole or fetched again, and no weights that are not wanted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from builders import BASE
from huggingface_hub import hf_hub_download
from loopback import LoopbackHub
from orchards import adapterhub_files, fetched, front_matter, hub_cache, peft_files, plant
from published import make_stale

from tupate_hub.collect.read_adapter import read_downloaded, read_from
from tupate_hub.errors import FormatError, SpaceMismatch
from tupate_hub.hub import download
from tupate_hub.hub.cache import cache_root
from tupate_hub.hub.digest import file_has_digest
from tupate_hub.hub.download import DownloadedAdapter, download_adapter
from tupate_hub.hub.location import MODEL, Location
from tupate_hub.storage.safetensors import TensorFile

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture
def place(hub: LoopbackHub) -> Location:
    """A LoRA at a commit."""
    return Location(MODEL, "acme/lora", plant(hub, "acme/lora", peft_files(1, "stanfordnlp/imdb", license="mit")))


def in_cache(file: str) -> Path:
    (found,) = cache_root().rglob(file)
    return found


def test_what_is_fetched_and_what_is_said_of_it(hub: LoopbackHub, place: Location) -> None:
    found = download_adapter(place)
    assert found == DownloadedAdapter(place, found.folder, "imdb", BASE, "stanfordnlp/imdb", "mit")
    assert {path.name for path in found.folder.iterdir()} == {CONFIG, WEIGHTS}
    assert found.source["revision"] == place.revision


def test_a_second_time_nothing_is_asked(hub: LoopbackHub, place: Location) -> None:
    first = download_adapter(place)
    hub.seen.clear()
    assert download_adapter(place) == first
    assert hub.requests() == []


def test_few_requests_and_a_folder_that_the_hubs_own_tools_know(hub: LoopbackHub, place: Location) -> None:
    from huggingface_hub import scan_cache_dir

    hub.seen.clear()
    found = download_adapter(place)
    assert len(hub.requests()) <= 8
    (repository,) = scan_cache_dir(hub_cache()).repos
    (revision,) = repository.revisions
    assert (repository.repo_id, revision.commit_hash) == ("acme/lora", place.revision)
    assert {file.file_path for file in revision.files} == set(found.folder.iterdir())


@pytest.mark.parametrize("cut", [WEIGHTS, CONFIG, "facts.json"])
@pytest.mark.parametrize("length", [0, 20])
def test_what_the_power_failure_cut_is_fetched_again(cut: str, length: int, hub: LoopbackHub, place: Location) -> None:
    whole = download_adapter(place)
    before = read_downloaded(whole).to_bytes()
    path = whole.folder / cut if cut != "facts.json" else in_cache(cut)
    path.write_bytes(path.read_bytes()[:length])
    again = download_adapter(place)
    assert again == whole
    assert read_downloaded(again).to_bytes() == before
    hub.seen.clear()
    assert download_adapter(place) == whole
    assert hub.requests() == []


def test_what_was_removed_from_the_hubs_cache_is_fetched_again(hub: LoopbackHub, place: Location) -> None:
    whole = download_adapter(place)
    shutil.rmtree(hub_cache())
    assert download_adapter(place) == whole
    assert read_downloaded(whole).task == "imdb"


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_what_another_program_left_there_damaged_is_fetched_again(name: str, hub: LoopbackHub, place: Location) -> None:
    hub.fault("wrong", f"GET .*{name}", times=1)
    left = Path(hf_hub_download(place.id, name, revision=place.revision, endpoint=hub.endpoint))
    damaged = left.read_bytes()
    assert read_downloaded(download_adapter(place)).task == "imdb"
    assert left.read_bytes() != damaged


def test_what_another_program_takes_away_meanwhile_is_fetched_again(
    hub: LoopbackHub, place: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an importer did beside another one, when both had met damaged bytes."""
    looked: list[Path] = []

    def vanishing(path: Path, digest: str) -> bool:
        looked.append(path)
        if len(looked) == 1:
            path.resolve().unlink()
        return file_has_digest(path, digest)

    monkeypatch.setattr(download, "file_has_digest", vanishing)
    assert read_downloaded(download_adapter(place)).task == "imdb"
    assert len(looked) > 2


def test_weights_of_another_base_model_are_not_fetched(hub: LoopbackHub) -> None:
    commit = plant(hub, "acme/other", adapterhub_files(1, "squad", base="google-bert/bert-base-uncased"))
    place = Location(MODEL, "acme/other", commit)
    with pytest.raises(SpaceMismatch, match="an adapter of bert-base-uncased, not of acme/tiny-bert") as caught:
        download_adapter(place, BASE)
    assert caught.value.hint == "name that model: `base='bert-base-uncased'`"
    assert fetched(hub) == [f"acme/other/{CONFIG}"]
    hub.seen.clear()
    with pytest.raises(SpaceMismatch):
        download_adapter(place, BASE)
    assert hub.requests() == []
    assert download_adapter(place, "bert-base-uncased").folder.is_dir()
    assert fetched(hub) == ["acme/other/adapter.safetensors"]


def test_the_configuration_names_the_base_model_and_then_the_card(hub: LoopbackHub) -> None:
    files = peft_files(1)
    config = {**json.loads(files[CONFIG]), "base_model_name_or_path": "/content/checkpoint"}
    commit = plant(hub, "acme/local", {**files, CONFIG: json.dumps(config).encode()})
    assert download_adapter(Location(MODEL, "acme/local", commit), BASE).base == BASE
    nameless = {**files, CONFIG: json.dumps(config).encode(), "README.md": b"# none"}
    commit = plant(hub, "acme/nameless", nameless)
    with pytest.raises(FormatError, match=r"names a local base model|names no base model"):
        download_adapter(Location(MODEL, "acme/nameless", commit), BASE)


def test_a_task_gets_its_one_name_unless_the_user_gives_another(hub: LoopbackHub, place: Location) -> None:
    plant(hub, "AdapterHub/tiny-pf-record", adapterhub_files(1, "super_glue_record"))
    assert read_from("AdapterHub/tiny-pf-record").task == "record"
    assert read_from("AdapterHub/tiny-pf-record", task="super_glue_record").task == "super_glue_record"


# --- containers without a configuration ------------------------------------------------------------------------------


def diffusers_files(name: str = "pytorch_lora_weights.safetensors") -> dict[str, bytes]:
    """A LoRA of a diffusion model as diffusers publishes it."""
    place = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    pair = {"lora_A": np.ones((2, 6), np.float32), "lora_B": np.ones((5, 2), np.float32)}
    weights = TensorFile({f"{place}.{half}.weight": array for half, array in pair.items()}).to_bytes()
    card = front_matter({"base_model": "acme/tiny-sd", "library_name": "diffusers"})
    return {name: weights, "README.md": card, "vae.safetensors": b"x" * 99}


@pytest.mark.parametrize("name", ["pytorch_lora_weights.safetensors", "My_LoRA_v2.safetensors"])
def test_a_container_without_a_configuration_is_fetched_alone(name: str, hub: LoopbackHub) -> None:
    plant(hub, "acme/style", diffusers_files(name))
    embedding = read_from("acme/style", base="acme/tiny-sd")
    assert embedding.space.base == "acme/tiny-sd" and len(embedding.blocks) == 1
    assert fetched(hub) == [f"acme/style/{name}"]
    hub.seen.clear()
    assert read_from("acme/style", base="acme/tiny-sd").to_bytes() == embedding.to_bytes()
    assert fetched(hub) == []
    make_stale()
    assert read_from("acme/style", base="acme/tiny-sd").to_bytes() == embedding.to_bytes()


def test_two_files_that_could_be_it_are_not_guessed_among(hub: LoopbackHub) -> None:
    files = diffusers_files("a-lora.safetensors")
    plant(hub, "acme/styles", {**files, "b-lora.gguf": b"GGUF" + bytes(99)})
    with pytest.raises(FormatError, match=r"no adapter_config\.json, and 2 files called a LoRA"):
        read_from("acme/styles")


def test_a_container_of_another_base_is_not_fetched(hub: LoopbackHub) -> None:
    commit = plant(hub, "acme/style", diffusers_files())
    with pytest.raises(SpaceMismatch, match=r"an adapter of \S+, not of acme/other"):
        download_adapter(Location(MODEL, "acme/style", commit), "acme/other")
    assert fetched(hub) == []
