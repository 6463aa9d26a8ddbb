"""Regimes: the tables of zoo/truth, and which of their targets and sources are judged together."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from transfers import SPACE, TRUTH

from tupate_hub import Zoo
from tupate_hub.errors import UnknownName
from tupate_hub.evaluation.report import wide_enough, without_unmeasured_sources
from tupate_hub.evaluation.transfer_rows import SCRATCH
from tupate_hub.evaluation.truth import Truth, read_truth

#: A source counts when it was measured on so many of the targets, a target's seed when so many sources were with it.
FEWEST_SHARE = 0.7


@dataclass(frozen=True)
class Regime:
    """How the runs of a table of truth were made, and which of its targets are one pool.

    A target counts when `fewest_sources` were measured on it. `table` is the file's name, by default the regime's own;
    `spans` says whether the pool is that of answers marked in a text or of all other kinds, None for both.
    """

    examples: int
    steps: int
    title: str
    fewest_sources: int = 20
    table: str = ""
    spans: bool | None = None


REGIMES: Mapping[str, Regime] = {
    "few-shot-40": Regime(200, 40, "200 examples, 40 steps"),
    "few-shot-150": Regime(200, 150, "200 examples, 150 steps"),
    "limited-300": Regime(1000, 300, "1,000 examples, 300 steps", fewest_sources=9, spans=False),
    "limited-300-spans": Regime(
        1000, 300, "1,000 examples, 300 steps, extractive questions", 7, table="limited-300", spans=True
    ),
    "full-400": Regime(9000, 400, "all examples, at most 10,000, 400 steps", fewest_sources=9),
}
#: The regime whose measured transfers judge curves and the choice of the default.
JUDGE = "few-shot-150"
#: Whose first picks are shown target by target, with their columns' titles.
PICKED: Mapping[str, str] = {"update": "first by `update`", "gain": "first by gain"}


def named(zoo: Zoo) -> Callable[[str], str]:
    """The name that a registry has for a task of a table, or the table's own."""

    def name_of(written: str) -> str:
        try:
            return zoo.registry.task(written.strip()).name
        except UnknownName:
            return written.strip()

    return name_of


def truth_of(zoo: Zoo, path: Path, seeds: Collection[str] | None = None) -> Truth:
    """A table's part between tasks of the zoo, of some seeds or of all.

    A seed of a target that is still being measured does not count: its score from nothing would stand beside sources
    of other seeds.
    """
    tasks = [entry.task for entry in zoo.registry.in_space(SPACE)]
    whole = {(target, seed) for target, seed in whole_seeds(path) if seeds is None or seed in seeds}
    return read_truth(path, named(zoo), lambda row: (row["target"], row.get("seed")) in whole).restricted_to(tasks)


def whole_seeds(path: Path) -> set[tuple[str, str | None]]:
    """The targets and seeds of a table that are no longer being measured: most sources are there."""
    measured = Counter((row["target"], row.get("seed")) for row in _read(path) if row["source"] != SCRATCH)
    most = Counter[str]()
    for (target, _), count in measured.items():
        most[target] = max(most[target], count)
    return {(target, seed) for (target, seed), count in measured.items() if count >= FEWEST_SHARE * most[target]}


def path_of(regime: str) -> Path:
    """The table of a regime."""
    return TRUTH / f"{REGIMES[regime].table or regime}.csv"


def wide(zoo: Zoo, regime: str, seeds: Collection[str] | None = None) -> Truth:
    """The targets of a regime's pool that enough sources were measured on."""
    about, table = REGIMES[regime], truth_of(zoo, path_of(regime), seeds)
    spans = [zoo.registry.tasks[target].kind == "extractive_qa" for target in table.targets]
    pool = [row for row, of_spans in enumerate(spans) if about.spans in (None, of_spans)]
    return wide_enough(table.rows(pool), about.fewest_sources)


def usable(zoo: Zoo, regime: str, seeds: Collection[str] | None = None) -> Truth:
    """The part of a table that is still being measured on which predictors can be judged fairly."""
    found = wide(zoo, regime, seeds)
    return without_unmeasured_sources(found, math.ceil(FEWEST_SHARE * len(found.targets)))


def rows_of(name: str) -> list[dict[str, str]]:
    """The rows of a table by its name; none where there is none."""
    path = TRUTH / f"{name}.csv"
    return _read(path) if path.is_file() else []


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        return list(csv.DictReader(stream))
