"""Upload: files sent to a repository of the Hub and shown by one commit.

The protocol is the Hub's, spoken through `client`: preupload says which files go to LFS, those are put into the
storage, and a commit of JSON lines names or holds them all. The client's own `create_commit` does the same, but has no
limit of time, does not retry a write that failed once, and from its version 1 on waits as long as the Hub likes
(`tests/hub/test_library.py`).
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tupate_hub.errors import BranchMoved, WorkFailed
from tupate_hub.hub import client
from tupate_hub.hub.location import Location, endpoint

_LINES = "application/x-ndjson"
_LFS = "application/vnd.git-lfs+json"
_AT_ONCE = 8
_MOST_FILES = 64
_MOST_BYTES = 64_000_000
_SAMPLE = 512


@dataclass(frozen=True)
class File:
    """A file to send: its size in bytes, its sha256, and what reads it when it is its turn."""

    size: int
    sha256: str
    read: Callable[[], bytes]

    def is_that(self, size: int, digest: str) -> bool:
        """Whether a file of this size and digest, a sha256 or git's name of it, has the same content."""
        if size != self.size or len(digest) == 64:
            return (size, digest) == (self.size, self.sha256)
        return digest == client.git_name(self.read())


def create_repository(location: Location, private: bool) -> None:
    """Make a repository; one that is there already is left as it is.

    Raises
    ------
    TupateHubError
        When the caller may not.
    NotAvailableOffline
        When there is no network.
    WorkFailed
        When the Hub fails, or asks to be left alone.
    """
    owner, _, name = location.id.partition("/")
    asked = {"name": name, "organization": owner, "type": location.kind, **({"private": True} if private else {})}
    with contextlib.suppress(BranchMoved):  # 409: it is there
        client.post(location, f"{endpoint()}/api/repos/create", json.dumps(asked).encode())


def create_branch(location: Location, commit: str) -> None:
    """Make the branch `location.revision` at a commit; one that is there is left as it is. Errors as above."""
    with contextlib.suppress(BranchMoved):
        client.post(location, _api(location, "branch"), json.dumps({"startingPoint": commit}).encode())


def commit(
    location: Location, parent: str, files: Iterable[tuple[str, File]], removals: Sequence[str], title: str
) -> str:
    """Send files and move the branch `location.revision` by one commit, which shows all of them or none.

    Files of LFS go first, several at once; those that the Hub has from an interrupted run are not sent again. At most
    64 MB of them, or one file, are in memory at a time.

    Parameters
    ----------
    location, parent : Location, str
        The branch, and the commit at which it must stand.
    files : iterable of (str, File)
        What is added or changed, by its path.
    removals : sequence of str
        Paths of files that go.
    title : str
        The commit's first line.

    Returns
    -------
    The new commit.

    Raises
    ------
    BranchMoved
        When the branch no longer stands at `parent`: nothing has changed.
    TupateHubError, NotAvailableOffline, WorkFailed
        As `create_repository`.
    """
    lines: list[dict[str, Any]] = [_line("header", summary=title, description="", parentCommit=parent)]
    for batch in _batches(files):
        lines += _sent(location, batch)
    lines += [_line("deletedFile", path=path) for path in removals]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    with client.understood(location):
        return str(client.post(location, _api(location, "commit"), body, _LINES)["commitOid"])


# --- parts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Batch:
    """Some files, in memory."""

    files: dict[str, File] = field(default_factory=dict)
    data: dict[str, bytes] = field(default_factory=dict)


def _batches(files: Iterable[tuple[str, File]]) -> Iterator[_Batch]:
    batch = _Batch()
    for path, file in files:
        batch.files[path], batch.data[path] = file, file.read()
        if len(batch.files) == _MOST_FILES or sum(map(len, batch.data.values())) >= _MOST_BYTES:
            yield batch
            batch = _Batch()
    if batch.files:
        yield batch


def _sent(location: Location, batch: _Batch) -> list[dict[str, Any]]:
    """The lines of a commit for some files; those of LFS are in the storage then."""
    rows = [
        {"path": path, "size": len(data), "sample": base64.b64encode(data[:_SAMPLE]).decode()}
        for path, data in batch.data.items()
    ]
    with client.understood(location):
        modes = client.post(location, _api(location, "preupload"), json.dumps({"files": rows}).encode())["files"]
        large = {one["path"] for one in modes if one["uploadMode"] == "lfs" and batch.data[one["path"]]}
    _store(location, {file.sha256: batch.data[path] for path, file in batch.files.items() if path in large})
    return [
        _line("lfsFile", path=path, algo="sha256", oid=file.sha256, size=file.size)
        if path in large
        else _line("file", path=path, encoding="base64", content=base64.b64encode(batch.data[path]).decode())
        for path, file in batch.files.items()
    ]


def _store(location: Location, objects: Mapping[str, bytes]) -> None:
    """Put into the storage what it does not have, by its sha256."""
    if not objects:
        return
    asked = {
        "operation": "upload",
        "transfers": ["basic"],
        "objects": [{"oid": oid, "size": len(data)} for oid, data in objects.items()],
        "hash_algo": "sha256",
        "ref": {"name": location.revision},
    }
    with client.understood(location):
        answer = client.post(location, f"{location.page}.git/info/lfs/objects/batch", json.dumps(asked).encode(), _LFS)
        actions = {one["oid"]: one["actions"] for one in answer["objects"] if "actions" in one}
        refused = [str(one["error"].get("message")) for one in answer["objects"] if "error" in one]
    if refused:
        raise WorkFailed(f"The Hub's storage refused a file: {refused[0][:200]}.", hint="retry")
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        waiting = [pool.submit(_put, location, oid, objects[oid], todo) for oid, todo in actions.items()]
        try:
            for one in waiting:
                one.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _put(location: Location, oid: str, data: bytes, todo: Mapping[str, Any]) -> None:
    with client.understood(location):
        client.put(location, str(todo["upload"]["href"]), data)
        if verify := todo.get("verify"):
            client.post(location, str(verify["href"]), json.dumps({"oid": oid, "size": len(data)}).encode(), _LFS)


def _line(key: str, **value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


def _api(location: Location, action: str) -> str:
    branch = quote(location.revision or "main", safe="")
    return f"{endpoint()}/api/{location.kind}s/{location.id}/{action}/{branch}"
