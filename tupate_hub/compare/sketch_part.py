"""SketchPart: whole sketches of some embeddings of a space, by the digest of what was sketched, in one file.

A space keeps its sketches in parts, in order of arrival, so that an addition writes the last one anew and no other.
`docs/sketch.md` specifies the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tupate_hub.arrays import Array, Float64Array
from tupate_hub.compare.bits import Bits
from tupate_hub.compare.sketch import ENTRIES, Sketch
from tupate_hub.errors import FormatError
from tupate_hub.storage.safetensors import TensorFile

SCHEMA = "tupate-hub-sketches/1"
#: Sketches of a part, at most: 4.3 MB, which an addition writes anew, and holds a few times while it does.
MOST = 2048


@dataclass(frozen=True)
class SketchPart:
    """Sketches under one similarity: `digests` (n, 32), `bits` (n, 2048), `norms` (n,) and output `changes` (n,)."""

    space: str
    similarity: str
    digests: Bits
    bits: Bits
    norms: Float64Array
    changes: Float64Array

    @staticmethod
    def of(space: str, similarity: str, digests: Sequence[str], sketches: Sequence[Sketch]) -> SketchPart:
        """Those of some embeddings, each with the SHA-256 of its file."""
        count = len(sketches)
        bits = np.stack([one.bits for one in sketches]) if count else np.zeros((0, ENTRIES // 8), dtype=np.uint8)
        known = np.frombuffer(b"".join(map(bytes.fromhex, digests)), dtype=np.uint8).reshape(count, 32)
        norms, changes = (np.array([getattr(one, name) for one in sketches]) for name in ("norm", "change"))
        return SketchPart(space, similarity, known, bits, norms, changes)

    def __len__(self) -> int:
        return len(self.digests)

    def digest(self, row: int) -> str:
        """The SHA-256 of what a row is the sketch of."""
        return bytes(self.digests[row]).hex()

    def sketch(self, row: int, task: str) -> Sketch:
        """A row, under the name of its task."""
        return Sketch(task, self.bits[row], float(self.norms[row]), float(self.changes[row]))

    def to_bytes(self) -> bytes:
        """The safetensors file."""
        tensors: dict[str, Array] = {
            "bits": np.ascontiguousarray(self.bits).view(np.int64),
            "changes": self.changes.astype(np.float64),
            "digests": self.digests,
            "norms": self.norms.astype(np.float64),
        }
        return TensorFile(tensors, {"schema": SCHEMA, "space": self.space, "similarity": self.similarity}).to_bytes()


def sketch_part_of(file: TensorFile, where: str) -> SketchPart:
    """What a safetensors file holds.

    Raises
    ------
    FormatError
        When it is none of this schema, or its tensors do not fit one another.
    """
    wanted = {
        "bits": ("<i8", (ENTRIES // 64,)),
        "changes": ("<f8", ()),
        "digests": ("|u1", (32,)),
        "norms": ("<f8", ()),
    }
    meta, held = file.metadata, file.tensors
    count = len(held["digests"]) if "digests" in held and held["digests"].ndim else -1
    fits = meta.get("schema") == SCHEMA and {"space", "similarity"} <= meta.keys() and wanted.keys() <= held.keys()
    if not fits or any(
        held[name].dtype.str != dtype or held[name].shape != (count, *more) for name, (dtype, more) in wanted.items()
    ):
        raise FormatError(
            f"{where} is not a file of sketches, is damaged, or is of a later version.", hint="tupate-hub verify"
        )
    bits = held["bits"].view(np.uint8)
    return SketchPart(meta["space"], meta["similarity"], held["digests"], bits, held["norms"], held["changes"])
