"""Uploading: the wire protocol against a Hub on this machine, and that the client's own upload agrees with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from loopback import LoopbackHub, User
from loopback.store import Blob, git_name

from tupate_hub.errors import BranchMoved, NoRepository, NoRevision, NotAvailableOffline, WorkFailed
from tupate_hub.hub.location import DATASET, Location
from tupate_hub.hub.repository import create_branch, create_repository
from tupate_hub.hub.upload import File, commit

PLACE = Location(DATASET, "acme/zoo", "main")
CONTENT = {
    "registry.json": b"{}\n",
    "zoo/one.safetensors": b"\x00" * 2000,
    "zoo/two.safetensors": bytes(range(256)) * 9,
    "zoo/same as two.safetensors": bytes(range(256)) * 9,
    "zoo/none.safetensors": b"",
    "zoo/ümlaut.txt": "grün".encode(),
}


def file(data: bytes) -> File:
    return File(len(data), hashlib.sha256(data).hexdigest(), lambda: data)


def files(content: dict[str, bytes]) -> list[tuple[str, File]]:
    return [(path, file(data)) for path, data in content.items()]


@pytest.fixture(autouse=True)
def repository(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty repository of ours; its commit."""
    hub.store.users["hf_mine"] = User("acme")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    create_repository(PLACE, private=False)
    head = hub.store.repository("datasets", PLACE.id).branches["main"]
    hub.seen.clear()
    return head


def held(hub: LoopbackHub, branch: str = "main") -> dict[str, bytes]:
    return {path: one.data for path, one in hub.store.repository("datasets", PLACE.id).commit(branch).files.items()}


def test_files_of_every_kind_arrive(hub: LoopbackHub, repository: str) -> None:
    made = commit(PLACE, repository, files(CONTENT), [], "first")
    assert held(hub) == CONTENT
    one = hub.store.repository("datasets", PLACE.id).commit("main")
    assert (one.oid, one.parent, one.title) == (made, repository, "first")
    assert {path for path, blob in one.files.items() if blob.lfs} == {
        path for path, data in CONTENT.items() if path.endswith(".safetensors") and data
    }
    assert sum(seen.method == "PUT" for seen in hub.seen) == 3  # one for each file


def test_the_client_itself_finds_nothing_to_send_then(hub: LoopbackHub, repository: str) -> None:
    from huggingface_hub import CommitOperationAdd, HfApi

    commit(PLACE, repository, files(CONTENT), [], "first")
    history = dict(hub.store.repository("datasets", PLACE.id).commits)
    adds = [CommitOperationAdd(path, data) for path, data in CONTENT.items()]
    HfApi(endpoint=hub.endpoint).create_commit(PLACE.id, adds, commit_message="again", repo_type="dataset")
    assert hub.store.repository("datasets", PLACE.id).commits == history


def test_what_is_in_the_storage_is_not_sent_again(hub: LoopbackHub, repository: str) -> None:
    made = commit(PLACE, repository, files(CONTENT), [], "first")
    hub.seen.clear()
    moved = {f"other/{path}": data for path, data in CONTENT.items()}
    commit(PLACE, made, files(moved), list(CONTENT), "moved")
    assert held(hub) == moved
    assert not [one for one in hub.seen if one.method == "PUT"]


def test_files_are_read_a_few_at_a_time(hub: LoopbackHub, repository: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tupate_hub.hub.upload._MOST_FILES", 3)
    monkeypatch.setattr("tupate_hub.hub.upload._MOST_BYTES", 100)
    sizes = [10, 10, 10, 10, 95, 10, 200, 5]
    content = {f"{number}.bin": bytes([number]) * size for number, size in enumerate(sizes)}
    taken: list[int] = []

    def watched() -> Iterator[tuple[str, File]]:
        for path, one in files(content):
            taken.append(sum("/preupload/" in seen.path for seen in hub.seen))
            yield path, one

    commit(PLACE, repository, watched(), [], "in parts")
    assert held(hub) == content
    assert taken == [0, 0, 0, 1, 1, 2, 2, 3]


def test_a_branch_that_moved_is_not_written_to(hub: LoopbackHub, repository: str) -> None:
    moved = hub.store.put("datasets", PLACE.id, {"LICENSE": b"theirs"})
    with pytest.raises(BranchMoved):
        commit(PLACE, repository, files(CONTENT), [], "late")
    assert held(hub) == {"LICENSE": b"theirs"}
    commit(PLACE, moved, files(CONTENT), [], "again")
    assert held(hub) == {**CONTENT, "LICENSE": b"theirs"}


@pytest.mark.parametrize("branch", ["next", "team/next", "50%"])
def test_branches(branch: str, hub: LoopbackHub, repository: str) -> None:
    there = PLACE.at(branch)
    with pytest.raises(NoRevision):
        commit(there, repository, files(CONTENT), [], "nowhere")
    create_branch(there, repository)
    create_branch(there, repository)
    commit(there, repository, files(CONTENT), [], "there")
    assert (held(hub, branch), held(hub)) == (CONTENT, {})


def test_a_repository_that_is_there_stays_as_it_is(hub: LoopbackHub, repository: str) -> None:
    create_repository(PLACE, private=True)
    found = hub.store.repository("datasets", PLACE.id)
    assert (found.private, found.branches["main"]) == (False, repository)
    with pytest.raises(NoRepository):
        commit(Location(DATASET, "acme/none", "main"), repository, [], [], "nowhere")


def test_the_storage_may_ask_to_verify(hub: LoopbackHub, repository: str) -> None:
    hub.verifies = True
    commit(PLACE, repository, files(CONTENT), [], "first")
    assert held(hub) == CONTENT
    verified = [one for one in hub.seen if one.path.endswith("/verify")]
    assert {(one.status, one.token) for one in verified} == {(200, "hf_mine")}
    assert len(verified) == 3


def test_a_file_that_the_storage_does_not_take(hub: LoopbackHub, repository: str) -> None:
    hub.largest = 2100
    with pytest.raises(WorkFailed, match="refused a file: the file is too large"):
        commit(PLACE, repository, files(CONTENT), [], "first")
    assert held(hub) == {}


def test_one_upload_that_fails_ends_the_others(hub: LoopbackHub, repository: str) -> None:
    content = {f"{number}.bin": b"%d" % number for number in range(50)}
    hub.fault("status", "PUT /uploads/", times=1, status=403)
    hub.fault("slow", "PUT /uploads/", seconds=0.1)
    with pytest.raises(WorkFailed, match="storage failed with status 403"):
        commit(PLACE, repository, files(content), [], "first")
    assert sum(one.method == "PUT" for one in hub.seen) < 50


@pytest.mark.parametrize("where", ["/preupload/", "/info/lfs/objects/batch", "/commit/"])
def test_an_answer_that_is_json_and_no_hubs(where: str, hub: LoopbackHub, repository: str) -> None:
    hub.fault("status", where, status=200)
    with pytest.raises(WorkFailed, match="did not answer for hf://datasets/acme/zoo@main as a Hub does") as caught:
        commit(PLACE, repository, files(CONTENT), [], "first")
    assert caught.value.hint == "look at HF_ENDPOINT"


@pytest.mark.parametrize("lfs", [True, False])
def test_whether_a_file_is_that_of_a_digest(lfs: bool) -> None:
    reads = []

    def read() -> bytes:
        reads.append(1)
        return b"content"

    one = File(7, hashlib.sha256(b"content").hexdigest(), read)
    digest = Blob(b"content", lfs).etag
    assert one.is_that(7, digest)
    assert not one.is_that(8, digest)
    assert not one.is_that(7, Blob(b"CONTENT", lfs).etag)
    assert len(reads) == (0 if lfs else 2)
    assert git_name(b"content") == Blob(b"content", False).etag


def test_bytes_that_are_no_text_in_a_regular_file(hub: LoopbackHub, repository: str) -> None:
    content: dict[str, Any] = {"raw": bytes(range(256))}
    commit(PLACE, repository, files(content), [], "raw")
    assert held(hub) == content


ADDRESSES = ["file:///etc/passwd", "gopher://x/y", "http://[::bad/", "x", "", "//x", "http://127.0.0.1:99999999/x"]


@pytest.mark.parametrize("action", ["upload", "verify"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_of_the_storage_that_is_none(address: str, action: str, hub: LoopbackHub, repository: str) -> None:
    hub.addresses[action] = address
    with pytest.raises((WorkFailed, NotAvailableOffline)) as caught:
        commit(PLACE, repository, files(CONTENT), [], "first")
    assert caught.value.hint
    assert held(hub) == {}


def test_a_token_is_for_the_hub_alone_whatever_address_the_storage_gives(hub: LoopbackHub, repository: str) -> None:
    """The library sends it to whatever verifies an upload."""
    hub.addresses["verify"] = f"http://localhost:{hub.port}/uploads/{{oid}}/verify"
    commit(PLACE, repository, files(CONTENT), [], "first")
    verified = [one for one in hub.seen if one.path.endswith("/verify")]
    assert {(one.status, one.host, one.token) for one in verified} == {(200, "localhost", "")}
    assert len(verified) == 3


def test_whether_a_commit_was_made_may_not_be_known(hub: LoopbackHub, repository: str) -> None:
    hub.fault("lost", "/commit/")
    hub.fault("close", "/revision/")
    with pytest.raises(WorkFailed, match="Whether hf://datasets/acme/zoo@main was changed is not known: ") as caught:
        commit(PLACE, repository, files(CONTENT), [], "first")
    assert caught.value.hint == "push again: what is there is not sent twice"
    hub.faults.clear()
    assert held(hub) == CONTENT


def test_another_commit_is_not_taken_for_ours(hub: LoopbackHub, repository: str) -> None:
    """Theirs has all but one of the files, and the same title."""
    hub.store.put("datasets", PLACE.id, {name: data for name, data in CONTENT.items() if name != min(CONTENT)})
    with pytest.raises(BranchMoved):
        commit(PLACE, repository, files(CONTENT), [], "first")


@pytest.mark.parametrize("where", ["/preupload/", "/commit/", "/info/lfs/objects/batch"])
def test_what_is_sent_goes_along_where_the_hub_redirects(where: str, hub: LoopbackHub, repository: str) -> None:
    """As it does for a repository that was renamed."""
    path = {"/info/lfs/objects/batch": f"/datasets/{PLACE.id}.git"}.get(where, f"/api/datasets/{PLACE.id}")
    target = f"{hub.endpoint}{path}{where}{'' if 'lfs' in where else 'main'}"
    hub.fault("status", where, times=1, status=307, headers={"Location": target})
    commit(PLACE, repository, files(CONTENT), [], "first")
    assert held(hub) == CONTENT
    assert not hub.faults.waiting()
