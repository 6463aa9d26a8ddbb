"""What every test stands on: its own cache, no network, a toy zoo, the command line in process."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from builders import build_toy_zoo
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it once, when it is imported

settings.register_profile("suite", deadline=None, max_examples=40)
settings.load_profile("suite")


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no network but this machine; returns the folder of the caches."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("TUPATE_HUB_CACHE", str(home / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(home / "huggingface"))
    monkeypatch.delenv("TUPATE_HUB_REGISTRY", raising=False)
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, _loopback_only(getattr(socket.socket, name)))
    return home


def _loopback_only(connect: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, address: Any) -> Any:
        inside = self.family not in (socket.AF_INET, socket.AF_INET6) or address[0] in ("127.0.0.1", "::1", "localhost")
        if not inside:
            self.close()
            raise RuntimeError(f"a test asked the network for {address}")
        return connect(self, address)

    return guarded


@pytest.fixture(scope="session")
def _toy_zoo_built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_toy_zoo(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def toy_zoo(_toy_zoo_built: Path, tmp_path: Path) -> Path:
    """A folder with a registry of six tasks in two spaces (see builders.TASKS), the test's own to damage."""
    return Path(shutil.copytree(_toy_zoo_built, tmp_path / "toy_zoo"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and adapters beside the checkout, where there is one."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder `shared` beside the checkout")
    return folder


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`invoke("similar", "sst2")` runs the command line in this process."""

    def run(*arguments: str | Path) -> Result:
        from tupate_hub import cli

        capsys.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Result(code, printed.out, printed.err)

    return run
