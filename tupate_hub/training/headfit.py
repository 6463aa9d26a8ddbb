"""Head fit: a linear head for parameters that are tuned already, on the states that they give.

The parameters stand still, so the states are computed once, and what is left is convex: a softmax regression of the
task's kind (least squares for amounts) with a penalty on the squared weights, minimised by L-BFGS. Of several penalties
the one with the smallest loss on the held-out part is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, mse_loss

from tupate_hub.data.dataset import Example, TaskData
from tupate_hub.head import Head, make_head
from tupate_hub.training.features import Feature, thin_empty_windows
from tupate_hub.training.tuned import Tuned

#: From strong to weak: each starts where the one before has ended.
PENALTIES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
_MOST_STEPS = 50
_MOST_LOGITS = 1_500_000  # of words: a step with a hundred tags would take a second otherwise
_NOTHING = -1e4  # a logit of padding

Weights = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Part:
    """States and their labels: rows (rows, ..., width) with `labels` (rows,), of spans (rows, 2).

    `mask` is True where a row of several states has one (choices and tokens of spans have several).
    """

    states: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor | None = None


def fit_head(tuned: Tuned, data: TaskData, most_examples: int, most_tokens: int) -> Head:
    """The head of a tuned model, fitted to the first training examples: so many, or so many tokens, at most.

    The result has the facts of `tuned.head`, and under `fitted` how many examples it was fitted to, the penalty and the
    held-out loss.
    """
    examples = _within(tuned, data.train[:most_examples], most_tokens)
    train, held = (part_of(tuned, data, part) for part in (examples, data.held_out))
    outputs = 1 if data.kind == "multiple_choice" else data.num_labels
    if data.kind == "token_classification":
        rows = _MOST_LOGITS // outputs
        train = Part(train.states[:rows], train.labels[:rows])
    weight, bias, facts = fit(data.kind, train, held, outputs)
    fitted = {"examples": len(examples), **facts}
    return make_head(
        data.name,
        data.kind,
        tuned.head.label_names,
        [(weight, bias)],
        facts={**tuned.head.facts, "fitted": fitted},
    )


def _within(tuned: Tuned, examples: Sequence[Example], most_tokens: int) -> Sequence[Example]:
    features = tuned.features(examples)
    used = np.zeros(len(examples))
    for feature in features:
        used[feature.example] += sum(map(len, feature.ids))
    return examples[: max(1, int(np.searchsorted(np.cumsum(used), most_tokens)))]


def part_of(tuned: Tuned, data: TaskData, examples: Sequence[Example]) -> Part:
    """The states that the model gives of examples, with their labels."""
    features = tuned.features(examples)
    if data.kind == "extractive_qa":
        features = thin_empty_windows(features, examples)
    found = {position: state.float() for position, state in tuned.states(features)}
    states = [found[position] for position in range(len(features))]
    return _PARTS.get(data.kind, _of_rows)(features, states)


def _of_rows(features: Sequence[Feature], states: Sequence[torch.Tensor]) -> Part:
    """One state and one label a row: classes, amounts and, of choices, several states."""
    return Part(torch.stack(list(states)), torch.tensor([feature.labels["labels"] for feature in features]))


def _of_words(features: Sequence[Feature], states: Sequence[torch.Tensor]) -> Part:
    """A row for each word that has a tag."""
    labels = [torch.tensor(feature.labels["labels"]) for feature in features]
    rows = [state[: len(tags)][tags >= 0] for state, tags in zip(states, labels, strict=True)]
    return Part(torch.cat(rows), torch.cat([tags[tags >= 0] for tags in labels]))


def _of_windows(features: Sequence[Feature], states: Sequence[torch.Tensor]) -> Part:
    """A row for each window, with all its tokens; labels are the tokens of start and end."""
    lengths = [feature.length for feature in features]
    padded = torch.zeros(len(states), max(lengths), states[0].shape[-1])
    mask = torch.zeros(padded.shape[:2], dtype=torch.bool)
    for row, (state, length) in enumerate(zip(states, lengths, strict=True)):
        padded[row, :length] = state[:length]
        mask[row, :length] = True
    ends = [(feature.labels["start_positions"], feature.labels["end_positions"]) for feature in features]
    return Part(padded, torch.tensor(ends), mask)


_PARTS: Mapping[str, Callable[[Sequence[Feature], Sequence[torch.Tensor]], Part]] = {
    "token_classification": _of_words,
    "extractive_qa": _of_windows,
}


def fit(kind: str, train: Part, held: Part, outputs: int) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Weight (outputs, width) and bias (outputs,) of the head, and its `penalty` and `held_out_loss`.

    The problem is solved in centred states of one variance and, for amounts, in labels of mean 0 and variance 1; what
    is returned reads the states themselves and gives the amounts themselves.
    """
    flat = train.states[train.mask] if train.mask is not None else train.states.flatten(0, -2)
    center, spread = flat.mean(0), (flat - flat.mean(0)).square().mean().sqrt()
    middle, unit = _units(train.labels) if kind == "regression" else (0.0, 1.0)
    parts = [
        replace(
            part,
            states=(part.states - center) / spread,
            labels=(part.labels - middle) / unit if kind == "regression" else part.labels,
        )
        for part in (train, held)
    ]
    best: tuple[float, float, Weights] | None = None
    weights = torch.zeros(outputs, center.numel()), torch.zeros(outputs)
    for penalty in PENALTIES:
        weights = _minimised(kind, parts[0], weights, penalty)
        with torch.no_grad():
            loss = float(_LOSSES.get(kind, _of_classes)(parts[1], *weights))
        if best is None or loss < best[0]:
            best = loss, penalty, weights
        else:  # weaker penalties fit the training part alone
            break
    loss, penalty, (weight, bias) = best or (float("nan"), 0.0, weights)
    weight = unit * weight / spread
    bias = unit * bias + middle - weight @ center
    return weight.numpy(), bias.numpy(), {"penalty": penalty, "held_out_loss": round(loss, 4)}


def _units(labels: torch.Tensor) -> tuple[float, float]:
    deviation = float(labels.std())
    return float(labels.mean()), deviation if deviation > 0 else 1.0


def _minimised(kind: str, part: Part, start: Weights, penalty: float) -> Weights:
    weight, bias = (value.clone().requires_grad_() for value in start)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_MOST_STEPS, history_size=20, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )
    loss_of = _LOSSES.get(kind, _of_classes)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = loss_of(part, weight, bias) + penalty / 2 * weight.square().sum() / weight.shape[1]
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()


def _of_classes(part: Part, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return cross_entropy(part.states @ weight.T + bias, part.labels)


def _of_amounts(part: Part, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return mse_loss(part.states @ weight[0] + bias[0], part.labels)


def _of_choices(part: Part, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return cross_entropy(part.states @ weight[0], part.labels)


def _of_spans(part: Part, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    logits = part.states @ weight.T + bias
    if part.mask is not None:
        logits = logits.masked_fill(~part.mask[:, :, None], _NOTHING)
    return (cross_entropy(logits[:, :, 0], part.labels[:, 0]) + cross_entropy(logits[:, :, 1], part.labels[:, 1])) / 2


_LOSSES: Mapping[str, Callable[[Part, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "regression": _of_amounts,
    "multiple_choice": _of_choices,
    "extractive_qa": _of_spans,
}
