"""What a part of the blocks finds: the table of docs/sketch.md about `import --blocks`.

    python scripts/evaluation/measure_blocks.py [--adapters ../shared/adapters] [--check]

Sketches of some blocks alone are ranked against each other as whole sketches are, and what they find is compared with
what whole sketches find. `--check` writes nothing and fails where the rows of the bundled zoo are not what is found
(beyond rounding).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tupate_hub import Zoo
from tupate_hub.arrays import Float64Array
from tupate_hub.collect.among import gathered
from tupate_hub.collect.block_pattern import BlockPattern
from tupate_hub.compare.kernel import kernel, pack_comparable
from tupate_hub.compare.sketch import Sketches
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.publish.table import fill_tables, markdown_table, rows_on
from tupate_hub.storage.atomic import write_bytes

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "sketch.md"
HEADS = ["space", "embeddings", "`--blocks`", "share of the numbers", "k", "recall@k", "of the exact", "correlation"]
#: What is tried in a space, all blocks first.
PATTERNS = {
    "all-MiniLM-L6-v2/lora": ("", "value", "value/2", "value/3", "value/4", "layer/4", "query/4"),
    "distilbert-base-uncased/lora": ("", "v_lin", "v_lin/2", "v_lin/4"),
    "gpt2/lora": ("", "c_attn", "c_attn/4"),
}
TOLERANCE = 0.02


def rows(name: str, embeddings: Sequence[TaskEmbedding], patterns: Sequence[str]) -> list[list[str]]:
    """A row for each pattern: its share of the numbers, and how well it finds the k nearest, ten at most."""
    packed = pack_comparable(embeddings)
    kept = [one for one in embeddings if one.task in packed.tasks]
    exact, whole = kernel(packed, packed).scores(), cosines(kept)
    k = min(10, len(kept) // 3)
    found = []
    for pattern in patterns:
        parts = [part_of(one, pattern) for one in kept]
        share = sum(one.parameters for one in parts) / sum(one.parameters for one in kept)
        told = cosines(parts)
        above = np.triu_indices(len(kept), 1)
        figures = [f"{recall(told, whole, k):.2f}", f"{recall(told, exact, k):.2f}"]
        correlation = f"{np.corrcoef(told[above], exact[above])[0, 1]:.2f}"
        shown = f"`{pattern}`" if pattern else "all"
        found.append([name, str(len(kept)), shown, f"{share:.0%}", str(k), *figures, correlation])
    return found


def part_of(embedding: TaskEmbedding, pattern: str) -> TaskEmbedding:
    """An embedding with those blocks alone that `import --blocks` would fetch; all of them without a pattern."""
    wanted = BlockPattern.parse(pattern) if pattern else None
    return replace(embedding, blocks=tuple(one for one in embedding.blocks if wanted is None or wanted.fits(one.name)))


def cosines(embeddings: Sequence[TaskEmbedding]) -> Float64Array:
    """Estimated cosines of all pairs, of shape (n, n)."""
    sketches = Sketches.of(embeddings)
    return np.stack([sketches.cosines(at) for at in range(len(embeddings))])


def recall(scores: Float64Array, true: Float64Array, k: int) -> float:
    """The share of the k nearest by `true`, over all rows, that are among the k nearest by `scores`."""
    shares = []
    for at in range(len(scores)):
        nearest = [set(np.argsort(-np.delete(one[at], at), kind="stable")[:k]) for one in (scores, true)]
        shares.append(len(nearest[0] & nearest[1]) / k)
    return float(np.mean(shares))


def bundled() -> list[list[str]]:
    zoo = Zoo.open(ROOT)
    spaces = [name for name in PATTERNS if name in zoo.registry.spaces]
    return [row for name in spaces for row in rows(name, zoo.load_space(name), PATTERNS[name])]


def strangers(folder: Path) -> list[list[str]]:
    with gathered([folder]) as (zoo, _):
        spaces = [name for name in PATTERNS if name in zoo.registry.spaces and not name.startswith("all-")]
        return [row for name in spaces for row in rows(f"strangers', {name}", zoo.load_space(name), PATTERNS[name])]


def agrees(said: list[list[str]], found: list[list[str]]) -> bool:
    """Whether the page's rows are those that were found, but for roundings."""

    def near(old: str, new: str) -> bool:
        try:
            return abs(float(old) - float(new)) <= TOLERANCE
        except ValueError:
            return old == new

    return len(said) == len(found) and all(
        near(old, new) for one, two in zip(said, found, strict=True) for old, new in zip(one, two, strict=True)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=Path, help="a folder of strangers' adapters; without it their rows stay")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    page, found = PAGE.read_text(encoding="utf-8"), bundled()
    said = rows_on(page, "blocks")
    ours = [row for row in said if row[0].startswith("all-")]
    if options.check:
        if not agrees(ours, found):
            print("docs/sketch.md is not what is found: run scripts/evaluation/measure_blocks.py", file=sys.stderr)
            return 1
        return 0
    found += strangers(options.adapters) if options.adapters else [row for row in said if row not in ours]
    write_bytes(PAGE, fill_tables(page, {"blocks": markdown_table(HEADS, found)}).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
