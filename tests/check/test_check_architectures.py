"""Names and shapes of base models as configuration and header tell them, against transformers' own models."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel
from transformers.pytorch_utils import Conv1D

from tupate_hub.check.architecture import shape_of
from tupate_hub.check.basemodel import BaseModel, Weight
from tupate_hub.readers.names import block_name

_BERT = {"hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 40, "num_hidden_layers": 2, "vocab_size": 30}
_BART = {
    "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "vocab_size": 30,
}  # fmt: skip
#: Each model's configuration, and how many of its linear layers the configuration alone tells.
MODELS: dict[str, tuple[dict[str, Any], int]] = {
    "bert": (_BERT, 10),
    "distilbert": ({"dim": 24, "n_heads": 4, "hidden_dim": 40, "n_layers": 2, "vocab_size": 30}, 12),
    "gpt2": ({"n_embd": 24, "n_head": 4, "n_layer": 2, "vocab_size": 30}, 4),
    "qwen3": ({**_BERT, "num_key_value_heads": 2, "head_dim": 8}, 14),
    "t5": ({"d_model": 24, "d_kv": 8, "d_ff": 40, "num_heads": 4, "num_layers": 2, "num_decoder_layers": 3}, 42),
    "bart": (_BART, 34),
}


@pytest.mark.parametrize("kind", MODELS)
def test_shapes_are_those_of_the_model(kind: str) -> None:
    options, told = MODELS[kind]
    config = AutoConfig.for_model(kind, **options)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    weights = {block_name(key): Weight(tuple(one.shape), "F32", key) for key, one in model.state_dict().items()}
    bare, known = BaseModel("config", config.to_dict()), BaseModel("header", config.to_dict(), weights)
    found = 0
    for name, module in model.named_modules():
        if not isinstance(module, (torch.nn.Linear, Conv1D)):
            continue
        block = block_name(name)
        real = tuple(module.weight.shape)[:: -1 if isinstance(module, Conv1D) else 1]
        assert known.shape(block) == real, block
        assert shape_of(config.to_dict(), block) in (None, real), block
        assert not bare.lacks(block) and not known.lacks(block), block
        found += shape_of(config.to_dict(), block) is not None
    assert found == told
    assert bare.vocabulary == known.vocabulary == config.vocab_size
    beyond = re.sub(
        r"\.1\.", ".9.", next(name for name in sorted(known.modules) if re.match(r"\D+\.1\.", name)), count=1
    )
    assert bare.lacks(beyond) and known.lacks(beyond)
