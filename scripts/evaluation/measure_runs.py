"""Make the tables of docs/evaluation.md about runs: how far apart two of a task lie, how early a ranking is right.

    python scripts/evaluation/measure_runs.py [--early FOLDER ...]

The first needs the bundled zoo alone. The second needs the early checkpoints that scripts/zoo/train_zoo.py leaves in
.runs/; the rows of a method without any stay as they are, and `--check` leaves that table out. Tables replace what lies
between the page's markers. Processors round differently: a page whose fractions are right within one of their last
digit stays as it is.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tupate_hub.arrays import Float32Array, Float64Array, IndexArray, StrArray
from tupate_hub.compare.kernel import kernel, pack
from tupate_hub.compare.similarity import available
from tupate_hub.embedding import TaskEmbedding, make_block, parse_embedding
from tupate_hub.errors import FormatError, TupateHubError
from tupate_hub.evaluation.metrics import bootstrap_interval, roc_area, spearman
from tupate_hub.publish.table import CLEARLY, fill_tables, margin, markdown_table, rows_on
from tupate_hub.registry import Registry
from tupate_hub.storage.atomic import write_bytes
from tupate_hub.storage.safetensors import parse_tensorfile
from tupate_hub.zoo import Zoo

PAGE = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"
EARLY = Path(__file__).resolve().parents[2] / ".runs"
SHARES = ("0.05", "0.1", "0.25", "0.5")
RESAMPLES = 2000
#: A rank correlation over fewer tasks says nothing.
FEWEST_TASKS = 5


# --- two runs of a task against two tasks ----------------------------------------------------------------------


@dataclass(frozen=True)
class Runs:
    """All runs of a space: their tasks and the seeds of their first parameters, and the score of each pair.

    `tasks` and `starts` have shape (runs,), `scores` (runs, runs). The first run of a task is the one in the zoo.
    """

    tasks: StrArray
    starts: NDArray[np.int64]
    scores: Float64Array

    @property
    def repeated(self) -> list[str]:
        """The tasks with more than one run."""
        names, counts = np.unique(self.tasks, return_counts=True)
        return [str(name) for name in names[counts > 1]]


@dataclass(frozen=True)
class Pairs:
    """Pairs of runs: the tasks of both, of shape (pairs,), and their scores."""

    first: StrArray
    second: StrArray
    scores: Float64Array

    def of_one_task(self, yes: bool) -> Pairs:
        """The pairs of two runs of one task, or the others."""
        chosen = (self.first == self.second) == yes
        return Pairs(self.first[chosen], self.second[chosen], self.scores[chosen])


def runs_of(zoo: Zoo, space: str, similarity: str) -> Runs:
    """Every run of a space, those of the zoo and their repeats."""
    entries = [
        (run, start)
        for entry in zoo.registry.in_space(space)
        for run, start in zip(entry.runs(), (0, *(one.init_seed for one in entry.repeats)), strict=True)
    ]
    packed = pack([zoo.load(run) for run, _ in entries], similarity, zoo.input_covariance_for(space, similarity))
    scores = kernel(packed, packed).scores()
    tasks, starts = np.array([run.task for run, _ in entries]), np.array([start for _, start in entries])
    return Runs(tasks, starts, (scores + scores.T) / 2)


def pairs_of(runs: Runs, shared: bool) -> Pairs:
    """The pairs of runs that started from the same parameters, or from other ones."""
    pairs = [(i, j) for i, j in combinations(range(len(runs.tasks)), 2) if (runs.starts[i] == runs.starts[j]) == shared]
    one, other = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return Pairs(runs.tasks[one], runs.tasks[other], runs.scores[one, other])


def area_with_interval(pairs: Pairs, repeated: Sequence[str], seed: int = 0) -> tuple[float, float, float]:
    """The ROC area of pairs of one task against pairs of two, and its 95 % bootstrap interval.

    Tasks are drawn, not pairs, because a task's pairs are not independent: those with repeats and the others each among
    themselves. A pair counts as often as both of its tasks were drawn.
    """
    same, different = pairs.of_one_task(True), pairs.of_one_task(False)
    names = np.unique([*pairs.first, *pairs.second])
    at_same, at_different = (
        [np.searchsorted(names, of) for of in (one.first, one.second)] for one in (same, different)
    )
    groups = [group for inside in (True, False) if len(group := np.flatnonzero(np.isin(names, repeated) == inside))]
    generator = np.random.default_rng(seed)
    drawn, areas = np.zeros(len(names)), []
    for _ in range(RESAMPLES):
        for group in groups:
            drawn[group] = generator.multinomial(len(group), np.full(len(group), 1 / len(group)))
        weights = drawn_times(*at_same, drawn), drawn_times(*at_different, drawn)
        if weights[0].any() and weights[1].any():
            areas.append(roc_area(same.scores, different.scores, *weights))
    low, high = np.quantile(areas, [0.025, 0.975])
    return roc_area(same.scores, different.scores), float(low), float(high)


def drawn_times(first: IndexArray, second: IndexArray, drawn: Float64Array) -> Float64Array:
    """How often each pair of tasks counts, given how often each task was drawn; one of one task as often as it."""
    return np.where(first == second, drawn[first], drawn[first] * drawn[second])


def found_first(runs: Runs, shared: bool) -> tuple[int, int]:
    """How many repeats find their own task first among the zoo's runs, and how many repeats there are."""
    in_zoo = np.array([task not in runs.tasks[:row] for row, task in enumerate(runs.tasks)])
    asked = np.flatnonzero(~in_zoo & ((runs.starts == 0) == shared))
    first = runs.tasks[in_zoo][runs.scores[asked][:, in_zoo].argmax(axis=1)] if len(asked) else asked
    return int((first == runs.tasks[asked]).sum()), len(asked)


def distinct(zoo: Zoo, space: str) -> list[str]:
    """The similarities of a space, without those that are another one by its method's definition."""
    kept: dict[str, Float64Array] = {}
    for name in available(bool(zoo.registry.space(space).moments)):
        scores = zoo.pair_index(space, name).scores()
        if not any(np.allclose(scores, other, atol=1e-5) for other in kept.values()):
            kept[name] = scores
    return list(kept)


def area_rows(zoo: Zoo) -> Iterator[list[str]]:
    for space in zoo.registry.spaces.values():
        if not any(entry.repeats for entry in zoo.registry.in_space(space.name)):
            continue
        compared = {name: runs_of(zoo, space.name, name) for name in distinct(zoo, space.name)}
        for shared in (True, False):
            for similarity, runs in compared.items():
                pairs = pairs_of(runs, shared)
                same, different = (pairs.of_one_task(yes).scores for yes in (True, False))
                if not (len(same) and len(different)):
                    continue
                area, low, high = area_with_interval(pairs, runs.repeated)
                first, asked = found_first(runs, shared)
                yield [
                    space.method,
                    "shared" if shared else "separate",
                    f"`{similarity}`",
                    f"{area:.3f} [{low:.3f}, {high:.3f}]",
                    f"{np.median(same):.3f} ({same.min():.3f} to {same.max():.3f})",
                    f"{np.median(different):.3f} ({np.quantile(different, 0.95):.3f}, {different.max():.3f})",
                    f"{len(same)} / {len(different)}",
                    f"{first} of {asked}",
                ]


AREA_COLUMNS = (
    "method", "start", "similarity", "ROC area", "one task: median (range)", "two tasks: median (95 %, highest)",
    "pairs: one task / two", "own task first",
)  # fmt: skip


# --- early checkpoints -----------------------------------------------------------------------------------------

_LORA = re.compile(r"^[a-z]+\.(?P<block>.+)\.loras\.task\.lora_(?P<part>[AB])$")


def read_early(path: Path, final: TaskEmbedding) -> TaskEmbedding:
    """An early checkpoint of a run of the zoo.

    Files of earlier versions hold LoRA's factors under the names of the `adapters` library; their scale is the run's.

    Raises
    ------
    FormatError
        When it is neither, or of another task or space than the run.
    """
    data = path.read_bytes()
    file = parse_tensorfile(data, str(path))
    if file.metadata.get("task"):
        early = parse_embedding(data, str(path))
        if (early.task, early.space) != (final.task, final.space):
            raise FormatError(f"{path} is of {early.task} in {early.space.name}, not of {final.task}.")
        return early
    parts: dict[str, dict[str, Float32Array]] = {}
    for name, array in file.tensors.items():
        found = _LORA.match(name)
        if found is None:
            raise FormatError(f"{path} is no early checkpoint: {name} is no parameter of LoRA.")
        parts.setdefault(found["block"], {})[found["part"]] = array.astype(np.float32)
    blocks = tuple(make_block(block.name, parts[block.name], block.scale) for block in final.blocks)
    return replace(final, blocks=blocks)


def early_files(folders: Iterable[Path], space: str, task: str) -> dict[str, Path]:
    """The early checkpoints of a task's run in the zoo, by share of the steps; empty where one is missing."""
    base, _, method = space.rpartition("/")
    for folder in folders:
        for place in (folder / base / method / task, folder / method / task):
            files = {share: place / f"early-{share}.safetensors" for share in SHARES}
            if all(path.exists() for path in files.values()):
                return files
    return {}


def correlations(first: Float64Array, second: Float64Array) -> Float64Array:
    """Spearman of each target's ranking of the other tasks by two matrices of scores, of shape (tasks,)."""
    others = ~np.eye(len(first), dtype=bool)
    return np.array([spearman(first[row][keep], second[row][keep]) for row, keep in enumerate(others)])


def between_targets(scores: Float64Array) -> float:
    """The mean Spearman between two targets' rankings: what a ranking reaches without looking at its target."""
    found = []
    for one, other in combinations(range(len(scores)), 2):
        rest = np.delete(scores[[one, other]], [one, other], axis=1)
        found.append(spearman(rest[0], rest[1]))
    return float(np.mean(found))


def early_rows(zoo: Zoo, folders: Sequence[Path]) -> Iterator[list[str]]:
    for space in zoo.registry.spaces.values():
        entries = zoo.registry.in_space(space.name)
        files = {entry.task: early_files(folders, space.name, entry.task) for entry in entries}
        known = [entry for entry in entries if files[entry.task]]
        if len(known) < FEWEST_TASKS:
            continue
        final = [zoo.load(entry) for entry in known]
        early = {share: [read_early(files[one.task][share], one) for one in final] for share in SHARES}
        for similarity in distinct(zoo, space.name):
            moments = zoo.input_covariance_for(space.name, similarity)
            packed = pack(final, similarity, moments)
            settled = kernel(packed, packed).scores()
            cells: dict[str, list[str]] = {"both": [], "target": []}
            for share in SHARES:
                part = pack(early[share], similarity, moments)
                cells["both"].append(mean_of(correlations(kernel(part, part).scores(), settled)))
                cells["target"].append(mean_of(correlations(kernel(part, packed).scores(), settled)))
            floor = f"{between_targets(settled):.3f}"
            start = [space.method, f"`{similarity}`", str(len(known))]
            yield [*start, "early against early", *cells["both"], floor]
            yield [*start, "early against the zoo", *cells["target"], floor]


def with_others(rows: Sequence[list[str]], stored: Sequence[list[str]]) -> list[list[str]]:
    """The rows of a table, and those of the methods without any as they are stored, in the order of the methods."""
    measured = {row[0] for row in rows}
    return sorted([*rows, *(row for row in stored if row[0] not in measured)], key=lambda row: row[0])


def mean_of(values: Float64Array) -> str:
    low, high = bootstrap_interval(values)
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


EARLY_COLUMNS = (
    "method", "similarity", "tasks", "compared", *(f"{float(share):.0%} of the steps" for share in SHARES),
    "another target's",
)  # fmt: skip


# --- what was learned ------------------------------------------------------------------------------------------


def learned_rows(registry: Registry) -> Iterator[list[str]]:
    for space in registry.spaces.values():
        margins = [margin(entry) for entry in registry.in_space(space.name)]
        clearly = sum(value > CLEARLY for value in margins)
        some = sum(value > 0 for value in margins)
        yield [space.method, str(len(margins)), str(some), f"{clearly} ({clearly / len(margins):.0%})"]


LEARNED_COLUMNS = ("method", "tasks", "above the baseline", f"by more than {CLEARLY:g} standard errors")


# --- the page --------------------------------------------------------------------------------------------------


_FRACTION = re.compile(r"-?\d+\.\d+")


def agree(page: str, other: str) -> bool:
    """Whether two pages differ in nothing but the last digits of fractions, and there by one at most."""
    if _FRACTION.split(page) != _FRACTION.split(other):
        return False
    pairs = zip(_FRACTION.findall(page), _FRACTION.findall(other), strict=True)
    return all(abs(Decimal(one) - Decimal(two)) <= max(map(_last_digit, (one, two))) for one, two in pairs)


def _last_digit(fraction: str) -> Decimal:
    return Decimal(10) ** -len(fraction.partition(".")[2])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--early", type=Path, nargs="+", default=[EARLY], help="folders of runs [default: .runs]")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where something would change")
    options = parser.parse_args()
    try:
        zoo = Zoo.open(PAGE.parents[1])
        tables = {
            "runs": markdown_table(AREA_COLUMNS, list(area_rows(zoo))),
            "learned": markdown_table(LEARNED_COLUMNS, list(learned_rows(zoo.registry))),
        }
        before = PAGE.read_text(encoding="utf-8")
        if early := [] if options.check else list(early_rows(zoo, options.early)):
            tables["early"] = markdown_table(EARLY_COLUMNS, with_others(early, rows_on(before, "early")))
        after = fill_tables(before, tables)
        if agree(before, after):
            after = before
    except TupateHubError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return error.exit_code
    if options.check:
        print("nothing to do" if before == after else f"{PAGE.name} is out of date: make runs", file=sys.stderr)
        return int(before != after)
    write_bytes(PAGE, after.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
