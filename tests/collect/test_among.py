"""Among: questions about adapters on disk, without a registry."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from builders import BASE, cosine, dense, lora, peft

from tupate_hub import Zoo
from tupate_hub.export import export
from tupate_hub.storage.atomic import write_folder


def saved(folder: Path, seed: int) -> Path:
    write_folder(folder, export(lora("x", seed), "peft", bare=True))
    return folder


def score(first: int, second: int) -> float:
    rows = [dense(lora("x", seed)) for seed in (first, second)]
    import numpy as np

    return cosine(*(np.concatenate([row[name].ravel() for name in sorted(row)]) for row in rows))


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    root = tmp_path / "downloads"
    for seed, name in enumerate(("one", "two", "deep/three")):
        saved(root / name, seed)
    (root / "broken").mkdir()
    (root / "broken" / "adapter_config.json").write_text("{")
    return root


def test_adapters_on_disk_are_ranked(downloads: Path, tmp_path: Path, invoke: Any) -> None:
    mine = saved(tmp_path / "mine", 7)
    result = invoke("similar", mine, "--among", downloads, "--json")
    found = {one["task"]: one["score"] for one in result.json()["neighbors"]}
    expected = {name: score(7, seed) for seed, name in enumerate(("one", "two", "three"))}
    assert found == pytest.approx(expected, abs=1e-5)
    assert "3 adapters read, 1 refused" in result.err
    assert not list(tmp_path.glob("**/registry.json"))


def test_several_places_and_single_files(downloads: Path, tmp_path: Path, invoke: Any) -> None:
    zoo = tmp_path / "pulled"
    invoke("pull", "sst2", "--to", zoo)
    given = ("--among", downloads / "one", "--among", downloads / "deep", "--json")
    found = invoke("similar", downloads / "two", *given).json()["neighbors"]
    assert {one["task"] for one in found} == {"one", "three"}


def test_what_is_asked_about_is_no_neighbour_of_itself(downloads: Path, tmp_path: Path, invoke: Any) -> None:
    found = invoke("similar", downloads / "one", "--among", downloads, "--json").json()
    assert (found["itself"], {one["task"] for one in found["neighbors"]}) == ("one", {"two", "three"})
    alone = invoke("similar", downloads / "one", "--among", downloads / "one")
    assert (alone.code, alone.out) == (0, "")
    assert "nothing else here" in alone.err
    copy = tmp_path / "copy"
    shutil.copytree(downloads / "one", copy)
    invoke("add", copy, "--registry", tmp_path / "zoo")
    assert "it is here as copy" in invoke("similar", downloads / "one", "--registry", tmp_path / "zoo").err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--registry", "x"), "--registry asks a registry"),
        (("--rank-by", "gain"), "--rank-by gain asks a registry"),
    ],
)
def test_a_registry_beside_it_is_refused(more: tuple[str, ...], says: str, downloads: Path, invoke: Any) -> None:
    result = invoke("similar", downloads / "one", "--among", downloads, *more)
    assert (result.code, result.out) == (2, "")
    assert says in result.err


def test_nothing_to_compare_with(downloads: Path, tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", downloads / "broken"):
        result = invoke("similar", downloads / "one", "--among", place)
        assert (result.code, result.out) == (2, "")
        assert "There is no adapter to compare with" in result.err


def test_two_adapters_are_explained_without_a_registry_of_their_space(
    downloads: Path, toy_zoo: Path, invoke: Any
) -> None:
    other = [
        peft(downloads / name, base_model_name_or_path="acme/other", scale=s) for name, s in (("a", 1.0), ("b", 3.0))
    ]
    assert "acme/other" not in {space.base for space in Zoo.open(toy_zoo).registry.spaces.values()}
    found = invoke("explain", *other, "--registry", toy_zoo, "--json").json()
    assert found["score"] == pytest.approx(1, abs=1e-6)
    assert sum(found["contributions"].values()) == pytest.approx(1, abs=1e-6)
    result = invoke("explain", other[0], downloads / "one", "--registry", toy_zoo)
    assert result.code == 2
    assert f"lora on {BASE}" in result.err and "lora on acme/other" in result.err


def test_what_pull_writes_is_inspected_added_and_asked_about(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    folder = tmp_path / "pulled"
    invoke("pull", "imdb", "--registry", toy_zoo, "--to", folder)
    (file,) = folder.glob("*.safetensors")
    for path in (folder, file):
        said = invoke("inspect", path, "--json").json()
        assert (said["layout"], said["method"], said["base"], said["task"]) == ("embedding", "lora", BASE, "imdb")
        mine = tmp_path / f"mine-{path.name}"
        assert invoke("add", path, "--registry", mine).code == 0
        held, original = (Zoo.open(place).embedding("imdb", "tiny-bert/lora") for place in (mine, toy_zoo))
        assert held.vector() == pytest.approx(original.vector())
        assert dict(held.facts) == dict(original.facts)
        renamed = invoke("add", path, "--task", "films", "--base", "acme/other", "--registry", mine)
        assert renamed.code == 0
        assert {(one.task, one.space) for one in Zoo.open(mine).registry.entries} == {
            ("imdb", "tiny-bert/lora"),
            ("films", "other/lora"),
        }
    found = invoke("add", "--all", tmp_path / "pulled", "--registry", tmp_path / "all", "--json").json()
    assert [one["task"] for one in found["adapters"]] == ["imdb"]
