"""Spread: how the pairs of a large space score, from some of them; percentiles and the noise level follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tupate_hub.arrays import Float32Array, Float64Array, IndexArray
from tupate_hub.compare.bits import cosines
from tupate_hub.compare.kernel import kernel, off_diagonal, pack_comparable
from tupate_hub.compare.nearest import Nearest, Spread
from tupate_hub.compare.noise import noise_level
from tupate_hub.compare.sketch_part import SketchPart
from tupate_hub.registry import Entry
from tupate_hub.search.nearest_files import whole_bits
from tupate_hub.zoo import Zoo

#: Embeddings whose pairs are looked at, where their weights are kept and take at most so many bytes; else by sketches.
EXACTLY, MOST_BYTES, BY_SKETCHES = 160, 1_000_000_000, 512
#: Even shares of the pairs whose scores are kept: a percentile is right to a tenth.
_QUANTILES = 1001
#: By such a factor a space has to grow before its pairs are looked at again.
_GROWTH = 1.1


def spread_of(
    zoo: Zoo, entries: Sequence[Entry], held: Nearest, parts: list[SketchPart], old: Spread | None
) -> Spread | None:
    """That of a space: the `old` one unless the space has grown since; None where there are no pairs.

    Which embeddings are drawn depends on their number alone.
    """
    if old is not None and old.tasks <= len(entries) <= _GROWTH * old.tasks:
        return old
    drawn: IndexArray = np.sort(np.random.default_rng(0).permutation(len(entries))[:BY_SKETCHES])
    some = [entries[at] for at in drawn[np.linspace(0, len(drawn) - 1, min(EXACTLY, len(drawn))).astype(int)]]
    exact = all(entry.file for entry in some) and sum(entry.bytes for entry in some) <= MOST_BYTES
    if exact:
        packed = pack_comparable([zoo.load(entry) for entry in some])
        tasks, scores = packed.tasks, kernel(packed, packed).scores()
    else:
        tasks = tuple(entries[at].task for at in drawn)
        bits = whole_bits(parts, held.places_of(drawn))
        scores = np.stack([cosines(row, bits) for row in bits])
    pairs = off_diagonal(scores)
    if not len(pairs):
        return None
    noise = noise_level(pairs, [zoo.registry.tasks[task].kind for task in tasks])
    return Spread(_quantiles(pairs), len(tasks), len(pairs), exact, len(entries), noise)


def _quantiles(pairs: Float64Array) -> Float32Array:
    shares = np.linspace(0, len(pairs) - 1, min(_QUANTILES, len(pairs)))
    return np.asarray(np.interp(shares, np.arange(len(pairs)), np.sort(pairs)), dtype=np.float32)
