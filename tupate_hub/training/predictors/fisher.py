"""TaskEmb: the diagonal empirical Fisher information of a tuned model's activations (Vu et al. 2020, arXiv:2005.00770).

The authors' code sums the gradient of a batch's loss over its tokens, squares the sum and divides by the number of
tokens; so does this. Gradients are taken with true labels. The zoo keeps no heads: a linear head is fitted first, on
the frozen model's states of the same examples.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.modeling_outputs import BaseModelOutput

from tupate_hub.arrays import Float32Array
from tupate_hub.training.features import Batch, collate, encode, grouped_batches, thin_empty_windows, with_scaled_labels
from tupate_hub.training.model import is_head
from tupate_hub.training.predictors.subject import SEED, Arrays, Subject, few_examples, tuned_model
from tupate_hub.training.transfer import PROTOCOLS
from tupate_hub.training.warmstart import method_of

_EPOCHS, _RATE = 10, 1e-2
_LABELS = ("labels", "start_positions", "end_positions")


def fisher(subject: Subject) -> Arrays:
    """Fisher information of each layer's output and of the first token's last state, each of shape (width,).

    Up to 200 examples, a batch of 16 (8 for spans and choices) at a time.
    """
    model = tuned_model(subject.base, subject.data, subject.source)
    batches = _batches(subject)
    _fit_head(model, batches)
    return fisher_of(model, batches)


def fisher_of(model: Any, batches: list[Batch]) -> Arrays:
    """The squared gradients of batches at a model's layers, summed over the batches: `layer.0`, ..., and `cls`."""
    layers = model.config.num_hidden_layers
    sums: dict[str, Float32Array] = {}
    with sdpa_kernel(SDPBackend.MATH):
        for batch in batches:
            with torch.autocast(model.device.type, dtype=torch.bfloat16):
                output = model(**batch, output_hidden_states=True)
            hidden = output.hidden_states[-layers:]
            gradients = torch.autograd.grad(output.loss, hidden)
            mask = _sequences(batch["attention_mask"])[..., None].float()
            tokens = float(mask.sum())
            found = {f"layer.{n}": (one.float() * mask).sum((0, 1)) ** 2 / tokens for n, one in enumerate(gradients)}
            found["cls"] = gradients[-1][:, 0].float().sum(0) ** 2
            sums = {name: sums.get(name, 0) + value.numpy() for name, value in found.items()}
    return sums


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
    with torch.no_grad(), torch.autocast(model.device.type, dtype=torch.bfloat16):
        hidden: torch.Tensor = model(**inputs, output_hidden_states=True).hidden_states[-1]
    return hidden.float()


def _sequences(mask: torch.Tensor) -> torch.Tensor:
    """A mask of shape (sequences, length), whatever rows the sequences are in."""
    return mask.reshape(-1, mask.shape[-1])
