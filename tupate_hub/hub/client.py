"""Hub: one request to the Hugging Face Hub and its answer, or an error that says what to do. Nothing is kept here.

The bytes come through the client's own session (its proxies, certificates and token) by one GET for each file. The
client's `hf_hub_download` (0.36 to 2.4) asks twice for each file, keeps damaged bytes, and tries an unreachable Hub for
23 seconds; its `list_models` waits without end for a Hub that does not answer (`tests/hub/test_library.py`). The
protocol is that of `/resolve`, `/api/models` and their headers X-Repo-Commit and X-Error-Code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from tupate_hub.errors import WorkFailed
from tupate_hub.hub import rate_limit
from tupate_hub.hub.errors import http_error, retry_after, storage_error, unreachable
from tupate_hub.hub.location import COMMIT, MODEL, Location, endpoint, offline

_PAUSES = (0.2, 0.5)
_LONGEST_WAIT = 20.0
_BLIND_WAIT = 10.0
_QUICK = 2.0
_SECONDS = 10.0
_SECONDS_TO_WRITE = 120.0


@dataclass(frozen=True)
class Answer:
    """The first bytes of a file, at which commit it lies, and the size of the whole file.

    `digest` is what the Hub says of the whole: its sha256 in LFS, else git's name of it; "" where it says neither.
    """

    data: bytes
    commit: str
    size: int
    digest: str = ""

    @property
    def damaged(self) -> bool:
        """Whether the bytes, which must be the whole file, are not those that the Hub has."""
        if len(self.digest) == 64:
            return self.digest != hashlib.sha256(self.data).hexdigest()
        return bool(self.digest) and self.digest != git_name(self.data)


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
    size = int(whole[1]) if whole else len(data)
    return Answer(data[: most + 1], _commit(location, response), size, _digest(location, response))


def git_name(data: bytes) -> str:
    """Git's name of a file's content: what the Hub's ETag is for a file that is not in LFS."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def commit_of(location: Location, file: str) -> str:
    """The commit that a revision stands for now, asked by the head of a file; errors as `get`."""
    return _commit(location, _ask("HEAD", location, _address(location, file), file, {}))


def info(location: Location) -> Mapping[str, Any]:
    """What the Hub says of a repository: `sha`, `tags`, `siblings` with sizes and hashes; errors as `get`."""
    revision = f"/revision/{quote(location.revision, safe='')}" if location.revision else ""
    url = f"{endpoint()}/api/{location.kind}s/{location.id}{revision}?blobs=true"
    found = _document(location, _ask("GET", location, url, "", {}))
    if not isinstance(found, dict) or not COMMIT.fullmatch(str(found.get("sha"))):
        raise WorkFailed(f"The Hub's answer about {location} does not name a commit.", hint="retry")
    return found


def models(query: str) -> tuple[list[Any], str]:
    """A page of the model repositories that fit a query, as the Hub describes each, and the query for the next or "".

    Errors as `get`.
    """
    where = Location(MODEL, "models")
    response = _ask("GET", where, f"{endpoint()}/api/models?{query}", "", {})
    found = _document(where, response)
    if not isinstance(found, list):
        raise WorkFailed(f"{endpoint()} lists models as a Hub would not.", hint="look at HF_ENDPOINT")
    following = re.search(r'<([^<>]*)>;\s*rel="next"', response.headers.get("Link") or "")
    return found, urlsplit(following[1]).query if following else ""


@contextlib.contextmanager
def understood(location: Location) -> Iterator[None]:
    """Around the reading of an answer, which may hold anything.

    Raises
    ------
    WorkFailed
        When something is not there, or is of another type.
    """
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise WorkFailed(f"{endpoint()} answered for {location} as no Hub does.", hint="look at HF_ENDPOINT") from error


def _document(location: Location, response: Any) -> Any:
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError) as error:
        raise WorkFailed(f"The Hub's answer about {location} is not JSON.", hint="retry") from error


# --- writing ---------------------------------------------------------------------------------------------------


def signed_in() -> bool:
    """Whether a token is set, which is needed to write."""
    from huggingface_hub import get_token

    return get_token() is not None


def post(location: Location, url: str, body: bytes, kind: str = "application/json") -> Any:
    """The JSON that the Hub answers to what is sent to it; of a type other than JSON if `kind` says so.

    Raises
    ------
    BranchMoved
        When what is to be made is there (409), or is no longer as it was (412).
    TupateHubError
        When the caller may not write there.
    NotAvailableOffline, WorkFailed
        As `get`.
    """
    headers = {"Content-Type": kind, "Accept": kind if kind.endswith("+json") else "application/json"}
    return _document(location, _ask("POST", location, url, "", headers, body))


def put(location: Location, url: str, body: bytes) -> None:
    """Send bytes to where the Hub said that they go, which gets no token; errors as `post`."""
    _ask("PUT", location, url, "", {}, body)


# --- requests --------------------------------------------------------------------------------------------------


def _address(location: Location, file: str) -> str:
    return f"{location.page}/resolve/{quote(location.revision or 'main', safe='')}/{quote(file)}"


def _ask(
    method: str, location: Location, url: str, file: str, headers: Mapping[str, str], body: bytes | None = None
) -> Any:
    """An answer of the Hub. Inside of `waiting_allowed`, the requests of all threads wait for its rate limit."""
    from huggingface_hub.utils import build_hf_headers

    from tupate_hub import __version__

    if offline():
        raise unreachable(location, file, endpoint(), offline())
    token = False if method == "PUT" else None  # None: that of the user, where there is one
    sent = {**build_hf_headers(token=token, library_name="tupate-hub", library_version=__version__), **headers}
    sent["Accept-Encoding"] = "identity"
    budget = rate_limit.wait_budget()
    left = budget.seconds
    while True:
        response = _try(method, location, url, file, sent, body)
        if response.status_code < 400 or response.status_code == 416:
            return response
        said = retry_after(response)
        wait = _BLIND_WAIT if said is None else max(said, _PAUSES[0])
        if response.status_code != 429 or wait > left:
            if method == "PUT":
                raise storage_error(response)
            raise http_error(location, file, response, "authorization" in sent, method == "POST")
        left -= wait
        if rate_limit.RATE_LIMIT.pause(wait):
            budget.tell(wait)


def _try(method: str, location: Location, url: str, file: str, sent: Mapping[str, str], body: bytes | None) -> Any:
    """Whatever the Hub answers. Failures that pass are tried again, three times in all and only where that is quick."""
    from huggingface_hub.utils import get_session

    for pause in (*_PAUSES, None):
        rate_limit.RATE_LIMIT.wait(rate_limit.wait_budget().over)
        began = time.monotonic()
        try:
            response = _request(get_session(), method, url, headers=sent, body=body)
        except Exception as error:  # each version of the client has its own
            if not _is_of_the_network(error):
                raise
            if pause is None or time.monotonic() - began > _QUICK:
                raise unreachable(location, file, endpoint(), offline()) from error
        else:
            pause = _worth_waiting(response, pause)
            if pause is None:
                return response
        time.sleep(pause)
    raise unreachable(location, file, endpoint(), offline())  # not reached: the last round ends it


def _request(session: Any, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Any:
    if body is None:
        return session.request(method, url, headers=headers, timeout=_SECONDS)
    name = "data" if hasattr(session, "mount") else "content"  # requests up to 0.36, httpx from 1.0
    return session.request(method, url, headers=headers, timeout=_SECONDS_TO_WRITE, **{name: body})


def _is_of_the_network(error: Exception) -> bool:
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore")


def _worth_waiting(response: Any, pause: float | None) -> float | None:
    """How long to wait before the next try; None where there shall be none."""
    if pause is None or response.status_code not in (429, 500, 502, 503, 504):
        return None
    if response.status_code == 429 and rate_limit.wait_budget().seconds:
        return None  # all threads wait, not this one alone
    after = retry_after(response)
    return pause if after is None else after if after <= _LONGEST_WAIT else None


def _commit(location: Location, response: Any) -> str:
    return str(_own(location, response)["X-Repo-Commit"])


def _digest(location: Location, response: Any) -> str:
    said = _own(location, response)
    match = re.fullmatch(r'(?:W/)?"?([0-9a-f]{40}|[0-9a-f]{64})"?', said.get("X-Linked-Etag") or said.get("ETag") or "")
    return match[1] if match else ""


def _own(location: Location, response: Any) -> Any:
    """The headers of the Hub's own answer, which names the commit: the storage that it redirects to has others."""
    for one in (*response.history, response):
        if COMMIT.fullmatch(str(one.headers.get("X-Repo-Commit"))):
            return one.headers
    raise WorkFailed(f"{endpoint()} answered for {location} as a Hub would not: no commit.", hint="look at HF_ENDPOINT")
