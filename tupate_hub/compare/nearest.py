"""Nearest: a large space as a question needs it: a coarse sketch of each embedding, and what a ranking says of it.

`docs/sketch.md` specifies the file. Its rows are in order of the tasks' names, and its arrays may be views of a file
that is mapped into memory: a question then touches the coarsest bits of all rows and whole rows of a few hundred.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tupate_hub.arrays import Array, Float32Array, IndexArray
from tupate_hub.compare.bits import Bits, nearest
from tupate_hub.compare.magnitude import DIVERGED
from tupate_hub.compare.noise import NoiseLevel
from tupate_hub.compare.sketch import Sketch
from tupate_hub.errors import FormatError
from tupate_hub.storage.safetensors import TensorFile

SCHEMA = "tupate-hub-nearest/1"
#: Bits of a row that are looked at for all rows, and all bits of a row here: the first ones of its sketch.
COARSE, FINE = 256, 2048
#: What is marked of a row, a bit each.
WEAK, DIVERGES, KEPT = 1, 2, 4
#: Digests of what two entries of the same data share: the file they were made of, its data, the dataset.
ORIGINS = ("sha256", "data_sha256", "dataset")
_PLAIN = re.compile(r"(?!\.{1,2}$)[\w.+@-]*")
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """Many short texts: their UTF-8 one after the other, of shape (bytes,), and where each ends, (n,)."""

    utf8: Bits
    ends: Int32Array

    @staticmethod
    def of(texts: Iterable[str]) -> Texts:
        """Those of some texts."""
        encoded = [text.encode() for text in texts]
        ends = np.cumsum([len(one) for one in encoded], dtype=np.int64).astype(np.int32)
        return Texts(np.frombuffer(b"".join(encoded), dtype=np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> str:
        return self._bytes(row).decode(errors="replace")

    def find(self, text: str) -> int | None:
        """The row of a text, None where there is none; for texts in order of their UTF-8, by bisection."""
        at = self.place(text)
        return at if at < len(self) and self._bytes(at) == text.encode() else None

    def place(self, text: str) -> int:
        """How many texts come before another, where they are in order."""
        wanted, low, high = text.encode(), 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._bytes(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low

    def _bytes(self, row: int) -> bytes:
        begin = int(self.ends[row - 1]) if row else 0
        return self.utf8[begin : int(self.ends[row])].tobytes()


@dataclass(frozen=True)
class Row:
    """What is known of an embedding beside its sketch: where its file is ("" where the sketch alone is kept)."""

    task: str
    file: str
    bytes: int
    sha256: str
    kind: str = ""
    train_size: int | None = None
    weak: bool = False
    origins: tuple[int, ...] = (0, 0, 0)


@dataclass(frozen=True)
class Spread:
    """How pairs of a space score: `quantiles` at even shares from 0 to 1, of `pairs` pairs among `embeddings` of it.

    `exact` says whether these were compared by their weights or by their sketches; `noise` is of those pairs, too. The
    space had `tasks` embeddings then.
    """

    quantiles: Float32Array
    embeddings: int
    pairs: int
    exact: bool
    tasks: int
    noise: NoiseLevel | None


@dataclass(frozen=True)
class Nearest:
    """The embeddings of a space, n of them, in order of their tasks' names.

    `coarse` and `rest`, of shapes (n, 32) and (n, 224), are the first 2,048 bits of each sketch; `norms` (n,) the norms
    of the updates; `places` (n,) the number of each sketch among the whole ones; `sizes` (n,) and `digests` (n, 32) are
    of the embeddings' files; `trained` (n,) is -1 where the training size is not known; `kinds_of` (n,) says which of
    `kinds`; `origins`, of shape (n, 3), holds a number for each of `ORIGINS`, 0 where it is not known.
    """

    space: str
    similarity: str
    tasks: Texts
    files: Texts
    coarse: Bits
    rest: Bits
    norms: Float32Array
    places: Int32Array
    sizes: Int64Array
    digests: Bits
    trained: Int64Array
    kinds_of: npt.NDArray[np.int16]
    kinds: tuple[str, ...]
    marks: Bits
    origins: Int64Array
    spread: Spread | None = field(default=None)

    def __len__(self) -> int:
        return len(self.tasks)

    @staticmethod
    def of(
        space: str,
        similarity: str,
        rows: Sequence[Row],
        sketches: Iterable[Sketch],
        places: Sequence[int],
        spread: Spread | None = None,
    ) -> Nearest:
        """From rows in order of their tasks, with their sketches, and where these are among the whole ones."""
        count = len(rows)
        bits = np.empty((count, FINE // 8), dtype=np.uint8)
        norms, marks = np.empty(count, dtype=np.float32), np.zeros(count, dtype=np.uint8)
        for at, (row, sketch) in enumerate(zip(rows, sketches, strict=True)):
            bits[at] = sketch.bits[: FINE // 8]
            norms[at] = sketch.norm
            marks[at] = WEAK * row.weak | DIVERGES * (not sketch.change <= DIVERGED) | KEPT * bool(row.file)
        kinds = sorted({row.kind for row in rows})
        trained = [-1 if row.train_size is None else row.train_size for row in rows]
        digests = b"".join(bytes.fromhex(row.sha256) for row in rows)
        return Nearest(
            space,
            similarity,
            Texts.of(row.task for row in rows),
            Texts.of(_unusual(row.file, space, row.task) for row in rows),
            np.ascontiguousarray(bits[:, : COARSE // 8]),
            np.ascontiguousarray(bits[:, COARSE // 8 :]),
            norms,
            np.asarray(places, dtype=np.int32),
            np.array([row.bytes for row in rows], dtype=np.int64),
            np.frombuffer(digests, dtype=np.uint8).reshape(count, 32),
            np.array(trained, dtype=np.int64),
            np.array([kinds.index(row.kind) for row in rows], dtype=np.int16),
            tuple(kinds),
            marks,
            np.array([row.origins for row in rows], dtype=np.int64).reshape(count, len(ORIGINS)),
            spread,
        )

    def candidates(self, bits: Bits, count: int, by: str | None = None) -> IndexArray:
        """The `count` rows whose coarse bits differ least from those of a sketch's `bits`, of shape (2048,)."""
        return nearest(self.coarse, np.ascontiguousarray(bits[: COARSE // 8]), count, by)

    def fine(self, rows: IndexArray) -> Bits:
        """The bits of some rows, of shape (len(rows), 256)."""
        return np.concatenate([self.coarse[rows], self.rest[rows]], axis=1)

    def places_of(self, rows: IndexArray) -> IndexArray:
        """The numbers of the sketches of some rows among the whole ones."""
        return self.places[rows].astype(np.intp)

    def row(self, at: int) -> Row:
        """What is known of an embedding."""
        trained, task, size = int(self.trained[at]), self.tasks[at], int(self.sizes[at])
        file = (self.files[at] or usual_file(self.space, task)) if self.marks[at] & KEPT else ""
        kind = self.kinds[int(self.kinds_of[at])]
        origins = tuple(map(int, self.origins[at]))
        weak = bool(self.marks[at] & WEAK)
        if not (_PLAIN.fullmatch(task) and all(map(_PLAIN.fullmatch, file.split("/")))):
            raise FormatError(f"The nearest embeddings of {self.space} name a task or file that is not plain.")
        return Row(
            task, file, size, self.digests[at].tobytes().hex(), kind, trained if trained >= 0 else None, weak, origins
        )

    def to_bytes(self) -> bytes:
        """The safetensors file."""
        tensors: dict[str, Array] = {
            "coarse": self.coarse.view(np.int64),
            "rest": self.rest.view(np.int64),
            "task_ends": self.tasks.ends,
            "task_text": self.tasks.utf8,
            "file_ends": self.files.ends,
            "file_text": self.files.utf8,
            **{name: getattr(self, name) for name in _COLUMNS},
        }
        metadata = {
            "schema": SCHEMA,
            "space": self.space,
            "similarity": self.similarity,
            "kinds": json.dumps(self.kinds, ensure_ascii=False),
        }
        if self.spread is not None:
            noise = self.spread.noise
            tensors["quantiles"] = self.spread.quantiles
            about: dict[str, Any] = {name: getattr(self.spread, name) for name in (*_COUNTS, "exact")}
            about["noise"] = None if noise is None else [noise.median, noise.upper, noise.pairs]
            metadata["spread"] = json.dumps(about)
        return TensorFile(tensors, metadata).to_bytes()


#: What is counted of the pairs of a space.
_COUNTS = ("embeddings", "pairs", "tasks")
#: The tensors that are columns as they are: their dtype and the numbers of a row.
_COLUMNS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "norms": ("<f4", ()),
    "places": ("<i4", ()),
    "sizes": ("<i8", ()),
    "digests": ("|u1", (32,)),
    "trained": ("<i8", ()),
    "kinds_of": ("<i2", ()),
    "marks": ("|u1", ()),
    "origins": ("<i8", (len(ORIGINS),)),
}


def nearest_of(file: TensorFile, where: str) -> Nearest:
    """What a safetensors file holds.

    Raises
    ------
    FormatError
        When it is none of this schema, or its tensors do not fit one another.
    """
    meta, held = file.metadata, file.tensors
    try:
        if meta["schema"] != SCHEMA:
            raise ValueError("another schema")
        kinds = tuple(json.loads(meta["kinds"]))
        texts = [Texts(held[f"{name}_text"], held[f"{name}_ends"]) for name in ("task", "file")]
        count = len(texts[0])
        columns = {name: _column(held[name], dtype, (count, *more)) for name, (dtype, more) in _COLUMNS.items()}
        for one in texts:
            _require_texts(one, count)
        if not all(isinstance(kind, str) for kind in kinds):
            raise ValueError("kinds that are no text")
        coarse, rest = (
            _column(held[name], "<i8", (count, size // 64)).view(np.uint8)
            for name, size in (("coarse", COARSE), ("rest", FINE - COARSE))
        )
        codes = columns["kinds_of"]
        if count and not (codes.min() >= 0 and codes.max() < len(kinds)):
            raise ValueError("kinds that there are not")
        spread = _spread(json.loads(meta["spread"]), held["quantiles"]) if "spread" in meta else None
        rows: dict[str, Any] = {**columns, "coarse": coarse, "rest": rest, "tasks": texts[0], "files": texts[1]}
        return Nearest(meta["space"], meta["similarity"], kinds=kinds, spread=spread, **rows)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise FormatError(
            f"{where} is not a file of nearest embeddings, is damaged, or is of a later version.",
            hint="tupate-hub verify",
        ) from error


def _column(array: Array, dtype: str, shape: tuple[int, ...]) -> Array:
    if array.dtype.str != dtype or array.shape != shape:
        raise ValueError("a column of another kind or size")
    return array


def _require_texts(texts: Texts, count: int) -> None:
    _column(texts.ends, "<i4", (count,))
    if texts.utf8.dtype.str != "|u1" or texts.utf8.ndim != 1:
        raise ValueError("text of another kind")
    if count and not (texts.ends[0] >= 0 and (np.diff(texts.ends) >= 0).all() and texts.ends[-1] == len(texts.utf8)):
        raise ValueError("texts that end elsewhere")


def _spread(about: Any, quantiles: Array) -> Spread:
    if quantiles.dtype.str != "<f4" or quantiles.ndim != 1 or not (np.isfinite(quantiles).all() and len(quantiles)):
        raise ValueError("quantiles that are no numbers")
    noise = about["noise"] and NoiseLevel(float(about["noise"][0]), float(about["noise"][1]), int(about["noise"][2]))
    counts = {name: int(about[name]) for name in _COUNTS}
    return Spread(quantiles, exact=bool(about["exact"]), noise=noise, **counts)


def origin(text: object) -> int:
    """The number by which two digests, or names of datasets, are told to be the same: 0 for none.

    The first eight bytes of the SHA-256 of its UTF-8, as a little-endian number with a sign.
    """
    if not isinstance(text, str) or not text:
        return 0
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)


def usual_file(space: str, task: str) -> str:
    """Where the file of an embedding lies unless another is named."""
    return f"zoo/{space}/{task}.safetensors"


def _unusual(file: str, space: str, task: str) -> str:
    """The file of an embedding, "" where it lies where it usually does, or there is none."""
    return "" if file == usual_file(space, task) else file
