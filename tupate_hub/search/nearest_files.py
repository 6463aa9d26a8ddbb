"""The files of nearest embeddings and of sketches that a space lists, mapped into memory and kept with an open zoo."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tupate_hub.arrays import IndexArray
from tupate_hub.compare.bits import Bits
from tupate_hub.compare.nearest import Nearest, nearest_of
from tupate_hub.compare.sketch import ENTRIES
from tupate_hub.compare.sketch_part import SketchPart, sketch_part_of
from tupate_hub.errors import FormatError
from tupate_hub.hub.cache import blob
from tupate_hub.hub.checked import map_tensorfile
from tupate_hub.registry import SpaceEntry
from tupate_hub.storage.safetensors import TensorFile, parse_tensorfile

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo

T = TypeVar("T")


def open_nearest(zoo: Zoo, space: SpaceEntry, similarity: str) -> Nearest | None:
    """The nearest embeddings of a space as its file has them, None where it lists none, for it is small.

    Raises
    ------
    FormatError
        When the file is damaged, or of another space than the registry says.
    NotAvailableOffline
        When it is on the Hub, not in the cache, and there is no network.
    """
    place = space.nearest.get(similarity)
    if place is None:
        return None
    found = _opened(zoo, place, nearest_of)
    if (found.space, found.similarity, len(found)) != (space.name, similarity, place["tasks"]):
        raise FormatError(f"{zoo.where(place['file'])} is of other embeddings than the registry says.", hint=_VERIFY)
    return found


def open_parts(zoo: Zoo, space: SpaceEntry, similarity: str) -> list[SketchPart]:
    """The whole sketches of a space, part by part; errors as `open_nearest`."""
    places = space.nearest[similarity]["sketches"] if similarity in space.nearest else ()
    return [_opened(zoo, place, sketch_part_of) for place in places]


def whole_bits(parts: list[SketchPart], places: IndexArray) -> Bits:
    """The bits of the sketches at some places among the parts, of shape (len(places), 2048).

    Raises
    ------
    FormatError
        When there are not so many.
    """
    edges = np.cumsum([0, *map(len, parts)])
    if len(places) and not (places.min() >= 0 and places.max() < edges[-1]):
        raise FormatError("The sketches of a space are fewer than its nearest embeddings say.", hint=_VERIFY)
    found = np.empty((len(places), ENTRIES // 8), dtype=np.uint8)
    of = np.searchsorted(edges, places, side="right") - 1
    for at in np.flatnonzero(np.bincount(of, minlength=len(parts))):
        rows = np.flatnonzero(of == at)
        found[rows] = parts[at].bits[places[rows] - edges[at]]
    return found


_VERIFY = "tupate-hub verify"


def _opened(zoo: Zoo, place: Mapping[str, Any], read: Callable[[TensorFile, str], T]) -> T:
    """What a listed file holds, opened once as long as the zoo is."""
    file, size, sha256 = place["file"], place["bytes"], place["sha256"]
    if sha256 not in zoo.mapped:
        zoo.mapped[sha256] = read(_tensors(zoo, file, size, sha256), zoo.where(file))
    found: T = zoo.mapped[sha256]
    return found


def _tensors(zoo: Zoo, file: str, size: int, sha256: str) -> TensorFile:
    """A listed file, mapped into memory where it lies in a folder or in the cache."""
    path = zoo.root / file if zoo.remote is None else blob(sha256)
    if zoo.remote is None:
        _require_inside(zoo.root, path)
    elif not path.is_file():
        data = zoo.remote.read(file, size, sha256)  # from the Hub it is kept there
        if not path.is_file():
            return parse_tensorfile(data, zoo.where(file))
    return map_tensorfile(path, size, sha256, zoo.where(file))


def _require_inside(root: Path, path: Path) -> None:
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise FormatError(f"{path} leads out of the zoo.", hint=_VERIFY)
