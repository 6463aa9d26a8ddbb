"""Folders of the `adapters` library (1.3): `adapter_config.json` and `adapter.safetensors`.

The inverse of `tupate_hub.readers.adapterhub`. The library loads the weights with `use_safetensors=True`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tupate_hub.arrays import Float32Array
from tupate_hub.embedding import Block, TaskEmbedding, kind_of
from tupate_hub.export.heads import as_flexible_head
from tupate_hub.export.origin import (
    BACKBONES,
    counts_positions,
    decoder_depth,
    depth,
    fact,
    is_trained,
    library,
    model_type,
    refusal,
    require_complete,
    size,
)
from tupate_hub.export.places import (
    ATTENTION,
    BESIDE,
    FEED_FORWARD,
    FUSED,
    fused_parts,
    gather_prefixes,
    layer_number,
    located,
    sort_blocks,
    whole,
)
from tupate_hub.export.readme import as_json, readme_of_adapters
from tupate_hub.head import Head
from tupate_hub.readers.adapterhub import BOTTLENECK
from tupate_hub.storage.safetensors import TensorFile

_FORM = "adapters"
_PEFT = "`form='peft'`"
#: Where a bottleneck takes its residual and how the layer's norm stands to it, as `training/methods.py` has them: the
#: library's SeqBnConfig (Pfeiffer et al. 2020), DoubleSeqBnConfig (Houlsby et al. 2019), ParBnConfig (He et al. 2022).
_AFTER_NORM = {"original_ln_before": False, "original_ln_after": True, "residual_before_ln": True}
_TRAINED: Mapping[str, Mapping[str, Any]] = {
    "adapter": {**_AFTER_NORM, "original_ln_before": True},
    "adapter-houlsby": _AFTER_NORM,
    "parallel": _AFTER_NORM,
    "scaled-parallel": _AFTER_NORM,
    "mam": _AFTER_NORM,
}
#: What has to be known of a bottleneck beyond its blocks, and what kinds of value it may be.
_NEEDED: Mapping[str, tuple[type, ...]] = {
    "non_linearity": (str,),
    "original_ln_before": (bool,),
    "original_ln_after": (bool,),
    "residual_before_ln": (bool, str),
}
_PARALLEL = frozenset({"parallel", "scaled-parallel", "mam"})


@dataclass(frozen=True)
class _Part:
    """One method's configuration, and its tensors by their keys below the encoder."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Float32Array]


def as_adapters(embedding: TaskEmbedding, bare: bool = False, head: Head | None = None) -> dict[str, bytes]:
    """An adapter folder of the library, named after the task; it loads into models with and without a head.

    The library saves a prefix once per layer, as aliases of one tensor that safetensors refuses to write
    (`save_adapter(use_safetensors=True)`, 1.3.0). It needs only the shared one to load.

    Raises
    ------
    FormatError
        When the library has no place for the method or a block, or a setting that it needs is not known.
    """
    require_complete(embedding, _FORM)
    name = embedding.task.replace(".", "-")  # torch names no module with a dot
    parts = [_WRITERS[kind](embedding, blocks, name) for kind, blocks in sort_blocks(embedding, _FORM).items()]
    configs = [dict(part.config) for part in parts]
    # Where a key does not begin with the encoder's attribute, the library looks for it in the encoder.
    root = f"{BACKBONES[model_type(embedding)]}." if model_type(embedding) else ""
    outer = {
        "config": configs[0] if len(configs) == 1 else {"architecture": "union", "configs": configs},
        "hidden_size": size(embedding, "hidden_size") or _width_of(embedding.blocks),
        "model_class": "AutoAdapterModel",
        "model_name": embedding.space.base,
        "model_type": model_type(embedding) or None,
        "name": name,
        "version": "adapters.1.3.0",
    }
    tensors = {f"{root}{key}": array for part in parts for key, array in part.tensors.items()}
    return {
        "adapter_config.json": as_json(outer),
        "adapter.safetensors": TensorFile(tensors, {"format": "pt"}).to_bytes(),
        "README.md": readme_of_adapters(embedding, head),
        **(as_flexible_head(embedding, head, name) if head else {}),
    }


def _write_lora(embedding: TaskEmbedding, blocks: Sequence[Block], name: str) -> _Part:
    """LoRA: one rank and one scale for all. Others are filled up with zeros, and their scale goes into B.

    A place without a block is left to the library's start, B = 0: it changes nothing.
    """
    fused, factors = _fused_lora(embedding, blocks)
    rank = max(b.shape[1] for _, b in factors.values())
    scale = max((block.scale for block in blocks), key=abs)
    tensors = {}
    for block in blocks:
        a, b = factors[block.name]
        missing = rank - b.shape[1]
        if missing and kind_of(block.name) == FUSED:
            raise refusal(embedding, _FORM, "a fused weight and others have different ranks", _PEFT)
        b = b if block.scale == scale else b * np.float32(block.scale / scale)
        tensors[f"{block.name}.loras.{name}.lora_A"] = np.pad(a, ((0, missing), (0, 0)))
        tensors[f"{block.name}.loras.{name}.lora_B"] = np.pad(b, ((0, 0), (0, missing)))
    config = {"alpha": whole(scale * rank), "r": rank, "composition_mode": "add", "init_weights": "lora"}
    return _Part({**_linear_config(embedding, blocks, fused), **config}, tensors)


def _fused_lora(
    embedding: TaskEmbedding, blocks: Sequence[Block]
) -> tuple[str, dict[str, tuple[Float32Array, Float32Array]]]:
    """The parts of a fused weight that are adapted, "" where there is none, and each block's A and B by its name."""
    factors, adapted = {}, set()
    for block in blocks:
        factors[block.name] = block.parts["A"], block.parts["B"]
        if kind_of(block.name) == FUSED:
            parts = fused_parts(block)
            if parts is None:
                raise refusal(embedding, _FORM, "its update of GPT-2's queries, keys and values does not part", _PEFT)
            adapted.add(parts[0])
            factors[block.name] = parts[1:]
    if len(adapted) > 1:
        raise refusal(embedding, _FORM, "layers of GPT-2 are adapted in different parts", _PEFT)
    return "".join(adapted), factors


def _write_ia3(embedding: TaskEmbedding, blocks: Sequence[Block], name: str) -> _Part:
    """IA3: factors of outputs, (out, 1). A place without a block is left to the library's start, ones.

    Of GPT-2's fused weight the library scales keys and values alone.
    """
    tensors, fused = {}, ""
    for block in blocks:
        scaling = block.parts["scaling"]
        if kind_of(block.name) == FUSED:
            fused, width = "kv", len(scaling) // 3
            if len(scaling) % 3 or (scaling[:width] != 1).any():
                raise refusal(embedding, _FORM, "it scales GPT-2's queries", _PEFT)
            scaling = scaling[width:]
        tensors[f"{block.name}.loras.{name}.lora_B"] = scaling[:, None]
    config = {"alpha": 1, "r": 1, "composition_mode": "scale", "init_weights": "ia3"}
    return _Part({**_linear_config(embedding, blocks, fused), **config}, tensors)


def _linear_config(embedding: TaskEmbedding, blocks: Iterable[Block], fused: str) -> dict[str, Any]:
    apart = [block for block in blocks if kind_of(block.name) != FUSED]
    places = {*located(embedding, _FORM, apart, {**ATTENTION, **FEED_FORWARD}, _PEFT).values(), *fused}
    return {
        "architecture": "lora",
        "attn_matrices": sorted(places & set("qkv")),
        "selfattn_lora": bool(places & set("qkv")),
        "intermediate_lora": "intermediate_lora" in places,
        "output_lora": "output_lora" in places,
        "dropout": 0.0,
        "use_gating": False,
    }


def _write_bias(embedding: TaskEmbedding, blocks: Sequence[Block], name: str) -> _Part:
    raise refusal(embedding, _FORM, "LoRA has no biases of its own there", _PEFT)


def _write_bottleneck(embedding: TaskEmbedding, blocks: Sequence[Block], name: str) -> _Part:
    """Bottleneck adapters, one factor of size a layer; scales that differ are written as learned ones."""
    places = located(embedding, _FORM, blocks, BESIDE, "`form='embedding'`")
    beside = [name for name in places if name.startswith("decoder.block.") and kind_of(name) == "layer.1"]
    if beside:
        raise refusal(embedding, _FORM, f"{beside[0][:80]!r} stands beside a decoder's look at the encoder")
    sizes: dict[int, dict[str, int]] = {}
    for block in blocks:
        layer = sizes.setdefault(layer_number(embedding, _FORM, block), {})
        layer[places[block.name]] = len(block.parts["down"])
    used = set(places.values())
    if any(set(layer) != used or len(set(layer.values())) > 1 for layer in sizes.values()):
        raise refusal(embedding, _FORM, "a layer lacks one of its adapters, or they differ in size within a layer")
    scales = {block.scale for block in blocks}
    learned = len(scales) > 1 or isinstance(fact(embedding, "settings", "scaling"), str)
    tensors: dict[str, Float32Array] = {}
    for block in blocks:
        module = f"{block.name}.adapters.{name}"
        tensors |= {f"{module}.{key}": block.parts[part] for part, key in BOTTLENECK.items()}
        if learned:
            tensors[f"{module}.scaling"] = np.full(1, block.scale, dtype=np.float32)
    config = {
        **_bottleneck_settings(embedding),
        "mh_adapter": "mh_adapter" in used,
        "output_adapter": "output_adapter" in used,
        "reduction_factor": _reduction_factor(sizes, len(blocks[0].parts["up"])),
        "is_parallel": not _PARALLEL.isdisjoint(embedding.space.method.split("+")),
        "scaling": "learned" if learned else float(scales.pop()),
        "leave_out": _left_out_layers(embedding, sizes),
    }
    return _Part(config, tensors)


def _bottleneck_settings(embedding: TaskEmbedding) -> dict[str, Any]:
    """What the blocks do not tell of a bottleneck, which changes its outputs.

    Raises
    ------
    FormatError
        Naming the one that is not known.
    """
    own = _TRAINED.get(embedding.space.method, {}) if is_trained(embedding) else {}
    settings = {}
    for setting, kinds in _NEEDED.items():
        value = fact(embedding, "settings", setting)
        value = own.get(setting) if value is None else value
        if not isinstance(value, kinds):
            raise refusal(embedding, _FORM, f"its settings do not say {setting!r}")
        settings[setting] = value
    return settings


def _reduction_factor(sizes: Mapping[int, Mapping[str, int]], wide: int) -> float | dict[str, float]:
    """The library's bottleneck has `wide // factor` units: half a unit more keeps the division from rounding down."""
    hidden = {layer: next(iter(by_place.values())) for layer, by_place in sizes.items()}
    factors = {
        layer: float(whole(wide / count)) if wide % count == 0 else wide / (count + 0.5)
        for layer, count in hidden.items()
    }
    if len(set(factors.values())) == 1:
        return next(iter(factors.values()))
    return {str(layer): factor for layer, factor in sorted(factors.items())}


def _left_out_layers(embedding: TaskEmbedding, layers: Iterable[int]) -> list[int]:
    """The layers without a block: elsewhere the library would start new adapters, at random.

    Raises
    ------
    FormatError
        When neither the model's depth nor what the file left out is known.
    """
    present = set(layers)
    written = fact(embedding, "settings", "leave_out")
    if not depth(embedding) and not isinstance(written, list):
        raise refusal(embedding, _FORM, "neither 'num_hidden_layers' nor the layers that it leaves out are known")
    absent = set(range(depth(embedding) + decoder_depth(embedding) or max(present)))
    absent |= {layer for layer in written if type(layer) is int} if isinstance(written, list) else set()
    return sorted(absent - present)


#: What the library calls the places of a prefix.
_PREFIXES: Mapping[str, str] = {
    "": "self_prefix",
    "self.": "self",
    "encoder.": "encoder_prefix",
    "cross.": "cross_prefix",
}


def _write_prefix(embedding: TaskEmbedding, blocks: Sequence[Block], name: str) -> _Part:
    """Flat prefixes in the pool that all layers share (Li and Liang 2021)."""
    _require_library(embedding, "prefix")
    prefixes = gather_prefixes(embedding, _FORM, blocks)
    if len(prefixes) > 1 or prefixes[0].place in ("encoder.", "cross."):
        whole_halves = {place: decoder_depth(embedding) for place in ("", "cross.")} | {"encoder.": depth(embedding)}
        if {prefix.place: len(prefix.layers) for prefix in prefixes} != whole_halves:
            raise refusal(embedding, _FORM, "a layer of the encoder or the decoder has no prefix")
        absent = []
    else:
        absent = _left_out_layers(embedding, prefixes[0].layers)
    config = {
        "architecture": "prefix_tuning",
        "flat": True,
        "prefix_length": len(prefixes[0].rows),
        "leave_out": absent,
        "dropout": 0.0,
        "use_gating": False,
    }
    pool = f"prefix_tuning.prefix_tunings.{name}"
    return _Part(config, {f"{pool}.{_PREFIXES[one.place]}.control_trans": one.rows.reshape(-1) for one in prefixes})


def _write_prompt(embedding: TaskEmbedding, blocks: Sequence[Block], name: str) -> _Part:
    """A prompt among the outputs of the embedding layer (Lester et al. 2021)."""
    _require_library(embedding, "prompt")
    block, *more = blocks
    if more or block.name != "prompt":
        raise refusal(embedding, _FORM, "it is a prompt for an encoder and a decoder")
    combine = fact(embedding, "settings", "combine") or ("prefix_after_bos" if is_trained(embedding) else None)
    if combine not in ("prefix", "prefix_after_bos"):
        raise refusal(embedding, _FORM, "its settings do not say 'combine', where in the text the prompt stands")
    rows = block.parts["rows"]
    config = {"architecture": "prompt_tuning", "prompt_length": len(rows), "combine": combine}
    return _Part(config, {f"prompt_tuning.prompt_tunings.{name}.prompt_embedding.weight": rows})


def _require_library(embedding: TaskEmbedding, kind: str) -> None:
    """Refuse prompts of PEFT, and prompts and prefixes of no known library.

    Raises
    ------
    FormatError
        When the outputs would be others, or nobody can say.
    """
    tuned_in = library(embedding)
    if not tuned_in:
        raise refusal(embedding, _FORM, f"nothing says which library's {kind} it is, and they differ")
    if tuned_in == "peft" and kind == "prompt":
        why = "PEFT puts a prompt before the embedding layer's positions and norm, the adapters library after them"
        raise refusal(embedding, _FORM, why, _PEFT)
    if tuned_in == "peft" and (not counts_positions(embedding) or model_type(embedding) == "distilbert"):
        why = "PEFT moves the text's positions behind the prefix, and how this model counts them is not known"
        raise refusal(embedding, _FORM, why, _PEFT)


def _width_of(blocks: Iterable[Block]) -> int | None:
    """The model's width, told from a prefix, a prompt or a bottleneck, which have it."""
    for block in blocks:
        if block.form == "rows":
            return int(block.parts["rows"].shape[1])
        if block.form == "bottleneck":
            return len(block.parts["up"])
    return None


_WRITERS: Mapping[str, Callable[[TaskEmbedding, Sequence[Block], str], _Part]] = {
    "lowrank": _write_lora,
    "bias": _write_bias,
    "scaling": _write_ia3,
    "bottleneck": _write_bottleneck,
    "prefix": _write_prefix,
    "prompt": _write_prompt,
}
