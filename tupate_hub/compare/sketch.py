"""Sketches: 2 KB an embedding from which cosines are estimated; `docs/sketch.md` specifies them.

A block's update W = B A of a space is seen through random signs, P W Qᵀ = (P B)(A Qᵀ) of shape (256, 256), and the
blocks' pictures are added up, each with signs of its own: the inner product of two such sums is, on average, that of
the updates (Johnson and Lindenstrauss 1984; for both sides of a matrix at once, Woodruff 2014, section 2). A quarter of
the entries is kept. Vectors, such as biases, are scattered over as many places (Charikar, Chen and Farach-Colton 2002)
and spread by a Hadamard transform (Ailon and Chazelle 2006). Of the sum the signs are kept, from which the angle
follows (Charikar 2002): a share h of signs that differ says cos(pi h).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tupate_hub.arrays import Float32Array, Float64Array, IndexArray
from tupate_hub.compare.lowrank import Factors
from tupate_hub.compare.random_signs import Words, key_of, mixed, sign_matrix, words
from tupate_hub.compare.similarity import DEFAULT, get_similarity
from tupate_hub.embedding import TaskEmbedding

#: Rows of P and of Q.
SIDE = 256
#: Entries that are kept, and bits of a sketch.
ENTRIES = SIDE * SIDE // 4
#: What a cosine is estimated with, on average, on the bundled zoo (scripts/evaluation/measure_sketch.py).
MEAN_ERROR = 0.0125
#: Signs that are looked at first, and the share of them that may differ where far fewer do of all.
_FIRST, _SLACK = 1024, 0.06
_AT_ONCE = 256

Bits = npt.NDArray[np.uint8]
_ONES_OF_A_BYTE = np.array([number.bit_count() for number in range(256)], dtype=np.uint8)


@dataclass(frozen=True)
class Sketches:
    """Sketches of some embeddings of one space: `bits`, of shape (n, 2048), and the `norms` of their updates, (n,)."""

    tasks: tuple[str, ...]
    bits: Bits
    norms: Float64Array

    @staticmethod
    def of(embeddings: Iterable[TaskEmbedding], similarity: str = DEFAULT) -> Sketches:
        """Those of embeddings of one space, one after the other, under a similarity of their parameters alone."""
        maker = _Maker(similarity)
        tasks, bits, norms = [], [], []
        for one in embeddings:
            entries = maker.entries(one)
            tasks.append(one.task)
            bits.append(_packed(entries))
            norms.append(2 * float(np.linalg.norm(entries)))  # a quarter of the entries has half the norm
        stacked = np.stack(bits) if bits else np.zeros((0, ENTRIES // 8), dtype=np.uint8)
        return Sketches(tuple(tasks), stacked, np.array(norms, dtype=np.float64))

    def cosines(self, row: int) -> Float64Array:
        """Estimated cosines between one embedding and all, of shape (n,)."""
        return cosines(self.bits[row], self.bits)

    def pairs_above(self, cosine: float) -> Iterator[tuple[int, int]]:
        """Pairs of rows whose cosine may reach so much: those estimated within three errors of it, and all above."""
        most = np.arccos(np.clip(cosine, -1, 1)) / np.pi
        first = self.bits[:, : _FIRST // 8]
        for start in range(0, len(self.bits), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            near = _differing(first[part, None], first[None, start:]) <= most + _SLACK
            for row, column in zip(*np.nonzero(np.triu(near, 1)), strict=True):
                pair = start + int(row), start + int(column)
                if float(cosines(self.bits[pair[0]], self.bits[pair[1]][None])[0]) >= cosine - 3 * MEAN_ERROR:
                    yield pair


def pictures(embeddings: Iterable[TaskEmbedding], similarity: str = DEFAULT) -> Float64Array:
    """What sketches are the signs of, all entries of it: of shape (n, SIDE * SIDE), vectors left out."""
    maker = _Maker(similarity)
    return np.stack([maker.picture(one).ravel() for one in embeddings])


def cosines(bits: Bits, others: Bits) -> Float64Array:
    """Estimated cosines between a sketch, of shape (2048,), and others, (n, 2048); of shape (n,)."""
    return np.asarray(np.cos(np.pi * _differing(bits, others)))


def _differing(bits: Bits, others: Bits) -> Float64Array:
    """The share of bits that differ, over the last axis."""
    first, second = (np.ascontiguousarray(side).view(np.uint64) for side in (bits, others))
    return np.asarray(_ones(first ^ second).sum(axis=-1, dtype=np.int64) / (8 * bits.shape[-1]))


def _ones(found: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """How many bits of each word are set."""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(found))
    return np.asarray(_ONES_OF_A_BYTE[found[..., None].view(np.uint8)].sum(axis=-1, dtype=np.uint8))  # numpy 1.26


def kept_entries() -> IndexArray:
    """Which of the entries of P W Qᵀ, row by row, are kept: of each four in turn, number mix(n) mod 4."""
    numbers = np.arange(ENTRIES, dtype=np.uint32)
    return np.asarray(4 * numbers + (mixed(numbers) & np.uint32(3)), dtype=np.intp)


class _Maker:
    """Makes sketches, with the signs of the blocks that it has met."""

    def __init__(self, similarity: str) -> None:
        self.features = get_similarity(similarity).features
        self.kept = kept_entries()
        self.flips = _signs_of(words(key_of("\0flips"), ENTRIES))
        self.signs: dict[tuple[str, int], Float32Array] = {}

    def entries(self, embedding: TaskEmbedding) -> Float64Array:
        """The kept entries of an embedding, of shape (ENTRIES,), before their signs are taken."""
        scattered = np.zeros(ENTRIES)
        for name, factors in self._factors(embedding):
            if _is_vector(factors):
                scatter(f"{name}\0vector", factors.a[0] * factors.bt[0, 0], scattered)
        spread = hadamard(hadamard(scattered) * self.flips)  # once leaves a pattern where few numbers are large
        return np.asarray(self.picture(embedding).ravel()[self.kept] + spread / 2)

    def picture(self, embedding: TaskEmbedding) -> Float64Array:
        """The sum of the pictures of its low-rank blocks, of shape (SIDE, SIDE)."""
        total = np.zeros((SIDE, SIDE))
        for name, factors in self._factors(embedding):
            if not _is_vector(factors):
                outputs = self._matrix(f"{name}\0outputs", factors.bt.shape[1])
                inputs = self._matrix(f"{name}\0inputs", factors.a.shape[1])
                total += (outputs @ factors.bt.T).astype(np.float64) @ (factors.a @ inputs.T) / SIDE
        return total

    def _factors(self, embedding: TaskEmbedding) -> Iterator[tuple[str, Factors]]:
        return ((block.name, self.features(block, None)) for block in embedding.blocks)

    def _matrix(self, name: str, columns: int) -> Float32Array:
        if (name, columns) not in self.signs:
            self.signs[name, columns] = sign_matrix(name, SIDE, columns)
        return self.signs[name, columns]


def _is_vector(factors: Factors) -> bool:
    return factors.bt.shape == (1, 1)


def scatter(name: str, vector: Float32Array, places: Float64Array) -> None:
    """Add each number of a vector to one of the places, of shape (ENTRIES,): by its word, bit 0 its sign."""
    found = words(key_of(name), len(vector))
    np.add.at(places, ((found >> np.uint32(1)) % np.uint32(ENTRIES)).astype(np.intp), _signs_of(found) * vector)


def _signs_of(found: Words) -> Float64Array:
    return np.asarray((found & np.uint32(1)).astype(np.float64) * 2 - 1)


def hadamard(vector: Float64Array) -> Float64Array:
    """The orthonormal Walsh-Hadamard transform of a vector whose length is a power of two, in natural order."""
    found, size = vector.copy(), 1
    while size < len(found):
        pairs = found.reshape(-1, 2, size)
        found = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).ravel()
        size *= 2
    return np.asarray(found / np.sqrt(len(found)))


def _packed(entries: Float64Array) -> Bits:
    """A bit an entry, 1 where it is above zero, the first in the highest bit of the first byte."""
    return np.packbits(entries > 0)
