"""What every test stands on: its own cache, no network, a toy zoo, the command line in process."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from builders import build_toy_zoo
from hypothesis import settings
from loopback import LoopbackHub

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


@pytest.fixture
def online(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets the real client of the Hub talk, to this machine alone, without a token."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(isolated / "no-token"))
    disable_progress_bars()
    _forget_sessions()
    yield
    _forget_sessions()
    enable_progress_bars()


@pytest.fixture
def hub(online: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """An empty Hub on this machine, which the real client takes for the Hub."""
    from huggingface_hub import constants, file_download

    with LoopbackHub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        template = "/{repo_id}/resolve/{revision}/{filename}"
        for module in (constants, file_download):  # up to 0.36 the second has a copy
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", running.endpoint + template, raising=False)
        yield running
        _forget_sessions()


def _forget_sessions() -> None:
    """The client keeps its connections from call to call, and whether it is offline with them."""
    import huggingface_hub.utils as client

    forget = getattr(client, "reset_sessions", None) or client.close_session  # up to 0.36, from 1.0
    forget()


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
