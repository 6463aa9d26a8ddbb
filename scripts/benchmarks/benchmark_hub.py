"""Figures of registries on the Hub, measured against the loopback Hub of the tests: reading, importing, pushing.

Real: the registry, all its files and its index, the commands, and the client's HTTP. Smaller than life: the base model
of the 1,000 LoRAs, which changes the size of embeddings that are not fetched. Made up: their parameters.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from benchmark_import import import_speedup

from tupate_hub import Zoo
from tupate_hub.compare.pair_index import build_pair_index
from tupate_hub.embedding import TaskEmbedding, make_block, order_blocks
from tupate_hub.registry import FILENAME, Entry, Registry, SpaceEntry, placed
from tupate_hub.space import Space

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from loopback import LoopbackHub, User  # noqa: E402

NAME, TOKEN = "acme/zoo", "hf_benchmark"
SPACE = SpaceEntry("base/lora", "acme/base", "lora")
LAYERS, WIDTH, RANK = 2, 64, 8

Row = tuple[str, float, str, float | None]


def random_lora(task: str, rng: np.random.Generator) -> TaskEmbedding:
    """A LoRA of random numbers on the query and value weights of a small model."""
    names = [f"layer.{layer}.{place}" for layer in range(LAYERS) for place in ("query", "value")]
    shapes = {"A": (RANK, WIDTH), "B": (WIDTH, RANK)}
    blocks = (
        make_block(name, {part: rng.standard_normal(shape, dtype=np.float32) for part, shape in shapes.items()}, 2.0)
        for name in names
    )
    return TaskEmbedding(task, Space(SPACE.base, SPACE.method), order_blocks(blocks), {})


def registry_of(count: int) -> dict[str, bytes]:
    """The files of a registry of so many LoRAs: what is said of each is what the bundled zoo says of one of its own."""
    rng = np.random.default_rng(0)
    known = Zoo.open().registry
    files: dict[str, bytes] = {}
    tasks, entries, embeddings = {}, [], []
    for number in range(count):
        like = known.entries[number % len(known.entries)]
        name = f"{like.task}-{number:05}"
        aliases = tuple(f"{alias}-{number}" for alias in known.tasks[like.task].aliases)
        tasks[name] = replace(known.tasks[like.task], name=name, aliases=aliases)
        embeddings.append(random_lora(name, rng))
        place = placed(f"zoo/{SPACE.name}/{name}.safetensors", embeddings[-1].to_bytes())
        files[place["file"]] = embeddings[-1].to_bytes()
        entries.append(Entry(name, SPACE.name, **place, source=like.source, scores=like.scores, flags=like.flags))
    order = sorted(range(count), key=lambda at: entries[at].task)
    digests = [entries[at].sha256 for at in order]
    index = build_pair_index(SPACE.name, "update", [embeddings[at] for at in order], digests).to_bytes()
    place = placed(f"zoo/{SPACE.name}/index-update.safetensors", index)
    spaces = {SPACE.name: replace(SPACE, index={"update": place})}
    text = Registry(tasks, spaces, tuple(entries), SPACE.name).to_json()
    return {**files, place["file"]: index, FILENAME: text.encode()}


def run(settings: Mapping[str, str], *arguments: str) -> float:
    """Processor seconds of the command, which beside other work are steadier than those of the clock."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "tupate_hub", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **settings})
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def settings_of(hub: LoopbackHub, home: Path) -> dict[str, str]:
    """The environment of a command that talks to this Hub, with caches of its own."""
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home / "huggingface"),
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": TOKEN,
        "TUPATE_HUB_CACHE": str(home / "cache"),
        "OMP_NUM_THREADS": "1",
    }


@dataclass(frozen=True)
class Fetched:
    """What `similar TASK` fetches of a registry on the Hub: requests, redirections too, and bytes; requests `again`."""

    requests: int
    bytes: int
    again: int


@contextmanager
def hub_with(folder: Path) -> Iterator[tuple[LoopbackHub, dict[str, str]]]:
    """A loopback Hub that has a folder's registry, and the environment of a command with nothing cached."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with tempfile.TemporaryDirectory() as scratch, LoopbackHub() as hub:
        hub.store.users[TOKEN] = User("acme")
        hub.store.put("datasets", NAME, files)
        yield hub, settings_of(hub, Path(scratch))


def first_question(folder: Path, task: str) -> Fetched:
    """Ask about a task of a registry that lies on the loopback Hub, by a process with nothing cached, and again."""
    with hub_with(folder) as (hub, settings):
        run(settings, "similar", task, "--registry", NAME)
        requests, sent = len(hub.seen), sum(one.sent for one in hub.seen)
        run(settings, "similar", task, "--registry", NAME)
        return Fetched(requests, sent, len(hub.seen) - requests)


def remote(count: int, runs: int) -> list[Row]:
    """`similar` with a registry on the Hub: what it fetches, and how long it takes once that is cached."""
    files = registry_of(count)
    task = min(path for path in files if path.endswith(".safetensors")).rpartition("/")[2].removesuffix(".safetensors")
    with tempfile.TemporaryDirectory() as scratch, LoopbackHub() as hub:
        folder = Path(scratch) / "folder"
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        hub.store.users[TOKEN] = User("acme")
        hub.store.put("datasets", NAME, files)
        settings = settings_of(hub, Path(scratch))
        run(settings, "similar", task, "--registry", NAME)
        asked, sent = len(hub.seen), sum(one.sent for one in hub.seen) / 1e6
        hub.seen.clear()
        questions = {
            "bundled": ["squad"],
            "folder": [task, "--registry", str(folder)],
            "remote": [task, "--registry", NAME],
        }
        taken = {name: [run(settings, "similar", *question)] for name, question in questions.items()}
        for _ in range(runs):
            for name, question in questions.items():
                taken[name].append(run(settings, "similar", *question))
        again = len(hub.seen)
    median = {name: statistics.median(times[1:]) for name, times in taken.items()}
    what = f"similar, a registry of {count} on the Hub"
    return [
        (f"{what}, nothing cached: requests, redirections too", asked, "", 4),
        (f"{what}, nothing cached: what is fetched", sent, "MB", 3),
        (f"{what}, cached: requests", again, "", 0),
        (f"{what}, cached, against the bundled zoo", median["remote"] / median["bundled"], "x", 1.3),
        (f"{what}, cached, against the same registry in a folder", median["remote"] / median["folder"], "x", 1.05),
    ]


def importing(count: int) -> list[Row]:
    """`import` with eight adapters at once, against one after the other, where each answer takes 50 ms."""
    alone, together = import_speedup(count)
    what = f"import of {count} adapters, each answer after 50 ms"
    return [(f"{what}: one at a time ({alone:.0f} s), against eight ({together:.0f} s)", -alone / together, "x", -5)]


def pushing() -> list[Row]:
    """`push` of the bundled zoo, and again when nothing has changed."""
    with tempfile.TemporaryDirectory() as scratch, LoopbackHub() as hub:
        hub.store.users[TOKEN] = User("acme")
        settings = settings_of(hub, Path(scratch))
        run(settings, "push", NAME)
        first = [str(one) for one in hub.seen]
        hub.seen.clear()
        run(settings, "push", NAME)
        again = [str(one) for one in hub.seen]
    uploads, commits = (
        [sum(wanted in one for one in asked) for asked in (first, again)] for wanted in ("PUT /", "/commit/")
    )
    if not (uploads[0] and commits[0]):
        raise RuntimeError("the first push sent nothing")
    what = f"push of the bundled zoo, unchanged (the first: {uploads[0]} uploads, {commits[0]} commit)"
    return [(f"{what}: uploads", uploads[1], "", 0), (f"{what}: commits", commits[1], "", 0)]
