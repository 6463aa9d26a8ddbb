"""Fan-out: many runs side by side, in processes of this machine or on the workers of a Ray cluster.

What a run is, is the caller's: `work` is called with each of them, and what it returns comes back with its run, as soon
as it is there. Both `work` and the runs are sent to other processes, so `work` is a function of a module, or a
`functools.partial` of one.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from tupate_hub.errors import WorkFailed

Run = TypeVar("Run")
Result = TypeVar("Result")
Started = TypeVar("Started")

#: How often a run is started again whose process or worker was killed.
RETRIES = 3
#: Runs that are started ahead of their turn, for each that can be done at once.
AHEAD = 4
_SECONDS_TO_REACH = 10.0


def over_processes(
    work: Callable[[Run], Result], runs: Sequence[Run], jobs: int
) -> Iterator[tuple[Run, Result | BaseException]]:
    """Each run with what `work(run)` returned or raised, `jobs` at a time, in the order in which they end.

    A process that is killed takes the pool with it: what had no result yet is started again in a new pool, up to
    `RETRIES` times, after which the run comes back with a `BrokenProcessPool`. When this process is killed, the others
    end too.
    """
    left = list(runs)
    for retries_left in reversed(range(1 + RETRIES)):
        with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_end_with_parent) as pool:
            pending = {}
            with suppress(BrokenProcessPool):
                for run in left:
                    pending[pool.submit(work, run)] = run
            lost = left[len(pending) :]
            for future in as_completed(pending):
                error = future.exception()
                if isinstance(error, BrokenProcessPool) and retries_left:
                    lost.append(pending[future])
                else:
                    yield pending[future], error or future.result()
        left = lost
        if not left:
            return


def over_ray(
    work: Callable[[Run, Path], Result],
    runs: Sequence[Run],
    files_of: Callable[[Run], Mapping[str, bytes]],
    *,
    address: str,
    jobs: int,
    needs: Mapping[str, float],
) -> Iterator[tuple[Run, Result | BaseException]]:
    """As `over_processes`, on a Ray cluster. No folder is shared: a run's files go out, and its result comes back.

    A run whose worker dies is started again, up to `RETRIES` times; the others do not notice.

    Parameters
    ----------
    work : callable
        Called on the worker with a run and a temporary folder that holds the run's files.
    files_of : callable
        The files that a run needs, by their paths inside that folder.
    address : str
        The cluster's; `local` starts one on this machine with room for `jobs` runs at a time.
    needs : mapping
        What each run takes of Ray's resources: `num_cpus`, `num_gpus`.
    """
    with _cluster(address, jobs, needs) as start:
        import ray

        pending = {start(_in_a_folder, work, run, files_of(run)): run for run in runs}
        while pending:
            (done,), _ = ray.wait(list(pending))
            yield pending[done], _result(done)
            del pending[done]


def in_order(
    start: Callable[[Run], Started], runs: Iterable[Run], room: Callable[[int], int]
) -> Iterator[tuple[Run, Started]]:
    """Each run with what `start` gave for it, in the order of `runs`, started ahead of its turn.

    `room` says how many more may be started while so many are; nothing is started any more, and the work ends, when
    none is and it says 0.
    """
    rest, ahead = iter(runs), deque[tuple[Run, Started]]()
    while True:
        ahead.extend((run, start(run)) for run in islice(rest, max(0, room(len(ahead)))))
        if not ahead:
            return
        yield ahead.popleft()


def in_order_over_ray(
    work: Callable[[Run], Result],
    runs: Iterable[Run],
    *,
    address: str,
    jobs: int,
    environment: Mapping[str, str] = MappingProxyType({}),
    room: Callable[[int, int], int] = lambda ahead, most: most - ahead,
) -> Iterator[tuple[Run, Result | BaseException]]:
    """Each run with what `work(run)` returned or raised on a Ray cluster, in the order of `runs`, one a CPU at a time.

    `runs` may be any number: few more of them are taken, and wait with their results, than the cluster has CPUs for. A
    run whose worker dies is started again, up to `RETRIES` times; the others do not notice.

    Parameters
    ----------
    address : str
        The cluster's; `local` starts one on this machine with room for `jobs` runs at a time.
    environment : mapping
        Variables that the workers have beside their own.
    room : callable, optional
        How many more may be started while so many are, and at most so many should be.
    """
    with _cluster(address, jobs, {"num_cpus": 1}, environment) as start:
        import ray

        most = AHEAD * max(jobs, round(ray.cluster_resources().get("CPU", 1)))
        for run, reference in in_order(lambda run: start(work, run), runs, lambda ahead: room(ahead, most)):
            yield run, _result(reference)
            del reference  # with the last one the cluster lets the result go


@contextmanager
def _cluster(
    address: str, jobs: int, needs: Mapping[str, float], environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Callable[..., Any]]:
    """Connect to a cluster; inside, calling what is given starts a function with its arguments on a worker.

    Raises
    ------
    WorkFailed
        When it cannot be reached.
    """
    import ray

    room = {name: round(jobs * value) for name, value in needs.items()}
    here: dict[str, Any] = {**room, "object_store_memory": 2**28, "include_dashboard": False}
    there = {"runtime_env": {"env_vars": dict(environment)}} if environment else {}
    try:  # what Ray says would stand among the data on standard output
        _reach(address)
        where = here if address == "local" else {"address": address}
        ray.init(log_to_driver=False, logging_level="warning", **there, **where)
    except (OSError, ValueError, RuntimeError) as error:
        said = str(error).partition("\n")[0].rstrip(".")
        raise WorkFailed(
            f"There is no Ray cluster at {address!r}: {said}.", hint="one on this machine: `ray='local'`"
        ) from error
    try:
        remote = ray.remote(max_retries=RETRIES, **needs)(_call)
        yield remote.remote
    finally:
        ray.shutdown()


def _end_with_parent() -> None:
    """End this process with the one that started it: without that it would finish its run, and then wait for ever."""
    parent = parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _reach(address: str) -> None:
    """Raise an OSError where nobody listens at HOST:PORT: Ray would try for minutes, and then end the process."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), _SECONDS_TO_REACH).close()


def _call(work: Callable[..., Result], *arguments: Any) -> Result:
    return work(*arguments)


def _result(reference: Any) -> Any:
    """What a run returned, or the error that it raised."""
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return getattr(error, "cause", None) or error


def _in_a_folder(work: Callable[[Run, Path], Result], run: Run, files: Mapping[str, bytes]) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return work(run, Path(folder))
