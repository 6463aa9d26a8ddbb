"""Models small enough to be made in a test: BERT and its kin, a GPT-2, a T5, with random weights; how to shake them."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import torch

WIDTH, LAYERS = 32, 2
_SIZES = {
    "vocab_size": 50,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}


@cache
def _made(kind: str) -> Any:
    import transformers as t

    torch.manual_seed(7)
    if kind == "bert":
        model = t.BertForSequenceClassification(t.BertConfig(**_SIZES, max_position_embeddings=32))
    elif kind == "gpt2":
        gpt2 = t.GPT2Config(vocab_size=50, n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=32)
        model = t.GPT2LMHeadModel(gpt2)
    elif kind in ("roberta", "distilbert"):
        model = _small_encoder(t, kind)
    else:
        t5 = t.T5Config(vocab_size=50, d_model=WIDTH, d_kv=8, d_ff=64, num_layers=LAYERS, num_heads=4)
        model = t.T5ForConditionalGeneration(t5)
    shake(model.parameters())
    return model.eval()


def _small_encoder(t: Any, kind: str) -> Any:
    if kind == "roberta":
        return t.RobertaForSequenceClassification(t.RobertaConfig(**_SIZES, max_position_embeddings=34))
    distilbert = t.DistilBertConfig(
        vocab_size=50, dim=WIDTH, n_layers=LAYERS, n_heads=4, hidden_dim=64, max_position_embeddings=32
    )
    return t.DistilBertForSequenceClassification(distilbert)


def tiny(kind: str) -> Any:
    """A fresh copy of the tiny model of that kind: bert, roberta, distilbert, gpt2 or t5."""
    return copy.deepcopy(_made(kind))


def shake(parameters: Any, seed: int = 3) -> None:
    """Add noise in place, so that nothing is left zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.add_(noise.to(parameter.dtype))


def weights(model: Any) -> dict[str, np.ndarray]:
    """Every parameter as float32, by name, the names of wrapped layers as they were."""
    return {
        name.replace(".base_layer", ""): value.detach().float().numpy().copy()
        for name, value in model.state_dict().items()
    }
