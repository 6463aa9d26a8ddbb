"""Tune what the zoo's plan lacks, or the runs that are named, and write their embeddings below zoo/.

A run is a task tuned by a method. Its embedding goes to zoo/<base>/<method>/<task>.safetensors; that of another seed is
a repeat and goes to repeats/<task>-s<seed>-i<initial seed>.safetensors beside it. The head goes to
heads/<task>.safetensors. Early checkpoints and the heads of repeats stay in .runs/<base>/<method>/, where a killed run
goes on from its last checkpoint (with --ray it starts again).
Afterwards: python scripts/zoo/build_zoo.py

With --base MODEL a zoo of one's own is made on another base model, of all tasks of a data folder (docs/own-zoo.md), and
--dry-run says what would be tuned, how long that takes here and how large it becomes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from logging import ERROR, getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import filterwarnings

if TYPE_CHECKING:
    from tupate_hub.runrecord import Regime

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

ROOT = Path(__file__).resolve().parents[2]
BASE = "sentence-transformers/all-MiniLM-L6-v2"
#: Of the parameters that are tuned here.
LICENCE = "Apache-2.0"

PAPER = "sst2 mrpc rte cola stsb snli mnli qnli qqp squad squad_v2 boolq scitail wnli drop hotpotqa".split()
#: The paper's tasks first, then those of other forms and subjects; others of a data folder are tuned with --tasks.
TASKS = [*PAPER, *(
    "ag_news amazon_review anli_r3 arc_challenge arc_easy arct atis_intent atis_slots banking77 cb clinc150 "
    "commonsense_qa conll2003_ner copa cosmos_qa customer_reviews dream emotion fever hate_offensive hellaswag imdb "
    "liar_binary mctest mit_movie_ner mit_restaurant_ner movie_reviews mpqa multirc piqa quartz quoref ropes "
    "sentiment_airline sentiment_books sentiment_dvd sentiment_electronics sentiment_kitchen sick_entailment "
    "sick_relatedness snips_intent snips_slots socialiqa squadshifts_amazon squadshifts_new_wiki squadshifts_reddit "
    "sst5 subj trec tweet_emoji tweet_emotion tweet_hate tweet_irony tweet_offensive tweet_sentiment tweet_stance wic "
    "winogrande wnut17_ner wsc yahoo_answers yelp_review"
).split()]  # fmt: skip
REPEATED = "sst2 cola mrpc stsb snli".split()
METHODS_ON_FEW_TASKS = "adapter adapter-houlsby parallel scaled-parallel multihead-parallel mam ia3".split()

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
    (["prefix", "bitfit", "prompt"], PAPER, [MAIN]),
    (["prefix"], REPEATED, [(1, 1), (2, 0)]),
    (METHODS_ON_FEW_TASKS, ["sst2", "cola", "snli", "stsb"], [MAIN]),
)
METHODS = list(dict.fromkeys(method for methods, _, _ in PLAN for method in methods))


@dataclass(frozen=True)
class Run:
    """A task tuned by a method: `seed` orders the examples, `init_seed` draws the first parameters.

    `base` is the base model's id, of which the last part names folders.
    """

    method: str
    task: str
    seed: int = 0
    init_seed: int = 0
    base: str = BASE

    @property
    def name(self) -> str:
        """The task, with the seeds where they are not the space's own."""
        return self.task if (self.seed, self.init_seed) == MAIN else f"{self.task}-s{self.seed}-i{self.init_seed}"

    def place(self, out: Path) -> Path:
        """Where the embedding goes."""
        folder = out / "zoo" / self.base.rpartition("/")[2] / self.method
        return folder / ("" if self.name == self.task else "repeats") / f"{self.name}.safetensors"

    def head(self, out: Path) -> Path:
        """Where the head of the zoo's own run goes."""
        return self.place(out).parent / "heads" / f"{self.task}.safetensors"

    def scratch(self, out: Path) -> Path:
        """Where the head and checkpoints are kept; runs of earlier versions have them in .runs/<method>/."""
        earlier = out / ".runs" / self.method / self.name
        if self.base == BASE and earlier.is_dir():
            return earlier
        return out / ".runs" / self.base.rpartition("/")[2] / self.method / self.name


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


def tune_run(
    run: Run,
    data: Path,
    checkpoint: Path,
    *,
    threads: int,
    device: str,
    show: bool,
    base: str | None = None,
    steps: int | None = None,
) -> Made:
    """Tune one task by one method; `data` is a folder as in docs/data.md, `base` another base model, as it is named."""
    import torch
    from tqdm import tqdm

    from tupate_hub.data.dataset import load_task
    from tupate_hub.training.basemodel import find_base
    from tupate_hub.training.delivery import head_of
    from tupate_hub.training.methods import get_method
    from tupate_hub.training.record import to_embedding
    from tupate_hub.training.regime import Setup
    from tupate_hub.training.tuner import tune

    stay_offline(base)
    quieten()
    torch.set_num_threads(threads)
    task, method = load_task(data, run.task), get_method(run.method)
    found = find_base(base or BASE, method=run.method, kind=task.kind)
    result = tune(
        found.folder,
        task,
        method,
        regime_of(run, task.kind, steps),
        setup=Setup(device=device),
        checkpoint=checkpoint,
        progress=lambda steps, total: tqdm(
            steps, run.name, total, initial=total - len(steps), leave=False, disable=None if show else True
        ),
        report=lambda line: print(f"{run.method} {line}", file=sys.stderr, flush=True),
    )
    record = result.record
    result = replace(result, record=replace(record, device=None, head=None, zero_shot=None))  # alike in all of the zoo
    embed = partial(to_embedding, result, found.id, {"by": "scripts/zoo/train_zoo.py"}, licence=LICENCE)
    head = head_of(result, run.task)
    kept = {"head.safetensors": head.to_bytes()} if head else {}
    for share in result.early:
        early = embed(share=share)
        kept[f"early-{share}.safetensors"] = replace(early, facts={**early.facts, "share": float(share)}).to_bytes()
    line = f"{record.scores['primary']:.4f} (baseline {record.baseline:.4f}), {record.seconds} s"
    return Made(embed().to_bytes(), kept, line)


def regime_of(run: Run, kind: str, steps: int | None) -> Regime:
    """A run's regime: the zoo's, but for what a task of the bundled one needs, and the steps where they are given."""
    from tupate_hub.training.methods import get_method
    from tupate_hub.training.regime import regime_for

    changes: dict[str, int] = {"seed": run.seed, "init_seed": run.init_seed}
    if run.base == BASE:
        changes |= REGIME_CHANGES.get((run.method, run.task), {})
    if steps is not None:
        changes |= {"steps": steps}
    return regime_for(kind, get_method(run.method), **changes)


def stay_offline(base: str | None) -> None:
    """The bundled zoo's base model is installed: nothing is asked of the Hub. Another may have to be fetched."""
    if base is None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def quieten() -> None:
    """The libraries say things of every model that are no news here."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    getLogger("adapters").setLevel(ERROR)
    filterwarnings("ignore", category=FutureWarning, module=r"torch\.nn\.modules")


def keep(run: Run, made: Made, out: Path) -> None:
    """Write what a run has left, its embedding last: with that the run is done."""
    from tupate_hub.storage.atomic import write_bytes

    for name, data in made.kept.items():
        own = name == "head.safetensors" and run.name == run.task
        write_bytes(run.head(out) if own else run.scratch(out) / name, data)
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
    parser.add_argument(
        "--base", metavar="MODEL", help="a base model's folder or its id on the Hub, for a zoo of your own"
    )
    parser.add_argument(
        "--tasks", nargs="+", help="these tasks [default: those of the plan; with --base all of the data]"
    )
    parser.add_argument(
        "--method",
        "--methods",
        action="extend",
        nargs="+",
        choices=["all", *METHODS],
        metavar="METHOD",
        help=f"some of all, {', '.join(METHODS)} [default: lora; without --tasks and --base all]",
    )
    parser.add_argument("--steps", type=int, help="of each run [default: the zoo's, by method]")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="tune nothing: measure a step of each run here, and say how long all take and how large they become",
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=_seeds,
        metavar="SEED[:INIT]",
        help="order of the examples, and of the first parameters [default: 0:0, the zoo's own run]",
    )
    parser.add_argument(
        "--out", type=Path, help="folder that holds zoo/ and .runs/ [default: this checkout; with --base own-zoo]"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, on a GPU or on the cores [default: 2]")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "mps"])
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="a Ray cluster's address, or local: one of --jobs workers here"
    )
    options = parser.parse_args()
    options.out = options.out or (ROOT if options.base is None else Path("own-zoo"))
    if options.steps is not None and options.steps < 1:
        parser.error("--steps must be at least 1")
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


def wanted_on(options: argparse.Namespace) -> list[Run]:
    """The runs on another base model: all tasks of the data, or those named, by the methods that can be put into it.

    What cannot be tuned is said, by the model's configuration and the tasks' kinds alone.
    """
    from tupate_hub.architectures import require_tunable
    from tupate_hub.data.dataset import task_facts
    from tupate_hub.errors import FormatError
    from tupate_hub.training.basemodel import find_base, find_config

    facts = task_facts(options.data)
    methods = list(METHODS) if options.method and "all" in options.method else options.method or ["lora"]
    unknown = [name for name in options.tasks or () if name not in facts]
    if unknown:
        raise FormatError(f"{options.data} has no task {unknown[0]!r}.", hint=f"it has: {', '.join(facts)}")
    config = find_config(options.base)
    require_tunable(config, methods[0] if len(methods) == 1 else None)
    runs = []
    for method in methods:
        for task in options.tasks or facts:
            try:
                require_tunable(config, method, facts[task]["kind"])
            except FormatError as error:
                print(f"left out: {method} {task}: {error.message}", file=sys.stderr)
                continue
            runs += [Run(method, task, *pair) for pair in options.seeds or [MAIN]]
    if not runs:
        raise FormatError("None of this can be tuned.", hint="docs/own-zoo.md says which base models take what")
    base = find_base(options.base).id
    return [replace(run, base=base) for run in runs]


def estimate_runs(runs: Sequence[Run], options: argparse.Namespace, threads: int) -> None:
    """Print what each run would take and leave, measured here by a few of its steps, and the sum of all."""
    import torch
    from tqdm import tqdm

    from tupate_hub.data.dataset import load_task
    from tupate_hub.training.basemodel import find_base
    from tupate_hub.training.cost import cost_of
    from tupate_hub.training.methods import get_method
    from tupate_hub.training.regime import Setup

    quieten()
    torch.set_num_threads(threads)
    base = find_base(options.base or BASE).folder
    print("method\ttask\tkind\tsteps\tseconds a step\tminutes\tparameters\tkB")
    seconds = size = 0.0
    for run in tqdm(runs, "measured", leave=False, disable=None):
        task = load_task(options.data, run.task)
        regime = regime_of(run, task.kind, options.steps)
        found = cost_of(base, task, get_method(run.method), regime, setup=Setup(options.device))
        seconds, size = seconds + found.seconds, size + found.bytes
        row: list[Any] = [run.method, run.name, task.kind, found.steps, f"{found.step_seconds:.3f}"]
        print(*row, f"{found.seconds / 60:.1f}", found.parameters, f"{found.bytes / 1e3:.0f}", sep="\t", flush=True)
    print(
        f"{len(runs)} runs: {lasting(seconds)} one after the other on {options.device} with {threads} threads, as "
        f"measured just now, and {size / 1e6:.2f} MB of embeddings. Machines like this one in a cluster (--ray) divide "
        "the time; runs side by side on one (--jobs) share its cores.",
        file=sys.stderr,
    )


def lasting(seconds: float) -> str:
    """A time as people say it."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def main() -> int:
    options = parse()
    stay_offline(options.base)
    if options.base is None:
        runs = wanted(options.tasks, options.method, options.seeds)
        return tune_missing(runs, options)
    from tupate_hub.errors import TupateHubError

    try:
        return tune_missing(wanted_on(options), options)
    except TupateHubError as error:
        print("\n".join(filter(None, [f"Error: {error.message}", error.hint and f"  {error.hint}"])), file=sys.stderr)
        return error.exit_code


def tune_missing(runs: Sequence[Run], options: argparse.Namespace) -> int:
    """Tune those of the runs that have left nothing yet, here or on a cluster."""
    missing = [run for run in runs if not run.place(options.out).exists()]
    if not missing:
        print("nothing to do", file=sys.stderr)
        return 0
    threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // options.jobs))
    if options.dry_run:
        estimate_runs(missing, options, threads)
        return 0
    from tupate_hub.fan_out import over_processes, over_ray

    show = options.jobs == 1 and not options.ray  # several bars would write over each other
    how = partial(tune_run, threads=threads, device=options.device, show=show, base=options.base, steps=options.steps)
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
