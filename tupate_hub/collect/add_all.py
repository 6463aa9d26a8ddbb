"""Addition of many: adapters on this disk into a registry, one refused beside the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from tupate_hub.collect.add import Additions, RejectedFile, add_embeddings
from tupate_hub.collect.read_adapter import plain_name
from tupate_hub.collect.reading import read_all
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import TargetExists, TupateHubError
from tupate_hub.space import Space
from tupate_hub.task import fold
from tupate_hub.zoo import Zoo

#: After so many the registry is written, so that memory holds no more of them, and a killed command has lost no more.
AT_ONCE = 1000


def add_all(
    zoo: Zoo,
    paths: Iterable[Path],
    names: Sequence[str],
    *,
    base: str | None = None,
    base_weights: Path | None = None,
    force: bool = False,
    ray: str | None = None,
) -> tuple[Zoo, Additions]:
    """Read many adapters into a zoo; what cannot be read is refused, with its sentence, and left out.

    The registry is written after each `AT_ONCE` of them, and what is there already is told again, not read in anew.
    `names` are for those that do not say their task, or say the same as one before them in their space; `base` is for
    those that name no base model of the Hub. `ray` is the address of a Ray cluster whose workers read, or `local`.

    Raises
    ------
    TupateHubError
        When Ray is wanted and not installed, or together with `base_weights`; and as `add_embeddings`.
    """
    rejected: list[RejectedFile] = []
    seen: set[tuple[str, Space]] = set()
    named = zip(paths, names, strict=True)

    def readable() -> Iterator[tuple[Path, TaskEmbedding]]:
        for path, name, embedding in read_all(named, base, base_weights, ray):
            try:
                if isinstance(embedding, TupateHubError):
                    raise embedding
                if (fold(embedding.task), embedding.space) in seen:
                    embedding = replace(embedding, task=plain_name(name))
                key = fold(embedding.task), embedding.space
                if key in seen:
                    raise TargetExists(f"Task {embedding.task!r} is among them already.", hint="give another `task`")
            except TupateHubError as error:
                rejected.append(RejectedFile(path, error.message, error.hint, type(error)))
            else:
                seen.add(key)
                yield path, embedding

    reading, became = readable(), Additions()
    for first in reading:
        zoo, some = add_embeddings(zoo, chain([first], islice(reading, AT_ONCE - 1)), force=force)
        became = became.with_more(some)
        if some.added:
            zoo = Zoo.open(zoo.folder)  # without the rows that were read and written on the way
    everything = sorted([*rejected, *became.rejected], key=lambda rejection: rejection.path)
    return zoo, replace(became, rejected=tuple(everything))
