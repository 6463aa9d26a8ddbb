"""Answers: the JSON documents of the Hub's protocol, made of what the store keeps."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from loopback.store import Blob, Commit, HttpError, Repository, User, card, keeps_in_lfs, tags

Document = dict[str, Any]


def whoami(user: User) -> Document:
    return {
        "type": "user",
        "name": user.name,
        "fullname": user.name,
        "orgs": [{"name": name, "type": "org"} for name in user.orgs],
        "auth": {"type": "access_token", "accessToken": {"displayName": "loopback", "role": user.role}},
    }


def info(repository: Repository, commit: Commit, full: bool, blobs: bool = False) -> Document:
    """What the Hub says of a repository at a commit; `blobs` adds sizes and hashes of its files."""
    found: Document = {
        "_id": commit.oid[:24],
        "id": repository.id,
        "author": repository.namespace,
        "sha": commit.oid,
        "lastModified": commit.date,
        "createdAt": repository.created,
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "disabled": False,
        "downloads": repository.downloads,
        "likes": 0,
        "tags": tags(repository, commit.files),
    }
    if repository.kind == "models":
        found["modelId"] = repository.id
        if library := card(commit.files).get("library_name"):
            found["library_name"] = library
    if full:
        found["cardData"] = card(commit.files)
        found["siblings"] = [_sibling(path, blob, blobs) for path, blob in commit.files.items()]
        if repository.kind == "models" and "adapter_config.json" in commit.files:
            found["config"] = _config(commit.files["adapter_config.json"])
    return found


def _sibling(path: str, blob: Blob, blobs: bool) -> Document:
    if not blobs:
        return {"rfilename": path}
    return {"rfilename": path, "size": len(blob.data), "blobId": blob.oid, **_lfs(blob)}


def _lfs(blob: Blob) -> Document:
    if not blob.lfs:
        return {}
    size = len(blob.data)
    return {"lfs": {"oid": blob.sha256, "sha256": blob.sha256, "size": size, "pointerSize": len(blob.pointer)}}


def _config(blob: Blob) -> Document:
    try:
        config = json.loads(blob.data)
    except ValueError:
        return {}
    if not isinstance(config, dict):
        return {}
    return {"peft": {name: config.get(name) for name in ("base_model_name_or_path", "task_type") if name in config}}


def matching(repositories: Sequence[Repository], query: Mapping[str, list[str]]) -> list[Repository]:
    """Those that have every tag of `filter`, the author, and the words of `search` in their names, in order.

    The most downloaded come first: the Hub sorts in no other direction (huggingface_hub, pull request 3882).
    """
    wanted = [tag for text in query.get("filter", []) for tag in text.split(",")]
    author = query.get("author", [""])[0]
    words = query.get("search", [""])[0].lower()
    if query.get("sort") == ["downloads"]:
        repositories = sorted(repositories, key=lambda one: one.downloads, reverse=True)
    return [
        one
        for one in repositories
        if set(wanted) <= set(tags(one, one.commit("main").files))
        and (not author or one.namespace == author)
        and words in one.id.lower()
    ]


def refs(repository: Repository) -> Document:
    def listed(kind: str, named: Mapping[str, str]) -> list[Document]:
        return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in named.items()]

    return {"branches": listed("heads", repository.branches), "converts": [], "tags": listed("tags", repository.tags)}


def history(repository: Repository, revision: str) -> list[Document]:
    """The commits that lead to a revision, newest first."""
    found: list[Document] = []
    at: Commit | None = repository.commit(revision)
    while at is not None:
        authors = [{"user": at.author}]
        found.append({"id": at.oid, "title": at.title, "message": "", "date": at.date, "authors": authors})
        at = repository.commits.get(at.parent or "")
    return found


def tree(files: Mapping[str, Blob], below: str, recursive: bool) -> list[Document]:
    """Files and folders below a folder."""
    prefix = f"{below.rstrip('/')}/" if below else ""
    rows: dict[str, Document] = {}
    for path, blob in files.items():
        if not path.startswith(prefix):
            continue
        parts = path.removeprefix(prefix).split("/")
        folders = [prefix + "/".join(parts[:count]) for count in range(1, len(parts))]
        for folder in folders if recursive else folders[:1]:
            rows[folder] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": folder}
        if recursive or not folders:
            rows[path] = {"type": "file", "oid": blob.oid, "size": len(blob.data), "path": path, **_lfs(blob)}
    if below and not rows:
        raise HttpError(404, f"{below} does not exist", "EntryNotFound")
    return [rows[path] for path in sorted(rows)]


def upload_modes(asked: Sequence[Document], files: Mapping[str, Blob]) -> list[Document]:
    """How each file is to be sent; `oid` of the one that is there lets the client leave out what has not changed."""
    rows = []
    for one in asked:
        path = one["path"]
        mode = "lfs" if keeps_in_lfs(path, one["size"]) else "regular"
        there = {"oid": files[path].etag} if path in files else {}
        rows.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **there})
    return rows


def parse_commit(body: bytes, uploads: Mapping[str, bytes]) -> tuple[Document, dict[str, Blob], list[str]]:
    """The header, the changed files and the deleted paths of a commit's lines of JSON."""
    header: Document = {}
    changed: dict[str, Blob] = {}
    deleted: list[str] = []
    for line in body.decode().splitlines():
        if not line.strip():
            continue
        one = json.loads(line)
        value = one["value"]
        if one["key"] == "header":
            header = value
        elif one["key"] == "file":
            changed[value["path"]] = Blob(base64.b64decode(value["content"]), False)
        elif one["key"] == "lfsFile":
            if value["oid"] not in uploads:
                raise HttpError(400, f"The content of {value['path']} was not uploaded")
            changed[value["path"]] = Blob(uploads[value["oid"]], True)
        elif one["key"] in ("deletedFile", "deletedFolder"):
            deleted.append(value["path"])
    if not header.get("summary"):
        raise HttpError(400, "A commit needs a summary")
    return header, changed, deleted
