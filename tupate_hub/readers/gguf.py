"""GGUF adapters: LoRA that llama.cpp's convert_lora_to_gguf.py makes of PEFT's, undone where it changed something.

Facts from ggml-org/llama.cpp, convert_lora_to_gguf.py and conversion/llama.py: `<tensor>.lora_a` (r, in) and `.lora_b`
(out, r), alpha in `adapter.lora.alpha`; the A of the token embedding is transposed; norms may be there too (mergekit).
For models of Llama's family the rows of q and k are reordered within each head, and the file does not say how many
heads there are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tupate_hub.arrays import Array, Float32Array
from tupate_hub.embedding import Adapter, make_block
from tupate_hub.errors import FormatError
from tupate_hub.readers import lowrank
from tupate_hub.readers.source import Findings, Source, floats, read_config

#: Architectures whose models, in transformers, name the parts of a layer as Llama does.
_LIKE_LLAMA = frozenset(
    "llama mistral3 deci xverse olmo minicpm granite granitemoe arcee smollm3 apertus llama4 qwen2 qwen2moe qwen3"
    " qwen3moe gemma gemma2 gemma3 phi3 stablelm olmo2 cohere2 command-r exaone4 seed_oss".split()
)
#: Of those, the ones whose q and k the converter reorders (LlamaModel and its subclasses with `undo_permute`).
_PERMUTED = frozenset("llama mistral3 deci xverse olmo minicpm granite granitemoe arcee smollm3 apertus".split())
_PLACES: Mapping[str, str] = MappingProxyType(
    {
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_qkv": "self_attn.qkv_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
)
_FUSED_UP = frozenset({"phi3"})
_IN_LAYER = re.compile(r"blk\.(\d{1,6})\.(\w+)")
_HUB_ID = re.compile(r"https?://[^/]+/([\w.-]+/[\w.-]+)")


def read_gguf(source: Source) -> Adapter:
    """An adapter in GGUF.

    q and k of Llama's family are put back into the order of transformers where `base_weights` has a `config.json` with
    the number of heads; otherwise these blocks keep llama.cpp's order under a name of their own, `....permuted`.

    Raises
    ------
    FormatError
        For a whole model, an adapter that is no LoRA, a missing half, or shapes that do not fit.
    """
    facts = source.metadata
    kind, of = facts.get("general.type"), facts.get("adapter.type")
    if kind != "adapter":
        raise source.refuse(f"is a GGUF file of type {_short(kind)}, not an adapter.")
    if of != "lora":
        raise source.refuse(f"is a GGUF adapter of type {_short(of)}, which is not read: read is 'lora'.")
    architecture = str(facts.get("general.architecture", ""))[:80]
    findings = Findings()
    modules = _modules(source, findings)
    heads = _heads(source) if architecture in _PERMUTED else {}
    alpha = source.number("adapter.lora.alpha", 0.0, facts)
    ranks, permuted = set(), 0
    for module, factors in modules.items():
        if module == "token_embd" and "A" in factors:
            factors["A"] = factors["A"].T
        a, b = lowrank.pair(source, module, factors)
        name = _name(module, architecture)
        if architecture in _PERMUTED and name.endswith(("q_proj", "k_proj")):
            count = heads.get(name[-6])
            b = _in_order(source, module, b, count) if count else b
            name, permuted = (name, permuted) if count else (f"{name}.permuted", permuted + 1)
        ranks.add(len(a))
        # llama.cpp leaves the scale out where there is no alpha (src/llama-adapter.h, get_scale).
        scale = lowrank.scale_of(alpha, len(a)) if alpha else 1.0
        findings.blocks.append(make_block(name, {"A": a, "B": b}, scale, source.where))
    _note(findings, architecture, permuted, alpha)
    findings.settings |= {"r": lowrank.one_or_all(ranks), "alpha": alpha}
    return findings.adapter(source, "lora", _base(facts))


def _modules(source: Source, findings: Findings) -> dict[str, dict[str, Array]]:
    modules: dict[str, dict[str, Array]] = {}
    for key, array in source.tensors.items():
        module, _, half = key.rpartition(".lora_")
        if module and half in ("a", "b"):
            place = module.removesuffix(".weight")
            if place == "output":
                findings.left_out["heads"] += 1
            else:
                modules.setdefault(place, {})[half.upper()] = floats(source, key, array)
        else:
            findings.left_out["norms" if "norm" in key else "other tensors"] += 1
    return modules


def _name(module: str, architecture: str) -> str:
    """The name that transformers has for a place, or GGUF's own where the architecture is not known here."""
    match = _IN_LAYER.fullmatch(module)
    if architecture not in _LIKE_LLAMA:
        return module
    if match is None:
        return "embed_tokens" if module == "token_embd" else module
    place = "mlp.gate_up_proj" if match[2] == "ffn_up" and architecture in _FUSED_UP else _PLACES.get(match[2])
    return f"layers.{match[1]}.{place}" if place else module


def _heads(source: Source) -> dict[str, int]:
    """How many heads q and k have, by the first letter of their names; {} where nothing says it."""
    if source.base_weights is None:
        return {}
    folder = source.base_weights if source.base_weights.is_dir() else source.base_weights.parent
    if not (folder / "config.json").is_file():
        return {}
    config = read_config(folder / "config.json")
    count = config.get("num_attention_heads")
    grouped = config.get("num_key_value_heads") or count
    if type(count) is not int or type(grouped) is not int or count <= 0 or grouped <= 0:
        raise FormatError(f"{folder / 'config.json'} does not say how many attention heads there are.")
    return {"q": count, "k": grouped}


def _in_order(source: Source, module: str, b: Float32Array, heads: int) -> Float32Array:
    """The rows of B as transformers has them: llama.cpp pairs the two halves of each head's rows one by one."""
    if len(b) % (2 * heads):
        raise source.refuse(f"holds {module!r} of {len(b)} rows, which do not divide into {heads} heads.")
    rows: Float32Array = b.reshape(heads, len(b) // heads // 2, 2, -1).swapaxes(1, 2).reshape(b.shape)
    return rows


def _base(facts: Mapping[str, Any]) -> str | None:
    """The base model's id, from the address that the converter wrote."""
    match = _HUB_ID.fullmatch(str(facts.get("general.base_model.0.repo_url", "")))
    return match[1] if match else None


def _note(findings: Findings, architecture: str, permuted: int, alpha: float) -> None:
    if permuted:
        findings.notes.append(
            f"{permuted} blocks of q and k are in llama.cpp's order of rows and compare with other GGUF files alone:"
            " give the base model's folder as base weights; its config.json says how many heads there are."
        )
    if architecture not in _LIKE_LLAMA:
        findings.notes.append(
            f"The places of {json.dumps(architecture)} keep GGUF's names: they compare with other GGUF files alone."
        )
    if not alpha:
        findings.notes.append("The file has no alpha; the update is not scaled, as in llama.cpp.")


def _short(value: object) -> str:
    return repr(value)[:40] if isinstance(value, str) else "that it does not say"
