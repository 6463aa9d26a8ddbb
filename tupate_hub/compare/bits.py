"""Bits: packed rows of signs, how many of them differ, and which rows of many differ least."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from tupate_hub.arrays import Float64Array, IndexArray
from tupate_hub.errors import UnknownName
from tupate_hub.extras import is_installed, require_extra

#: Rows of packed bits, of shape (..., bytes); a whole number of words of 64 bits.
Bits = npt.NDArray[np.uint8]
#: Rows whose bits are counted at once, so that what is between stays in a core's cache.
_AT_ONCE = 8192
#: Words of a row that are added up one after the other.
_SHORT = 16
#: From so many rows on the search of the extra `scale` is worth its import.
MANY = 1_000_000
_ONES_OF_A_BYTE = np.array([number.bit_count() for number in range(256)], dtype=np.uint8)


def cosines(bits: Bits, others: Bits) -> Float64Array:
    """Estimated cosines between a sketch, of shape (bytes,), and others, (n, bytes); of shape (n,)."""
    return np.asarray(np.cos(np.pi * differing(bits, others)))


def differing(bits: Bits, others: Bits) -> Float64Array:
    """The share of bits that differ, over the last axis."""
    return np.asarray(differences(bits, others) / (8 * bits.shape[-1]))


def differences(bits: Bits, others: Bits) -> IndexArray:
    """How many bits differ, over the last axis."""
    first, second = (np.ascontiguousarray(side).view(np.uint64) for side in (bits, others))
    return _summed(_ones(first ^ second))


def _summed(ones: npt.NDArray[np.uint8]) -> IndexArray:
    """Over the last axis; numpy's own sum takes more than twice as long where that is short."""
    if ones.shape[-1] > _SHORT:
        return np.asarray(ones.sum(axis=-1, dtype=np.intp))
    found = ones[..., 0].astype(np.uint16)
    for at in range(1, ones.shape[-1]):
        found += ones[..., at]
    return np.asarray(found)


def _ones(found: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """How many bits of each word are set."""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(found))
    return np.asarray(_ONES_OF_A_BYTE[found[..., None].view(np.uint8)].sum(axis=-1, dtype=np.uint8))  # numpy 1.26


def nearest(bits: Bits, query: Bits, count: int, by: str | None = None) -> IndexArray:
    """The `count` rows of `bits`, of shape (n, bytes), that differ least from `query`, (bytes,), the nearest first.

    `by` names one of `SEARCHES`; by default usearch where it is installed and there are more than a million rows.

    Raises
    ------
    UnknownName
        For another name.
    TupateHubError
        Where usearch is asked for and not installed.
    """
    if by is None:
        by = "usearch" if len(bits) > MANY and is_installed("usearch") else "numpy"
    if by not in SEARCHES:
        raise UnknownName(f"Unknown search {by!r}.", hint="known: " + ", ".join(SEARCHES))
    return SEARCHES[by](bits, query, min(count, len(bits)))


def _by_numpy(bits: Bits, query: Bits, count: int) -> IndexArray:
    """Every row is looked at: `bitwise_count` of some words a row."""
    words, asked = bits.view(np.uint64), query.view(np.uint64)
    found = np.empty(len(words), dtype=np.uint16)
    for start in range(0, len(words), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        found[part] = _summed(_ones(words[part] ^ asked))
    most = int(np.searchsorted(np.cumsum(np.bincount(found)), count))
    chosen = np.flatnonzero(found <= most)
    return np.asarray(chosen[np.argsort(found[chosen], kind="stable")[:count]])


def _by_usearch(bits: Bits, query: Bits, count: int) -> IndexArray:
    """Every row is looked at by the library's own loops, on all cores."""
    require_extra("scale")
    from usearch.index import MetricKind, search

    found = search(np.ascontiguousarray(bits), query, count, MetricKind.Hamming, exact=True)
    return np.asarray(found.keys, dtype=np.intp)


SEARCHES: Mapping[str, Callable[[Bits, Bits, int], IndexArray]] = {"numpy": _by_numpy, "usearch": _by_usearch}
