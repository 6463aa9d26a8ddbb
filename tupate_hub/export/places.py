"""Places: the blocks of an embedding by what they are and where in the model, in the words of the libraries."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tupate_hub.arrays import Float32Array
from tupate_hub.embedding import Block, TaskEmbedding, kind_of, layer_of
from tupate_hub.export.origin import MOST_LAYERS, refusal

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
#: Attention's weights by their place in a layer of BERT, RoBERTa and DistilBERT.
ATTENTION: Mapping[str, str] = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.q_lin": "q",
    "attention.k_lin": "k",
    "attention.v_lin": "v",
}
#: The feed-forward's weights likewise, by the option of the `adapters` library.
FEED_FORWARD: Mapping[str, str] = {
    "intermediate.dense": "intermediate_lora",
    "output.dense": "output_lora",
    "ffn.lin1": "intermediate_lora",
    "ffn.lin2": "output_lora",
}
#: Where the `adapters` library puts bottlenecks: in BERT and RoBERTa, and in the models that name the place for it.
BESIDE: Mapping[str, str] = {
    "attention.output": "mh_adapter",
    "attention_adapters": "mh_adapter",
    "output": "output_adapter",
    "output_adapters": "output_adapter",
}
_MOST_SCALE = 1e30  # far below float32's end, times any rank
_PREFIX = re.compile(r"(|self\.)layer\.(\d{1,4})\.(keys|values)")


@dataclass(frozen=True)
class Prefix:
    """A flat prefix: `rows` has shape (n, len(layers) * 2 * width), keys before values, layer by layer.

    `place` is `self.` where the model calls its attention so (DistilBERT), else nothing.
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
    """The number of the layer that a block is in.

    Raises
    ------
    FormatError
        When its name has none, or one beyond `MOST_LAYERS`.
    """
    digits = layer_of(block.name).rpartition(".")[2]
    if not digits.isascii() or not digits.isdigit() or len(digits) > 4 or int(digits) >= MOST_LAYERS:
        raise refusal(embedding, form, f"its block {block.name[:80]!r} is not in a layer")
    return int(digits)


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


def gather_prefix(embedding: TaskEmbedding, form: str, blocks: Sequence[Block]) -> Prefix:
    """The flat prefix whose keys and values the blocks are.

    Raises
    ------
    FormatError
        When keys or values of a layer are missing, their shapes differ, or they are an encoder-decoder's.
    """
    halves: dict[tuple[str, int], dict[str, Float32Array]] = {}
    for block in blocks:
        match = _PREFIX.fullmatch(block.name)
        if match is None:
            raise refusal(embedding, form, f"it has no place for the prefix {block.name[:80]!r}")
        halves.setdefault((match[1], int(match[2])), {})[match[3]] = block.parts["rows"]
    places = sorted({place for place, _ in halves})
    layers = sorted({layer for _, layer in halves})
    shapes = {half.shape for pair in halves.values() for half in pair.values()}
    if len(places) > 1 or len(shapes) > 1 or any(len(pair) < 2 for pair in halves.values()):
        raise refusal(embedding, form, "its keys and values are not of one shape in every layer")
    ((count, width),) = shapes
    stacked = np.stack([halves[places[0], layer][half] for layer in layers for half in ("keys", "values")], axis=1)
    return Prefix(places[0], tuple(layers), width, stacked.reshape(count, -1))


def whole(number: float) -> int | float:
    """A number as the libraries' people write it: 16 in the place of 16.0."""
    nearest = round(number)
    return nearest if math.isclose(number, nearest, rel_tol=1e-9) else number
