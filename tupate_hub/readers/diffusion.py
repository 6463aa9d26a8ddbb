"""Diffusion models' LoRA: one safetensors file, no configuration, keys of whoever trained it.

- sd-scripts (Kohya) and LyCORIS: `lora_unet_<place with underscores>.lora_down.weight`, `.lora_up.weight`, `.alpha`;
- diffusers: `<place>.processor.to_q_lora.down.weight` of old, `unet.<place>.to_q.lora.down.weight` (in a text encoder
  `lora_linear_layer`), and today's `transformer.<place>.lora_A.weight`, whose alpha is in the metadata or nowhere.

Facts from kohya-ss/sd-scripts, networks/lora.py; KohakuBlueleaf/LyCORIS, lycoris/modules; huggingface/diffusers,
loaders/lora_conversion_utils.py and loaders/lora_base.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from tupate_hub.arrays import Array, Float32Array
from tupate_hub.embedding import Adapter, make_block
from tupate_hub.readers import lowrank, products
from tupate_hub.readers.source import Findings, Source, floats
from tupate_hub.storage.strangers_json import parse_json

#: What a key ends in, after its place, and which part of the update it is.
_ENDINGS: Mapping[str, str] = MappingProxyType(
    {
        ".lora_down.weight": "A",
        ".lora_up.weight": "B",
        ".lora_mid.weight": "middle",
        "_lora_down.weight": "A",
        "_lora_up.weight": "B",
        ".lora.down.weight": "A",
        ".lora.up.weight": "B",
        "_lora.down.weight": "A",
        "_lora.up.weight": "B",
        ".lora_linear_layer.down.weight": "A",
        ".lora_linear_layer.up.weight": "B",
        ".down.weight": "A",
        ".up.weight": "B",
        ".lora_A.weight": "A",
        ".lora_B.weight": "B",
        ".lora_A.default.weight": "A",
        ".lora_B.default.weight": "B",
        ".alpha": "alpha",
        ".dora_scale": "magnitude",
        ".lora_magnitude_vector": "magnitude",
        ".lora_magnitude_vector.weight": "magnitude",
        ".scalar": "scalar",
        **{f".{name}": name for name in (*products.LOHA, *products.LOKR)},
    }
)
_ENDING = re.compile("(?:" + "|".join(re.escape(end) for end in sorted(_ENDINGS, key=len, reverse=True)) + ")$")
_PARTS_OF_A_PIPELINE = ("unet.", "transformer.", "text_encoder.", "text_encoder_2.", "text_encoder_3.")
#: How sd-scripts and LyCORIS begin a key, and what diffusers calls that part of a pipeline: of "" the rest decides.
_BEGINNINGS: Mapping[str, str] = MappingProxyType(
    {
        "lora_unet_": "",
        "lora_transformer_": "transformer.",
        "lora_te1_": "text_encoder.",
        "lora_te2_": "text_encoder_2.",
        "lora_te3_": "text_encoder_3.",
        "lora_te_": "text_encoder.",
        "lycoris_unet_": "",
        "lycoris_": "",
    }
)
#: What a transformer's parts begin with; whatever else has no part of a pipeline before it is a UNet's.
_OF_A_TRANSFORMER = ("transformer_blocks", "single_", "double_blocks", "joint_blocks", "context_refiner", "blocks")
#: How a key of such a file begins. `transformer.` alone may be a language model's.
_OF_DIFFUSION = re.compile(
    r"(?:unet|text_encoder(?:_\d)?|diffusion_model)\.|(?:lora|lycoris)_|transformer\..*(?:transformer_blocks|\.to_[qkv])\b"
    r"|.*\.processor\."
)
_OLD_PROCESSOR = re.compile(r"\.processor\.(to_[qkv]|to_out|add_[qkv]_proj|to_add_out)$")
#: XLabs numbers the streams of FLUX's blocks: its first is the image's, its second the text's.
_XLABS = re.compile(r"\.processor\.(qkv|proj)_lora([12])$")
#: Parts of names that keep their underscores; every other one stands for a dot. SD, SDXL, SD3 and FLUX.
_WORDS = (
    "down_blocks up_blocks mid_block single_transformer_blocks transformer_blocks input_blocks middle_block"
    " output_blocks joint_blocks double_blocks single_blocks context_block x_block to_q to_k to_v to_out"
    " to_add_out add_q_proj add_k_proj add_v_proj q_proj k_proj v_proj out_proj proj_in proj_out proj_mlp"
    " time_emb_proj time_embedding add_embedding linear_1 linear_2 conv_shortcut conv_in conv_out text_model"
    " self_attn img_attn txt_attn img_mlp txt_mlp img_mod txt_mod text_projection ff_context norm1_context"
    " context_embedder x_embedder emb_layers in_layers out_layers skip_connection adaLN_modulation final_layer"
    " cross_attn o_proj gate_proj up_proj down_proj"
).split()
_PIECES = re.compile("(?:" + "|".join(sorted(_WORDS, key=len, reverse=True)) + r")(?=_|$)|[^_]+")


def is_diffusion(keys: tuple[str, ...]) -> bool:
    """Whether the keys of a file are those of a diffusion model's LoRA."""
    return any(_ENDING.search(key) and _OF_DIFFUSION.match(key) for key in keys)


@dataclass(frozen=True)
class _Place:
    """One place of the model: the parts of its update, and the key from which its name was made."""

    key: str
    parts: dict[str, Array] = field(default_factory=dict)


def read_diffusion(source: Source) -> Adapter:
    """A LoRA, LoCon, LoHa or LoKr of a diffusion model; alpha is the tensor's, the metadata's, or else the rank.

    Raises
    ------
    FormatError
        For tensors that change the base model in another way, a missing half, or shapes that do not fit.
    """
    findings, room = Findings(), products.Room(source)
    places = _places(source, findings)
    said = _said(source)
    ranks: set[int] = set()
    without = 0
    for name, place in places.items():
        parts = {part: floats(source, place.key, array) for part, array in place.parts.items()}
        if parts.pop("magnitude", None) is not None:
            findings.left_out["DoRA magnitudes"] += 1
        alpha, stabilised = _single(source, name, parts.pop("alpha", None)), False
        if alpha is None and said:
            alpha, stabilised = said.of(name)
        scalar = _single(source, name, parts.pop("scalar", None))
        if not parts:
            findings.left_out["other tensors"] += 1
            continue
        a, b, rank = _pair(source, name, parts, room)
        ranks.add(len(a))
        without += alpha is None
        # Both matrices of a LoKr whole: LyCORIS takes alpha for r, so that the scale is 1.
        scale = 1.0 if alpha is None or not rank else lowrank.scale_of(alpha, rank, stabilised)
        scale *= 1.0 if scalar is None else scalar
        findings.blocks.append(make_block(name, {"A": a, "B": b}, scale, source.where))
    if findings.left_out["DoRA magnitudes"]:
        findings.notes.append("DoRA: the low-rank part is read; the magnitudes need the base model's weights.")
    if without:
        findings.notes.append(
            f"{without} of {len(findings.blocks)} places have no alpha; r is taken for it, as diffusers does."
        )
    findings.settings["r"] = lowrank.one_or_all(ranks)
    findings.settings |= {ours: str(source.metadata[key])[:80] for ours, key in _TOLD.items() if key in source.metadata}
    return findings.adapter(source, "lora", _base(source.metadata))


_TOLD: Mapping[str, str] = MappingProxyType(
    {"base_version": "ss_base_model_version", "architecture": "modelspec.architecture"}
)


def _places(source: Source, findings: Findings) -> dict[str, _Place]:
    """The tensors by place and part; what no ending explains is counted, and full differences are refused."""
    places: dict[str, _Place] = {}
    doubled = 0
    for key, array in source.tensors.items():
        end = _ENDING.search(key)
        if end is None:
            if key.endswith((".diff", ".oft_blocks", ".oft_diag", ".on_input", ".a1.weight", ".weight_diff")):
                raise source.refuse(
                    f"holds {key[:200]!r}, which is no low-rank update.", "read: LoRA, LoCon, LoHa, LoKr"
                )
            findings.left_out["biases" if key.endswith(".diff_b") else "other tensors"] += 1
            continue
        doubled += key.startswith("lora_unet_unet_")
        name, part = _name(key[: end.start()]), _ENDINGS[end[0]]
        place = places.setdefault(name, _Place(key))
        if part in place.parts:
            raise source.refuse(f"holds two tensors for one place: {key[:200]!r}.")
        place.parts[part] = array
    if doubled:
        findings.notes.append(
            "Its keys begin with 'lora_unet_unet_', from a conversion that failed; the second is dropped."
        )
    return places


def _name(written: str) -> str:
    """A place as diffusers names it, the part of the pipeline first.

    >>> _name("lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_out_0")
    'unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0'
    >>> _name("mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out")
    'unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0'
    """
    beginning = next((start for start in _BEGINNINGS if written.startswith(start)), None)
    if beginning is not None and "." not in written:
        rest = written.removeprefix(beginning).removeprefix("unet_")
        return (_BEGINNINGS[beginning] or _part(rest)) + ".".join(_PIECES.findall(rest))
    name = _OLD_PROCESSOR.sub(lambda match: f".{match[1]}" + (".0" if match[1] == "to_out" else ""), written)
    name = _XLABS.sub(lambda match: f".{'img' if match[2] == '1' else 'txt'}_attn.{match[1]}", name)
    name = name.removeprefix("diffusion_model.")
    return name if name.startswith(_PARTS_OF_A_PIPELINE) else _part(name) + name


def _part(name: str) -> str:
    """The part of a pipeline that a place is in, where its key does not say."""
    return "transformer." if name.startswith(_OF_A_TRANSFORMER) else "unet."


def _pair(
    source: Source, name: str, parts: Mapping[str, Float32Array], room: products.Room
) -> tuple[Float32Array, Float32Array, int]:
    """A, B and the rank by which alpha is divided, 0 where none shows."""
    if "hada_w1_a" in parts or "hada_w2_a" in parts:
        a, b = products.loha_pair(source, name, parts, room)
        return a, b, len(parts["hada_w1_b"])
    if any(part.startswith("lokr_") for part in parts):
        a, b = products.lokr_pair(source, name, parts, room)
        return a, b, products.lokr_rank(parts) or 0
    a, b = lowrank.pair(source, name, {**parts, **_with_middle(source, name, parts, room)})
    return a, b, len(a)


def _with_middle(source: Source, name: str, parts: Mapping[str, Float32Array], room: products.Room) -> dict[str, Array]:
    """A of a convolution whose kernel is a third factor (r, r, k, k) between the two: A and it, multiplied out."""
    middle, a = parts.get("middle"), parts.get("A")
    if middle is None or a is None:
        return {}
    flat = a.reshape(len(a), -1) if a.ndim > 1 and a.size else a
    if flat.ndim != 2 or middle.ndim not in (3, 4, 5) or middle.shape[1] != len(flat) or 0 in middle.shape:
        raise source.refuse(f"holds a lora_mid that does not fit: {name[:200]!r} has {middle.shape} and A {a.shape}.")
    kernel = middle.reshape(*middle.shape[:2], -1)
    room.take(name, len(kernel) * flat.shape[1] * kernel.shape[2])
    with np.errstate(over="ignore", invalid="ignore"):  # make_block refuses what is not finite
        return {"A": np.tensordot(kernel, flat, axes=(1, 0)).swapaxes(1, 2).reshape(len(kernel), -1, 1, 1)}


def _single(source: Source, name: str, array: Float32Array | None) -> float | None:
    if array is None:
        return None
    if array.size != 1 or not np.isfinite(array).all():
        raise source.refuse(f"holds an alpha or scalar that is not one number: {name[:200]!r}.")
    return float(array.ravel()[0])


@dataclass(frozen=True)
class _Said:
    """PEFT's configurations of the pipeline's parts, which today's diffusers puts into the file's metadata as JSON."""

    source: Source

    def of(self, name: str) -> tuple[float | None, bool]:
        """A place's alpha, None where nothing says it, and whether it is divided by the root of the rank."""
        part, _, module = name.partition(".")
        config = self.source.config
        alpha = self.source.number(f"{part}.lora_alpha", -1.0)
        if config.get(f"{part}.alpha_pattern"):
            alpha = lowrank.parse_patterns(self.source, f"{part}.alpha_pattern").get(module, alpha)
        return (None if alpha < 0 else alpha), config.get(f"{part}.use_rslora") is True


def _said(source: Source) -> _Said | None:
    written = source.metadata.get("lora_adapter_metadata")
    if not isinstance(written, str):
        return None
    try:
        said = parse_json(written, 100_000)
    except ValueError as error:
        raise source.refuse("has 'lora_adapter_metadata' that are not JSON.") from error
    return _Said(replace(source, config=said)) if isinstance(said, dict) else None


def _base(metadata: Mapping[str, Any]) -> str | None:
    """The base model's id, where sd-scripts was given one and no file's name."""
    written = metadata.get("ss_sd_model_name")
    named = isinstance(written, str) and written.count("/") == 1 and not written.endswith((".safetensors", ".ckpt"))
    return written if named else None
