"""Architecture: the shapes of a model's weights that its configuration alone tells, for models without a header.

Names of fields and of modules as in transformers 4.57's models (`configuration_*.py`, `modeling_*.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Shape = tuple[int, int]

_HIDDEN = ("hidden_size", "n_embd", "d_model", "dim", "n_embed")
_INNER = ("intermediate_size", "n_inner", "d_ff", "ffn_dim", "encoder_ffn_dim", "hidden_dim")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers")
_DECODER_LAYERS = ("num_decoder_layers", "decoder_layers")
_HEAD_WIDTH = ("head_dim", "d_kv")
_MOST = 2**31

#: The last part of a block's name, and which (out, in) its weight has.
_QUERY = ("q_proj", "query", "q_lin", "q")
_KEY_VALUE = ("k_proj", "v_proj", "key", "value", "k_lin", "v_lin", "k", "v")
_OUTPUT = ("o_proj", "out_lin", "o")
_UP = ("gate_proj", "up_proj", "c_fc", "lin1", "fc1", "wi", "wi_0", "wi_1")
_DOWN = ("down_proj", "lin2", "fc2", "wo")


def text_model(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration about the language model: `text_config` of models that see or hear as well."""
    inside = config.get("text_config")
    return inside if isinstance(inside, dict) else config


def size_of(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """The first of these fields that is a natural number."""
    values = (text_model(config).get(name) for name in names)
    return next((value for value in values if type(value) is int and 0 < value < _MOST), None)


def width_of(config: Mapping[str, Any]) -> int | None:
    """How wide the model's hidden states are."""
    return size_of(config, _HIDDEN)


def layers_of(config: Mapping[str, Any], block: str = "") -> int | None:
    """How many layers the model has; of one with a decoder apart, the stack that a block belongs to by its name."""
    decoder = size_of(config, _DECODER_LAYERS) if block.startswith("decoder.") else None
    return decoder or size_of(config, _LAYERS)


def lacks_layer(config: Mapping[str, Any], block: str) -> bool:
    """Whether the number in a block's name is beyond the model's layers, as far as the configuration tells."""
    layers = layers_of(config, block)
    numbers = [int(piece) for piece in block.split(".") if piece.isdecimal() and len(piece) < 6]
    return layers is not None and bool(numbers) and numbers[0] >= layers


def vocabulary_of(config: Mapping[str, Any]) -> int | None:
    """How many tokens the model's embedding has rows for."""
    return size_of(config, ("vocab_size",))


def shape_of(config: Mapping[str, Any], block: str) -> Shape | None:
    """The (out, in) of the weight of a block, by its name; None where name and configuration do not tell."""
    width, heads = width_of(config), size_of(config, _HEADS)
    if width is None or heads is None:
        return None
    each = size_of(config, _HEAD_WIDTH) or width // heads
    inner = size_of(config, _INNER) or 4 * width
    last = block.rpartition(".")[2]
    if last in _QUERY:
        return heads * each, width
    if last in _KEY_VALUE:
        return (size_of(config, ("num_key_value_heads",)) or heads) * each, width
    if last in _OUTPUT or block.endswith("attention.output.dense"):
        return width, heads * each
    if last == "c_attn":
        return 3 * width, width
    if last in _UP or block.endswith("intermediate.dense"):
        return inner, width
    return (width, inner) if last in _DOWN else None
