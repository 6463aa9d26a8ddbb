"""PairIndex: how all embeddings of a space compare, computed once, so that a question needs no parameters."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tupate_hub.arrays import Array, Float32Array, Float64Array
from tupate_hub.compare.input_covariance import InputCovariance
from tupate_hub.compare.kernel import kernel, off_diagonal, pack_comparable
from tupate_hub.compare.magnitude import packed_changes
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError
from tupate_hub.storage.safetensors import TensorFile, load_tensorfile

SCHEMA = "tupate-hub-index/2"
#: Two computations of one index, on processors that round differently, lie closer than this: of norms, a share.
TOLERANCE = 2e-6
_ROUNDING = 1e-5
_ONE = 2**23 - 1


@dataclass(frozen=True)
class Sizes:
    """How large the updates of an index are: `squares`, of shape (tasks, blocks), their squared norms by block.

    `changes`, of shape (tasks,), is `Magnitude.output_change`. What a ranking notes of its neighbours follows.
    """

    blocks: tuple[str, ...]
    squares: Float32Array
    changes: Float32Array

    def coverage(self, row: int) -> tuple[Float64Array, Float64Array]:
        """The shares of one task's and of each task's squared norm in blocks that both have, each of shape (tasks,)."""
        squares = self.squares.astype(np.float64)
        has = (squares > 0).astype(float)
        return has @ squares[row] / squares[row].sum(), squares @ has[row] / squares.sum(axis=1)

    def differs(self, other: Sizes) -> bool:
        """Whether another one says something else, beyond rounding."""
        if self.blocks != other.blocks:
            return True
        near = [
            np.abs(mine - theirs) <= _ROUNDING * np.maximum(theirs, theirs.max(axis=-1, keepdims=True, initial=0))
            for mine, theirs in ((self.squares, other.squares), (self.changes, other.changes))
        ]
        return not all(part.all() for part in near)


@dataclass(frozen=True)
class PairIndex:
    """Lengths and cosines of all embeddings of a space under one similarity.

    `norms` are the lengths of their updates, of shape (tasks,); `pairs` the cosines of all pairs, each once, row by row
    above the diagonal, of shape (tasks (tasks - 1) / 2,). `digests` are the sha256 of the embeddings' files, in order,
    so that an index that no longer fits its registry is known as such. Embeddings of the space that do not compare with
    the others are not among the tasks. `sizes` says how large their updates are, where the file does.
    """

    space: str
    similarity: str
    tasks: tuple[str, ...]
    digests: tuple[str, ...]
    norms: Float64Array
    pairs: Float32Array
    sizes: Sizes | None = None

    def row(self, at: int) -> Float64Array:
        """Cosines between one task and all, of shape (tasks,)."""
        count = len(self.tasks)
        before = np.arange(at)
        cosines = np.ones(count)
        cosines[:at] = self.pairs[_start(before, count) + at - before - 1]
        cosines[at + 1 :] = self.pairs[_start(at, count) : _start(at + 1, count)]
        return cosines

    def scores(self) -> Float64Array:
        """Cosines between all tasks, of shape (tasks, tasks)."""
        count = len(self.tasks)
        full = np.zeros((count, count))
        for at in range(count):
            full[at, at + 1 :] = self.pairs[_start(at, count) : _start(at + 1, count)]
        full += full.T
        np.fill_diagonal(full, 1)
        return full

    def difference(self, other: PairIndex) -> str:
        """Where another index of the same embeddings says something else, in a sentence; "" within `TOLERANCE`."""
        if (self.tasks, self.digests) != (other.tasks, other.digests):
            return "is of other embeddings"
        norms = np.abs(self.norms - other.norms) > TOLERANCE * other.norms
        if norms.any():
            at = int(norms.argmax())
            return f"says that the norm of {self.tasks[at]} is {self.norms[at]:.8g}; it is {other.norms[at]:.8g}"
        apart = np.abs(self.pairs - other.pairs)
        if apart.size and apart.max() > TOLERANCE:
            at = int(apart.argmax())
            row, column = (int(side[at]) for side in np.triu_indices(len(self.tasks), 1))
            return (
                f"says that {self.tasks[row]} and {self.tasks[column]} score {self.pairs[at]:.4f}; "
                f"their embeddings score {other.pairs[at]:.4f}"
            )
        if self.sizes is not None and other.sizes is not None and self.sizes.differs(other.sizes):
            return "says that the updates of its embeddings are of other sizes than they are"
        return ""

    def to_bytes(self) -> bytes:
        """The index's safetensors file.

        A cosine c is the whole number nearest to c (2^23 - 1), in two tensors: 256 `high` + `low`. That is as exact as
        float32 in three quarters of the bytes, which are most of what a question to a registry on the Hub fetches.
        """
        fixed = np.rint(self.pairs.astype(np.float64).clip(-1, 1) * _ONE).astype(np.int32)
        tensors = {"norms": self.norms, "high": (fixed >> 8).astype(np.int16), "low": (fixed & 255).astype(np.uint8)}
        metadata = {
            "schema": SCHEMA,
            "space": self.space,
            "similarity": self.similarity,
            "tasks": json.dumps(self.tasks),
            "digests": json.dumps(self.digests),
        }
        if self.sizes is not None:
            tensors |= {"squares": self.sizes.squares, "changes": self.sizes.changes}
            metadata["blocks"] = json.dumps(self.sizes.blocks)
        return TensorFile(tensors, metadata).to_bytes()


def build_pair_index(
    space: str,
    similarity: str,
    embeddings: Sequence[TaskEmbedding],
    digests: Sequence[str],
    covariance: InputCovariance | None = None,
) -> PairIndex:
    """Compare the embeddings of a space with each other, in their order, as far as they compare (`pack_comparable`)."""
    packed = pack_comparable(embeddings, similarity, covariance)
    total = kernel(packed, packed).cross.sum(axis=0)
    known = {embedding.task: digest for embedding, digest in zip(embeddings, digests, strict=True)}
    kept = tuple(known[task] for task in packed.tasks)
    changes = packed_changes(packed, embeddings).astype(np.float32)
    sizes = Sizes(packed.blocks, packed.squares.T.astype(np.float32), changes)
    return PairIndex(space, similarity, packed.tasks, kept, *_normalised((total + total.T) / 2), sizes)


def parse_pair_index(data: bytes, where: str) -> PairIndex:
    """Read an index from the bytes of its file, of schema 1 or 2.

    Raises
    ------
    FormatError
        When it is not an index, or its numbers do not fit its tasks.
    """
    file = load_tensorfile(data, where)
    try:
        meta = file.metadata
        tasks, digests = tuple(json.loads(meta["tasks"])), tuple(json.loads(meta["digests"]))
        if len(tasks) != len(digests) or not all(isinstance(text, str) for text in (*tasks, *digests)):
            raise ValueError("malformed tasks or digests")
        norms, pairs = _READERS[meta["schema"]](file.tensors, len(tasks))
        sizes = _sizes(file, len(tasks)) if "squares" in file.tensors else None
        return PairIndex(meta["space"], meta["similarity"], tasks, digests, norms, pairs, sizes)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise FormatError(
            f"{where} is not an index of a space, is damaged, or is of a later version.", hint="tupate-hub verify"
        ) from error


def _sizes(file: TensorFile, count: int) -> Sizes:
    blocks, squares, changes = json.loads(file.metadata["blocks"]), file.tensors["squares"], file.tensors["changes"]
    if not isinstance(blocks, list) or not all(isinstance(name, str) for name in blocks):
        raise ValueError("malformed names of blocks")
    if squares.shape != (count, len(blocks)) or changes.shape != (count,):
        raise ValueError("sizes of other tasks")
    if not all(array.dtype.str == "<f4" and (array >= 0).all() for array in (squares, changes)):
        raise ValueError("sizes that are no positive numbers")
    if count and not (np.isfinite(squares).all() and (squares.sum(axis=1) > 0).all()):
        raise ValueError("updates of no size")
    return Sizes(tuple(blocks), squares, changes)


def _in_three_bytes(tensors: Mapping[str, Array], count: int) -> tuple[Float64Array, Float32Array]:
    """Norms and cosines as `PairIndex.to_bytes` writes them."""
    norms, high, low = (tensors[name] for name in ("norms", "high", "low"))
    if [kind.str for kind in (norms.dtype, high.dtype, low.dtype)] != ["<f8", "<i2", "|u1"]:
        raise ValueError("numbers of other kinds")
    if norms.shape != (count,) or not high.shape == low.shape == (_start(count, count),):
        raise ValueError("numbers for other tasks")
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise ValueError("norms that are not positive")
    pairs = high.astype(np.float32)  # whole numbers below 2^24 are exact in it
    pairs *= 256
    pairs += low
    pairs /= _ONE
    return norms, pairs


def _triangle(tensors: Mapping[str, Array], count: int) -> tuple[Float64Array, Float32Array]:
    """Norms and cosines of schema 1: the upper triangle of the kernel with its diagonal, row by row."""
    triangle = tensors["kernel"].astype(np.float64)
    if triangle.shape != (count * (count + 1) // 2,) or not np.isfinite(triangle).all():
        raise ValueError("numbers for other tasks")
    full = np.zeros((count, count))
    full[np.triu_indices(count)] = triangle
    if not (np.diag(full) > 0).all():
        raise ValueError("norms that are not positive")
    return _normalised(full)


_READERS: Mapping[str, Callable[[Mapping[str, Array], int], tuple[Float64Array, Float32Array]]] = {
    SCHEMA: _in_three_bytes,
    "tupate-hub-index/1": _triangle,
}


def _normalised(full: Float64Array) -> tuple[Float64Array, Float32Array]:
    """Norms and the cosines of all pairs, from the upper triangle of a kernel of shape (tasks, tasks)."""
    norms = np.sqrt(np.diag(full))
    return norms, off_diagonal(full / norms[:, None] / norms[None, :]).astype(np.float32)


def _start(row: Any, count: int) -> Any:
    """Where the pairs of a row, or of each row of an array, begin."""
    return row * (2 * count - row - 1) // 2
