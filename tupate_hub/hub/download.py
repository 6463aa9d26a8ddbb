"""DownloadedAdapter: adapters of model repositories of the Hub, in the Hub's own cache, where `hf cache` shows them.

What we know of each commit lies in our cache: `facts.json` holds what the card's tags say, the names, sizes and digests
of the files, and, once they are here, the folder that has them. The library's `hf_hub_download` keeps damaged bytes of
the right length, and returns them again and again (`tests/hub/test_library.py`): what it brings is compared with the
Hub's digest, and thrown away where that differs. So is what is in the cache, each time: other programs write there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tupate_hub.errors import FormatError
from tupate_hub.hub import list_adapters
from tupate_hub.hub.adapter_files import CONFIG, MOST_CONFIG, container_in, parse_config, weights_of
from tupate_hub.hub.cache import MOST_FILE, cached_commit, folder, keep, record, require_modest
from tupate_hub.hub.digest import file_has_digest
from tupate_hub.hub.location import Location, endpoint
from tupate_hub.hub.repository import look_up
from tupate_hub.hub.session import hub_api
from tupate_hub.storage.atomic import alone

_FACTS = "facts.json"
#: What the card's tags say.
_TOLD = ("task", "base", "dataset", "licence")

Files = Mapping[str, tuple[int, str]]


@dataclass(frozen=True)
class DownloadedAdapter:
    """An adapter of a model repository: its folder in the cache, and what the repository says of it.

    `fetched` is how many bytes of it came over the network, 0 where the cache had it.
    """

    location: Location
    folder: Path
    task: str | None
    base: str | None
    dataset: str | None
    licence: str | None
    fetched: int = field(default=0, compare=False)

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
        When it holds no adapter of a known library, one that is too large, or one that does not arrive as announced;
        all but the last are said before weights are fetched.
    SpaceMismatch
        When it is one of another base model than `base`; said before weights are fetched.
    NotAvailableOffline
        When it is not cached and there is no network.
    TupateHubError
        As `hub_api`.
    """
    try:
        commit, _ = cached_commit(location, lambda at: held_folder(at) is not None, CONFIG)
    except FormatError:  # its branch has no configuration by whose head it could be told whether it has moved
        commit = None
    at = location.at(commit) if commit else _survey(location)
    held, was_there = held_folder(at), True
    if held is None or not _is_right(at, held):
        with alone(folder(at)):  # what one process finds damaged and takes away, another may just have mended
            held, was_there = _fetch_both(at, base), False
    record(location, str(at.revision))
    facts = _facts(at)
    fetched = 0 if was_there else sum(facts["files"][name][0] for name in facts["held"])
    return DownloadedAdapter(at, held, **{name: facts.get(name) for name in _TOLD}, fetched=fetched)


def _fetch_both(at: Location, base: str | None) -> Path:
    """Fetch configuration and weights into the Hub's cache, and keep where they are; returns their folder.

    A LoRA in a container that has no configuration is its weights alone.
    """
    facts = _facts(at)
    files = facts["files"]
    if CONFIG in files:
        config = _fetch(at, CONFIG, files, MOST_CONFIG)
        names = [CONFIG, weights_of(at, _read_config(at, config), files, facts.get("base"), base)]
    else:
        names = [container_in(at, files, facts.get("base"), base)]
    held = _fetch(at, names[-1], files, MOST_FILE).parent
    _keep_facts(at, {**facts, "folder": str(held), "held": names})
    return held


# --- what is known of a commit ---------------------------------------------------------------------------------


def _survey(location: Location) -> Location:
    """The repository at a commit whose facts are kept."""
    if location.pinned and _facts(location):
        return location
    there = look_up(location)
    at = location.at(there.commit)
    files = {name: there.files[name] for name in there.files if "/" not in name}
    _keep_facts(at, {**list_adapters.facts(location, list(there.tags)), "files": files})
    return at


def _facts(at: Location) -> dict[str, Any]:
    """What is known of a commit; nothing where the cache lacks it, or has anything else."""
    try:
        found = json.loads((folder(at) / _FACTS).read_bytes())
        texts = [*(found.get(name) for name in _TOLD), found.get("folder", ""), *found.get("held", ())]
        files = {name: (size, digest) for name, (size, digest) in found["files"].items()}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return {}
    typed = all(type(size) is int and isinstance(digest, str) for size, digest in files.values())
    return {**found, "files": files} if typed and all(isinstance(text, str | None) for text in texts) else {}


def _keep_facts(at: Location, facts: Mapping[str, Any]) -> None:
    keep(folder(at) / _FACTS, json.dumps(facts, sort_keys=True).encode(), durable=False)


def held_folder(at: Location) -> Path | None:
    """The folder that has a commit's adapter; None where a file of it is missing or has another size."""
    facts = _facts(at)
    names = facts.get("held", ())
    place = Path(facts.get("folder") or "")
    return place if names and all(_size(place / name) == facts["files"].get(name, (-1,))[0] for name in names) else None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return None


def _is_right(at: Location, place: Path) -> bool:
    """Whether the files of a commit's adapter in a folder have the digests that the Hub gave."""
    facts = _facts(at)
    return all(_is_whole(place / name, *facts["files"][name]) for name in facts["held"])


def _is_whole(path: Path, size: int, digest: str) -> bool:
    """Whether a file is there with its announced size and content; another program may take it away meanwhile."""
    try:
        return path.stat().st_size == size and (not digest or file_has_digest(path, digest))
    except OSError:
        return False


# --- files -----------------------------------------------------------------------------------------------------


def _read_config(at: Location, path: Path) -> Mapping[str, Any]:
    try:
        return parse_config(at, path.read_bytes())
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.") from error


def _fetch(at: Location, name: str, files: Files, most: int) -> Path:
    """A file of a commit in the Hub's cache, of the announced size and content; what was there and is not goes."""
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    size, digest = files[name]
    require_modest(f"{at}/{name}", size, most)
    url = hf_hub_url(at.id, name, repo_type=at.kind, revision=at.revision, endpoint=endpoint())
    for _ in range(2):  # the first may be what someone else's download left there
        with hub_api(at, name, most_bytes=size) as api:
            if not isinstance(try_to_load_from_cache(at.id, name, revision=at.revision, repo_type=at.kind), str):
                found = api.get_hf_file_metadata(url=url).size
                if found != size:
                    raise FormatError(
                        f"{at}/{name} has {found} bytes, {size} were announced: it was not kept.",
                        hint="tell its publisher",
                    )
            path = Path(api.hf_hub_download(at.id, name, revision=at.revision, repo_type=at.kind))
        if _is_whole(path, size, digest):
            return path
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    raise FormatError(
        f"{at}/{name} does not have the announced content: it was not kept.",
        hint="retry; if it happens again, tell its publisher",
    )
