"""The wheel, built and installed in an environment of its own with the core dependencies only."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tupate_hub import __version__
from tupate_hub.storage.registry_json import parse_registry

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("wheel")]  # one process builds it

ROOT = Path(__file__).parents[2]
CORE = ("click", "huggingface_hub", "numpy", "safetensors")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built without the network."""
    pytest.importorskip("build", reason="needs the extra `dev`")
    pytest.importorskip("hatchling", reason="needs the extra `dev`")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts folder of a bare environment with the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(scripts / "python"), "-m", "pip", "--disable-pip-version-check", "--retries", "1", "--timeout", "20"]
    reached = subprocess.run(
        [*pip, "download", "--no-deps", "--dest", str(folder / "seen"), "click"], capture_output=True, check=False
    )
    if reached.returncode:
        pytest.skip("needs a package registry that pip can reach")
    done = subprocess.run([*pip, "install", "--quiet", str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return scripts


def run(scripts: Path, where: Path, *command: str) -> str:
    """Run a program of the bare environment, far from the checkout and its settings; returns its stdout."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TUPATE", "VIRTUAL_ENV"))
    }
    environment = {**kept, "TUPATE_HUB_CACHE": str(where / "cache"), "HF_HUB_OFFLINE": "1"}
    program, *arguments = command
    done = subprocess.run(
        [str(scripts / program), *arguments], cwd=where, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_zoo_and_the_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        registry = parse_registry(archive.read("tupate_hub/bundled/registry.json"), "the wheel's registry")
        entry_points = next(archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    whole = parse_registry((ROOT / "registry.json").read_bytes(), "registry.json")
    assert registry.default_space == whole.default_space
    others = {name for name, space in whole.spaces.items() if space.subspaces} - {whole.default_space}
    assert set(registry.spaces) == {whole.default_space, *others}
    assert all(len(registry.spaces[name].subspaces) == 1 and not registry.spaces[name].index for name in others)
    assert [entry.task for entry in registry.entries] == [entry.task for entry in whole.in_space(whole.default_space)]
    assert not any(entry.repeats for entry in registry.entries)
    inside = {name.removeprefix("tupate_hub/bundled/") for name in names if "/bundled/" in name}
    truth = {name for name in inside if name.startswith("zoo/truth/")}
    assert "zoo/truth/few-shot-150.csv" in truth and all(name.endswith(".csv") for name in truth)
    assert inside - truth == {"registry.json", *(file for file, _, _ in registry.files())}
    assert "tupate_hub/py.typed" in names
    explorer = {path.name for path in (ROOT / "tupate_hub" / "publish" / "explorer").iterdir()}
    assert {name.rpartition("/")[2] for name in names if "/explorer/" in name} == explorer
    assert "tupate_hub/bundled/zoo/all-MiniLM-L6-v2/lora/sst2.safetensors" in names
    assert "tupate-hub = tupate_hub.cli:main" in entry_points
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert all(name.startswith(("tupate_hub/", f"tupate_hub-{__version__}.dist-info/")) for name in names)
    assert not [
        name
        for name in names
        if "__pycache__" in name or "/." in name or "../shared" in name or name.startswith("shared")
    ]


def test_the_commands_run_there(installed: Path, tmp_path: Path) -> None:
    pulled = Path(run(installed, tmp_path, "tupate-hub", "pull", "sst2").strip())
    assert pulled == tmp_path / "cache" / "all-MiniLM-L6-v2" / "lora" / "sst2" / "embedding"
    assert {path.name for path in pulled.iterdir()} == {"sst2.safetensors", "head.safetensors", "README.md"}
    listed = [line.split("\t")[0] for line in run(installed, tmp_path, "tupate-hub", "list").splitlines()[1:]]
    assert "sst2" in listed
    ranked = [
        line.split("\t")[1]
        for line in run(installed, tmp_path, "tupate-hub", "similar", "sst2", "-k", "999").splitlines()[1:]
    ]
    assert sorted([*ranked, "sst2"]) == sorted(listed)
    assert run(installed, tmp_path, "tupate-hub", "verify") == ""
    assert Path(run(installed, tmp_path, "tupate-hub", "site", "--out", "page").strip()).name == "index.html"
    assert run(installed, tmp_path, "python", "-m", "tupate_hub", "--version").startswith("tupate-hub, version ")


def test_a_pulled_folder_is_a_query_there(installed: Path, tmp_path: Path) -> None:
    run(installed, tmp_path, "tupate-hub", "pull", "sst2", "--as", "peft", "--to", "mine")
    first = run(installed, tmp_path, "tupate-hub", "similar", "./mine").splitlines()[1].split("\t")
    assert first[1:3] == ["sst2", "1.000"]


def test_the_core_is_small_and_without_torch(installed: Path, tmp_path: Path) -> None:
    program = "import importlib.metadata as m; print(*[d.name + '==' + d.version for d in m.distributions()])"
    versions = dict(one.split("==") for one in run(installed, tmp_path, "python", "-c", program).split())
    names = {name.lower().replace("-", "_") for name in versions}
    assert set(CORE) <= names
    assert not names & {"torch", "transformers", "adapters", "peft", "scipy", "scikit_learn", "pandas"}
    hub = next(version for name, version in versions.items() if name.lower().replace("-", "_") == "huggingface_hub")
    assert hub.startswith("2.")
