"""Factors: the embeddings of a space as scripts that the page loads when something is dropped, and not before.

A page that was opened from a file may not fetch anything, but it may load scripts; so the numbers are scripts with
base64 inside, a third more than the files themselves, and the same in every place where the page lies.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tupate_hub.arrays import Float32Array
from tupate_hub.compare.lowrank import Factors
from tupate_hub.compare.similarity import get_similarity
from tupate_hub.embedding import Block, TaskEmbedding, shared_names
from tupate_hub.publish.site_space import SHOWN, ShownSpace
from tupate_hub.registry import Registry

#: All spaces together, in bytes of their embeddings' files: those that do not fit are searched by the command line.
MOST_BYTES = 48_000_000
#: Of a script, before base64: so that a page that is still loading can say how far it is.
_A_SCRIPT = 1_500_000
FOLDER = "factors"


def shipped_spaces(registry: Registry) -> set[str]:
    """The spaces whose embeddings go with the page: the default one, then from the smallest, while there is room."""
    sizes = {name: sum(entry.bytes for entry in registry.in_space(name)) for name in registry.spaces}
    room, shipped = MOST_BYTES, set()
    for name in sorted(sizes, key=lambda name: (name != registry.default_space, sizes[name], name)):
        if 0 < sizes[name] <= room:
            room -= sizes[name]
            shipped.add(name)
    return shipped


def factor_scripts(space: ShownSpace, number: int) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The scripts of a space by their paths, and what `data.js` says of them: `file` and `bytes`.

    A script calls `tupateFactors(its own path, [{row, half, blocks, data}, ...])`: the task's row in the index;
    whether the numbers are float16 or float32; each block as [name's number, rank, inputs, outputs, scale]; and for
    each block A (rank, inputs), then the transpose of B (rank, outputs), one behind the other.
    """
    names = {name: at for at, name in enumerate(shared_names(space.embeddings))}
    scripts: dict[str, bytes] = {}
    listed: list[dict[str, Any]] = []
    for part, rows in enumerate(_batches(space.embeddings, names)):
        file = f"{FOLDER}/{number}-{part}.js"
        text = f'tupateFactors("{file}",{json.dumps(rows, separators=(",", ":"))});\n'.encode()
        scripts[file] = text
        listed.append({"file": file, "bytes": len(text)})
    return scripts, listed


def _batches(embeddings: Sequence[TaskEmbedding], names: Mapping[str, int]) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    held = 0
    for row, embedding in enumerate(embeddings):
        packed = _packed(embedding, row, names)
        rows.append(packed)
        held += len(packed["data"]) * 3 // 4
        if held >= _A_SCRIPT:
            yield rows
            rows, held = [], 0
    if rows:
        yield rows


def _packed(embedding: TaskEmbedding, row: int, names: Mapping[str, int]) -> dict[str, Any]:
    blocks, arrays = [], []
    for block in embedding.blocks:
        factors, scale = _factors(block)
        blocks.append([names[block.name], len(factors.a), factors.a.shape[1], factors.bt.shape[1], scale])
        arrays += [factors.a.ravel(), factors.bt.ravel()]
    numbers: Float32Array = np.concatenate(arrays)
    with np.errstate(over="ignore"):
        half = numbers.astype("<f2")
    exact = bool((half.astype(np.float32) == numbers).all())
    data = (half if exact else numbers.astype("<f4")).tobytes()
    return {"row": row, "half": exact, "blocks": blocks, "data": base64.b64encode(data).decode()}


def _factors(block: Block) -> tuple[Factors, float]:
    """What `update` compares of a block; of LoRA as the file has it, without its scale, so that float16 stays exact."""
    if block.form == "lowrank":
        return Factors(block.parts["A"], block.parts["B"].T), block.scale
    return get_similarity(SHOWN).features(block, None), 1.0
