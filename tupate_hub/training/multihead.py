"""Multi-head parallel adapter (He et al. 2022, section 4.6 and table 5): one small adapter beside each attention head.

For head i with query q = x W_q, the head's output gains f(q P_k^T / sqrt(d_h)) P_v before the output projection. With a
softmax in the place of the ReLU f, and the gate of equation 7, this is prefix tuning.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tupate_hub.errors import FormatError

#: The module's name inside an attention layer.
ATTRIBUTE = "multihead_parallel"


class MultiheadParallel(nn.Module):  # type: ignore[misc]  # torch is not followed
    """Keys and values of all heads of one layer, each of shape (tokens, width). Values start at zero."""

    def __init__(self, tokens: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.keys = nn.Parameter(torch.randn(tokens, width))
        self.values = nn.Parameter(torch.zeros(tokens, width))

    def forward(self, query: Tensor, activation: Callable[[Tensor], Tensor] = torch.relu) -> Tensor:
        """What is added to the heads' outputs; `query`, of shape (batch, length, width), and the result are alike."""
        query, keys, values = (self._by_head(part) for part in (query, self.keys, self.values))
        inner = activation(query @ keys.transpose(-1, -2) / math.sqrt(keys.shape[-1]))
        return (inner @ values).transpose(-3, -2).flatten(-2)

    def _by_head(self, part: Tensor) -> Tensor:
        """(..., rows, width) as (..., heads, rows, width / heads)."""
        return part.unflatten(-1, (self.heads, -1)).transpose(-3, -2)


def add_multihead_parallel(model: Any, tokens: int) -> None:
    """Put the adapter beside the self-attention of every layer of a BERT-like encoder, by hooks.

    Raises
    ------
    FormatError
        When the model's attention has no modules `query` and `value`.
    """
    config = model.config
    places = [module for module in model.modules() if hasattr(module, "query") and hasattr(module, "value")]
    if not places:
        raise FormatError(
            f"multihead-parallel cannot be put into a {config.model_type} model: it has no attention like BERT's.",
            hint="take another method, such as `method='prefix'`",
        )
    for module in places:
        adapter = MultiheadParallel(tokens, config.hidden_size, config.num_attention_heads)
        module.add_module(ATTRIBUTE, adapter)
        _attach(module, adapter)


def _attach(attention: Any, adapter: MultiheadParallel) -> None:
    seen: list[Tensor] = []

    def keep_query(module: Any, inputs: Any, output: Tensor) -> None:
        seen[:] = [output]

    def add(module: Any, inputs: Any, output: Any) -> Any:
        heads, *rest = output
        return (heads + adapter(seen.pop()), *rest)

    attention.query.register_forward_hook(keep_query)
    attention.register_forward_hook(add)
