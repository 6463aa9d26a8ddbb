"""AdapterHub: files of the `adapters` library and of adapter-transformers before it. Facts from adapters 1.3.0.

The adapter's own name is a part of every key, after a container such as `adapters` or `loras`; it is taken out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from tupate_hub.arrays import Array, Float32Array
from tupate_hub.embedding import Adapter, make_block
from tupate_hub.readers import lowrank
from tupate_hub.readers.names import block_name, is_head
from tupate_hub.readers.prefix import flatten_prefix, prefix_blocks
from tupate_hub.readers.reft import read_loreft
from tupate_hub.readers.source import Findings, Source, floats, is_plain
from tupate_hub.readers.vera import read_hub_vera

#: The container that stands before the adapter's name in a key, legacy names included, and what it holds.
_CONTAINERS: Mapping[str, str] = MappingProxyType(
    {
        "adapters": "bottleneck",
        "attention_text_task_adapters": "bottleneck",
        "attention_text_lang_adapters": "bottleneck",
        "layer_text_task_adapters": "bottleneck",
        "layer_text_lang_adapters": "bottleneck",
        "loras": "lora",
        "prefix_tunings": "prefix_tuning",
        "prefix_gates": "gates",
        "prompt_tunings": "prompt_tuning",
        "invertible_adapters": "invertible adapters",
        "invertible_lang_adapters": "invertible adapters",
        "refts": "reft",
        "shared_parameters": "shared parameters",
    }
)
_UNITED: Mapping[frozenset[str], str] = MappingProxyType(
    {
        frozenset({"prefix", "scaled-parallel"}): "mam",
        frozenset({"prefix", "parallel"}): "mam",
        frozenset({"prefix", "adapter", "lora"}): "unipelt",
    }
)
_PLACES: Mapping[str, str] = MappingProxyType(
    {"self_prefix": "", "encoder_prefix": "encoder.", "cross_prefix": "cross."}
)
_GATED = "Gates that depend on the input are left out: the update is that of an open gate."
_FIXED_SCALE_SINCE = (1, 1, 0)
_VERSION = re.compile(r"adapters\.(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(.*)")

Modules = dict[str, dict[str, Array]]


@dataclass(frozen=True)
class _Keys:
    """Tensors by what they are, by module, by the rest of their key; and under how many places a prefix is aliased."""

    kinds: dict[str, Modules] = field(default_factory=dict)
    aliases: dict[str, set[str]] = field(default_factory=dict)


def read_adapterhub(source: Source) -> Adapter:
    """An adapter that `save_adapter` wrote.

    Raises
    ------
    FormatError
        For a method that cannot be compared, by its name, and for anything malformed.
    """
    findings = Findings()
    configs = _configs(source)
    keys = _sort_keys(source, findings)
    methods = []
    for kind, config in configs.items():
        methods.append(_READERS[kind](source, config, keys, findings))
    for kind in keys.kinds.keys() - configs.keys():
        findings.left_out[kind] += sum(len(parts) for parts in keys.kinds[kind].values())
    if findings.left_out["gates"]:
        findings.notes.append(_GATED)
    version = source.config.get("version")
    if is_plain(version):
        findings.settings["version"] = version
    said = ((key, source.config.get(key)) for key in ("model_type", "hidden_size"))
    findings.architecture |= {key: value for key, value in said if is_plain(value)}
    method = _UNITED.get(frozenset(methods), "+".join(sorted(methods)))
    adapter = findings.adapter(source, method, source.config.get("model_name"))
    name = source.config.get("name")
    return replace(adapter, task=name) if isinstance(name, str) and name else adapter


def _configs(source: Source) -> dict[str, Mapping[str, Any]]:
    """The configuration of each method in the file, by what `_CONTAINERS` calls its tensors."""
    config = source.mapping("config")
    parts = [config]
    if config.get("architecture") == "union":
        written = config.get("configs")
        if not isinstance(written, list) or not all(isinstance(part, dict) for part in written):
            raise source.refuse("is a union of methods whose configurations are not listed.")
        parts = written
    configs: dict[str, Mapping[str, Any]] = {}
    for part in parts:
        kind = _kind(source, part)
        if kind in configs:
            raise source.refuse(f"is a union of two {kind} methods, which is not read.")
        configs[kind] = part
    return configs


def _kind(source: Source, config: Mapping[str, Any]) -> str:
    architecture = config.get("architecture") or "bottleneck"
    refused = {
        "mtl_lora": "MTL-LoRA mixes several tasks' factors",
        "compacter": "Compacter's layers are Kronecker products with a shared part",
        "union": "unions inside unions are not written by the library",
    }
    if architecture == "bottleneck" and config.get("phm_layer"):
        architecture = "compacter"
    if not isinstance(architecture, str) or architecture not in _READERS:
        why = refused.get(architecture, "it is not known here") if isinstance(architecture, str) else "it is not a name"
        known = "bottleneck, lora, vera, ia3, prefix_tuning, prompt_tuning, loreft, mam, unipelt"
        raise source.refuse(
            f"is an AdapterHub adapter of architecture {str(architecture)[:40]!r}, which is not read: {why}.",
            f"read: {known}",
        )
    return architecture


def _sort_keys(source: Source, findings: Findings) -> _Keys:
    keys, names = _Keys(), set()
    for key, array in source.tensors.items():
        pieces = key.split(".")
        at = next((index for index, piece in enumerate(pieces) if piece in _CONTAINERS), None)
        if at is None or len(pieces) < at + 3:
            findings.left_out["heads" if is_head(key) else "other tensors"] += 1
            continue
        module, kind, rest = ".".join(pieces[:at]), _CONTAINERS[pieces[at]], ".".join(pieces[at + 2 :])
        findings.note_encoder(module)
        names.add(pieces[at + 1])
        if kind == "prefix_tuning":
            place, _, rest = rest.partition(".")
            keys.aliases.setdefault(place, set()).update([module] if "layer" in module or ".pool" in module else [])
            module = place
        elif ".gate." in f".{rest}":
            kind = "gates"
        parts = keys.kinds.setdefault(kind, {}).setdefault(module, {})
        if rest not in parts:
            parts[rest] = array
        elif kind == "prefix_tuning" and parts[rest].shape == array.shape:
            findings.left_out["aliases"] += 1
        else:
            raise source.refuse(f"holds two tensors for one place: {key!r}.")
    lowrank.one_adapter_only(source, names)
    return keys


def _read_bottleneck(source: Source, config: Mapping[str, Any], keys: _Keys, findings: Findings) -> str:
    """Maps x to s (up f(down x + b) + b'), beside the layer or after it (Houlsby 2019, He 2022)."""
    written = config.get("scaling", 1.0)
    fixed = 1.0 if isinstance(written, str) else source.number("scaling", 1.0, config)
    modules = keys.kinds.get("bottleneck", {})
    for module, parts in modules.items():
        if any(part.startswith("adapter_norm") for part in parts):
            raise source.refuse(f"holds adapters with layer norms of their own, which are not read: {module!r}.")
        scaling = floats(source, module, parts.get("scaling", np.full(1, fixed, dtype=np.float32))).ravel()
        arrays = {
            name: floats(source, f"{module}.{part}", parts[part]) for name, part in BOTTLENECK.items() if part in parts
        }
        missing = [part for name, part in BOTTLENECK.items() if name not in arrays]
        if missing:
            raise source.refuse(f"holds a bottleneck adapter without its {missing[0]!r}: {module!r}.")
        if scaling.size != 1:
            if scaling.shape != arrays["up_bias"].shape or arrays["up"].shape[:1] != scaling.shape:
                raise source.refuse(f"holds a scaling of shape {scaling.shape} that fits no adapter: {module!r}.")
            with np.errstate(over="ignore", invalid="ignore"):  # make_block refuses what is not finite
                arrays["up"], arrays["up_bias"] = arrays["up"] * scaling[:, None], arrays["up_bias"] * scaling
        scale = float(scaling[0]) if scaling.size == 1 else 1.0
        findings.blocks.append(make_block(block_name(module), arrays, scale, source.where))
    wanted = ("reduction_factor", "scaling", "is_parallel", "mh_adapter", "output_adapter")
    placed = {key: config.get(key, default) for key, default in _PLACED.items()}
    findings.settings |= {key: value for key, value in placed.items() if is_plain(value)}
    findings.settings |= {key: config[key] for key in wanted if is_plain(config.get(key))}
    activation = _activation(source, config)
    findings.settings |= {"non_linearity": activation} if is_plain(activation) and activation else {}
    _note_absent(config, findings)
    if config.get("is_parallel"):
        return "parallel" if fixed == 1.0 and not isinstance(written, str) else "scaled-parallel"
    beside_attention = {"attention" in module.rpartition(".layer.")[2] for module in modules}
    both = beside_attention == {True, False} or (config.get("mh_adapter") and config.get("output_adapter"))
    return "adapter-houlsby" if both else "adapter"


def _activation(source: Source, config: Mapping[str, Any]) -> str:
    """The activation's name today: before configurations had a version, some names meant another one."""
    written = config.get("non_linearity")
    if not isinstance(written, str):
        return ""
    return written if "version" in source.config else _RENAMED.get(written, written)


def _note_absent(config: Mapping[str, Any], findings: Findings) -> set[int]:
    """The layers that the configuration leaves out, kept among the settings."""
    written = config.get("leave_out") or []
    absent = {layer for layer in written if type(layer) is int} if isinstance(written, list) else set()
    findings.settings["leave_out"] = sorted(absent.union(findings.settings.get("leave_out", ())))
    return absent


#: Where a bottleneck stands to the layer's norm and residual, with the library's defaults.
_PLACED: Mapping[str, bool] = MappingProxyType(
    {"original_ln_before": False, "original_ln_after": True, "residual_before_ln": True}
)
#: Activations that changed their names when configurations got a version (adapters 1.3, ACTIVATION_RENAME).
_RENAMED: Mapping[str, str] = MappingProxyType({"gelu": "gelu_new", "gelu_orig": "gelu"})
#: The parts of a bottleneck adapter by their names below its module.
BOTTLENECK: Mapping[str, str] = MappingProxyType(
    {
        "down": "adapter_down.0.weight",
        "down_bias": "adapter_down.0.bias",
        "up": "adapter_up.weight",
        "up_bias": "adapter_up.bias",
    }
)


def _read_lora(source: Source, config: Mapping[str, Any], keys: _Keys, findings: Findings) -> str:
    if config.get("composition_mode") == "scale":
        return _read_ia3(source, config, keys, findings)
    if config.get("vera_d") is not None or config.get("vera_b") is not None:
        shared = keys.kinds.pop("shared parameters", {})
        read_hub_vera(source, config, keys.kinds.get("lora", {}), next(iter(shared.values()), {}), findings)
        _note_dora(findings)
        return "lora"
    rank, alpha = source.number("r", 8.0, config), source.number("alpha", 8.0, config)
    if alpha != rank and _had_faulty_scale(source):
        findings.notes.append("Saved before adapters 1.1.0, which trained with alpha = r whatever alpha said.")
        alpha = rank
    gated = bool(config.get("use_gating"))
    ranks = set()
    for module, parts in keys.kinds.get("lora", {}).items():
        factors = {
            half: floats(source, f"{module}.lora_{half}", parts[f"lora_{half}"])
            for half in "AB"
            if f"lora_{half}" in parts
        }
        if "m.weight" in parts:
            findings.left_out["DoRA magnitudes"] += 1
        a, b, rank = _factors(source, module, factors, config)
        ranks.add(rank)
        scale = 1.0 if gated else lowrank.scale_of(alpha, rank)
        findings.blocks.append(make_block(block_name(module), {"A": a, "B": b}, scale, source.where))
    _note_dora(findings)
    findings.settings |= {"r": lowrank.one_or_all(ranks), "alpha": alpha}
    return "lora"


def _note_dora(findings: Findings) -> None:
    if findings.left_out["DoRA magnitudes"]:
        findings.notes.append("DoRA: the low-rank part is read; the magnitudes need the base model's weights.")


def _factors(
    source: Source, module: str, factors: Mapping[str, Float32Array], config: Mapping[str, Any]
) -> tuple[Float32Array, Float32Array, int]:
    """A, B and the rank; a fused projection (GPT-2's c_attn) holds the factors of its enabled parts, stacked."""
    if module.endswith("c_attn") or module.endswith("query_key_value") or module.endswith("qkv_proj"):
        enabled = _enabled(config)
        a, b = lowrank.expand_groups(source, module, factors, enabled)
        return a, b, len(a) // sum(enabled)
    a, b = lowrank.pair(source, module, factors)
    return a, b, len(a)


def _enabled(config: Mapping[str, Any]) -> tuple[bool, ...]:
    written = config.get("attn_matrices", ["q", "v"])
    return tuple(matrix in written for matrix in "qkv") if isinstance(written, (list, str)) else (True, False, True)


def _had_faulty_scale(source: Source) -> bool:
    """Whether the file is of an `adapters` release before 1.1.0, whose LoRA ignored alpha (its pull request 770)."""
    version = source.config.get("version")
    match = _VERSION.match(version) if isinstance(version, str) else None
    if match is None or source.mapping("config").get("architecture") != "lora":
        return False
    numbers = tuple(int(number or 0) for number in match.groups()[:3])
    return numbers < _FIXED_SCALE_SINCE or (numbers == _FIXED_SCALE_SINCE and bool(match[4]))


def _read_ia3(source: Source, config: Mapping[str, Any], keys: _Keys, findings: Findings) -> str:
    """Factors of outputs, `lora_B` of shape (out, 1), times alpha, which is 1 unless somebody changed it."""
    alpha = 1.0 if _had_faulty_scale(source) else source.number("alpha", 1.0, config)
    for module, parts in keys.kinds.get("lora", {}).items():
        if "lora_B" not in parts or parts["lora_B"].ndim != 2 or parts["lora_B"].shape[1] != 1:
            raise source.refuse(f"holds an IA3 scaling that is not a vector: {module!r}.")
        scaling = floats(source, module, parts["lora_B"]).ravel() * np.float32(alpha)
        enabled = _enabled(config)
        if module.endswith("c_attn") and sum(enabled) and len(scaling) % sum(enabled) == 0:
            parts_of = iter(scaling.reshape(sum(enabled), -1))
            width = len(scaling) // sum(enabled)
            scaling = np.concatenate([next(parts_of) if on else np.ones(width, np.float32) for on in enabled])
        findings.blocks.append(make_block(block_name(module), {"scaling": scaling}, 1.0, source.where))
    return "ia3"


def _read_prefix(source: Source, config: Mapping[str, Any], keys: _Keys, findings: Findings) -> str:
    """Flat, or through its own network; where the pool is aliased under every layer it is read once."""
    groups = keys.kinds.get("prefix_tuning", {})
    width = int(source.number("hidden_size", 0))
    activation = _activation(source, config) if config.get("non_linearity") else "tanh"
    absent = _note_absent(config, findings)
    for place, parts in groups.items():
        if "control_trans" in parts:
            flat = floats(source, place, parts["control_trans"]).ravel()
            length = int(source.number("prefix_length", 30, config))
            if length <= 0 or flat.size % length:
                raise source.refuse(f"holds a prefix of {flat.size} numbers, which are not {length} positions.")
            rows = flat.reshape(length, -1)
        else:
            rows = flatten_prefix(source, parts, activation)
        # The pool is aliased under every layer that could have a prefix. A width that is not the model's own (grouped
        # attention) makes this count the better guide; an encoder-decoder's counts are mixed, and its width decides.
        shared = len(keys.aliases.get(place, ())) if len(groups) == 1 else 0
        numbers = [layer for layer in range(shared) if layer not in absent]
        count = rows.shape[1] // (2 * width) if width > 0 else 0
        by_width = [layer for layer in range(count + len(absent)) if layer not in absent][:count]
        findings.blocks += prefix_blocks(source, rows, numbers or by_width, _PLACES.get(place, f"{place}."))
        findings.settings["tokens"] = len(rows)
    return "prefix"


def _read_prompt(source: Source, config: Mapping[str, Any], keys: _Keys, findings: Findings) -> str:
    for module, parts in keys.kinds.get("prompt_tuning", {}).items():
        if "prompt_embedding.weight" not in parts:
            raise source.refuse(f"holds a prompt without its 'prompt_embedding.weight': {module!r}.")
        rows = floats(source, module, parts["prompt_embedding.weight"])
        findings.blocks.append(make_block("prompt", {"rows": rows}, 1.0, source.where))
        findings.settings["tokens"] = len(rows)
        combine = config.get("combine", "prefix")
        findings.settings |= {"combine": combine} if is_plain(combine) else {}
    return "prompt"


def _read_reft(source: Source, config: Mapping[str, Any], keys: _Keys, findings: Findings) -> str:
    return read_loreft(source, config, keys.kinds.get("reft", {}), findings)


_READERS: Mapping[str, Callable[[Source, Mapping[str, Any], _Keys, Findings], str]] = MappingProxyType(
    {
        "bottleneck": _read_bottleneck,
        "lora": _read_lora,
        "prefix_tuning": _read_prefix,
        "prompt_tuning": _read_prompt,
        "reft": _read_reft,
    }
)
