"""PEFT's methods whose update is a product that the file alone gives: LoHa, LoKr, VB-LoRA, DeLoRA (VeRA: `vera`).

Formulas from peft 0.21.2, peft/tuners/<method>/layer.py, `get_delta_weight`. Every update becomes an ordinary pair B·A
of the method `lora`: it is the same kind of change, a low-rank one of a weight.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tupate_hub.arrays import Array, Float32Array
from tupate_hub.embedding import make_block
from tupate_hub.errors import FormatError
from tupate_hub.readers import lowrank, products
from tupate_hub.readers.names import block_name
from tupate_hub.readers.peft_keys import SHARED, count_biases, sort_keys
from tupate_hub.readers.source import Findings, Source, floats, short_list

_MOST_MIXED = 256


def read_loha(source: Source, findings: Findings) -> str:
    """(A1 B1) ∘ (A2 B2) · alpha / r."""
    return _read_products(source, findings, "loha")


def read_lokr(source: Source, findings: Findings) -> str:
    """W1 ⊗ W2 · alpha / r, where r may be the configuration's alone: both matrices can be whole."""
    return _read_products(source, findings, "lokr")


def _read_products(source: Source, findings: Findings, method: str) -> str:
    modules, biases = sort_keys(source, findings)
    alpha, rank = source.number("alpha", 8.0), source.number("r", 8.0)
    alphas, written = lowrank.parse_patterns(source, "alpha_pattern"), lowrank.parse_patterns(source, "rank_pattern")
    room, ranks = products.Room(source), set()
    for module, arrays in modules.items():
        parts = {part: floats(source, module, array) for part, array in arrays.items()}
        name = module.removeprefix("base_model.model.")
        if method == "loha":
            a, b = products.loha_pair(source, module, parts, room)
            divisor: float = len(parts["hada_w1_b"])
        else:
            a, b = products.lokr_pair(source, module, parts, room)
            divisor = products.lokr_rank(parts) or written.get(name, rank)
        if not divisor > 0:
            raise source.refuse(f"has a configuration whose rank is {divisor:g}.")
        scale = alphas.get(name, alpha) / divisor
        ranks.add(len(a))
        findings.blocks.append(make_block(block_name(module), {"A": a, "B": b}, scale, source.where))
    count_biases(findings, biases)
    findings.settings |= {"r": lowrank.one_or_all(ranks), "alpha": alpha, "tuned_as": method}
    return "lora"


def read_vblora(source: Source, findings: Findings) -> str:
    """A and B in tiles, each a softmax mixture of the `topk` likeliest vectors of a shared bank (Li et al. 2024)."""
    modules, biases = sort_keys(source, findings)
    shared = modules.pop(SHARED, {})
    bank = floats(source, "vblora_vector_bank", shared.get("bank", np.empty(0)))
    if bank.ndim != 2 or 0 in bank.shape:
        raise source.refuse("is a VB-LoRA without its vector bank of shape (vectors, length).")
    topk = int(source.number("topk", 2))
    if not 0 < topk <= min(len(bank), _MOST_MIXED):
        raise source.refuse(f"has a configuration whose 'topk' is {topk}, with {len(bank)} vectors in the bank.")
    room, ranks = products.Room(source), set()
    for module, parts in modules.items():
        tiles = {half: _mixed(source, module, parts, half, bank, topk, room) for half in "AB"}
        a = tiles["A"].reshape(len(tiles["A"]), -1)
        b = tiles["B"].swapaxes(1, 2).reshape(-1, tiles["B"].shape[1])
        if len(a) != b.shape[1]:
            raise source.refuse(f"holds a VB-LoRA whose halves do not fit: {module!r} has A {a.shape}, B {b.shape}.")
        ranks.add(len(a))
        findings.blocks.append(make_block(block_name(module), {"A": a, "B": b}, 1.0, source.where))
    count_biases(findings, biases)
    findings.settings |= {"r": lowrank.one_or_all(ranks), "tuned_as": "vblora"}
    return "lora"


def _mixed(
    source: Source,
    module: str,
    parts: dict[str, Array],
    half: str,
    bank: Float32Array,
    topk: int,
    room: products.Room,
) -> Float32Array:
    """The tiles of one half, (n, m, length): of logits (n, m, vectors), or of indices and all weights but the last."""
    weights, indices = _chosen(source, module, parts, half, topk)
    if weights.shape != indices.shape or weights.ndim != 3 or 0 in weights.shape:
        raise source.refuse(f"holds a VB-LoRA whose shapes do not fit: {module!r}, half {half}.")
    if indices.min() < 0 or indices.max() >= len(bank):
        raise source.refuse(f"holds a VB-LoRA that names vectors beyond its bank: {module!r}.")
    room.take(module, weights.shape[0] * weights.shape[1] * bank.shape[1])
    tiles = np.zeros((*weights.shape[:2], bank.shape[1]), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # make_block refuses what is not finite
        for place in range(weights.shape[2]):
            tiles += weights[:, :, place, None] * bank[indices[:, :, place]]
    return tiles


def _chosen(source: Source, module: str, parts: dict[str, Array], half: str, topk: int) -> tuple[Float32Array, Array]:
    """Weights and indices of the chosen vectors, each (n, m, k)."""
    if f"{half}_topk_indices" in parts:
        indices = parts[f"{half}_topk_indices"]
        weights = floats(source, module, parts.get(f"{half}_topk_weights", np.empty(0)))
        if indices.dtype.kind not in "iu" or weights.ndim != 3 or weights.shape[2] > _MOST_MIXED:
            raise source.refuse(f"holds a VB-LoRA whose chosen vectors are malformed: {module!r}.")
        with np.errstate(over="ignore", invalid="ignore"):  # make_block refuses what is not finite
            last = 1 - weights.sum(axis=2, keepdims=True)
        return np.concatenate([weights, last], axis=2), indices.astype(np.intp)
    logits = floats(source, module, parts.get(half, np.empty(0)))
    if logits.ndim != 3 or logits.shape[2] < topk or 0 in logits.shape or np.isnan(logits).any():
        raise source.refuse(f"holds a VB-LoRA without fitting logits: {module!r}, half {half}.")
    chosen = np.argpartition(-logits, topk - 1, axis=2)[:, :, :topk]
    likely = np.take_along_axis(logits, chosen, axis=2)
    with np.errstate(over="ignore", invalid="ignore"):
        likely = np.exp(likely - likely.max(axis=2, keepdims=True))
        return likely / likely.sum(axis=2, keepdims=True), chosen


def read_delora(source: Source, findings: Findings) -> str:
    """B diag(lambda / (r |A_i| |B^i|)) A diag(w): w, the norms of the base weight's columns, are in the file."""
    modules, biases = sort_keys(source, findings)
    ranks = set()
    for module, arrays in modules.items():
        parts = {part: floats(source, module, array) for part, array in arrays.items()}
        a, b = lowrank.pair(source, module, parts)
        bound, norms = parts.get("lambda", np.empty(0)), parts.get("norms", np.empty(0))
        if bound.size != 1 or norms.shape != (a.shape[1],):
            raise source.refuse(f"holds a DeLoRA without a fitting lambda or norms of its base weight: {module!r}.")
        with np.errstate(over="ignore", invalid="ignore"):  # make_block refuses what is not finite
            lengths = np.maximum(np.linalg.norm(a, axis=1), 1e-4) * np.maximum(np.linalg.norm(b, axis=0), 1e-4)
            pair = {"A": a * norms, "B": b * (bound.ravel()[0] / len(a) / lengths)}
        ranks.add(len(a))
        findings.blocks.append(make_block(block_name(module), pair, 1.0, source.where))
    count_biases(findings, biases)
    findings.settings |= {"r": lowrank.one_or_all(ranks), "tuned_as": "delora"}
    return "lora"


def refuse_xlora(source: Source) -> FormatError:
    """X-LoRA's file holds the classifier that mixes its parts by the input; the parts are LoRA of their own."""
    parts = source.mapping("adapters")
    named = {name: Path(written).name for name, written in parts.items() if isinstance(written, str)}
    beside = [str(source.weights.parent / last) for last in named.values() if (source.weights.parent / last).is_dir()]
    told = short_list(beside) if beside else short_list(f"{name}: {parts[name]}" for name in named)
    return source.refuse(
        f"is an X-LoRA, which mixes {len(parts)} adapters by the input; it has no update of its own.",
        hint=f"its parts are LoRA and are read one by one, {told}"
        if told
        else "its parts are LoRA: read them one by one",
    )
