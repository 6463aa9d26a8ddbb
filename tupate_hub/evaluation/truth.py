"""Truth: measured transfer, what a ranking of sources is judged by."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from tupate_hub.arrays import BoolArray, Float64Array
from tupate_hub.errors import FormatError, UnknownName

REQUIRED = ("source", "target", "score")
BASELINE = "baseline_score_without_transfer"
#: A table of truth larger than this, in bytes or in cells, is a mistake: the largest published has some thousand rows.
LARGEST_FILE, LARGEST_TABLE = 1 << 26, 20_000_000
#: Scores run to 1 or 100; far beyond that, a column was mistaken.
LARGEST_SCORE = 1e6
_COLUMNS_HINT = f"its columns are {','.join(REQUIRED)} and, where known, {BASELINE} and metric"


@dataclass(frozen=True)
class Truth:
    """Measured transfer from sources to targets.

    `scores` has shape (targets, sources), higher is better, NaN where nothing was measured; `baseline`, of shape
    (targets,), is the score without transfer, NaN where unknown; `metric` names each target's. Names are sorted.
    `notes` are sentences about what reading the file had to decide.
    """

    targets: tuple[str, ...]
    sources: tuple[str, ...]
    scores: Float64Array
    baseline: Float64Array
    metric: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def unit(self) -> float:
        """The full score in the file's own writing: 1 where no score is beyond ±1, else 100."""
        return 100.0 if np.nanmax(np.abs(self.scores), initial=0.0) > 1 else 1.0

    def fractions(self) -> Float64Array:
        """Scores as fractions of the full score, of shape (targets, sources)."""
        return np.asarray(self.scores / self.unit)

    def candidates(self) -> BoolArray:
        """Which sources a target chooses from, (targets, sources): all that were measured, never the target itself."""
        itself = np.array(self.targets)[:, None] == np.array(self.sources)[None, :]
        return np.asarray(np.isfinite(self.scores) & ~itself)

    def effects(self) -> Float64Array:
        """z-scores of the sources of each target, of shape (targets, sources); NaN where nothing was measured.

        The score minus the mean over the target's sources, in their standard deviations. A target whose sources all
        reach the same has effects of 0.
        """
        candidates = self.candidates()
        counts = np.maximum(candidates.sum(axis=1, keepdims=True), 1)
        means = np.where(candidates, self.scores, 0.0).sum(axis=1, keepdims=True) / counts
        moved = np.where(candidates, self.scores - means, 0.0)
        spreads = np.sqrt((moved**2).sum(axis=1, keepdims=True) / counts)
        varies = spreads > 1e-12 * np.abs(means)
        scaled = np.divide(moved, spreads, out=np.zeros_like(moved), where=varies)
        return np.where(candidates, scaled, np.nan)

    def rows(self, chosen: Sequence[int]) -> Truth:
        """The table of some of its targets, by their places, with all sources."""
        return replace(
            self,
            targets=tuple(self.targets[row] for row in chosen),
            scores=self.scores[list(chosen)],
            baseline=self.baseline[list(chosen)],
            metric=tuple(self.metric[row] for row in chosen),
        )

    def restricted_to(self, tasks: Iterable[str]) -> Truth:
        """The part of the table whose sources and targets are among `tasks`, to judge all predictors on the same cells.

        Raises
        ------
        FormatError
            Where nothing is left.
        """
        known = set(tasks)
        rows = [index for index, name in enumerate(self.targets) if name in known]
        columns = [index for index, name in enumerate(self.sources) if name in known]
        if not rows or not columns:
            raise FormatError(
                f"The truth has no target and source in common with the {len(known)} tasks of the space.",
                hint="see the tasks and their aliases: tupate-hub list",
            )
        return replace(
            self,
            targets=tuple(self.targets[row] for row in rows),
            sources=tuple(self.sources[column] for column in columns),
            scores=self.scores[np.ix_(rows, columns)],
            baseline=self.baseline[rows],
            metric=tuple(self.metric[row] for row in rows),
        )


def read_truth(
    path: Path,
    name_of: Callable[[str], str] = str.strip,
    counts: Callable[[Mapping[str, str]], bool] = lambda row: True,
) -> Truth:
    """Read a table of truth: CSV with the columns source, target, score and, where known, the baseline and the metric.

    Further columns are ignored. An empty score means that it was not measured. Several rows of one source and target
    (runs, checkpoints, aliases of one task) count with their mean, which `notes` says.

    Parameters
    ----------
    path : Path
        The file, UTF-8.
    name_of : callable, optional
        Turns a name of the file into the caller's, a registry's aliases for example; unknown names stay what they are.
    counts : callable, optional
        Which rows to take, by their columns: those of one seed, for example.

    Raises
    ------
    FormatError
        For a file that is no such table; a bad row is named by its line.
    """
    cells: dict[tuple[str, str], list[float]] = {}
    baselines: dict[str, dict[float, None]] = {}
    metrics: dict[str, str] = {}
    for line, row in _rows(path):
        if not counts(row):
            continue
        source, target = (_name(row, column, name_of, line, path) for column in ("source", "target"))
        scores, without = cells.setdefault((target, source), []), baselines.setdefault(target, {})
        scores.extend(_numbers(row, "score", line, path))
        without.update(dict.fromkeys(_numbers(row, BASELINE, line, path)))
        metrics.setdefault(target, (row.get("metric") or "").strip())
    if not any(cells.values()):
        raise FormatError(f"{path} holds no score.", hint=_COLUMNS_HINT)
    return _table(cells, baselines, metrics, path)


def _table(
    cells: Mapping[tuple[str, str], list[float]],
    baselines: Mapping[str, Iterable[float]],
    metrics: Mapping[str, str],
    path: Path,
) -> Truth:
    targets, sources = (tuple(sorted({cell[side] for cell in cells})) for side in (0, 1))
    if len(targets) * len(sources) > LARGEST_TABLE:
        raise FormatError(f"{path} names {len(sources)} sources and {len(targets)} targets: more than can be a table.")
    row_of, column_of = ({name: index for index, name in enumerate(names)} for names in (targets, sources))
    scores = np.full((len(targets), len(sources)), np.nan)
    for (target, source), found in cells.items():
        if found:
            scores[row_of[target], column_of[source]] = math.fsum(found) / len(found)
    without = [list(baselines[target]) for target in targets]
    repeated, differing = sum(len(found) > 1 for found in cells.values()), sum(len(found) > 1 for found in without)
    notes = []
    if repeated:
        notes.append(f"{repeated} pairs of source and target have several rows: their mean counts.")
    if differing:
        notes.append(f"{differing} targets have several baselines without transfer: their mean counts.")
    baseline = np.array([math.fsum(found) / len(found) if found else np.nan for found in without])
    return Truth(targets, sources, scores, baseline, tuple(metrics[target] for target in targets), tuple(notes))


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.", hint="give a CSV file") from error
    if len(data) > LARGEST_FILE:
        raise FormatError(f"{path} is larger than {LARGEST_FILE >> 20} MB: that is not a table of truth.")
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        missing = [column for column in REQUIRED if column not in (reader.fieldnames or ())]
        if missing:
            raise FormatError(f"{path} has no column {', '.join(missing)}.", hint=_COLUMNS_HINT)
        for row in reader:
            if None in row or None in row.values():
                raise FormatError(f"{path}, line {reader.line_num}: not as many fields as the header has.")
            yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8 text.", hint=_COLUMNS_HINT) from error
    except csv.Error as error:
        raise FormatError(f"{path} is not a CSV file: {error}.", hint=_COLUMNS_HINT) from error


def _name(row: Mapping[str, str], column: str, name_of: Callable[[str], str], line: int, path: Path) -> str:
    written = row[column].strip()
    if not written:
        raise FormatError(f"{path}, line {line}: the {column} is empty.")
    return name_of(written)


def _numbers(row: Mapping[str, str], column: str, line: int, path: Path) -> list[float]:
    written = (row.get(column) or "").strip()
    if not written:
        return []
    try:
        number = float(written)
    except ValueError:
        number = math.nan
    if not abs(number) <= LARGEST_SCORE:
        raise FormatError(f"{path}, line {line}: {column} is {written[:40]!r}, which is not a score.")
    return [number]


def align(truth: Truth, tasks: Sequence[str], scores: ArrayLike) -> Float64Array:
    """Scores between a zoo's tasks, of shape (tasks, tasks) with the target first, in the order of the truth.

    Returns
    -------
    Shape (targets, sources), ready for `evaluate`.

    Raises
    ------
    UnknownName
        For a source or target that is not among `tasks`: restrict the truth to them first.
    """
    place = {task: index for index, task in enumerate(tasks)}
    absent = sorted({*truth.targets, *truth.sources} - set(place))
    if absent:
        raise UnknownName(
            f"No scores for {', '.join(absent[:5])}{', ...' if len(absent) > 5 else ''} of the truth.",
            hint="see the tasks and their aliases: tupate-hub list",
        )
    rows, columns = ([place[name] for name in names] for names in (truth.targets, truth.sources))
    return np.asarray(np.asarray(scores, dtype=np.float64)[np.ix_(rows, columns)])
