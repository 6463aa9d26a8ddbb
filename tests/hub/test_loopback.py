"""The loopback Hub by the real client: what it answers, whom it lets in, how it fails."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session
from loopback import Fault, LoopbackHub, User

WRITER, READER, STRANGER = "hf_writer", "hf_reader", "hf_stranger"
WEIGHTS = bytes(range(256)) * 40
CARD = b"---\nlicense: mit\ntags:\n- lora\n- peft\ndatasets:\n- imdb\nbase_model: acme/tiny\n---\n# x\n"


@pytest.fixture(autouse=True)
def people(hub: LoopbackHub) -> None:
    hub.store.users.update(
        {WRITER: User("acme"), READER: User("acme", role="read"), STRANGER: User("other", orgs=("acme-labs",))}
    )


def api(hub: LoopbackHub, token: str | bool = WRITER) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=token)


def download(hub: LoopbackHub, cache: Path, file: str, token: str | bool = WRITER, **options: Any) -> Path:
    return Path(
        huggingface_hub.hf_hub_download(
            "acme/zoo", file, repo_type="dataset", endpoint=hub.endpoint, token=token, cache_dir=cache, **options
        )
    )


# --- round trips -----------------------------------------------------------------------------------------------


def test_a_folder_goes_up_and_comes_back(hub: LoopbackHub, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "README.md").write_bytes(CARD)
    (folder / "deep" / "er" / "x.safetensors").write_bytes(WEIGHTS)
    client = api(hub)
    client.create_repo("acme/zoo", repo_type="dataset")
    done = client.upload_folder(repo_id="acme/zoo", repo_type="dataset", folder_path=folder)
    back = Path(
        huggingface_hub.snapshot_download(
            "acme/zoo", repo_type="dataset", endpoint=hub.endpoint, token=WRITER, cache_dir=tmp_path / "cache"
        )
    )
    assert {path.relative_to(back).as_posix(): path.read_bytes() for path in back.rglob("*") if path.is_file()} == {
        "README.md": CARD,
        "deep/er/x.safetensors": WEIGHTS,
    }
    assert back.name == done.oid
    assert f"PUT /uploads/{hashlib.sha256(WEIGHTS).hexdigest()}" in hub.requests()


def test_what_has_not_changed_makes_no_commit(hub: LoopbackHub) -> None:
    client = api(hub)
    client.create_repo("acme/zoo", repo_type="dataset")
    operations = {"a.json": b"{}", "b.bin": WEIGHTS}

    def send() -> None:
        adds = [CommitOperationAdd(path, data) for path, data in operations.items()]
        client.create_commit("acme/zoo", adds, commit_message="x", repo_type="dataset")

    send()
    before = len(hub.store.repository("datasets", "acme/zoo").commits)
    send()
    assert len(hub.store.repository("datasets", "acme/zoo").commits) == before
    operations["a.json"] = b"[]"
    send()
    assert len(hub.store.repository("datasets", "acme/zoo").commits) == before + 1
    assert sum(one.startswith("PUT") for one in hub.requests()) == 1


def test_a_commit_adds_deletes_and_keeps_its_parent(hub: LoopbackHub) -> None:
    client = api(hub)
    first = hub.store.put("models", "acme/m", {"a": b"1", "old/b": b"2", "old/c": b"3"})
    operations = [CommitOperationAdd("d", b"4"), CommitOperationDelete("a"), CommitOperationDelete("old/")]
    made = client.create_commit("acme/m", operations, commit_message="change", parent_commit=first)
    assert client.list_repo_files("acme/m") == ["d"]
    assert client.list_repo_files("acme/m", revision=first) == ["a", "old/b", "old/c"]
    assert [one.commit_id for one in client.list_repo_commits("acme/m")][:2] == [made.oid, first]
    with pytest.raises(HfHubHTTPError) as caught:
        client.create_commit("acme/m", [CommitOperationAdd("e", b"5")], commit_message="late", parent_commit=first)
    assert caught.value.response.status_code == 412
    assert client.list_repo_files("acme/m") == ["d"]


@pytest.mark.parametrize("redirects", [True, False])
def test_a_file_in_whole_and_in_part(redirects: bool, hub: LoopbackHub, tmp_path: Path) -> None:
    hub.redirects = redirects
    sha = hub.store.put("datasets", "acme/zoo", {"x.bin": WEIGHTS, "plain.json": b"{}"})
    assert download(hub, tmp_path, "x.bin").read_bytes() == WEIGHTS
    assert download(hub, tmp_path, "plain.json").parts[-2] == sha
    url = f"{hub.endpoint}/datasets/acme/zoo/resolve/main/x.bin"
    part = get_session().get(url, headers={"Range": "bytes=10-19"}, timeout=5)
    assert (part.status_code, part.content) == (206, WEIGHTS[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(WEIGHTS)}"
    assert get_session().get(url, headers={"Range": "bytes=999999-"}, timeout=5).status_code == 416


def test_a_pinned_file_of_the_cache_needs_no_request(hub: LoopbackHub, tmp_path: Path) -> None:
    sha = hub.store.put("datasets", "acme/zoo", {"x.bin": WEIGHTS})
    download(hub, tmp_path, "x.bin", revision=sha)
    hub.seen.clear()
    download(hub, tmp_path, "x.bin", revision=sha)
    assert hub.requests() == []
    download(hub, tmp_path, "x.bin")
    assert hub.requests() == ["HEAD /datasets/acme/zoo/resolve/main/x.bin"]


# --- looking ---------------------------------------------------------------------------------------------------


def test_info_tree_paths_and_refs(hub: LoopbackHub) -> None:
    sha = hub.store.put("models", "acme/m", {"README.md": CARD, "w/x.bin": WEIGHTS})
    client = api(hub)
    info = client.model_info("acme/m", files_metadata=True)
    sizes = {one.rfilename: (one.size, one.lfs.sha256 if one.lfs else None) for one in info.siblings or ()}
    assert (info.sha, info.author, info.private, info.gated) == (sha, "acme", False, False)
    assert sizes["w/x.bin"] == (len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest())
    assert {"lora", "dataset:imdb", "license:mit", "base_model:adapter:acme/tiny"} <= set(info.tags or ())
    assert [one.path for one in client.list_repo_tree("acme/m", recursive=True)] == ["README.md", "w", "w/x.bin"]
    assert [one.path for one in client.list_repo_tree("acme/m")] == ["README.md", "w"]
    assert [one.path for one in client.get_paths_info("acme/m", ["w/x.bin", "no"])] == ["w/x.bin"]
    client.create_tag("acme/m", tag="v1")
    assert [(one.name, one.target_commit) for one in client.list_repo_refs("acme/m").tags] == [("v1", sha)]
    assert client.model_info("acme/m", revision="v1").sha == sha


def test_models_are_listed_by_tags_author_and_words_page_by_page(hub: LoopbackHub) -> None:
    hub.page = 3
    for number in range(8):
        hub.store.put("models", f"acme/m{number}", {"README.md": CARD if number < 7 else b"# no card"})
    hub.store.put("models", "other/m", {"README.md": CARD})
    client = api(hub)
    tag = "base_model:adapter:acme/tiny"
    assert [one.id for one in client.list_models(author="acme", filter=tag)] == [f"acme/m{n}" for n in range(7)]
    assert [one.id for one in client.list_models(filter=[tag, "dataset:imdb"], search="M3")] == ["acme/m3"]
    assert len(list(client.list_models(filter=tag, limit=5))) == 5
    assert list(client.list_models(filter="dataset:none")) == []
    hub.store.repository("models", "acme/m4").downloads = 9
    by_downloads = get_session().get(f"{hub.endpoint}/api/models?sort=downloads&direction=-1&limit=2", timeout=5).json()
    assert [one["id"] for one in by_downloads] == ["acme/m4", "acme/m0"]


# --- who may ---------------------------------------------------------------------------------------------------


def test_tokens_have_names_and_roles(hub: LoopbackHub) -> None:
    assert api(hub).whoami()["name"] == "acme"
    assert api(hub, STRANGER).whoami()["orgs"][0]["name"] == "acme-labs"
    for token, status in ((False, 401), ("hf_unknown", 401)):
        with pytest.raises(HfHubHTTPError) as caught:
            api(hub, token).create_repo("acme/new")
        assert caught.value.response.status_code == status
    with pytest.raises(HfHubHTTPError) as caught:
        api(hub, READER).create_repo("acme/new")
    assert caught.value.response.status_code == 403
    api(hub, STRANGER).create_repo("acme-labs/new")
    with pytest.raises(HfHubHTTPError):
        api(hub, STRANGER).create_repo("acme-labs/new")
    assert "acme-labs/new" in str(api(hub, STRANGER).create_repo("acme-labs/new", exist_ok=True))


@pytest.mark.parametrize("token", [False, STRANGER])
def test_a_private_repository_is_there_for_its_owner_alone(token: str | bool, hub: LoopbackHub, tmp_path: Path) -> None:
    hub.store.put("datasets", "acme/zoo", {"x": b"1"}, private=True)
    assert download(hub, tmp_path, "x").read_bytes() == b"1"
    with pytest.raises(RepositoryNotFoundError):
        download(hub, tmp_path / "other", "x", token)
    assert [one.id for one in api(hub, token).list_datasets()] == []


def test_a_gated_repository_is_seen_by_all_and_read_by_the_allowed(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.store.put("datasets", "acme/zoo", {"x": b"1"}, gated=True)
    assert api(hub, False).dataset_info("acme/zoo").gated == "manual"
    for token in (False, STRANGER):
        with pytest.raises(GatedRepoError):
            download(hub, tmp_path, "x", token)
    hub.store.repository("datasets", "acme/zoo").allowed = frozenset({"other"})
    assert download(hub, tmp_path, "x", STRANGER).read_bytes() == b"1"


def test_what_is_missing_is_told_apart(hub: LoopbackHub, tmp_path: Path) -> None:
    gone = hub.store.put("datasets", "acme/zoo", {"x": b"1"})
    hub.store.put("datasets", "acme/zoo", {"x": b"2"})
    hub.store.forget(hub.store.repository("datasets", "acme/zoo"), gone)
    with pytest.raises(EntryNotFoundError):
        download(hub, tmp_path, "y")
    for revision in ("v9", gone):
        with pytest.raises(RevisionNotFoundError):
            download(hub, tmp_path, "x", revision=revision)
    with pytest.raises(RepositoryNotFoundError):
        api(hub).dataset_info("acme/none")
    assert get_session().get(f"{hub.endpoint}/nonsense", timeout=5).status_code == 404


def test_a_token_does_not_travel_to_the_storage(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.store.put("datasets", "acme/zoo", {"x.bin": WEIGHTS})
    download(hub, tmp_path, "x.bin")
    assert {one.token for one in hub.seen if one.path.startswith("/datasets/")} == {WRITER}
    assert [one.token for one in hub.seen if one.path.startswith("/storage/")] == [""]


# --- faults ----------------------------------------------------------------------------------------------------


def test_statuses_as_often_as_asked(hub: LoopbackHub) -> None:
    hub.fault("status", "GET /api/models", times=1, status=429, headers={"Retry-After": "7"})
    url = f"{hub.endpoint}/api/models"
    first, second = (get_session().get(url, timeout=5) for _ in range(2))
    assert (first.status_code, first.headers["Retry-After"], second.status_code) == (429, "7", 200)
    hub.fault("status", status=503)
    assert [get_session().get(url, timeout=5).status_code for _ in range(3)] == [503] * 3
    hub.faults.clear()
    assert get_session().get(url, timeout=5).status_code == 200


def test_bodies_that_are_cut_or_wrong(hub: LoopbackHub) -> None:
    hub.store.put("models", "acme/m", {"x.json": b"0123456789"})
    url = f"{hub.endpoint}/acme/m/resolve/main/x.json"
    hub.fault("wrong", "x.json", times=1)
    wrong = get_session().get(url, timeout=5).content
    assert len(wrong) == 10
    assert wrong != b"0123456789"
    for kind in ("cut", "close"):
        hub.fault(kind, "x.json", times=1)
        with pytest.raises(Exception, match=r"(?i)incomplete|peer|closed|aborted|disconnected"):
            get_session().get(url, timeout=5)
    assert get_session().get(url, timeout=5).content == b"0123456789"


def test_slow_answers(hub: LoopbackHub) -> None:
    hub.fault("slow", "whoami", seconds=250)
    with pytest.raises(Exception, match=r"(?i)timed out"):
        get_session().get(f"{hub.endpoint}/api/whoami-v2", timeout=0.2)


def test_a_fault_that_is_none(hub: LoopbackHub) -> None:
    with pytest.raises(ValueError, match="no fault"):
        Fault("quake")
