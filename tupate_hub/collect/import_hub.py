"""ImportResult: the adapters that the Hub lists for a base model, read into a registry of the user's own.

Repositories are fetched several at once and taken in one after another in the order of the list, the most downloaded
first, so that names and files do not depend on who answers first. Every few seconds the registry is written: whatever
ends the work, the next run goes on behind what is there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from tupate_hub.collect.add import add_embeddings
from tupate_hub.collect.content import content_digest
from tupate_hub.collect.fetching import JOBS, LONGEST_WAIT, Budget, Fetched, Pending, fetch, fetch_all
from tupate_hub.collect.read_adapter import plain_name, read_downloaded
from tupate_hub.collect.refusals import remember, remembered
from tupate_hub.collect.sizes import Sizes
from tupate_hub.collect.streaming import Gist, Wish
from tupate_hub.compare.similarity import DEFAULT
from tupate_hub.compare.sketch import Sketch
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.entry import Entry
from tupate_hub.errors import FormatError, NotAvailableOffline, SpaceMismatch, TupateHubError
from tupate_hub.extras import require_extra
from tupate_hub.hub.download import held_folder
from tupate_hub.hub.list_adapters import ListedRepository, list_adapters
from tupate_hub.hub.location import endpoint
from tupate_hub.hub.outages import OUTAGE, Outages
from tupate_hub.hub.rate_limit import waiting_allowed
from tupate_hub.registry import SpaceEntry
from tupate_hub.search.comparison import MOST_PAIRED
from tupate_hub.task import fold
from tupate_hub.zoo import Zoo

#: The registry is written every so many seconds, or after so many times as long as writing it takes: what is lost where
#: the process is killed.
_SECONDS, _TIMES = 2.0, 9.0

T = TypeVar("T")


@dataclass(frozen=True)
class RejectedRepository:
    """A repository that was not taken in, and the sentence that says why; both can be shown on a terminal."""

    repository: str
    reason: str
    hint: str = ""

    @property
    def kind(self) -> str:
        """The reason without names and large numbers, the same for all that were refused for it."""
        name, last = self.repository, self.repository.rpartition("/")[2]
        said = self.reason.replace(f"hf://{name}", "it").replace(name, "...").replace(f"{last!r}", "...")
        return re.sub(r"\d{3,}", "N", said)


@dataclass(frozen=True)
class ImportResult:
    """What an import did.

    `listed` is the number of repositories, `kept` of those that the registry had already at the listed commit; `added`
    are its new or renewed entries, `failed` names what could not be had because the Hub or the disk failed, and
    `stopped` is what ended the work before its time. `left` is how many were not begun because the budget was spent,
    `fetched` how many bytes of configurations and weights came over the network.
    """

    zoo: Zoo
    listed: int
    added: tuple[Entry, ...]
    kept: int
    rejected: tuple[RejectedRepository, ...]
    failed: tuple[RejectedRepository, ...] = ()
    stopped: TupateHubError | None = None
    left: int = 0
    fetched: int = 0


def import_adapters(
    zoo: Zoo,
    wish: Wish,
    *,
    author: str | None = None,
    library: str | None = None,
    limit: int | None = None,
    jobs: int = JOBS,
    budget: Budget | None = None,
    each: Callable[[Iterator[Pending], int], Iterator[Pending]] = lambda waiting, count: waiting,
    tell: Callable[[float], object] = lambda seconds: None,
) -> ImportResult:
    """Take in what the Hub lists for a base model and the registry has not yet at the same commit.

    An adapter is named by its task. Where that name is taken in its space, it is called `OWNER--NAME`. A name once
    given stays: a newer commit of a repository replaces the older one under the same name.

    Parameters
    ----------
    zoo : Zoo
        The registry, in a folder; as `add.open_or_start` gives it.
    wish : Wish
        The base model, whose adapters alone are taken in, what is kept of each and by whom it is fetched.
    author, library, limit
        What is listed; see `list_adapters`.
    jobs : int
        How many repositories are fetched at once.
    budget : Budget, optional
        When no other one is begun.
    each : callable, optional
        Wraps the iteration over so many repositories, for a progress bar.
    tell : callable, optional
        Hears for how many seconds all requests wait, each time that the Hub asks for fewer.

    Raises
    ------
    FormatError
        When nothing is listed, or a file of the registry is damaged.
    NotAvailableOffline, WorkFailed
        When not even the list can be had; later this is in `failed`, and in `stopped` where it ended the work: at once
        without a network, after three in a row where the Hub or the disk fails.
    TupateHubError
        When the registry cannot be written to, Ray is wanted and not installed, and as `list_adapters`.
    """
    if wish.ray is not None:
        require_extra("cluster")
    with waiting_allowed(LONGEST_WAIT, tell):
        listed = list_adapters(wish.base, author, library, limit)
        if not listed:
            of = f" of {author}" if author else ""
            raise FormatError(f"The Hub lists no adapter{of} for {wish.base}.", hint=f"look at {endpoint()}/models")
        return _take_in(zoo, listed, wish, jobs, Budget() if budget is None else budget, each)


def _take_in(
    zoo: Zoo,
    listed: Sequence[ListedRepository],
    wish: Wish,
    jobs: int,
    budget: Budget,
    each: Callable[[Iterator[Pending], int], Iterator[Pending]],
) -> ImportResult:
    there = {(entry.source.get("repo"), entry.source.get("revision")) for entry in zoo.registry.entries}
    new = [repository for repository in listed if (repository.id, repository.commit) not in there]
    reading = _Reading(zoo, wish, budget)
    wanted = [repository for repository in new if not reading.knows(repository)]
    names: list[tuple[str, str]] = []
    with closing(fetch_all(wanted, wish, jobs, budget)) as fetched:
        for batch in _batches(reading.readable(each(fetched, len(wanted)))):  # under names that are free
            zoo, became = add_embeddings(zoo, batch, force=True, keep=wish.keep, sketches=reading.sketches)
            names += [(space, task) for _, task, space in became.added]
            reading.sketches.clear()
    return ImportResult(
        zoo,
        listed=len(listed),
        added=tuple(zoo.registry.entry(task, space) for space, task in sorted(names)),
        kept=len(listed) - len(new),
        rejected=tuple(reading.rejected),
        failed=tuple(reading.failed),
        stopped=reading.stopped,
        left=len(wanted) - reading.begun if budget.is_spent else 0,
        fetched=budget.fetched,
    )


def unpacked(zoo: Zoo, base: str) -> list[str]:
    """The spaces of a base model that have no index, have their weights, and not so many that it would take minutes."""
    spaces = (space for space in zoo.registry.spaces.values() if space.base == base and DEFAULT not in space.index)
    small = [space.name for space in spaces if len(zoo.registry.in_space(space.name)) <= MOST_PAIRED]
    return [name for name in small if all(entry.has_file for entry in zoo.registry.in_space(name))]


def _batches(stream: Iterator[T]) -> Iterator[Iterator[T]]:
    """What comes within a few seconds, again and again; the longer the last batch took to be written, the more."""
    seconds, ended = _SECONDS, 0.0

    def batch(first: T) -> Iterator[T]:
        nonlocal ended
        until = time.monotonic() + seconds
        yield first
        while time.monotonic() < until and (item := next(stream, None)) is not None:
            yield item
        ended = time.monotonic()

    for first in stream:
        yield batch(first)
        seconds = max(_SECONDS, _TIMES * (time.monotonic() - ended))


class _Reading:
    """What has been read so far: the names that are taken, the shapes that a space compares, what was rejected."""

    def __init__(self, zoo: Zoo, wish: Wish, budget: Budget) -> None:
        self.rejected: list[RejectedRepository] = []
        self.failed: list[RejectedRepository] = []
        self.sketches: dict[str, Sketch] = {}
        self._outages = Outages()
        self.stopped: TupateHubError | None = None
        self.begun = 0
        self.zoo = zoo
        self._wish, self._budget = wish, budget
        spaces = {name: entry.space for name, entry in zoo.registry.spaces.items()}
        entries = [(entry, spaces[entry.space]) for entry in zoo.registry.entries]
        self._taken = {(fold(entry.task), space) for entry, space in entries}
        self._named = {(entry.source.get("repo"), space): entry.task for entry, space in entries}
        self._sizes = Sizes()

    def knows(self, listed: ListedRepository) -> bool:
        """Whether an earlier run has refused a repository for what it is; the reason is then taken note of."""
        error = remembered(listed, self._wish) if self._wish.streams else None
        if error is not None:
            self.rejected.append(_rejected(listed, error))
        return error is not None

    def readable(self, fetched: Iterable[Pending]) -> Iterator[tuple[Path, TaskEmbedding]]:
        """The embeddings of what was fetched, under their names; ends early where no more can be fetched."""
        for listed, future in fetched:
            self.begun += 1
            try:
                embedding = self._read(listed, future)
            except OUTAGE as error:
                self.failed.append(_rejected(listed, error))
                if self._outages.note(error):
                    self.stopped = error
                    return
            except TupateHubError as error:
                self._outages.over()
                self.rejected.append(_rejected(listed, error))
            else:
                self._outages.over()
                self._budget.taken += 1
                yield Path(listed.id), embedding

    def _read(self, listed: ListedRepository, future: Future[Fetched]) -> TaskEmbedding:
        embedding = self._embedding(listed, future)
        if embedding.space.base != self._wish.base:
            raise SpaceMismatch(f"It is an adapter of {embedding.space.base}, not of {self._wish.base}.")
        self._require_fitting(embedding)
        name = self._name(listed, embedding)
        said = {} if name == embedding.task else {"task": embedding.task}
        return replace(embedding, task=name, facts={**embedding.facts, "source": {**embedding.facts["source"], **said}})

    def _embedding(self, listed: ListedRepository, future: Future[Fetched]) -> TaskEmbedding:
        try:
            fetched = future.result()
        except NotAvailableOffline:  # once may be an accident
            fetched = fetch(listed, self._wish)
        except TupateHubError as error:
            if self._wish.streams:
                remember(listed, self._wish, error)
            raise
        self._budget.fetched += fetched.fetched
        if not isinstance(fetched, Gist):
            return read_downloaded(fetched)
        if fetched.sketch is not None:
            self.sketches[content_digest(fetched.embedding)] = fetched.sketch
        return fetched.embedding

    def _name(self, listed: ListedRepository, embedding: TaskEmbedding) -> str:
        registry = self.zoo.registry
        name = self._named.get((listed.id, embedding.space))
        if name is None:
            name = registry.spelled.get(fold(embedding.task), embedding.task)
            if (fold(name), embedding.space) in self._taken:
                name = plain_name(listed.id.replace("/", "--"))
            if (fold(name), embedding.space) in self._taken:
                raise TupateHubError(f"Its names, {embedding.task!r} and {name!r}, are taken by others.")
            self._taken.add((fold(name), embedding.space))
        return name

    def _require_fitting(self, embedding: TaskEmbedding) -> None:
        """Refuse what names this base model and has other sizes: with it in its space nothing there would compare."""
        space = embedding.space
        known = (entry for entry in self.zoo.registry.spaces.values() if entry.space == space)
        entry = next(known, SpaceEntry(space.name, space.base, space.method))
        if reason := self._sizes.misfit(embedding, entry, self.zoo):
            raise SpaceMismatch(reason)


def _rejected(listed: ListedRepository, error: TupateHubError) -> RejectedRepository:
    """The error's sentence without the commit and the cache's folders."""
    said = error.message
    with suppress(FormatError):  # one without a location is not named in the sentence
        at = listed.location()
        for place in filter(None, (str(held_folder(at) or ""), str(at))):
            said = said.replace(f"{place}/", "").replace(place, f"hf://{at.id}")
        said = said.replace(f"{at.id}/", "")  # as what was read from memory is called
    return RejectedRepository(_shown(listed.id)[:200], _shown(said), _shown(error.hint))


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
