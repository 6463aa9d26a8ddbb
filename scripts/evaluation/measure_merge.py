"""Measure what merging costs: rows of zoo/truth/merges.csv, one a merge and task.

LoRA of the bundled zoo are added up and the sum, as one LoRA of the sources' rank, is scored on each of their tasks,
twice: with a head that is tuned on the frozen merged model, and with the head that was tuned on the task's own adapter.
The runs' own heads are not in the zoo, so the own adapter's head is tuned anew as well, the same way. Each finished row
is written and synced at once, and what is there already is not made again. `merge_page.py` makes the tables of
docs/merge-check.md of the rows.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transfers import SPACE

from tupate_hub import Zoo
from tupate_hub.compare.blend import blend
from tupate_hub.compare.interference import equal_shares, interference, products
from tupate_hub.compare.signs import sign_conflicts
from tupate_hub.data.dataset import TaskData, load_task
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.evaluation.merge_rows import BASE, MergeRow, append_merge_rows, read_merge_rows

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[2]
#: Related, in between and unrelated by the cosine of their updates; one of two norms; three and four at once.
MERGES = (
    "movie_reviews+sst2 sick_entailment+snli sst2+trec banking77+clinc150 emotion+tweet_emotion snli+trec "
    "sst2+tweet_sentiment banking77+emotion mpqa+mrpc snli+sst2+trec banking77+snli+sst2+trec"
).split()
WEIGHTS = ("mean", "whole")
FORETOLD = "weight survives disturbed distance cosine reads moves opposite cancelled kept rank".split()
EXAMPLES, HELD_OUT, SCORED_ON = 1000, 250, 1000


@dataclass(frozen=True)
class Row:
    """What identifies a row."""

    merge: str
    weights: str
    task: str


@dataclass(frozen=True)
class Bench:
    """The zoo, the base model, the data folder, and the tasks that were looked at, each with its own adapter's head."""

    zoo: Zoo
    space: str
    base: Path
    folder: Path
    tasks: dict[str, tuple[TaskData, Any, Any]] = field(default_factory=dict)

    def embedding(self, task: str) -> TaskEmbedding:
        """The task's LoRA."""
        return self.zoo.embedding(task, self.space)

    def task(self, name: str) -> tuple[TaskData, Any, Any]:
        """The task's examples, what its own adapter makes of them, and the head that is tuned on that."""
        from tupate_hub.training.probe import cut, fit_head, look

        if name not in self.tasks:
            data = cut(load_task(self.folder, name), EXAMPLES, HELD_OUT, SCORED_ON)
            seen = look(self.base, data, self.embedding(name))
            self.tasks[name] = data, seen, fit_head(data, seen)
        return self.tasks[name]


def wanted(merges: list[str]) -> Iterator[Row]:
    """All rows: of each merge first what its tasks score alone."""
    for merge in merges:
        for task in merge.split("+"):
            yield Row(BASE, "", task)
            yield Row(task, "", task)
        for weights in WEIGHTS:
            yield from (Row(merge, weights, task) for task in merge.split("+"))


def measure(bench: Bench, row: Row) -> MergeRow:
    from tupate_hub.training.probe import fit_head, look, score_head
    from tupate_hub.training.result import versions
    from tupate_hub.training.scoring import trivial_baseline

    began = time.perf_counter()
    data, own, head = bench.task(row.task)
    foretold: dict[str, Any] = dict.fromkeys(FORETOLD)
    if row.merge == row.task:
        score = kept_head = score_head(data, head, own)
    else:
        merged = None
        if row.merge != BASE:
            merged, foretold = foretell(bench, row)
        seen = look(bench.base, data, merged)
        score = score_head(data, fit_head(data, seen), seen)
        kept_head = None if merged is None else score_head(data, head, seen)
    software = versions()
    return MergeRow(
        merge=row.merge,
        weights=row.weights,
        task=row.task,
        score=score,
        kept_head=kept_head,
        recorded=float(bench.embedding(row.task).facts["scores"]["primary"]),
        baseline=trivial_baseline(data)[1],
        **foretold,
        metric=data.metric,
        examples=len(data.train),
        scored_on=len(data.validation),
        torch=software["torch"],
        transformers=software["transformers"],
        adapters=software["adapters"],
        seconds=time.perf_counter() - began,
    )


def foretell(bench: Bench, row: Row) -> tuple[TaskEmbedding, dict[str, Any]]:
    """The merged LoRA, and what merge-check says of the task in it."""
    tasks = row.merge.split("+")
    sources = [bench.embedding(task) for task in tasks]
    known = products(sources)
    weights = equal_shares(known) if row.weights == "whole" else np.full(len(tasks), 1 / len(tasks))
    merged, found = blend(sources, list(weights)), interference(known, weights)
    signs, at = sign_conflicts(sources, weights), tasks.index(row.task)
    others = [other for other in range(len(tasks)) if other != at]
    pairs = {"cosine": found.cosines, "reads": found.reads, "moves": found.moves, "opposite": signs.opposite}
    return merged, {
        "weight": float(weights[at]),
        "survives": float(found.survives[at]),
        "disturbed": float(found.disturbed[at]),
        "distance": float(found.distance[at]),
        **{name: float(matrix[at, others].mean()) for name, matrix in pairs.items()},
        "cancelled": signs.cancelled,
        "kept": float(merged.facts["blend"]["kept"]),
        "rank": int(merged.facts["blend"]["rank"]),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="data folder (docs/data.md)")
    parser.add_argument("--zoo", type=Path, default=ROOT, help="the registry of the sources [default: this checkout]")
    parser.add_argument("--space", default=SPACE, help="theirs")
    parser.add_argument("--base", type=Path, help="folder of the base model [default: the space's]")
    parser.add_argument("--merges", nargs="+", default=MERGES, help="tasks joined by +")
    parser.add_argument("--out", type=Path, default=ROOT / "zoo" / "truth" / "merges.csv")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no row later than this")
    return parser.parse_args()


def main() -> int:
    began = time.perf_counter()
    options = parse()
    import torch
    from transformers.utils import logging

    from tupate_hub.training.basemodel import find_base

    logging.set_verbosity_error()
    torch.set_num_threads(options.threads)
    zoo = Zoo.open(options.zoo)
    base = options.base or find_base(zoo.registry.space(options.space).base).folder
    bench = Bench(zoo, options.space, base, options.data)
    done = {Row(row.merge, row.weights, row.task) for row in read_merge_rows(options.out)}
    left = [row for row in dict.fromkeys(wanted(options.merges)) if row not in done]
    for number, row in enumerate(left, 1):
        if time.perf_counter() - began > options.seconds:
            print(f"{len(left) - number + 1} rows are left", file=sys.stderr)
            break
        found = measure(bench, row)
        append_merge_rows(options.out, [found])
        scores = f"{found.score:.4f}" + ("" if found.kept_head is None else f", own head {found.kept_head:.4f}")
        print(f"[{number}/{len(left)}] {row}: {scores} ({found.seconds:.1f} s)", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
