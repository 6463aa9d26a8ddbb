"""Listing: what is asked of the Hub, in which order the answer comes, and that nothing of it is believed."""

from __future__ import annotations

from typing import Any

import pytest
from builders import BASE
from loopback import LoopbackHub, User, answers
from orchards import adapterhub_files, peft_files, plant

from tupate_hub.errors import FormatError, RateLimited, UnknownName, WorkFailed
from tupate_hub.hub.list_adapters import ListedRepository, facts, list_adapters
from tupate_hub.hub.location import MODEL, Location


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, list[str]]]:
    """The queries that reach the Hub."""
    seen: list[dict[str, list[str]]] = []
    honest = answers.matching

    def noted(repositories: Any, query: Any) -> Any:
        seen.append(dict(query))
        return honest(repositories, query)

    monkeypatch.setattr(answers, "matching", noted)
    return seen


def test_what_is_asked(hub: LoopbackHub, asked: list[dict[str, list[str]]]) -> None:
    list_adapters(BASE, "AdapterHub", "adapters")
    list_adapters("roberta-base", None, "peft", limit=7)
    first, second, third = asked
    assert (first["filter"], first["author"], first.get("limit", [])) == (["adapter-transformers"], ["AdapterHub"], [])
    assert second["filter"] == ["peft", "base_model:adapter:roberta-base"]
    assert third["filter"] == ["peft", "base_model:adapter:FacebookAI/roberta-base"]
    assert "author" not in second
    assert (second["limit"], second["sort"], second["full"][0].lower()) == (["7"], ["downloads"], "true")


def test_the_most_downloaded_come_first_and_ties_by_name(hub: LoopbackHub) -> None:
    for name, downloads in (("b/x", 5), ("a/x", 5), ("c/x", 50), ("d/x", 0)):
        plant(hub, name, peft_files(1), downloads)
    plant(hub, "e/x", adapterhub_files(1, "x"), 7)
    assert [one.id for one in list_adapters(BASE)] == ["c/x", "e/x", "a/x", "b/x", "d/x"]
    assert [one.id for one in list_adapters(BASE, limit=3)] == ["c/x", "e/x", "a/x"]


@pytest.mark.parametrize("page", [1, 3, 100])
def test_every_page_is_read(page: int, hub: LoopbackHub) -> None:
    for number in range(7):
        plant(hub, f"a/x{number}", peft_files(1), number)
    hub.page = page
    assert [one.id for one in list_adapters(BASE, library="peft")] == [f"a/x{number}" for number in reversed(range(7))]


def test_what_a_row_says(hub: LoopbackHub) -> None:
    commit = plant(hub, "a/x", peft_files(1, base="google-bert/bert-base-uncased"), 9)
    (one,) = list_adapters("bert-base-uncased", library="peft")
    files = ("README.md", "adapter_config.json", "adapter_model.safetensors", "optimizer.pt", "training_args.bin")
    tags = tuple(f"{kind}:google-bert/bert-base-uncased" for kind in ("base_model", "base_model:adapter"))
    assert one == ListedRepository("a/x", commit, 9, ("bert-base-uncased",), tags, files)
    assert one.location() == Location(MODEL, "a/x", commit)


@pytest.mark.parametrize("library", ["mlx", ""])
def test_an_unknown_library(library: str, hub: LoopbackHub) -> None:
    with pytest.raises(UnknownName) as caught:
        list_adapters(BASE, library=library)
    assert "adapters, peft" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "commit"),
    [
        ("a/x", "main"),
        ("a/x", "a" * 39),
        ("a/x", ""),
        ("a", "a" * 40),
        ("a/../x", "a" * 40),
        ("a/x@main", "a" * 40),
        ("hf://datasets/a/x", "a" * 40),
        ("a/x\n", "a" * 40),
        ("None", "None"),
    ],
)
def test_a_row_that_names_nothing(name: str, commit: str) -> None:
    with pytest.raises(FormatError):
        ListedRepository(name, commit, 0, ()).location()


@pytest.mark.parametrize(
    "row",
    [
        {"id": None, "sha": 3, "downloads": "many", "tags": "peft"},
        {"id": ["a/x"], "tags": [None, 3, "base_model:adapter:" + "x" * 5000, "base_model:adapter:\x1b[31m"]},
        {"id": "a/x", "downloads": True},
    ],
)
def test_rows_that_make_no_sense_are_rows_all_the_same(
    row: dict[str, Any], hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(hub, "a/x", peft_files(1))
    monkeypatch.setattr(answers, "info", lambda *_: row)
    (one,) = list_adapters(BASE, library="peft")
    assert one.bases == ()
    with pytest.raises(FormatError):
        one.location()


def test_an_answer_that_is_no_list(hub: LoopbackHub) -> None:
    hub.fault("status", "/api/models", status=200)
    with pytest.raises(WorkFailed, match="did not answer for hf://models as a Hub does"):
        list_adapters(BASE)


@pytest.mark.parametrize("answer", [[{}], [3], {"rows": []}])
def test_rows_that_name_nothing_end_the_listing(answer: Any, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(hub, "a/x", peft_files(1))
    monkeypatch.setattr(answers, "info", lambda *_: answer[0] if isinstance(answer, list) else answer)
    with pytest.raises(WorkFailed, match="did not answer for hf://models as a Hub does"):
        list_adapters(BASE, library="peft")


def test_the_token_does_not_follow_a_listing_to_another_host(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library goes wherever the Hub says that the next page is, and takes the token along."""
    hub.store.users["hf_mine"] = User("acme")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    for number in range(3):
        plant(hub, f"a/x{number}", peft_files(1))
    hub.page = 2
    genuine = hub.endpoint
    monkeypatch.setattr(type(hub), "endpoint", property(lambda self: genuine.replace("127.0.0.1", "localhost")))
    assert len(list_adapters(BASE, library="peft")) == 3
    assert [(one.host, one.token) for one in hub.seen] == [("127.0.0.1", "hf_mine"), ("localhost", "")]


def test_pages_without_end(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tupate_hub.hub.list_adapters._MOST_PAGES", 5)
    for number in range(8):
        plant(hub, f"a/x{number}", peft_files(1))
    hub.page = 1
    with pytest.raises(WorkFailed, match="page after page without end"):
        list_adapters(BASE, library="peft")
    assert len(hub.seen) == 5


def test_a_hub_that_wants_fewer_requests(hub: LoopbackHub) -> None:
    hub.fault("status", "/api/models", status=429, headers={"Retry-After": "99"})
    with pytest.raises(RateLimited):
        list_adapters(BASE)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([], {"task": "m", "base": None, "dataset": None, "licence": None}),
        (None, {"task": "m", "base": None, "dataset": None, "licence": None}),
        (
            [
                "adapterhub:nli/multinli",
                "dataset:imdb",
                "license:mit",
                "base_model:acme/b",
                "base_model:adapter:acme/b",
            ],
            {"task": "mnli", "base": "acme/b", "dataset": "imdb", "licence": "mit"},
        ),
        (["dataset:glue", "dataset:imdb"], {"task": "m", "base": None, "dataset": "glue, imdb", "licence": None}),
        (["base_model:finetune:acme/b"], {"task": "m", "base": None, "dataset": None, "licence": None}),
        (
            ["license:\x1b[31m", 3, "dataset:" + "x" * 999],
            {"task": "m", "base": None, "dataset": None, "licence": None},
        ),
    ],
)
def test_what_tags_say(tags: Any, expected: dict[str, Any]) -> None:
    assert facts(Location(MODEL, "acme/m"), tags) == expected
