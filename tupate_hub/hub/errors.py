"""Errors: what it means to the user that the Hub cannot be reached, or answers with a status of 400 or more."""

from __future__ import annotations

import re
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
    WorkFailed,
)

if TYPE_CHECKING:
    from tupate_hub.hub.location import Location


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
    code, status = str(response.headers.get("X-Error-Code") or ""), int(response.status_code)
    sign_in = "hf auth login" if not known else f"sign in as someone who may: hf auth login; {location.page}"
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
    if status == 401:
        return TupateHubError("The Hub does not know your token.", hint="hf auth login, or unset HF_TOKEN")
    if writing and status in (403, 409, 412):
        return _not_written(location, status)
    if status == 403:
        return TupateHubError(f"The Hub does not allow reading {location}.", hint=sign_in)
    if status == 429:
        after = retry_after(response)
        when = f"in {after:.0f} s" if after else "in a minute"
        more = "" if known else "; users who are signed in may ask more often: hf auth login"
        return RateLimited("The Hub asks for fewer requests.", hint=f"retry {when}{more}")
    return WorkFailed(f"The Hub failed with status {status} on {location}.", hint="retry in a minute")


def _not_written(location: Location, status: int) -> TupateHubError:
    if status == 403:
        return TupateHubError(
            f"Your token does not allow writing to {location}.",
            hint="take a name of your own, or a token that may write: hf auth login",
        )
    return BranchMoved(f"{location} was changed by someone else meanwhile.", hint="retry")


def storage_error(response: Any) -> WorkFailed:
    """What it means that the storage, which knows no users, did not take a file."""
    return WorkFailed(
        f"The Hub's storage failed with status {int(response.status_code)}.",
        hint="retry; what has arrived is not sent twice",
    )


def retry_after(response: Any) -> float | None:
    """How many seconds the Hub asks to be left alone; None where it does not say.

    It says so by `Retry-After`, or by `RateLimit: "api";r=0;t=55`: nothing remains, and the window ends in 55 seconds.
    """
    text = str(response.headers.get("Retry-After") or "")
    window = re.search(r";\s*t=(\d{1,6})(?!\d)", str(response.headers.get("RateLimit") or ""))
    return float(text) if re.fullmatch(r"\d{1,6}", text) else float(window[1]) if window else None
