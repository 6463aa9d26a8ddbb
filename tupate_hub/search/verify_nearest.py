"""Verify nearest: whether sketches of large spaces, and what is listed beside them, follow from their embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from tupate_hub.collect.nearest import row_of
from tupate_hub.compare.bits import differing
from tupate_hub.compare.nearest import FINE, Nearest
from tupate_hub.compare.sketch import Sketcher
from tupate_hub.compare.sketch_part import SketchPart
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.registry import Entry, SpaceEntry
from tupate_hub.search.nearest_files import open_nearest, open_parts, whole_bits

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo

#: Of the bits of a sketch a larger share than this does not differ by rounding.
MOST_DIFFERING = 0.005
_AT_ONCE = 64
_ROWS = 8192


class PassingSketches:
    """Embeddings that pass by while they are verified, compared with the sketches that their spaces list."""

    def __init__(self, zoo: Zoo) -> None:
        self.problems: list[str] = []
        self._zoo = zoo
        self._sketchers: dict[tuple[str, str], Sketcher] = {}
        self._held: dict[tuple[str, str], tuple[list[SketchPart], dict[str, tuple[int, int]]]] = {}
        self._waiting: dict[tuple[str, str], list[tuple[Entry, TaskEmbedding]]] = {}

    def note(self, entry: Entry, embedding: TaskEmbedding) -> None:
        """Look at an embedding; some are sketched at once. Errors as `open_parts`."""
        for similarity in self._zoo.registry.spaces[entry.space].nearest:
            waiting = self._waiting.setdefault((entry.space, similarity), [])
            waiting.append((entry, embedding))
            if len(waiting) >= _AT_ONCE:
                self._compare(entry.space, similarity)

    def finish(self) -> list[str]:
        """A sentence for each sketch that is another's."""
        for space, similarity in list(self._waiting):
            self._compare(space, similarity)
        return self.problems

    def _compare(self, space: str, similarity: str) -> None:
        passed = self._waiting.pop((space, similarity))
        if (space, similarity) not in self._held:
            parts = open_parts(self._zoo, self._zoo.registry.spaces[space], similarity)
            rows = {part.digest(row): (at, row) for at, part in enumerate(parts) for row in range(len(part))}
            self._held[space, similarity] = parts, rows
            self._sketchers[space, similarity] = Sketcher(similarity)
        parts, rows = self._held[space, similarity]
        sketches = self._sketchers[space, similarity].sketches(embedding for _, embedding in passed)
        for (entry, _), sketch in zip(passed, sketches, strict=True):
            if entry.sha256 not in rows:
                self.problems.append(f"{entry.task} in {space} has no sketch.")
                continue
            part, row = rows[entry.sha256]
            if differing(parts[part].bits[row], sketch.bits) > MOST_DIFFERING:
                self.problems.append(f"The sketch of {entry.task} in {space} is not that of its embedding.")


def nearest_problems(zoo: Zoo, space: SpaceEntry, similarity: str) -> Iterator[str]:
    """What is wrong with the file of nearest embeddings of a space, beside its entries and its sketches.

    Raises
    ------
    FormatError, NotAvailableOffline
        As `open_nearest`.
    """
    held, parts = open_nearest(zoo, space, similarity), open_parts(zoo, space, similarity)
    if held is None:
        return
    file = space.nearest[similarity]["file"]
    listed = (entry for entry in zoo.registry.in_space(space.name) if entry.sha256)
    for at, (number, entry) in enumerate(zip_longest(range(len(held)), listed)):
        if number is None or entry is None:
            yield f"{file} was made from other embeddings than the registry lists."
            return
        if held.row(number) != row_of(entry, zoo.registry.tasks[entry.task]):
            yield f"{file} says something else of {entry.task} than the registry, at row {at}."
            return
    yield from (f"{file} has another sketch of {task} than its space." for task in _other_bits(held, parts))


def _other_bits(held: Nearest, parts: list[SketchPart]) -> Iterator[str]:
    """The tasks whose bits are not the first ones of their whole sketches, or those of another embedding's."""
    digests = np.concatenate([part.digests for part in parts]) if parts else np.zeros((0, 32), dtype=np.uint8)
    for start in range(0, len(held), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(held)))
        places = held.places_of(rows)
        whole = whole_bits(parts, places)[:, : FINE // 8]
        same = (whole == held.fine(rows)).all(axis=1) & (digests[places] == held.digests[rows]).all(axis=1)
        yield from (held.tasks[int(row)] for row in rows[~same])
