"""Rows of measured transfer: what one run that was really made has scored, in a table that several processes fill.

`zoo/truth/` holds such tables, `tupate-hub transfer --out` writes them, and `truth.read_truth` reads them.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

from tupate_hub.errors import FormatError
from tupate_hub.storage.atomic import told_in_one_sentence
from tupate_hub.storage.csv_rows import append_cells

#: The source of a run that starts from nothing.
SCRATCH = "-"


@dataclass(frozen=True)
class TransferRun:
    """One run: a source, or `SCRATCH`, a target, and the seed of examples, order and head."""

    source: str
    target: str
    seed: int


@dataclass(frozen=True)
class TransferRow:
    """One score of one run.

    `score` is the target's, as a fraction, after `steps` optimizer steps; `baseline_score_without_transfer` that of
    the run from nothing with the same seed, None where there is none yet. `regime` names the protocol, `examples` is
    how many the run was tuned on, `scored_on` how many validation examples were scored at most. `seconds` count from
    the beginning of the run.
    """

    source: str
    target: str
    score: float
    baseline_score_without_transfer: float | None
    regime: str
    seed: int
    metric: str
    steps: int
    examples: int
    scored_on: int
    method: str
    device: str
    torch: str
    adapters: str
    transformers: str
    seconds: float

    def cells(self) -> list[str]:
        """The row as the table writes it, in the order of `COLUMNS`."""
        without = self.baseline_score_without_transfer
        written = {
            "score": f"{self.score:.5f}",
            "baseline_score_without_transfer": "" if without is None else f"{without:.5f}",
            "seconds": f"{self.seconds:.1f}",
        }
        return [written.get(name, str(getattr(self, name))) for name in COLUMNS]


COLUMNS = tuple(one.name for one in fields(TransferRow))


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table as they are written; none where there is no file yet.

    Raises
    ------
    FormatError
        When the file is there and has other columns.
    """
    if not path.exists():
        return []
    with told_in_one_sentence(path), path.open(newline="", encoding="utf-8", errors="replace") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames is not None and tuple(reader.fieldnames) != COLUMNS:
            raise FormatError(
                f"{path} is not a table of transfer runs: its columns are {','.join(reader.fieldnames)[:80]}.",
                hint=f"name a new file, or one with the columns {','.join(COLUMNS)}",
            )
        return list(reader)


def runs_of(path: Path) -> set[TransferRun]:
    """The runs that a table has a row of; `read_rows` says what it may raise."""
    return {TransferRun(row["source"], row["target"], int(row["seed"])) for row in read_rows(path)}


def append_rows(path: Path, rows: Iterable[TransferRow]) -> None:
    """Add rows to a table that other processes add to as well; they are on the disk when this returns.

    Raises
    ------
    TupateHubError, WorkFailed
        When the file cannot be written, in one sentence.
    """
    append_cells(path, COLUMNS, (row.cells() for row in rows))


def require_table(path: Path) -> None:
    """Refuse early a file that `append_rows` could not add to; nothing is left behind.

    Raises
    ------
    FormatError
        When it holds something else.
    TupateHubError, WorkFailed
        When it cannot be written.
    """
    read_rows(path)
    made = [folder for folder in path.parents if not folder.exists()]  # the deepest first
    with told_in_one_sentence(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.open("ab").close()
        else:  # not the table itself, into which another may be writing its first rows
            tempfile.TemporaryFile(dir=path.parent).close()
    with suppress(OSError):  # another has come to use them
        for folder in made:
            folder.rmdir()
