"""Sketches: 2 KB an embedding from which cosines are estimated; `docs/sketch.md` specifies them.

A block's update W = B A of a space is seen through random signs, P W Qᵀ = (P B)(A Qᵀ): sixteen pictures of shape
(32, 32), each through signs of its own, and the pictures of all blocks are added up, so that the inner product of two
such sums is, on average, that of the updates (Johnson and Lindenstrauss 1984; for both sides of a matrix at once,
Woodruff 2014, section 2). Vectors, such as biases, are scattered over as many places (Charikar, Chen and Farach-Colton
2002). The sum is spread by two Hadamard transforms (Ailon and Chazelle 2006), after which every entry has a like share
of everything, and its signs are kept, from which the angle follows (Charikar 2002): a share h of signs that differ says
cos(pi h). The first bits of a sketch are a sketch themselves, a coarser one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from tupate_hub.arrays import Float32Array, Float64Array
from tupate_hub.compare.bits import Bits, cosines, differences
from tupate_hub.compare.lowrank import Factors
from tupate_hub.compare.magnitude import Magnitude
from tupate_hub.compare.random_signs import Words, key_of, sign_matrix, words
from tupate_hub.compare.similarity import DEFAULT, get_similarity
from tupate_hub.embedding import TaskEmbedding

#: Pictures of an update, and rows and columns of each.
PICTURES, SIDE = 16, 32
#: Entries of all of them, and bits of a sketch.
ENTRIES = PICTURES * SIDE * SIDE
#: What a cosine is estimated with, on average, on the bundled zoo (scripts/evaluation/measure_sketch.py).
MEAN_ERROR = 0.0115
#: A block's signs are columns of one matrix, from one of the first so many on.
STARTS = 1024
#: Signs that are looked at first where at most such a share of all may differ, and by how much more of these may: by
#: four standard deviations.
_FIRST = ((0.1, 64, 0.15), (0.25, 256, 0.11), (1.0, 1024, 0.06))
#: Rows that are compared with so many others at once, and pairs of which whole sketches are.
_ROWS, _COLUMNS_AT_ONCE, _PAIRS = 64, 8192, 1024
#: Embeddings that are seen through a block's signs at once, and columns by which the matrix of signs grows.
_BATCH, _COLUMNS = 16, 4096
#: The transform of ENTRIES numbers is this one on both sides of a square of them.
_EDGE = 128


@dataclass(frozen=True)
class Sketch:
    """The sketch of one embedding: `bits` of shape (2048,), the `norm` of its update, its `Magnitude.output_change`."""

    task: str
    bits: Bits
    norm: float
    change: float


@dataclass(frozen=True)
class Sketches:
    """Sketches of some embeddings of one space: `bits`, of shape (n, 2048), and the `norms` of their updates, (n,)."""

    tasks: tuple[str, ...]
    bits: Bits
    norms: Float64Array

    @staticmethod
    def of(embeddings: Iterable[TaskEmbedding], similarity: str = DEFAULT) -> Sketches:
        """Those of embeddings of one space, some at a time, under a similarity of their parameters alone."""
        found = list(Sketcher(similarity).sketches(embeddings))
        bits = np.stack([one.bits for one in found]) if found else np.zeros((0, ENTRIES // 8), dtype=np.uint8)
        return Sketches(tuple(one.task for one in found), bits, np.array([one.norm for one in found], dtype=np.float64))

    def cosines(self, row: int) -> Float64Array:
        """Estimated cosines between one embedding and all, of shape (n,)."""
        return cosines(self.bits[row], self.bits)

    def pairs_above(self, cosine: float) -> Iterator[tuple[int, int]]:
        """Pairs of rows whose cosine may reach so much; see `pairs_above`."""
        return pairs_above(self.bits, cosine)


def pairs_above(bits: Bits, cosine: float) -> Iterator[tuple[int, int]]:
    """Pairs of rows whose cosine may reach so much: those estimated within three errors of it, and all above.

    `bits` has shape (n, 2048).
    """
    most = float(np.arccos(np.clip(cosine, -1, 1)) / np.pi)
    count, slack = next((count, slack) for limit, count, slack in _FIRST if most <= limit)
    first = np.ascontiguousarray(bits[:, : count // 8])
    for start in range(0, len(bits), _ROWS):
        rows = first[start : start + _ROWS, None]
        for begin in range(start, len(bits), _COLUMNS_AT_ONCE):
            differ = differences(rows, first[None, begin : begin + _COLUMNS_AT_ONCE])
            near = np.argwhere(np.triu(differ <= count * (most + slack), start - begin + 1))
            near += np.array([start, begin])
            for pairs in np.array_split(near, -(-len(near) // _PAIRS) or 1):
                told = cosines(bits[pairs[:, 0]], bits[pairs[:, 1]])
                yield from map(tuple, pairs[told >= cosine - 3 * MEAN_ERROR].tolist())


def entries(embeddings: Iterable[TaskEmbedding], similarity: str = DEFAULT) -> Float64Array:
    """What sketches are the signs of, before they are spread: of shape (n, ENTRIES)."""
    maker = Sketcher(similarity)
    return np.concatenate([maker.entries(part) for part in _batches(embeddings)])


class Sketcher:
    """Makes sketches, with the signs that it has met; one for many embeddings of a space."""

    def __init__(self, similarity: str = DEFAULT) -> None:
        self.features = get_similarity(similarity).features
        self._edge = hadamard_matrix(_EDGE)
        turns = _signs_of(words(key_of("\0flips"), ENTRIES))
        self._turns = turns.reshape(_EDGE, _EDGE).astype(np.float32)
        self._matrices: dict[str, Float32Array] = {}
        self._flips: dict[tuple[str, int], Float32Array] = {}

    def sketch(self, embedding: TaskEmbedding) -> Sketch:
        """The sketch of one embedding."""
        (found,) = self.sketches([embedding])
        return found

    def sketches(self, embeddings: Iterable[TaskEmbedding]) -> Iterator[Sketch]:
        """Those of many embeddings, in their order; some of them are held at a time."""
        for part in _batches(embeddings):
            for one, found in zip(part, self.entries(part), strict=True):
                size = Magnitude.of(one.blocks, spectrum=False)
                yield Sketch(one.task, np.packbits(self.spread(found) > 0), size.norm, size.output_change)

    def spread(self, found: Float64Array) -> Float64Array:
        """Entries, of shape (ENTRIES,), through H D H: the transform, random signs, the transform."""
        square = found.reshape(_EDGE, _EDGE).astype(np.float32)
        turned = self._turns * (self._edge @ square @ self._edge)
        return np.asarray((self._edge @ turned @ self._edge).ravel())

    def entries(self, batch: Sequence[TaskEmbedding]) -> Float64Array:
        """The entries of a few embeddings, of shape (len(batch), ENTRIES), before they are spread."""
        found = np.zeros((len(batch), ENTRIES))
        sides: list[tuple[list[Float32Array], list[Float32Array]]] = [([], []) for _ in batch]
        for name, owners in self._by_block(batch).items():
            for at, factors in list(owners.items()):
                if _is_vector(factors):
                    scatter(f"{name}\0vector", factors.a[0] * factors.bt[0, 0], found[at])
                    del owners[at]
            for side in (0, 1):
                for at, seen in self._through(name, side, owners):
                    sides[at][side].append(seen)
        for at, (outputs, inputs) in enumerate(sides):
            if outputs:
                left, right = (np.concatenate(side).reshape(-1, PICTURES, SIDE) for side in (outputs, inputs))
                pictures = np.matmul(left.transpose(1, 2, 0), right.transpose(1, 0, 2))
                found[at] += pictures.ravel() / np.sqrt(ENTRIES)
        return found

    def _by_block(self, batch: Sequence[TaskEmbedding]) -> dict[str, dict[int, Factors]]:
        """The factors of each block, by the place of the embedding that has it."""
        found: dict[str, dict[int, Factors]] = {}
        for at, embedding in enumerate(batch):
            for block in embedding.blocks:
                found.setdefault(block.name, {})[at] = self.features(block, None)
        return found

    def _through(self, name: str, side: int, owners: dict[int, Factors]) -> Iterator[tuple[int, Float32Array]]:
        """One side of a block through its signs, of shape (r, PICTURES * SIDE), for each embedding that has it."""
        by_width: dict[int, dict[int, Float32Array]] = {}
        for at, factors in owners.items():
            rows = (factors.bt, factors.a)[side]
            by_width.setdefault(rows.shape[1], {})[at] = rows
        for width, parts in by_width.items():
            every = np.concatenate(list(parts.values())) if len(parts) > 1 else next(iter(parts.values()))
            seen = np.asarray(every * self._of_block(name, side, width), dtype=np.float32)
            seen = seen @ self._columns(name, side, width)
            stop = 0
            for at, rows in parts.items():
                start, stop = stop, stop + len(rows)
                yield at, seen[start:stop]

    def _of_block(self, name: str, side: int, width: int) -> Float32Array:
        """The signs of a block's own, of shape (width,)."""
        text = f"{name}\0{_SIDES[side]}"
        if (text, width) not in self._flips:
            self._flips[text, width] = _signs_of(words(key_of(text), width)).astype(np.float32)
        return self._flips[text, width]

    def _columns(self, name: str, side: int, width: int) -> Float32Array:
        """The block's columns of the matrix of signs, as rows: of shape (width, PICTURES * SIDE)."""
        called = f"\0{_SIDES[side]}"
        start = key_of(f"{name}\0{_SIDES[side]}") % STARTS
        if len(self._matrices.get(called, ())) < start + width:
            columns = -(-(STARTS + width) // _COLUMNS) * _COLUMNS
            self._matrices[called] = np.ascontiguousarray(sign_matrix(called, PICTURES * SIDE, columns).T)
        return self._matrices[called][start : start + width]


_SIDES = ("outputs", "inputs")


def _batches(embeddings: Iterable[TaskEmbedding]) -> Iterator[list[TaskEmbedding]]:
    waiting = iter(embeddings)
    while part := list(islice(waiting, _BATCH)):
        yield part


def _is_vector(factors: Factors) -> bool:
    return factors.bt.shape == (1, 1)


def scatter(name: str, vector: Float32Array, places: Float64Array) -> None:
    """Add each number of a vector to one of the places, of shape (ENTRIES,): by its word, bit 0 its sign."""
    found = words(key_of(name), len(vector))
    np.add.at(places, ((found >> np.uint32(1)) % np.uint32(ENTRIES)).astype(np.intp), _signs_of(found) * vector)


def _signs_of(found: Words) -> Float64Array:
    return np.asarray((found & np.uint32(1)).astype(np.float64) * 2 - 1)


def hadamard_matrix(size: int) -> Float32Array:
    """The orthonormal Walsh-Hadamard matrix of a power of two, in natural order."""
    found = np.ones((1, 1), dtype=np.float32)
    while len(found) < size:
        found = np.block([[found, found], [found, -found]])
    return np.asarray(found / np.float32(np.sqrt(size)), dtype=np.float32)
