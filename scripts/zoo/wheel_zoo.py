"""What a wheel holds of the zoo: the default space, and the smallest subspace of each space.

All spaces together would double the size of an installation.

A build hook of hatchling, named in pyproject.toml. It runs where nothing but hatchling is installed.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_INSIDE = "tupate_hub/bundled"


class WheelZoo(BuildHookInterface):  # type: ignore[misc]  # hatchling is not followed
    """Adds the default space's files and a registry that names no others."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds."""
        if version == "editable":  # the checkout itself is the zoo
            return
        root = Path(self.root)
        registry = default_space(json.loads((root / "registry.json").read_text(encoding="utf-8")))
        self._folder = tempfile.TemporaryDirectory()
        written = Path(self._folder.name) / "registry.json"
        text = json.dumps(registry, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        written.write_text(text, encoding="utf-8")
        included = build_data["force_include"]
        included[str(written)] = f"{_INSIDE}/registry.json"
        for file in [*files(registry), *truth(root)]:
            included[str(root / file)] = f"{_INSIDE}/{file}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called by hatchling when the wheel is there."""
        if version != "editable":
            self._folder.cleanup()


def default_space(registry: dict[str, Any]) -> dict[str, Any]:
    """The registry with its default space alone, and one run of each task; of other spaces their smallest subspace."""
    name = registry["default_space"]
    inside = [one for one in registry["embeddings"] if one["space"] == name]
    embeddings = [{key: value for key, value in one.items() if key != "repeats"} for one in inside]
    tasks = {one["task"]: registry["tasks"][one["task"]] for one in embeddings}
    spaces = {called: smallest(space, whole=called == name) for called, space in registry["spaces"].items()}
    kept = {called: space for called, space in spaces.items() if called == name or space.get("subspaces")}
    return {**registry, "tasks": tasks, "spaces": kept, "embeddings": embeddings}


def smallest(space: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """A space with its smallest subspace; without what belongs to its embeddings unless it is kept whole."""
    found = sorted(space.get("subspaces", {}).items(), key=lambda named: named[1]["bytes"])[:1]
    fields = space if whole else {**space, "index": {}, "moments": {}, "gain": {}}
    return {**fields, **({"subspaces": dict(found)} if found else {})}


def truth(root: Path) -> list[str]:
    """Measured transfer and the predictions that need the tasks' data, for `tupate-hub evaluate`."""
    tables = sorted((root / "zoo" / "truth").rglob("*.csv"))
    others = ("subspace*", "merges*", "budget*", "pulled*")  # measured, but no transfer
    return [path.relative_to(root).as_posix() for path in tables if not any(map(path.match, others))]


def files(registry: dict[str, Any]) -> list[str]:
    """The files that a registry names."""
    found = [one["file"] for one in registry["embeddings"]]
    found += [one["head"]["file"] for one in registry["embeddings"] if one.get("head")]
    for space in registry["spaces"].values():
        found += [place["file"] for place in space.get("index", {}).values()]
        found += [space["moments"]["file"]] if space.get("moments") else []
        found += [place["file"] for place in space.get("subspaces", {}).values()]
    return found
