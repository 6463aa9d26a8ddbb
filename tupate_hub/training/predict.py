"""Prediction: what a tuned model says of one input, in words: a label with its probability, an amount, a text, tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tupate_hub.arrays import Float32Array, Float64Array
from tupate_hub.data.dataset import Example
from tupate_hub.evaluation.spans import tagged_spans
from tupate_hub.head import Head


@dataclass(frozen=True)
class Span:
    """Tagged words: their type, their text, and the numbers of the first word and of the one after the last."""

    type: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Prediction:
    """What a model answers.

    Attributes
    ----------
    answer : str, float or list of str
        The name of a class, an amount, the text of a choice or of an answer ("" for none), a tag for each word, or the
        labels of a text that may have several.
    probability : float, optional
        Of that class or choice, by the softmax of the logits; a model that was tuned on little data is often too sure.
    probabilities : mapping of str to float
        Of all classes; of choices by their numbers from 0; of labels that do not exclude one another each for itself,
        by the logistic function.
    choice : int, optional
        The number of the choice, from 0.
    spans : tuple of Span
        What the tags mark.
    """

    answer: Any
    probability: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    choice: int | None = None
    spans: tuple[Span, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Its fields as JSON has them; what does not belong to the kind of task is left out."""
        fields: dict[str, Any] = {"answer": self.answer}
        if self.probability is not None:
            fields["probability"] = round(self.probability, 4)
        if self.probabilities:
            fields["probabilities"] = {name: round(value, 4) for name, value in self.probabilities.items()}
        elif isinstance(self.answer, list):
            fields["spans"] = [vars(span) for span in self.spans]
        if self.choice is not None:
            fields["choice"] = self.choice
        return fields


def prediction(head: Head, example: Example, label: Any, logits: Float32Array | None) -> Prediction:
    """What a label means, as `read_logits` has made it of an example; `logits` are those of classes or choices."""
    if head.kind == "token_classification":
        words = example["tokens"]
        marked = sorted(tagged_spans(label), key=lambda span: span[1])
        spans = (Span(kind, " ".join(words[start:end]), start, end) for kind, start, end in marked)
        return Prediction(list(label), spans=tuple(spans))
    if head.kind in ("regression", "extractive_qa") or logits is None:
        return Prediction(label)
    if head.kind == "multi_label":
        each = 1 / (1 + np.exp(-np.asarray(logits, dtype=np.float64)))
        found = [name for name, is_so in zip(names_of(head), label, strict=True) if is_so]
        return Prediction(found, probabilities=dict(zip(names_of(head), map(float, each), strict=True)))
    shares = softmax(logits)
    names = example["choices"] if head.kind == "multiple_choice" else names_of(head)
    called = map(str, range(len(shares))) if head.kind == "multiple_choice" else names
    probabilities = dict(zip(called, map(float, shares), strict=True))
    choice = label if head.kind == "multiple_choice" else None
    return Prediction(names[label], float(shares[label]), probabilities, choice)


def names_of(head: Head) -> Sequence[str]:
    """The labels' names, or their numbers where a stranger gave them none."""
    return head.label_names or tuple(map(str, range(head.outputs)))


def softmax(logits: Float32Array) -> Float64Array:
    """Probabilities of shape (classes,), that add up to 1."""
    powers = np.exp(np.asarray(logits, dtype=np.float64) - np.max(logits))
    return np.asarray(powers / powers.sum())
