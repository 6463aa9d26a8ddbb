"""Measure transfer between tasks of the bundled zoo: rows of zoo/truth/<protocol>-<steps>.csv.

A run tunes a target from a source's parameters, or from nothing (source: -), by the protocol that is named. Each
finished run is written and synced at once; what is there already is not run again. A target's runs from nothing come
first, so that every row has the score without transfer of its own seed beside it.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import io
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[2]
BASE = "sentence-transformers/all-MiniLM-L6-v2"
SCRATCH = "-"
#: Twenty targets of all kinds; the cheap ones first, so that whole rows are there early.
FEW_SHOT_TARGETS = (
    "trec customer_reviews snli cola mit_restaurant_ner stsb tweet_irony copa sick_entailment squad "
    "subj emotion wic mrpc commonsense_qa scitail conll2003_ner rte tweet_stance boolq"
).split()
COLUMNS = (
    "source target score baseline_score_without_transfer regime seed metric steps examples scored_on "
    "method device torch adapters transformers seconds"
).split()


@dataclass(frozen=True)
class Run:
    """One run: a source (or none), a target, a seed."""

    source: str
    target: str
    seed: int


def rows_of(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def table(folder: Path, protocol: str, steps: int) -> Path:
    return folder / f"{protocol}-{steps}.csv"


def append(path: Path, row: Mapping[str, object]) -> None:
    """Add a row to a table that other processes add to as well; it is on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        if stream.tell() == 0:
            writer.writeheader()
        writer.writerow(row)
        stream.write(text.getvalue())
        stream.flush()
        os.fsync(stream.fileno())


@lru_cache(maxsize=2)
def _target(data: Path, name: str):  # noqa: ANN202
    from tupate_hub.data.dataset import load_task

    return load_task(data, name)


def measure_run(
    run: Run, protocol: str, method: str, data: Path, zoo: Path, out: Path, threads: int, device: str
) -> str:
    """Make a run and write its rows; returns a line about it."""
    import torch
    from transformers.utils import logging

    from tupate_hub import Zoo
    from tupate_hub.training.basemodel import find_base
    from tupate_hub.training.methods import get_method
    from tupate_hub.training.result import versions
    from tupate_hub.training.transfer import PROTOCOLS, measure
    from tupate_hub.training.warmstart import method_of

    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    plan, target = PROTOCOLS[protocol], _target(data, run.target)
    source = (
        None if run.source == SCRATCH else Zoo.open(zoo).embedding(run.source, f"{BASE.rpartition('/')[2]}/{method}")
    )
    tuned = get_method(method) if source is None else method_of(source)
    known = versions()
    told = []
    for score in measure(find_base(BASE).folder, target, tuned, plan, run.seed, source, device=device):
        path = table(out, protocol, score.steps)
        without = next(
            (
                row["score"]
                for row in rows_of(path)
                if (row["source"], row["target"], row["seed"]) == (SCRATCH, run.target, str(run.seed))
            ),
            "",
        )
        append(
            path,
            {
                "source": run.source,
                "target": run.target,
                "score": f"{score.value:.5f}",
                "baseline_score_without_transfer": f"{score.value:.5f}" if source is None else without,
                "regime": protocol,
                "seed": run.seed,
                "metric": target.metric,
                "steps": score.steps,
                "examples": plan.examples or len(target.train),
                "scored_on": plan.scored_on,
                "method": method,
                "device": device,
                "torch": known.get("torch", ""),
                "adapters": known.get("adapters", ""),
                "transformers": known.get("transformers", ""),
                "seconds": f"{score.seconds:.1f}",
            },
        )
        told.append(f"{score.value:.3f}")
    return f"{run.source} -> {run.target} s{run.seed}: {' '.join(told)}"


def plan(sources: Sequence[str], targets: Sequence[str], seeds: Sequence[int]) -> tuple[list[Run], list[Run]]:
    """The runs from nothing, which have to be there first, then those from the sources, target by target."""
    pairs = [(target, seed) for target in targets for seed in seeds]
    scratch = [Run(SCRATCH, *pair) for pair in pairs]
    return scratch, [Run(source, *pair) for pair in pairs for source in sources if source != pair[0]]


def sources_of(zoo: Path, method: str) -> list[str]:
    from tupate_hub import Zoo

    space = f"{BASE.rpartition('/')[2]}/{method}"
    return [entry.task for entry in Zoo.open(zoo).registry.entries if entry.space == space]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="data folder (docs/data.md)")
    parser.add_argument("--zoo", type=Path, default=ROOT, help="the registry of the sources [default: this checkout]")
    parser.add_argument("--protocol", default="few-shot", help="see tupate_hub.training.transfer.PROTOCOLS")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--sources", nargs="*", help="[default: all of the space; none: runs from nothing alone]")
    parser.add_argument("--targets", nargs="+", default=FEW_SHOT_TARGETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=ROOT / "zoo" / "truth")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "mps"])
    return parser.parse_args()


def main() -> int:
    options = parse()
    from tupate_hub.training.transfer import PROTOCOLS

    steps = PROTOCOLS[options.protocol].score_at
    sources = sources_of(options.zoo, options.method) if options.sources is None else options.sources
    done = set.intersection(
        *(
            {
                (row["source"], row["target"], int(row["seed"]))
                for row in rows_of(table(options.out, options.protocol, n))
            }
            for n in steps
        )
    )
    threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // options.jobs))
    failed = 0
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for group in plan(sources, options.targets, options.seeds):
            left = [run for run in group if (run.source, run.target, run.seed) not in done]
            pending = {
                pool.submit(
                    measure_run, run, options.protocol, options.method, options.data, options.zoo, options.out,
                    threads, options.device,
                ): run
                for run in left
            }  # fmt: skip
            for number, future in enumerate(as_completed(pending), 1):
                error = future.exception()
                failed += error is not None
                line = f"{pending[future]}: {error!r}" if error else future.result()
                print(f"[{number}/{len(pending)}] {line}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
