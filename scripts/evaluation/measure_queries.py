"""Measure how early, and from how few examples, a target's own run ranks the zoo: zoo/truth/queries.csv.

A query is what `tupate-hub recommend` makes: a run in the space's own regime on some of a target's examples, looked at
after a share of its steps. A row holds the scores that the zoo's sources get from it by `update`, a column a source.
Each run is written at once and not run again. `make report` judges the rows by the transfers in zoo/truth.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from transfers import BASE, FEW_SHOT_TARGETS, ROOT, SPACE

from tupate_hub.storage.atomic import alone, write_bytes

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

EXAMPLES = (50, 100, 200, 500)
SHARES = (0.1, 0.25, 0.5, 1.0)
ABOUT = ("target", "examples", "share", "step", "seconds")


@dataclass(frozen=True)
class Query:
    """One run: a target and how many of its examples."""

    target: str
    examples: int


def measure_query(query: Query, data: Path, zoo: Path, out: Path, threads: int) -> str:
    """Make a run and write its rows; returns a line about it."""
    import time

    import torch
    from transformers.utils import logging

    from tupate_hub import Zoo
    from tupate_hub.data.dataset import load_task
    from tupate_hub.data.splits import limited
    from tupate_hub.training.basemodel import find_base
    from tupate_hub.training.recommend import embedded, init_seed_of, method_of_space
    from tupate_hub.training.regime import regime_for
    from tupate_hub.training.tuner import trace

    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    opened, task = Zoo.open(zoo), load_task(data, query.target)
    space = opened.registry.space(SPACE)
    task = replace(task, train=[task.train[at] for at in limited(task.kind, task.train, query.examples, 0)])
    method = method_of_space(space)
    regime = regime_for(task.kind, method, init_seed=init_seed_of(space))
    rows, began = [], time.perf_counter()
    for snapshot in trace(find_base(BASE).folder, task, method, regime, SHARES):
        ranking = opened.similar(embedded(snapshot, space, task), space=SPACE)
        share = min(SHARES, key=lambda share: abs(share - snapshot.step / snapshot.steps))
        about = (query.target, query.examples, share, snapshot.step, f"{time.perf_counter() - began:.1f}")
        scores = {neighbor.task: f"{neighbor.score:.4f}" for neighbor in ranking.neighbors}
        rows.append({**dict(zip(ABOUT, map(str, about), strict=True)), **scores})
    append(out, rows)
    return f"{query.target}, {query.examples} examples: {rows[-1]['step']} steps, {rows[-1]['seconds']} s"


def read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def append(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Add rows, and the columns of sources that the table does not have yet."""
    with alone(path.parent):
        known = [*read(path), *rows]
        sources = sorted({name for row in known for name in row} - set(ABOUT))
        text = io.StringIO()
        writer = csv.DictWriter(text, [*ABOUT, *sources], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(known)
        write_bytes(path, text.getvalue().encode())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="data folder (docs/data.md)")
    parser.add_argument("--zoo", type=Path, default=ROOT, help="the registry of the sources [default: this checkout]")
    parser.add_argument("--targets", nargs="+", default=FEW_SHOT_TARGETS)
    parser.add_argument("--examples", nargs="+", type=int, default=EXAMPLES)
    parser.add_argument("--out", type=Path, default=ROOT / "zoo" / "truth" / "queries.csv")
    parser.add_argument("--jobs", type=int, default=2)
    return parser.parse_args()


def main() -> int:
    options = parse()
    from tupate_hub.fan_out import over_processes

    done = {Query(row["target"], int(row["examples"])) for row in read(options.out)}
    wanted = [Query(target, examples) for target in options.targets for examples in options.examples]
    left = [query for query in wanted if query not in done]
    threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // options.jobs))
    work = partial(measure_query, data=options.data, zoo=options.zoo, out=options.out, threads=threads)
    failed = 0
    for number, (query, outcome) in enumerate(over_processes(work, left, options.jobs), 1):
        failed += isinstance(outcome, BaseException)
        line = f"{query}: {outcome!r}" if isinstance(outcome, BaseException) else outcome
        print(f"[{number}/{len(left)}] {line}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
