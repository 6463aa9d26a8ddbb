"""Store: what a Hub keeps: users, repositories, commits, files by content."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from typing import Any

#: Endings that the Hub keeps in LFS whatever their size.
LFS_ENDINGS = (".safetensors", ".bin", ".npz", ".npy", ".parquet", ".pt", ".png")
LFS_FROM = 10_000_000


class HttpError(Exception):
    """An answer that is no success: its status, and the code and sentence in its headers."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class User:
    """Who a token stands for; `role` is `read` or `write`."""

    name: str
    role: str = "write"
    orgs: tuple[str, ...] = ()

    def owns(self, namespace: str) -> bool:
        return namespace == self.name or namespace in self.orgs


@dataclass(frozen=True)
class Blob:
    """A file's content, and how it is kept."""

    data: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def oid(self) -> str:
        """Git's name of it: that of the content, or of the pointer to it."""
        return git_name(self.pointer if self.lfs else self.data)

    @property
    def pointer(self) -> bytes:
        lines = (
            "version https://git-lfs.github.com/spec/v1",
            f"oid sha256:{self.sha256}",
            f"size {len(self.data)}",
            "",
        )
        return "\n".join(lines).encode()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    author: str
    date: str
    files: Mapping[str, Blob]


@dataclass
class Repository:
    """A repository with its history; `kind` is `models`, `datasets` or `spaces`."""

    kind: str
    id: str
    private: bool = False
    gated: bool = False
    allowed: frozenset[str] = frozenset()
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    created: str = ""
    downloads: int = 0

    @property
    def namespace(self) -> str:
        return self.id.partition("/")[0]

    def commit(self, revision: str) -> Commit:
        """The commit that a branch, tag or sha stands for."""
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise HttpError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]


class Store:
    """All that a Hub keeps. Every change is one step under one lock."""

    def __init__(self) -> None:
        self.users: dict[str, User] = {}
        self.uploads: dict[str, bytes] = {}
        self._repositories: dict[tuple[str, str], Repository] = {}
        self._lock = threading.RLock()
        self._clock = 0

    # --- repositories ------------------------------------------------------------------------------------------

    def create(self, kind: str, id: str, *, private: bool = False, gated: bool = False) -> Repository:
        with self._lock:
            if (kind, id) in self._repositories:
                raise HttpError(409, "You already created this repo")
            made = Repository(kind, id, private, gated, created=self._now())
            first = self._add_commit(made, None, "initial commit", {}, made.namespace)
            made.branches["main"] = first.oid
            self._repositories[kind, id] = made
            return made

    def repository(self, kind: str, id: str) -> Repository:
        if (kind, id) not in self._repositories:
            raise HttpError(404, "Repository not found", "RepoNotFound")
        return self._repositories[kind, id]

    def listed(self, kind: str) -> list[Repository]:
        with self._lock:
            return sorted((one for (of, _), one in self._repositories.items() if of == kind), key=lambda one: one.id)

    def visible(self, kind: str, id: str, user: User | None) -> Repository:
        """The repository, if this caller may know of it; an anonymous caller cannot tell missing from private."""
        found = self._repositories.get((kind, id))
        hidden = found is None or (found.private and not (user and user.owns(found.namespace)))
        if found is None or hidden:
            status = 404 if user else 401
            raise HttpError(status, "Repository not found" if user else "Invalid username or password.", "RepoNotFound")
        return found

    def readable(self, kind: str, id: str, user: User | None) -> Repository:
        """The repository, if this caller may read its files."""
        found = self.visible(kind, id, user)
        if found.gated and not (user and (user.owns(found.namespace) or user.name in found.allowed)):
            said = f"Access to {kind.rstrip('s')} {id} is restricted"
            raise HttpError(403 if user else 401, said, "GatedRepo")
        return found

    # --- commits -----------------------------------------------------------------------------------------------

    def put(self, kind: str, id: str, files: Mapping[str, bytes], title: str = "put", **options: Any) -> str:
        """Commit files from inside, making the repository if need be; returns the commit's sha."""
        with self._lock:
            if (kind, id) not in self._repositories:
                self.create(kind, id, **options)
            blobs = {path: Blob(data, keeps_in_lfs(path, len(data))) for path, data in files.items()}
            return self.commit(self.repository(kind, id), "main", title, blobs, (), "inside").oid

    def commit(
        self,
        repository: Repository,
        branch: str,
        title: str,
        changed: Mapping[str, Blob],
        deleted: Iterable[str],
        author: str,
        parent: str | None = None,
    ) -> Commit:
        """Move a branch by one commit; 412 when `parent` is no longer its head."""
        with self._lock:
            head = repository.branches.get(branch)
            if head is None:
                raise HttpError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            if parent is not None and parent != head:
                raise HttpError(412, "A commit has happened since. Please refresh and try again.")
            files = dict(repository.commits[head].files)
            for path in deleted:
                inside = [name for name in files if name == path or name.startswith(path.rstrip("/") + "/")]
                if not inside:
                    raise HttpError(404, f"{path} does not exist", "EntryNotFound")
                for name in inside:
                    del files[name]
            files.update(changed)
            made = self._add_commit(repository, head, title, files, author)
            repository.branches[branch] = made.oid
            return made

    def forget(self, repository: Repository, oid: str) -> None:
        """Lose a commit, as after a history was squashed."""
        with self._lock:
            del repository.commits[oid]
            repository.branches = {name: at for name, at in repository.branches.items() if at != oid}
            repository.tags = {name: at for name, at in repository.tags.items() if at != oid}

    def replace_blob(self, repository: Repository, path: str, data: bytes) -> None:
        """Change a file in place, behind the commit's back: what a broken or hostile store does."""
        with self._lock:
            head = repository.branches["main"]
            files = {**repository.commits[head].files, path: Blob(data, keeps_in_lfs(path, len(data)))}
            repository.commits[head] = replace(repository.commits[head], files=files)

    def _add_commit(
        self, repository: Repository, parent: str | None, title: str, files: Mapping[str, Blob], author: str
    ) -> Commit:
        date = self._now()
        seed = "\n".join([repository.id, str(parent), title, date, *(f"{path} {files[path].oid}" for path in files)])
        made = Commit(git_name(seed.encode()), parent, title, author, date, dict(sorted(files.items())))
        repository.commits[made.oid] = made
        return made

    def _now(self) -> str:
        """A clock that never shows one time twice."""
        self._clock += 1
        return datetime.fromtimestamp(1_700_000_000 + self._clock, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def git_name(data: bytes) -> str:
    """Git's sha1 of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def keeps_in_lfs(path: str, size: int) -> bool:
    return path.endswith(LFS_ENDINGS) or size >= LFS_FROM


# --- cards -----------------------------------------------------------------------------------------------------


def card(files: Mapping[str, Blob]) -> dict[str, Any]:
    """The front matter of a README: names with a text or a list of texts, which is all that the tests write."""
    if "README.md" not in files:
        return {}
    lines = files["README.md"].data.decode("utf-8", "replace").split("\n")
    if not lines or lines[0].strip() != "---" or "---" not in [line.strip() for line in lines[1:]]:
        return {}
    found: dict[str, Any] = {}
    name = ""
    for line in lines[1 : 1 + [line.strip() for line in lines[1:]].index("---")]:
        if line.lstrip().startswith("- ") and name:
            if not isinstance(found[name], list):
                found[name] = []
            found[name].append(line.lstrip()[2:].strip().strip("\"'"))
        elif ":" in line and not line.startswith(" "):
            name, _, value = line.partition(":")
            found[name] = value.strip().strip("\"'")
    return found


def tags(repository: Repository, files: Mapping[str, Blob]) -> list[str]:
    """The tags that the Hub makes of a card, those that filters look at."""
    facts = card(files)
    found = _listed(facts.get("tags"))
    if facts.get("library_name"):
        found.append(str(facts["library_name"]))
    for name, prefix in (("datasets", "dataset:"), ("license", "license:"), ("language", "")):
        found += [prefix + value for value in _listed(facts.get(name))]
    for value in _listed(facts.get("base_model")):
        found += [f"base_model:{value}", f"base_model:adapter:{value}"]
    return list(dict.fromkeys([*found, "region:us"]))


def _listed(value: Any) -> list[str]:
    return list(value) if isinstance(value, list) else [value] if value else []
