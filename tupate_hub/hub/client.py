"""Client: the small requests that a question makes of the Hub, one for each file, and their answers. Nothing is kept.

The library's `hf_hub_download` (0.36 to 2.4) asks twice for each file and keeps damaged bytes
(`tests/hub/test_library.py`); a registry's small files come by a single GET instead, whose bytes can be checked before
anything keeps them. The protocol is that of `/resolve`, with its headers X-Repo-Commit and X-Error-Code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tupate_hub.errors import Unanswered, WorkFailed
from tupate_hub.hub.digest import has_digest
from tupate_hub.hub.errors import http_error, translated
from tupate_hub.hub.location import COMMIT, Location, endpoint, offline
from tupate_hub.hub.session import limited


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
        return bool(self.digest) and not has_digest(self.data, self.digest)


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
    return _get(location, file, 0, most + 1)


def get_range(location: Location, file: str, start: int, stop: int) -> Answer:
    """The bytes of a file from `start` to `stop`, that one left out. One request; errors as `get`.

    Raises
    ------
    WorkFailed
        When others arrived, or not all.
    """
    answer = _get(location, file, start, stop)
    if len(answer.data) != stop - start:
        raise WorkFailed(f"{file} of {location} arrived damaged: not kept.", hint="retry")
    return answer


def get_whole(location: Location, file: str, most: int) -> Answer:
    """A file of at most `most` bytes, as the Hub has it where it says how; of a larger one `get` tells the size.

    Raises
    ------
    WorkFailed
        When it arrived damaged.
    TupateHubError
        As `get`.
    """
    answer = get(location, file, most)
    if answer.size <= most and (answer.damaged or len(answer.data) != answer.size):
        raise WorkFailed(f"{file} of {location} arrived damaged: not kept.", hint="retry")
    return answer


def commit_of(location: Location, file: str) -> str:
    """The commit that a revision stands for now, asked by the head of a file; errors as `get`."""
    return _commit(location, _ask("HEAD", location, _address(location, file), file, {}, 0))


# --- requests --------------------------------------------------------------------------------------------------


def _address(location: Location, file: str) -> str:
    return f"{location.page}/resolve/{quote(location.revision or 'main', safe='')}/{quote(file)}"


def _ask(method: str, location: Location, url: str, file: str, headers: Mapping[str, str], most: int) -> Any:
    """An answer below 400, or 416, by the library's own session: its proxies, certificates and token."""
    from huggingface_hub.utils import build_hf_headers, get_session

    from tupate_hub import __version__

    sent = {**build_hf_headers(library_name="tupate-hub", library_version=__version__), **headers}
    sent["Accept-Encoding"] = "identity"
    try:
        with limited(most):
            response: Any = get_session().request(method, url, headers=sent)
    except Exception as error:
        response = getattr(error, "response", None) if isinstance(error, Unanswered) else None
        if response is None:
            meaning = translated(error, location, file, endpoint(), offline())
            if meaning is None:
                raise
            raise meaning from error
    if response.status_code >= 400 and response.status_code != 416:
        raise http_error(location, file, response, "authorization" in sent)
    return response


def _get(location: Location, file: str, start: int, stop: int) -> Answer:
    """What the file has of these bytes; from `start` on where the Hub sends the whole of it instead."""
    asked = {"Range": f"bytes={start}-{stop - 1}"}
    response = _ask("GET", location, _address(location, file), file, asked, stop - start)
    if response.status_code == 416:
        if response.headers.get("Content-Range") != "bytes */0":  # an empty file has no range
            raise http_error(location, file, response, "authorization" in response.request.headers)
        return Answer(b"", _commit(location, response), 0, _digest(location, response))
    told = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range") or "")
    data = bytes(response.content)
    size = int(told[2]) if told else len(data)
    began = int(told[1]) if told else 0
    data = data[: stop - start] if began == start else data[start:stop] if not began else b""
    return Answer(data, _commit(location, response), size, _digest(location, response))


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
    raise WorkFailed(
        f"{endpoint()} did not answer for {location} as a Hub does: no commit.", hint="look at HF_ENDPOINT"
    )
