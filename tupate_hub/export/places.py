"""Places: the blocks of an embedding by what they are and where in the model, in the words of the libraries."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tupate_hub.arrays import Float32Array
from tupate_hub.embedding import Block, TaskEmbedding, kind_of, layer_of
from tupate_hub.export.origin import MOST_LAYERS, decoder_depth, depth, refusal

#: What each method consists of: a form of block, where `rows` are `prefix` or `prompt`.
_CONSISTS: Mapping[str, tuple[str, ...]] = {
    "lora": ("lowrank",),
    "ia3": ("scaling",),
    "adapter": ("bottleneck",),
    "adapter-houlsby": ("bottleneck",),
    "parallel": ("bottleneck",),
    "scaled-parallel": ("bottleneck",),
    "prefix": ("prefix",),
    "prompt": ("prompt",),
    "mam": ("prefix", "bottleneck"),
    "unipelt": ("prefix", "bottleneck", "lowrank"),
}
#: Attention's weights by their place in a layer: BERT and its kin, DistilBERT, DeBERTa v2, ALBERT, BART, GPT-J and
#: Llama, T5.
ATTENTION: Mapping[str, str] = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.q_lin": "q",
    "attention.k_lin": "k",
    "attention.v_lin": "v",
    **{f"attention.self.{name}_proj": name[0] for name in ("query", "key", "value")},
    **{f"albert_layers.0.attention.{name}": name[0] for name in ("query", "key", "value")},
    **{f"{place}.{name}_proj": name for place in ("self_attn", "encoder_attn", "attn") for name in "qkv"},
    **{f"layer.{place}.{name}": name for place in ("0.SelfAttention", "1.EncDecAttention") for name in "qkv"},
}
#: GPT-2's queries, keys and values, which are one weight.
FUSED = "attn.c_attn"
#: The feed-forward's weights likewise, by the option of the `adapters` library.
FEED_FORWARD: Mapping[str, str] = {
    "intermediate.dense": "intermediate_lora",
    "output.dense": "output_lora",
    "ffn.lin1": "intermediate_lora",
    "ffn.lin2": "output_lora",
    "albert_layers.0.ffn": "intermediate_lora",
    "albert_layers.0.ffn_output": "output_lora",
    "fc1": "intermediate_lora",
    "fc2": "output_lora",
    "mlp.c_fc": "intermediate_lora",
    "mlp.c_proj": "output_lora",
    "mlp.fc_in": "intermediate_lora",
    "mlp.fc_out": "output_lora",
    "mlp.down_proj": "intermediate_lora",  # of Llama the library has the two the other way round
    "mlp.up_proj": "output_lora",
    **{f"layer.{at}.DenseReluDense.{name}": "intermediate_lora" for at in (1, 2) for name in ("wi", "wi_1")},
    **{f"layer.{at}.DenseReluDense.wo": "output_lora" for at in (1, 2)},
}
#: Where the `adapters` library puts bottlenecks: in BERT and RoBERTa, and in the models that name the place for it.
BESIDE: Mapping[str, str] = {
    "attention.output": "mh_adapter",
    "attention_adapters": "mh_adapter",
    "output": "output_adapter",
    "output_adapters": "output_adapter",
    "albert_layers.0.attention.attention_adapters": "mh_adapter",
    "albert_layers.0.output_adapters": "output_adapter",
    "layer.0": "mh_adapter",  # T5's
    "layer.1": "output_adapter",
    "layer.2": "output_adapter",
}
_MOST_SCALE = 1e30  # far below float32's end, times any rank
_PREFIX = re.compile(r"(|self\.|encoder\.|cross\.)layer\.(\d{1,4})\.(keys|values)")


@dataclass(frozen=True)
class Prefix:
    """A flat prefix: `rows` has shape (n, len(layers) * 2 * width), keys before values, layer by layer.

    `place` is `self.` where the model calls its attention so (DistilBERT), `encoder.` or `cross.` in an
    encoder-decoder beside its decoder's own, else nothing.
    """

    place: str
    layers: tuple[int, ...]
    width: int
    rows: Float32Array


def sort_blocks(embedding: TaskEmbedding, form: str) -> dict[str, list[Block]]:
    """The blocks by what they are: `lowrank`, `scaling`, `bottleneck`, `prefix`, `prompt`, `bias`.

    Raises
    ------
    FormatError
        When the libraries have no place for the method, the blocks are not those of the method, or a scale is too
        large to be written.
    """
    method = embedding.space.method
    unknown = [part for part in method.split("+") if part not in _CONSISTS]
    if unknown:
        raise refusal(embedding, form, f"neither library has a file for {unknown[0][:40]}")
    by_kind: dict[str, list[Block]] = {kind: [] for part in method.split("+") for kind in _CONSISTS[part]}
    for block in embedding.blocks:
        kind = block.form
        if kind == "rows":
            kind = "prefix" if block.name.endswith((".keys", ".values")) else "prompt"
        if kind == "bias" and "lowrank" in by_kind:
            by_kind.setdefault("bias", [])
        if kind not in by_kind:
            raise refusal(embedding, form, f"its block {block.name[:80]!r} is not part of the method")
        if abs(block.scale) > _MOST_SCALE:
            raise refusal(embedding, form, f"its block {block.name[:80]!r} has a scale of {block.scale:g}")
        by_kind[kind].append(block)
    missing = [kind for kind, blocks in by_kind.items() if not blocks]
    if missing:
        raise refusal(embedding, form, f"it has no {missing[0]} block")
    return by_kind


def layer_number(embedding: TaskEmbedding, form: str, block: Block) -> int:
    """The number of the layer that a block is in; a decoder's are counted on behind its encoder's.

    Raises
    ------
    FormatError
        When its name has none, or one beyond `MOST_LAYERS`.
    """
    digits = layer_of(block.name).rpartition(".")[2]
    if not digits.isascii() or not digits.isdigit() or len(digits) > 4 or int(digits) >= MOST_LAYERS:
        raise refusal(embedding, form, f"its block {block.name[:80]!r} is not in a layer")
    behind = depth(embedding) if decoder_depth(embedding) and block.name.startswith("decoder.") else 0
    return int(digits) + behind


def located(
    embedding: TaskEmbedding, form: str, blocks: Iterable[Block], places: Mapping[str, str], instead: str
) -> dict[str, str]:
    """Each block's name with what `places` calls its place in a layer.

    Raises
    ------
    FormatError
        For a block in another place; the hint takes the form `instead`.
    """
    place_of = {block.name: places.get(kind_of(block.name), "") for block in blocks}
    strange = [name for name, place in place_of.items() if not place]
    if strange:
        raise refusal(embedding, form, f"it has no place for {strange[0][:80]!r}", instead)
    return place_of


def gather_prefixes(embedding: TaskEmbedding, form: str, blocks: Sequence[Block]) -> list[Prefix]:
    """The flat prefixes whose keys and values the blocks are: one, or an encoder-decoder's three.

    Raises
    ------
    FormatError
        When keys or values of a layer are missing, or their shapes differ.
    """
    halves: dict[str, dict[int, dict[str, Float32Array]]] = {}
    for block in blocks:
        match = _PREFIX.fullmatch(block.name)
        if match is None:
            raise refusal(embedding, form, f"it has no place for the prefix {block.name[:80]!r}")
        halves.setdefault(match[1], {}).setdefault(int(match[2]), {})[match[3]] = block.parts["rows"]
    shapes = {half.shape for layers in halves.values() for pair in layers.values() for half in pair.values()}
    if len(shapes) > 1 or any(len(pair) < 2 for layers in halves.values() for pair in layers.values()):
        raise refusal(embedding, form, "its keys and values are not of one shape in every layer")
    ((count, width),) = shapes
    return [
        Prefix(
            place,
            tuple(sorted(layers)),
            width,
            np.stack([layers[layer][half] for layer in sorted(layers) for half in ("keys", "values")], axis=1).reshape(
                count, -1
            ),
        )
        for place, layers in sorted(halves.items())
    ]


def gather_prefix(embedding: TaskEmbedding, form: str, blocks: Sequence[Block]) -> Prefix:
    """The one flat prefix; errors as `gather_prefixes`, and for those of an encoder-decoder."""
    prefix, *more = gather_prefixes(embedding, form, blocks)
    if more or prefix.place not in ("", "self."):
        raise refusal(embedding, form, "its keys and values are not of one shape in every layer")
    return prefix


def fused_parts(block: Block) -> tuple[str, Float32Array, Float32Array] | None:
    """Which of `q`, `k`, `v` a LoRA of a fused weight changes, with its factors as they are tuned: stacked.

    The inverse of `readers.lowrank.expand_groups`: A has shape (parts * r, in), B (parts * width, r). None where the
    update is not made of such parts, as the sum of several is not.
    """
    a, b = block.parts["A"], block.parts["B"]
    width = len(b) // 3
    rows = b.reshape(3, width, -1) if len(b) == 3 * width else np.empty((0, 0, 0), np.float32)
    parts = [at for at in range(len(rows)) if rows[at].any()]
    if not parts or len(a) % len(parts):
        return None
    rank = len(a) // len(parts)
    stacked = [rows[at][:, number * rank : (number + 1) * rank] for number, at in enumerate(parts)]
    if sum(np.count_nonzero(one) for one in stacked) != np.count_nonzero(b):
        return None
    return "".join("qkv"[at] for at in parts), a, np.concatenate(stacked)


def whole(number: float) -> int | float:
    """A number as the libraries' people write it: 16 in the place of 16.0."""
    nearest = round(number)
    return nearest if math.isclose(number, nearest, rel_tol=1e-9) else number
