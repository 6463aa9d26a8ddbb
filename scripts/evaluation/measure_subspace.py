"""Measure the intrinsic subspace: rows of zoo/truth/subspace.csv, one a task and measurement.

Each trial finds a subspace over some of the few-shot tasks (fewshot_tasks.json) and measures it; its rows are written
and synced when it ends, and what is there already is not made again. The first two are the base model as it is and full
tuning, whose parameters --work keeps: the other trials begin with them, and where --work has none, with those of the
table's rows, which lie beside it (`subspace-METHOD-tuned.npy`, of shape (tasks, P)). All tasks are tuned in one batch.
--tokens keeps the tokenised examples; where that file is there already, no data folder is needed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tupate_hub.data.fewshot import FewShot, draw_all, read_fewshots
from tupate_hub.evaluation.subspace_rows import Trial, read_while_written
from tupate_hub.runrecord import Regime
from tupate_hub.storage.atomic import write_bytes

if TYPE_CHECKING:
    from tupate_hub.embedding import TaskEmbedding
    from tupate_hub.subspace.maps import Maps
    from tupate_hub.training.subspace.experiment import Bench
    from tupate_hub.training.subspace.manytasks import ManyTasks

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[2]
TASKS = Path(__file__).with_name("fewshot_tasks.json")
DIMS = (5, 50, 250, 10, 100)
SPLITS = ("random", "cls", "non-cls")
CONTROLS = ("pca", "linear", "random-mean", "random")
FITTED_ON = (15, 30, 45)
BASE = "sentence-transformers/all-MiniLM-L6-v2"
MAX_LENGTH = 48
#: Over fewer tasks no subspace is looked for.
FEWEST = 3


def trials(seeds: int) -> Iterator[Trial]:
    """All trials, the most important ones first."""
    yield Trial("none")
    yield Trial("full")
    first = ("random", 0)
    yield Trial("msf", *first, 5)
    yield from (Trial(control, *first, 5) for control in CONTROLS[:3])
    yield from (Trial("msf", *first, dim) for dim in DIMS[1:3])
    yield from (Trial("msf", split, 0, 5) for split in SPLITS[1:])
    yield from (Trial("msf", "random", seed, 5) for seed in range(1, seeds))
    yield from (Trial("msf", split, 0, 50) for split in SPLITS[1:])
    yield from (Trial("msf", *first, 5, count) for count in FITTED_ON)
    yield from (Trial(control, *first, dim) for dim in DIMS[1:3] for control in CONTROLS[:3])
    yield Trial("random", *first, 5)
    yield Trial("full", seed=1)
    yield from (Trial("msf", *first, 50, count) for count in FITTED_ON)
    yield from (Trial("msf", *first, dim) for dim in DIMS[3:])
    yield from (Trial("msf", split, 0, dim) for split in SPLITS[1:] for dim in DIMS[2:])
    yield from (Trial(control, *first, dim) for dim in DIMS[3:] for control in CONTROLS[:3])
    for seed in range(1, seeds):
        yield from (Trial("msf", "random", seed, dim) for dim in DIMS[1:])
        yield from (Trial(control, "random", seed, 5) for control in CONTROLS)
        yield from (Trial("msf", split, seed, dim) for split in SPLITS[1:] for dim in DIMS)


def plan(options: argparse.Namespace):  # noqa: ANN201
    """How long each stage tunes; the rates were chosen on twelve tasks and the held-out examples of each."""
    from tupate_hub.training.subspace.experiment import Plan

    shared = {"batch_size": options.each, "max_length": MAX_LENGTH, "precision": "bfloat16"}
    full_rate = 1e-2 if options.method == "prompt" else 4e-3
    return Plan(
        full=Regime(steps=options.full_steps, learning_rate=full_rate, evaluations=4, **shared),
        fit=Regime(steps=options.fit_steps, learning_rate=1e-3, evaluations=4, **shared),
        tune=Regime(steps=options.tune_steps, learning_rate=1e-1, evaluations=3, **shared),
        turns=options.turns,
    )


def tokens(options: argparse.Namespace, tasks: tuple[FewShot, ...]) -> ManyTasks:
    """The tokenised tasks, from their file or made for it."""
    from tupate_hub.training.model import load_tokenizer
    from tupate_hub.training.subspace.manytasks import ManyTasks

    if not options.tokens.exists():
        drawn = [draw_all(options.data, tasks, number, scored_on=options.scored_on) for number in (0, 1)]
        many = ManyTasks.of(load_tokenizer(options.base), *drawn, max_length=MAX_LENGTH)
        write_bytes(options.tokens, many.to_bytes())
    return ManyTasks.parse(options.tokens.read_bytes(), str(options.tokens))


def make_bench(options: argparse.Namespace) -> Bench:
    """The model on its device, the tasks, and the zoo's first parameters, which every task starts from."""
    import torch

    from tupate_hub.training.subspace.encoder import FrozenEncoder
    from tupate_hub.training.subspace.experiment import Bench

    device = torch.device(options.device)
    tasks = read_fewshots(TASKS)
    start = first_parameters(options)
    families = {task.name: task.family for task in tasks}
    many = tokens(options, tasks)
    if options.tasks:
        many = many.select([many.tasks.index(name) for name in options.tasks])
    began = time.perf_counter()
    return Bench(
        encoder=FrozenEncoder(options.base, start.blocks, device, "bfloat16"),
        many=many.to(device),
        families=[families[name] for name in many.tasks],
        start=start.vector(),
        plan=plan(options),
        table=options.out,
        work=options.work,
        method=options.method,
        most_seen=options.most_seen,
        say=lambda line: print(f"  {time.perf_counter() - began:6.1f} s  {line}", file=sys.stderr, flush=True),
    )


def first_parameters(options: argparse.Namespace) -> TaskEmbedding:
    """What the zoo's runs of a method start from; kept, so that a machine without what draws it can go on."""
    from tupate_hub.embedding import read_embedding

    path = options.work / "start.safetensors"
    if not path.exists():
        from tupate_hub.training.subspace.start import start_of

        write_bytes(path, start_of(options.base, options.method, BASE).to_bytes("float32"))
    return read_embedding(path)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="data folder (docs/data.md)")
    parser.add_argument("--base", type=Path, help="folder of the base model [default: the zoo's]")
    parser.add_argument("--tokens", type=Path, help="the tokenised tasks [default: tokens.safetensors in --work]")
    parser.add_argument("--method", default="prompt", choices=["prompt", "lora"])
    parser.add_argument(
        "--out", type=Path, help="the table [default: zoo/truth/subspace.csv, of LoRA subspace-lora.csv]"
    )
    parser.add_argument("--work", type=Path, help="tuned parameters and subspaces [default: .runs/subspace-METHOD]")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--full-steps", type=int, default=100)
    parser.add_argument("--fit-steps", type=int, default=150)
    parser.add_argument("--tune-steps", type=int, default=60)
    parser.add_argument("--turns", type=int, default=2, help="a step of MSF takes one task in so many, in turn")
    parser.add_argument("--scored-on", type=int, default=100, help="test examples of a task, about")
    parser.add_argument("--each", type=int, default=4, help="examples of each task in a step")
    parser.add_argument("--tasks", nargs="+", help="few-shot tasks [default: all]")
    parser.add_argument(
        "--most-seen", type=int, default=15, help="tune so many of the tasks that a subspace is found over only"
    )
    parser.add_argument("--maps", nargs="+", metavar="MAPS", help="make trials of these alone: msf, pca, ...")
    parser.add_argument("--first", type=int, help="make the first so many trials only")
    parser.add_argument("--share", default="0/1", metavar="K/N", help="make each Nth trial only, from the Kth on")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no trial later than this")
    options = parser.parse_args()
    name = "" if options.method == "prompt" else f"-{options.method}"
    options.out = options.out or ROOT / "zoo" / "truth" / f"subspace{name}.csv"
    options.work = options.work or ROOT / ".runs" / f"subspace-{options.method}"
    options.tokens = options.tokens or options.work / "tokens.safetensors"
    if options.base is None:
        from tupate_hub.training.basemodel import find_base

        options.base = find_base(None).folder
    return options


def keep(trial: Trial, maps: Maps, bench: Bench, start: TaskEmbedding) -> None:
    """Keep the subspace of the random split and the first seed, as the zoo is to have it."""
    from hashlib import sha256

    from tupate_hub.subspace.subspace import LOSSES, Form, Subspace
    from tupate_hub.training.result import versions

    seen, unseen = bench.split(trial)
    tuned = bench.tuned()
    names = bench.many.tasks
    facts = {
        **start.facts,
        "split": "",
        "unseen": [names[number] for number in unseen],
        "seed": trial.seed,
        "sources": {names[number]: sha256(tuned[number].tobytes()).hexdigest() for number in seen},
        "training": asdict(bench.plan.fit),
        "software": versions(),
        "by": "scripts/evaluation/measure_subspace.py",
    }
    forms = tuple(map(Form.of, start.blocks))
    tasks, codes = tuple(names[number] for number in seen), maps.encode(tuned[seen])
    subspace = Subspace(start.space, maps, forms, tasks, codes, LOSSES, facts)
    write_bytes(bench.work / f"{subspace.name}.safetensors", subspace.to_bytes())


def share_tuned(options: argparse.Namespace, bench: Bench) -> None:
    """Have the fully tuned parameters in both places, beside the table and where the trials look for them."""
    beside, here = options.out.with_name(f"subspace-{options.method}-tuned.npy"), bench.tuned_path
    if options.tasks is None and here.exists() != beside.exists():
        there, missing = (beside, here) if beside.exists() else (here, beside)
        write_bytes(missing, there.read_bytes())


def main() -> int:
    began = time.perf_counter()
    options = parse()
    import torch

    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision("high")
    bench = make_bench(options)
    share_tuned(options, bench)
    part, parts = map(int, options.share.split("/"))
    wanted = [trial for trial in trials(options.seeds) if options.maps is None or trial.maps in options.maps]
    wanted = wanted[: options.first][part::parts]
    for number, asked in enumerate(wanted, 1):
        if time.perf_counter() - began > options.seconds:
            print(f"{len(wanted) - number + 1} trials are left", file=sys.stderr)
            break
        whole = asked.maps in ("none", "full")
        seen, unseen = ((), ()) if whole else bench.split(asked)
        if not whole and (len(seen) < FEWEST or not unseen):
            print(f"[{number}/{len(wanted)}] {asked}: too few tasks count", file=sys.stderr, flush=True)
            continue
        trial = replace(asked, fitted_on=len(seen))
        if trial in {row.trial for row in read_while_written(options.out)}:
            continue
        started = time.perf_counter()
        maps = bench.run(trial)
        share_tuned(options, bench)
        if maps is not None and (trial.maps, trial.split, trial.seed, asked.fitted_on) == ("msf", "random", 0, 0):
            keep(trial, maps, bench, first_parameters(options))
        print(f"[{number}/{len(wanted)}] {trial}: {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
