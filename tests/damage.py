"""Ways to damage a zoo, as accidents and hostile authors do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def change(root: Path, how: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite a zoo's registry.json."""
    path = root / "registry.json"
    data = json.loads(path.read_text())
    how(data)
    path.write_text(json.dumps(data))


def put(root: Path, file: str, data: bytes) -> None:
    """Replace a file of a zoo and tell its registry the new size and digest, as a hostile author would."""
    (root / file).write_bytes(data)

    def tell(registry: dict[str, Any]) -> None:
        places = [place for space in registry["spaces"].values() for place in space["index"].values()]
        (entry,) = (one for one in [*registry["embeddings"], *places] if one["file"] == file)
        entry.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    change(root, tell)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def elsewhere(files: dict[str, bytes], folder: Path) -> dict[str, bytes]:
    """The files of a folder as they would be in any other: a README there names its own."""
    return {name: data.replace(str(folder).encode(), b"HERE") for name, data in files.items()}
