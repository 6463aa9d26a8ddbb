"""Outline: which tensors a model of the Hub has, from its configuration and the headers of its safetensors files.

The headers are fetched by their range, some 100 KB of a model of any size, and kept by commit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tupate_hub.errors import FormatError
from tupate_hub.hub.cache import cached_commit, folder, keep, record
from tupate_hub.hub.location import Location
from tupate_hub.storage.safetensors import described_as, header_length, read_header
from tupate_hub.storage.strangers_json import parse_object

_CONFIG = "config.json"
_KEPT = "outline.json"
_MOST_CONFIG = 4_000_000
#: Of a mixture of experts with 100,000 tensors the outline has some 500,000.
_MOST_ITEMS = 4_000_000
_HEADER = 64_000
_MOST_FILES = 256
_AT_ONCE = 8

_WEIGHTS = "model.safetensors"
_PIECE = re.compile(r"model-\d{1,6}-of-\d{1,6}\.safetensors")

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Outline:
    """A model at a commit: its configuration, and the dtype and shape of each tensor by its key."""

    location: Location
    config: Mapping[str, Any]
    tensors: Tensors = field(default_factory=dict)


def fetch_outline(location: Location) -> Outline:
    """The outline of a model, from the cache where it is there.

    `tensors` is empty where the model has no safetensors files of the usual names.

    Raises
    ------
    FormatError
        When there is no such model, or a file of it is malformed.
    NotAvailableOffline
        When it is not cached and there is no network.
    TupateHubError
        As `client.get`.
    """
    commit, _ = cached_commit(location, lambda at: _kept(at) is not None, _CONFIG)
    if commit is not None and (kept := _kept(location.at(commit))) is not None:
        return kept
    from tupate_hub.hub import client
    from tupate_hub.hub.repository import look_up

    there = look_up(location)
    at = location.at(there.commit)
    config: Mapping[str, Any] = {}
    if _CONFIG in there.files:
        config = parse_object(client.get_whole(at, _CONFIG, _MOST_CONFIG).data, _MOST_ITEMS, f"{at}/{_CONFIG}")
    files = _weights_among(there.files)
    if not config and not files:
        raise FormatError(f"{at} is no base model: it has neither a {_CONFIG} nor safetensors.", hint=f"see {at.page}")
    outline = Outline(at, config, _fetch_tensors(at, [(name, there.files[name][0]) for name in files]))
    text = json.dumps({"config": outline.config, "tensors": outline.tensors})
    keep(folder(at) / _KEPT, text.encode(), durable=False)
    record(location, there.commit)
    return outline


def cached_model(location: Location) -> Path | None:
    """The folder of the Hub's own cache that has the model, None where there is none."""
    from huggingface_hub import try_to_load_from_cache

    held = try_to_load_from_cache(location.id, _CONFIG, revision=location.revision)
    return Path(held).parent if isinstance(held, str) and any(Path(held).parent.glob("*.safetensors")) else None


def _weights_among(files: Iterable[str]) -> list[str]:
    """The model's own safetensors files: the whole, else its pieces, else all but an adapter's; none of too many."""
    names = sorted(name for name in files if name.endswith(".safetensors") and "/" not in name)
    if _WEIGHTS in names:
        return [_WEIGHTS]
    pieces = [name for name in names if _PIECE.fullmatch(name)]
    found = pieces or [name for name in names if not name.startswith("adapter")]
    return found if len(found) <= _MOST_FILES else []  # names of a part of them would say what is not so


def _fetch_tensors(at: Location, files: Sequence[tuple[str, int]]) -> Tensors:
    from concurrent.futures import ThreadPoolExecutor

    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for tensors in pool.map(lambda one: _tensors_of(at, *one), files):
            found.update(tensors)
    return found


def _tensors_of(at: Location, file: str, size: int) -> Tensors:
    """Dtypes and shapes of a safetensors file of that size, by one request, or two where the header is long."""
    from tupate_hub.hub import client

    where = f"{at}/{file}"
    answer = client.get(at, file, min(_HEADER, size) - 1)
    wanted = 8 + header_length(answer.data, where, size)
    if wanted > len(answer.data):
        answer = client.get(at, file, wanted - 1)
    header, _ = read_header(answer.data, where, size)
    return {key: one for key, entry in header.items() if (one := described_as(entry)) is not None}


def _kept(at: Location) -> Outline | None:
    """What the cache has of a commit; None where it has nothing, or something else."""
    try:
        kept = parse_object((folder(at) / _KEPT).read_bytes(), _MOST_ITEMS, "")
        tensors = {key: described_as({"dtype": one[0], "shape": one[1]}) for key, one in kept["tensors"].items()}
        config = kept["config"]
    except (OSError, FormatError, LookupError, TypeError, AttributeError):
        return None
    if not isinstance(config, dict) or any(one is None for one in tensors.values()):
        return None
    return Outline(at, config, {key: one for key, one in tensors.items() if one is not None})
