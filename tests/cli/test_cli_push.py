"""`tupate-hub push` at the command line: what it prints, where, and how it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import LORA, TASKS, lora, zoo_of
from loopback import LoopbackHub, User

from tupate_hub.zoo import Zoo

NAME = "acme/zoo"
TOKEN = "hf_secretsecretsecret"


@pytest.fixture(autouse=True)
def signed_in(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.store.users[TOKEN] = User("acme")
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A registry with a task that the toy zoo has with another content, and one that it has not."""
    return zoo_of(tmp_path / "mine", lora("imdb", 77), lora("boolq", 9)).root


def head(hub: LoopbackHub) -> str:
    return hub.store.repository("datasets", NAME).branches["main"]


def test_push_prints_the_commit_that_readers_can_pin(hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    result = invoke("push", NAME, "--registry", toy_zoo)
    assert (result.code, result.out) == (0, f"hf://datasets/{NAME}@{head(hub)}\n")
    assert "the repository was made" in result.err
    assert f"{hub.endpoint}/datasets/{NAME}" in result.err
    local, remote = (invoke("list", "--json", "--registry", where) for where in (toy_zoo, result.out.strip()))
    assert remote.out == local.out


@pytest.mark.parametrize("written", [NAME, f"hf://datasets/{NAME}", f"{NAME}@main"])
def test_the_ways_to_write_a_repository(written: str, hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    assert invoke("push", written, "--registry", mine).code == 0
    assert Zoo.open(f"{NAME}@main").verify() == []


def test_the_environment_says_what_to_push(hub: LoopbackHub, mine: Path, invoke: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("TUPATE_HUB_REGISTRY", str(mine))
    assert invoke("push", NAME).code == 0
    assert len(Zoo.open(f"{NAME}@main").registry.entries) == 2


def test_a_second_push_says_that_there_is_nothing_to_do(hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    first = invoke("push", NAME, "--registry", toy_zoo)
    again = invoke("push", NAME, "--registry", toy_zoo)
    assert (again.code, again.out) == (0, first.out)
    assert "nothing has changed" in again.err


def test_a_dry_run_prints_the_files_and_sends_nothing(hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    result = invoke("push", NAME, "--registry", toy_zoo, "--dry-run")
    assert result.code == 0
    lines = [line.split("\t") for line in result.out.splitlines()]
    assert lines[0] == ["what", "file", "bytes"]
    assert {line[0] for line in lines[1:]} == {"added"}
    path = f"zoo/{LORA.name}/imdb.safetensors"
    assert ["added", path, str((toy_zoo / path).stat().st_size)] in lines
    assert "the repository would be made" in result.err
    total = sum(int(line[2]) for line in lines[1:])
    assert f"files: {len(lines) - 1} added, 0 changed, 0 removed; {total:,} bytes in all" in result.err
    assert not [one for one in hub.requests() if not one.startswith("GET")]


def test_what_the_hub_alone_has_is_named(hub: LoopbackHub, toy_zoo: Path, mine: Path, invoke: Any) -> None:
    invoke("push", NAME, "--registry", toy_zoo)
    result = invoke("push", NAME, "--registry", mine, "--ours", "--dry-run")
    assert result.code == 0
    assert f"imdb in {LORA.name}: taken from this registry" in result.err
    assert f"only on the Hub, and kept: mnli in {LORA.name}, rte in {LORA.name}, snli in {LORA.name} and " in result.err
    kinds = {line.split("\t")[1]: line.split("\t")[0] for line in result.out.splitlines()}
    assert kinds[f"zoo/{LORA.name}/imdb.safetensors"] == "changed"
    assert kinds[f"zoo/{LORA.name}/boolq.safetensors"] == "added"
    assert f"zoo/{LORA.name}/rte.safetensors" not in kinds
    assert "taken from the Hub" in invoke("push", NAME, "--registry", mine, "--theirs").err


def test_json(hub: LoopbackHub, toy_zoo: Path, mine: Path, invoke: Any) -> None:
    dry = invoke("push", NAME, "--registry", toy_zoo, "--json", "--dry-run").json()
    done = invoke("push", NAME, "--registry", toy_zoo, "--json").json()
    assert done == {**dry, "dry_run": False, "commit": head(hub)}
    assert (dry["commit"], dry["created"], dry["repository"]) == (None, "repository", NAME)
    assert dry["page"] == f"{hub.endpoint}/datasets/{NAME}"
    assert {"file": f"zoo/{LORA.name}/imdb.safetensors", "bytes": 1000} not in dry["added"]
    assert sum(one["bytes"] for one in dry["added"]) == sum(
        len(blob.data) for blob in hub.store.repository("datasets", NAME).commit("main").files.values()
    )
    merged = invoke("push", NAME, "--registry", mine, "--ours", "--json").json()
    assert merged["resolved"] == [f"imdb in {LORA.name}"]
    assert len(merged["merged"]) == 2 * len(TASKS) - 1
    assert merged["created"] == ""


def test_the_page_documents_every_json_field(hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    (section,) = [part for part in page.split("\n## ") if part.startswith("`push`")]
    found = invoke("push", NAME, "--registry", toy_zoo, "--json", "--dry-run").json()
    assert all(f"`{name}`" in section for name in (*found, *found["added"][0]))


def test_options_reach_the_hub(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    result = invoke("push", NAME, "--registry", mine, "--private", "--revision", "next")
    assert result.code == 0
    repository = hub.store.repository("datasets", NAME)
    assert repository.private
    assert "registry.json" in repository.commit("next").files
    assert repository.commit("main").files == {}


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (["acme"], "names no repository", "tupate-hub push OWNER/NAME"),
        (["./acme/zoo"], "names no repository", "tupate-hub push OWNER/NAME"),
        (["hf://acme/zoo"], "a dataset repository is wanted", "hf://datasets/OWNER/NAME"),
        ([NAME, "--ours", "--theirs"], "exclude each other", "leave one of them out"),
        ([f"{NAME}@one", "--revision", "two"], "are two branches", f"tupate-hub push {NAME} --revision"),
        ([f"{NAME}@{'a' * 40}"], "is a commit", "--revision BRANCH"),
    ],
)
def test_what_is_refused_before_anything_is_asked(
    arguments: list[str], said: str, hint: str, hub: LoopbackHub, mine: Path, invoke: Any
) -> None:
    result = invoke("push", *arguments, "--registry", mine)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert hint in result.err
    assert len(result.err.splitlines()) == 2
    assert hub.requests() == []


def test_different_content_is_one_sentence_and_the_next_command(
    hub: LoopbackHub, toy_zoo: Path, mine: Path, invoke: Any
) -> None:
    invoke("push", NAME, "--registry", toy_zoo)
    result = invoke("push", NAME, "--registry", mine)
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        f"Error: hf://datasets/{NAME}@main has, with another content: imdb in {LORA.name}.",
        "  say whose to take: --ours (this registry's), or --theirs (the Hub's)",
    ]


def test_a_registry_that_is_not_there(hub: LoopbackHub, tmp_path: Path, invoke: Any) -> None:
    result = invoke("push", NAME, "--registry", tmp_path / "nowhere")
    assert result.code == 2
    assert "There is no registry" in result.err
    assert hub.requests() == []


def test_interrupted_with_the_keyboard(hub: LoopbackHub, mine: Path, invoke: Any, monkeypatch: Any) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tupate_hub.publish.push.commit", interrupt)
    assert invoke("push", NAME, "--registry", mine).code == 130
    assert hub.store.repository("datasets", NAME).commit("main").files == {}
