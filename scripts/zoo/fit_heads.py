"""Fit the heads that the zoo's runs left behind: zoo/<base>/<method>/heads/<task>.safetensors.

The runs of the bundled zoo were made before heads were kept. Here each head is fitted again to the run's own training
examples, with the stored parameters standing still, and scored on the validation examples that the run was scored on;
the file says both scores. A file is written as soon as its task is done, and what is there is left alone, so that a
killed script goes on where it was; to fit a head again, with more examples, take its file away.
Afterwards: python scripts/zoo/build_zoo.py
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[2]
#: Of the training examples at most so many, and at most so many tokens of them, twice as many for spans, of which a
#: text has one: long texts take long.
MOST_EXAMPLES, MOST_TOKENS = 3_000, 60_000


def head_file(embedding: Path) -> Path:
    """Where the head of an embedding's file lies."""
    return embedding.parent / "heads" / embedding.name


def fit_one(file: Path, data: Path, threads: int, most_examples: int, most_tokens: int) -> bytes:
    """The head of an embedding's task, fitted and scored: its file's bytes."""
    import numpy as np
    import torch

    from tupate_hub.data.dataset import load_task
    from tupate_hub.embedding import read_embedding
    from tupate_hub.head import make_head, parse_head
    from tupate_hub.runrecord import RunRecord
    from tupate_hub.training.basemodel import find_base
    from tupate_hub.training.headfit import fit_head
    from tupate_hub.training.scoring import gold_labels, score
    from tupate_hub.training.tuned import Tuned

    torch.set_num_threads(threads)
    embedding, base = read_embedding(file), find_base(None)
    record = RunRecord.from_facts(embedding.facts, task=embedding.task, method=embedding.space.method)
    task = load_task(data, embedding.task)
    outputs = 1 if task.kind == "multiple_choice" else task.num_labels
    nothing = [(np.zeros((outputs, embedding.facts["architecture"]["hidden_size"])), np.zeros(outputs))]
    facts = {"metric": record.metric, "max_length": record.regime.max_length}
    if task.train[0].get("text_b") is not None:
        facts["pairs"] = True
    if task.kind == "multiple_choice":
        facts["choices"] = task.num_labels
    names = task.label_names if task.kind in ("classification", "token_classification") else ()
    blank = make_head(task.name, task.kind, names, nothing, facts=facts)
    tuned = Tuned.of(base.folder, embedding, blank)
    most_tokens *= 2 if task.kind == "extractive_qa" else 1
    fitted = fit_head(replace(tuned, precision=record.regime.precision), task, most_examples, most_tokens)
    head = parse_head(fitted.to_bytes(), task.name)  # rounded as it will be stored
    answers = replace(tuned, head=head).answers(task.validation)
    scores = score(task.metric, gold_labels(task, task.validation), answers)
    told = {
        **head.facts,
        "fitted": {"by": "scripts/zoo/fit_heads.py", **head.facts["fitted"], "run": round(record.scores["primary"], 4)},
        "scores": {name: round(value, 4) for name, value in scores.items()},
    }
    return replace(head, facts=told).to_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder as in docs/data.md")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--tasks", nargs="+", help="these tasks [default: all of the method, short texts first]")
    parser.add_argument("--most-examples", type=int, default=MOST_EXAMPLES, help="[default: %(default)s]")
    parser.add_argument("--most-tokens", type=int, default=MOST_TOKENS, help="of them [default: %(default)s]")
    parser.add_argument("--jobs", type=int, default=1, help="tasks side by side [default: 1]")
    options = parser.parse_args()
    from tupate_hub.fan_out import over_processes
    from tupate_hub.storage.atomic import write_bytes

    files = sorted((ROOT / "zoo").glob(f"*/{options.method}/*.safetensors"))
    named = [file for file in files if (options.data / "tasks" / file.stem).is_dir()]
    named.sort(key=lambda file: (options.data / "tasks" / file.stem / "validation.jsonl.gz").stat().st_size)
    wanted = [file for file in named if not options.tasks or file.stem in options.tasks]
    missing = [file for file in wanted if not head_file(file).exists()]
    threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // options.jobs))
    failed = 0
    most = {"most_examples": options.most_examples, "most_tokens": options.most_tokens}
    work = partial(fit_one, data=options.data, threads=threads, **most)
    for number, (file, made) in enumerate(over_processes(work, missing, options.jobs), 1):
        line = str(made)
        if isinstance(made, bytes):
            line = told(made, file.stem)
            write_bytes(head_file(file), made)
        failed += not isinstance(made, bytes)
        print(f"[{number}/{len(missing)}] {file.stem}: {line}", file=sys.stderr, flush=True)
    return 1 if failed else 0


def told(data: bytes, task: str) -> str:
    """A line about a head: its score and the run's."""
    from tupate_hub.head import parse_head

    facts = parse_head(data, task).facts
    return f"{facts['scores']['primary']:.4f} with this head, {facts['fitted']['run']:.4f} in its run"


if __name__ == "__main__":
    sys.exit(main())
