"""Files that appear whole or not at all: a temporary name, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tupate_hub.errors import TargetExists, TupateHubError, WorkFailed

if TYPE_CHECKING:
    from filelock import BaseFileLock

#: The file of a folder by which processes wait for one another.
LOCK = ".lock"
#: What it is where the disk has no locks: a file that is there as long as one waits for it.
_LOCKED = ".locked"
_AT_ONCE = 16
_MASK = threading.Lock()
_DAY = 86_400.0
#: The names under which files and folders are made before they are renamed: nobody else's, since they may be deleted.
_PART = ".tupate.part"
_LEFTOVER = re.compile(r"\.(?P<target>.+)\.[a-z0-9_]{8}\.tupate\.(?P<kind>part|old)")
_SWEPT: set[Path] = set()


@contextlib.contextmanager
def told_in_one_sentence(target: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write `target` into errors of the project's."""
    try:
        yield
    except PermissionError as error:
        raise TupateHubError(f"No permission to write {target}.", hint="choose another place") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WorkFailed(
                f"The disk is full: {target} was not written.", hint="free some space, or choose another place"
            ) from error
        if error.errno == errno.EROFS:
            raise TupateHubError(f"{target} lies on a read-only disk.", hint="choose another place") from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT):
            raise TupateHubError(
                f"{target} cannot be written: {error.strerror}.", hint="choose another place"
            ) from error
        raise WorkFailed(
            f"{target} was not written: {error.strerror or error}.", hint="choose another place"
        ) from error


@contextlib.contextmanager
def alone(folder: Path, *, patient: bool = True) -> Iterator[None]:
    """Keep out whoever else asks for the same folder on this machine, by a lock on the file `.lock` in it.

    The lock goes with its process, the file stays. A folder that is made for it goes again if it stays empty.

    Raises
    ------
    WorkFailed
        When another is in the folder and one is not `patient`.
    TupateHubError
        When the folder cannot be made.
    """
    made = not folder.exists()
    with told_in_one_sentence(folder):
        lock = _lock(folder, patient)
    try:
        yield
    finally:
        if made and {path.name for path in folder.glob("*")} <= {LOCK, _LOCKED}:
            with contextlib.suppress(OSError):
                for name in (LOCK, _LOCKED):
                    (folder / name).unlink(missing_ok=True)
                folder.rmdir()
        lock.release()


def _make(folder: Path) -> None:
    """Make a folder and its parents, whoever takes one of them away again in between, as `alone` does."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISDIR(os.lstat(error.filename).st_mode):
                    raise
        else:
            return


def _lock(folder: Path, patient: bool) -> BaseFileLock:
    import filelock

    file = folder / LOCK
    while True:
        _make(folder)
        lock: BaseFileLock = filelock.FileLock(file)
        try:
            with file.open("ab") as opened:
                lock.acquire(blocking=patient)
                if _is_at(file, opened.fileno()):
                    return lock
        except FileNotFoundError:
            continue
        except filelock.Timeout:
            raise _occupied(folder) from None
        except NotImplementedError:  # older versions of filelock, on network disks that have no locks
            return _lock_file(folder, patient)
        lock.release()  # the one before had nothing to write and took its folder away, and this file with it


def _is_at(path: Path, opened: int) -> bool:
    """Whether an open file is still the one at `path`. If so it was there all the time: what is taken away stays so."""
    try:
        return os.path.samestat(os.fstat(opened), path.stat())
    except FileNotFoundError:
        return False


def _lock_file(folder: Path, patient: bool) -> BaseFileLock:
    """A lock that is a file beside `LOCK`, and goes with it."""
    import filelock

    lock = filelock.SoftFileLock(folder / _LOCKED)
    while True:
        _make(folder)
        try:
            lock.acquire(blocking=patient)
        except FileNotFoundError:
            continue
        except filelock.Timeout:
            raise _occupied(folder) from None
        return lock


def _occupied(folder: Path) -> WorkFailed:
    return WorkFailed(f"Another process is at work in {folder}.", hint="wait until it has ended")


def write_bytes(target: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `target` by `data` in one step; parent folders are made.

    What is not `durable` may be lost or cut when the power fails a moment later: for what is checked when it is read.

    Raises
    ------
    TupateHubError
        No permission or an impossible path.
    WorkFailed
        A full disk. The old file, if any, is untouched.
    """
    with told_in_one_sentence(target):
        _replace(target, data, durable)


def _replace(target: Path, data: bytes, durable: bool = True) -> None:
    import tempfile  # here, as in write_folder: it is slow to import, and most commands write nothing

    _make(target.parent)
    _sweep(target.parent)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=_PART)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def settle(targets: Iterable[Path]) -> None:
    """Wait until files that were not `durable` are on the disk, which for many takes little longer than for one.

    Raises
    ------
    WorkFailed
        When the disk fails.
    """
    from concurrent.futures import ThreadPoolExecutor

    def wait(target: Path) -> None:
        with told_in_one_sentence(target), target.open("rb+") as stream:
            os.fsync(stream.fileno())

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        deque(pool.map(wait, targets), maxlen=0)


def write_folder(target: Path, files: dict[str, bytes], *, force: bool = False, durable: bool = True) -> None:
    """Make the folder `target` with exactly these files, in one step; `durable` as in `write_bytes`.

    Raises
    ------
    TargetExists
        When `target` exists and `force` is not set.
    """
    import shutil
    import tempfile

    target = Path(os.path.abspath(target))  # "." has no parent to stage beside
    if os.path.lexists(target) and not force:
        raise TargetExists(f"{target} exists already.", hint="replace it with `force=True`, or give another folder")
    with contextlib.suppress(OSError):  # looked at once: another process may just be replacing it
        if not stat.S_ISDIR(os.lstat(target).st_mode):
            raise TargetExists(f"{target} is not a folder.", hint="give another folder")
    with told_in_one_sentence(target):
        _make(target.parent)
        _sweep(target.parent)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=_PART))
        try:
            for name, data in files.items():
                _replace(staging / name, data, durable)
            staging.chmod(0o777 & ~_umask())
            _put_in_place(staging, target, force)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def _put_in_place(staging: Path, target: Path, force: bool) -> None:
    """Rename a folder to `target`, in place of one that is there: others may do the same, and each gets its turn."""
    import shutil

    old = staging.with_suffix(".old")
    while True:
        try:
            if force:
                with contextlib.suppress(FileNotFoundError):
                    target.replace(old)
            staging.replace(target)
        except BaseException as error:
            if not os.path.lexists(target):
                with contextlib.suppress(OSError):
                    old.replace(target)
            if not (isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST)):
                raise
            if not force:
                raise TargetExists(f"{target} exists already.", hint="give another folder") from error
        else:
            return
        finally:
            shutil.rmtree(old, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Take away what processes that were killed have left in a folder more than a day ago; once in each process."""
    if folder in _SWEPT:
        return
    _SWEPT.add(folder)
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            match = _LEFTOVER.fullmatch(entry.name)
            if match and time.time() - entry.stat(follow_symlinks=False).st_mtime > _DAY:
                _clear(Path(entry.path), folder / match["target"], match["kind"])


def _clear(left: Path, target: Path, kind: str) -> None:
    import shutil

    with contextlib.suppress(OSError):
        if kind == "old" and not os.path.lexists(target):
            left.replace(target)  # the last copy: its process ended between two renames
        elif left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink()


def _umask() -> int:
    """The process's mask, which can only be read by setting it: by one thread at a time."""
    with _MASK:
        mask = os.umask(0)
        os.umask(mask)
    return mask
