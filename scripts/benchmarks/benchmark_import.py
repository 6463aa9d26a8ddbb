"""Measure `tupate-hub import` from a Hub on this machine.

    python scripts/benchmarks/benchmark_import.py             eight at once against one, every answer taking 50 ms
    python scripts/benchmarks/benchmark_import.py --download  with --keep sketch against downloading alone
    python scripts/benchmarks/benchmark_import.py --cluster   over two workers of a Ray cluster, --keep sketch

The Hub runs in a process of its own, the command in another with an empty cache, as a user types it. The second figure
is of adapters of 5 MB (LoRA of rank 34 on queries and values of twelve layers of width 768, random factors): what
downloads them is huggingface_hub's own `hf_hub_download` of configuration and weights, as many at once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import save

ROOT = Path(__file__).resolve().parents[2]
BASE = "acme/tiny-bert"
#: Layers, width and rank of the adapters: some 8 KB each, and some 5 MB.
SMALL, LARGE = (2, 32, 4), (12, 768, 34)
#: So many large ones differ; the others are the same again under other names.
DIFFERENT = 20


def adapter_repository(seed: int, shape: tuple[int, int, int]) -> dict[str, bytes]:
    """The files of a model repository: a LoRA adapter as PEFT leaves it, with its card."""
    layers, width, rank = shape
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(layers):
        for place in ("query", "value"):
            module = f"base_model.model.bert.encoder.layer.{layer}.attention.self.{place}"
            tensors[f"{module}.lora_A.weight"] = rng.standard_normal((rank, width)).astype(np.float32)
            tensors[f"{module}.lora_B.weight"] = rng.standard_normal((width, rank)).astype(np.float32)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "base_model_name_or_path": BASE}
    config |= {"target_modules": ["query", "value"], "task_type": "SEQ_CLS"}
    card = f"---\nlibrary_name: peft\nbase_model: {BASE}\nlicense: mit\n---\n"
    return {
        "README.md": card.encode(),
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": save(tensors),
    }


def serve(count: int, seconds: float, large: bool) -> None:
    """Be the Hub until standard input ends; its address is the first line of output."""
    sys.path.insert(0, str(ROOT / "tests"))
    from loopback import LoopbackHub

    made = [adapter_repository(seed, LARGE) for seed in range(DIFFERENT)] if large else []
    with LoopbackHub() as hub:
        for number in range(count):
            files = made[number % DIFFERENT] if large else adapter_repository(number, SMALL)
            hub.store.put("models", repository_name(number), files)
        if seconds:
            hub.fault("slow", seconds=seconds)
        print(hub.endpoint, flush=True)
        sys.stdin.read()


def repository_name(number: int) -> str:
    return f"owner/task-{number:04}-lora"


@contextmanager
def running_hub(count: int, seconds: float, large: bool = False) -> Iterator[str]:
    """The address of a Hub with so many adapters, each answer of which takes so long."""
    command = [sys.executable, __file__, "--serve", "--count", str(count), "--seconds", str(seconds)]
    command += ["--large"] * large
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("no pipes to the Hub")
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def import_seconds(endpoint: str, count: int, jobs: int, *options: str) -> float:
    """How long the command takes with an empty cache; fails unless it takes in every adapter."""
    with tempfile.TemporaryDirectory() as scratch:
        command = ["-m", "tupate_hub", "import", "--library", "peft", "--base", BASE, *options]
        command += ["--jobs", str(jobs), "--registry", f"{scratch}/zoo", "--json"]
        took, told = timed(command, endpoint, scratch)
        added = len(json.loads(told)["added"])
        if added != count:
            raise RuntimeError(f"{added} of {count} adapters were taken in")
        return took


def download_seconds(endpoint: str, count: int, jobs: int) -> float:
    """How long it takes to download the adapters, nothing else, with an empty cache."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [__file__, "--download-now", "--count", str(count), "--jobs", str(jobs)]
        return timed(command, endpoint, scratch)[0]


def timed(command: list[str], endpoint: str, scratch: str) -> tuple[float, str]:
    """Seconds that a command of Python takes, which talks to a Hub with its caches in a folder, and what it prints."""
    here = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": scratch, "TUPATE_HUB_CACHE": f"{scratch}/c"}
    here |= {
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    began = time.perf_counter()
    run = [sys.executable, *command]
    done = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **here})
    return time.perf_counter() - began, done.stdout


def download(count: int, jobs: int) -> None:
    """Download the adapters, as anyone would."""
    from huggingface_hub import hf_hub_download

    def both(number: int) -> None:
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            hf_hub_download(repository_name(number), file)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(both, range(count)))


def import_against_download(count: int = 1000, jobs: int = 8, rounds: int = 1) -> tuple[float, float]:
    """Seconds for importing so many adapters of 5 MB with `--keep sketch`, and for downloading them: medians."""
    with running_hub(count, 0.0, large=True) as endpoint:
        taken = [
            (import_seconds(endpoint, count, jobs, "--keep", "sketch"), download_seconds(endpoint, count, jobs))
            for _ in range(rounds)
        ]
        return statistics.median(one for one, _ in taken), statistics.median(two for _, two in taken)


def import_over_cluster(count: int = 1000, workers: int = 2) -> tuple[float, float]:
    """Seconds for importing so many small adapters with `--keep sketch` over a local Ray cluster, and without one."""
    with running_hub(count, 0.0) as endpoint:
        over = import_seconds(endpoint, count, workers, "--keep", "sketch", "--ray", "local")
        return over, import_seconds(endpoint, count, workers, "--keep", "sketch")


def import_speedup(count: int = 200, seconds: float = 0.05, jobs: int = 8) -> tuple[float, float]:
    """Seconds for importing so many adapters one after the other, and with so many at once: the median of three.

    The first takes so long that what else the machine does in the meantime weighs little.
    """
    with running_hub(count, seconds) as endpoint:
        together = statistics.median(import_seconds(endpoint, count, jobs) for _ in range(3))
        return import_seconds(endpoint, count, 1), together


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, help="adapters [default: 200; with --download or --cluster 1000]")
    parser.add_argument("--seconds", type=float, default=0.05)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1, help="of --download")
    parser.add_argument("--download", action="store_true", help="--keep sketch against downloading")
    parser.add_argument("--cluster", action="store_true", help="over a local Ray cluster of two workers")
    parser.add_argument("--serve", action="store_true", help="be the Hub; for the script itself")
    parser.add_argument("--large", action="store_true", help="with adapters of 5 MB; for the script itself")
    parser.add_argument("--download-now", action="store_true", help="download; for the script itself")
    asked = parser.parse_args()
    count = asked.count or (1000 if asked.download or asked.cluster else 200)
    if asked.serve:
        serve(count, asked.seconds, asked.large)
    elif asked.download_now:
        download(count, asked.jobs)
    elif asked.download:
        imported, downloaded = import_against_download(count, asked.jobs, asked.rounds)
        print(f"imported in {imported:.1f} s, downloaded in {downloaded:.1f} s: {imported / downloaded:.2f} x")
    elif asked.cluster:
        over, here = import_over_cluster(count)
        print(f"{count} adapters over two workers {over:.1f} s, the cluster's start included; without one {here:.1f} s")
    else:
        alone, together = import_speedup(count, asked.seconds, asked.jobs)
        print(f"one after the other {alone:.1f} s, {asked.jobs} at once {together:.1f} s: {alone / together:.1f} x")


if __name__ == "__main__":
    main()
