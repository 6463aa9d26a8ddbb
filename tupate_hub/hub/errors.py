"""Errors: what it means to the user that the Hub cannot be reached, or answers with a status of 400 or more.

`translated` is the one table for whatever huggingface_hub raises (0.36 to 2.4), and what is raised while it works.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tupate_hub.errors import (
    BranchMoved,
    FormatError,
    NoRepository,
    NoRevision,
    NotAvailableOffline,
    RateLimited,
    TupateHubError,
    Unanswered,
    WorkFailed,
)

if TYPE_CHECKING:
    from tupate_hub.hub.location import Location

CUT_OFF = "its answer was cut off"
_CUT_OFF = ("ChunkedEncodingError", "ContentDecodingError", "RemoteProtocolError", "DecodingError")
#: Whoever repeats a token must not have it shown.
_TOKEN = re.compile(r"hf_\w+")
_OF_THE_NETWORK = ("requests", "urllib3", "httpx", "httpx2", "httpcore")


def translated(error: Exception, location: Location, file: str, endpoint: str, offline: bool) -> TupateHubError | None:
    """What an error that left a call of the library means to the user; None where it speaks for itself, or is a bug.

    `location` and `file` are what the call was about.
    """
    if isinstance(error, TupateHubError):
        return None
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, TupateHubError):
            return cause
        if getattr(getattr(cause, "response", None), "status_code", 0) >= 400:
            return _answered(location, file, cause.response)  # type: ignore[attr-defined]
    if why := _instead(causes):
        return WorkFailed(f"{endpoint} did not answer for {location}: {why}.", hint="retry in a minute")
    if any(_is_of_the_network(cause) for cause in causes):
        return unreachable(location, file, endpoint, offline)
    if isinstance(error, OSError) and not isinstance(error, ValueError):
        return _not_kept(error, f"{file} of {location}" if file else str(location))
    if isinstance(error, ValueError) and (refusal := _refused(str(error))):
        return refusal
    return _of_the_library(error, location, endpoint)


def _of_the_library(error: Exception, location: Location, endpoint: str) -> WorkFailed | None:
    """What it means where the library stumbled over an answer."""
    if isinstance(error, (LookupError, TypeError, AttributeError, ValueError, RecursionError)):
        return no_hub(location, endpoint)
    if isinstance(error, RuntimeError):  # those of xet are no others
        return WorkFailed(
            f"The Hub's storage failed: {_one_line(str(error))}.",
            hint="retry, or without xet: export HF_HUB_DISABLE_XET=1",
        )
    return None


def _instead(causes: Iterable[BaseException]) -> str:
    """What the Hub did instead of answering, "" where that is not known."""
    for cause in causes:
        if isinstance(cause, Unanswered):
            return cause.why
        if type(cause).__name__ in _CUT_OFF:
            return CUT_OFF
    return ""


def _not_kept(error: OSError, what: str) -> WorkFailed:
    """Of a file that came to its end: the disk did not take it, or, without a number, the bytes were too few."""
    if error.errno is None:
        return WorkFailed(f"{what} arrived damaged: it was not kept.", hint="retry")
    return WorkFailed(
        f"{what} cannot be kept: {error.strerror}.", hint="choose another cache of the Hub: export HF_HOME=DIR"
    )


def _refused(said: str) -> TupateHubError | None:
    """What the library makes of refusals that come with a status of 200."""
    first, _, rest = said.partition("\n")
    if "LFS batch" in first:
        quoted = re.search(r"`([^`\n]*)", rest)
        why = _one_line(quoted[1] if quoted else rest)
        return WorkFailed(f"The Hub's storage refused a file: {why}.", hint="retry")
    if first.startswith("Invalid metadata"):
        return FormatError(f"The Hub refuses the card: {_one_line(rest)}.", hint="mend the card's front matter")
    return None


def no_hub(location: Location, endpoint: str) -> WorkFailed:
    """An error for an answer in which something is missing, or is of another type."""
    return WorkFailed(f"{endpoint} did not answer for {location} as a Hub does.", hint="look at HF_ENDPOINT")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_of_the_network(error: BaseException) -> bool:
    if isinstance(error, json.JSONDecodeError):  # that of requests is one of its network errors as well
        return False
    of = type(error).__module__.partition(".")[0]
    return isinstance(error, (Unanswered, ConnectionError)) or of in _OF_THE_NETWORK


def _answered(location: Location, file: str, response: Any) -> TupateHubError:
    if response.request.method == "PUT":
        return storage_error(response)
    return http_error(
        location, file, response, "authorization" in response.request.headers, response.request.method == "POST"
    )


def _one_line(text: str) -> str:
    return " ".join(text.split()).removeprefix("- ").rstrip(".")[:200]


def unreachable(location: Location, file: str, endpoint: str, offline: bool) -> NotAvailableOffline:
    """An error for what is not in the cache while there is no network, or, if `offline`, the user wants none."""
    what = f"{file} of {location}" if file else str(location)
    if offline:
        return NotAvailableOffline(
            f"{what} is not in the cache, and HF_HUB_OFFLINE forbids fetching it.",
            hint="unset HF_HUB_OFFLINE and retry",
        )
    return NotAvailableOffline(
        f"{what} is not in the cache, and {endpoint} cannot be reached.",
        hint="retry with a network"
        + (", or leave out `location` for the bundled zoo" if location.kind == "dataset" else ""),
    )


def http_error(location: Location, file: str, response: Any, known: bool, writing: bool = False) -> TupateHubError:
    """What an answer of 400 or more means to the user; `known` says whether a token was sent, which is never shown."""
    status = int(response.status_code)
    sign_in = "hf auth login" if not known else f"sign in as someone who may: hf auth login; {location.page}"
    if named := _named(str(response.headers.get("X-Error-Code") or ""), location, file, known, sign_in):
        return named
    if status == 401:
        return TupateHubError("The Hub does not know your token.", hint="hf auth login, or unset HF_TOKEN")
    said = reason(response)
    if writing and status in (403, 409, 412):
        return _not_written(location, status, said)
    if status == 403:
        return TupateHubError(f"The Hub does not allow reading {location}{said}.", hint=sign_in)
    if status == 404:
        what = f"{file} of {location}" if file else str(location)
        return WorkFailed(
            f"The Hub failed with status 404 on {what}{said}.", hint=f"look at {location.page}, or at HF_ENDPOINT"
        )
    if status == 429:
        after = retry_after(response)
        when = f"in {after:.0f} s" if after else "in a minute"
        more = "" if known else "; users who are signed in may ask more often: hf auth login"
        return RateLimited("The Hub asks for fewer requests.", hint=f"retry {when}{more}")
    if status < 500:
        return WorkFailed(f"The Hub refused {location} with status {status}{said}.", hint=f"look at {location.page}")
    return WorkFailed(f"The Hub failed with status {status} on {location}{said}.", hint="retry in a minute")


def _named(code: str, location: Location, file: str, known: bool, sign_in: str) -> TupateHubError | None:
    """What the Hub calls by a name of its own."""
    if code == "GatedRepo":
        accept = f"accept its terms on {location.page}"
        return TupateHubError(f"{location} is gated.", hint=accept if known else f"{accept}, then: hf auth login")
    if code == "RevisionNotFound":
        return NoRevision(
            f"{location} does not exist: the repository has no revision {location.revision or 'main'!r}.",
            hint=f"take its newest: {replace(location, revision=None)}",
        )
    if code == "EntryNotFound":
        return FormatError(f"{location} has no {file}.", hint=f"see what it holds: {location.page}/tree/main")
    if code == "RepoNotFound":
        return NoRepository(
            f"The Hub does not have a {location.kind} repository {location.id}, or it is private.",
            hint=f"check the name, and if it is private: {sign_in}",
        )
    return None


def reason(response: Any) -> str:
    """The Hub's own reason for an error, after a colon, as text that can be shown; "" where it gives none."""
    said = str(response.headers.get("X-Error-Message") or "")[:1000]
    shown = "".join(char if char.isprintable() else " " for char in _TOKEN.sub("hf_...", said))
    return f": {one_line}" if (one_line := _one_line(shown)) else ""


def _not_written(location: Location, status: int, said: str) -> TupateHubError:
    if status == 403:
        return TupateHubError(
            f"Your token does not allow writing to {location}{said}.",
            hint="take a name of your own, or a token that may write: hf auth login",
        )
    return BranchMoved(f"{location} was changed by someone else meanwhile.", hint="retry")


def storage_error(response: Any) -> WorkFailed:
    """What it means that the storage, which knows no users, did not take a file."""
    return WorkFailed(
        f"The Hub's storage failed with status {int(response.status_code)}{reason(response)}.",
        hint="retry; what has arrived is not sent twice",
    )


def retry_after(response: Any) -> float | None:
    """How many seconds the Hub asks to be left alone; None where it does not say.

    It says so by `Retry-After`, or by `RateLimit: "api";r=0;t=55`: nothing remains, and the window ends in 55 seconds.
    """
    text = str(response.headers.get("Retry-After") or "")
    window = re.search(r";\s*t=(\d{1,6})(?!\d)", str(response.headers.get("RateLimit") or ""))
    return float(text) if re.fullmatch(r"\d{1,6}", text) else float(window[1]) if window else None
