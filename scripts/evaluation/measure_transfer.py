"""Measure transfer between tasks of the bundled zoo: rows of zoo/truth/<protocol>-<steps>.csv.

A run tunes a target from a source's parameters, from the blend of several (source: a+b+c, in tables of their own,
blends-<protocol>-<steps>.csv), or from nothing (source: -). Which runs there are to be is said by --part (see
transfers.py); each other option changes one thing about it. Each finished run is written and synced at once; what is
there already is not run again. A target's runs from nothing come first, so that every row has the score without
transfer of its own seed beside it. With --together N, which suits a GPU, up to N runs of a target are made at once by
one process. With --ray the runs are made on a cluster's workers, which get the files they need and no folder in
common, and this machine writes the rows. --held says what there is, and runs nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transfers import BASE, PARTS, ROOT, finished, held, plan, sources_in, space_of, table

from tupate_hub.embedding import read_embedding
from tupate_hub.evaluation.report import ranked
from tupate_hub.evaluation.transfer_rows import SCRATCH, TransferRow, TransferRun, append_rows, read_rows
from tupate_hub.extras import install_command, is_installed

if TYPE_CHECKING:
    from tupate_hub.arrays import Float64Array
    from tupate_hub.embedding import TaskEmbedding
    from tupate_hub.evaluation.truth import Truth

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def is_of(row: Mapping[str, str], run: TransferRun, source: str) -> bool:
    return (row["source"], row["target"], row["seed"]) == (source, run.target, str(run.seed))


@lru_cache(maxsize=2)
def _target(data: Path, name: str):  # noqa: ANN202
    from tupate_hub.data.dataset import load_task

    return load_task(data, name)


def make_runs(
    runs: tuple[TransferRun, ...],
    folder: Path | None,
    protocol: str,
    method: str,
    data: Path,
    zoo: Path,
    threads: int,
    device: str,
) -> list[list[TransferRow]]:
    """Runs of one target and seed, and the rows that each leaves; what starts from nothing is yet to be filled in.

    `folder` holds the files of `files_of`; None on this machine, where they are in `data` and `zoo`.
    """
    import torch
    from transformers.utils import logging

    from tupate_hub.training.basemodel import find_base
    from tupate_hub.training.methods import get_method
    from tupate_hub.training.protocol import PROTOCOLS
    from tupate_hub.training.transfer import measure, measure_side_by_side, transfer_row
    from tupate_hub.training.warmstart import method_of

    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    seed, plan, target = runs[0].seed, PROTOCOLS[protocol], _target(folder or data, runs[0].target)
    sources = [
        None
        if run.source == SCRATCH
        else _source(zoo, run.source, method)
        if folder is None
        else read_embedding(folder / start_file(run))
        for run in runs
    ]
    known = next((source for source in sources if source is not None), None)
    tuned = get_method(method) if known is None else method_of(known)
    base = find_base(BASE).folder
    if len(runs) == 1:
        scores = [list(measure(base, target, tuned, plan, seed, sources[0], device=device))]
    else:
        scores = measure_side_by_side(base, target, tuned, plan, seed, sources, device=device)
    return [
        [
            transfer_row(one, run.source, target, plan, seed, method, device, one.value if source is None else None)
            for one in of_run
        ]
        for run, source, of_run in zip(runs, sources, scores, strict=True)
    ]


def keep(run: TransferRun, rows: Sequence[TransferRow], protocol: str, out: Path) -> str:
    """Write the rows of a run that has ended, beside the score without transfer; returns a line about them."""
    for row in rows:  # all of them now, so that a run that is killed leaves nothing to be added twice
        scratch = (known for known in read_rows(table(out, protocol, row.steps)) if is_of(known, run, SCRATCH))
        without = next((float(known["score"]) for known in scratch), row.baseline_score_without_transfer)
        append_rows(
            table(out, protocol, row.steps, run.source), [replace(row, baseline_score_without_transfer=without)]
        )
    return f"{run.source} -> {run.target} s{run.seed}: {' '.join(f'{row.score:.3f}' for row in rows)}"


def runs_here(runs: tuple[TransferRun, ...], **how: Any) -> list[list[TransferRow]]:
    """Runs on this machine."""
    return make_runs(runs, None, **how)


def files_of(runs: tuple[TransferRun, ...], data: Path, zoo: Path, method: str) -> dict[str, bytes]:
    """The files that runs need on another machine: those of their target, and the embeddings to start from."""
    paths = [data / "tasks.json", *sorted((data / "tasks" / runs[0].target).glob("*"))]
    files = {path.relative_to(data).as_posix(): path.read_bytes() for path in paths if path.is_file()}
    starts = [run for run in runs if run.source != SCRATCH]
    return {**files, **{start_file(run): _source(zoo, run.source, method).to_bytes() for run in starts}}


def start_file(run: TransferRun) -> str:
    """The file of a run's source on a worker."""
    return f"{run.source}.safetensors"


def _source(zoo: Path, written: str, method: str) -> TaskEmbedding:
    """A task's embedding, or the blend of several that are joined by +."""
    from tupate_hub import Zoo
    from tupate_hub.compare.blend import blend

    opened = Zoo.open(zoo)
    embeddings = [opened.embedding(task, space_of(method)) for task in written.split("+")]
    return embeddings[0] if len(embeddings) == 1 else blend(embeddings)


def together(runs: Sequence[TransferRun], most: int) -> list[tuple[TransferRun, ...]]:
    """The runs in groups of one target and seed, at most so many in each."""
    targets: dict[tuple[str, int], list[TransferRun]] = {}
    for run in runs:
        targets.setdefault((run.target, run.seed), []).append(run)
    return [tuple(group[at : at + most]) for group in targets.values() for at in range(0, len(group), most)]


def picks(zoo: Path, method: str, target: str, count: int, orders: Sequence[str] = ("update",)) -> list[str]:
    """The first sources of a target by `update`, or by several orders, each source once."""
    from tupate_hub import Zoo

    opened, found = Zoo.open(zoo), list[str]()
    for order in orders:
        if order == "update":
            found += [one.task for one in opened.similar(target, count, space=space_of(method)).neighbors]
        else:
            found += first_on_truth(zoo, order, target, count)
    return list(dict.fromkeys(found))


def first_on_truth(zoo: Path, order: str, target: str, count: int) -> list[str]:
    """The first sources of a target of the few-shot truth, by `gain` fitted without it, or as `recommend` orders."""
    truth, scores = _orders_on_truth(zoo)[order]
    if target not in truth.targets:
        return []
    others = np.array([source != target for source in truth.sources])
    return [truth.sources[at] for at in ranked(scores[truth.targets.index(target)], others)[:count]]


@lru_cache(maxsize=1)
def _orders_on_truth(zoo: Path) -> dict[str, tuple[Truth, Float64Array]]:
    from report import judge, trials

    from tupate_hub import Zoo

    evidence = judge(Zoo.open(zoo))
    return {"gain": (evidence.truth, evidence.gain), "recommend": (evidence.truth, trials(evidence).both)}


def sources_for(options: argparse.Namespace, target: str) -> list[str]:
    """What a target is started from, each once."""
    given = options.sources
    if given is None:
        given = [] if options.picks or options.blends else sources_in(options.zoo, space_of(options.method))
    first = picks(options.zoo, options.method, target, options.picks, options.by) if options.picks else []
    found = [*given, *first]
    if options.blends:
        found.append("+".join(picks(options.zoo, options.method, target, options.blends)))
    return list(dict.fromkeys(found))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="data folder (docs/data.md)")
    parser.add_argument("--part", default="few-shot", choices=PARTS)
    parser.add_argument("--held", action="store_true", help="say how many runs of each part there are, and run nothing")
    parser.add_argument("--zoo", type=Path, help="the registry of the sources [default: this checkout, or the part's]")
    parser.add_argument("--protocol", help="see tupate_hub.training.protocol.PROTOCOLS")
    parser.add_argument("--method", default="lora")
    parser.add_argument(
        "--sources",
        nargs="*",
        help="tasks, or blends a+b+c [default: the part's, without picks and blends]",
    )
    parser.add_argument("--picks", type=int, default=0, metavar="K", help="each target's first K sources")
    parser.add_argument(
        "--by",
        nargs="+",
        choices=["update", "gain", "recommend"],
        default=["update"],
        help="by each of these orders [default: update]",
    )
    parser.add_argument("--blends", type=int, default=0, metavar="K", help="the blend of these, written a+b+c")
    parser.add_argument("--targets", nargs="+")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--out", type=Path, help="folder of the tables [default: zoo/truth, or the part's]")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--together", type=int, default=1, metavar="N", help="runs of a target that a process makes at once"
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "mps"])
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="a Ray cluster's address, or local: one of --jobs workers here"
    )
    options = parser.parse_args()
    if options.ray and not is_installed("ray"):
        parser.error(f"Ray is not installed: {install_command('cluster')}")
    part = PARTS[options.part]
    if options.sources is None and not (options.picks or options.blends):
        options.sources = part.sources
    options.zoo = options.zoo or (ROOT if part.source_examples is None else part.folder)
    options.out = options.out or part.folder
    for name in ("protocol", "targets", "seeds"):
        if getattr(options, name) is None:
            setattr(options, name, getattr(part, name))
    return options


def tune_source(task: str, data: Path, zoo: Path, method: str, examples: int, threads: int, device: str) -> str:
    """Tune a task on so many examples, as `tupate-hub train --limit` does, into a registry of such runs."""
    import torch
    from transformers.utils import logging

    from tupate_hub import Zoo
    from tupate_hub.collect.add import open_or_start
    from tupate_hub.data.dataset import with_limit
    from tupate_hub.training.train import TrainOptions, plan_training, train

    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    plan = plan_training(Zoo.open(ROOT), TrainOptions(method=method, device=device))
    delivery = train(plan, with_limit(_target(data, task), examples), open_or_start(zoo))
    return f"{task}: {delivery.record.scores['primary']:.3f}"


def sources_left(options: argparse.Namespace) -> list[str]:
    """The sources of a part that has a registry of its own, which are to be tuned yet."""
    if PARTS[options.part].source_examples is None or options.zoo != PARTS[options.part].folder:
        return []
    there = sources_in(options.zoo, space_of(options.method)) if (options.zoo / "registry.json").is_file() else []
    return [task for task in options.sources or () if task not in there]


def main() -> int:
    options = parse()
    if options.held:
        for name in PARTS:
            made, wanted = held(name)
            print(f"{name}: {made:,} of {wanted:,} runs")
        return 0
    from tupate_hub.fan_out import over_processes
    from tupate_hub.training.protocol import PROTOCOLS

    threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // options.jobs))
    how = {
        "method": options.method, "data": options.data, "zoo": options.zoo, "threads": threads,
        "device": options.device,
    }  # fmt: skip
    tune = partial(tune_source, examples=PARTS[options.part].source_examples, **how)
    for task, outcome in over_processes(tune, sources_left(options), options.jobs):
        print(f"{task}: {outcome!r}" if isinstance(outcome, BaseException) else outcome, file=sys.stderr, flush=True)
        if isinstance(outcome, BaseException):
            return 1
    done = finished(options.out, options.protocol, PROTOCOLS[options.protocol].score_at)
    sources = {target: sources_for(options, target) for target in options.targets}
    failed = 0
    for group in plan(sources, options.targets, options.seeds):
        left = together([run for run in group if run not in done], options.together)
        failed += make_and_keep(left, {"protocol": options.protocol, **how}, options)
    return 1 if failed else 0


def make_and_keep(left: Sequence[tuple[TransferRun, ...]], how: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Make the runs and write their rows as they end; returns how many failed."""
    from tupate_hub.fan_out import over_processes, over_ray
    from tupate_hub.training.protocol import PROTOCOLS

    if options.ray:
        ended = over_ray(
            partial(make_runs, **how),
            left,
            partial(files_of, data=options.data, zoo=options.zoo, method=options.method),
            address=options.ray,
            jobs=options.jobs,
            needs={"num_cpus": how["threads"], "num_gpus": 1 / options.jobs if options.device == "cuda" else 0},
        )
    else:
        ended = over_processes(partial(runs_here, **how), left, options.jobs)
    failed, scores = 0, len(PROTOCOLS[options.protocol].score_at)
    for number, (runs, outcome) in enumerate(ended, 1):
        lines = [f"{run}: {outcome!r}" for run in runs]
        if isinstance(outcome, BaseException):
            failed += len(runs)
        else:
            short = [run for run, rows in zip(runs, outcome, strict=True) if len(rows) < scores]
            failed += len(short)
            lines = [
                f"{run}: the loss is not a finite number"
                if run in short
                else keep(run, rows, options.protocol, options.out)
                for run, rows in zip(runs, outcome, strict=True)
            ]
        for line in lines:
            print(f"[{number}/{len(left)}] {line}", file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
