"""The tables of docs/merge-check.md, from the rows of zoo/truth/merges.csv, in a second.

    python scripts/evaluation/merge_page.py [--check]

`--check` writes nothing and fails where the page is not what the rows give.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tupate_hub.evaluation.merge_rows import BASE, MergeRow, read_merge_rows
from tupate_hub.evaluation.metrics import spearman
from tupate_hub.publish.table import fill_tables, markdown_table
from tupate_hub.storage.atomic import write_bytes

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "merge-check.md"
ROWS = ROOT / "zoo" / "truth" / "merges.csv"
WEIGHTS = ("mean", "whole")
HEADS = ("kept head", "new head")
#: What was foretold, by the words of the command line.
MEASURES = {
    "cosine": "cosine",
    "survives": "survives",
    "disturbed": "disturbed",
    "distance": "distance",
    "inputs": "reads",
    "outputs": "moves",
    "opposite signs": "opposite",
}


@dataclass(frozen=True)
class Loss:
    """What a task loses in a merge, against its own adapter, in points, and how much that had gained."""

    row: MergeRow
    own: float
    base: float

    @property
    def points(self) -> dict[str, float]:
        """The loss by the head."""
        kept = self.row.kept_head if self.row.kept_head is not None else float("nan")
        return {"kept head": 100 * (self.own - kept), "new head": 100 * (self.own - self.row.score)}


def losses(rows: Sequence[MergeRow]) -> list[Loss]:
    """The rows of merges with their tasks' references, those of the most alike first."""
    own = {row.task: row.score for row in rows if row.merge == row.task}
    base = {row.task: row.score for row in rows if row.merge == BASE}
    found = [Loss(row, own[row.task], base[row.task]) for row in rows if row.weights]
    alike = {one.row.merge: -(one.row.cosine or 0.0) for one in found if "+" in one.row.merge}
    return sorted(found, key=lambda one: (one.row.merge.count("+"), alike[one.row.merge], one.row.merge, one.row.task))


def is_pair(one: Loss) -> bool:
    return one.row.merge.count("+") == 1


def of(found: Iterable[Loss], weights: str) -> list[Loss]:
    return [one for one in found if one.row.weights == weights]


def scores_table(found: Sequence[Loss]) -> str:
    """Each task of each merge: alone, and in the merge with both weights and both heads."""
    by_name = {(one.row.merge, one.row.task, one.row.weights): one.row for one in found}
    lines = []
    for one in of(found, WEIGHTS[0]):
        row = one.row
        lines.append([row.merge, row.task, f"{row.cosine:.2f}", f"{row.survives:.0%}"])
        lines[-1] += [f"{100 * score:.1f}" for score in (row.baseline, one.base, one.own)]
        for weights in WEIGHTS:
            merged = by_name.get((row.merge, row.task, weights))
            lines[-1] += ["", ""] if merged is None else [cell(merged.kept_head), cell(merged.score)]
    heads = [f"{weights}, {head}" for weights in WEIGHTS for head in HEADS]
    return markdown_table(
        ["merge", "task", "cosine", "survives the mean", "constant", "base model", "own adapter", *heads], lines
    )


def cell(score: float | None) -> str:
    return "" if score is None else f"{100 * score:.1f}"


def losses_table(found: Sequence[Loss]) -> str:
    """The mean loss in points, beside what the own adapters had gained, and how often `whole` loses less."""
    lines = []
    means_of = {(one.row.merge, one.row.task): one.points for one in of(found, "mean")}
    for count, kind in ((2, "pairs"), (3, "three at once"), (4, "four at once")):
        for weights in WEIGHTS:
            rows = [one for one in of(found, weights) if one.row.merge.count("+") == count - 1]
            if rows:
                gained = 100 * fmean(one.own - one.base for one in rows)
                means = [fmean(one.points[head] for one in rows) for head in HEADS]
                lines.append([kind, weights, str(len(rows)), f"{gained:.1f}", *(f"{mean:.1f}" for mean in means)])
                better = [
                    sum(one.points[head] < means_of[one.row.merge, one.row.task][head] for one in rows)
                    for head in HEADS
                ]
                lines[-1] += [""] * 2 if weights == "mean" else [f"{count} of {len(rows)}" for count in better]
    heads = [f"{what}, {head}" for what in ("lost", "less than with mean") for head in HEADS]
    return markdown_table(["merges", "weights", "rows", "own adapter's gain over the base model", *heads], lines)


def foretold_table(found: Sequence[Loss]) -> str:
    """The rank correlation of each measure with the loss, over the tasks of the pairs."""
    columns: list[tuple[str, str, Callable[[Loss], float]]] = [
        (weights, head, lambda one, head=head: one.points[head]) for weights in WEIGHTS for head in HEADS
    ]
    pairs = [one for one in found if is_pair(one)]
    lines = []
    for title, name in MEASURES.items():
        line = [title]
        for weights, _, lost in columns:
            rows = of(pairs, weights)
            values = [float(getattr(one.row, name)) for one in rows]
            constant = max(values) - min(values) < 1e-6  # every update survives whole
            line.append("" if constant else f"{spearman(values, [lost(one) for one in rows]):+.2f}")
        lines.append(line)
    return markdown_table(["", *(f"{weights}, {head}" for weights, head, _ in columns)], lines)


def facts_table(rows: Sequence[MergeRow], found: Sequence[Loss]) -> str:
    """What was measured, on what, and how long it took."""
    first = rows[0]
    kept = [one.row.kept for one in found if one.row.kept is not None]
    own = [row for row in rows if row.merge == row.task]
    apart = fmean(100 * (row.score - row.recorded) for row in own)
    lines = [
        ["pairs, and tasks in them", f"{len({one.row.merge for one in found if is_pair(one)})}, {len(own)}"],
        ["examples that tune a head, at most", str(max(row.examples for row in rows))],
        ["examples that are scored, at most", str(max(row.scored_on for row in rows))],
        ["own adapters with heads tuned anew, minus the zoo's own scores", f"{apart:+.1f} points on average"],
        ["share of the sum's squared norm that rank 8 keeps", f"{min(kept):.3f} to {max(kept):.3f}"],
        ["minutes on one busy core", f"{sum(row.seconds for row in rows) / 60:.0f}"],
        ["software", f"torch {first.torch}, transformers {first.transformers}, adapters {first.adapters}"],
    ]
    return markdown_table(["", ""], lines)


def build() -> bytes:
    """The page."""
    rows = read_merge_rows(ROWS)
    found = losses(rows)
    tables = {
        "merge facts": facts_table(rows, found),
        "merge scores": scores_table(found),
        "merge losses": losses_table(found),
        "merge foretold": foretold_table(found),
    }
    return fill_tables(PAGE.read_text(encoding="utf-8"), tables).encode()


def main() -> int:
    made = build()
    stale = PAGE.read_bytes() != made
    if "--check" in sys.argv[1:]:
        if stale:
            print(f"{PAGE.relative_to(ROOT)} is not what the rows give: make docs", file=sys.stderr)
        return int(stale)
    if stale:
        write_bytes(PAGE, made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
