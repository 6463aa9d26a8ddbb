"""Files that appear whole or not at all, whatever the disk, the system or the user does in between."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import filelock
import pytest

from tupate_hub.errors import TargetExists, TupateHubError, WorkFailed
from tupate_hub.storage import atomic as atomicfile
from tupate_hub.storage.atomic import (
    alone,
    settle,
    told_in_one_sentence,
    write_bytes,
    write_folder,
)

FILES = {"a.bin": b"one", "b.bin": b"two"}


def tree(root: Path) -> dict[str, bytes | None]:
    """Everything below a folder: files with their bytes, folders with None."""
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


def failing(error: BaseException, after: int = 0) -> Any:
    """A stand-in for a system call that raises `error`, once `after` calls have passed; those do nothing."""
    calls = []

    def call(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) > after:
            raise error

    return call


# --- one file --------------------------------------------------------------------------------------------------


def test_a_file_and_its_folders_are_made(tmp_path: Path) -> None:
    write_bytes(tmp_path / "new" / "folders" / "x.bin", b"data")
    assert tree(tmp_path / "new") == {"folders": None, "folders/x.bin": b"data"}


def test_a_file_is_replaced(tmp_path: Path) -> None:
    write_bytes(tmp_path / "x.bin", b"a longer text")
    write_bytes(tmp_path / "x.bin", b"")
    assert tree(tmp_path) == {"x.bin": b""}


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_users_umask_decides_who_may_read(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_bytes(tmp_path / "x.bin", b"")
        write_folder(tmp_path / "folder", {"y.bin": b""})
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert (tmp_path / "x.bin").stat().st_mode & 0o777 == mode
    assert (tmp_path / "folder" / "y.bin").stat().st_mode & 0o777 == mode
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~mask


def test_a_link_is_replaced_and_what_it_points_to_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other.bin").write_bytes(b"other")
    (tmp_path / "x.bin").symlink_to(tmp_path / "other.bin")
    write_bytes(tmp_path / "x.bin", b"new")
    assert not (tmp_path / "x.bin").is_symlink()
    assert tree(tmp_path) == {"other.bin": b"other", "x.bin": b"new"}


FAILURES = [
    (OSError(errno.ENOSPC, "No space left on device"), WorkFailed, "The disk is full"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), WorkFailed, "The disk is full"),
    (OSError(errno.EIO, "Input/output error"), WorkFailed, "was not written: Input/output error"),
    (OSError(errno.EFBIG, "File too large"), WorkFailed, "was not written: File too large"),
    (OSError("odd"), WorkFailed, "was not written: odd"),
    (PermissionError(errno.EACCES, "Permission denied"), TupateHubError, "No permission to write"),
    (PermissionError(errno.EPERM, "Operation not permitted"), TupateHubError, "No permission to write"),
    (OSError(errno.EROFS, "Read-only file system"), TupateHubError, "lies on a read-only disk"),
    (OSError(errno.ENAMETOOLONG, "File name too long"), TupateHubError, "cannot be written: File name too long"),
]


@pytest.mark.parametrize(("error", "kind", "sentence"), FAILURES)
def test_the_systems_refusals_are_told_in_one_sentence(
    error: OSError, kind: type[TupateHubError], sentence: str
) -> None:
    with pytest.raises(TupateHubError) as caught, told_in_one_sentence(Path("some/x.bin")):
        raise error
    assert type(caught.value) is kind
    assert caught.value.exit_code == kind.exit_code
    assert sentence in caught.value.message
    assert "some/x.bin" in caught.value.message
    assert caught.value.message.endswith(".")
    assert caught.value.hint
    assert caught.value.__cause__ is error


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(KeyError), told_in_one_sentence(Path("x")):
        raise KeyError("x")


@pytest.mark.parametrize("call", ["fsync", "chmod", "replace", "fdopen"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_a_failure_anywhere_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException
) -> None:
    (tmp_path / "x.bin").write_bytes(b"old")
    expected = WorkFailed if isinstance(error, OSError) else type(error)
    with monkeypatch.context() as patched:
        patched.setattr(atomicfile.os, call, failing(error))
        with pytest.raises(expected):
            write_bytes(tmp_path / "x.bin", b"new")
    assert tree(tmp_path) == {"x.bin": b"old"}


@pytest.mark.parametrize("name", ["x" * 250, "x" * 300], ids=["with the temporary suffix", "alone"])
def test_a_name_that_is_too_long(tmp_path: Path, name: str) -> None:
    for write in (lambda: write_bytes(tmp_path / name, b""), lambda: write_folder(tmp_path / name, FILES)):
        with pytest.raises(TupateHubError, match="cannot be written: File name too long"):
            write()
    assert tree(tmp_path) == {}


def test_a_file_where_a_folder_would_have_to_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    for target in (tmp_path / "file" / "x.bin", tmp_path / "file" / "deep" / "x.bin"):
        with pytest.raises(TupateHubError, match="cannot be written"):
            write_bytes(target, b"new")
        with pytest.raises(TupateHubError, match="cannot be written"):
            write_folder(target, FILES)
    assert tree(tmp_path) == {"file": b"old"}


def test_a_folder_where_the_file_would_have_to_be(tmp_path: Path) -> None:
    (tmp_path / "x.bin").mkdir()
    with pytest.raises(TupateHubError, match="cannot be written"):
        write_bytes(tmp_path / "x.bin", b"new")
    assert tree(tmp_path) == {"x.bin": None}


# --- a folder --------------------------------------------------------------------------------------------------


def test_a_folder_holds_exactly_its_files(tmp_path: Path) -> None:
    write_folder(tmp_path / "new" / "target", FILES)
    assert tree(tmp_path / "new") == {"target": None, "target/a.bin": b"one", "target/b.bin": b"two"}


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file", "link", "broken link"])
def test_an_existing_target_is_left_alone(tmp_path: Path, kind: str) -> None:
    target, other = tmp_path / "target", tmp_path / "other"
    make_target(kind, target, other)
    before = tree(tmp_path)
    with pytest.raises(TargetExists, match=r"target exists already\.") as caught:
        write_folder(target, FILES)
    assert "`force=True`" in caught.value.hint
    assert tree(tmp_path) == before


def make_target(kind: str, target: Path, other: Path) -> None:
    if kind == "folder":
        target.mkdir()
        (target / "old.bin").write_bytes(b"old")
    elif kind == "empty folder":
        target.mkdir()
    elif kind == "file":
        target.write_bytes(b"old")
    else:
        if kind == "link":
            other.mkdir()
            (other / "old.bin").write_bytes(b"old")
        target.symlink_to(other)


def test_force_replaces_the_whole_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "target", {"old.bin": b"old", "a.bin": b"old"})
    write_folder(tmp_path / "target", FILES, force=True)
    assert tree(tmp_path) == {"target": None, "target/a.bin": b"one", "target/b.bin": b"two"}


def test_many_replace_one_folder_at_once(tmp_path: Path) -> None:
    """As 32 pulls of one task into the default folder do."""
    target = tmp_path / "target"

    def write(number: int) -> None:
        write_folder(target, {f"{name}.bin": bytes([number]) for name in "abc"}, force=True, durable=False)

    for _ in range(8):
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(write, range(32)))
        assert len({data for data in tree(target).values()}) == 1
        assert {path.name for path in tmp_path.iterdir()} == {"target"}


def test_of_many_that_make_one_folder_at_once_one_does(tmp_path: Path) -> None:
    def write(number: int) -> str:
        try:
            write_folder(tmp_path / "target", {"x": bytes([number])}, durable=False)
        except TargetExists as error:
            return error.message
        return ""

    with ThreadPoolExecutor(32) as pool:
        told = list(pool.map(write, range(32)))
    assert told.count("") == 1
    assert set(told) == {"", f"{tmp_path / 'target'} exists already."}
    assert {path.name for path in tmp_path.iterdir()} == {"target"}


# --- leftovers -------------------------------------------------------------------------------------------------


def age(path: Path, days: float) -> None:
    os.utime(path, (time.time() - days * 86_400,) * 2)


LEFT = ("x.bin.abcd1234.tupate.part", "y.0123_xyz.tupate.part", "there.abcdefgh.tupate.old")


def leave(folder: Path, days: float) -> list[Path]:
    """What processes leave that are killed: a file and a folder half made, and a folder that was replaced."""
    left = [folder / f".{name}" for name in LEFT]
    left[0].write_bytes(b"half")
    for path in left[1:]:
        path.mkdir(parents=True)
        (path / "a.bin").write_bytes(b"half")
    for path in left:
        age(path, days)
    return left


@pytest.mark.parametrize("how", ["file", "folder"])
def test_what_was_left_more_than_a_day_ago_goes(how: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    kept = {
        tmp_path / name for name in (".hidden", "x.part", ".x.part", ".bashrc.20261231.old", ".x.abcd1234.part", ".git")
    }
    for path in kept:
        path.write_bytes(b"")
        age(path, 400)
    left = leave(tmp_path, 1.1)
    if how == "file":
        write_bytes(tmp_path / "new", b"")
    else:
        write_folder(tmp_path / "new", FILES)
    assert not any(path.exists() for path in left)
    assert kept <= set(tmp_path.iterdir())


def test_what_was_left_a_moment_ago_may_be_someones_work(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    left = leave(tmp_path, 0.9)
    write_bytes(tmp_path / "new", b"")
    assert all(path.exists() for path in left)


def test_a_folder_whose_process_ended_between_two_renames_comes_back(tmp_path: Path) -> None:
    leave(tmp_path, 1.1)
    write_bytes(tmp_path / "new", b"")
    assert tree(tmp_path / "there") == {"a.bin": b"half"}


def test_force_makes_what_is_not_there(tmp_path: Path) -> None:
    write_folder(tmp_path / "target", FILES, force=True)
    assert tree(tmp_path / "target") == FILES


@pytest.mark.parametrize("kind", ["file", "link", "broken link"])
def test_force_replaces_nothing_but_folders(tmp_path: Path, kind: str) -> None:
    make_target(kind, tmp_path / "target", tmp_path / "other")
    before = tree(tmp_path)
    with pytest.raises(TargetExists, match=r"target is not a folder\."):
        write_folder(tmp_path / "target", FILES, force=True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("written", [0, 1])
def test_a_failure_among_the_files_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool, error: BaseException, written: int
) -> None:
    if force:
        write_folder(tmp_path / "target", {"old.bin": b"old"})
    before = tree(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(atomicfile.os, "fsync", failing(error, after=written))
        with pytest.raises(WorkFailed if isinstance(error, OSError) else type(error)) as caught:
            write_folder(tmp_path / "target", FILES, force=force)
    assert tree(tmp_path) == before
    if isinstance(caught.value, WorkFailed):
        assert str(tmp_path / "target") in caught.value.message
        assert ".part" not in caught.value.message


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("number", [1, 2])
def test_a_failure_while_folders_change_places_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, number: int
) -> None:
    """The first rename moves the old folder away, the second puts the new one in its place."""
    write_folder(tmp_path / "target", {"old.bin": b"old"})
    before, renames, rename = tree(tmp_path), [], Path.replace

    def replace(self: Path, target: Path) -> Path:
        renames.append(self)
        if len(renames) == number:
            raise error
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        with pytest.raises(WorkFailed if isinstance(error, OSError) else type(error)):
            write_folder(tmp_path / "target", FILES, force=True)
    assert len(renames) >= number
    assert tree(tmp_path) == before


def test_the_current_folder_is_a_target_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_folder(Path("target"), FILES)
    assert tree(tmp_path / "here" / "target") == FILES
    with pytest.raises(TargetExists):
        write_folder(Path(), FILES)


# --- the real thing, in a process of its own -------------------------------------------------------------------


def python(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


LIMITED = """
import resource, signal, sys
from pathlib import Path
from tupate_hub.storage.atomic import write_bytes, write_folder
from tupate_hub.errors import WorkFailed
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for write in (
    lambda: write_bytes(Path(sys.argv[1]), b"x" * 20_000),
    lambda: write_folder(Path(sys.argv[2]), {"a": b"x", "b": b"x" * 20_000}, force=True),
):
    try:
        write()
    except WorkFailed as error:
        print(error.message)
"""


def test_a_disk_that_takes_no_more_leaves_what_was_there(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    write_bytes(tmp_path / "x.bin", b"old")
    write_folder(tmp_path / "target", {"old.bin": b"old"})
    before = tree(tmp_path)
    out, err = python(LIMITED, tmp_path / "x.bin", tmp_path / "target").communicate(timeout=60)
    assert out.splitlines() == [
        f"{tmp_path / 'x.bin'} was not written: File too large.",
        f"{tmp_path / 'target'} was not written: File too large.",
    ], err
    assert tree(tmp_path) == before


SLOW = """
import sys, time
from pathlib import Path
from tupate_hub.storage import atomic as atomicfile
def slow(handle):
    print("writing", flush=True)
    time.sleep(60)
atomicfile.os.fsync = slow
atomicfile.write_folder(Path(sys.argv[1]), {"a": b"new"}, force=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, getattr(signal, "SIGKILL", signal.SIGTERM)])
def test_a_stopped_process_leaves_the_old_folder(tmp_path: Path, number: signal.Signals) -> None:
    write_folder(tmp_path / "target", {"old.bin": b"old"})
    before = tree(tmp_path)
    process = python(SLOW, tmp_path / "target")
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    left = tree(tmp_path)
    assert {name: data for name, data in left.items() if not name.startswith(".")} == before
    if number == signal.SIGINT:  # a killed process cannot tidy up; it leaves a hidden folder that nothing reads
        assert left == before


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A temporary folder that other users may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_a_folder_without_permission_to_write(open_path: Path) -> None:
    """As an ordinary user: root is bound by no permission, so a process that is root becomes somebody else."""
    closed = open_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    code = """
import os, sys
from pathlib import Path
from tupate_hub.storage.atomic import write_bytes, write_folder
from tupate_hub.errors import TupateHubError
import tempfile, shutil
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for write in (
    lambda: write_bytes(Path(sys.argv[1]) / "x", b""),
    lambda: write_folder(Path(sys.argv[1]) / "y", {"a": b""}),
    lambda: write_folder(Path(sys.argv[1]) / "deep" / "y", {"a": b""}),
):
    try:
        write()
    except TupateHubError as error:
        print(error.message, error.exit_code)
"""
    out, err = python(code, closed).communicate(timeout=60)
    assert [line.rpartition(" ")[2] for line in out.splitlines()] == ["2", "2", "2"], err
    assert all(line.startswith(f"No permission to write {closed}") for line in out.splitlines())
    assert tree(closed) == {}


def test_two_writers_leave_one_whole_file(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from tupate_hub.storage.atomic import write_bytes
for _ in range(50):
    write_bytes(Path(sys.argv[1]), sys.argv[2].encode() * 10_000)
"""
    target = tmp_path / "x.bin"
    writers = [python(code, target, letter) for letter in "ab"]
    seen = set()
    deadline = time.monotonic() + 60
    while any(writer.poll() is None for writer in writers) and time.monotonic() < deadline:
        if target.exists():
            seen.add(target.read_bytes())
    for writer in writers:
        _, err = writer.communicate(timeout=60)
        assert writer.returncode == 0, err
    seen.add(target.read_bytes())
    assert seen <= {b"a" * 10_000, b"b" * 10_000}
    assert set(tree(tmp_path)) == {"x.bin"}


def test_what_need_not_be_durable_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", waited.append)
    write_bytes(tmp_path / "x.bin", b"new", durable=False)
    assert (tmp_path / "x.bin").read_bytes() == b"new"
    assert waited == []
    write_bytes(tmp_path / "x.bin", b"newer")
    assert len(waited) == 1


def test_the_umask_survives_many_threads(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda number: write_bytes(tmp_path / f"{number}.bin", b"x"), range(200)))
        assert os.umask(0o027) == 0o027
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}
    finally:
        os.umask(before)


def test_settling_waits_for_each_file_and_changes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", waited.append)
    places = [tmp_path / f"{number}.bin" for number in range(40)]
    for place in places:
        write_bytes(place, place.name.encode(), durable=False)
    assert waited == []
    settle(places)
    assert len(waited) == 40
    assert [place.read_bytes() for place in places] == [place.name.encode() for place in places]


def test_settling_on_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "x.bin", b"x", durable=False)
    monkeypatch.setattr(os, "fsync", failing(OSError(errno.EIO, "broken")))
    with pytest.raises(WorkFailed, match="was not written"):
        settle([tmp_path / "x.bin"])


def test_settling_nothing() -> None:
    settle([])


# --- alone -----------------------------------------------------------------------------------------------------


def test_one_at_a_time(tmp_path: Path) -> None:
    inside, most = 0, 0

    def enter(number: int) -> None:
        nonlocal inside, most
        with alone(tmp_path / "zoo"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.002)
            inside -= 1
            if number % 3 == 0:
                write_bytes(tmp_path / "zoo" / str(number), b"")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, range(30)))
    assert most == 1
    assert len(list((tmp_path / "zoo").glob("[!.]*"))) == 10


@pytest.mark.parametrize("going", ["zoo", "new"])
def test_a_folder_that_goes_as_it_is_found_is_made_anew(
    going: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One finds it there, and by the time that it looks what it is the last one has taken it away."""
    target, make = tmp_path / "new" / "zoo", os.mkdir
    found: list[str] = []

    def make_what_goes(path: Any, *arguments: Any, **options: Any) -> None:
        if Path(path).name == going and not found:
            found.append(going)
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        make(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", make_what_goes)
    with alone(target):
        assert target.is_dir()
    assert found == [going]


@pytest.mark.parametrize("kind", ["file", "broken link"])
@pytest.mark.parametrize("place", ["target", "target/zoo"])
def test_what_is_no_folder_keeps_everybody_out(kind: str, place: str, tmp_path: Path) -> None:
    make_target(kind, tmp_path / "target", tmp_path / "other")
    before = tree(tmp_path)
    with pytest.raises(TupateHubError, match="cannot be written"), alone(tmp_path / place):
        pytest.fail("in a folder that is none")  # pragma: no cover
    assert tree(tmp_path) == before


def test_a_lock_on_a_file_that_was_taken_away_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one gets its lock, the last one takes the empty folder with the file away, and another makes them anew."""
    fcntl = pytest.importorskip("fcntl")
    file, acquire = tmp_path / ".lock", filelock.FileLock.acquire
    another: list[Any] = []
    inside = Event()

    def acquire_what_goes(self: Any, **options: Any) -> None:
        acquire(self, **options)
        if not another:
            file.unlink()
            another.append(file.open("ab"))
            fcntl.flock(another[0], fcntl.LOCK_EX)

    def enter() -> None:
        with alone(tmp_path):
            inside.set()

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire_what_goes)
    with ThreadPoolExecutor(1) as pool:
        entering = pool.submit(enter)
        early = inside.wait(0.3)
        another[0].close()
        entering.result(20)
    assert not early and inside.is_set()


def test_who_is_not_patient_is_told(tmp_path: Path) -> None:
    with (
        alone(tmp_path),
        pytest.raises(WorkFailed, match="Another process is at work in"),
        alone(tmp_path, patient=False),
    ):
        pytest.fail("two in one folder")  # pragma: no cover
    with alone(tmp_path, patient=False):
        pass


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that has no locks."""

    def acquire(self: Any, **options: Any) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)


def test_a_disk_without_locks_gets_lock_files(tmp_path: Path, without_locks: None) -> None:
    with alone(tmp_path), pytest.raises(WorkFailed), alone(tmp_path, patient=False):
        pytest.fail("two in one folder")  # pragma: no cover


def test_there_an_empty_folder_goes_again_too(tmp_path: Path, without_locks: None) -> None:
    with alone(tmp_path / "zoo"):
        assert (tmp_path / "zoo").is_dir()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_stays_if_it_was_there(tmp_path: Path) -> None:
    with alone(tmp_path / "new" / "zoo"):
        assert (tmp_path / "new" / "zoo").is_dir()
    with alone(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".lock", "new"]


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    lines = ["import os, pathlib", "from tupate_hub.storage.atomic import alone"]
    program = [*lines, f"with alone(pathlib.Path({str(tmp_path)!r})): os._exit(9)"]
    assert subprocess.run([sys.executable, "-c", "\n".join(program)], check=False).returncode == 9
    with alone(tmp_path):
        pass
