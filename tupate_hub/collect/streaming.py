"""Gist: what is left of an adapter of the Hub that was streamed, looked at and let go."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from tupate_hub.collect.allowance import Allowance
from tupate_hub.collect.block_pattern import BlockPattern
from tupate_hub.collect.content import STORED
from tupate_hub.collect.read_adapter import read_streamed, require_direction
from tupate_hub.compare.similarity import DEFAULT
from tupate_hub.compare.sketch import Sketch, Sketcher
from tupate_hub.embedding import Block, TaskEmbedding, parse_embedding
from tupate_hub.entry import KEPT
from tupate_hub.errors import FormatError, SpaceMismatch
from tupate_hub.hub import list_adapters
from tupate_hub.hub.list_adapters import ListedRepository
from tupate_hub.hub.location import Location
from tupate_hub.hub.streamed import Outline, StreamedAdapter, open_streamed
from tupate_hub.readers.in_memory import InMemory, Part, load_from_memory, load_part
from tupate_hub.space import Space

#: Bytes of weights that are in memory at once, in all threads; a larger file is alone.
_ROOM = Allowance(256_000_000)
#: Threads that compute at once: one alone where the linear algebra has threads of its own, which spin for each other.
_ALONE = "1" in (os.environ.get("OPENBLAS_NUM_THREADS"), os.environ.get("OMP_NUM_THREADS"))
_COMPUTING = threading.Semaphore((os.cpu_count() or 1) if _ALONE else 1)
#: Adapters that are sketched together, at most.
_MOST_TOGETHER = 8


@dataclass(frozen=True)
class Wish:
    """What is wanted of each adapter, and who fetches it.

    `base` is the base model, normalised; `keep` what the registry keeps, one of `entry.KEPT`: weights that are not kept
    lie on no disk at any time. `blocks` are the tensors that are fetched, all by default. `ray` is the address of a Ray
    cluster whose workers fetch and read, or `local` for one on this machine.
    """

    base: str
    keep: str = KEPT[0]
    blocks: BlockPattern | None = None
    ray: str | None = None

    @property
    def streams(self) -> bool:
        """Whether adapters pass through memory alone, rather than into the Hub's own cache."""
        return self.keep != KEPT[0] or self.blocks is not None or self.ray is not None


@dataclass(frozen=True)
class Gist:
    """What is kept of an adapter: most often everything but its numbers.

    `shapes` are those of each block's parts, `scales` the blocks' scales; `sketch` is None where none was wanted,
    `fetched` the number of bytes that came over the network. `data` is the whole embedding where that was wanted.
    """

    task: str
    space: Space
    facts: Mapping[str, Any]
    shapes: Mapping[str, Mapping[str, tuple[int, ...]]]
    scales: Mapping[str, float]
    sketch: Sketch | None
    fetched: int
    data: bytes | None = None

    @cached_property
    def embedding(self) -> TaskEmbedding:
        """The embedding; with zeros for numbers, which take no room, where they were not kept."""
        if self.data is not None:
            return parse_embedding(self.data, self.task)
        zero = np.float32(0)
        blocks = [
            Block(name, {part: np.broadcast_to(zero, shape) for part, shape in parts.items()}, self.scales[name])
            for name, parts in self.shapes.items()
        ]
        return TaskEmbedding(self.task, self.space, tuple(blocks), self.facts)


def take_gist(listed: ListedRepository, wish: Wish) -> Gist:
    """Stream an adapter at the commit that is listed, and keep what is wanted; nothing of it is written to a disk.

    Raises
    ------
    FormatError
        For everything that is not read, each with its own sentence.
    SpaceMismatch
        When it is of another base model; said before weights are fetched.
    TupateHubError
        As `client.get`.
    """
    location = listed.location()
    require_listed_for(listed, wish.base)
    files = listed.files or _look_up(location)
    said = list_adapters.facts(location, list(listed.tags))
    adapter = open_streamed(location, files, wish.base, said["base"], in_part=wish.blocks is not None)
    if wish.blocks is None:
        with _ROOM.of(adapter.size):
            data = adapter.read()
            read = load_from_memory(location.id, adapter.file, adapter.config, data, adapter.sha256)
            return _gist(read, adapter, adapter.size, said, wish)
    outline = adapter.outline()
    chosen = outline.chosen(wish.blocks.fits)
    size = sum(stop - start for start, stop in chosen.values())
    with _ROOM.of(size):
        return _gist(_read_part(outline, chosen, wish.blocks), adapter, outline.fetched(chosen), said, wish)


def require_listed_for(listed: ListedRepository, base: str) -> None:
    """Refuse a repository whose tags name other base models.

    Raises
    ------
    SpaceMismatch
        Naming the first of them.
    """
    if listed.bases and base not in listed.bases:
        raise SpaceMismatch(f"{listed.location()} is an adapter of {listed.bases[0]}, not of {base}.")


def _read_part(outline: Outline, chosen: Mapping[str, tuple[int, int]], blocks: BlockPattern) -> InMemory:
    adapter = outline.adapter
    if not chosen:
        raise FormatError(f"{adapter.where} holds no tensor with {str(blocks)!r} in its name.", hint="other `blocks`")
    part = Part(outline.read(chosen), outline.metadata, tuple(outline.spans))
    return load_part(adapter.location.id, adapter.file, adapter.config, part)


def _gist(read: InMemory, adapter: StreamedAdapter, fetched: int, said: Mapping[str, str | None], wish: Wish) -> Gist:
    known = {name: said[name] for name in ("dataset", "licence") if said[name]}
    at = {"kind": "hub", "repo": adapter.location.id, "revision": adapter.location.revision, "size": adapter.size}
    part = {"part": str(wish.blocks)} if wish.blocks else {}
    embedding = read_streamed(read, said, {**at, **known, **part, **_figures(read)})
    if embedding.space.base != wish.base:
        raise SpaceMismatch(f"It is an adapter of {embedding.space.base}, not of {wish.base}.")
    shapes = {one.name: {part: array.shape for part, array in one.parts.items()} for one in embedding.blocks}
    scales = {one.name: one.scale for one in embedding.blocks}
    sketch = _TOGETHER.sketch(embedding) if wish.keep == "sketch" else None
    if sketch is None or not 0 < sketch.norm < np.inf:  # a sketch of what has a direction tells that it has one
        with _COMPUTING:
            require_direction(embedding)
    data = embedding.to_bytes(STORED) if wish.keep == KEPT[0] else None
    fetched += adapter.config_size
    return Gist(embedding.task, embedding.space, embedding.facts, shapes, scales, sketch, fetched, data)


def _figures(read: InMemory) -> dict[str, Any]:
    """What is known of parameters that are not kept: how many, in how many blocks, of which ranks and widths."""
    blocks = read.adapter.blocks
    ranks = sorted({len(one.parts["A"]) for one in blocks if one.form == "lowrank"})
    counted = {"parameters": sum(array.size for one in blocks for array in one.parts.values()), "blocks": len(blocks)}
    return {**counted, "ranks": ranks, "widths": sorted({size for one in blocks for size in one.outer})}


class _Together:
    """Sketches what several threads have at a time together: a block's signs are then read once for all of them."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[TaskEmbedding, Future[Sketch]]] = deque()

    def sketch(self, embedding: TaskEmbedding) -> Sketch:
        """The sketch of an embedding, made by this thread or by another that found it waiting."""
        own: Future[Sketch] = Future()
        self._waiting.append((embedding, own))
        with _COMPUTING:
            if not own.done():
                self._make(list(self._taken()))
        return own.result()

    def _taken(self) -> Iterator[tuple[TaskEmbedding, Future[Sketch]]]:
        for _ in range(_MOST_TOGETHER):
            try:
                yield self._waiting.popleft()
            except IndexError:
                return

    def _make(self, some: list[tuple[TaskEmbedding, Future[Sketch]]]) -> None:
        try:
            made = list(_sketcher().sketches(embedding for embedding, _ in some))
        except BaseException as error:  # each of them is waited for, in a thread of its own
            if len(some) > 1:
                for one in some:
                    self._make([one])
            else:
                some[0][1].set_exception(error)
        else:
            for (_, future), sketch in zip(some, made, strict=True):
                future.set_result(sketch)


_TOGETHER = _Together()


@lru_cache(maxsize=1)
def _sketcher() -> Sketcher:
    """That of this process, which has the signs of blocks that it has met."""
    return Sketcher(DEFAULT)


def _look_up(location: Location) -> tuple[str, ...]:
    """The names of a repository's files, where the list did not say them."""
    from tupate_hub.hub.repository import look_up

    return tuple(name for name in look_up(location).files if "/" not in name)
