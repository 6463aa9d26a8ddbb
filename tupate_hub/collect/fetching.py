"""Fetching: repositories of the Hub, several at once or over a cluster, each with what became of it, in their order."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

from tupate_hub.collect.streaming import Gist, Wish, require_listed_for, take_gist
from tupate_hub.errors import TupateHubError, WorkFailed
from tupate_hub.fan_out import AHEAD, in_order, in_order_over_ray
from tupate_hub.hub.download import DownloadedAdapter, download_adapter
from tupate_hub.hub.list_adapters import ListedRepository
from tupate_hub.hub.location import PUBLIC, endpoint
from tupate_hub.hub.rate_limit import waiting_allowed

JOBS = 8
#: So long one request waits in all where the Hub asks for fewer: it counts them in windows of five minutes.
LONGEST_WAIT = 900.0

Fetched = DownloadedAdapter | Gist
Pending = tuple[ListedRepository, "Future[Fetched]"]


class Budget:
    """How many bytes may be fetched and how many repositories taken in, and how much has been; None is no limit."""

    def __init__(self, most_bytes: int | None = None, most_repositories: int | None = None) -> None:
        self._most_bytes, self._most_repositories = most_bytes, most_repositories
        self.fetched = 0
        self.taken = 0

    @property
    def is_spent(self) -> bool:
        """Whether nothing more may be begun."""
        bytes_left = self._most_bytes is None or self.fetched < self._most_bytes
        return not bytes_left or (self._most_repositories is not None and self.taken >= self._most_repositories)

    def room(self, ahead: int, most: int) -> int:
        """How many more may be begun while so many are, and at most so many should be.

        Where bytes are counted, none is begun before its turn: what is under way when they are spent is finished.
        """
        if self.is_spent:
            return 0
        left = most // AHEAD - ahead if self._most_bytes is not None else most - ahead
        return left if self._most_repositories is None else min(left, self._most_repositories - self.taken - ahead)


def fetch_all(
    wanted: Iterable[ListedRepository], wish: Wish, jobs: int, budget: Budget
) -> Generator[Pending, None, None]:
    """Each repository when it has been fetched, or has failed to be, in order; so many at once, or over a cluster.

    Raises
    ------
    WorkFailed
        When the cluster cannot be reached.
    """
    if wish.ray is not None:
        return _fetch_over_ray(wanted, wish, jobs, budget, wish.ray)
    return _fetch_here(wanted, wish, jobs, budget)


def _fetch_here(
    wanted: Iterable[ListedRepository], wish: Wish, jobs: int, budget: Budget
) -> Generator[Pending, None, None]:
    """In threads of this process."""
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="fetch")

    def start(repository: ListedRepository) -> Future[Fetched]:
        run: Callable[..., Fetched] = contextvars.copy_context().run  # with this thread's wait budget
        return pool.submit(run, fetch, repository, wish)

    try:
        for repository, future in in_order(start, wanted, lambda ahead: budget.room(ahead, AHEAD * jobs)):
            wait([future])
            yield repository, future
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _fetch_over_ray(
    wanted: Iterable[ListedRepository], wish: Wish, jobs: int, budget: Budget, address: str
) -> Generator[Pending, None, None]:
    """By the workers of a Ray cluster, which hand back what is kept; they write nothing."""
    environment = {} if endpoint() == PUBLIC else {"HF_ENDPOINT": endpoint()}
    work = partial(_take_there, wish=wish)
    results = in_order_over_ray(work, wanted, address=address, jobs=jobs, environment=environment, room=budget.room)
    for repository, result in results:
        settled: Future[Fetched] = Future()
        if isinstance(result, Gist):
            settled.set_result(result)
        elif isinstance(result, TupateHubError):
            settled.set_exception(result)
        else:
            settled.set_exception(WorkFailed(f"{repository.id}: its worker ended without a word.", hint="retry"))
        yield repository, settled


def fetch(repository: ListedRepository, wish: Wish) -> Fetched:
    """What is wanted of a repository; errors as `take_gist` and `download_adapter`."""
    if wish.streams:
        return take_gist(repository, wish)
    location = repository.location()
    require_listed_for(repository, wish.base)
    return download_adapter(location, wish.base)


def _take_there(repository: ListedRepository, wish: Wish) -> Gist:
    """On a worker, which waits by itself where the Hub asks for fewer requests."""
    with waiting_allowed(LONGEST_WAIT, lambda seconds: None):
        return take_gist(repository, wish)
