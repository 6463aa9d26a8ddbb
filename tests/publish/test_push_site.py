"""The page as a Space: the real client writes to a Hub on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import TASKS, lora, zoo_of
from loopback import LoopbackHub, User

from tupate_hub.publish.frontmatter import About, front_matter, read_about
from tupate_hub.registry import Registry
from tupate_hub.zoo import Zoo

TOKEN = "hf_secretsecretsecret"
NAME, PAGE = "acme/zoo", "acme/zoo-page"


@pytest.fixture(autouse=True)
def signed_in(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.store.users.update({TOKEN: User("acme"), "hf_read": User("acme", "read")})
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def files(hub: LoopbackHub, kind: str = "spaces", name: str = PAGE) -> dict[str, bytes]:
    return {file: blob.data for file, blob in hub.store.repository(kind, name).commit("main").files.items()}


def commits(hub: LoopbackHub, name: str = PAGE) -> int:
    return len(hub.store.repository("spaces", name).commits)


def test_the_page_is_a_static_space_beside_the_registry(hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    told = invoke("push", NAME, "--registry", toy_zoo, "--space", PAGE, "--json").json()
    assert told["space"]["created"] == told["created"] == "repository"
    assert told["space"]["page"] == f"{hub.endpoint}/spaces/{PAGE}"
    found = files(hub)
    assert {one["file"] for one in told["space"]["added"]} == set(found)
    card = yaml.safe_load(found["README.md"].decode().split("---")[1])
    assert (card["sdk"], card["app_file"], card["datasets"]) == ("static", "index.html", [NAME])
    assert b"connect-src https://huggingface.co" in found["index.html"]
    assert f'"location":"{NAME}"'.encode() in found["data.js"]
    for task, *_ in TASKS:
        assert f'"{task}"'.encode() in found["data.js"]


def test_the_card_links_to_it_and_keeps_the_link(hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    assert invoke("push", NAME, "--registry", toy_zoo, "--space", PAGE).code == 0
    link = f"({hub.endpoint}/spaces/{PAGE})".encode()
    assert link in files(hub, "datasets", NAME)["README.md"]
    again = invoke("push", NAME, "--registry", toy_zoo)
    assert "nothing has changed" in again.err
    assert link in files(hub, "datasets", NAME)["README.md"]


def test_a_second_push_sends_nothing(hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    assert invoke("push", NAME, "--registry", toy_zoo, "--space", PAGE).code == 0
    before = commits(hub)
    again = invoke("push", NAME, "--registry", toy_zoo, "--space", PAGE)
    assert again.code == 0 and again.err.count("nothing has changed") == 2
    assert commits(hub) == before


def test_the_page_shows_what_only_the_hub_had(
    hub: LoopbackHub, tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = zoo_of(tmp_path / "mine", lora("imdb", 1)), zoo_of(tmp_path / "theirs", lora("squad", 2))
    assert invoke("push", NAME, "--registry", theirs.root).code == 0
    monkeypatch.setenv("TUPATE_HUB_CACHE", str(tmp_path / "elsewhere"))
    assert invoke("push", NAME, "--registry", mine.root, "--space", PAGE).code == 0
    assert b'"imdb"' in files(hub)["data.js"] and b'"squad"' in files(hub)["data.js"]
    assert Zoo.open(NAME).verify() == []


def test_an_empty_registry_and_a_branch(hub: LoopbackHub, toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    assert invoke("init", tmp_path / "empty").code == 0
    assert invoke("push", NAME, "--registry", tmp_path / "empty", "--space", PAGE).code == 0
    assert b'"spaces":[]' in files(hub)["data.js"]
    assert invoke("push", f"{NAME}@next", "--registry", toy_zoo, "--space", PAGE).code == 0
    assert f'"location":"{NAME}@next"'.encode() in files(hub)["data.js"]
    card = yaml.safe_load(files(hub)["README.md"].decode().split("---")[1])
    assert card["datasets"] == [NAME]


def test_the_page_of_a_registry_on_the_hub(hub: LoopbackHub, published: str, tmp_path: Path, invoke: Any) -> None:
    assert invoke("site", "--registry", NAME, "--out", tmp_path / "page").code == 0
    text = (tmp_path / "page" / "data.js").read_text()
    assert f'"location":"{NAME}"' in text and '"factors":[{' in text


def test_factors_that_the_page_has_no_more_are_removed_and_nothing_else(
    hub: LoopbackHub, toy_zoo: Path, invoke: Any
) -> None:
    hub.store.put(
        "spaces", PAGE, {"data.js": b"old", "factors/9-9.js": b"old", "LICENSE": b"mine", "factors/notes.md": b""}
    )
    told = invoke("push", NAME, "--registry", toy_zoo, "--space", PAGE, "--json").json()
    assert [one["file"] for one in told["space"]["removed"]] == ["factors/9-9.js"]
    assert {"LICENSE", "factors/notes.md"} <= set(files(hub))


def test_a_space_of_something_else_is_refused(hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    hub.store.put("spaces", PAGE, {"README.md": b"", "app.py": b"import gradio"})
    result = invoke("push", NAME, "--registry", toy_zoo, "--space", PAGE)
    assert result.code == 2
    assert f"hf://spaces/{PAGE}@main holds 2 files and no page of a registry" in result.err
    assert files(hub)["app.py"] == b"import gradio"


def test_a_new_space_that_the_hub_filled_is_taken(hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    hub.store.put(
        "spaces", PAGE, {"README.md": b"x", "index.html": b"Welcome", "style.css": b"", ".gitattributes": b""}
    )
    assert invoke("push", NAME, "--registry", toy_zoo, "--space", PAGE).code == 0
    assert b'content="tupate-hub"' in files(hub)["index.html"]


def test_a_dry_run_sends_nothing(hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    result = invoke("push", NAME, "--registry", toy_zoo, "--space", PAGE, "--dry-run")
    assert result.code == 0 and "data.js" not in result.out  # the table is the registry's
    assert "would be made" in result.err
    assert not [one for one in hub.requests() if not one.startswith(("GET", "HEAD"))]


@pytest.mark.parametrize("written", ["nonsense", "hf://datasets/acme/page", "a/b/c"])
def test_what_names_no_space(written: str, hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    result = invoke("push", NAME, "--registry", toy_zoo, "--space", written)
    assert result.code == 2 and "Traceback" not in result.err
    assert not [one for one in hub.requests() if not one.startswith(("GET", "HEAD"))]


def test_the_explorer_is_read_back_from_a_card() -> None:
    about = About("T", "a/b", (), "me/page")
    assert read_about(front_matter(Registry(), about, "README.md")) == About("T", explorer="me/page")
    for written in ("hf://models/x/y", "javascript:alert(1)", "a b/c", "[1]"):
        assert read_about(f"---\nexplorer: '{written}'\n---\n").explorer == ""
