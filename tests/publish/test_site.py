"""The page's files, without a browser: what is in them, how large they are, and where they are written."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import bottleneck, each_block, lora, prompt, single, zoo_of

from tupate_hub.compare.similarity import get_similarity
from tupate_hub.embedding import make_block
from tupate_hub.errors import FormatError, TargetExists
from tupate_hub.publish import site_factors, site_page
from tupate_hub.publish.card import BUNDLED
from tupate_hub.publish.frontmatter import FOLDER, About
from tupate_hub.publish.site import about_site, site_files, write_site
from tupate_hub.publish.site_factors import shipped_spaces
from tupate_hub.publish.site_map import places
from tupate_hub.registry import Task
from tupate_hub.zoo import Zoo, bundled_root

ABOUT = About("Toys")
LIMIT = 400_000
EXPLORER = Path(site_page.__file__).parent / "explorer"


def data_of(files: dict[str, bytes]) -> Any:
    """The value of the constant that `data.js` defines."""
    text = files["data.js"].decode("ascii")
    found = re.fullmatch(r'"use strict";\nconst TUPATE_HUB_DATA = (.*);\n', text)
    assert found is not None
    return json.loads(found[1])


def numbers(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


# --- the frame --------------------------------------------------------------------------------------------------


def test_the_frame_is_small_and_loads_its_own_files_alone() -> None:
    files = site_page.page_files("A <title> & more", hub=False)
    assert sum(map(len, files.values())) < LIMIT
    index = files["index.html"].decode()
    assert "<title>A &lt;title&gt; &amp; more</title>" in index
    assert set(re.findall(r'(?:src|href)="([^"]+)"', index)) == {"data:,", "style.css", "data.js", "app.js"}
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', index)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["connect-src"] == "'none'"
    assert "unsafe" not in policy
    assert not re.search(r"url\((?!data:)|@import", files["style.css"].decode())


def test_on_the_hub_it_may_ask_the_hub() -> None:
    index = site_page.page_files("x", hub=True)["index.html"].decode()
    assert "connect-src https://huggingface.co https://*.huggingface.co https://*.hf.co" in index


def test_the_modules_become_one_script_without_markup_of_strangers() -> None:
    script = site_page.script()
    assert not re.search(r"^\s*(import|export) ", script, re.MULTILINE)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", script)
    modules = {path.stem for path in EXPLORER.glob("*.js")}
    assert modules == {*site_page.WORKER, *site_page.PAGE}


def test_the_types_in_the_modules_comments_hold() -> None:
    compiler = shutil.which("tsc")
    if compiler is None:
        pytest.skip("needs tsc: npm install --global typescript")
    done = subprocess.run([compiler, "-p", EXPLORER / "jsconfig.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_two_modules_may_not_define_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_page, "source", lambda name: "export function same() {}\n")
    with pytest.raises(FormatError, match="define 'same'"):
        site_page.joined(("one", "two"))


# --- the data ---------------------------------------------------------------------------------------------------


def test_the_data_of_the_toy_zoo(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    data = data_of(site_files(zoo, ABOUT))
    assert list(data["tasks"]) == list(zoo.registry.tasks)
    assert [space["name"] for space in data["spaces"]] == list(zoo.registry.spaces)
    for space in data["spaces"]:
        index = zoo.pair_index(space["name"], "update")
        count = len(index.tasks)
        low, middle, high = numbers(space["pairs"], "u1").reshape(-1, 3).T.astype(int)
        fixed = low + (middle << 8) + (high << 16) - ((high > 127).astype(int) << 24)
        assert np.abs(fixed / (2**23 - 1) - index.pairs).max() < 1e-6
        parts = numbers(space["parts"], "<i2").reshape(count * (count - 1) // 2, len(space["blocks"])) / (2**15 - 1)
        assert np.abs(parts.sum(axis=1) - index.pairs).max() < len(space["blocks"]) * 2e-5
        assert sorted(space["order"]) == list(range(count))
        assert np.abs(numbers(space["map"], "<f4")).max() <= 1
    assert data["location"] == FOLDER


def test_pull_writes_the_forms_that_the_page_names(tmp_path: Path, invoke: Any) -> None:
    zoo = Zoo.open(bundled_root())
    default = zoo.registry.default_space
    kept = tuple(one for one in zoo.registry.entries if one.task == "sst2")
    small = replace(zoo, registry=replace(zoo.registry, entries=kept))
    for space in data_of(site_files(small, ABOUT))["spaces"]:
        for form in ("peft", "adapters"):
            to = tmp_path / space["method"] / form
            code = invoke("pull", "sst2", "--space", space["name"], "--as", form, "--to", to).code
            assert (code == 0) == (form in space["forms"]), (space["name"], form)
    assert default in {one.space for one in kept}


def test_the_same_zoo_gives_the_same_bytes(toy_zoo: Path) -> None:
    first, second = (site_files(Zoo.open(toy_zoo), ABOUT) for _ in range(2))
    assert first == second


def test_factors_are_those_of_the_embeddings_in_full(tmp_path: Path) -> None:
    """float16 stays as it is, float32 where the file has that, and scales are kept apart."""
    plain, large = lora("plain", 1, rank=3), replace(prompt("large", 2), task="large")
    odd = bottleneck("odd", 3)
    zoo = zoo_of(tmp_path / "zoo", plain, large, odd)
    files = site_files(zoo, ABOUT)
    for space in data_of(files)["spaces"]:
        (script,) = (files[one["file"]].decode() for one in space["factors"])
        file, rows = json.loads("[" + re.fullmatch(r"tupateFactors\((.*)\);\n", script)[1] + "]")  # type: ignore[index]
        assert file == space["factors"][0]["file"] and space["factors"][0]["bytes"] == len(script)
        for row in rows:
            embedding = zoo.load(zoo.registry.in_space(space["name"])[row["row"]])
            values, at = numbers(row["data"], "<f2" if row["half"] else "<f4").astype(np.float32), 0
            for name, rank, inputs, outputs, scale in row["blocks"]:
                factors = get_similarity("update").features(embedding.by_name[space["blocks"][name]], None)
                a, bt = np.split(values[at : at + rank * (inputs + outputs)], [rank * inputs])
                assert np.array_equal(a.reshape(rank, inputs), factors.a)
                assert np.array_equal(np.float32(scale) * bt.reshape(rank, outputs), factors.bt)
                at += rank * (inputs + outputs)
            assert at == len(values)


def test_spaces_are_shipped_while_there_is_room(toy_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Zoo.open(toy_zoo).registry
    sizes = {name: sum(entry.bytes for entry in registry.in_space(name)) for name in registry.spaces}
    assert shipped_spaces(registry) == set(sizes)
    small = min(sizes, key=lambda name: sizes[name])
    default = registry.default_space
    monkeypatch.setattr(site_factors, "MOST_BYTES", sizes[default])
    assert shipped_spaces(registry) == {default}
    monkeypatch.setattr(site_factors, "MOST_BYTES", sizes[small] if small != default else sizes[default] - 1)
    assert default not in shipped_spaces(registry) or small == default
    files = site_files(Zoo.open(toy_zoo), ABOUT)
    named = [one["file"] for space in data_of(files)["spaces"] for one in space["factors"]]
    assert sorted(named) == sorted(name for name in files if "/" in name)


def test_strangers_texts_become_ascii_json(tmp_path: Path) -> None:
    title = "</script><script>alert(1)</script>\u2028\ud800" + "x" * 5000
    zoo = zoo_of(tmp_path / "zoo", lora("a", 1), lora("b", 2))
    zoo = replace(zoo, registry=replace(zoo.registry, tasks={"a": Task("a", title), "b": Task("b", "b")}))
    files = site_files(zoo, ABOUT)
    told = data_of(files)["tasks"]["a"]["title"]
    assert told.startswith("</script><script>alert(1)</script>\u2028\ud800x") and len(told) == 400


def test_numbers_of_strangers_that_are_none(tmp_path: Path) -> None:
    zoo = zoo_of(tmp_path / "zoo", lora("a", 1), lora("b", 2))
    entries = tuple(
        replace(one, scores={"primary": float("nan"), "baseline": "high"}, source={"steps": 10**400, "deep": [[1]]})
        for one in zoo.registry.entries
    )
    data = data_of(site_files(replace(zoo, registry=replace(zoo.registry, entries=entries)), ABOUT))
    (row, _) = data["spaces"][0]["entries"]
    assert (row["score"], row["baseline"], row["source"]) == (None, None, {})


def test_what_does_not_compare_is_listed_with_the_reason(tmp_path: Path) -> None:
    zero = each_block(lora("zero", 3), lambda block: make_block(block.name, {k: 0 * v for k, v in block.parts.items()}))
    alone = single("alone", "bias", np.zeros(4))
    zoo = zoo_of(tmp_path / "zoo", lora("a", 1), lora("b", 2), zero, alone)
    by_method = {space["method"]: space for space in data_of(site_files(zoo, ABOUT))["spaces"]}
    assert by_method["lora"]["compared"] == ["a", "b"]
    assert by_method["lora"]["leftOut"] == {"zero": "its update is all zero: it was never trained"}
    assert by_method["bitfit"]["compared"] == [] and "alone" in by_method["bitfit"]["leftOut"]


def test_an_empty_registry_has_a_page(tmp_path: Path) -> None:
    assert data_of(site_files(zoo_of(tmp_path / "zoo"), ABOUT))["spaces"] == []


@pytest.mark.parametrize("count", [0, 1, 2, 3, 40])
def test_the_map_is_finite_and_inside_its_box(count: int) -> None:
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((count, 5))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    found = places(directions @ directions.T, None)
    assert found.shape == (count, 2) and np.isfinite(found).all()
    assert np.abs(found).max(initial=0) <= 1 + 1e-9


def test_near_tasks_stand_together_on_the_map() -> None:
    """Two groups of tasks: a task's nearest on the map is of its own group."""
    scores = np.kron(np.eye(2), np.full((6, 6), 0.5)) + 0.02
    np.fill_diagonal(scores, 1)
    found = places(scores, None)
    distance = np.linalg.norm(found[:, None] - found[None], axis=-1) + 9 * np.eye(12)
    assert (distance.argmin(axis=1) // 6 == np.arange(12) // 6).all()


# --- folders ----------------------------------------------------------------------------------------------------


def test_a_site_is_renewed_and_nothing_else_is_overwritten(toy_zoo: Path, tmp_path: Path) -> None:
    files = site_files(Zoo.open(toy_zoo), ABOUT)
    folder = tmp_path / "a" / "page"
    assert write_site(folder, files) == []
    (folder / "notes.txt").write_text("mine")
    (folder / "factors" / "7-7.js").write_text("old")
    (folder / "factors" / "mine.js").write_text("mine")
    assert write_site(folder, files) == ["7-7.js"]
    assert (folder / "notes.txt").exists() and (folder / "factors" / "mine.js").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "index.html").write_text("<h1>my own page</h1>")
    with pytest.raises(TargetExists, match="holds files and no site"):
        write_site(other, files)
    assert (other / "index.html").read_text() == "<h1>my own page</h1>"
    with pytest.raises(TargetExists, match="is not a folder"):
        write_site(other / "index.html", files)


def test_what_a_site_is_called(toy_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert about_site(Zoo.open(bundled_root())) == BUNDLED
    zoo = Zoo.open(toy_zoo)
    assert about_site(zoo) == About()
    (toy_zoo / "zoo" / "README.md").write_text("---\npretty_name: Mine\n---\n")
    assert about_site(zoo).title == "Mine"
    assert about_site(zoo, "Ours", "me/zoo") == About("Ours", "me/zoo")


def test_the_verb(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    result = invoke("site", "--registry", toy_zoo, "--out", tmp_path / "page", "--title", "T")
    assert (result.code, result.out.strip()) == (0, str(tmp_path / "page" / "index.html"))
    told = invoke("site", "--registry", toy_zoo, "--out", tmp_path / "page", "--hub", "--json").json()
    assert told.keys() == {"folder", "files", "bytes", "factors", "removed"}
    sizes = {file: (tmp_path / "page" / file).stat().st_size for file in told["files"]}
    assert sizes == told["files"] and sum(sizes.values()) == told["bytes"] > told["factors"]
    refused = invoke("site", "--registry", toy_zoo, "--out", toy_zoo)
    assert refused.code == 2 and "no site of tupate-hub's" in refused.err
