"""Refusals: what was wrong with adapters that were streamed, kept by commit, so that none is fetched twice for it."""

from __future__ import annotations

import json
from contextlib import suppress

from tupate_hub.collect.streaming import Wish
from tupate_hub.errors import FormatError, SpaceMismatch, TupateHubError
from tupate_hub.hub.cache import folder, keep
from tupate_hub.hub.list_adapters import ListedRepository

_KEPT = "refused.json"
#: What a commit is refused for once and for all.
_KINDS = {kind.__name__: kind for kind in (FormatError, SpaceMismatch)}


def remember(repository: ListedRepository, wish: Wish, error: TupateHubError) -> None:
    """Keep in the cache why a repository was refused, where another try would end in the same way.

    Raises
    ------
    WorkFailed
        When the cache cannot be written to.
    """
    if type(error) in _KINDS.values():  # a repository that is not there, or not shown, is of another kind
        told = {"kind": type(error).__name__, "message": error.message, "hint": error.hint, **_asked(wish)}
        with suppress(FormatError):  # one without a location is refused each time
            keep(folder(repository.location()) / _KEPT, json.dumps(told).encode(), durable=False)


def remembered(repository: ListedRepository, wish: Wish) -> TupateHubError | None:
    """Why this version has refused the repository at this commit before, None where it has not."""
    try:
        told = json.loads((folder(repository.location()) / _KEPT).read_bytes())
        kind, message, hint = _KINDS[told["kind"]], told["message"], told["hint"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError, FormatError):
        return None
    asked = _asked(wish)
    same = isinstance(message, str) and isinstance(hint, str) and asked == {name: told.get(name) for name in asked}
    return kind(message, hint) if same else None


def _asked(wish: Wish) -> dict[str, str]:
    from tupate_hub import __version__

    return {"version": __version__, "base": wish.base, "blocks": str(wish.blocks or "")}
