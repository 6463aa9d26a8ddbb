"""The tables and pictures of docs/subspace.md, from the rows of zoo/truth/subspace.csv, in seconds.

    python scripts/evaluation/subspace_page.py [--check]

`--check` writes nothing and fails where the page or a picture is not what the rows give.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from curve_picture import Curve, picture

from tupate_hub import Zoo
from tupate_hub.data.fewshot import read_fewshots
from tupate_hub.evaluation.subspace_rows import SubspaceRow, Trial, read_subspace_rows
from tupate_hub.evaluation.subspace_summary import (
    MEASUREMENTS,
    Estimate,
    References,
    Relative,
    chosen,
    paired,
    relative,
)
from tupate_hub.publish.card import smallest_subspaces
from tupate_hub.publish.subspaces import subspace_map
from tupate_hub.publish.table import fill_tables, markdown_table
from tupate_hub.storage.atomic import write_bytes

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "subspace.md"
TRUTH = ROOT / "zoo" / "truth"
DIMS = (5, 10, 50, 100, 250)
SPLITS = ("random", "cls", "non-cls")
SEEN, UNSEEN = "IST, training tasks, new data", "IST, unseen tasks"
TRAINING = "MSF, training tasks"
#: What the ways to find a subspace are compared by.
COMPARED = (TRAINING, "MSF, unseen tasks", SEEN, UNSEEN)
BESIDE = (TRAINING, SEEN, UNSEEN)
MAPS = {
    "msf": "MSF",
    "linear": "MSF, linear decoder",
    "pca": "principal components",
    "random-mean": "random, through the mean",
    "random": "random, through the start",
}
FITTED_ON = (15, 30, 45)
TITLES = {
    "subspace-dims": "E_rel over the number of dimensions",
    "subspace-tasks": "E_rel over the number of training tasks",
    "subspace-map": "The tasks that the smallest bundled subspace was found over",
}


def shown(found: Relative | None) -> str:
    """A ratio with its interval, and the share of the gain behind it."""
    if found is None:
        return ""
    ratio, gain = found.ratio, found.gain
    return f"{100 * ratio.mean:.1f} [{100 * ratio.low:.1f}, {100 * ratio.high:.1f}]; {100 * gain.mean:.0f}"


def points(found: Estimate) -> str:
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def main_table(rows: Sequence[SubspaceRow], known: References) -> str:
    """Every split and number of dimensions: the five measurements."""
    lines = []
    for split in SPLITS:
        for dim in DIMS:
            trial = Trial("msf", split, dim=dim)
            for family in (None,) if split == "random" else ("cls", "non-cls"):
                found = {name: relative(chosen(rows, trial, name, family), known) for name in MEASUREMENTS}
                if (unseen := found[UNSEEN]) is None:
                    continue
                tried = "all" if family is None else family
                lines.append([split, tried, str(dim), *map(shown, found.values()), f"{unseen.tasks} / {unseen.seeds}"])
    return markdown_table(["found over", "tried on", "D", *MEASUREMENTS, "unseen / seeds"], lines)


def controls_table(rows: Sequence[SubspaceRow], known: References, longer: Sequence[SubspaceRow] = ()) -> str:
    """The random split: each way to find a subspace, MSF of more steps too, beside tuning in full and not at all."""
    rows = [*rows, *(replace(row, maps="longer") for row in longer if row.maps == "msf")]
    steps = max((row.fit_steps for row in longer), default=0)
    lines = []
    for dim in DIMS:
        for maps, title in {**MAPS, "longer": f"MSF, {steps:,} steps"}.items():
            trial = Trial(maps, "random", dim=dim)
            found = [relative(chosen(rows, trial, name), known) for name in COMPARED]
            if found[-1] is not None:
                minus = [beside(rows, trial, name) for name in BESIDE]
                lines.append([str(dim), title, *map(shown, found), *minus])
    nothing = [replace(row, maps="msf") for row in rows if row.maps == "none" and row.task in known.counted()]
    lines.append(["0", "no tuning", *[shown(relative(nothing, known))] * len(COMPARED), *[""] * len(BESIDE)])
    heads = ["training, decoded", "unseen, decoded", "IST, training tasks, new data", "IST, unseen"]
    minus = ["MSF minus it: training, decoded", "new data", "unseen"]
    return markdown_table(["D", "subspace", *heads, *minus], lines)


def beside(rows: Sequence[SubspaceRow], trial: Trial, measurement: str) -> str:
    """How much better MSF is on the same seeds and tasks, in points."""
    if trial.maps == "msf":
        return ""
    others = {(row.seed, row.task): row.score for row in chosen(rows, trial, measurement)}
    both = [row for row in chosen(rows, replace(trial, maps="msf"), measurement) if (row.seed, row.task) in others]
    return points(paired(both, others)) if both else ""


def by_tasks(rows: Sequence[SubspaceRow], known: References) -> Iterator[tuple[int, int, Relative, Relative]]:
    """D, the number of training tasks, and how far tuning in the subspace comes on seen and unseen ones."""
    for dim in (5, 50):
        whole = chosen(rows, Trial("msf", "random", dim=dim), UNSEEN)
        first = [row for row in whole if row.seed == 0]
        for count in (*FITTED_ON, first[0].fitted_on) if first else ():
            trial = Trial("msf", "random", dim=dim, fitted_on=count)
            found = [
                relative([row for row in chosen(rows, trial, name) if row.seed == 0], known) for name in (SEEN, UNSEEN)
            ]
            if found[0] is not None and found[1] is not None:
                yield dim, count, found[0], found[1]


def tasks_table(rows: Sequence[SubspaceRow], known: References) -> str:
    lines = [[str(dim), str(count), shown(seen), shown(unseen)] for dim, count, seen, unseen in by_tasks(rows, known)]
    return markdown_table(["D", "training tasks", "IST, training tasks, new data", "IST, unseen"], lines)


def user_table(rows: Sequence[SubspaceRow], lora: Sequence[SubspaceRow], known: References) -> str:
    """Unseen tasks with sixteen examples a class: who wins against full prompt tuning, and by how much."""
    lines = []
    full = known.full["same"]
    loras = {row.task: row.score for row in lora if (row.maps, row.measure, row.seed) == ("full", "same", 0)}
    for dim in DIMS:
        for measure, title in (("same", "IST"), ("then-full", "IST, then full")):
            trial = ("msf", "random", dim, measure)
            ours = [
                row
                for row in rows
                if (row.maps, row.split, row.dim, row.measure) == trial and not row.seen and row.task in full
            ]
            most = max((row.fitted_on for row in ours), default=0)
            ours = [row for row in ours if row.fitted_on == most]
            if ours:
                lines.append(
                    [str(dim), title, *duel(ours, full), *duel([row for row in ours if row.task in loras], loras)]
                )
    prompts = [row for row in rows if (row.maps, row.measure, row.seed) == ("full", "same", 0)]
    both = [row for row in prompts if row.task in loras and row.task in known.counted()]
    if both:
        lines.append(["", "full prompts, all tasks that count", "", "", *duel(both, loras)])
    heads = ["D", "tuned", "minus full prompts", "wins / losses", "minus LoRA", "wins / losses"]
    return markdown_table(heads, lines)


def duel(ours: Sequence[SubspaceRow], theirs: Mapping[str, float]) -> tuple[str, str]:
    """The mean difference in points, and how many rows are better and worse."""
    if not ours:
        return "", ""
    won = sum(row.score > theirs[row.task] for row in ours)
    lost = sum(row.score < theirs[row.task] for row in ours)
    return points(paired(ours, {(row.seed, row.task): theirs[row.task] for row in ours})), f"{won} / {lost}"


def seeds_table(rows: Sequence[SubspaceRow], known: References) -> str:
    """How far two seeds lie apart on the same tasks, in points: tuning in a subspace, and in full."""
    again = {row.task: row.score for row in rows if (row.maps, row.measure, row.seed) == ("full", "same", 1)}
    lines = []
    for dim in DIMS:
        both: dict[tuple[int, str], dict[str, float]] = {}
        for row in rows:
            ours = (row.maps, row.split, row.dim, row.seen) == ("msf", "random", dim, False)
            if ours and row.measure in ("same", "again"):
                both.setdefault((row.seed * 1000 + row.fitted_on, row.task), {})[row.measure] = row.score
        pairs = {key: found for key, found in both.items() if len(found) == 2 and key[1] in again}
        if pairs:
            apart = sum(abs(found["same"] - found["again"]) for found in pairs.values()) / len(pairs)
            theirs = sum(abs(known.full["same"][task] - again[task]) for _, task in pairs) / len(pairs)
            lines.append([str(dim), f"{100 * apart:.2f}", f"{100 * theirs:.2f}", str(len(pairs))])
    return markdown_table(["D", "IST", "full prompts", "pairs"], lines)


def facts_table(rows: Sequence[SubspaceRow], known: References) -> str:
    """What was tuned, how long and where."""
    if not known.none or not known.full["same"]:
        return ""
    counted = known.counted()
    families = {row.task: row.family for row in rows}
    cls = sum(families[task] == "cls" for task in counted)
    first = next((row for row in rows if row.maps == "msf"), None)
    full = next((row for row in rows if row.maps == "full"), None)
    none = sum(known.none[task] for task in counted) / max(1, len(counted))
    best = sum(known.full["same"][task] for task in counted) / max(1, len(counted))
    lines = [
        ["few-shot tasks", str(len(known.none))],
        ["of which full tuning makes better", f"{len(counted)}: {cls} `cls`, {len(counted) - cls} `non-cls`"],
        ["mean accuracy of these, no tuning", f"{100 * none:.1f}"],
        ["mean accuracy of these, full prompt tuning", f"{100 * best:.1f}"],
    ]
    for family in ("cls", "non-cls"):
        tasks = [task for task in known.none if families[task] == family]
        gains = [known.full["same"][task] - known.none[task] for task in tasks if task in known.full["same"]]
        if gains:
            added = f"{100 * sum(gains) / len(gains):+.1f} points over all {len(gains)}"
            lines.append([f"what full tuning adds on `{family}`", added])
    if first is not None and full is not None:
        tuned = max(row.steps for row in rows if (row.maps, row.measure) == ("msf", "same"))
        lines += [
            ["steps: full, MSF, IST", f"{full.steps}, {first.fit_steps}, {tuned}"],
            ["computed on", f"{first.device}, torch {first.torch}"],
            ["seconds of the trial D = 5, random, seed 0", f"{first.seconds:.0f}"],
        ]
    return markdown_table(["", ""], lines)


def pictures(rows: Sequence[SubspaceRow], known: References) -> dict[str, str]:
    """The two curves: over D, and over the number of training tasks."""
    found = {}
    level = relative([row for row in rows if row.maps == "none" and row.task in known.counted()], known)
    floor = 0.0 if level is None else level.ratio.mean
    dims = [dim for dim in sorted(DIMS) if chosen(rows, Trial("msf", "random", dim=dim), UNSEEN)]
    curves = []
    for title, maps, name in (
        ("new data", "msf", SEEN), ("unseen", "msf", UNSEEN), ("unseen, PCA", "pca", UNSEEN),
    ):  # fmt: skip
        points = [relative(chosen(rows, Trial(maps, "random", dim=dim), name), known) for dim in dims]
        if all(points) and points:
            curves.append(curve(title, [point for point in points if point is not None]))
    if curves:
        found["subspace-dims"] = picture(
            "Tuning in the subspace, relative to full tuning", "dimensions", [str(dim) for dim in dims], curves, floor,
            measure="E_rel", level="no tuning",
        )  # fmt: skip
    over = [one for one in by_tasks(rows, known) if one[0] == 5]
    if over:
        found["subspace-tasks"] = picture(
            "More training tasks (D = 5)", "training tasks", [str(count) for _, count, _, _ in over],
            [curve("new data", [one[2] for one in over]), curve("unseen", [one[3] for one in over])], floor,
            measure="E_rel", level="no tuning",
        )  # fmt: skip
    return found


def map_of_tasks() -> dict[str, str]:
    """The training tasks of the bundled zoo's smallest subspace of prompts."""
    held = {space: one for space, one in smallest_subspaces(Zoo.open(ROOT)).items() if one.space.method == "prompt"}
    families = {task.name: task.family for task in read_fewshots(Path(__file__).with_name("fewshot_tasks.json"))}
    return {"subspace-map": subspace_map(next(iter(held.values())), families)} if held else {}


def curve(name: str, found: Sequence[Relative]) -> Curve:
    ratios = [one.ratio for one in found]
    return Curve(name, [one.mean for one in ratios], [one.low for one in ratios], [one.high for one in ratios])


def build() -> dict[Path, bytes]:
    """The page and the pictures, by their paths."""
    rows = read_subspace_rows(TRUTH / "subspace.csv")
    lora = read_subspace_rows(TRUTH / "subspace-lora.csv")
    known = References.of(rows)
    tables = {
        "subspace facts": facts_table(rows, known),
        "subspace main": main_table(rows, known),
        "subspace controls": controls_table(rows, known, read_subspace_rows(TRUTH / "subspace-long.csv")),
        "subspace tasks": tasks_table(rows, known),
        "subspace user": user_table(rows, lora, known),
        "subspace seeds": seeds_table(rows, known),
    }
    if lora:
        tables["subspace lora"] = controls_table(lora, References.of(lora))
    drawn = {**pictures(rows, known), **map_of_tasks()}
    for name, title in TITLES.items():
        tables[name.replace("-", " picture ")] = f"![{title}]({name}.svg)\n" if name in drawn else ""
    page = fill_tables(PAGE.read_text(encoding="utf-8"), tables)
    return {PAGE: page.encode(), **{PAGE.with_name(f"{name}.svg"): text.encode() for name, text in drawn.items()}}


def main() -> int:
    made = build()
    stale = [path for path, data in made.items() if not path.exists() or path.read_bytes() != data]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what the rows give: make subspace", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        write_bytes(path, made[path])
    print(f"{len(stale)} of {len(made)} files written", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
