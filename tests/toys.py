"""A base model small enough to tune in a second, and tasks that it can learn, in the project's data format."""

from __future__ import annotations

import gzip
import json
import random
import string
from pathlib import Path
from typing import Any

from tupate_hub.training.regime import Regime

GOOD, BAD = ("good", "great", "fine"), ("bad", "awful", "poor")
NUMBERS = ("seven", "nine", "eleven")
FILLERS = ("the", "river", "town", "music", "paper", "green", "cloud", "stone", "window", "garden", "winter", "road")
VOCABULARY = (
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", "?", "'", "how", "many", "is", "it", *GOOD, *BAD, *NUMBERS]
    + [*FILLERS, *string.ascii_lowercase]
    + [f"##{letter}" for letter in string.ascii_lowercase]
)

#: Long enough to learn a toy task, short enough for a test.
REGIME = Regime(
    steps=40, batch_size=16, learning_rate=1e-2, head_factor=2.0, most_epochs=50, evaluations=4, max_length=32
)

WIDTH, LAYERS = 32, 2
TASKS = ("toy_classes", "toy_numbers", "toy_spans", "toy_spans_v2", "toy_choices", "toy_tags")


def make_base(folder: Path) -> Path:
    """Write a BERT of random weights with a WordPiece tokenizer of about 100 pieces."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(str(folder))
    torch.manual_seed(11)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(str(folder))
    return folder


def filler(rng: random.Random, fewest: int = 3, most: int = 9) -> list[str]:
    """Words that say nothing."""
    return [rng.choice(FILLERS) for _ in range(rng.randint(fewest, most))]


def _with(rng: random.Random, words: list[str], word: str) -> str:
    words.insert(rng.randrange(len(words) + 1), word)
    return " ".join(words)


def _class(rng: random.Random) -> dict[str, Any]:
    label = rng.randrange(2)
    words = filler(rng, 2, 5) + [rng.choice((BAD, GOOD)[label]) for _ in range(3)]
    rng.shuffle(words)
    return {"text_a": " ".join(words), "text_b": None, "label": label}


def _number(rng: random.Random) -> dict[str, Any]:
    praise = rng.randrange(4)
    words = [rng.choice(GOOD) for _ in range(praise)] + filler(rng, 3, 5)
    rng.shuffle(words)
    return {"text_a": " ".join(words), "text_b": "how is it ?", "label": float(praise)}


def _span(rng: random.Random, answerable: bool = True) -> dict[str, Any]:
    answer = rng.choice(NUMBERS)
    context = _with(rng, filler(rng, 6, 12), answer) if answerable else " ".join(filler(rng, 6, 12))
    answers = (
        {"text": [answer], "answer_start": [context.index(answer)]} if answerable else {"text": [], "answer_start": []}
    )
    return {"context": context, "question": "how many ?", "answers": answers}


def _choice(rng: random.Random) -> dict[str, Any]:
    label = rng.randrange(3)
    choices = [" ".join(rng.choice(GOOD if n == label else BAD) for _ in range(3)) for n in range(3)]
    return {"context": " ".join(filler(rng, 2, 4)), "question": "how is it ?", "choices": choices, "label": label}


def _tags(rng: random.Random) -> dict[str, Any]:
    """A first name begins with q, its other words with j; no name comes twice, so nobody can know them by heart."""
    words = filler(rng, 2, 4)
    tags = [0] * len(words)
    at = rng.randrange(len(words) + 1)
    rest = rng.randrange(3)
    name = [first + "".join(rng.choices(string.ascii_lowercase[:9], k=4)) for first in "q" + "j" * rest]
    words[at:at], tags[at:at] = name, [1] + [2] * rest
    return {"tokens": words, "tags": tags}


_MAKERS = {
    "toy_classes": _class,
    "toy_numbers": _number,
    "toy_spans": _span,
    "toy_spans_v2": lambda rng: _span(rng, rng.random() < 0.5),
    "toy_choices": _choice,
    "toy_tags": _tags,
}
_FORMS = {
    "toy_classes": {"kind": "classification", "metric": "accuracy", "label_names": ["bad", "good"]},
    "toy_numbers": {"kind": "regression", "metric": "pearson_and_spearman"},
    "toy_spans": {"kind": "extractive_qa", "metric": "squad_f1"},
    "toy_spans_v2": {"kind": "extractive_qa", "metric": "squad_v2_f1"},
    "toy_choices": {"kind": "multiple_choice", "metric": "accuracy"},
    "toy_tags": {"kind": "token_classification", "metric": "span_f1", "label_names": ["O", "B-name", "I-name"]},
}
ORIGIN = {
    "class": "CR",
    "original_dataset": "made in a test",
    "original_train_size": 1000,
    "licence": "cc0-1.0",
    "source": "tests/training/toys.py",
}


def write_task(folder: Path, name: str, train: list[dict[str, Any]], validation: list[dict[str, Any]]) -> None:
    """Write the examples of one task."""
    place = folder / "tasks" / name
    place.mkdir(parents=True, exist_ok=True)
    for part, examples in (("train", train), ("validation", validation)):
        text = "".join(json.dumps(example) + "\n" for example in examples)
        (place / f"{part}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def make_data(folder: Path, train: int = 300, validation: int = 80) -> Path:
    """Write the toy tasks."""
    for name in TASKS:
        rng = random.Random(name)
        make = _MAKERS[name]
        write_task(folder, name, [make(rng) for _ in range(train)], [make(rng) for _ in range(validation)])
    tasks = [{"name": name, **_FORMS[name], **ORIGIN} for name in TASKS]
    (folder / "tasks.json").write_text(json.dumps({"tasks": tasks}), encoding="utf-8")
    return folder
