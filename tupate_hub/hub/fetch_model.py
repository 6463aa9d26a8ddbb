"""Base models of the Hub: the files that tuning needs, in the Hub's own cache, where `hf cache` shows them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tupate_hub.errors import FormatError
from tupate_hub.hub.download import fetch_file
from tupate_hub.hub.location import Location
from tupate_hub.hub.repository import look_up

#: More than any model that a computer could tune has in one file.
_MOST_MODEL = 100_000_000_000


def cached_folder(model_id: str, files: Iterable[str]) -> Path | None:
    """The folder of the Hub's own cache that has all of these files of a model's main branch; nothing is asked for."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(model_id, file) for file in files]
    paths = [Path(one) for one in found if isinstance(one, str)]
    return paths[0].parent if paths and len(paths) == len(found) else None


def fetch_model(location: Location, needed: Iterable[str], wanted: Iterable[str]) -> Path:
    """The folder with a model's files in the Hub's own cache: those that are needed, and the wanted ones that it has.

    Raises
    ------
    FormatError
        When it lacks one that is needed, which is said before any is fetched, or one does not arrive as announced.
    TupateHubError
        As `hub_api`.
    """
    files = look_up(location).files
    required = list(needed)
    for name in required:
        if name not in files:
            raise FormatError(f"{location} has no {name}.", hint=f"see what it has: {location.page}/tree/main")
    paths = [fetch_file(location, name, files, _MOST_MODEL) for name in [*required, *(n for n in wanted if n in files)]]
    return paths[0].parent
