"""What the Hub's errors mean: a sentence, the next command, an exit code, and never the token."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tupate_hub.errors import (
    BranchMoved,
    FormatError,
    NoRepository,
    NoRevision,
    TupateHubError,
    WorkFailed,
)
from tupate_hub.hub.errors import http_error, retry_after, storage_error, unreachable
from tupate_hub.hub.location import DATASET, Location

PLACE = Location(DATASET, "acme/zoo", "next")


@dataclass
class Answer:
    status_code: int
    headers: dict[str, str] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (403, "GatedRepo", TupateHubError, "is gated"),
        (404, "RevisionNotFound", NoRevision, "no revision 'next'"),
        (404, "EntryNotFound", FormatError, "has no registry.json"),
        (401, "RepoNotFound", NoRepository, "or it is private"),
        (401, "", TupateHubError, "does not know your token"),
        (403, "", TupateHubError, "does not allow reading"),
        (429, "", WorkFailed, "fewer requests"),
        (412, "", WorkFailed, "refused hf://datasets/acme/zoo@next with status 412"),
        (404, "", WorkFailed, "status 404 on registry.json of hf://datasets/acme/zoo@next"),
        (503, "", WorkFailed, "status 503"),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_reading(known: bool, status: int, code: str, kind: type[TupateHubError], said: str) -> None:
    error = http_error(PLACE, "registry.json", Answer(status, {"X-Error-Code": code}), known)
    assert isinstance(error, kind)
    assert said in error.message
    assert error.hint
    assert error.exit_code == (1 if issubclass(kind, WorkFailed) else 2)


@pytest.mark.parametrize(
    ("status", "kind", "said", "hint"),
    [
        (403, TupateHubError, "does not allow writing to hf://datasets/acme/zoo@next", "hf auth login"),
        (409, BranchMoved, "was changed by someone else", "retry"),
        (412, BranchMoved, "was changed by someone else", "retry"),
        (401, TupateHubError, "does not know your token", "unset HF_TOKEN"),
        (500, WorkFailed, "status 500", "in a minute"),
    ],
)
def test_writing(status: int, kind: type[TupateHubError], said: str, hint: str) -> None:
    error = http_error(PLACE, "", Answer(status), True, writing=True)
    assert type(error) is kind
    assert said in error.message
    assert hint in error.hint


def test_the_storage() -> None:
    error = storage_error(Answer(403))
    assert (error.message, error.exit_code) == ("The Hub's storage failed with status 403.", 1)


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("", None), ("soon", None), ("-1", None), ("9" * 9, None)])
def test_how_long_to_wait(text: str, seconds: float | None) -> None:
    assert retry_after(Answer(429, {"Retry-After": text})) == seconds


@pytest.mark.parametrize("offline", [True, False])
def test_no_network(offline: bool) -> None:
    error = unreachable(PLACE, "registry.json", "https://hub.example", offline)
    assert error.exit_code == 3
    assert ("HF_HUB_OFFLINE" if offline else "https://hub.example") in error.message
    assert error.message.startswith("registry.json of hf://datasets/acme/zoo@next is not in the cache")


@pytest.mark.parametrize("status", [400, 403, 404, 413, 451, 500])
@pytest.mark.parametrize("writing", [True, False])
def test_the_hubs_own_reason_is_shown(writing: bool, status: int) -> None:
    answer = Answer(status, {"X-Error-Message": "Too \x1b[31mlarge\n\n- for you (hf_secretsecret)."})
    error = http_error(PLACE, "", answer, True, writing)
    assert ": Too  [31mlarge - for you (hf_...)." in error.message.replace("Too [", "Too  [")
    assert error.hint
    assert error.exit_code == (2 if status == 403 else 1)
    assert "retry" not in error.hint or status == 500


def test_a_long_reason_is_cut() -> None:
    assert len(http_error(PLACE, "", Answer(500, {"X-Error-Message": "x" * 10_000}), True).message) < 400
