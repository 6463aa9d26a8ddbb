"""What every test stands on: its own cache, no network, a toy zoo, the command line in process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from builders import build_toy_zoo
from damage import snapshot
from environments import HEAVY
from hypothesis import settings
from loopback import LoopbackHub

from tupate_hub import Zoo

# huggingface_hub reads these once, when it is imported; 2.4 asks the Hub something of its own unless the second is set,
# and sends all files by xet, which no Hub on this machine speaks, unless the third is
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_XET="1")

# A shell lets what it starts in the background ignore Ctrl-C, and the processes that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("suite", deadline=None, max_examples=40)
settings.load_profile("suite")

collect_ignore = [] if find_spec("torch") else ["training"]


def pytest_report_header() -> list[str]:
    return ["tests/training is left out: it needs torch"] if collect_ignore else []


class _TestFile(pytest.Module):
    """A test file, skipped with the reason where it imports something of HEAVY that is not installed."""

    def collect(self) -> Any:
        try:
            return super().collect()
        except self.CollectError as error:
            missing = getattr(error.__cause__, "name", None)
            if missing in HEAVY:
                raise pytest.skip.Exception(f"needs {missing}", allow_module_level=True) from error
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    module: pytest.Module = _TestFile.from_parent(parent, path=module_path)
    return module


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
            raise AssertionError(f"a test asked the network for {address}")
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
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(isolated / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(isolated / "huggingface" / "hub"))
    disable_progress_bars()
    _forget_sessions()
    yield
    _forget_sessions()
    enable_progress_bars()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that anything would have slept: nothing sleeps, so that no test has to look at a clock."""
    asked: list[float] = []
    monkeypatch.setattr(time, "sleep", asked.append)
    return asked


@pytest.fixture
def hub(online: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """An empty Hub on this machine, which the real client takes for the Hub."""
    from huggingface_hub import constants, file_download

    from tupate_hub.hub import rate_limit

    monkeypatch.setattr(rate_limit, "RATE_LIMIT", rate_limit.RateLimit())
    with LoopbackHub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        template = "/{repo_id}/resolve/{revision}/{filename}"
        for module in (constants, file_download):  # up to 0.36 the second has a copy
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", running.endpoint + template, raising=False)
        yield running
        _forget_sessions()


@pytest.fixture
def published(hub: LoopbackHub, toy_zoo: Path) -> str:
    """The toy zoo on the Hub, as the dataset acme/zoo; its commit."""
    return hub.store.put("datasets", "acme/zoo", snapshot(toy_zoo))


@pytest.fixture
def adapter(toy_zoo: Path, tmp_path: Path, invoke: Callable[..., Result]) -> dict[str, bytes]:
    """The files of a PEFT adapter, with what a stranger leaves beside them."""
    assert invoke("pull", "rte", "--as", "peft", "--bare", "--to", tmp_path / "x", "--registry", toy_zoo).code == 0
    files = snapshot(tmp_path / "x")
    card = b"---\nlicense: mit\ntags:\n- peft\ndatasets:\n- nyu-mll/rte\nbase_model: acme/tiny-bert\n---\n# A\n"
    beside = {"training_args.bin": b"\x80\x04", "optimizer.pt": b"\x80\x04", "checkpoint-1/adapter_model.bin": b"x"}
    return {**files, **beside, "README.md": card}


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


#: What makes a registry count as large from five embeddings on, with some three rows a shard.
_SMALL_SHARDS = {
    "tupate_hub.registry.MOST_TOGETHER": 4,
    "tupate_hub.storage.shards.ONE_IN": 3,
    "tupate_hub.collect.nearest.LEAST": 5,
}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry counts as large from five embeddings on, and has some three rows a shard."""
    for name, value in _SMALL_SHARDS.items():
        monkeypatch.setattr(name, value)


@pytest.fixture(scope="session")
def _sharded_built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from large import mixed

    with pytest.MonkeyPatch.context() as patched:
        for name, value in _SMALL_SHARDS.items():
            patched.setattr(name, value)
        return mixed(tmp_path_factory.mktemp("sharded") / "zoo").root


@pytest.fixture
def sharded(_sharded_built: Path, small_shards: None, tmp_path: Path) -> Zoo:
    """A registry of sixteen embeddings in shards (see large.mixed), the test's own to damage."""
    return Zoo.open(shutil.copytree(_sharded_built, tmp_path / "sharded"))


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the toy tasks; not to be written to."""
    from toys import make_data

    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def load(data_folder: Path) -> Callable[[str], Any]:
    """`load("toy_classes")` reads a toy task."""
    from tupate_hub.data.dataset import load_task

    return lambda name: load_task(data_folder, name)


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


_CLUSTER = """
import sys, ray
print(ray.init(num_cpus=2, include_dashboard=False, object_store_memory=2**27).address_info["address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def _ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    pytest.importorskip("ray", reason="needs Ray, the extra `cluster`")
    home = str(tmp_path_factory.mktemp("ray"))
    here = {"HOME": home, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    program = [sys.executable, "-c", _CLUSTER]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, stdin=pipe, stdout=pipe, text=True, env={**os.environ, **here}) as process:
        assert process.stdout is not None and process.stdin is not None
        yield process.stdout.readline().strip(), here
        process.stdin.close()


@pytest.fixture
def ray_cluster(_ray_cluster: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a Ray cluster of two workers on this machine, in a process of its own."""
    address, here = _ray_cluster
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    # it listens at the machine's own address, which Python's sockets may not ask for here (`isolated`)
    monkeypatch.setattr("tupate_hub.fan_out._reach", lambda address: None)
    return address


@pytest.fixture
def load_script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """`load_script("build_zoo")` is scripts/zoo/build_zoo.py as a module, until the test ends."""

    def load(name: str) -> ModuleType:
        (path,) = (Path(__file__).parents[1] / "scripts").glob(f"*/{name}.py")
        spec = spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        monkeypatch.syspath_prepend(path.parent)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load
