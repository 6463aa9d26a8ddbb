"""Fan-out: many runs side by side, in processes of this machine or on the workers of a Ray cluster.

What a run is, is the caller's: `work` is called with each of them, and what it returns comes back with its run, as soon
as it is there. Both `work` and the runs are sent to other processes, so `work` is a function of a module, or a
`functools.partial` of one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

Run = TypeVar("Run")
Result = TypeVar("Result")

#: How often a run is started again whose process or worker was killed.
RETRIES = 3


def over_processes(
    work: Callable[[Run], Result], runs: Sequence[Run], jobs: int
) -> Iterator[tuple[Run, Result | BaseException]]:
    """Each run with what `work(run)` returned or raised, `jobs` at a time, in the order in which they end.

    A process that is killed takes the pool with it: what had no result yet is started again in a new pool, up to
    `RETRIES` times, after which the run comes back with a `BrokenProcessPool`.
    """
    left = list(runs)
    for retries_left in reversed(range(1 + RETRIES)):
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
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
    import ray

    room = {name: round(jobs * value) for name, value in needs.items()}
    here: dict[str, Any] = {**room, "object_store_memory": 2**28, "include_dashboard": False}
    ray.init(**here if address == "local" else {"address": address})
    try:
        remote = ray.remote(max_retries=RETRIES, **needs)(_in_a_folder)
        pending = {remote.remote(work, run, files_of(run)): run for run in runs}
        while pending:
            (done,), _ = ray.wait(list(pending))
            run = pending.pop(done)
            try:
                yield run, ray.get(done)
            except ray.exceptions.RayError as error:
                yield run, getattr(error, "cause", None) or error
    finally:
        ray.shutdown()


def _in_a_folder(work: Callable[[Run, Path], Result], run: Run, files: Mapping[str, bytes]) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return work(run, Path(folder))
