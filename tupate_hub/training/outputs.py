"""Outputs: from a model's logits of tokens to tags and answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tupate_hub.arrays import Float32Array
from tupate_hub.data.dataset import Example
from tupate_hub.training.features import Feature

#: Tokens of the longest answer, and how many of the best beginnings and ends are paired.
_MOST_ANSWER_TOKENS = 30
_BEST_EDGES = 20


def predict_tags(
    features: Sequence[Feature], logits: Sequence[Float32Array], label_names: Sequence[str]
) -> list[list[str]]:
    """The best tag of each word of each example, "O" for a word that the model did not see, else the first tag.

    `logits` has one array of shape (length or more, labels) for each feature.
    """
    unseen = "O" if "O" in label_names else label_names[0]
    return [
        [unseen if position is None else label_names[int(np.argmax(row[position]))] for position in feature.words]
        for feature, row in zip(features, logits, strict=True)
    ]


def predict_spans(
    features: Sequence[Feature],
    logits: Sequence[tuple[Float32Array, Float32Array]],
    examples: Sequence[Example],
    *,
    no_answer: bool,
) -> list[str]:
    """The best answer text of each example over all its windows; "" where no answer wins (SQuAD 2 only).

    A span's value is start logit + end logit of one window, at most 30 tokens long; with `no_answer`, the smallest
    value of [CLS] over the windows competes with it, as in the official SQuAD 2 evaluation of BERT.
    """
    best: dict[int, tuple[float, str]] = {}
    nothing: dict[int, float] = {}
    for feature, (start, end) in zip(features, logits, strict=True):
        context = examples[feature.example]["context"]
        value, text = _best_span(feature, start, end, context)
        if value > best.get(feature.example, (-np.inf, ""))[0]:
            best[feature.example] = (value, text)
        empty = float(start[0] + end[0])
        nothing[feature.example] = min(empty, nothing.get(feature.example, np.inf))
    answers = []
    for index in range(len(examples)):
        value, text = best.get(index, (-np.inf, ""))
        answers.append("" if no_answer and nothing[index] > value else text)
    return answers


def _best_span(feature: Feature, start: Float32Array, end: Float32Array, context: str) -> tuple[float, str]:
    tokens = np.array([token for token, span in enumerate(feature.offsets) if span])
    if not len(tokens):
        return -np.inf, ""
    starts = tokens[np.argsort(-start[tokens], kind="stable")[:_BEST_EDGES]]
    ends = tokens[np.argsort(-end[tokens], kind="stable")[:_BEST_EDGES]]
    values = start[starts][:, None] + end[ends][None, :]
    span = ends[None, :] - starts[:, None]
    values = np.where((span >= 0) & (span < _MOST_ANSWER_TOKENS), values, -np.inf)
    first, last = np.unravel_index(np.argmax(values), values.shape)
    if not np.isfinite(values[first, last]):
        return -np.inf, ""
    opening, closing = feature.offsets[starts[first]], feature.offsets[ends[last]]
    if opening is None or closing is None:
        return -np.inf, ""
    return float(values[first, last]), context[opening[0] : closing[1]]
