"""Deaths: work that is killed, as by a power cut, just before the n-th call that changes the disk, for every n."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

_CHANGES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"})
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_DIED, _DONE, _BROKE = 77, 0, 1
_LONGEST = 60.0

can_fork = hasattr(os, "fork")
#: What the second environment of `make test` need not do again: the disk is the same without torch.
again_without_torch = bool(os.environ.get("TUPATE_HUB_LIGHT"))


def dies_at(point: int, work: Callable[[], object]) -> bool:
    """Do the work in a process that ends, without clean-up, before the change of that number; whether it came so far."""
    child = os.fork()
    if child == 0:
        try:
            _arm(point)
            work()
        except BaseException:
            os._exit(_BROKE)
        os._exit(_DONE)
    code = _ended(child)
    assert code in (_DIED, _DONE), f"at point {point} the work ended with {code}"
    return code == _DIED


def deaths(work_at: Callable[[int], Callable[[], object]], most: int = 400) -> Iterator[int]:
    """Kill the work at its first change, its second, ..., until it survives; yields after each death.

    `work_at(point)` makes ready what the work needs, anew for each death, and returns the work.
    """
    for point in range(1, most):
        if not dies_at(point, work_at(point)):
            assert point > 1, "the work changes nothing"
            return
        yield point
    raise AssertionError(f"the work makes more than {most} changes")


def _arm(point: int) -> None:
    left = point

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os._exit(_DIED)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES or (event == "open" and _writes(*arguments)):
            count()

    fsync = os.fsync

    def counted(handle: int) -> None:
        count()
        fsync(handle)

    os.fsync = counted
    sys.addaudithook(hook)


def _writes(path: Any, mode: str | None, flags: int) -> bool:
    return (
        not isinstance(path, int)
        and bool(flags & _WRITING)
        and str(path) != os.devnull
        and "__pycache__" not in str(path)
    )


def _ended(child: int) -> int:
    """The exit code of a child, which is killed when it hangs."""
    until = time.monotonic() + _LONGEST
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("the work hangs")
