"""DownloadedAdapter: adapters of model repositories of the Hub as folders of the cache, by commit.

Beside an adapter's folder, which is called as the repository, stands `facts.json`: what the card's tags say, and the
names, sizes and digests of the files at that commit. Files of the cache may be cut when the power fails: their sizes
are looked at each time. The library's `hf_hub_download` keeps damaged bytes of the right length, and returns them again
and again (`test_a_download_keeps_damaged_bytes_of_the_right_length`).
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tupate_hub.errors import FormatError, SpaceMismatch, TargetExists
from tupate_hub.hub import client, list_adapters
from tupate_hub.hub.cache import MOST_FILE, folder, keep, record, require_modest, require_right, resolve
from tupate_hub.hub.location import Location
from tupate_hub.space import normalise_base, require_base
from tupate_hub.storage.atomic import write_folder

_CONFIG = "adapter_config.json"
_FACTS = "facts.json"
_MOST_CONFIG = 4_000_000
#: The fields of configurations that name the base model: those of PEFT, AdapterHub and MLX.
_BASES = ("base_model_name_or_path", "model_name", "model")

Files = Mapping[str, tuple[int, str | None]]


@dataclass(frozen=True)
class DownloadedAdapter:
    """An adapter of a model repository: its folder in the cache, and what the repository says of it."""

    location: Location
    folder: Path
    task: str | None
    base: str | None
    dataset: str | None
    licence: str | None

    @property
    def source(self) -> dict[str, Any]:
        """Where it came from, for the embedding's facts."""
        said = {"dataset": self.dataset, "licence": self.licence}
        known = {name: value for name, value in said.items() if value}
        return {"kind": "hub", "repo": self.location.id, "revision": self.location.revision, **known}


def download_adapter(location: Location, base: str | None = None) -> DownloadedAdapter:
    """The configuration and weights of a model repository, and nothing else of it.

    Of a commit that was asked for before, what the Hub said of it and the configuration are not fetched again.

    Raises
    ------
    FormatError
        When it holds no adapter of a known library, or one that is too large; said before weights are fetched.
    SpaceMismatch
        When it is one of another base model than `base`; said before weights are fetched.
    NotAvailableOffline
        When it is not cached and there is no network.
    TupateHubError
        As `client.get`.
    """
    commit, _ = resolve(location, _is_whole, _CONFIG)
    if commit is None:
        at, files, tagged = _survey(location)
        if not _is_whole(at):
            contents = _adapter_files(at, files, tagged, base)
            if cached_folder(at).is_dir() and not _is_whole(at):
                shutil.rmtree(cached_folder(at), ignore_errors=True)
            with contextlib.suppress(TargetExists):  # another process was first, with the same files
                write_folder(cached_folder(at), contents, durable=False)
        commit = str(at.revision)
        record(location, commit)
    at = location.at(commit)
    facts = _facts(at)
    return DownloadedAdapter(at, cached_folder(at), *(facts[name] for name in ("task", "base", "dataset", "licence")))


def cached_folder(at: Location) -> Path:
    """Where the cache has the adapter of a commit, or will have it.

    It is called as the repository, because readers name a task by its folder where nothing else does.
    """
    return folder(at) / at.id.partition("/")[2]


def _facts(at: Location) -> dict[str, Any]:
    """What is known of a commit; nothing where the cache lacks it or has a part of it only."""
    try:
        found = json.loads((folder(at) / _FACTS).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_whole(at: Location) -> bool:
    facts, place = _facts(at), cached_folder(at)
    if not facts or not place.is_dir():
        return False
    sizes = {one.name: one.stat().st_size for one in place.iterdir()}
    announced = facts.get("files", {})  # older versions did not keep them
    return bool(sizes) and all(announced.get(name, [size])[0] == size for name, size in sizes.items())


def _survey(location: Location) -> tuple[Location, Files, str | None]:
    """A repository at a commit, its files, and the base model that its card names. Cached for each commit."""
    facts = _facts(location) if location.pinned else {}
    if "files" in facts:
        return location, {name: (size, sha256) for name, (size, sha256) in facts["files"].items()}, facts["base"]
    found = client.info(location)
    at, files = location.at(str(found["sha"])), _files(found)
    facts = {**list_adapters.facts(location, found.get("tags")), "files": files}
    keep(folder(at) / _FACTS, json.dumps(facts, sort_keys=True).encode(), durable=False)
    return at, files, facts["base"]


def _files(found: Mapping[str, Any]) -> Files:
    """Size and, where it is known, sha256 of the files at the top of a repository."""
    files: dict[str, tuple[int, str | None]] = {}
    for one in found.get("siblings") or ():
        if isinstance(one, dict) and isinstance(one.get("rfilename"), str) and type(one.get("size")) is int:
            lfs = one.get("lfs")
            files[one["rfilename"]] = (one["size"], lfs.get("sha256") if isinstance(lfs, dict) else None)
    return {name: files[name] for name in files if "/" not in name}


def _adapter_files(at: Location, files: Files, tagged: str | None, base: str | None) -> dict[str, bytes]:
    """The configuration and the weights that go with it; `tagged` is the base model where the first names none."""
    from tupate_hub.readers.layouts import LAYOUTS

    if _CONFIG not in files:
        raise FormatError(
            f"{at} does not hold an adapter: it has no {_CONFIG}.", hint=f"see what it holds: {at.page}/tree/main"
        )
    config = _config(at, files)
    try:
        fields = json.loads(config.decode("utf-8-sig"))
        layout = next((one for one in LAYOUTS if one.config is not None and one.config(fields)), None)
        named = next((fields[name] for name in _BASES if normalise_base(fields.get(name))), tagged)
    except (ValueError, RecursionError, TypeError, AttributeError) as error:
        raise FormatError(f"{_CONFIG} of {at} is not a JSON object.") from error
    if layout is None:
        raise FormatError(f"{_CONFIG} of {at} is not of a known library.")
    if base is not None and (found := require_base(named, str(at))) != base:
        raise SpaceMismatch(f"{at} is an adapter of {found}, not of {base}.", hint=f"name that model: `base={found!r}`")
    names = (name for pattern in layout.weights for name in sorted(files) if fnmatchcase(name, pattern))
    weights = next(names, None)
    if weights is None:
        raise FormatError(f"{at} holds a configuration without weights: {' or '.join(layout.weights)} is missing.")
    return {_CONFIG: config, weights: _fetch(at, weights, files, MOST_FILE)}


def _config(at: Location, files: Files) -> bytes:
    """The configuration, which says whether the weights are wanted at all; kept, for the case that they are not."""
    path = folder(at) / _CONFIG
    data = path.read_bytes() if path.is_file() else b""
    if len(data) != files[_CONFIG][0]:
        data = _fetch(at, _CONFIG, files, _MOST_CONFIG)
        keep(path, data, durable=False)
    return data


def _fetch(at: Location, name: str, files: Files, most: int) -> bytes:
    size, sha256 = files[name]
    require_modest(f"{at}/{name}", size, most)
    answer = client.get(at, name, size)
    require_right(f"{at}/{name}", answer, size, sha256)
    return answer.data
