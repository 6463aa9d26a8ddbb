"""Subject: what a predictor of transfer may look at, and what a model makes of a task's texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tupate_hub.architectures import ENCODER, ENCODER_DECODER, form_of
from tupate_hub.arrays import Array, Float32Array
from tupate_hub.data.dataset import Example, TaskData
from tupate_hub.data.splits import limited
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.training.batches import collate
from tupate_hub.training.features import Feature, encode
from tupate_hub.training.model import build_model, load_tokenizer, tuned_state
from tupate_hub.training.precision import half_precision
from tupate_hub.training.protocol import PROTOCOLS
from tupate_hub.training.warmstart import method_of, starting_tensors

#: Arrays of one measurement, by name.
Arrays = Mapping[str, Array]

MOST_TEXTS, MOST_TOKENS = 500, 128
SEED = 0
_BATCH = 32


@dataclass(frozen=True)
class States:
    """A model's last layer on some sequences, (sequences, width): the state that a head reads, and the tokens' mean.

    A head reads an encoder's first token, and the last one of other models.
    """

    cls: Float32Array
    mean: Float32Array


@dataclass(frozen=True)
class Subject:
    """A task of the zoo: its data, the base model's folder, and the parameters that were tuned on the task.

    `targets` are the tasks, whole, whose few examples a source's model is tried on.
    """

    base: Path
    data: TaskData
    source: TaskEmbedding
    targets: tuple[TaskData, ...] = ()

    @cached_property
    def tokenizer(self) -> Any:
        """The base model's."""
        return load_tokenizer(self.base)

    @cached_property
    def encoder(self) -> Any:
        """The tuned model without a head."""
        model = tuned_model(self.base, self.data, self.source)
        model.active_head = None
        return model

    @cached_property
    def texts(self) -> list[Feature]:
        """Up to 500 training examples as plain texts."""
        kept = limited(self.data.kind, self.data.train, MOST_TEXTS, SEED)
        return encode_texts(self.tokenizer, [text_of(self.data.kind, self.data.train[at]) for at in kept])

    @cached_property
    def base_states(self) -> States:
        """What the base model makes of the texts."""
        return states(base_encoder(self.base), self.texts, self.tokenizer.pad_token_id)


def base_encoder(base: Path) -> Any:
    """The base model as it was before any tuning."""
    from adapters import AutoAdapterModel
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(str(base), local_files_only=True)
    # T5 alone would ask for its decoder's input, which the class for heads takes from the text
    auto = AutoAdapterModel if form_of(config.model_type) == ENCODER_DECODER else AutoModel
    return auto.from_pretrained(str(base), config=config, local_files_only=True).eval()


def tuned_model(base: Path, data: TaskData, source: TaskEmbedding) -> Any:
    """The base model with a source's parameters and an untrained head for the data's kind.

    Raises
    ------
    SpaceMismatch, FormatError, UnknownName
        As `warmstart.method_of` and `warmstart.starting_tensors`.
    """
    method = method_of(source)
    model = build_model(base, data, method, SEED)
    origin = tuned_state(model) if method.relative else {}
    start = starting_tensors(base, data, method, SEED, source)
    whole = {name: torch.from_numpy(np.array(array)) + origin.get(name, 0) for name, array in start.items()}
    model.load_state_dict(whole, strict=False)
    return model.eval()


def text_of(kind: str, example: Example) -> tuple[str, str]:
    """An example's text and its second text, "" where it has none; nothing of its label."""
    if kind == "extractive_qa":
        return example["question"], example["context"]
    if kind == "multiple_choice":
        return " ".join(filter(None, (example["context"], example["question"]))), " ".join(example["choices"])
    if kind == "token_classification":
        return " ".join(example["tokens"]), ""
    return example["text_a"], example["text_b"] or ""


def encode_texts(tokenizer: Any, texts: Sequence[tuple[str, str]]) -> list[Feature]:
    """Texts as features without labels, cut to 128 tokens."""
    rows = [
        {"text_a": first, "text_b": second if any(pair[1] for pair in texts) else None, "label": 0}
        for first, second in texts
    ]
    return encode(tokenizer, "classification", rows, most_tokens(tokenizer))


def most_tokens(tokenizer: Any) -> int:
    """128, or what the model takes."""
    return min(MOST_TOKENS, int(tokenizer.model_max_length))


def few_examples(data: TaskData) -> TaskData:
    """The 200 training examples that a target has when transfer is measured with few, in the run of seed 0."""
    return PROTOCOLS["few-shot"].cut(data, SEED)


def states(model: Any, features: Sequence[Feature], pad_id: int) -> States:
    """The model's last layer on every sequence of the features; a row of choices is a sequence a choice.

    In bfloat16 where a matrix product is, as the runs of the zoo. For methods that add no positions to the sequence.
    """
    rows = [Feature((ids,), (types,), {}, 0) for one in features for ids, types in zip(one.ids, one.types, strict=True)]
    order = sorted(range(len(rows)), key=lambda row: rows[row].length)
    width, reads_first = model.config.hidden_size, form_of(model.config.model_type) == ENCODER
    found = States(np.empty((len(rows), width), np.float32), np.empty((len(rows), width), np.float32))
    with torch.inference_mode(), half_precision(model.device):
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            batch = collate([rows[row] for row in chosen], pad_id)
            hidden = model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None].float()
            last = batch["attention_mask"].sum(1) - 1
            read = hidden[:, 0] if reads_first else hidden[torch.arange(len(chosen)), last]
            found.cls[chosen] = read.numpy()
            found.mean[chosen] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    return found
