"""Rows of measured merges: what a merged LoRA scores on each of its tasks, beside what was foretold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tupate_hub.storage.csv_rows import append_cells, read_cells

#: What stands for the base model alone.
BASE = "-"


@dataclass(frozen=True)
class MergeRow:
    """The scores of one task with one model.

    `merge` is the tasks whose updates were added up, joined by `+`; a single task is its own adapter, `-` the base
    model. `score` is that of a head tuned on the frozen model, `kept_head` that of the head which was tuned on the
    task's own adapter. `recorded` is the zoo's score of the task, `baseline` that of the best constant. What was
    foretold for the task: its `weight`, what `survives` of its update, how `disturbed` it is, the sum's `distance` from
    it, and, meant over the others, the `cosine`, the overlaps `reads` and `moves` and the share of `opposite` signs;
    `cancelled` and `kept` are those of the sum. All of these are None where nothing is merged.
    """

    merge: str
    weights: str
    task: str
    score: float
    kept_head: float | None
    recorded: float
    baseline: float
    weight: float | None
    survives: float | None
    disturbed: float | None
    distance: float | None
    cosine: float | None
    reads: float | None
    moves: float | None
    opposite: float | None
    cancelled: float | None
    kept: float | None
    rank: int | None
    metric: str
    examples: int
    scored_on: int
    torch: str
    transformers: str
    adapters: str
    seconds: float

    def cells(self) -> list[str]:
        """The row as the table writes it, in the order of `COLUMNS`."""
        return [_written(name, getattr(self, name)) for name in COLUMNS]


COLUMNS = tuple(one.name for one in fields(MergeRow))
_TEXTS = frozenset({"merge", "weights", "task", "metric", "torch", "transformers", "adapters"})
_COUNTS = frozenset({"rank", "examples", "scored_on"})
_NEEDED = frozenset({"score", "recorded", "baseline", "examples", "scored_on", "seconds"})


def read_merge_rows(path: Path) -> list[MergeRow]:
    """The rows of a table; none where there is no file yet.

    Raises
    ------
    FormatError
        When the file holds something else.
    """
    return read_cells(
        path, COLUMNS, "merges", lambda cells: MergeRow(**{name: _read(name, cells[name]) for name in COLUMNS})
    )


def _row(cells: dict[str, str]) -> MergeRow:
    return MergeRow(**{name: _read(name, cells[name]) for name in COLUMNS})


def append_merge_rows(path: Path, rows: Iterable[MergeRow]) -> None:
    """Add rows; they are on the disk when this returns.

    Raises
    ------
    TupateHubError, WorkFailed
        When the file cannot be written, in one sentence.
    """
    append_cells(path, COLUMNS, (row.cells() for row in rows))


def _written(name: str, value: str | float | None) -> str:
    if value is None:
        return ""
    if name == "seconds":
        return f"{value:.1f}"
    return f"{value:.5f}" if isinstance(value, float) else str(value)


def _read(name: str, cell: str) -> Any:
    if name in _TEXTS:
        return cell
    if cell == "" and name not in _NEEDED:
        return None
    return int(cell) if name in _COUNTS else float(cell)
