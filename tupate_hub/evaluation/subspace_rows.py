"""Rows of the subspace experiment: what each task has scored under each way to find and use a subspace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from tupate_hub.storage.atomic import alone
from tupate_hub.storage.csv_rows import append_cells, read_cells


@dataclass(frozen=True, order=True)
class Trial:
    """One way to find a subspace.

    `maps` is `msf`, `linear` (MSF with a linear decoder), `pca`, `random` (through the common start) or `random-mean`
    (through the mean of the tasks); `full` is tuning without a subspace and `none` the base model as it is. `split`
    says which tasks it is found over, `fitted_on` how many of them there are.
    """

    maps: str
    split: str = ""
    seed: int = 0
    dim: int = 0
    fitted_on: int = 0


@dataclass(frozen=True)
class SubspaceRow:
    """The score of one task in one trial.

    `measure` is `decoded` (encoded and decoded again, nothing tuned), `same` (tuned on the examples of the first draw),
    `new` (on those of the second), `again` (as `same`, with another seed), `then-full` (full tuning from where `same`
    has ended) or `none`. `seen` says whether the subspace was found over the task. `score` is the
    accuracy on the task's test examples, `held_out` that of the checkpoint that was chosen, as fractions; `steps` are
    those of tuning the task, `fit_steps` those of finding the subspace, and `seconds` those of the whole trial.
    """

    maps: str
    split: str
    seed: int
    dim: int
    fitted_on: int
    measure: str
    task: str
    family: str
    seen: bool
    score: float
    held_out: float | None
    steps: int
    fit_steps: int
    method: str
    device: str
    torch: str
    seconds: float

    @property
    def trial(self) -> Trial:
        """The trial it belongs to."""
        return Trial(self.maps, self.split, self.seed, self.dim, self.fitted_on)

    def cells(self) -> list[str]:
        """The row as the table writes it, in the order of `COLUMNS`."""
        written = {
            "seen": str(int(self.seen)),
            "score": f"{self.score:.4f}",
            "held_out": "" if self.held_out is None else f"{self.held_out:.4f}",
            "seconds": f"{self.seconds:.1f}",
        }
        return [written.get(name, str(getattr(self, name))) for name in COLUMNS]


COLUMNS = tuple(one.name for one in fields(SubspaceRow))
_NUMBERS = {"seed": int, "dim": int, "fitted_on": int, "steps": int, "fit_steps": int, "score": float, "seconds": float}


def read_subspace_rows(path: Path) -> list[SubspaceRow]:
    """The rows of a table; none where there is no file yet.

    Raises
    ------
    FormatError
        When the file holds something else.
    """
    return read_cells(path, COLUMNS, "the subspace experiment", _row)


def read_while_written(path: Path) -> list[SubspaceRow]:
    """The same of a table that other processes add to meanwhile; none of their rows is seen half."""
    with alone(path.parent):
        return read_subspace_rows(path)


def _row(cells: dict[str, str]) -> SubspaceRow:
    numbers = {name: kind(cells[name]) for name, kind in _NUMBERS.items()}
    held_out = float(cells["held_out"]) if cells["held_out"] else None
    return SubspaceRow(**{**cells, **numbers, "seen": cells["seen"] == "1", "held_out": held_out})


def append_subspace_rows(path: Path, rows: Iterable[SubspaceRow]) -> None:
    """Add the rows of a trial; they are on the disk when this returns.

    Raises
    ------
    TupateHubError, WorkFailed
        When the file cannot be written, in one sentence.
    """
    append_cells(path, COLUMNS, (row.cells() for row in rows))
