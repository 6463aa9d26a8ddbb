"""Remote: repositories of the Hub as files of a cache, by commit. What is cached is never asked for again.

Below the cache's root: `hub/blobs/<sha256>` holds the files of registries, whichever commit or repository they come
from; `hub/<kind>s--<owner>--<name>/refs/<revision>` the commit that a branch stood for when it was last asked for, and
`.../<commit>/` the `registry.json`, or the adapter, of that commit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tupate_hub import hub
from tupate_hub.atomicfile import write_bytes, write_folder
from tupate_hub.errors import FormatError, NotAvailableOffline, TargetExists, TupateHubError, WorkFailed
from tupate_hub.hub import Location
from tupate_hub.registry import FILENAME

#: So long a branch that was not named is taken to stand where it stood: `OWNER/NAME@main` asks each time.
FRESH_SECONDS = 300.0
MOST_REGISTRY = 64_000_000
MOST_FILE = 1_000_000_000
_CONFIG = "adapter_config.json"
_MOST_CONFIG = 4_000_000
_HEADER = 64_000
_AT_ONCE = 8
_FACTS = "facts.json"
_COLLECTIONS = frozenset({"glue", "super_glue"})


@dataclass(frozen=True)
class Snapshot:
    """A registry on the Hub at a commit; `note` says why that may not be the newest, "" where it is."""

    location: Location
    folder: Path
    note: str = ""

    def where(self, file: str) -> str:
        """How messages name a file."""
        return f"{self.location}/{file}"

    def read(self, file: str, size: int, sha256: str) -> bytes:
        """A file's bytes, from the cache or the Hub, of the size and digest that the registry gives.

        Raises
        ------
        FormatError
            When the registry claims too much, or the file has another size or content: nothing is then kept.
        TupateHubError
            As `hub.get`.
        """
        path = _root() / "blobs" / sha256
        cached = _cached(path, size, sha256)
        if cached is not None:
            return cached
        _require_modest(self.where(file), size, MOST_FILE)
        answer = hub.get(self.location, file, size)
        _require_right(self.where(file), answer, size, sha256)
        _keep(path, answer.data)
        return answer.data

    def outline(self, file: str, size: int, sha256: str) -> bytes:
        """A safetensors file whose header alone was fetched, by its range, with zeros for numbers; whole where cached.

        The digest, which is that of the whole file, cannot be checked. Errors as `read`.
        """
        path = _root() / "blobs" / sha256
        if path.is_file():
            return self.read(file, size, sha256)
        _require_modest(self.where(file), size, MOST_FILE)
        answer = hub.get(self.location, file, min(_HEADER, size) - 1)
        wanted = min(8 + int.from_bytes(answer.data[:8], "little"), size)
        if answer.size == size and wanted > len(answer.data):
            answer = hub.get(self.location, file, wanted - 1)
        if answer.size != size:
            _require_right(self.where(file), answer, size, None)
        return answer.data.ljust(size, b"\0")

    def prefetch(self, files: Iterable[tuple[str, int, str]]) -> None:
        """Fetch what is not cached of these files (name, size, digest), several at once; errors as `read`."""
        missing = [one for one in files if not (_root() / "blobs" / one[2]).is_file()]
        if len(missing) > 1:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(_AT_ONCE) as pool:
                waiting = [pool.submit(self.read, *one) for one in missing]
                try:
                    for one in waiting:
                        one.result()
                except TupateHubError:
                    pool.shutdown(cancel_futures=True)
                    raise


@dataclass(frozen=True)
class Fetched:
    """An adapter of a model repository: its folder in the cache, and what the repository says of it."""

    location: Location
    folder: Path
    task: str | None
    base: str | None
    dataset: str | None
    licence: str | None

    @property
    def source(self) -> dict[str, Any]:
        """Where it came from, for the embedding's facts."""
        said = {"dataset": self.dataset, "licence": self.licence}
        known = {name: value for name, value in said.items() if value}
        return {"kind": "hub", "repo": self.location.id, "revision": self.location.revision, **known}


def open_snapshot(location: Location) -> tuple[Snapshot, bytes]:
    """A registry of the Hub and the bytes of its `registry.json`.

    A commit that is cached makes no request, nor does a branch that was asked for a moment ago and was not named.
    Without a network the commit that is cached answers, and `note` says so.

    Raises
    ------
    FormatError
        When it is no registry, or there is none.
    NotAvailableOffline
        When it is not cached and there is no network.
    TupateHubError
        As `hub.get`.
    """
    commit, note = _resolve(location, lambda at: _folder(at) / FILENAME)
    if commit is None:
        answer = hub.get(location, FILENAME, MOST_REGISTRY)
        _require_modest(f"{location}/{FILENAME}", answer.size, MOST_REGISTRY)
        if len(answer.data) != answer.size:
            raise WorkFailed(f"{FILENAME} of {location} arrived in part.", hint="type the command again")
        commit = answer.commit
        _keep(_folder(location.at(commit)) / FILENAME, answer.data)
        _record(location, commit)
    at = location.at(commit)
    return Snapshot(at, _folder(at), note), (_folder(at) / FILENAME).read_bytes()


def fetch_adapter(location: Location) -> Fetched:
    """The configuration and weights of a model repository, and nothing else of it.

    Raises
    ------
    FormatError
        When it holds no adapter of a known library, or one that is too large; said before weights are fetched.
    NotAvailableOffline
        When it is not cached and there is no network.
    TupateHubError
        As `hub.get`.
    """
    commit, _ = _resolve(location, _adapter_folder)
    if commit is None:
        found = hub.info(location)
        commit = str(found["sha"])
        at = location.at(commit)
        if not _adapter_folder(at).is_dir():
            facts = _facts(location, found)
            files = _adapter_files(at, _files(found))
            _keep(_folder(at) / _FACTS, json.dumps(facts, sort_keys=True).encode())
            with contextlib.suppress(TargetExists):  # another process was first, with the same files
                write_folder(_adapter_folder(at), files)
        _record(location, commit)
    at = location.at(commit)
    return Fetched(at, _adapter_folder(at), **json.loads((_folder(at) / _FACTS).read_bytes()))


# --- commits ---------------------------------------------------------------------------------------------------


def _resolve(location: Location, place: Callable[[Location], Path]) -> tuple[str | None, str]:
    """The cached commit that answers, or None where the Hub has to be asked; and a note where it is not sure."""
    recorded, age = _recorded(location)
    if recorded is not None and not place(location.at(recorded)).exists():
        recorded = None
    if location.pinned or recorded is None:
        return recorded, ""
    if location.revision is None and age < FRESH_SECONDS:
        return recorded, ""
    try:
        commit = hub.commit_of(location, _CONFIG if location.kind == hub.MODEL else FILENAME)
    except (NotAvailableOffline, WorkFailed):
        return recorded, f"The Hub does not answer: this is {location.at(recorded)}, as it was {_ago(age)} ago."
    if not place(location.at(commit)).exists():
        return None, ""
    _record(location, commit)
    return commit, ""


def _recorded(location: Location) -> tuple[str | None, float]:
    """The commit that a revision stood for, and how many seconds ago."""
    if location.pinned:
        return location.revision, 0.0
    path = _reference(location)
    try:
        commit, age = path.read_text(encoding="ascii").strip(), max(0.0, time.time() - path.stat().st_mtime)
    except (OSError, ValueError):
        return None, 0.0
    return (commit, age) if re.fullmatch("[0-9a-f]{40}", commit) else (None, 0.0)


def _record(location: Location, commit: str) -> None:
    if not location.pinned:
        _keep(_reference(location), commit.encode())


def _ago(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' * (count > 1)}"
    return "less than a minute"


# --- places ----------------------------------------------------------------------------------------------------


def cache_root() -> Path:
    """Where fetched files go: $TUPATE_HUB_CACHE, else tupate-hub in the user's cache folder."""
    chosen = os.environ.get("TUPATE_HUB_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tupate-hub"


def _root() -> Path:
    return cache_root() / "hub"


def _home(location: Location) -> Path:
    return _root() / f"{location.kind}s--{location.id.replace('/', '--')}"


def _reference(location: Location) -> Path:
    return _home(location) / "refs" / quote(location.revision or "main", safe="")


def _folder(location: Location) -> Path:
    return _home(location) / str(location.revision)


def _adapter_folder(location: Location) -> Path:
    """Called as the repository, because readers name a task by its folder where nothing else does."""
    return _folder(location) / location.id.partition("/")[2]


def _cached(path: Path, size: int, sha256: str) -> bytes | None:
    """A cached file that is what it should be; one that is not is thrown away."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if len(data) == size and hashlib.sha256(data).hexdigest() == sha256:
        return data
    path.unlink(missing_ok=True)
    return None


def _keep(path: Path, data: bytes) -> None:
    try:
        write_bytes(path, data)
    except TupateHubError as error:
        raise WorkFailed(error.message, hint="choose another cache: export TUPATE_HUB_CACHE=DIR") from error


def _require_modest(where: str, size: int, most: int) -> None:
    if size > most:
        raise FormatError(f"{where} claims {size} bytes; at most {most} are fetched.", hint="ask who published it")


def _require_right(where: str, answer: hub.Answer, size: int, sha256: str | None) -> None:
    if answer.size != size or len(answer.data) != size:
        raise FormatError(
            f"{where} has {answer.size} bytes, {size} were announced: it was not kept.", hint="tell who published it"
        )
    if sha256 is not None and hashlib.sha256(answer.data).hexdigest() != sha256:
        raise FormatError(
            f"{where} has another content than was announced: it was not kept.",
            hint="type the command again; if it stays so, tell who published it",
        )


# --- adapters --------------------------------------------------------------------------------------------------


def _files(found: Mapping[str, Any]) -> dict[str, tuple[int, str | None]]:
    """Size and, where it is known, sha256 of the files at the top of a repository."""
    files: dict[str, tuple[int, str | None]] = {}
    for one in found.get("siblings") or ():
        if isinstance(one, dict) and isinstance(one.get("rfilename"), str) and type(one.get("size")) is int:
            lfs = one.get("lfs")
            files[one["rfilename"]] = (one["size"], lfs.get("sha256") if isinstance(lfs, dict) else None)
    return {name: files[name] for name in files if "/" not in name}


def _adapter_files(at: Location, files: Mapping[str, tuple[int, str | None]]) -> dict[str, bytes]:
    """The configuration and the weights that go with it."""
    from tupate_hub.readers.layouts import LAYOUTS

    if _CONFIG not in files:
        raise FormatError(
            f"{at} holds no adapter: it has no {_CONFIG}.", hint=f"see what it holds: {at.page}/tree/main"
        )
    config = _fetch(at, _CONFIG, files, _MOST_CONFIG)
    try:
        fields = json.loads(config.decode("utf-8-sig"))
        layout = next((one for one in LAYOUTS if one.config is not None and one.config(fields)), None)
    except (ValueError, RecursionError, TypeError, AttributeError) as error:
        raise FormatError(f"{_CONFIG} of {at} is no JSON object.") from error
    if layout is None:
        raise FormatError(f"{_CONFIG} of {at} is of no library that is known.")
    names = (name for pattern in layout.weights for name in sorted(files) if fnmatchcase(name, pattern))
    weights = next(names, None)
    if weights is None:
        raise FormatError(f"{at} holds a configuration and no weights: {' or '.join(layout.weights)} is missing.")
    return {_CONFIG: config, weights: _fetch(at, weights, files, MOST_FILE)}


def _fetch(at: Location, name: str, files: Mapping[str, tuple[int, str | None]], most: int) -> bytes:
    size, sha256 = files[name]
    _require_modest(f"{at}/{name}", size, most)
    answer = hub.get(at, name, size)
    _require_right(f"{at}/{name}", answer, size, sha256)
    return answer.data


def _facts(location: Location, found: Mapping[str, Any]) -> dict[str, str | None]:
    """Task, base model, dataset and licence by the card's tags, the task by the repository's name where need be."""
    tags = [tag for tag in found.get("tags") or () if isinstance(tag, str)]
    kinds = ("adapterhub", "dataset", "license", "base_model:adapter", "base_model")
    tagged = {kind: [tag[len(kind) + 1 :] for tag in tags if tag.startswith(f"{kind}:")] for kind in kinds}
    datasets = tagged["dataset"]
    task = tagged["adapterhub"][0].rpartition("/")[2] if tagged["adapterhub"] else None
    if task is None and len(datasets) == 1 and datasets[0] not in _COLLECTIONS:
        task = datasets[0].rpartition("/")[2]
    name = location.id.partition("/")[2]
    bases = tagged["base_model:adapter"] or [base for base in tagged["base_model"] if ":" not in base]
    return {
        "task": task or name.rpartition("-pf-")[2],
        "base": bases[0] if bases else None,
        "dataset": ", ".join(datasets) or None,
        "licence": tagged["license"][0] if tagged["license"] else None,
    }
