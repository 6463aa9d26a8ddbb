"""Probe: how well a frozen model serves a task, by a linear head that alone is tuned on what the model makes of texts.

The head is that of the zoo's runs, a linear map of the first token's last state, fitted by logistic regression; the
held-out examples choose how strongly it is regularised. A head stays with the task when its model is replaced: what it
then scores is what someone gets who merges an adapter into others and keeps its head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from tupate_hub.arrays import Array, Float32Array
from tupate_hub.data.dataset import Example, TaskData
from tupate_hub.data.splits import limited
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError
from tupate_hub.training.features import encode
from tupate_hub.training.model import load_tokenizer
from tupate_hub.training.predictors.subject import base_encoder, states, tuned_model
from tupate_hub.training.regime import regime_for
from tupate_hub.training.scoring import gold_labels, score
from tupate_hub.training.warmstart import method_of

#: The inverse of the strength of the penalty on a head's squared weights (scikit-learn's C).
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
_STEPS = 300


@dataclass(frozen=True)
class States:
    """What a model makes of a task's examples, split by split, each of shape (examples, width)."""

    train: Float32Array
    held_out: Float32Array
    validation: Float32Array


def cut(data: TaskData, train: int, held_out: int, scored_on: int) -> TaskData:
    """The task with at most so many examples of each split, each class's share kept, always the same ones."""
    if data.kind != "classification":
        raise FormatError(f"{data.name} is {data.kind}: only classifications are probed.")

    def some(examples: Sequence[Example], most: int) -> list[Mapping[str, Any]]:
        return [examples[at] for at in limited(data.kind, examples, most, 0)]

    return replace(
        data,
        train=some(data.train, train),
        held_out=some(data.held_out, held_out),
        validation=some(data.validation, scored_on),
    )


def look(base: Path, data: TaskData, source: TaskEmbedding | None) -> States:
    """What the base model with a source's parameters makes of the examples; without them, the base model alone.

    Texts are cut where the zoo's runs cut them.

    Raises
    ------
    SpaceMismatch, FormatError, UnknownName
        As `warmstart.method_of` and `warmstart.starting_tensors`.
    """
    tokenizer = load_tokenizer(base)
    if source is None:
        model, most = base_encoder(base), 128
    else:
        model, most = tuned_model(base, data, source), regime_for(data.kind, method_of(source)).max_length
        model.active_head = None
    made = [
        states(model, encode(tokenizer, data.kind, examples, most), tokenizer.pad_token_id).cls
        for examples in (data.train, data.held_out, data.validation)
    ]
    return States(*made)


def fit_head(data: TaskData, seen: States) -> Any:
    """The head that serves the held-out examples best."""
    targets, wanted = labels(data, data.train), gold_labels(data, data.held_out)
    heads = [LogisticRegression(C=strength, max_iter=_STEPS).fit(seen.train, targets) for strength in STRENGTHS]
    scores = [score(data.metric, wanted, head.predict(seen.held_out))["primary"] for head in heads]
    return heads[int(np.argmax(scores))]


def score_head(data: TaskData, head: Any, seen: States) -> float:
    """The task's own metric, on its validation examples."""
    return score(data.metric, gold_labels(data, data.validation), head.predict(seen.validation))["primary"]


def labels(data: TaskData, examples: Sequence[Example]) -> Array:
    """The classes of examples."""
    return np.asarray(gold_labels(data, examples))
