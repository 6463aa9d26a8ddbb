"""Measure the project's time and space figures; times are given as ratios to a yardstick of the same run.

Run by `make benchmark`. Each figure is printed beside its limit; the exit code is 1 where one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

import benchmark_hub
import numpy as np
from safetensors.numpy import load_file, save

from tupate_hub.check.checking import Place, check_adapters
from tupate_hub.compare.kernel import Pack, kernel, pack
from tupate_hub.compare.lowrank import Stack
from tupate_hub.embedding import Block, TaskEmbedding, embed
from tupate_hub.readers import read_adapter
from tupate_hub.space import Space

ROOT = Path(__file__).resolve().parents[2]
LAYERS, WIDTH, RANK = 12, 768, 8
YARDSTICK = "import numpy, safetensors.numpy, click"

Row = tuple[str, float, str, float | None]


def seconds(command: list[str]) -> float:
    """Wall time of a cold process."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - began


def cold_start(runs: int) -> list[Row]:
    """Cold processes, taken in turns so that a busy machine slows all of them; the median of each."""
    script = str(Path(sys.executable).with_name("tupate-hub"))
    commands = {
        "yardstick": [sys.executable, "-c", YARDSTICK],
        "similar": [script, "similar", "squad"],
        "help": [script, "--help"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs + 1):
        for name, command in commands.items():
            times[name].append(seconds(command))
    median = {name: statistics.median(taken[1:]) for name, taken in times.items()}
    return [
        (
            "similar squad, cold, against importing numpy, safetensors and click",
            median["similar"] / median["yardstick"],
            "x",
            2,
        ),
        ("similar squad, cold", median["similar"], "s", 0.25),
        ("--help, cold", median["help"], "s", 0.10),
    ]


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def core_install() -> list[Row]:
    """What the core install adds to an empty environment."""
    with tempfile.TemporaryDirectory() as scratch:
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", scratch]
        subprocess.run(build, check=True, capture_output=True, cwd=ROOT)
        environment = Path(scratch) / "venv"
        venv.create(environment, with_pip=True)
        before = folder_size(environment)
        (wheel,) = Path(scratch).glob("*.whl")
        install = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", str(wheel)]
        subprocess.run(install, check=True, capture_output=True)
        added = (folder_size(environment) - before) / 1e6
    return [("core install, added to an empty environment", added, "MB", 115)]


def random_pack(count: int, rng: np.random.Generator) -> Pack:
    """Random LoRAs on the query and value weights of a 12-layer model of width 768, packed."""
    names = [f"encoder.layer.{layer}.attention.self.{part}" for layer in range(LAYERS) for part in ("query", "value")]
    starts = np.arange(0, count * RANK, RANK)
    stacks = {
        name: Stack(
            rng.standard_normal((count * RANK, WIDTH), dtype=np.float32),
            rng.standard_normal((count * RANK, WIDTH), dtype=np.float32),
            starts,
            np.arange(count),
        )
        for name in names
    }
    from tupate_hub.compare.lowrank import stacked_squares

    squares = np.stack([stacked_squares(one) for one in stacks.values()])
    return Pack("update", tuple(f"task{index}" for index in range(count)), stacks, squares)


def best(action: Callable[[], object], runs: int) -> float:
    """The shortest of several times."""
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return min(taken)


def paired(first: Callable[[], object], second: Callable[[], object], runs: int) -> float:
    """How many times as long the second takes, the median over pairs taken in turns."""
    return statistics.median(best(second, 1) / best(first, 1) for _ in range(runs))


def ranking(count: int, dense_count: int) -> list[Row]:
    """One LoRA against many: with r x r products, against forming the updates, against reading the factors."""
    rng = np.random.default_rng(0)
    zoo = random_pack(count, rng)
    query = pack(
        [
            TaskEmbedding(
                "query",
                Space("base", "lora"),
                tuple(
                    Block(
                        name,
                        {
                            "A": rng.standard_normal((RANK, WIDTH), dtype=np.float32),
                            "B": rng.standard_normal((WIDTH, RANK), dtype=np.float32),
                        },
                    )
                    for name in zoo.stacks
                ),
            )
        ]
    )
    factors = sum(stack.a.nbytes + stack.bt.nbytes for stack in zoo.stacks.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    exact = kernel(query, zoo).scores()[0]
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1e3

    def read() -> float:
        return sum(float(stack.a.sum() + stack.bt.sum()) for stack in zoo.stacks.values())

    def dense() -> np.ndarray:
        cross, squares, own = np.zeros(dense_count), np.zeros(dense_count), 0.0
        for name, stack in zoo.stacks.items():
            mine = query.stacks[name]
            update = mine.bt.T @ mine.a
            own += float(np.vdot(update, update))
            for index in range(dense_count):
                rows = slice(index * RANK, (index + 1) * RANK)
                other = stack.bt[rows].T @ stack.a[rows]
                cross[index] += float(np.vdot(update, other))
                squares[index] += float(np.vdot(other, other))
        return cross / np.sqrt(own * squares)

    fast = best(lambda: kernel(query, zoo), 5)
    reading = best(read, 5)
    slow = best(dense, 2) * count / dense_count
    difference = float(np.abs(dense() - exact[:dense_count]).max())
    return [
        (
            f"1 LoRA against {count}: forming the updates (timed on {dense_count}), against update",
            -slow / fast,
            "x",
            -50,
        ),
        (f"1 LoRA against {count}: update, against reading the factors once", fast / reading, "x", 3),
        (f"1 LoRA against {count}: difference from the dense scores", difference, "", 1e-5),
        (f"1 LoRA against {count}: memory beyond the factors' {factors / 1e6:.0f} MB", extra, "MB", 200),
    ]


def write_peft(folder: Path, rng: np.random.Generator, base: str) -> Path:
    """A PEFT LoRA of 1.2 MB as strangers leave it: r 8, query and value of 12 layers, a head."""
    tensors: dict[str, np.ndarray] = {}
    for layer in range(LAYERS):
        for part in ("query", "value"):
            name = f"base_model.model.bert.encoder.layer.{layer}.attention.self.{part}"
            tensors[f"{name}.lora_A.weight"] = rng.standard_normal((RANK, WIDTH), dtype=np.float32)
            tensors[f"{name}.lora_B.weight"] = rng.standard_normal((WIDTH, RANK), dtype=np.float32)
    tensors["base_model.model.classifier.weight"] = rng.standard_normal((2, WIDTH), dtype=np.float32)
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(save(tensors))
    config = {"peft_type": "LORA", "base_model_name_or_path": base, "r": RANK, "lora_alpha": 16}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def reading() -> list[Row]:
    """One adapter from disk to an embedding, against reading the same bytes with the safetensors library."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_peft(Path(scratch) / "lora", np.random.default_rng(0), "bert-base-uncased")
        weights = folder / "adapter_model.safetensors"
        plain = best(lambda: load_file(weights), 20)
        ours = best(lambda: embed(read_adapter(folder), "task"), 20)
        size = weights.stat().st_size / 1e6
        checking = paired(lambda: read_adapter(folder), lambda: check_adapters([Place("lora", folder)]), 60)
    return [
        (f"a PEFT LoRA of {size:.1f} MB to an embedding", ours * 1e3, "ms", 10),
        (f"a PEFT LoRA of {size:.1f} MB to an embedding, against safetensors.numpy", ours / plain, "x", None),
        (f"check of a PEFT LoRA of {size:.1f} MB, against reading it", checking, "x", 2),
    ]


def adding(count: int) -> list[Row]:
    """Many adapters into a registry of one's own, by the command, on one core."""
    with tempfile.TemporaryDirectory() as scratch:
        rng = np.random.default_rng(0)
        for number in range(count):
            write_peft(Path(scratch) / "found" / f"lora{number:04}", rng, "bert-base-uncased")
        script = str(Path(sys.executable).with_name("tupate-hub"))
        command = [script, "add", "--all", str(Path(scratch) / "found"), "--registry", str(Path(scratch) / "zoo")]
        one_core = ["taskset", "-c", "0"] if shutil.which("taskset") else []
        taken = seconds([*one_core, *command])
    return [(f"add {count} adapters of 1.2 MB, one core", taken, "s", 30 * count / 1000)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=11, help="cold processes of each kind [default: 11]")
    parser.add_argument("--count", type=int, default=2000, help="LoRAs to rank against [default: 2000]")
    parser.add_argument("--added", type=int, default=1000, help="adapters to add [default: 1000]")
    parser.add_argument(
        "--only",
        choices=["start", "install", "ranking", "reading", "adding", "remote", "import", "push"],
        help="one group of figures",
    )
    parser.add_argument(
        "--listed", type=int, default=1000, help="embeddings of the registry on the Hub [default: 1000]"
    )
    parser.add_argument("--imported", type=int, default=200, help="adapters to import from the Hub [default: 200]")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    groups: dict[str, Callable[[], list[Row]]] = {
        "start": lambda: cold_start(arguments.runs),
        "install": core_install,
        "ranking": lambda: ranking(arguments.count, min(40, arguments.count)),
        "reading": reading,
        "adding": lambda: adding(arguments.added),
        "remote": lambda: benchmark_hub.remote(arguments.listed, arguments.runs),
        "import": lambda: benchmark_hub.importing(arguments.imported),
        "push": benchmark_hub.pushing,
    }
    os.environ.pop("TUPATE_HUB_REGISTRY", None)
    rows = [row for name, group in groups.items() if arguments.only in (None, name) for row in group()]
    if arguments.json:
        print(
            json.dumps(
                [{"figure": name, "value": abs(v), "unit": u, "limit": lim} for name, v, u, lim in rows], indent=1
            )
        )
    missed = 0
    for name, value, unit, limit in rows:
        miss = limit is not None and value > limit
        missed += miss
        if not arguments.json:
            bound = "" if limit is None else f"{'at least' if limit < 0 else 'at most'} {abs(limit):g}{unit}"
            print(f"{abs(value):10.3g} {unit:2}  {bound:18} {'MISSED' if miss else 'ok':6}  {name}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
