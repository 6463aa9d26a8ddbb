"""ImportResult: the adapters that the Hub lists for a base model, read into a registry of the user's own.

Repositories are fetched several at once and taken in one after another in the order of the list, the most downloaded
first, so that names and files do not depend on who answers first. Every few seconds the registry is written: whatever
ends the work, the next run goes on behind what is there.
"""

from __future__ import annotations

import contextvars
import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

from tupate_hub.collect.add import add_embeddings
from tupate_hub.collect.read_adapter import plain_name, read_downloaded
from tupate_hub.collect.sizes import Sizes
from tupate_hub.compare.similarity import DEFAULT
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError, NotAvailableOffline, SpaceMismatch, TupateHubError
from tupate_hub.hub.download import DownloadedAdapter, download_adapter, held_folder
from tupate_hub.hub.list_adapters import ListedRepository, list_adapters
from tupate_hub.hub.location import endpoint
from tupate_hub.hub.outages import OUTAGE, Outages
from tupate_hub.hub.rate_limit import waiting_allowed
from tupate_hub.registry import Entry, SpaceEntry, fold
from tupate_hub.search.comparison import MOST_PAIRED
from tupate_hub.zoo import Zoo

JOBS = 8
#: So long one request waits in all where the Hub asks for fewer: it counts them in windows of five minutes.
LONGEST_WAIT = 900.0
#: The registry is written every so many seconds: what is lost where the process is killed.
_SECONDS = 2.0
_AHEAD = 4

T = TypeVar("T")
Pending = tuple[ListedRepository, "Future[DownloadedAdapter]"]


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
    `stopped` is what ended the work before its time.
    """

    zoo: Zoo
    listed: int
    added: tuple[Entry, ...]
    kept: int
    rejected: tuple[RejectedRepository, ...]
    failed: tuple[RejectedRepository, ...] = ()
    stopped: TupateHubError | None = None


def import_adapters(
    zoo: Zoo,
    base: str,
    *,
    author: str | None = None,
    library: str | None = None,
    limit: int | None = None,
    jobs: int = JOBS,
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
    base : str
        The base model, normalised; adapters of another one are refused before their weights are fetched.
    author, library, limit
        What is listed; see `list_adapters`.
    jobs : int
        How many repositories are fetched at once.
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
        When the registry cannot be written to, and as `list_adapters`.
    """
    with waiting_allowed(LONGEST_WAIT, tell):
        listed = list_adapters(base, author, library, limit)
        if not listed:
            of = f" of {author}" if author else ""
            raise FormatError(f"The Hub lists no adapter{of} for {base}.", hint=f"look at {endpoint()}/models")
        there = {(entry.source.get("repo"), entry.source.get("revision")) for entry in zoo.registry.entries}
        wanted = [repository for repository in listed if (repository.id, repository.commit) not in there]
        reading = _Reading(zoo, base)
        with closing(_downloads(wanted, base, jobs)) as downloads:
            stream = reading.readable(each(downloads, len(wanted)))
            for first in stream:
                batch = chain([first], _for_a_while(stream))
                zoo, _ = add_embeddings(zoo, batch, force=True)  # the names are free, or the repository's own
    before = {(entry.task, entry.space): entry for entry in reading.zoo.registry.entries}
    added = tuple(entry for entry in zoo.registry.entries if before.get((entry.task, entry.space)) != entry)
    kept, rejected, failed = len(listed) - len(wanted), tuple(reading.rejected), tuple(reading.failed)
    return ImportResult(zoo, len(listed), added, kept, rejected, failed, reading.stopped)


def unpacked(zoo: Zoo, base: str) -> list[str]:
    """The spaces of a base model that have no index, and not so many embeddings that it would take minutes."""
    spaces = (space for space in zoo.registry.spaces.values() if space.base == base and DEFAULT not in space.index)
    return [space.name for space in spaces if len(zoo.registry.in_space(space.name)) <= MOST_PAIRED]


def _for_a_while(stream: Iterator[T]) -> Iterator[T]:
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until and (item := next(stream, None)) is not None:
        yield item


class _Reading:
    """What has been read so far: the names that are taken, the shapes that a space compares, what was rejected."""

    def __init__(self, zoo: Zoo, base: str) -> None:
        self.rejected: list[RejectedRepository] = []
        self.failed: list[RejectedRepository] = []
        self._outages = Outages()
        self.stopped: TupateHubError | None = None
        self.zoo = zoo
        self._base = base
        spaces = {name: entry.space for name, entry in zoo.registry.spaces.items()}
        entries = [(entry, spaces[entry.space]) for entry in zoo.registry.entries]
        self._taken = {(fold(entry.task), space) for entry, space in entries}
        self._named = {(entry.source.get("repo"), space): entry.task for entry, space in entries}
        self._sizes = Sizes()

    def readable(self, downloads: Iterable[Pending]) -> Iterator[tuple[Path, TaskEmbedding]]:
        """The embeddings of what was fetched, under their names; ends early where no more can be fetched."""
        for listed, future in downloads:
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
                yield Path(listed.id), embedding

    def _read(self, listed: ListedRepository, future: Future[DownloadedAdapter]) -> TaskEmbedding:
        try:
            downloaded = future.result()
        except NotAvailableOffline:  # once may be an accident
            downloaded = download_adapter(listed.location(), self._base)
        embedding = read_downloaded(downloaded)
        if embedding.space.base != self._base:
            raise SpaceMismatch(f"It is an adapter of {embedding.space.base}, not of {self._base}.")
        self._require_fitting(embedding)
        name = self._name(listed, embedding)
        said = {} if name == embedding.task else {"task": embedding.task}
        return replace(embedding, task=name, facts={**embedding.facts, "source": {**embedding.facts["source"], **said}})

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


def _downloads(wanted: Sequence[ListedRepository], base: str, jobs: int) -> Generator[Pending, None, None]:
    """Each repository when it has been fetched, or has failed to be, in order; at most so many times `jobs` ahead."""
    rest, ahead = iter(wanted), deque[Pending]()
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="fetch")
    try:
        while True:
            for repository in islice(rest, _AHEAD * jobs - len(ahead)):
                context = contextvars.copy_context()  # with this thread's wait budget
                ahead.append((repository, pool.submit(context.run, _fetch, repository, base)))
            if not ahead:
                return
            wait([ahead[0][1]])
            yield ahead.popleft()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _fetch(listed: ListedRepository, base: str) -> DownloadedAdapter:
    location = listed.location()
    if listed.bases and base not in listed.bases:
        raise SpaceMismatch(f"{location} is an adapter of {listed.bases[0]}, not of {base}.")
    return download_adapter(location, base)


def _rejected(listed: ListedRepository, error: TupateHubError) -> RejectedRepository:
    """The error's sentence without the commit and the cache's folders."""
    said = error.message
    with suppress(FormatError):  # one without a location is not named in the sentence
        at = listed.location()
        for place in filter(None, (str(held_folder(at) or ""), str(at))):
            said = said.replace(f"{place}/", "").replace(place, f"hf://{at.id}")
    return RejectedRepository(_shown(listed.id)[:200], _shown(said), _shown(error.hint))


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
