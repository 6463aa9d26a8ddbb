"""`pull` and `verify`: what is written, where, and what an interruption leaves."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import LORA, TASKS, lora
from damage import put, snapshot

from tupate_hub.embedding import read_embedding
from tupate_hub.export import EXPORTS


def test_pull_makes_the_folder_in_the_cache_and_prints_it(toy_zoo: Path, isolated: Path, invoke: Any) -> None:
    result = invoke("pull", "glue/sst2", "--registry", toy_zoo)
    folder = isolated / "cache" / "tiny-bert" / "lora" / "sst2" / "embedding"
    assert (result.code, result.out) == (0, f"{folder}\n")
    assert "sha256 checked" in result.err
    pulled = read_embedding(folder / "sst2.safetensors")
    original = read_embedding(toy_zoo / "zoo" / LORA.name / "sst2.safetensors")
    np.testing.assert_array_equal(pulled.vector(), original.vector())
    assert dict(pulled.facts) == dict(original.facts)


def test_pull_again_into_the_cache_replaces_what_is_there(toy_zoo: Path, invoke: Any) -> None:
    folder = Path(invoke("pull", "sst2", "--registry", toy_zoo).out.strip())
    before = snapshot(folder)
    (folder / "sst2.safetensors").write_bytes(b"damaged")
    (folder / "stray").write_bytes(b"")
    assert invoke("pull", "sst2", "--registry", toy_zoo).code == 0
    assert snapshot(folder.parent) == {f"embedding/{name}": data for name, data in before.items()}


@pytest.mark.parametrize("form", EXPORTS)
def test_pull_json_has_the_documented_fields(form: str, toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    one = lora("imdb", 0, architecture={"model_type": "bert", "hidden_size": 6})
    blocks = [replace(block, name=f"encoder.{block.name[:7]}.attention.self{block.name[7:]}") for block in one.blocks]
    one = replace(one, blocks=tuple(blocks))
    put(toy_zoo, f"zoo/{LORA.name}/imdb.safetensors", one.to_bytes())
    found = invoke("pull", "imdb", "--registry", toy_zoo, "--as", form, "--to", tmp_path / "a" / "b", "--json").json()
    assert set(found) == {"task", "space", "form", "folder", "files"}
    assert (found["task"], found["space"], found["form"]) == ("imdb", LORA.name, form)
    assert set(snapshot(Path(found["folder"]))) == set(found["files"])
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b"]


def test_pull_as_what_has_no_place_says_what_to_type(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    call = ("pull", "sst2", "--registry", toy_zoo, "--space", "tiny-bert/prompt")
    result = invoke(*call, "--as", "peft", "--to", tmp_path / "p")
    assert (result.code, result.out) == (2, "")
    reason, hint = result.err.splitlines()
    assert "'sst2' (prompt) cannot be written in the form 'peft'" in reason
    assert hint == "  take another form: --as embedding"
    assert not (tmp_path / "p").exists()
    assert invoke(*call, *shlex.split(hint.partition(":")[2]), "--to", tmp_path / "p").code == 0


def test_pull_as_weights_points_to_the_lines_that_load_them(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    result = invoke("pull", "sst2", "--registry", toy_zoo, "--as", "peft", "--bare", "--to", tmp_path / "p")
    assert (result.code, result.out) == (0, f"{tmp_path / 'p'}\n")
    assert "README.md has the lines of Python that load it" in result.err
    assert "PeftModel.from_pretrained" in (tmp_path / "p" / "README.md").read_text()
    assert "README" not in invoke("pull", "sst2", "--registry", toy_zoo, "--to", tmp_path / "own").err


def test_pull_from_another_space(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    assert (
        invoke("pull", "sst2", "--registry", toy_zoo, "--space", "tiny-bert/prompt", "--to", tmp_path / "p").code == 0
    )
    assert read_embedding(tmp_path / "p" / "sst2.safetensors").space.method == "prompt"


def test_pull_into_an_existing_folder_needs_force(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    call = ("pull", "sst2", "--registry", toy_zoo, "--to", tmp_path / "p")
    assert invoke(*call).code == 0
    (tmp_path / "p" / "sst2.safetensors").write_bytes(b"mine")
    refused = invoke(*call)
    assert (refused.code, refused.out) == (2, "")
    assert "exists already" in refused.err
    assert "--force" in refused.err
    assert snapshot(tmp_path / "p") == {"sst2.safetensors": b"mine"}
    assert invoke(*call, "--force").code == 0
    assert read_embedding(tmp_path / "p" / "sst2.safetensors").task == "sst2"


def test_force_deletes_no_other_files(
    toy_zoo: Path, tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "project"
    (mine / "sub").mkdir(parents=True)
    (mine / "sub" / "thesis.tex").write_bytes(b"years of work")
    before = snapshot(mine)
    monkeypatch.chdir(mine)
    for target in (mine, Path(), Path("sub")):
        result = invoke("pull", "sst2", "--registry", toy_zoo, "--to", target, "--force")
        assert (result.code, result.out) == (2, "")
        assert "which --force would delete" in result.err
    assert snapshot(mine) == before
    assert not list(tmp_path.glob(".*"))


def test_force_takes_the_empty_folder_that_one_stands_in(
    toy_zoo: Path, tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert invoke("pull", "sst2", "--registry", toy_zoo, "--to", ".", "--force").code == 0
    assert set(snapshot(tmp_path / "here")) == {"sst2.safetensors"}


@pytest.mark.parametrize("target", ["file", "link", "file/below", "x" * 300])
def test_pull_to_a_place_that_cannot_be_a_folder(target: str, toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    before = snapshot(tmp_path)
    result = invoke("pull", "sst2", "--registry", toy_zoo, "--to", tmp_path / target, "--force")
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 2
    assert snapshot(tmp_path) == before


def test_pull_where_the_disk_is_full(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tupate-hub-test", disk], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        (disk / "filler").write_bytes(bytes(12 * 1024))
        big = lora("imdb", 0, rank=4, layers=40)
        put(toy_zoo, f"zoo/{LORA.name}/imdb.safetensors", big.to_bytes())
        result = invoke("pull", "imdb", "--registry", toy_zoo, "--to", disk / "out")
        left = sorted(path.name for path in disk.rglob("*"))
    finally:
        subprocess.run(["umount", disk], check=True)
    assert (result.code, result.out) == (1, "")
    assert result.err.splitlines() == [
        f"Error: The disk is full: {disk / 'out'} was not written.",
        "  free some space, or choose another place",
    ]
    assert left == ["filler"]


def test_pull_without_permission(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    """Root may write anywhere, so it gives its rights up for the call."""
    if not hasattr(os, "geteuid"):
        pytest.skip("needs POSIX permissions")
    above = [path for path in tmp_path.parents if Path(tempfile.gettempdir()) in path.parents]
    for path in (tmp_path, *above, toy_zoo, *toy_zoo.rglob("*")):
        path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))
    assert invoke("pull", "sst2", "--registry", toy_zoo).code == 0  # everything is imported while all may be read
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        results = [
            invoke("pull", "sst2", "--registry", toy_zoo, "--to", locked / "out", *more) for more in ((), ("--force",))
        ]
    finally:
        os.seteuid(user)
    for result in results:
        assert (result.code, result.out) == (2, "")
        assert result.err.splitlines() == [
            f"Error: No permission to write {locked / 'out'}.",
            "  choose another place",
        ]
    assert not list(locked.iterdir())


SLOW = """
import os, pathlib, sys, time
import tupate_hub.cli
import tupate_hub.storage.atomic as atomicfile

synced = os.fsync
def fsync(handle):
    synced(handle)
    pathlib.Path(sys.argv[1]).write_text("writing")
    time.sleep(30)
os.fsync = fsync
tupate_hub.cli.main(sys.argv[2:])
"""


@pytest.mark.parametrize("kill", [signal.SIGINT, getattr(signal, "SIGKILL", signal.SIGTERM)])
@pytest.mark.parametrize("existing", [False, True])
def test_an_interrupted_pull_leaves_nothing_half_written(
    kill: signal.Signals, existing: bool, toy_zoo: Path, tmp_path: Path
) -> None:
    """The process is stopped while its first file is written: the folder is missing or as it was before."""
    target, sign = tmp_path / "place" / "out", tmp_path / "sign"
    if existing:
        target.mkdir(parents=True)
        (target / "imdb.safetensors").write_bytes(b"before")
    before = snapshot(target)
    call = ["pull", "imdb", "--registry", str(toy_zoo), "--to", str(target), "--force"]
    with subprocess.Popen([sys.executable, "-c", SLOW, str(sign), *call], stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 20
        while not sign.exists() and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(kill)
        said = process.communicate(timeout=20)[1]
    assert process.returncode == (130 if kill == signal.SIGINT else -kill)
    assert target.exists() == existing
    assert snapshot(target) == before
    if kill == signal.SIGINT:
        assert said.decode().split() == ["Error:", "Interrupted."]
        assert [path.name for path in target.parent.iterdir()] == ["out"] * existing
    again = subprocess.run([sys.executable, "-m", "tupate_hub", *call], capture_output=True, check=False)
    assert again.returncode == 0
    assert read_embedding(target / "imdb.safetensors").task == "imdb"


def test_verify_of_a_sound_zoo(toy_zoo: Path, invoke: Any) -> None:
    result = invoke("verify", "--registry", toy_zoo)
    assert (result.code, result.out) == (0, "")
    assert result.err == f"{2 * len(TASKS)} embeddings checked, 0 problems\n"
    assert invoke("verify", "--registry", toy_zoo, "--json").json() == {"embeddings": 2 * len(TASKS), "problems": []}


def test_verify_prints_a_line_for_each_problem(toy_zoo: Path, invoke: Any) -> None:
    (toy_zoo / "zoo" / LORA.name / "imdb.safetensors").write_bytes(b"")
    (toy_zoo / "zoo" / LORA.name / "index-update.safetensors").write_bytes(b"")
    result = invoke("verify", "--registry", toy_zoo)
    assert result.code == 2
    assert len(result.out.splitlines()) == 2
    assert result.err.endswith("2 problems\n")
    assert invoke("verify", "--registry", toy_zoo, "--json").json()["problems"] == result.out.splitlines()
