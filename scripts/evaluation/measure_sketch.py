"""How exact sketches are: the table of docs/sketch.md, from the bundled zoo and strangers' adapters.

    python scripts/evaluation/measure_sketch.py [--adapters ../shared/adapters] [--check]

`--check` writes nothing and fails where the words that the page names, or the rows of the bundled zoo, are not what is
found (beyond rounding).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tupate_hub import Zoo
from tupate_hub.arrays import Float64Array
from tupate_hub.collect.among import gathered
from tupate_hub.compare.bits import cosines
from tupate_hub.compare.kernel import kernel, pack_comparable
from tupate_hub.compare.random_signs import key_of, words
from tupate_hub.compare.sketch import Sketches, entries
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.publish.table import fill_tables, markdown_table, rows_on
from tupate_hub.storage.atomic import write_bytes

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "sketch.md"
FEWEST = 4
HEADS = ["space", "embeddings", "mean error", "largest", "correlation", "before signs", "of 256 bytes"]
#: Few pairs say little of one draw of signs: so many draws are looked at, each by other names of the blocks.
DRAWS, ENOUGH = 8, 20


def row(name: str, embeddings: Sequence[TaskEmbedding]) -> list[str] | None:
    """The errors over all pairs; None where too few compare."""
    packed = pack_comparable(embeddings)
    kept = [one for one in embeddings if one.task in packed.tasks]
    if len(kept) < FEWEST:
        return None
    above = np.triu_indices(len(kept), 1)
    exact = kernel(packed, packed).scores()[above]
    told: dict[str, list[Float64Array]] = {}
    for draw in range(1 if len(kept) >= ENOUGH else DRAWS):
        for kind, values in estimates([renamed(one, draw) for one in kept]).items():
            told.setdefault(kind, []).append(values[above])
    found = {kind: np.concatenate(values) for kind, values in told.items()}
    exact = np.tile(exact, len(found["whole"]) // len(exact))
    errors = {kind: np.abs(values - exact) for kind, values in found.items()}
    means = [f"{errors[kind].mean():.4f}" for kind in ("before", "first")]
    correlation = f"{np.corrcoef(found['whole'], exact)[0, 1]:.3f}"
    return [name, str(len(kept)), f"{errors['whole'].mean():.4f}", f"{errors['whole'].max():.3f}", correlation, *means]


def renamed(embedding: TaskEmbedding, draw: int) -> TaskEmbedding:
    """The embedding itself, or under other names of its blocks, whose signs are others."""
    blocks = (replace(block, name=f"{block.name}~{draw}" if draw else block.name) for block in embedding.blocks)
    return replace(embedding, blocks=tuple(blocks))


def estimates(embeddings: Sequence[TaskEmbedding]) -> dict[str, Float64Array]:
    """Cosines between all: from whole sketches, from their first 256 bytes, and from what sketches are the signs of."""
    bits = Sketches.of(embeddings).bits
    first = np.ascontiguousarray(bits[:, :256])
    before = entries(embeddings)
    before /= np.linalg.norm(before, axis=1, keepdims=True)
    whole, part = (np.stack([cosines(row, rows) for row in rows]) for rows in (bits, first))
    return {"whole": whole, "first": part, "before": before @ before.T}


def bundled() -> list[list[str]]:
    zoo = Zoo.open(ROOT)
    rows = [row(space, zoo.load_space(space)) for space in zoo.registry.spaces]
    whole = zoo.load_space("all-MiniLM-L6-v2/lora")
    values = [TaskEmbedding(one.task, one.space, tuple(b for b in one.blocks if "value" in b.name)) for one in whole]
    rows.append(row("all-MiniLM-L6-v2/lora, every second with its values alone", [*whole[::2], *values[1::2]]))
    return [one for one in rows if one is not None]


def strangers(folder: Path) -> list[list[str]]:
    rows = []
    with gathered([folder]) as (zoo, _):
        for space in zoo.registry.spaces:
            rows.append(row(f"strangers', {space}", zoo.load_space(space)))
    return [one for one in rows if one is not None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=Path, help="a folder of strangers' adapters; without it their rows stay")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    first = " ".join(f"{word:08x}" for word in words(key_of("a"), 3))
    page = PAGE.read_text(encoding="utf-8")
    page = re.sub(r"(<!-- words -->`)[^`]*", rf"\g<1>{first}", page)
    rows, said = bundled(), rows_on(page, "sketch errors")
    ours = [row for row in said if row[0].startswith("all-")]
    if options.check:
        near = len(ours) == len(rows) and all(
            old[:2] == new[:2] and abs(float(old[2]) - float(new[2])) <= 2e-4
            for old, new in zip(ours, rows, strict=True)
        )
        if not near or page != PAGE.read_text(encoding="utf-8"):
            print("docs/sketch.md is not what is found: run this script", file=sys.stderr)
            return 1
        return 0
    rows += strangers(options.adapters) if options.adapters else [row for row in said if row not in ours]
    write_bytes(PAGE, fill_tables(page, {"sketch errors": markdown_table(HEADS, rows)}).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
