"""Reading from memory: an adapter whose files lie on no disk, whole or in part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Any

from tupate_hub.arrays import Array
from tupate_hub.embedding import Adapter
from tupate_hub.errors import FormatError
from tupate_hub.readers.layouts import content
from tupate_hub.readers.source import Source, require_weights
from tupate_hub.readers.table import LAYOUTS, Layout
from tupate_hub.storage.safetensors import read_header

_START = 1 << 16


@dataclass(frozen=True)
class Part:
    """Some tensors of a safetensors file, and all that its header says: its metadata, and every tensor's name."""

    tensors: Mapping[str, Array]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class InMemory:
    """What was read: the adapter, the name of its layout and of its file, and the sha256 of what was read of it."""

    adapter: Adapter
    layout: str
    file: str
    sha256: str


def load_from_memory(
    folder: str, file: str, config: Mapping[str, Any] | None, data: bytes, digest: str = ""
) -> InMemory:
    """Read tuned parameters from the bytes of their file and the configuration beside it, None where there is none.

    `folder` is where they come from, for the messages and as the adapter's last name; `digest` is the sha256 of the
    bytes where it is known already. What torch wrote before 1.6 is not read.

    Raises
    ------
    FormatError
        For everything that is not read, each with its own sentence.
    """
    weights = Path(folder) / file
    require_weights(weights, len(data), data[:64])
    layout = _layout(weights, config, lambda one: _fits(one, data, weights))
    tensors, metadata = content(layout, data, weights)
    return _read(layout, weights, config, tensors, metadata, digest or sha256(data).hexdigest())


def load_part(folder: str, file: str, config: Mapping[str, Any] | None, part: Part) -> InMemory:
    """Read those parameters that are in a part of a safetensors file; parameters and errors as `load_from_memory`.

    The sha256 is of the tensors' names and numbers, one after the other.
    """
    weights = Path(folder) / file
    layout = _layout(weights, config, lambda one: one.keys is not None and one.keys(part.names))
    seen = sha256()
    for name, array in part.tensors.items():
        seen.update(name.encode())
        seen.update(array.tobytes())
    return _read(layout, weights, config, part.tensors, part.metadata, seen.hexdigest())


def _read(
    layout: Layout,
    weights: Path,
    config: Mapping[str, Any] | None,
    tensors: Mapping[str, Array],
    metadata: Mapping[str, Any],
    digest: str,
) -> InMemory:
    source = Source(weights.parent, weights, config or {}, tensors, layout.name, metadata=metadata)
    return InMemory(layout.read(source), layout.name, weights.name, digest)


def _layout(weights: Path, config: Mapping[str, Any] | None, fits: Any) -> Layout:
    """The layout of a file: as its configuration says, else by its name and what `fits` says of its content."""
    if config is not None:
        found = next((one for one in LAYOUTS if one.config is not None and one.config(config)), None)
    else:
        named = (one for one in LAYOUTS if one.config is None and one.whole and _is_called(weights.name, one))
        found = next((one for one in named if fits(one)), None)
    if found is None:
        raise FormatError(f"{weights} is not of a known library.")
    return found


def _is_called(name: str, layout: Layout) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in layout.weights)


def _fits(layout: Layout, data: bytes, weights: Path) -> bool:
    if layout.start is not None:
        return layout.start(data[:_START])
    if layout.keys is None:
        return True
    try:
        header, _ = read_header(data, str(weights))
    except FormatError:
        return False
    header.pop("__metadata__", None)
    return layout.keys(tuple(header))
