"""Index: the kernel between all embeddings of a space, computed once, so that a question needs no parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError
from tupate_hub.moments import Moments
from tupate_hub.similarity import kernel, pack
from tupate_hub.tensorfile import TensorFile, parse_tensorfile

SCHEMA = "tupate-hub-index/1"


@dataclass(frozen=True)
class Index:
    """Inner products of all embeddings of a space under one similarity.

    `kernel` has shape (tasks, tasks); `digests` are the sha256 of the embeddings' files, in order, so that an
    index that no longer fits its registry is known as such.
    """

    space: str
    similarity: str
    tasks: tuple[str, ...]
    digests: tuple[str, ...]
    kernel: NDArray[np.float64]

    def scores(self) -> NDArray[np.float64]:
        """Cosines between all tasks, of shape (tasks, tasks)."""
        norms = np.sqrt(np.diag(self.kernel))
        return np.asarray(self.kernel / norms[:, None] / norms[None, :])

    def to_bytes(self) -> bytes:
        """The index's safetensors file: the upper triangle of the kernel, row by row, in float32."""
        triangle = self.kernel[np.triu_indices(len(self.tasks))].astype(np.float32)
        metadata = {
            "schema": SCHEMA,
            "space": self.space,
            "similarity": self.similarity,
            "tasks": json.dumps(self.tasks),
            "digests": json.dumps(self.digests),
        }
        return TensorFile({"kernel": triangle}, metadata).to_bytes()


def build_index(
    space: str,
    similarity: str,
    embeddings: Sequence[TaskEmbedding],
    digests: Sequence[str],
    moments: Moments | None = None,
) -> Index:
    """Compute the kernel of a space from its embeddings, in their order."""
    packed = pack(embeddings, similarity, moments)
    total = kernel(packed, packed).cross.sum(axis=0)
    return Index(space, similarity, packed.tasks, tuple(digests), (total + total.T) / 2)


def parse_index(data: bytes, where: str) -> Index:
    """Read an index from the bytes of its file.

    Raises
    ------
    FormatError
        When it is no index, or its kernel does not fit its tasks.
    """
    file = parse_tensorfile(data, where)
    try:
        meta = file.metadata
        tasks, digests = tuple(json.loads(meta["tasks"])), tuple(json.loads(meta["digests"]))
        space, similarity, schema = meta["space"], meta["similarity"], meta["schema"]
        triangle = file.tensors["kernel"].astype(np.float64)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"{where} is no index of a space.") from error
    count = len(tasks)
    text = all(isinstance(one, str) for one in (*tasks, *digests))
    fits = schema == SCHEMA and text and len(digests) == count and triangle.shape == (count * (count + 1) // 2,)
    if not fits or not np.isfinite(triangle).all():
        raise FormatError(f"{where} is no {SCHEMA} file, or is damaged.")
    full = np.zeros((count, count))
    full[np.triu_indices(count)] = triangle
    if not (np.diag(full) > 0).all():
        raise FormatError(f"{where} has a kernel whose diagonal is not positive.", hint="tupate-hub verify")
    return Index(space, similarity, tasks, digests, full + np.triu(full, 1).T)
