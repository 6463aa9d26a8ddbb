"""Blends: the weighted sum of the updates of several tasks as one embedding, low rank kept by truncated SVD.

What is added is the change that the parameters make, not the parameters: sum_i w_i s_i B_i A_i for LoRA. It is found
on the stacked factors, through two QR decompositions and the SVD of a matrix as large as the ranks together, so nothing
of the size of a weight is ever formed. The truncation is the best approximation of that rank (Eckart and Young, 1936).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.lowrank import directions
from tupate_hub.embedding import Block, TaskEmbedding, make_block, order_blocks, shared_names
from tupate_hub.errors import FormatError, SpaceMismatch, TupateHubError

#: The forms whose parts are linear in the update, with the value that changes nothing.
_NEUTRAL: Mapping[str, float] = {"bias": 0.0, "vector": 0.0, "scaling": 1.0}
#: Facts that the blend shares with its sources where they all agree.
_SHARED_FACTS = ("base_sha256", "task_kind")


def blend(
    embeddings: Sequence[TaskEmbedding], weights: Sequence[float] | None = None, rank: int | None = None
) -> TaskEmbedding:
    """The weighted sum of several tasks' updates, by default their average, as one embedding of their space.

    A block that one of them lacks counts as unchanged there. LoRA blocks come out with one rank and one scale: A has
    orthogonal rows of the usual length of the sources' rows, and B carries the singular values, so that a run that
    starts from the blend moves as one that starts from a source does. The fact `blend` holds `of`, the tasks' names,
    `weights`, `rank` (None without LoRA blocks) and `kept`, the share of the sum's squared norm that the rank keeps.

    Parameters
    ----------
    embeddings : sequence of TaskEmbedding
        At least one, all of one space.
    weights : sequence of float, optional
        One for each; 1 / n by default.
    rank : int, optional
        Of LoRA blocks; by default the largest of the sources' ranks.

    Raises
    ------
    SpaceMismatch
        When the embeddings are of different spaces.
    FormatError
        When shapes differ, or the method is one whose updates do not add up (prefix, prompt, bottleneck adapters).
    TupateHubError
        Without embeddings, and for impossible weights or ranks.
    """
    shares = _weights(embeddings, weights)
    rank, scale = _rank_and_scale(embeddings, rank)
    blocks, kept, total = [], 0.0, 0.0
    for name in shared_names(embeddings):
        having = [
            (share, embedding.by_name[name])
            for share, embedding in zip(shares, embeddings, strict=True)
            if name in embedding.by_name
        ]
        _check(name, [block for _, block in having])
        if having[0][1].form == "lowrank":
            block, squares = _low_rank(name, having, rank or 1, scale)
        else:
            block, squares = _linear(name, having, scale)
        blocks.append(block)
        kept, total = kept + math.fsum(squares[:rank]), total + math.fsum(squares)
    known = {
        "of": [embedding.task for embedding in embeddings],
        "weights": shares,
        "rank": rank,
        "kept": kept / total if total else 1.0,
    }
    facts = {**_facts(embeddings), "blend": known}
    return TaskEmbedding(
        "+".join(embedding.task for embedding in embeddings), embeddings[0].space, order_blocks(blocks), facts
    )


def _rank_and_scale(embeddings: Sequence[TaskEmbedding], rank: int | None) -> tuple[int | None, float]:
    """Those of the blend's LoRA blocks, None and 1 where there are none; refuses forms that do not add up."""
    if odd := sorted({block.form for embedding in embeddings for block in embedding.blocks} - {"lowrank", *_NEUTRAL}):
        raise FormatError(
            f"{embeddings[0].space.method} has no average: the {odd[0]} blocks of two tasks do not add up.",
            hint="blend tasks tuned by lora, bitfit or ia3, or start from a single one",
        )
    if rank is not None and rank < 1:
        raise TupateHubError(f"{rank} is not a rank.", hint="give at least 1")
    low = [block for embedding in embeddings for block in embedding.blocks if block.form == "lowrank"]
    if not low:
        return None, 1.0
    scales = {block.scale for block in low}
    scale = scales.pop() if len(scales) == 1 else math.fsum(block.scale for block in low) / len(low)
    return rank or max(len(block.parts["A"]) for block in low), scale or 1.0


def _weights(embeddings: Sequence[TaskEmbedding], weights: Sequence[float] | None) -> list[float]:
    if not embeddings:
        raise TupateHubError("A blend needs at least one embedding.")
    spaces = list(dict.fromkeys(embedding.space for embedding in embeddings))
    if len(spaces) > 1:
        odd = next(embedding for embedding in embeddings if embedding.space == spaces[1])
        raise SpaceMismatch(
            f"{embeddings[0].task} is {spaces[0]}, {odd.task} is {spaces[1]}: they do not blend.",
            hint="blend tasks of one space: tupate-hub spaces",
        )
    if weights is None:
        return [1 / len(embeddings)] * len(embeddings)
    if len(weights) != len(embeddings) or not all(map(math.isfinite, weights)):
        raise TupateHubError(f"{len(embeddings)} embeddings need as many finite weights, not {list(weights)[:8]}.")
    return [float(weight) for weight in weights]


def _check(name: str, blocks: Sequence[Block]) -> None:
    """Refuse blocks of one place that cannot be added: other forms, other widths."""
    shapes = set()
    for block in blocks:
        if block.form == "lowrank":
            shapes.add((block.form, block.parts["B"].shape[0], block.parts["A"].shape[1]))
        else:
            shapes.add((block.form, *next(iter(block.parts.values())).shape))
    if len(shapes) > 1:
        listed = " and ".join(" ".join(map(str, shape)) for shape in sorted(shapes, key=str))
        raise FormatError(f"{name!r} has different shapes in the tasks to blend: {listed}.")


def _low_rank(name: str, having: Sequence[tuple[float, Block]], rank: int, scale: float) -> tuple[Block, list[float]]:
    """The truncated sum, and the squares of all its singular values, largest first."""
    blocks = [block for _, block in having]
    a = np.concatenate([block.parts["A"] for block in blocks]).astype(np.float64)
    bt = np.concatenate([share * block.scale * block.parts["B"].T.astype(np.float64) for share, block in having])
    length = math.sqrt(math.fsum(np.square(a).ravel()) / len(a)) or 1.0
    reads, s, moves = directions(a, bt)
    rows = reads.T[:rank]
    columns = (moves * s).T[:rank]
    signs = np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)])[:, None]
    empty = max(0, rank - len(rows))  # more than the places that the blend changes have: a rank without effect
    parts = {
        "A": np.pad(signs * rows * length, ((0, empty), (0, 0))),
        "B": np.pad(signs * columns / (length * scale), ((0, empty), (0, 0))).T,
    }
    return make_block(name, parts, scale), [float(value) ** 2 for value in s]


def _linear(name: str, having: Sequence[tuple[float, Block]], scale: float) -> tuple[Block, list[float]]:
    """The sum of blocks whose one part is their update, or 1 more than it; and its squared norm, alone in a list.

    A bias beside LoRA is in the units of its block's scale.
    """
    form = having[0][1].form
    neutral = _NEUTRAL[form]
    update: Any = 0.0
    for share, block in having:
        (part,) = block.parts.values()
        own = block.scale if form != "scaling" else 1.0
        update = update + share * own * (part.astype(np.float64) - neutral)
    (part_name,) = having[0][1].parts
    unit = scale if form == "bias" else 1.0
    values: Float64Array = update / unit + neutral
    return make_block(name, {part_name: values}, unit), [float(np.square(update).sum())]


def _facts(embeddings: Sequence[TaskEmbedding]) -> dict[str, Any]:
    """What all sources agree on; sizes are in the blocks. Of the base model, what any of them says and none denies."""
    first = embeddings[0].facts
    facts = {
        key: first[key]
        for key in _SHARED_FACTS
        if key in first and all(embedding.facts.get(key) == first[key] for embedding in embeddings)
    }
    if architecture := _undisputed([one.facts.get("architecture") for one in embeddings]):
        facts["architecture"] = architecture
    said = [embedding.facts.get("settings") for embedding in embeddings]
    settings = [one if isinstance(one, Mapping) else {} for one in said]  # a fact may be a stranger's
    common = {
        key: value
        for key, value in settings[0].items()
        if key not in ("r", "alpha") and all(key in other and other[key] == value for other in settings)
    }
    return {**facts, "settings": common}


def _undisputed(said: Sequence[Any]) -> dict[str, Any]:
    """The values by name that are the same wherever the name is there; a fact may be a stranger's and no mapping."""
    values: dict[str, Any] = {}
    disputed: set[str] = set()
    for one in said:
        for name, value in one.items() if isinstance(one, Mapping) else ():
            if values.setdefault(name, value) != value:
                disputed.add(name)
    return {name: value for name, value in values.items() if name not in disputed}
