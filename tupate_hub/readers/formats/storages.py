"""Storages: the bytes that tensors are views of, each read once from the archive and checked before it is believed.

Format: torch/serialization.py (`_save`): member `<root>/data/<key>` holds a storage, numbers in C order, little-endian.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tupate_hub.arrays import Array
from tupate_hub.errors import FormatError
from tupate_hub.readers.formats.archive import Archive

MOST_TENSORS = 50_000


@dataclass(frozen=True)
class StorageType:
    """How a storage's numbers are stored, and what makes arrays of them."""

    stored: np.dtype[Any]
    convert: Callable[[Array], Array] = lambda array: array


@dataclass(frozen=True)
class Storage:
    """One storage as a 1-D array."""

    key: str
    array: Array


class Storages:
    """The storages of an archive, read once each, and the views that tensors are of them."""

    def __init__(self, archive: Archive, root: str) -> None:
        self.archive = archive
        self.folder = f"{root}/data/"
        self.where = archive.where
        self.opened: dict[tuple[str, int], Storage] = {}
        self.views: dict[tuple[Any, ...], Array] = {}
        self.tensors_left = MOST_TENSORS

    def open(self, kind: StorageType, key: str, length: int) -> Storage:
        """The storage `key` as a 1-D array of `length` numbers."""
        known = self.opened.get((key, id(kind)))
        if known is None:
            data = self.archive.read(self.folder + key)
            if len(data) % kind.stored.itemsize:
                raise self._misfit(key)
            known = Storage(key, kind.convert(np.frombuffer(data, dtype=kind.stored)))
            self.opened[key, id(kind)] = known
        if len(known.array) != length:
            raise self._misfit(key)
        return known

    def view(self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
        """A tensor as a view of its storage; `offset` and `strides` count numbers, not bytes."""
        self.tensors_left -= 1
        if self.tensors_left < 0:
            raise FormatError(f"{self.where} has too many tensors; at most {MOST_TENSORS} are read.")
        known: Array | None = self.views.get((id(storage), offset, shape, strides))
        if known is not None:
            return known
        base, size = storage.array, math.prod(shape)
        last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
        if size > len(base) or (size and last >= len(base)) or math.prod(filter(None, shape)) >= 2**56:
            raise FormatError(f"{self.where} has a tensor that reaches beyond its storage {storage.key[:80]!r}.")
        # A stride along which there is one number means nothing, and may be too large for numpy.
        steps = tuple(
            base.itemsize * (stride if length > 1 else 1) for length, stride in zip(shape, strides, strict=True)
        )
        array: Array = (
            np.ndarray(shape, base.dtype, base, offset * base.itemsize, steps) if size else np.empty(shape, base.dtype)
        )
        array.flags.writeable = False
        self.views[id(storage), offset, shape, strides] = array
        return array

    def _misfit(self, key: str) -> FormatError:
        return FormatError(f"{self.where} is damaged: the storage {key[:80]!r} is not as long as the pickle says.")
