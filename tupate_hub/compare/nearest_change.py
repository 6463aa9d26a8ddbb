"""Nearest embeddings changed: some rows put in and some taken out, without looking at the others one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace

import numpy as np

from tupate_hub.arrays import Array, IndexArray
from tupate_hub.compare.nearest import Nearest, Row, Texts
from tupate_hub.compare.sketch import Sketch

_APART = ("space", "similarity", "tasks", "files", "kinds_of", "kinds", "spread")
#: The arrays that have a row for each embedding, and nothing to be told apart in.
_ARRAYS = tuple(one.name for one in fields(Nearest) if one.name not in _APART)


def changed(
    held: Nearest, rows: Sequence[Row], sketches: Iterable[Sketch], places: Sequence[int], gone: Iterable[str] = ()
) -> Nearest:
    """Nearest embeddings with some rows in the place of those of the same tasks, and without those that are `gone`.

    `rows` are in order of their tasks, with their sketches, and where these are among the whole ones.
    """
    new = Nearest.of(held.space, held.similarity, rows, sketches, places, held.spread)
    out = {held.tasks.find(task) for task in (*(row.task for row in rows), *gone)} - {None}
    kept = np.ones(len(held), dtype=bool)
    kept[np.array(sorted(at for at in out if at is not None), dtype=np.intp)] = False
    before = np.concatenate([[0], np.cumsum(kept)])
    at = np.array([before[held.tasks.place(row.task)] for row in rows], dtype=np.intp)
    kinds = tuple(sorted({*held.kinds, *new.kinds}))
    codes = [np.array([kinds.index(kind) for kind in one.kinds], dtype=np.int16)[one.kinds_of] for one in (held, new)]
    return replace(
        new,
        **{name: np.insert(getattr(held, name)[kept], at, getattr(new, name), axis=0) for name in _ARRAYS},
        tasks=_inserted(held.tasks, kept, at, new.tasks),
        files=_inserted(held.files, kept, at, new.files),
        kinds=kinds,
        kinds_of=np.insert(codes[0][kept], at, codes[1]),
    )


def _inserted(texts: Texts, kept: Array, at: IndexArray, new: Texts) -> Texts:
    """The texts that are kept, with new ones before some of them."""
    lengths, added = (np.diff(one.ends, prepend=0) for one in (texts, new))
    ends = np.concatenate([[0], np.cumsum(lengths[kept])])
    utf8 = np.insert(texts.utf8[np.repeat(kept, lengths)], np.repeat(ends[at], added), new.utf8)
    return Texts(utf8, np.cumsum(np.insert(lengths[kept], at, added)).astype(np.int32))
