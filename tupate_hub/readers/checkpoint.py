"""Checkpoint: a whole model's safetensors, one file or several with an index, read a header or a tensor at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tupate_hub.arrays import Array
from tupate_hub.errors import FormatError
from tupate_hub.readers.names import block_name
from tupate_hub.readers.source import check_weights, read_config
from tupate_hub.storage.safetensors import read_file_header, read_tensor

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"
_MOST_SHARDS = 1000
#: A file of the index's own folder, by a name that can be printed.
_SHARD = re.compile(r"\w[\w.-]{0,200}\.safetensors")


@dataclass(frozen=True)
class Place:
    """Where one tensor lies: its file, its key and entry there, and the offset at which the file's buffer begins."""

    file: Path
    key: str
    entry: Mapping[str, Any]
    begin: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.entry["shape"])


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a model by canonical name, none of them read."""

    path: Path
    places: Mapping[str, Place]

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor, None where the model has none of that name."""
        return self.places[name].shape if name in self.places else None

    def dtype(self, name: str) -> str:
        """The type in which a tensor is stored, as safetensors calls it."""
        return str(self.places[name].entry.get("dtype"))

    def read(self, name: str) -> Array:
        """One tensor; nothing else of its file is read.

        Raises
        ------
        FormatError
            When it does not fit the file.
        """
        place = self.places[name]
        return read_tensor(place.file, place.key, place.entry, place.begin)


def open_checkpoint(path: Path) -> Checkpoint:
    """A model's tensors, from the headers of its files.

    Raises
    ------
    FormatError
        When there is no safetensors file, one is malformed, or two tensors have one canonical name.
    """
    places: dict[str, Place] = {}
    for file in shards(path):
        for place in _places(file):
            name = block_name(place.key)
            if name in places:
                raise FormatError(f"{path} holds two tensors called {name[:200]!r}.")
            places[name] = place
    return Checkpoint(path, places)


def shards(path: Path) -> list[Path]:
    """The safetensors files that hold a model: the file itself, or those of its folder, by its index where it has one.

    Raises
    ------
    FormatError
        When there are none, or the index is malformed or names a file elsewhere.
    """
    if not path.is_dir():
        if path.suffix != ".safetensors":
            raise FormatError(f"{path} is not a safetensors file, the only kind whose tensors are read one by one.")
        return [path]
    if (path / WHOLE).is_file():
        return [path / WHOLE]
    if (path / INDEX).is_file():
        return [path / name for name in _listed(path / INDEX)]
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise FormatError(f"{path} holds no safetensors file of a model.")
    return files


def _listed(index: Path) -> list[str]:
    names = read_config(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise FormatError(f"{index} has no 'weight_map' of names of files.")
    listed = sorted(set(names.values()))
    if len(listed) > _MOST_SHARDS or not all(map(_SHARD.fullmatch, listed)):
        raise FormatError(f"{index} names files that are not safetensors beside it.")
    return listed


def _places(file: Path) -> Iterator[Place]:
    check_weights(file)
    header, begin = read_file_header(file)
    header.pop("__metadata__", None)
    for key, entry in header.items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            raise FormatError(f"{file} is malformed: {key[:200]!r} has an impossible shape.")
        yield Place(file, key, entry, begin)
