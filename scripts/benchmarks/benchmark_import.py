"""Measure `tupate-hub import` from a Hub on this machine whose every answer takes 50 ms: eight at once against one.

The Hub runs in a process of its own, the command in another with an empty cache, as a user types it.
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
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import save

ROOT = Path(__file__).resolve().parents[2]
BASE = "acme/tiny-bert"
LAYERS, WIDTH, RANK = 2, 32, 4


def adapter_repository(seed: int) -> dict[str, bytes]:
    """The files of a model repository: a small LoRA adapter as PEFT leaves it, with its card."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(LAYERS):
        for place in ("query", "value"):
            module = f"base_model.model.bert.encoder.layer.{layer}.attention.self.{place}"
            tensors[f"{module}.lora_A.weight"] = rng.standard_normal((RANK, WIDTH)).astype(np.float32)
            tensors[f"{module}.lora_B.weight"] = rng.standard_normal((WIDTH, RANK)).astype(np.float32)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "base_model_name_or_path": BASE}
    config |= {"target_modules": ["query", "value"], "task_type": "SEQ_CLS"}
    card = f"---\nlibrary_name: peft\nbase_model: {BASE}\nlicense: mit\n---\n"
    return {
        "README.md": card.encode(),
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": save(tensors),
    }


def serve(count: int, seconds: float) -> None:
    """Be the Hub until standard input ends; its address is the first line of output."""
    sys.path.insert(0, str(ROOT / "tests"))
    from loopback import LoopbackHub

    with LoopbackHub() as hub:
        for number in range(count):
            hub.store.put("models", f"owner/task-{number:04}-lora", adapter_repository(number))
        hub.fault("slow", seconds=seconds)
        print(hub.endpoint, flush=True)
        sys.stdin.read()


@contextmanager
def running_hub(count: int, seconds: float) -> Iterator[str]:
    """The address of a Hub with so many adapters, each answer of which takes so long."""
    command = [sys.executable, __file__, "--serve", "--count", str(count), "--seconds", str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("no pipes to the Hub")
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def import_seconds(endpoint: str, count: int, jobs: int) -> float:
    """How long the command takes with an empty cache; fails unless it takes in every adapter."""
    with tempfile.TemporaryDirectory() as scratch:
        here = {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": scratch, "TUPATE_HUB_CACHE": f"{scratch}/c"}
        command = [sys.executable, "-m", "tupate_hub", "import", "--library", "peft", "--base", BASE]
        command += ["--jobs", str(jobs), "--registry", f"{scratch}/zoo", "--json"]
        began = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env={**os.environ, **here})
        took = time.perf_counter() - began
        added = len(json.loads(done.stdout)["added"])
        if added != count:
            raise RuntimeError(f"{added} of {count} adapters were taken in")
        return took


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
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.05)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--serve", action="store_true", help="be the Hub; for the script itself")
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.count, asked.seconds)
        return
    alone, together = import_speedup(asked.count, asked.seconds, asked.jobs)
    print(f"one after the other {alone:.1f} s, {asked.jobs} at once {together:.1f} s: {alone / together:.1f} x")


if __name__ == "__main__":
    main()
