"""Nearby: a task that a command does not find and the folder `tupate-zoo` beside it has, where `train` puts tasks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from tupate_hub.errors import TupateHubError, UnknownName

OWN = "tupate-zoo"
_UNKNOWN = re.compile(r"Unknown task '(?P<task>.+)'\.")


def command_nearby(error: TupateHubError, given: Sequence[str]) -> str | None:
    """The same command on that folder's registry; None where it would not help."""
    unknown = _UNKNOWN.fullmatch(error.message) if isinstance(error, UnknownName) else None
    named = any(argument.partition("=")[0] == "--registry" for argument in given)
    if unknown is None or named or not (Path(OWN) / "registry.json").is_file():
        return None
    from tupate_hub.registry import fold
    from tupate_hub.zoo import Zoo

    try:
        known = Zoo.open(OWN).registry.spelled
    except TupateHubError:  # that there is something wrong there is another story
        return None
    if fold(unknown["task"]) not in known:
        return None
    return f"it is in ./{OWN}: {shlex.join(['tupate-hub', *given, '--registry', OWN])}"
