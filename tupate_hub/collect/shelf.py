"""Shelf: the files of a registry's folder, changed so that `registry.json` names whole files at every moment.

What replaces a listed file is written beside it, under a name with its digest. `registry.json` follows by one rename;
then what only the old one named is taken away. Whoever is interrupted leaves at most files that nothing names: the same
work done again writes them anew or takes them away.

Of a registry in shards only those are looked at that change.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from tupate_hub.collect.named import Named
from tupate_hub.errors import TargetExists, TupateHubError
from tupate_hub.registry import FILENAME, Registry, placed
from tupate_hub.storage.atomic import settle, told_in_one_sentence, write_bytes

#: What was named until a moment ago and is being taken away: a list in JSON, so that the next one can go on.
LEAVING = ".leaving"
_OF_DIGEST = re.compile(r".+-([0-9a-f]{12})\.safetensors|([0-9a-f]{16})\.json")


class Shelf:
    """A folder and the registry that lies in it, or is to lie there. One process at a time holds it (`alone`)."""

    def __init__(self, root: Path, registry: Registry) -> None:
        self.root = root
        self._named = Named(registry)
        self._put: list[Path] = []
        self._take_away_leaving()

    def put(self, file: str, data: bytes) -> dict[str, Any]:
        """Write a file, under a name of its own where the registry has that one with another content.

        Returns
        -------
        `file`, `bytes` and `sha256`, as a registry lists it.

        Raises
        ------
        TupateHubError
            When a link leads out of the registry's folder, or nothing can be written there.
        WorkFailed
            When the disk is full.
        """
        place = placed(file, data)
        if self._named.digest(file) not in (None, place["sha256"]) or self._is_another_s(file, data):
            path = PurePosixPath(file)
            place["file"] = str(path.with_stem(f"{path.stem}-{place['sha256'][:12]}"))
        self._write(place["file"], data)
        return place

    def keep(self, file: str, data: bytes) -> None:
        """Write a file under this very name, unless it is there already.

        Raises
        ------
        TargetExists
            When another content lies there; others as `put`.
        """
        path = self.root / file
        with told_in_one_sentence(path):
            if path.is_file() and path.read_bytes() == data:
                return
            if path.exists() or path.is_symlink():
                raise TargetExists(
                    f"{path} exists already, with another content.", hint="give a new folder: `target=DIR`"
                )
        self._write(file, data)

    def _is_another_s(self, file: str, data: bytes) -> bool:
        """Whether a file has another content, and a registry in shards may name it under whatever task."""
        path = self.root / file
        known = not self._named.in_part or self._named.digest(file) is not None
        return not known and path.is_file() and path.read_bytes() != data

    def _write(self, file: str, data: bytes) -> None:
        target = self.root / file
        self._require_inside(target)
        write_bytes(target, data, durable=False)
        self._put.append(target)

    def write_registry(self, registry: Registry) -> Registry:
        """Make the folder's registry this one, when what it names is on the disk; errors as `put`.

        Returns
        -------
        The registry as it was written: in shards, where it is large.
        """
        registry = registry.shelved()
        for file, data in registry.unwritten().items():
            self._write(file, data)
        named = Named(registry)
        leaving = sorted(self._named.without(named))
        if leaving:
            write_bytes(self.root / LEAVING, json.dumps(leaving).encode())
        settle(self._put)
        write_bytes(self.root / FILENAME, registry.to_json().encode())
        self._named = named
        self._take_away_leaving()
        for folder in {path.parent for path in self._put}:
            for path in folder.iterdir():
                if _OF_DIGEST.fullmatch(path.name) and self._is_left(path):
                    self._take_away(path)
        self._put = []
        return registry

    def _take_away_leaving(self) -> None:
        """Take away what was to leave, by this process or a killed one, as far as the registry does not name it."""
        path = self.root / LEAVING
        try:
            files = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return
        for file in files if isinstance(files, list) else ():
            if isinstance(file, str) and file.endswith((".safetensors", ".json")) and self._named.lacks(file):
                self._take_away(self.root / file)
        self._take_away(path)

    def _require_inside(self, target: Path) -> None:
        with told_in_one_sentence(target):
            inside = Path(os.path.realpath(target.parent)).is_relative_to(os.path.realpath(self.root))
        if not inside:
            raise TupateHubError(
                f"{target.parent} leads out of the registry: nothing was written there.",
                hint="put a folder in the place of the link",
            )

    def _is_left(self, path: Path) -> bool:
        """Whether nothing names a file that carries its own digest."""
        return self._named.lacks(path.relative_to(self.root).as_posix()) and _has_own_digest(path)

    def _take_away(self, path: Path) -> None:
        """Remove a file that nothing names; one that is reached through a link is not ours."""
        with contextlib.suppress(OSError, TupateHubError):
            self._require_inside(path)
            if path.is_file() and not path.is_symlink():
                path.unlink()


def _has_own_digest(path: Path) -> bool:
    """Whether a file carries its own digest in its name, as no file but one that a shelf has written does."""
    found = _OF_DIGEST.fullmatch(path.name)
    if found is None or path.is_symlink() or not path.is_file():
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest().startswith(found[1] or found[2])
