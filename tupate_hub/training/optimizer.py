"""Optimizer: AdamW with a rate of its own for the head, and the loss that it makes smaller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from tupate_hub.data.dataset import TaskData
from tupate_hub.errors import FormatError
from tupate_hub.runrecord import Regime
from tupate_hub.training.model import is_head


def make_optimizer(tuned: Mapping[str, torch.Tensor], regime: Regime) -> torch.optim.Optimizer:
    """AdamW without weight decay for the tuned parameters, by name; the head learns `head_factor` times as fast."""
    groups = [
        {"params": [value for name, value in tuned.items() if not is_head(name)], "factor": 1.0},
        {"params": [value for name, value in tuned.items() if is_head(name)], "factor": regime.head_factor},
    ]
    return torch.optim.AdamW(groups, lr=regime.learning_rate, weight_decay=0.0)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = group["factor"] * rate


def balanced_weights(data: TaskData) -> torch.Tensor:
    """A weight for each class, so that all of them weigh the same in the loss: n / (classes * examples of the class).

    As scikit-learn's `class_weight="balanced"` (King and Zeng 2001); 1 for a class that no training example has.

    Raises
    ------
    FormatError
        For a task without classes.
    """
    if data.kind != "classification":
        raise FormatError(f"{data.name} is {data.kind}: only classes can be weighed.", hint="leave out `class_weights`")
    counts = Counter(example["label"] for example in data.train)
    size, classes = len(data.train), len(data.label_names)
    return torch.tensor([size / (classes * counts[label]) if counts[label] else 1.0 for label in range(classes)])


def loss_of(output: Any, labels: torch.Tensor | None, weights: torch.Tensor | None) -> Any:
    """The model's own loss, or the weighed mean of the cross-entropy where classes have weights."""
    if weights is None or labels is None:
        return output.loss
    return torch.nn.functional.cross_entropy(output.logits.float(), labels, weights.to(labels.device))
