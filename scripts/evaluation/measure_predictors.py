"""Measure the predictors of transfer that need a model or the tasks' data: zoo/truth/predictions/.

Each part of each task is measured once, written at once and not measured again: .runs/predictors/PART/TASK.safetensors,
with the processor's seconds that it took. From what is there, every predictor whose parts are all there gets its table,
NAME.csv with the columns source, target and score (a higher score is a better source; pairs for which a predictor is
not defined have no row), and costs.json says what each costs. With --jobs 0 the tables alone are made.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

from transfers import BASE, FEW_SHOT_TARGETS, ROOT, SPACE, sources_in
from transfers import PARTS as TRANSFERS

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

COLUMNS = ("source", "target", "score")
_RANKINGS = 200
#: Whatever transfer is measured to: predictors that need no labels are kept for these.
TARGETS = frozenset(target for part in TRANSFERS.values() for target in part.targets)


@dataclass(frozen=True)
class Place:
    """Where things are: the data, the registry, what has been measured, and the base model, by default BASE."""

    data: Path
    zoo: Path
    work: Path
    base: Path | None = None

    def part(self, part: str, task: str) -> Path:
        """The file of a part of a task."""
        return self.work / part / f"{task}.safetensors"


@lru_cache(maxsize=32)
def load(data: Path, name: str) -> Any:
    from tupate_hub.data.dataset import load_task

    return load_task(data, name)


def measure_task(
    place: Place, space: str, task: str, parts: Sequence[str], targets: Sequence[str], threads: int
) -> str:
    """Measure the named parts of a task, in their order, and write each; returns a line about them.

    Evidence on new targets is added to what there is.
    """
    import torch
    from transformers.utils import logging

    from tupate_hub import Zoo
    from tupate_hub.storage.atomic import write_bytes
    from tupate_hub.storage.safetensors import TensorFile, read_tensorfile
    from tupate_hub.training.basemodel import find_base
    from tupate_hub.training.predictors.measured import PARTS
    from tupate_hub.training.predictors.subject import Subject

    logging.set_verbosity_error()
    getLogger("adapters").setLevel(ERROR)
    torch.set_num_threads(threads)
    base = place.base or find_base(BASE).folder
    subject = Subject(base, load(place.data, task), Zoo.open(place.zoo).embedding(task, space))
    told = []
    for part in parts:
        path = place.part(part, task)
        known = read_tensorfile(path) if path.exists() else TensorFile({}, {"seconds": "0", "targets": ""})
        new = [name for name in targets if name not in known.metadata["targets"].split()]
        tried = tuple(load(place.data, name) for name in new) if part == "evidence" else ()
        began = time.process_time()
        arrays = PARTS[part](replace(subject, targets=tried) if tried else subject)
        seconds = time.process_time() - began
        facts = {
            "seconds": f"{float(known.metadata['seconds']) + seconds:.4f}",
            "targets": " ".join([*known.metadata["targets"].split(), *new]),
            "threads": str(threads),
        }
        write_bytes(path, TensorFile({**known.tensors, **arrays}, facts).to_bytes())
        told.append(f"{part} {seconds:.1f} s")
    return f"{task}: {', '.join(told)}"


def missing(place: Place, tasks: Iterable[str], parts: Sequence[str], targets: Sequence[str]) -> dict[str, list[str]]:
    """The parts of each task that are not there yet: examples of targets alone, evidence on all of them."""
    found = {task: [part for part in parts if not _is_there(place.part(part, task), part, targets)] for task in tasks}
    left = {task: [part for part in parts if part != "examples" or task in targets] for task, parts in found.items()}
    return {task: parts for task, parts in left.items() if parts}


def _is_there(path: Path, part: str, targets: Sequence[str]) -> bool:
    from tupate_hub.storage.safetensors import read_tensorfile

    if part != "evidence" or not path.exists():
        return path.exists()
    return set(targets) <= set(read_tensorfile(path).metadata["targets"].split())


def write_tables(place: Place, space: str, tasks: Sequence[str], targets: Sequence[str], out: Path) -> list[str]:
    """The table of each predictor whose parts are all there, and what it costs; returns their names."""
    from tupate_hub import Zoo
    from tupate_hub.storage.atomic import write_bytes
    from tupate_hub.storage.safetensors import read_tensorfile
    from tupate_hub.training.predictors.catalogue import PREDICTORS
    from tupate_hub.training.result import versions

    zoo = Zoo.open(place.zoo)
    adapters = [entry.bytes for entry in zoo.registry.entries if entry.space == space and entry.task in tasks]
    costs: dict[str, Any] = {}
    for name, predictor in PREDICTORS.items():
        unlabelled = [task for task in tasks if task in TARGETS or task in targets]
        rows = unlabelled if predictor.symmetric else [task for task in targets if task in tasks]
        needed = {(part, task) for part in predictor.parts for task in tasks}
        needed |= {(part, task) for part in predictor.target_parts for task in rows}
        if any(not place.part(*one).exists() for one in needed):
            continue
        files = {one: read_tensorfile(place.part(*one)) for one in needed}
        measured: dict[str, dict[str, Any]] = {task: {} for task in tasks}
        for (part, task), file in files.items():
            measured[task][part] = file.tensors
        began = time.process_time()
        scores = {
            target: predictor.score(target, measured[target], {one: measured[one] for one in tasks if one != target})
            for target in rows
        }
        pairs = sum(map(len, scores.values()))
        compared = (time.process_time() - began) / max(1, pairs)
        write_bytes(out / f"{name}.csv", table(scores).encode())
        seconds = {part: [float(files[part, task].metadata["seconds"]) for task in tasks] for part in predictor.parts}
        tried = sum(len(measured[task].get("evidence", ())) for task in tasks)
        costs[name] = cost(seconds, tried, compared) | {
            "paper": predictor.paper,
            "bytes_per_task": round(
                mean([predictor.kept_bytes(measured[task]) for task in tasks] if predictor.keeps else adapters)
            ),
            "threads": sorted({int(file.metadata["threads"]) for file in files.values()}),
            "tasks": len(tasks),
            "targets": len([target for target in rows if scores[target]]),
        }
    ranking = {"seconds": seconds_of_a_ranking(zoo, space, tasks), "what": "Zoo.similar of one task, warm"}
    everything = {"predictors": costs, "ranking": ranking, "clock": "processor time", "versions": versions()}
    write_bytes(out / "costs.json", (json.dumps(everything, indent=1, sort_keys=True) + "\n").encode())
    return list(costs)


def cost(seconds: Mapping[str, Sequence[float]], tried: int, compared: float) -> dict[str, Any]:
    """Seconds a task and a pair: trying a source's model on a target costs a pair, all else a task."""
    a_task = sum(mean(values) for part, values in seconds.items() if part != "evidence")
    a_pair = compared + sum(seconds.get("evidence", ())) / max(1, tried)
    return {"seconds_per_task": round(a_task, 4), "seconds_per_pair": float(f"{a_pair:.3g}")}


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """source,target,score; sources in order of name for each target."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for target, found in scores.items():
        writer.writerows((source, target, f"{score:.6g}") for source, score in sorted(found.items()))
    return text.getvalue()


def seconds_of_a_ranking(zoo: Any, space: str, tasks: Sequence[str]) -> float:
    """One ranking of all others for a task that is in the zoo, with everything read: the mean of 200."""
    for task in tasks:
        zoo.similar(task, space=space)
    began = time.process_time()
    for n in range(_RANKINGS):
        zoo.similar(tasks[n % len(tasks)], space=space)
    return float(f"{(time.process_time() - began) / _RANKINGS:.3g}")


def run(jobs: Sequence[tuple[Any, ...]], processes: int) -> Iterator[tuple[str, str | BaseException]]:
    """Measure each job's task; yields the task and a line about it, or what went wrong. One process is this one."""
    if processes <= 1:
        for job in jobs:
            try:
                yield job[2], measure_task(*job)
            except Exception as error:
                yield job[2], error
        return
    from tupate_hub.fan_out import over_processes

    for job, outcome in over_processes(_of_job, jobs, processes):
        yield job[2], outcome


def _of_job(job: tuple[Any, ...]) -> str:
    return measure_task(*job)


def parse() -> argparse.Namespace:
    from tupate_hub.training.predictors.measured import PARTS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="data folder (docs/data.md)")
    parser.add_argument("--zoo", type=Path, default=ROOT, help="the registry of the tasks [default: this checkout]")
    parser.add_argument("--base", type=Path, help="the base model's folder [default: where the package finds it]")
    parser.add_argument("--space", default=SPACE)
    parser.add_argument("--tasks", nargs="+", help="[default: all of the space]")
    parser.add_argument("--targets", nargs="+", default=FEW_SHOT_TARGETS, help="tasks whose labels are used")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS), metavar="PART")
    parser.add_argument("--work", type=Path, default=ROOT / ".runs" / "predictors")
    parser.add_argument("--out", type=Path, default=ROOT / "zoo" / "truth" / "predictions")
    parser.add_argument("--jobs", type=int, default=1)
    return parser.parse_args()


def main() -> int:
    options = parse()
    place = Place(options.data, options.zoo, options.work, options.base)
    tasks = sources_in(options.zoo, options.space) if options.tasks is None else options.tasks
    left = missing(place, tasks, options.parts, options.targets) if options.jobs else {}
    threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // max(1, options.jobs)))
    jobs = [(place, options.space, task, parts, options.targets, threads) for task, parts in left.items()]
    failed = 0
    for number, (task, outcome) in enumerate(run(jobs, options.jobs), 1):
        failed += isinstance(outcome, BaseException)
        line = f"{task}: {outcome!r}" if isinstance(outcome, BaseException) else outcome
        print(f"[{number}/{len(jobs)}] {line}", file=sys.stderr, flush=True)
    written = write_tables(place, options.space, tasks, options.targets, options.out)
    print(f"{options.out}: {', '.join(written) or 'no predictor has all its parts yet'}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
