"""What a command loads, seen in a fresh process: only what it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import prompt

HEAVY = (
    "numpy",
    "safetensors",
    "huggingface_hub",
    "requests",
    "httpx",
    "torch",
    "transformers",
    "adapters",
    "peft",
    "scipy",
)
ARRAYS = {"numpy", "safetensors"}
PROGRAM = """
import sys
from tupate_hub.cli import run
code = run(sys.argv[2:])
sys.stdout.flush()
print("LOADED", *[name for name in sys.argv[1].split() if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""


def loaded(program: str, *arguments: str | Path) -> set[str]:
    """Which of HEAVY a fresh process has loaded after running a program."""
    done = subprocess.run(
        [sys.executable, "-c", program, " ".join(HEAVY), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ},
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("LOADED")]
    return set(line.split()[1:])


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["similar", "--help"], ["pull", "--help"]])
def test_help_loads_nothing(arguments: list[str]) -> None:
    assert loaded(PROGRAM, *arguments) == set()


@pytest.mark.parametrize("arguments", [["list"], ["spaces"], ["list", "--json"]])
def test_looking_at_the_registry_loads_nothing(arguments: list[str]) -> None:
    assert loaded(PROGRAM, *arguments) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["similar", "sst2"],
        ["similar", "sst2", "--centre", "--explain", "--json"],
        ["explain", "sst2", "sst2"],
        ["show", "sst2"],
        ["pull", "sst2"],
        ["pull", "sst2", "--as", "peft"],
        ["verify"],
        ["merge-check", "sst2", "trec", "--explain"],
    ],
)
def test_answers_on_the_bundled_zoo_need_numpy_and_safetensors(arguments: list[str]) -> None:
    assert loaded(PROGRAM, *arguments) == ARRAYS


def test_so_does_a_file_as_the_query(toy_zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(prompt("mine", 0).to_bytes())
    assert loaded(PROGRAM, "similar", tmp_path / "mine.safetensors", "--registry", toy_zoo) == ARRAYS


def test_so_does_an_adapter_as_the_query(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    folder = tmp_path / "mine"
    assert invoke("pull", "rte", "--as", "peft", "--bare", "--to", folder, "--registry", toy_zoo).code == 0
    assert loaded(PROGRAM, "similar", folder, "--registry", toy_zoo) == ARRAYS


OPENS = """
import sys
opened = []
sys.addaudithook(lambda event, about: opened.append(str(about[0])) if event == "open" else None)
from tupate_hub.cli import run
code = run(sys.argv[2:])
sys.stdout.flush()
print("LOADED", *[path.rsplit("/", 1)[1] for path in opened if path.startswith(sys.argv[2 + 1] + "/")], file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("form", ["peft", "adapters", "embedding"])
def test_a_folder_as_the_query_is_opened_once(form: str, tmp_path: Path, invoke: Any) -> None:
    folder, bare = tmp_path / "mine", ["--bare"] if form == "peft" else []
    assert invoke("pull", "rte", "--as", form, *bare, "--to", folder).code == 0
    names = [
        path.name for path in folder.iterdir() if path.suffix in (".json", ".safetensors") and "head" not in path.name
    ]
    done = subprocess.run(
        [sys.executable, "-c", OPENS, "", "similar", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("LOADED")]
    # the header of an embedding says first whose file it is, the card of another what its task is
    expected = [*names, *names] if form == "embedding" else [*names, "README.md"]
    assert sorted(line.split()[1:]) == sorted(expected)


def test_the_package_itself_loads_nothing() -> None:
    program = 'import sys, tupate_hub; print("LOADED", *[n for n in sys.argv[1].split() if n in sys.modules], file=sys.stderr)'
    assert loaded(program) == set()
    assert (
        loaded(program.replace("import sys, tupate_hub;", "import sys; from tupate_hub import Zoo; Zoo.open();"))
        == set()
    )
