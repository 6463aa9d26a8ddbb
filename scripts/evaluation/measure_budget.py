"""Measure what more steps do to a run on few examples: its score, and how well its embedding ranks the zoo.

Each target's 200 examples are cut as `train` cuts a file, tuned from nothing for the zoo's ten passes and, again, for
the steps that a large task gets; the score is that of 500 examples of its validation part. An embedding is judged by
the place that it gives to the zoo's own run of the task, and by the rank-NDCG of its order of the sources whose
transfer to the target was measured (zoo/truth/few-shot-150.csv). Rows go to a table, a target at a time, and are not
measured again; the means are printed.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from transfers import BASE, ROOT, SPACE

from tupate_hub.storage.atomic import write_bytes

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

#: Those of measure_transfer.py that are cheap.
TARGETS = "trec customer_reviews snli cola mit_restaurant_ner stsb tweet_irony subj sick_entailment emotion".split()
EXAMPLES, SCORED_ON, STEPS, EVALUATIONS = 200, 500, 400, 8
SHARES = (0.125, 0.25, 0.5, 1.0)
COLUMNS = ("target", "run", "step", "score", "held_out", "own_place", "ndcg", "first")


def measure_target(target: str, data: Path, zoo: Path) -> list[dict[str, Any]]:
    """Both runs of a target: a row for each embedding that they leave."""
    import torch
    from transformers.utils import logging

    from tupate_hub.data.dataset import load_task
    from tupate_hub.data.splits import cut_splits, limited
    from tupate_hub.training.basemodel import find_base
    from tupate_hub.training.methods import get_method
    from tupate_hub.training.record import to_embedding
    from tupate_hub.training.regime import regime_for
    from tupate_hub.training.tuner import tune

    logging.set_verbosity_error()
    torch.set_num_threads(1)
    whole = load_task(data, target)
    few = [whole.train[at] for at in limited(whole.kind, whole.train, EXAMPLES, 0)]
    train, held_out, _ = cut_splits(whole.kind, {"train": few}, 0)
    scored = [whole.validation[at] for at in limited(whole.kind, whole.validation, SCORED_ON, 0)]
    task = replace(whole, train=train, held_out=held_out, validation=scored)
    method, rows = get_method("lora"), []
    longer = {"steps": STEPS, "most_epochs": STEPS, "evaluations": EVALUATIONS, "early": SHARES}
    for run, changes in (("ten passes", {"early": ()}), ("longer", longer)):
        result = tune(find_base(BASE).folder, task, method, regime_for(task.kind, method, **changes))
        record = result.record
        shown = partial(judged, target=target, run=run, zoo=zoo)
        rows.append(
            shown(
                to_embedding(result, BASE),
                step=f"{record.best_step} of {record.steps}",
                score=f"{record.scores['primary']:.4f}",
                held_out=f"{record.held_out_score:.4f}",
            )
        )
        for share in result.early:
            step = f"{round(float(share) * record.steps)} of {record.steps}"
            rows.append(shown(to_embedding(result, BASE, share=share), step=f"at {step}"))
    return rows


def judged(embedding: Any, *, target: str, run: str, zoo: Path, **known: Any) -> dict[str, Any]:
    """A row: where the embedding puts the zoo's run of its own task, and what its order of the sources is worth."""
    from tupate_hub import Zoo
    from tupate_hub.evaluation.metrics import ndcg_by_rank
    from tupate_hub.evaluation.transfer_rows import SCRATCH, read_rows

    ranking = Zoo.open(zoo).similar(replace(embedding, task="a-query"), space=SPACE, k=None)
    scores = {neighbor.task: neighbor.score for neighbor in ranking}
    place = next(neighbor.rank for neighbor in ranking if neighbor.task == target)
    truth = [
        (scores[row["source"]], float(row["score"]))
        for row in read_rows(zoo / "zoo" / "truth" / "few-shot-150.csv")
        if (row["target"], row["seed"]) == (target, "0") and row["source"] != SCRATCH
    ]
    ndcg = ndcg_by_rank([predicted for predicted, _ in truth], [measured for _, measured in truth])
    first = " ".join(neighbor.task for neighbor in ranking if neighbor.task != target and neighbor.rank <= 4)
    return {"target": target, "run": run, "own_place": place, "ndcg": f"{ndcg:.3f}", "first": first, **known}


def read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def means(rows: Sequence[Mapping[str, str]]) -> str:
    """The table of docs/training.md: a line for each run's kept checkpoint and those on its way, means over targets."""
    groups: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["run"], "the kept one" if row["score"] else row["step"]), []).append(row)
    lines = ["| run | checkpoint | score | place of its own task | rank-NDCG |", "| --- | --- | --- | --- | --- |"]
    for (run, checkpoint), group in groups.items():
        score = f"{fmean(float(row['score']) for row in group):.3f}" if group[0]["score"] else ""
        place, ndcg = (fmean(float(row[name]) for row in group) for name in ("own_place", "ndcg"))
        lines.append(f"| {run} | {checkpoint} | {score} | {place:.1f} | {ndcg:.3f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="data folder (docs/data.md)")
    parser.add_argument("--targets", nargs="*", default=TARGETS)
    parser.add_argument("--out", type=Path, default=ROOT / "zoo" / "truth" / "budget.csv")
    options = parser.parse_args()
    for target in options.targets:
        known = read(options.out)
        if not any(row["target"] == target for row in known):
            print(f"{target} ...", file=sys.stderr, flush=True)
            write(options.out, [*known, *measure_target(target, options.data, ROOT)])
    rows = read(options.out)
    print(f"{len({row['target'] for row in rows})} targets\n{means(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
