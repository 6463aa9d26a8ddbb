"""Tune what the zoo's plan lacks, or the runs that are named, and write their embeddings below zoo/.

A run is a task tuned by a method. Its embedding goes to zoo/<base>/<method>/<task>.safetensors; that of another seed is
a repeat and goes to repeats/<task>-s<seed>-i<initial seed>.safetensors beside it. Heads and early checkpoints stay in
.runs/<base>/<method>/, where a killed run goes on from its last checkpoint (with --ray it starts again).
Afterwards: python scripts/zoo/build_zoo.py
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

ROOT = Path(__file__).resolve().parents[2]
BASE = "sentence-transformers/all-MiniLM-L6-v2"
#: Of the parameters that are tuned here.
LICENCE = "Apache-2.0"

PAPER = "sst2 mrpc rte cola stsb snli mnli qnli qqp squad squad_v2 boolq scitail wnli drop hotpotqa".split()
#: The paper's tasks first, then those of other forms and subjects that two cores had time for; any other task of a data
#: folder is tuned with --tasks.
TASKS = [*PAPER, *(
    "ag_news amazon_review anli_r3 arc_challenge arc_easy arct atis_intent atis_slots banking77 cb clinc150 "
    "commonsense_qa conll2003_ner copa customer_reviews emotion fever hate_offensive hellaswag imdb liar_binary "
    "mctest mit_movie_ner mit_restaurant_ner movie_reviews mpqa multirc piqa quartz sentiment_airline sentiment_books "
    "sentiment_dvd sentiment_electronics sentiment_kitchen sick_entailment sick_relatedness snips_intent snips_slots "
    "socialiqa squadshifts_amazon squadshifts_new_wiki squadshifts_reddit sst5 subj trec tweet_emoji tweet_emotion "
    "tweet_hate tweet_irony tweet_offensive tweet_sentiment tweet_stance wic winogrande wnut17_ner wsc yahoo_answers "
    "yelp_review"
).split()]  # fmt: skip
REPEATED = "sst2 cola mrpc stsb snli".split()
METHODS_ON_FEW_TASKS = "prompt adapter adapter-houlsby parallel scaled-parallel multihead-parallel mam ia3".split()

#: What changes in the runs of tasks that the usual steps left within two standard errors of their baseline, and that
#: more steps teach. Of boolq's passages 44 % are longer than the usual 128 tokens.
REGIME_CHANGES: Mapping[tuple[str, str], Mapping[str, int]] = {
    ("lora", "boolq"): {"steps": 1200, "max_length": 256},
    ("lora", "mrpc"): {"steps": 1200},
}

MAIN = (0, 0)
#: What the bundled zoo is made of: methods, tasks, and seeds (of the order of the examples, of the first parameters).
PLAN = (
    (["lora"], TASKS, [MAIN]),
    (["lora"], REPEATED, [(1, 1), (2, 2)]),
    (["lora"], ["sst2", "snli"], [(1, 0)]),
    (["prefix", "bitfit"], PAPER, [MAIN]),
    (["prefix"], REPEATED, [(1, 1), (2, 0)]),
    (METHODS_ON_FEW_TASKS, ["sst2", "cola", "snli", "stsb"], [MAIN]),
)
METHODS = list(dict.fromkeys(method for methods, _, _ in PLAN for method in methods))


@dataclass(frozen=True)
class Run:
    """A task tuned by a method: `seed` orders the examples, `init_seed` draws the first parameters."""

    method: str
    task: str
    seed: int = 0
    init_seed: int = 0

    @property
    def name(self) -> str:
        """The task, with the seeds where they are not the space's own."""
        return self.task if (self.seed, self.init_seed) == MAIN else f"{self.task}-s{self.seed}-i{self.init_seed}"

    def place(self, out: Path) -> Path:
        """Where the embedding goes."""
        folder = out / "zoo" / BASE.rpartition("/")[2] / self.method
        return folder / ("" if self.name == self.task else "repeats") / f"{self.name}.safetensors"

    def scratch(self, out: Path) -> Path:
        """Where the head and checkpoints are kept; runs of earlier versions have them in .runs/<method>/."""
        earlier = out / ".runs" / self.method / self.name
        return earlier if earlier.is_dir() else out / ".runs" / BASE.rpartition("/")[2] / self.method / self.name


@dataclass(frozen=True)
class Made:
    """What a run leaves: its embedding's file, files to keep beside its checkpoint, a line that says how it went."""

    embedding: bytes
    kept: Mapping[str, bytes]
    line: str


def planned() -> list[Run]:
    """The runs that the bundled zoo is made of."""
    return [
        Run(method, task, *pair)
        for methods, tasks, seeds in PLAN
        for method in methods
        for task in tasks
        for pair in seeds
    ]


def tune_run(run: Run, data: Path, checkpoint: Path, *, threads: int, device: str, show: bool) -> Made:
    """Tune one task by one method; `data` is a folder as in docs/data.md."""
    import torch
    from tqdm import tqdm
    from transformers.utils import logging

    from tupate_hub.data.dataset import load_task
    from tupate_hub.storage.safetensors import TensorFile
    from tupate_hub.training.basemodel import find_base
    from tupate_hub.training.methods import get_method
    from tupate_hub.training.record import to_embedding
    from tupate_hub.training.regime import Setup, regime_for
    from tupate_hub.training.tuner import tune

    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    task, method = load_task(data, run.task), get_method(run.method)
    changes = {
        "seed": run.seed,
        "init_seed": run.init_seed,
        **REGIME_CHANGES.get((run.method, run.task), {}),
    }
    result = tune(
        find_base(BASE).folder,
        task,
        method,
        regime_for(task.kind, method, **changes),
        setup=Setup(device=device),
        checkpoint=checkpoint,
        progress=lambda steps, total: tqdm(
            steps, run.name, total, initial=total - len(steps), leave=False, disable=None if show else True
        ),
        report=lambda line: print(f"{run.method} {line}", file=sys.stderr, flush=True),
    )
    record = result.record
    result = replace(result, record=replace(record, device=None, head=None, zero_shot=None))  # alike in all of the zoo
    embed = partial(to_embedding, result, BASE, {"by": "scripts/zoo/train_zoo.py"}, licence=LICENCE)
    head = {name: array.astype("float16") for name, array in result.head.items()}
    kept = {"head.safetensors": TensorFile(head).to_bytes()}
    for share in result.early:
        early = embed(share=share)
        kept[f"early-{share}.safetensors"] = replace(early, facts={**early.facts, "share": float(share)}).to_bytes()
    line = f"{record.scores['primary']:.4f} (baseline {record.baseline:.4f}), {record.seconds} s"
    return Made(embed().to_bytes(), kept, line)


def keep(run: Run, made: Made, out: Path) -> None:
    """Write what a run has left, its embedding last: with that the run is done."""
    from tupate_hub.storage.atomic import write_bytes

    for name, data in made.kept.items():
        write_bytes(run.scratch(out) / name, data)
    write_bytes(run.place(out), made.embedding)
    (run.scratch(out) / "checkpoint.pt").unlink(missing_ok=True)


def tune_here(run: Run, data: Path, out: Path, how: Callable[..., Made]) -> Made:
    """A run on this machine, which goes on from its checkpoint where it was killed."""
    return how(run, data, run.scratch(out) / "checkpoint.pt")


def tune_there(run: Run, folder: Path, how: Callable[..., Made]) -> Made:
    """A run on a worker of a cluster, in a folder with the files of `task_files`, which is removed afterwards."""
    return how(run, folder, folder / "checkpoint.pt")


def task_files(run: Run, data: Path) -> dict[str, bytes]:
    """The files of a data folder that a run needs."""
    paths = [data / "tasks.json", *sorted((data / "tasks" / run.task).glob("*"))]
    return {path.relative_to(data).as_posix(): path.read_bytes() for path in paths if path.is_file()}


# --- command line ----------------------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder with tasks.json and tasks/ (docs/data.md)"
    )
    parser.add_argument("--tasks", nargs="+", help="these tasks [default: those of the plan]")
    parser.add_argument(
        "--method",
        action="append",
        choices=["all", *METHODS],
        help="may be repeated [default: lora; without --tasks all]",
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=_seeds,
        metavar="SEED[:INIT]",
        help="order of the examples, and of the first parameters [default: 0:0, the zoo's own run]",
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT, help="folder that holds zoo/ and .runs/ [default: this checkout]"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, on a GPU or on the cores [default: 2]")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "mps"])
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="a Ray cluster's address, or local: one of --jobs workers here"
    )
    options = parser.parse_args()
    if options.ray:
        from tupate_hub.extras import install_command, is_installed

        if not is_installed("ray"):
            parser.error(f"Ray is not installed: {install_command('cluster')}")
    return options


def _seeds(written: str) -> tuple[int, int]:
    seed, _, init_seed = written.partition(":")
    return int(seed), int(init_seed or 0)


def wanted(
    tasks: Sequence[str] | None, methods: Sequence[str] | None, seeds: Sequence[tuple[int, int]] | None
) -> list[Run]:
    """The plan, or the part of it by some methods; with tasks or seeds, every run that they name."""
    chosen = METHODS if methods is None or "all" in methods else methods
    if tasks is None and seeds is None:
        return [run for run in planned() if run.method in chosen]
    chosen = ["lora"] if methods is None else chosen
    return [
        Run(method, task, *pair)
        for method in chosen
        for task in tasks or dict.fromkeys(run.task for run in planned() if run.method == method)
        for pair in seeds or [MAIN]
    ]


def main() -> int:
    options = parse()
    missing = [
        run for run in wanted(options.tasks, options.method, options.seeds) if not run.place(options.out).exists()
    ]
    if not missing:
        print("nothing to do", file=sys.stderr)
        return 0
    from tupate_hub.fan_out import over_processes, over_ray

    threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // options.jobs))
    show = options.jobs == 1 and not options.ray  # several bars would write over each other
    how = partial(tune_run, threads=threads, device=options.device, show=show)
    finished: Iterable[tuple[Run, Made | BaseException]]
    if options.ray:
        finished = over_ray(
            partial(tune_there, how=how),
            missing,
            partial(task_files, data=options.data),
            address=options.ray,
            jobs=options.jobs,
            needs={"num_cpus": threads, "num_gpus": 1 / options.jobs if options.device == "cuda" else 0},
        )
    else:
        finished = over_processes(
            partial(tune_here, data=options.data, out=options.out, how=how), missing, options.jobs
        )
    failed = 0
    for number, (run, made) in enumerate(finished, 1):
        if isinstance(made, Made):
            keep(run, made, options.out)
        failed += not isinstance(made, Made)
        line = made.line if isinstance(made, Made) else made
        print(f"[{number}/{len(missing)}] {run.method} {run.name}: {line}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
