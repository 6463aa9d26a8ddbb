"""Errors: a sentence, what to type next, an exit code."""

from __future__ import annotations

import pickle

import pytest

from tupate_hub import errors
from tupate_hub.errors import (
    BranchMoved,
    FormatError,
    NoRepository,
    NoRevision,
    NotAvailableOffline,
    NotKept,
    RateLimited,
    RegistryError,
    SpaceMismatch,
    TargetExists,
    TupateHubError,
    UnknownName,
    WorkFailed,
)

CODES = {
    TupateHubError: 2,
    UnknownName: 2,
    FormatError: 2,
    RegistryError: 2,
    NoRepository: 2,
    NoRevision: 2,
    NotKept: 2,
    SpaceMismatch: 2,
    TargetExists: 2,
    NotAvailableOffline: 3,
    WorkFailed: 1,
    BranchMoved: 1,
    RateLimited: 1,
}


def test_the_table_above_is_complete() -> None:
    told = {one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.TupateHubError)}
    assert set(CODES) == told


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_every_error_is_the_projects_with_the_documented_exit_code(kind: type[TupateHubError], code: int) -> None:
    error = kind("It broke.", hint="mend it")
    assert isinstance(error, TupateHubError)
    assert (error.message, error.hint, error.exit_code, str(error)) == ("It broke.", "mend it", code, "It broke.")


def test_a_hint_is_optional() -> None:
    assert FormatError("x").hint == ""


def test_a_wrong_registry_is_a_wrong_format() -> None:
    assert issubclass(RegistryError, FormatError)


def test_a_plain_error_survives_another_process() -> None:
    assert str(pickle.loads(pickle.dumps(FormatError("x")))) == "x"
