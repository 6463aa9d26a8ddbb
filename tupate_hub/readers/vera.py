"""VeRA (Kopiczko et al. 2024), diag(b) B diag(d) A with shared random A and B, as PEFT and as `adapters` save it.

Facts from peft 0.21.2, peft/tuners/vera/layer.py, and adapters 1.3.0, adapters/methods/lora.py, `Vera.delta_w`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tupate_hub.arrays import Array
from tupate_hub.embedding import kind_of, make_block
from tupate_hub.readers import lowrank, products
from tupate_hub.readers.checkpoint import open_checkpoint
from tupate_hub.readers.names import CONV1D, block_name
from tupate_hub.readers.peft_keys import SHARED, Modules, count_biases, sort_keys
from tupate_hub.readers.source import Findings, Source, floats, short_list

#: Projections that read the residual stream, all as wide as the model: of attention, and up into the feed-forward.
_READS_HIDDEN = frozenset(
    "query key value q_proj k_proj v_proj q_lin k_lin v_lin q k v c_attn query_key_value qkv_proj gate_proj up_proj"
    " gate_up_proj fc1 wi wi_0 wi_1 lin1 c_fc".split()
)


def read_vera(source: Source, findings: Findings) -> str:
    """diag(b) B diag(d) A: A (r, in) and B (out, r) are shared, and cut to the widths of each layer."""
    modules, biases = sort_keys(source, findings)
    shared = modules.pop(SHARED, {})
    if not {"vera_A", "vera_B"} <= shared.keys():
        raise source.refuse(
            "is a VeRA without its shared matrices, vera_A and vera_B, which only torch's generator could make again.",
            hint="save it with save_projection=True, PEFT's default",
        )
    common = {part: floats(source, part, shared[part]) for part in ("vera_A", "vera_B")}
    room, ranks = products.Room(source), set()
    width_of = _input_widths(source, modules)
    for module, arrays in modules.items():
        b, d = (floats(source, module, arrays.get(f"vera_lambda_{half}", np.empty(0))) for half in "bd")
        a, up = common["vera_A"], common["vera_B"][: len(b)] if b.ndim == 1 else b
        a = a[:, : width_of[module]] if module in width_of and a.ndim == 2 else a
        if b.ndim != 1 or a.ndim != 2 or up.ndim != 2 or up.shape != (len(b), len(a)) or d.shape != (len(a),):
            raise source.refuse(f"holds a VeRA whose shapes do not fit: {module!r} has b {b.shape} and d {d.shape}.")
        room.take(module, up.size)
        with np.errstate(over="ignore", invalid="ignore"):  # make_block refuses what is not finite
            weighed = up * b[:, None] * d[None, :]
        ranks.add(len(a))
        findings.blocks.append(make_block(block_name(module), {"A": a, "B": weighed}, 1.0, source.where))
    count_biases(findings, biases)
    findings.settings |= {"r": lowrank.one_or_all(ranks), "tuned_as": "vera"}
    return "lora"


def _input_widths(source: Source, modules: Modules) -> dict[str, int]:
    """How wide the inputs of the layers are: {} where all are as wide as the shared A, which is as wide as the widest.

    The file alone shows it only where all layers read the same thing; else the base model's weights have to say it.
    """
    names = {module: block_name(module) for module in modules}
    kinds = {"hidden" if name.rpartition(".")[2] in _READS_HIDDEN else kind_of(name) for name in names.values()}
    if len(kinds) <= 1:
        return {}
    if source.base_weights is None:
        raise source.refuse(
            f"is a VeRA of layers that read different things ({short_list(sorted(kinds))}): it does not say how wide.",
            hint="give the base model's weights: `base_weights=FOLDER`",
        )
    base, widths = open_checkpoint(source.base_weights), {}
    for module, name in names.items():
        shape = base.shape(f"{name}.weight")
        if shape is None or len(shape) != 2:
            raise source.refuse(f"tunes {name!r}, which {source.base_weights} lacks.")
        is_conv1d = name.rpartition(".")[2] in CONV1D and shape[1] == len(modules[module].get("vera_lambda_b", ()))
        widths[module] = shape[0] if is_conv1d else shape[1]
    return widths


def read_hub_vera(
    source: Source, config: Mapping[str, Any], modules: Modules, shared: Mapping[str, Array], findings: Findings
) -> None:
    """vera_B B vera_D A · alpha / r: in the `adapters` library both are whole trained matrices, begun as diagonals.

    Raises
    ------
    FormatError
        When a matrix is missing, or shapes do not fit (fused projections, whose shared matrices fit nothing).
    """
    rank, alpha = source.number("r", 8.0, config), source.number("alpha", 8.0, config)
    if not {"lora_A", "lora_B"} <= shared.keys() or not rank > 0:
        raise source.refuse("is a VeRA without its shared matrices lora_A and lora_B, or of rank 0.")
    a, b = lowrank.pair(
        source, "shared_parameters", {half: floats(source, half, shared[f"lora_{half}"]) for half in "AB"}
    )
    scale = 1.0 if config.get("use_gating") else alpha / rank
    for module, parts in modules.items():
        left, inner = (floats(source, module, parts.get(f"vera_{half}", np.empty(0))) for half in "BD")
        if left.shape != (len(b), len(b)) or inner.shape != (len(a), len(a)):
            raise source.refuse(f"holds a VeRA whose shapes do not fit: {module!r} has {left.shape} and {inner.shape}.")
        if "m.weight" in parts:
            findings.left_out["DoRA magnitudes"] += 1
        with np.errstate(over="ignore", invalid="ignore"):  # make_block refuses what is not finite
            weighed = left @ (b @ inner)
        findings.blocks.append(make_block(block_name(module), {"A": a, "B": weighed}, scale, source.where))
    findings.settings |= {"r": len(a), "alpha": alpha, "tuned_as": "vera"}
