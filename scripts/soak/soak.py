"""Many readers, pushers and importers on one Hub of this machine, with faults and kills at random, for half an hour.

    python scripts/soak/soak.py [--minutes 30] [--seed 0] [--readers 32] [--pushers 4] [--importers 2]

Readers share a cache, importers a folder; each pusher has a registry of its own, to which it adds adapters, and all
push into one repository. A command may fail by a fault, with a sentence. At the end every registry must be whole, and
everything that a command has acknowledged by exit code 0 must be there: else the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from builders import BASE  # noqa: E402
from loopback import LoopbackHub, User  # noqa: E402
from orchards import peft_files, plant  # noqa: E402

from tupate_hub.zoo import Zoo  # noqa: E402

NAME, TOKEN = "acme/zoo", "hf_soak"
#: What a command may end with: done, failed by a fault, refused, without a network.
CODES = (0, 1, 2, 3)
#: Faults that are switched on for a few requests, and the kinds of answers that they give.
FAULTS = (
    ("status", {"status": 503}), ("status", {"status": 500}), ("cut", {}), ("wrong", {}), ("close", {}),
    ("status", {"status": 429, "headers": {"Retry-After": "1"}}), ("slow", {"seconds": 0.3}),
)  # fmt: skip
_LAST_COMMANDS = 120.0


# --- a worker --------------------------------------------------------------------------------------------------


@dataclass
class Worker:
    """One process that gives commands until the file `stop` is there; what it did is a line in its log each."""

    kind: str
    number: int
    folder: Path
    rng: random.Random = field(default_factory=random.Random)

    @property
    def home(self) -> Path:
        """Its own folder."""
        return self.folder / f"{self.kind}{self.number}"

    def work(self) -> None:
        """Give commands until the end."""
        turn: Callable[[], None] = getattr(self, f"_{self.kind}")
        while not (self.folder / "stop").exists():
            turn()

    def _command(self, *arguments: str | Path) -> tuple[int, str]:
        """Give a command; its exit code and what it printed. An exception is a finding."""
        from tupate_hub import cli

        out, err = io.StringIO(), io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = cli.run([str(argument) for argument in arguments])
        except BaseException:
            code, err = -1, io.StringIO(traceback.format_exc())
        if "Traceback" in err.getvalue() or code not in CODES or TOKEN in out.getvalue() + err.getvalue():
            self._note("findings", {"command": list(map(str, arguments)), "code": code, "said": err.getvalue()[-2000:]})
        said = next((line for line in err.getvalue().splitlines() if line.startswith("Error: ")), "") if code else ""
        self._note("commands", {"kind": self.kind, "verb": arguments[0], "code": code, "said": said[:80]})
        return code, out.getvalue()

    def _note(self, what: str, line: object) -> None:
        with (self.folder / "log" / f"{what}-{self.kind}{self.number}").open("a") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def _reader(self) -> None:
        code, printed = self._command("list", "--registry", NAME, "--json")
        tasks = [row["task"] for row in json.loads(printed)["tasks"]] if code == 0 else []
        if tasks:
            task = self.rng.choice(tasks)
            self._command(self.rng.choice(("similar", "pull", "show")), task, "--registry", NAME, "--json")

    def _pusher(self) -> None:
        count = len(Zoo.open(self.home).registry.entries) if (self.home / "registry.json").exists() else 0
        task = f"p{self.number}x{count}"
        adapter = Path(tempfile.mkdtemp(dir=self.folder / "adapters"))
        for name, data in peft_files(self.rng.randrange(10**6)).items():
            (adapter / name).write_bytes(data)
        self._command("add", adapter, "--task", task, "--registry", self.home)
        shutil.rmtree(adapter)
        before = Zoo.open(self.home).registry.entries if (self.home / "registry.json").exists() else ()
        if before and self._command("push", NAME, "--registry", self.home)[0] == 0:
            self._note("acknowledged", {entry.task: entry.sha256 for entry in before})

    def _importer(self) -> None:
        there = (self.folder / "planted").read_text().split()
        mine = self.folder / "imported"
        code, _ = self._command("import", "--library", "peft", "--base", BASE, "--registry", mine)
        if code == 0:
            self._note("acknowledged", dict.fromkeys(there, ""))


# --- the Hub and its weather -----------------------------------------------------------------------------------


class Soak:
    """The Hub, the processes, and what happens to them."""

    def __init__(self, options: argparse.Namespace, folder: Path, hub: LoopbackHub) -> None:
        self.options, self.folder, self.hub = options, folder, hub
        self.rng = random.Random(options.seed)
        self.kinds = {"reader": options.readers, "pusher": options.pushers, "importer": options.importers}
        self.running: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
        self.planted: list[str] = []
        self.happened: Counter[str] = Counter()

    def run(self) -> list[str]:
        """Let it all happen; a sentence for everything that is wrong at the end."""
        for name in ("log", "adapters"):
            (self.folder / name).mkdir()
        self.hub.store.users[TOKEN] = User("acme")
        self._plant()
        until = time.monotonic() + 60 * self.options.minutes
        while time.monotonic() < until:
            self._keep_running()
            self._weather()
            time.sleep(self.rng.uniform(0.1, 0.6))
        self.hub.faults.clear()
        (self.folder / "stop").touch()
        for process in self.running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LAST_COMMANDS)
            process.kill()
            process.wait()
        return list(self._problems())

    def _keep_running(self) -> None:
        for kind, count in self.kinds.items():
            for number in range(count):
                process = self.running.get((kind, number))
                if process is None or process.poll() is not None:
                    self.running[kind, number] = self._start(kind, number)

    def _start(self, kind: str, number: int) -> subprocess.Popen[bytes]:
        seed = str(self.rng.randrange(1 << 30))
        command = [sys.executable, __file__, "--work", kind, str(number), str(self.folder), seed]
        environment = {
            **os.environ, "HF_ENDPOINT": self.hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(self.folder / "home"),
            "TUPATE_HUB_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        self.happened["processes"] += 1
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _weather(self) -> None:
        if self.rng.random() < 0.5:
            kind, options = self.rng.choice(FAULTS)
            self.hub.fault(kind, times=self.rng.randint(1, 4), **options)
            self.happened["faults"] += 1
        if self.rng.random() < 0.3:
            self.rng.choice(list(self.running.values())).kill()
            self.happened["kills"] += 1
        if self.rng.random() < 0.1:
            self._plant()

    def _plant(self) -> None:
        number = len(self.planted)
        plant(self.hub, f"a/task{number}-lora", peft_files(number, f"acme/task{number}"))
        self.planted.append(f"task{number}")
        whole = self.folder / "planted.new"
        whole.write_text("\n".join(self.planted))
        whole.replace(self.folder / "planted")

    # --- afterwards --------------------------------------------------------------------------------------------

    def _lines(self, what: str) -> Iterator[dict[str, object]]:
        for path in sorted((self.folder / "log").glob(f"{what}-*")):
            for line in path.read_text().splitlines():
                with contextlib.suppress(json.JSONDecodeError):  # the last one of a process that was killed
                    yield json.loads(line)

    def _problems(self) -> Iterator[str]:
        for line in self._lines("findings"):
            yield f"{line['command']} ended with {line['code']}: {line['said']}"
        os.environ.update(
            HF_ENDPOINT=self.hub.endpoint, TUPATE_HUB_CACHE=str(self.folder / "fresh"), HF_HUB_OFFLINE="0"
        )
        places = {"the Hub": f"hf://datasets/{NAME}", "imported": self.folder / "imported"}
        places |= {f"pusher{n}": self.folder / f"pusher{n}" for n in range(self.kinds["pusher"])}
        found: dict[str, dict[str, str]] = {}
        for name, place in places.items():
            if isinstance(place, Path) and not (place / "registry.json").exists():
                continue
            zoo = Zoo.open(place)
            yield from (f"{name}: {problem}" for problem in zoo.verify())
            found[name] = {entry.task: entry.sha256 for entry in zoo.registry.entries}
        for path in sorted((self.folder / "log").glob("acknowledged-*")):
            where = "imported" if "importer" in path.name else "the Hub"
            for line in path.read_text().splitlines():
                for task, sha256 in json.loads(line).items():
                    if sha256 not in ("", found[where].get(task)) or task not in found[where]:
                        yield f"{task} was acknowledged and is not on {where}"
        self.happened["embeddings on the Hub"] = len(found.get("the Hub", ()))
        self.happened["imported"] = len(found.get("imported", ()))

    def figures(self) -> str:
        """How many commands were given, how they ended, and what happened meanwhile."""
        codes = Counter((str(line["kind"]), str(line["code"])) for line in self._lines("commands"))
        by_kind = [
            f"{kind}s: {sum(count for (of, _), count in codes.items() if of == kind)} commands, of which "
            + ", ".join(f"{count} ended with {code}" for (of, code), count in sorted(codes.items()) if of == kind)
            for kind in self.kinds
        ]
        refused = Counter(str(line["said"]) for line in self._lines("commands") if line["code"] == 2)
        most = [f"refused {count} times: {said}" for said, count in refused.most_common(3)]
        return "\n".join([*by_kind, *most, ", ".join(f"{count} {what}" for what, count in self.happened.items())])


def main() -> int:
    if sys.argv[1:2] == ["--work"]:
        kind, number, folder, seed = sys.argv[2:]
        Worker(kind, int(number), Path(folder), random.Random(int(seed))).work()
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    for kind, count in (("readers", 32), ("pushers", 4), ("importers", 2)):
        parser.add_argument(f"--{kind}", type=int, default=count)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, LoopbackHub() as hub:
        soak = Soak(options, Path(folder), hub)
        problems = soak.run()
        print(soak.figures())
    for problem in problems[:20]:
        print(problem, file=sys.stderr)
    print(f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
