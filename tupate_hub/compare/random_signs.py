"""Signs: random matrices of +1 and -1 from a counter, which every language makes alike; see `docs/sketch.md`."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tupate_hub.arrays import Float32Array

_WORD = 32
Words = npt.NDArray[np.uint32]


@lru_cache(maxsize=8192)  # the embeddings of a space name the same blocks
def key_of(text: str) -> int:
    """FNV-1a of the text in UTF-8, 32 bits."""
    found = 0x811C9DC5
    for byte in text.encode():
        found = ((found ^ byte) * 0x01000193) & 0xFFFFFFFF
    return found


def words(key: int, count: int, start: int = 0) -> Words:
    """Random words number `start` to `start + count` of a key: word n is mix(mix(n) + key), modulo 2^32."""
    with np.errstate(over="ignore"):
        return mixed(np.asarray(mixed(np.arange(start, start + count, dtype=np.uint32)) + np.uint32(key)))


def mixed(numbers: Words) -> Words:
    """A permutation of 32-bit words after which each bit depends on all: two rounds of xorshift and multiplication."""
    found = numbers.copy()
    with np.errstate(over="ignore"):
        found ^= found >> np.uint32(16)
        found *= np.uint32(0x7FEB352D)
        found ^= found >> np.uint32(15)
        found *= np.uint32(0x846CA68B)
        found ^= found >> np.uint32(16)
    return np.asarray(found)


def sign_matrix(name: str, rows: int, columns: int) -> Float32Array:
    """The matrix of signs of a name, of shape (rows, columns); `rows` is a multiple of 32.

    Entry (i, j) is +1 where bit i mod 32 of word j (rows / 32) + i // 32 is set, and -1 where it is not.
    """
    found = words(key_of(name), columns * (rows // _WORD))
    bits = (found[:, None] >> np.arange(_WORD, dtype=np.uint32)) & np.uint32(1)
    return np.asarray(2 * bits.reshape(columns, rows).T.astype(np.float32) - 1, dtype=np.float32, order="C")
