"""Measure large registries: of a thousand to a hundred thousand generated adapters, and a million sketches.

    python scripts/benchmarks/benchmark_scale.py [--sizes 1000 10000 100000] [--only WORK ...] [--out docs/scale.json]

Run by `make benchmark-scale`. The adapters are noise on the bundled zoo's LoRA (`generated.py` says how). Of the large
registries the sketches are kept alone, but for the families that are asked about, whose weights are there to be
compared exactly: a hundred thousand with weights are 8 GB. Everything lies in a temporary folder. Seconds are those of
the machine at hand, and processor seconds beside them; `scale_page.py` makes docs/scale.md of the rows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
from benchmark_hub import NAME, first_question, hub_with
from generated import FAMILY, SPACE, Generated

from tupate_hub import Zoo
from tupate_hub.arrays import Float64Array
from tupate_hub.collect.nearest import KnownSketches, with_nearest
from tupate_hub.collect.shelf import Shelf
from tupate_hub.compare.bits import cosines
from tupate_hub.compare.kernel import kernel, pack
from tupate_hub.compare.nearest import FINE, Nearest, Texts, nearest_of
from tupate_hub.compare.sketch import Sketch, Sketcher
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.export import export
from tupate_hub.registry import Entry, Registry, SpaceEntry, Task
from tupate_hub.storage.atomic import write_bytes
from tupate_hub.storage.safetensors import parse_tensorfile

ROOT = Path(__file__).resolve().parents[2]
YARDSTICK = "import numpy, safetensors.numpy, click"
#: Families that are asked about, all of them among the first thousand adapters, and members of each.
FAMILIES, ASKED = 10, 2
K, RUNS, MILLION, ADDED, OTHERS = 10, 7, 1_000_000, (1_000, 10_000), 100
_BATCH = 500


@dataclass(frozen=True)
class Row:
    """One figure: of which work, at how many embeddings, and what it may be at most, or at least."""

    work: str
    embeddings: int
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the figure is within its limits."""
        above = self.at_least is not None and self.value < self.at_least
        return not above and (self.at_most is None or self.value <= self.at_most)


@dataclass
class Made:
    """The adapters up to the largest size: their sketches, and what the queries score with them exactly."""

    sizes: Sequence[int]
    scratch: Path
    generated: Generated = field(default_factory=lambda: Generated(ROOT))

    @cached_property
    def asked(self) -> list[int]:
        """The numbers of the adapters that are asked about."""
        families = np.random.default_rng(0).permutation(min(self.sizes) // FAMILY)[:FAMILIES]
        return [int(family) * FAMILY + member for family in families for member in range(ASKED)]

    @cached_property
    def kept(self) -> dict[int, TaskEmbedding]:
        """The adapters whose weights are kept, by their numbers: the families that are asked about."""
        families = sorted({number // FAMILY for number in self.asked})
        members = ((family * FAMILY, self.generated.family(family)) for family in families)
        return {start + at: embedding for start, family in members for at, embedding in enumerate(family)}

    @cached_property
    def whole(self) -> tuple[list[Sketch], Float64Array]:
        """All sketches, and the exact scores of shape (asked, embeddings)."""
        queries = pack([self.kept[number] for number in self.asked])
        sketcher, sketches, scores = Sketcher(), [], []
        batch: list[TaskEmbedding] = []
        for number, embedding in enumerate(self.generated.first(max(self.sizes)), 1):
            batch.append(embedding)
            if len(batch) == _BATCH or number == max(self.sizes):
                sketches += sketcher.sketches(batch)
                scores.append(kernel(queries, pack(batch)).scores())
                batch = []
                show(f"made {number:,}")
        return sketches, np.concatenate(scores, axis=1)

    def registry(self, count: int) -> Path:
        """The folder of a registry of the first so many, which is made where it is not there."""
        root = self.scratch / f"registry-{count}"
        if root.exists():
            return root
        base = self.generated.sources[0].space
        space, shelf, rows = SpaceEntry(base.name, base.base, base.method), Shelf(root, Registry()), []
        known = KnownSketches(Registry())
        for number, sketch in enumerate(self.whole[0][:count]):
            task, digest = sketch.task, hashlib.sha256(sketch.task.encode()).hexdigest()
            entry = Entry(task, space.name, "", 0, digest, kept="sketch")
            if (embedding := self.kept.get(number)) is not None:
                place = shelf.put(f"zoo/{space.name}/{task}.safetensors", embedding.to_bytes("float32"))
                entry = Entry(task, space.name, **place)
            known.add(entry.sha256, sketch)
            rows.append((entry, Task(task, title=task, kind="classification"), space))
        registry = Registry().with_entries(rows)
        shelf.write_registry(with_nearest(shelf, Zoo(root, Registry()), registry, known))
        return root


@dataclass(frozen=True)
class Ran:
    """What a process took: seconds of the clock, seconds of the processor, and bytes of memory at its peak."""

    seconds: float
    processor: float
    memory: int


def run(command: Sequence[str], settings: Mapping[str, str] = MappingProxyType({})) -> Ran:
    """Run a process to its end; an error of it is this one's. Its memory is what it says of itself, as `PEAK` does."""
    began = time.perf_counter()
    environment = {**os.environ, **settings}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(said.decode(errors="replace"))
    peak = re.search(rb"VmHWM:\s+(\d+) kB", said)
    return Ran(time.perf_counter() - began, used.ru_utime + used.ru_stime, 1024 * int(peak[1]) if peak else 0)


#: A process's peak of memory, said at its end: what the kernel tells its parent is at least the parent's own.
PEAK = "import atexit, sys; atexit.register(lambda: sys.stderr.write(open('/proc/self/status').read()))"


def command(*arguments: str) -> list[str]:
    script = f"{PEAK}; from tupate_hub.cli import main; sys.argv = {['tupate-hub', *arguments]!r}; main()"
    return [sys.executable, "-c", script]


# --- the works ---------------------------------------------------------------------------------------------------


def cold(made: Made) -> list[Row]:
    """A question by name in a process of its own, beside one that imports the libraries; taken in turns."""
    rows = []
    limits = {10_000: 0.35, 100_000: 0.6}
    for count in made.sizes:
        root = str(made.registry(count))
        name = made.whole[0][made.asked[0]].task
        ask, bare = command("similar", name, "-k", str(K), "--registry", root), [sys.executable, "-c", YARDSTICK]
        run(ask)
        pairs = [(run(ask), run(bare)) for _ in range(RUNS)]
        asks, bares = ([one[side] for one in pairs] for side in (0, 1))
        seconds = statistics.median(one.seconds for one in asks)
        rows += [
            Row("cold `similar NAME`", count, seconds, "s", limits.get(count)),
            Row("cold `similar NAME`, processor", count, statistics.median(one.processor for one in asks), "s"),
            Row(
                "cold `similar NAME`, against importing numpy, safetensors and click",
                count,
                seconds / statistics.median(one.seconds for one in bares),
                "x",
            ),
            Row("cold `similar NAME`, memory", count, max(one.memory for one in asks) / 1e6, "MB", 300),
        ]
    return rows


def warm(made: Made) -> list[Row]:
    """Questions through the Python API to an open zoo, against the exact neighbours."""
    rows = []
    for count in made.sizes:
        zoo = Zoo.open(made.registry(count))
        names = [one.task for one in made.whole[0][:count]]
        zoo.similar(names[made.asked[0]], k=K)
        seconds, processor, found = [], [], 0
        for number, exact in zip(made.asked, made.whole[1][:, :count], strict=True):
            began, used = time.perf_counter(), time.process_time()
            ranking = zoo.similar(names[number], k=K)
            seconds.append(time.perf_counter() - began)
            processor.append(time.process_time() - used)
            best = [at for at in np.argsort(-exact)[: K + 1] if at != number][:K]
            found += len({one.task for one in ranking} & {names[at] for at in best})
        limit = 15 if count == 100_000 else None
        rows += [
            Row("warm question, Python", count, 1e3 * statistics.median(seconds), "ms", limit),
            Row("warm question, Python, processor", count, 1e3 * statistics.median(processor), "ms"),
            Row(f"recall@{K} against comparing everything", count, found / (K * len(made.asked)), "", at_least=0.98),
        ]
    return rows


def duplicates(made: Made) -> list[Row]:
    """`duplicates` of a whole registry, in a process of its own."""
    rows = []
    for count in made.sizes:
        ran = run(command("duplicates", "--registry", str(made.registry(count)), "--json"))
        rows += [
            Row("`duplicates`", count, ran.seconds, "s"),
            Row("`duplicates`, memory", count, ran.memory / 1e6, "MB"),
        ]
    return rows


def files(made: Made) -> list[Row]:
    """How large the files are that a question reads: nearest embeddings, and on the same disk whole sketches."""
    rows = []
    for count in made.sizes:
        place = Zoo.open(made.registry(count)).registry.spaces[SPACE].nearest["update"]
        whole = sum(one["bytes"] for one in place["sketches"])
        rows += [
            Row("file of nearest embeddings", count, place["bytes"] / 1e6, "MB"),
            Row("files of whole sketches, used on the same disk", count, whole / 1e6, "MB"),
        ]
    return rows


def hub(made: Made) -> list[Row]:
    """A question by name to a registry on the loopback Hub, with nothing cached, and the same again."""
    rows = []
    for count in made.sizes:
        fetched = first_question(made.registry(count), made.whole[0][made.asked[0]].task)
        limits = (8, 40) if count == 100_000 else (None, None)
        rows += [
            Row("first `similar NAME` on the Hub: requests", count, fetched.requests, "", limits[0]),
            Row("first `similar NAME` on the Hub: bytes", count, fetched.bytes / 1e6, "MB", limits[1]),
            Row("second `similar NAME` on the Hub: requests", count, fetched.again, "", 0),
        ]
    return rows


def add_all(made: Made) -> list[Row]:
    """`add --all` of folders as PEFT leaves them."""
    rows = []
    for count in ADDED:
        if count > max(made.sizes):
            continue
        folder, root = made.scratch / f"adapters-{count}", made.scratch / f"added-{count}"
        for embedding in made.generated.first(count):
            write_peft(folder / embedding.task, embedding)
        ran = run(command("add", "--all", str(folder), "--registry", str(root)))
        limit = 60 if count == 10_000 else None
        rows += [
            Row("`add --all`", count, ran.seconds, "s", limit),
            Row("`add --all`, processor", count, ran.processor, "s"),
            Row("`add --all`, memory", count, ran.memory / 1e6, "MB"),
        ]
    return rows


def add_one(made: Made) -> list[Row]:
    """One more adapter into a registry that is there; what is measured after this finds one more."""
    rows = []
    folder = made.scratch / "one-more"
    write_peft(folder, made.generated.family(max(made.sizes) // FAMILY + 1)[0])
    for count in made.sizes:
        ran = run(command("add", str(folder), "--registry", str(made.registry(count))))
        rows += [
            Row("`add` of one more", count, ran.seconds, "s"),
            Row("`add` of one more, processor", count, ran.processor, "s"),
            Row("`add` of one more, memory", count, ran.memory / 1e6, "MB"),
        ]
    return rows


def merge(made: Made) -> list[Row]:
    """A hundred other adapters, merged with a registry in a folder and pushed to one on the loopback Hub; checking."""
    rows = []
    folder, few = made.scratch / "others", made.scratch / "others-registry"
    for number in range(OTHERS // FAMILY):
        for embedding in made.generated.family(max(made.sizes) // FAMILY + 2 + number):
            write_peft(folder / embedding.task, embedding)
    run(command("add", "--all", str(folder), "--registry", str(few)))
    for count in made.sizes:
        root = made.registry(count)
        to = str(made.scratch / f"merged-{count}")
        with hub_with(root) as (_, settings):
            ran = {
                "`verify`": run(command("verify", "--registry", str(root))),
                "`merge` with a hundred others": run(command("merge", str(root), str(few), "--to", to)),
                "`push` of a hundred others": run(command("push", NAME, "--registry", str(few)), settings),
            }
        for work, one in ran.items():
            rows += [
                Row(f"{work}, processor", count, one.processor, "s"),
                Row(f"{work}, memory", count, one.memory / 1e6, "MB"),
            ]
    return rows


def write_peft(folder: Path, embedding: TaskEmbedding) -> None:
    """An adapter as PEFT leaves it."""
    for name, data in export(embedding, "peft", bare=True).items():
        write_bytes(folder / name, data, durable=False)


def million(made: Made) -> list[Row]:
    """A million sketches, made of those at hand by turning some of their bits, in one file that is mapped."""
    path = made.scratch / "million.safetensors"
    write_bytes(path, _many(made.whole[0], MILLION).to_bytes(), durable=False)
    script = f"{PEAK}; sys.path.insert(0, {str(Path(__file__).parent)!r}); import benchmark_scale as b"
    script += f"; b.ask_one({str(path)!r})"
    run([sys.executable, "-c", script])
    ran = [run([sys.executable, "-c", script]) for _ in range(3)]
    file = _mapped(path)
    taken = [_asked(file, row) for row in range(0, MILLION, MILLION // RUNS)]
    seconds, processor = (statistics.median(one[side] for one in taken) for side in (0, 1))
    return [
        Row("a question, a million sketches", MILLION, seconds, "s", 0.2),
        Row("a question, a million sketches, processor", MILLION, processor, "s"),
        Row("a process that asks it, memory", MILLION, max(one.memory for one in ran) / 1e6, "MB", 1000),
    ]


def ask_one(path: str) -> None:
    """One question to a file of nearest embeddings, in a process of its own."""
    _asked(_mapped(Path(path)), 0)


def _asked(held: Nearest, row: int) -> tuple[float, float]:
    """Seconds of the clock and of the processor."""
    began, used = time.perf_counter(), time.process_time()
    (bits,) = held.fine(np.array([row]))
    rows = held.candidates(bits, 1000)
    np.argsort(-cosines(bits, held.fine(rows)))[:K]
    return time.perf_counter() - began, time.process_time() - used


def _mapped(path: Path) -> Nearest:
    import mmap

    with path.open("rb") as file:
        return nearest_of(parse_tensorfile(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), path.name), path.name)


def _many(sketches: Sequence[Sketch], count: int) -> Nearest:
    rng = np.random.default_rng(0)
    known = np.stack([one.bits[: FINE // 8] for one in sketches[: min(len(sketches), 10_000)]])
    bits = known[rng.integers(0, len(known), count)]
    for start in range(0, count, 10_000):  # an eighth of the bits is turned
        part = bits[start : start + 10_000]
        turned = np.bitwise_and.reduce(rng.integers(0, 256, (3, *part.shape), dtype=np.uint8))
        part ^= turned
    names = Texts.of(f"m{number:07d}" for number in range(count))
    nothing = Texts(np.zeros(0, dtype=np.uint8), np.zeros(count, dtype=np.int32))
    return Nearest(
        space=SPACE,
        similarity="update",
        tasks=names,
        files=nothing,
        coarse=np.ascontiguousarray(bits[:, :32]),
        rest=np.ascontiguousarray(bits[:, 32:]),
        norms=np.ones(count, dtype=np.float32),
        places=np.arange(count, dtype=np.int32),
        sizes=np.zeros(count, dtype=np.int64),
        digests=np.zeros((count, 32), dtype=np.uint8),
        trained=np.full(count, -1, dtype=np.int64),
        kinds_of=np.zeros(count, dtype=np.int16),
        kinds=("",),
        marks=np.zeros(count, dtype=np.uint8),
        origins=np.zeros((count, 3), dtype=np.int64),
    )


def directions(made: Made) -> list[Row]:
    """Who is found among the best by 256 bytes: the beginning of the sketch, or principal directions of the space.

    The directions are those of a thousand whole sketches, taken as vectors of signs; coordinates are in eight bits, and
    are compared by their cosine. Queries that the directions were learned of count, too.
    """
    count = min(10_000, max(made.sizes))
    bits = np.stack([one.bits for one in made.whole[0][:count]])
    exact = made.whole[1][:, :count]
    chosen = np.random.default_rng(0).permutation(count)[:1000]
    sample = _as_signs(bits[np.sort(chosen)])
    values, vectors = np.linalg.eigh(sample @ sample.T)
    basis = sample.T @ vectors[:, ::-1][:, :256] / np.sqrt(np.maximum(values[::-1][:256], 1e-9))
    coordinates = np.concatenate([_as_signs(bits[at : at + 1000]) @ basis for at in range(0, count, 1000)])
    coordinates = np.rint(coordinates / abs(coordinates).max(axis=1, keepdims=True) * 127)
    coordinates /= np.linalg.norm(coordinates, axis=1, keepdims=True)
    first = np.ascontiguousarray(bits[:, : FINE // 8])
    ways = {
        "the first 2,048 bits": np.stack([cosines(first[at], first) for at in made.asked]),
        "256 principal directions": coordinates[made.asked] @ coordinates.T,
    }
    return [
        Row(f"recall@{K} within the best 16 by 256 bytes: {way}", count, _recall(told, exact, made.asked, 16), "")
        for way, told in ways.items()
    ]


def _as_signs(bits: np.ndarray) -> np.ndarray:
    return np.unpackbits(bits, axis=1).astype(np.float32) * 2 - 1


def _recall(told: Float64Array, exact: Float64Array, asked: Sequence[int], within: int) -> float:
    found = 0
    for number, estimates, scores in zip(asked, told, exact, strict=True):
        best, likely = ([at for at in np.argsort(-row)[: within + 1] if at != number] for row in (scores, estimates))
        found += len(set(best[:K]) & set(likely[:within]))
    return found / (K * len(asked))


#: What is measured, by name. Each work may ask `Made` for a registry, which is then there for the next.
WORKS: Mapping[str, Callable[[Made], list[Row]]] = {
    "cold": cold,
    "warm": warm,
    "duplicates": duplicates,
    "files": files,
    "hub": hub,
    "directions": directions,
    "million": million,
    "add": add_all,
    "one": add_one,
    "merge": merge,
}


def show(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def told(row: Row) -> str:
    """A row as it is printed."""
    limits = [
        f"at {way} {value}" for way, value in (("most", row.at_most), ("least", row.at_least)) if value is not None
    ]
    figure = f"{row.work}, {row.embeddings:,}: {row.value:.4g} {row.unit}"
    return "".join(["MISSED " * (not row.kept), figure, *(f" ({limit})" for limit in limits)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--only", nargs="+", choices=WORKS, default=list(WORKS), metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--out", type=Path, help="the file of rows that docs/scale.md is made from")
    parser.add_argument("--scratch", type=Path, help="where the temporary folder is made")
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        os.environ["TUPATE_HUB_CACHE"] = str(Path(scratch) / "cache")
        made = Made(sorted(options.sizes), Path(scratch))
        for work in options.only:
            for row in WORKS[work](made):
                print(told(row), flush=True)
                rows.append(row)
    if options.out:
        measured = {(row.work, row.embeddings): asdict(row) for row in rows}
        had = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else []
        kept = [measured.pop((one["work"], one["embeddings"]), one) for one in had]
        write_bytes(options.out, (json.dumps([*kept, *measured.values()], indent=1) + "\n").encode())
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
