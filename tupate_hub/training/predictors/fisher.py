"""TaskEmb: the diagonal empirical Fisher information of a tuned model's activations (Vu et al. 2020, arXiv:2005.00770).

The authors' code sums the gradient of a batch's loss over its tokens, squares the sum and divides by the number of
tokens; so does this, and beside it the same with every example a batch of its own, which few examples estimate with
less noise and which costs nothing more. Gradients are taken with true labels. The zoo keeps no heads: a linear head is
fitted first, on the frozen model's states of the same examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.modeling_outputs import BaseModelOutput

from tupate_hub.arrays import Float32Array
from tupate_hub.training.batches import Batch, collate, grouped_batches
from tupate_hub.training.features import encode, thin_empty_windows, with_scaled_labels
from tupate_hub.training.model import is_head
from tupate_hub.training.precision import half_precision
from tupate_hub.training.predictors.subject import SEED, Arrays, Subject, few_examples, tuned_model
from tupate_hub.training.protocol import PROTOCOLS
from tupate_hub.training.warmstart import method_of

_EPOCHS, _RATE = 10, 1e-2
_LABELS = ("labels", "start_positions", "end_positions")


def fisher(subject: Subject) -> Arrays:
    """Fisher information of each layer's output and of the first token's last state, each of shape (width,).

    Up to 200 examples, a batch of 16 (8 for spans and choices) at a time. By batches: `layer.0`, ..., `cls`; by
    examples: `example.layer.0`, ..., `example.cls`.
    """
    model = tuned_model(subject.base, subject.data, subject.source)
    batches = _batches(subject)
    _fit_head(model, batches)
    return fisher_of(model, batches)


def fisher_of(model: Any, batches: list[Batch]) -> Arrays:
    """The squared gradients of batches, and of their examples, at a model's layers, summed."""
    layers = model.config.num_hidden_layers
    sums: dict[str, Float32Array] = {}
    with sdpa_kernel(SDPBackend.MATH):
        for batch in batches:
            with half_precision(model.device):
                output = model(**batch, output_hidden_states=True)
            hidden = output.hidden_states[-layers:]
            gradients = torch.autograd.grad(output.loss, hidden)
            for name, value in _squares(gradients, batch["attention_mask"]).items():
                sums[name] = sums.get(name, 0) + value.numpy()
    return sums


def _squares(gradients: Sequence[torch.Tensor], mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """The squared gradients of one batch; those of its loss, the mean over examples, are an example's over the size.

    The choices of an example are squared apart: a linear head's gradients at their first tokens sum to 0.
    """
    size, found = len(mask), {}
    tokens = _sequences(mask).sum(1).float()
    for n, gradient in enumerate(gradients):
        rows = (gradient.float() * _sequences(mask)[..., None]).sum(1)
        found[f"layer.{n}"] = _over_examples(rows, size) / tokens.sum()
        found[f"example.layer.{n}"] = ((size * rows) ** 2 / tokens[:, None]).sum(0)
    rows = gradients[-1][:, 0].float()
    return found | {"cls": _over_examples(rows, size), "example.cls": ((size * rows) ** 2).sum(0)}


def _over_examples(rows: torch.Tensor, size: int) -> torch.Tensor:
    """The square of the sum over a batch's examples, summed over the choices, where there are any."""
    return (rows.reshape(size, -1, rows.shape[1]).sum(0) ** 2).sum(0)


def _batches(subject: Subject) -> list[Batch]:
    """The task's few examples, each once."""
    data = few_examples(subject.data)
    regime = PROTOCOLS["few-shot"].regime(data.kind, method_of(subject.source), SEED)
    features = encode(
        subject.tokenizer, data.kind, data.train, min(regime.max_length, int(subject.tokenizer.model_max_length))
    )
    if data.kind == "extractive_qa":
        features = thin_empty_windows(features, data.train)[: len(data.train)]
    if data.kind == "regression":
        features = with_scaled_labels(features, data.center, data.spread)
    batches = grouped_batches(features, regime.batch_size, SEED)
    few = islice(batches, math.ceil(len(features) / regime.batch_size))
    return [collate(batch, subject.tokenizer.pad_token_id) for batch in few]


def _fit_head(model: Any, batches: list[Batch]) -> None:
    """Ten passes of Adam over the head alone, on states that are computed once."""
    seen = [_last_states(model, batch) for batch in batches]
    head = [value for name, value in model.named_parameters() if is_head(name)]
    optimizer = torch.optim.Adam(head, lr=_RATE)
    for _ in range(_EPOCHS):
        for hidden, batch in zip(seen, batches, strict=True):
            labels = {name: batch[name] for name in _LABELS if name in batch}
            mask = _sequences(batch["attention_mask"])
            output = model.forward_head(BaseModelOutput(hidden), attention_mask=mask, return_dict=True, **labels)
            optimizer.zero_grad(set_to_none=True)
            output.loss.backward()
            optimizer.step()


def _last_states(model: Any, batch: Batch) -> torch.Tensor:
    inputs = {name: value for name, value in batch.items() if name not in _LABELS}
    with torch.no_grad(), half_precision(model.device):
        hidden: torch.Tensor = model(**inputs, output_hidden_states=True).hidden_states[-1]
    return hidden.float()


def _sequences(mask: torch.Tensor) -> torch.Tensor:
    """A mask of shape (sequences, length), whatever rows the sequences are in."""
    return mask.reshape(-1, mask.shape[-1])
