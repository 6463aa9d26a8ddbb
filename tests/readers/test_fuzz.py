"""The fuzzer itself: two thousand changed files are read or refused, and a reader that misbehaves is caught."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "fuzz" / "fuzz.py"
CASES = 2000

#: A reader that misbehaves on every case, and what the report of it says.
BAD_READERS = {
    "def bad(files, folder): raise KeyError('lora_A')": "KeyError: 'lora_A'",
    "def bad(files, folder): assert not files": "AssertionError",
    "def bad(files, folder): bad(files, folder)": "RecursionError",
    "def bad(files, folder): import os; os.system('true')": "os.system",
    "def bad(files, folder): import subprocess; subprocess.run(['true'])": "subprocess.Popen",
    "def bad(files, folder): import socket; socket.socket()": "socket.__new__",
    "def bad(files, folder): (folder / 'new').write_text('x')": "Forbidden: open",
    "def bad(files, folder): (folder / 'file').unlink()": "os.remove",
    "def bad(files, folder): eval(compile('1', '<string>', 'eval'))": "Forbidden: exec",
    "def bad(files, folder): import pickle; pickle.loads(b'cos\\nsystem\\n.')": "pickle.find_class",
    "def bad(files, folder): import email_validator": "email_validator",
    "def bad(files, folder): bytearray(80_000_000)": "took 80 MB",
    "def bad(files, folder): import numpy; numpy.ones(10_000_000)": "took 80 MB",
    "clock = fuzz.time.process_time\ndef bad(a, b):\n  end = clock() + 1.1\n  while clock() < end: 1": "took 1.",
    "def bad(files, folder): raise fuzz.TupateHubError('no')": "no sentence",
    "def bad(files, folder): raise fuzz.TupateHubError('x' * 2000 + '.')": "too long",
    "def bad(files, folder): raise fuzz.TupateHubError('A tensor \\x1b[31m is bad.')": "control characters",
    "def bad(files, folder): raise fuzz.TupateHubError('A tensor \\ud800 is bad.')": "cannot be printed",
    "def bad(files, folder): import warnings; warnings.warn('overflow')": "UserWarning",
    "def bad(files, folder): fuzz.np.float32(3e38) * fuzz.np.float32(3e38)": "RuntimeWarning",
    "def bad(files, folder): sys.exit(0)": "SystemExit",
}


@pytest.fixture(scope="module")
def inputs() -> ModuleType:
    """The module of seeds and mutations."""
    spec = importlib.util.spec_from_file_location("fuzz_inputs", SCRIPT.with_name("fuzz_inputs.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_inputs"] = module
    spec.loader.exec_module(module)
    return module


def fuzz(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the script; its audit hook stays for the life of a process, so it has one of its own."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


def test_changed_files_are_read_or_refused(tmp_path: Path) -> None:
    done = fuzz("--count", CASES, "--seed", 7, "--failures", tmp_path / "failures")
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{CASES} cases" in done.stdout
    assert "0 failed" in done.stdout
    counts = {line[9:]: int(line[:8]) for line in done.stdout.splitlines() if line[:8].strip().isdigit()}
    for target in ("adapter", "tensorfile", "torchfile", "gguffile", "finetuned", "embedding"):
        assert counts[f"{target} refused"] > 8
    assert counts["adapter read"] > 20
    assert counts["different sentences"] > 40
    assert not (tmp_path / "failures").exists()


def test_bad_readers_are_caught(tmp_path: Path) -> None:
    """All in one process, to save its start: each bad reader is tried on one case and reported."""
    code = f"""
import json, pickle, socket, subprocess, sys
from pathlib import Path
sys.path.insert(0, {str(SCRIPT.parent)!r})
import fuzz
seeds = [fuzz.Seed("bad", "seed", {{"file": b"{{}}"}})]
reports = []
for index, code in enumerate(json.loads(sys.argv[1])):
    exec(code)
    folder = Path({str(tmp_path)!r}, str(index))
    tally, failed = fuzz.run({{"bad": bad}}, seeds, 1, 0, folder)
    reports.append((failed[0] / "REPORT.txt").read_text() if failed else "not caught")
print(json.dumps(reports))
"""
    command = [sys.executable, "-c", code, json.dumps(list(BAD_READERS))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    reports = dict(zip(BAD_READERS, json.loads(done.stdout), strict=True))
    assert {code: report for code, report in reports.items() if BAD_READERS[code] not in report} == {}


def test_a_hang_is_caught(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(SCRIPT.parent)!r})
import fuzz
fuzz.PATIENCE = 1
def bad(files, folder):
    while True:
        try:
            while True: pass
        except Exception: pass
tally, failed = fuzz.run({{"bad": bad}}, [fuzz.Seed("bad", "seed", {{"file": b"{{}}"}})], 1, 0, Path({str(tmp_path)!r}))
assert "still running" in (failed[0] / "REPORT.txt").read_text()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=280, capture_output=True)


def test_a_failure_is_saved_and_the_exit_code_says_so(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(SCRIPT.parent)!r})
import fuzz
def bad(files, folder): raise KeyError("x")
fuzz.TARGETS = {{"embedding": bad}}
sys.exit(fuzz.main(["--count", "3", "--start", "5", "--failures", {str(tmp_path / "saved")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 1
    assert "3 failed" in done.stdout
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["0-5", "0-6", "0-7"]
    assert {path.name for path in (tmp_path / "saved" / "0-5").iterdir()} == {"file", "REPORT.txt"}


def test_seeds_are_the_same_on_every_run_and_whole(inputs: ModuleType) -> None:
    seeds = inputs.make_seeds()
    assert [(seed.target, seed.name) for seed in seeds] == [(seed.target, seed.name) for seed in inputs.make_seeds()]
    assert len({(seed.target, seed.name) for seed in seeds}) == len(seeds) > 30
    from tupate_hub.readers.formats.torchfile import parse_torch_file
    from tupate_hub.storage.safetensors import parse_tensorfile

    for seed in seeds:
        if seed.target == "torchfile":
            assert parse_torch_file(seed.files["file"], seed.name) is not None
        if seed.target == "tensorfile":
            assert parse_tensorfile(seed.files["file"], seed.name).tensors


def test_every_adapter_seed_is_read(inputs: ModuleType, tmp_path: Path) -> None:
    from tupate_hub.errors import TupateHubError
    from tupate_hub.readers import read_adapter

    refused = []
    for seed in inputs.make_seeds():
        if seed.target == "adapter":
            folder = tmp_path / seed.name
            folder.mkdir()
            for name, data in seed.files.items():
                (folder / name).write_bytes(data)
            try:
                read_adapter(folder if len(seed.files) > 1 else next(folder.iterdir()), base="x", task="t")
            except TupateHubError:
                refused.append(seed.name)
    assert refused == []


def test_mutations_are_reproducible_and_change_the_bytes(inputs: ModuleType) -> None:
    seeds = inputs.make_seeds()
    changed = 0
    for index in range(300):
        seed = seeds[index % len(seeds)]
        first, second = (inputs.mutate(seed, seeds, random.Random(f"0:{index}")) for _ in range(2))
        assert first == second
        assert first
        changed += first != dict(seed.files)
    assert changed > 270


def test_mutations_understand_what_they_change(inputs: ModuleType) -> None:
    """Most changed headers are still JSON of the right length, and most changed archives still zip archives."""
    seeds = {seed.name: seed for seed in inputs.make_seeds()}
    rng = random.Random(0)
    header = [inputs._change_header(seeds["lora/adapter_model.safetensors"].files["file"], rng) for _ in range(200)]
    assert sum(data[8:9] == b"{" for data in header) > 100
    assert sum(int.from_bytes(data[:8], "little") <= len(data) for data in header) > 150
    archives = [inputs._change_zip(seeds["prompt array/task_prompt"].files["file"], rng) for _ in range(200)]
    assert all(data[:2] == b"PK" for data in archives)
    assert len(set(archives)) > 150


def test_extra_seeds_are_folders_of_adapters(inputs: ModuleType, tmp_path: Path) -> None:
    seeds = inputs.make_seeds()
    folder = tmp_path / "one"
    folder.mkdir()
    for name, data in next(seed for seed in seeds if seed.name == "lora").files.items():
        (folder / name).write_bytes(data)
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "model.safetensors").write_bytes(bytes(5_000_000))
    (tmp_path / "empty").mkdir()
    extra = inputs.extra_seeds(tmp_path)
    assert [(seed.target, seed.name) for seed in extra] == [("adapter", "one"), ("tensorfile", "one/tensorfile")]
