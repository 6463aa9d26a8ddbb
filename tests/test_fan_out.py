"""Fan-out: results come back with their runs, and a process that is killed loses none."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import pytest

from tupate_hub.errors import WorkFailed
from tupate_hub.fan_out import RETRIES, in_order_over_ray, over_processes, over_ray


def doubled(number):
    if number < 0:
        raise ValueError(f"{number} is negative")
    return 2 * number


def dies_once(letter, folder):
    """The system kills the process of one run, the first time; a file remembers that."""
    if letter == "b" and not (folder / "seen").exists():
        (folder / "seen").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{letter} made"


def never_ends(letter, folder):
    (folder / str(os.getpid())).touch()
    time.sleep(600)


def dies_always(letter, folder):
    with (folder / "starts").open("a") as log:
        log.write(letter)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The processes look for this module by its name."""
    monkeypatch.syspath_prepend(Path(__file__).parent)


def test_each_run_comes_back_with_its_own_result_or_error():
    results = dict(over_processes(doubled, [3, -1, 5, 0], 2))
    assert {run: results[run] for run in (3, 5, 0)} == {3: 6, 5: 10, 0: 0}
    assert isinstance(results[-1], ValueError) and str(results[-1]) == "-1 is negative"


def test_nothing_to_run_starts_no_process():
    assert list(over_processes(doubled, [], 2)) == []


def test_a_process_that_is_killed_loses_no_run(tmp_path):
    finished = list(over_processes(partial(dies_once, folder=tmp_path), "abcd", 2))
    assert sorted(finished) == [("a", "a made"), ("b", "b made"), ("c", "c made"), ("d", "d made")]


def test_processes_that_are_killed_again_and_again_are_told(tmp_path):
    ((run, error),) = over_processes(partial(dies_always, folder=tmp_path), ["a"], 1)
    assert run == "a"
    assert isinstance(error, BrokenProcessPool)
    assert (tmp_path / "starts").read_text() == "a" * (1 + RETRIES)


@pytest.mark.skipif(sys.platform == "win32", reason="asks after processes by signal 0")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_one_that_is_killed(how, tmp_path):
    code = (
        "from functools import partial; from pathlib import Path; import test_fan_out as here; "
        f"list(here.over_processes(partial(here.never_ends, folder=Path({str(tmp_path)!r})), 'ab', 2))"
    )
    paths = [str(Path(__file__).parent), *sys.path]
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    try:
        eventually(lambda: len(list(tmp_path.iterdir())) == 2)
        others = [int(path.name) for path in tmp_path.iterdir()]
        assert all(is_running(other) for other in others)
    finally:
        parent.send_signal(how)
        parent.wait()
    eventually(lambda: not any(is_running(other) for other in others))


def eventually(happened, seconds=60):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(process):
    """Whether there is a process of that number that still does something: a dead one may wait to be collected."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.timeout(300)  # a cluster starts
def test_files_go_out_and_results_come_back_from_a_cluster(monkeypatch, tmp_path):
    pytest.importorskip("ray", reason="needs Ray, the extra `cluster`")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")

    def read(name, folder):  # a function of no module, which the workers need not find
        return (folder / "inner" / "file").read_text() + name

    def file_of(name):
        return {"inner/file": f"for {name}: ".encode()}

    needs = {"num_cpus": 1, "num_gpus": 0}
    finished = dict(over_ray(read, ["first", "second"], file_of, address="local", jobs=2, needs=needs))
    assert finished == {"first": "for first: first", "second": "for second: second"}


@pytest.mark.timeout(300)
def test_results_of_a_cluster_come_in_order_although_a_worker_is_killed(ray_cluster, tmp_path):
    taken = []

    def letters():
        for letter in "abcdefghijklmnopqrstuvwxyz":
            taken.append(letter)
            yield letter

    def spelled(letter):
        if letter == "b" and not (tmp_path / "seen").exists():
            (tmp_path / "seen").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if letter == "c":
            raise ValueError("c is no letter")
        return f"{letter} {os.environ['ADDED']}"

    finished = in_order_over_ray(spelled, letters(), address=ray_cluster, jobs=1, environment={"ADDED": "made"})
    assert next(finished) == ("a", "a made")
    assert len(taken) < 26  # what is not needed yet is not asked for
    assert next(finished) == ("b", "b made")
    run, error = next(finished)
    assert (run, str(error)) == ("c", "c is no letter")
    assert list(finished) == [(letter, f"{letter} made") for letter in "defghijklmnopqrstuvwxyz"]


def test_a_cluster_that_is_not_there_is_told():
    pytest.importorskip("ray", reason="needs Ray, the extra `cluster`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"  # bound, and nobody listens
        with pytest.raises(WorkFailed, match=f"no Ray cluster at '{address}'"):
            next(in_order_over_ray(str, ["a"], address=address, jobs=1))
