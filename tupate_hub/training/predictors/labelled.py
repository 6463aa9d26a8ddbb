"""Labelled states: a target's few examples as features and targets of a linear model, for LogME."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import helmert

from tupate_hub.arrays import Float32Array
from tupate_hub.data.dataset import TaskData
from tupate_hub.training.features import encode
from tupate_hub.training.predictors.subject import States, few_examples, most_tokens, states

#: Kinds with one label an example. A span is one of many positions and a tag one of many words: no LogME is defined.
SCORED_KINDS = frozenset({"classification", "regression", "multiple_choice"})


@dataclass(frozen=True)
class Labelled:
    """States of shape (rows, width) and targets of shape (rows, columns).

    Classes are one-hot columns and a regression's targets one column. The softmax over choices sees differences alone:
    an example with c choices gives c - 1 rows, orthonormal contrasts of its choices' states, and the one target is the
    same contrasts of whether a choice is the right one.
    """

    states: States
    targets: Float32Array


def labelled_states(model: Any, tokenizer: Any, data: TaskData) -> Labelled | None:
    """What a model makes of a target's few examples; None for spans and tags."""
    if data.kind not in SCORED_KINDS:
        return None
    few = few_examples(data)
    found = states(model, encode(tokenizer, data.kind, few.train, most_tokens(tokenizer)), tokenizer.pad_token_id)
    labels = np.array([example["label"] for example in few.train])
    if data.kind == "regression":
        return Labelled(found, labels[:, None].astype(np.float32))
    targets = (labels[:, None] == np.arange(data.num_labels)).astype(np.float32)
    if data.kind == "classification":
        return Labelled(found, targets)
    return Labelled(
        States(*(_contrasts(array, data.num_labels) for array in (found.cls, found.mean))),
        _contrasts(targets.reshape(-1, 1), data.num_labels),
    )


def _contrasts(rows: Float32Array, choices: int) -> Float32Array:
    """Differences between the choices of each example, from one row a choice."""
    grouped = rows.reshape(-1, choices, rows.shape[1])
    return np.asarray((helmert(choices) @ grouped).reshape(-1, rows.shape[1]), dtype=np.float32)
