"""Hub: one question to the Hugging Face Hub and its answer, or an error that says what to do. Nothing is kept here.

The bytes come through the client's own session (its proxies, certificates and token) by one GET for each file. The
client's `hf_hub_download` (0.36 to 2.4) asks twice for each file, checks no sha256, and tries an unreachable Hub for
23 seconds. The protocol is that of `/resolve`, `/api/models` and their headers X-Repo-Commit and X-Error-Code.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from tupate_hub.errors import FormatError, NotAvailableOffline, TupateHubError, WorkFailed

DATASET, MODEL = "dataset", "model"

_SCHEME = "hf://"
_PART = r"[A-Za-z0-9](?:[\w.-]{0,94}\w)?"
_SHORT = re.compile(rf"({_PART}/{_PART})(?:@([\w./-]{{1,200}}))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PAUSES = (0.2, 0.5)
_LONGEST_WAIT = 20.0
_QUICK = 2.0
_SECONDS = 10.0
_TRUE = ("1", "ON", "YES", "TRUE")


@dataclass(frozen=True)
class Location:
    """A repository of the Hub: `kind` is `dataset` or `model`, `revision` a branch, tag or commit, or None."""

    kind: str
    id: str
    revision: str | None = None

    def __str__(self) -> str:
        """As the user may write it."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{_SCHEME}{'datasets/' if self.kind == DATASET else ''}{self.id}{revision}"

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which always stands for the same files."""
        return bool(self.revision and _COMMIT.fullmatch(self.revision))

    def at(self, revision: str) -> Location:
        """The same repository at another revision."""
        return replace(self, revision=revision)

    @property
    def page(self) -> str:
        """Its page for people."""
        return f"{endpoint()}/{'datasets/' if self.kind == DATASET else ''}{self.id}"


@dataclass(frozen=True)
class Answer:
    """The first bytes of a file, at which commit it lies, and the size of the whole file."""

    data: bytes
    commit: str
    size: int


def parse_location(written: str, kind: str) -> Location | None:
    """What `hf://datasets/OWNER/NAME[@REVISION]`, `hf://OWNER/NAME` or `OWNER/NAME` names; None for anything else.

    `kind` is what is wanted: `OWNER/NAME` is one of that kind.

    Raises
    ------
    FormatError
        For an `hf://` that names no repository, or one of the other kind.
    """
    explicit = written.startswith(_SCHEME)
    short = written.removeprefix(_SCHEME)
    found = MODEL if explicit else kind
    if explicit and short.startswith("datasets/"):
        short, found = short.removeprefix("datasets/"), DATASET
    match = _SHORT.fullmatch(short)
    if match is None or ".." in short or "--" in match[1]:
        if explicit:
            raise FormatError(
                f"{written!r} names no repository of the Hub.", hint=f"write it as {Location(kind, 'OWNER/NAME')}"
            )
        return None
    if found != kind:
        raise FormatError(
            f"{written} is a {found} repository; a {kind} repository is wanted here.",
            hint=f"write it as {Location(kind, 'OWNER/NAME')}",
        )
    return Location(kind, match[1], match[2])


def endpoint() -> str:
    """The Hub's address: HF_ENDPOINT, else the public one."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def offline() -> bool:
    """Whether the user wants no network: HF_HUB_OFFLINE."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


def get(location: Location, file: str, most: int) -> Answer:
    """The first `most` bytes of a file, and one more where it is longer. One request.

    Raises
    ------
    FormatError
        When there is no such repository, revision or file.
    TupateHubError
        When the caller may not read it.
    NotAvailableOffline
        When there is no network.
    WorkFailed
        When the Hub fails, or asks to be left alone.
    """
    response = _ask("GET", location, _address(location, file), file, {"Range": f"bytes=0-{most}"})
    if response.status_code == 416:  # the range of an empty file
        return Answer(b"", _commit(location, response), 0)
    whole = re.fullmatch(r"bytes \d+-\d+/(\d+)", response.headers.get("Content-Range") or "")
    data = bytes(response.content)
    return Answer(data[: most + 1], _commit(location, response), int(whole[1]) if whole else len(data))


def commit_of(location: Location, file: str) -> str:
    """The commit that a revision stands for now, asked by the head of a file; errors as `get`."""
    return _commit(location, _ask("HEAD", location, _address(location, file), file, {}))


def info(location: Location) -> Mapping[str, Any]:
    """What the Hub says of a repository: `sha`, `tags`, `siblings` with sizes and hashes; errors as `get`."""
    revision = f"/revision/{quote(location.revision, safe='')}" if location.revision else ""
    url = f"{endpoint()}/api/{location.kind}s/{location.id}{revision}?blobs=true"
    response = _ask("GET", location, url, "", {})
    try:
        found = json.loads(response.content)
    except (ValueError, RecursionError) as error:
        raise WorkFailed(f"The Hub's answer about {location} is not JSON.", hint="try again") from error
    if not isinstance(found, dict) or not _COMMIT.fullmatch(str(found.get("sha"))):
        raise WorkFailed(f"The Hub's answer about {location} names no commit.", hint="try again")
    return found


# --- requests --------------------------------------------------------------------------------------------------


def _address(location: Location, file: str) -> str:
    return f"{location.page}/resolve/{quote(location.revision or 'main', safe='')}/{quote(file)}"


def _ask(method: str, location: Location, url: str, file: str, headers: Mapping[str, str]) -> Any:
    """An answer of the Hub. Failures that pass are tried again, three times in all and only where that is quick."""
    from huggingface_hub.utils import build_hf_headers, get_session

    from tupate_hub import __version__

    if offline():
        raise unreachable(location, file)
    sent = {**build_hf_headers(library_name="tupate-hub", library_version=__version__), **headers}
    sent["Accept-Encoding"] = "identity"
    for pause in (*_PAUSES, None):
        began = time.monotonic()
        try:
            response = get_session().request(method, url, headers=sent, timeout=_SECONDS)
        except Exception as error:  # each version of the client has its own
            if not _is_of_the_network(error):
                raise
            if pause is None or time.monotonic() - began > _QUICK:
                raise unreachable(location, file) from error
        else:
            if response.status_code < 400 or response.status_code == 416:
                return response
            pause = _worth_waiting(response, pause)
            if pause is None:
                raise _refusal(location, file, response, "authorization" in sent)
        time.sleep(pause)
    raise unreachable(location, file)  # not reached: the last round raises or returns


def _is_of_the_network(error: Exception) -> bool:
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore")


def _worth_waiting(response: Any, pause: float | None) -> float | None:
    """How long to wait before the next try; None where there shall be none."""
    if pause is None or response.status_code not in (429, 500, 502, 503, 504):
        return None
    after = _retry_after(response)
    return pause if after is None else after if after <= _LONGEST_WAIT else None


def _retry_after(response: Any) -> float | None:
    text = str(response.headers.get("Retry-After") or "")
    return float(text) if re.fullmatch(r"\d{1,6}", text) else None


def _commit(location: Location, response: Any) -> str:
    for one in (*response.history, response):
        commit = str(one.headers.get("X-Repo-Commit"))
        if _COMMIT.fullmatch(commit):
            return commit
    raise WorkFailed(f"{endpoint()} answered for {location} as no Hub does: no commit.", hint="look at HF_ENDPOINT")


@contextlib.contextmanager
def not_on_this_disk(written: str) -> Iterator[None]:
    """Say of `OWNER/NAME`, which may have been meant as a path, that there is no such path either."""
    try:
        yield
    except (FormatError, NotAvailableOffline) as error:
        if written.startswith(_SCHEME):
            raise
        raise type(error)(f"{written} does not exist on this disk. {error.message}", hint=error.hint) from error


# --- refusals --------------------------------------------------------------------------------------------------


def unreachable(location: Location, file: str) -> NotAvailableOffline:
    """An error for what is not in the cache while there is no network."""
    what = f"{file} of {location}" if file else str(location)
    if offline():
        return NotAvailableOffline(
            f"{what} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it.",
            hint="unset HF_HUB_OFFLINE, then type the command again",
        )
    return NotAvailableOffline(
        f"{what} is not in the cache, and {endpoint()} cannot be reached.",
        hint="type the command again with a network, or leave out --registry for the bundled zoo",
    )


def _refusal(location: Location, file: str, response: Any, known: bool) -> TupateHubError:
    """What an answer of 400 or more means to the user; `known` says whether a token was sent, which is never shown."""
    code, status = str(response.headers.get("X-Error-Code") or ""), int(response.status_code)
    sign_in = "hf auth login" if not known else f"sign in as someone who may: hf auth login; {location.page}"
    if code == "GatedRepo":
        accept = f"accept its terms on {location.page}"
        return TupateHubError(f"{location} is gated.", hint=accept if known else f"{accept}, then: hf auth login")
    if code == "RevisionNotFound":
        return FormatError(
            f"{location} is gone or never was: the repository has no revision {location.revision or 'main'!r}.",
            hint=f"take its newest: {replace(location, revision=None)}",
        )
    if code == "EntryNotFound":
        return FormatError(f"{location} has no {file}.", hint=f"see what it holds: {location.page}/tree/main")
    if code == "RepoNotFound":
        return FormatError(
            f"The Hub has no {location.kind} repository {location.id}, or it is private.",
            hint=f"check the name, and if it is private: {sign_in}",
        )
    if status == 401:
        return TupateHubError("The Hub does not know the token that is set.", hint="hf auth login, or unset HF_TOKEN")
    if status == 403:
        return TupateHubError(f"The Hub forbids to read {location}.", hint=sign_in)
    if status == 429:
        after = _retry_after(response)
        when = f"in {after:.0f} s" if after else "in a minute"
        more = "" if known else "; signed in one may ask more often: hf auth login"
        return WorkFailed("The Hub asks for fewer requests.", hint=f"type the command again {when}{more}")
    return WorkFailed(f"The Hub failed with status {status} on {location}.", hint="type the command again in a minute")
