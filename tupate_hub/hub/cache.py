"""Remote: repositories of the Hub as files of a cache, by commit. What is cached is never asked for again.

Below the cache's root: `hub/blobs/<sha256>` holds the files of registries, whichever commit or repository they come
from; `hub/<kind>s--<owner>--<name>/refs/<revision>` the commit that a branch stood for when it was last asked for, and
`.../<commit>/` the `registry.json` of that commit with its sha256, or the adapter (see `download`). A Hub of another
address than the public one has folders of its own. What is not as it came is asked for again.

`client` is imported where something is asked for: an answer from the cache starts sooner without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tupate_hub.errors import FormatError, NotAvailableOffline, TupateHubError, WorkFailed
from tupate_hub.hub.location import COMMIT, PUBLIC, Location, endpoint
from tupate_hub.registry import FILENAME
from tupate_hub.storage.atomic import write_bytes
from tupate_hub.storage.registry_json import parse_registry

if TYPE_CHECKING:
    from tupate_hub.hub.client import Answer

#: So long a branch that was not named is taken to stand where it stood: `OWNER/NAME@main` asks each time.
FRESH_SECONDS = 300.0
_WORTH_SAYING = 60.0
MOST_REGISTRY = 64_000_000
MOST_FILE = 1_000_000_000
_HEADER = 64_000
_DIGEST = f"{FILENAME}.sha256"
_AT_ONCE = 8


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
            As `client.get`.
        """
        path = _root() / "blobs" / sha256
        cached = _cached(path, size, sha256)
        if cached is not None:
            return cached
        from tupate_hub.hub import client

        require_modest(self.where(file), size, MOST_FILE)
        answer = client.get(self.location, file, size)
        require_right(self.where(file), answer, size, sha256)
        keep(path, answer.data)
        return answer.data

    def outline(self, file: str, size: int, sha256: str) -> bytes:
        """A safetensors file whose header alone was fetched, by its range, with zeros for numbers; whole where cached.

        The digest, which is that of the whole file, cannot be checked. Errors as `read`.
        """
        path = _root() / "blobs" / sha256
        if path.is_file():
            return self.read(file, size, sha256)
        from tupate_hub.hub import client
        from tupate_hub.storage.safetensors import header_length

        require_modest(self.where(file), size, MOST_FILE)
        answer = client.get(self.location, file, min(_HEADER, size) - 1)
        if answer.size == size:
            wanted = 8 + header_length(answer.data, self.where(file), size)
            if wanted > len(answer.data):
                answer = client.get(self.location, file, wanted - 1)
        if answer.size != size:
            require_right(self.where(file), answer, size, None)
        return answer.data.ljust(size, b"\0")

    def prefetch(self, files: Iterable[tuple[str, int, str]]) -> None:
        """Fetch what is not cached of these files (name, size, digest), several at once; errors as `read`."""
        missing = [one for one in files if not (_root() / "blobs" / one[2]).is_file()]
        if len(missing) > 1:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(_AT_ONCE) as pool:
                waiting = [pool.submit(self._fetch, one) for one in missing]
                try:
                    for one in waiting:
                        one.result()
                except TupateHubError:
                    pool.shutdown(cancel_futures=True)
                    raise

    def _fetch(self, place: tuple[str, int, str]) -> None:
        """Have a file in the cache, and hold nothing of it."""
        self.read(*place)


def open_snapshot(location: Location) -> tuple[Snapshot, bytes]:
    """A registry of the Hub and the bytes of its `registry.json`.

    A commit that is cached makes no request, nor does a branch that was asked for a moment ago and was not named.
    Without a network the commit that is cached answers, and `note` says so.

    Raises
    ------
    FormatError
        When it is not a registry, or does not exist.
    NotAvailableOffline
        When it is not cached and there is no network.
    TupateHubError
        As `client.get`.
    """
    commit, note = cached_commit(location, lambda at: _kept_registry(at) is not None, FILENAME)
    text = _kept_registry(location.at(commit)) if commit is not None else None
    if commit is None or text is None:
        from tupate_hub.hub import client

        answer = client.get_whole(location, FILENAME, MOST_REGISTRY)
        require_modest(f"{location}/{FILENAME}", answer.size, MOST_REGISTRY)
        commit, text = answer.commit, answer.data
        parse_registry(text, f"{location.at(commit)}/{FILENAME}")  # what is none is not kept
        keep_snapshot(location, commit, text)
    at = location.at(commit)
    return Snapshot(at, folder(at), note), text


def keep_snapshot(location: Location, commit: str, text: bytes) -> None:
    """Keep in the cache that a revision stands for a commit now, and the `registry.json` of that."""
    place = folder(location.at(commit))
    keep(place / FILENAME, text)
    keep(place / _DIGEST, hashlib.sha256(text).hexdigest().encode())
    record(location, commit)


def _kept_registry(at: Location) -> bytes | None:
    """The `registry.json` that is cached of a commit; None where there is none, or not as it came."""
    try:
        text, digest = (folder(at) / FILENAME).read_bytes(), (folder(at) / _DIGEST).read_bytes()
    except OSError:
        return None
    return text if hashlib.sha256(text).hexdigest().encode() == digest else None


# --- commits ---------------------------------------------------------------------------------------------------


def cached_commit(location: Location, cached: Callable[[Location], bool], file: str) -> tuple[str | None, str]:
    """The cached commit that answers, or None where the Hub has to be asked; and a note where it is not sure.

    `cached` says whether the cache has a commit; the head of `file` tells whether a branch has moved.
    """
    recorded, age = _recorded(location)
    if recorded is not None and not cached(location.at(recorded)):
        recorded = None
    if location.pinned or recorded is None:
        return recorded, ""
    if location.revision is None and age < FRESH_SECONDS:
        return recorded, f"registry {location.at(recorded)}, as it was {_ago(age)} ago" if age >= _WORTH_SAYING else ""
    from tupate_hub.hub import client

    try:
        commit = client.commit_of(location, file)
    except (NotAvailableOffline, WorkFailed):
        return recorded, f"The Hub does not answer: this is {location.at(recorded)}, as it was {_ago(age)} ago."
    if not cached(location.at(commit)):
        return None, ""
    record(location, commit)
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
    return (commit, age) if COMMIT.fullmatch(commit) else (None, 0.0)


def record(location: Location, commit: str) -> None:
    """Keep that a branch stands for a commit now, where the cache can be written to: else it is asked for again."""
    if not location.pinned:
        with contextlib.suppress(WorkFailed):
            keep(_reference(location), commit.encode())


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


def blob(sha256: str) -> Path:
    """Where a file of a registry lies that was fetched."""
    return _root() / "blobs" / sha256


def _home(location: Location) -> Path:
    """The folder of a repository; a Hub of another address than the public one has others under the same names."""
    where = "" if endpoint() == PUBLIC else f"@{quote(endpoint().partition('://')[2], safe='')}"
    return _root() / f"{location.kind}s--{location.id.replace('/', '--')}{where}"


def _reference(location: Location) -> Path:
    return _home(location) / "refs" / quote(location.revision or "main", safe="")


def folder(location: Location) -> Path:
    """The cache's folder of a repository at a commit."""
    return _home(location) / str(location.revision)


def _cached(path: Path, size: int, sha256: str) -> bytes | None:
    """A cached file that is what it should be; one that is not is thrown away."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if len(data) == size and hashlib.sha256(data).hexdigest() == sha256:
        return data
    with contextlib.suppress(OSError):  # a cache that is only read
        path.unlink()
    return None


def keep(path: Path, data: bytes, durable: bool = True) -> None:
    """Write a file of the cache; `durable` as in `write_bytes`.

    Raises
    ------
    WorkFailed
        When the cache cannot be written to.
    """
    try:
        write_bytes(path, data, durable=durable)
    except TupateHubError as error:
        raise WorkFailed(error.message, hint="choose another cache: export TUPATE_HUB_CACHE=DIR") from error


def require_modest(where: str, size: int, most: int) -> None:
    """Refuse a file that claims to be larger than any of its kind, before it is fetched."""
    if size > most:
        raise FormatError(f"{where} claims {size} bytes; at most {most} are fetched.", hint="ask its publisher")


def require_right(where: str, answer: Answer, size: int, sha256: str | None) -> None:
    """Refuse what has another size or, where that is known, another digest than was announced."""
    if answer.size != size or len(answer.data) != size:
        raise FormatError(
            f"{where} has {answer.size} bytes, {size} were announced: it was not kept.", hint="tell its publisher"
        )
    if sha256 is not None and hashlib.sha256(answer.data).hexdigest() != sha256:
        raise FormatError(
            f"{where} does not have the announced content: it was not kept.",
            hint="retry; if it happens again, tell its publisher",
        )
