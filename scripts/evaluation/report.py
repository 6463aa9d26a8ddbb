"""Judge every predictor by measured transfer: zoo/truth/report.json and gain.json, and tables of docs/evaluation.md.

    python scripts/evaluation/report.py [--published FOLDER] [--check]

It takes zoo/truth/*.csv and the bundled embeddings, and, where FOLDER is there, published tables of transfer; without
it what report.json says of them stays. What is computed is compared with what is stored by a tolerance, since
processors round differently; the page is a function of the stored report. `--check` writes nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gain_picture import picture

from tupate_hub import Zoo
from tupate_hub.compare.kernel import off_diagonal
from tupate_hub.compare.noise import noise_level
from tupate_hub.compare.view import View
from tupate_hub.errors import UnknownName
from tupate_hub.evaluation.evaluate import evaluate
from tupate_hub.evaluation.forecast import fit_forecast
from tupate_hub.evaluation.gain import fit_gain
from tupate_hub.evaluation.predictors import PREDICTIONS, PREDICTORS, Evidence, known_cells
from tupate_hub.evaluation.report import (
    DEFAULT,
    judged,
    measured_again,
    per_target,
    share_of_the_way,
    wide_enough,
    without_unmeasured_sources,
)
from tupate_hub.evaluation.strength import fit_strengths
from tupate_hub.evaluation.truth import Truth, align, read_truth
from tupate_hub.publish.table import fill_tables, markdown_table
from tupate_hub.search.similar import pair_scores
from tupate_hub.storage.atomic import write_bytes

ROOT = Path(__file__).resolve().parents[2]
TRUTH = ROOT / "zoo" / "truth"
PAGE = ROOT / "docs" / "evaluation.md"
SPACE = "all-MiniLM-L6-v2/lora"
TOLERANCE = 2e-3
#: The regimes of the bundled truth: examples, steps, and what a reader calls them.
REGIMES: Mapping[str, tuple[int, int, str]] = {
    "few-shot-40": (200, 40, "200 examples, 40 steps"),
    "few-shot-150": (200, 150, "200 examples, 150 steps"),
    "limited-300": (1000, 300, "1,000 examples, 300 steps"),
}
#: A target counts when so many sources were measured on it, a source when it was on so many of the targets.
FEWEST_SOURCES, FEWEST_SHARE = 20, 0.7
#: Published tables of fine-tuning: model and method differ from the bundled zoo's, tasks are matched by name.
PUBLISHED = (
    "taskweb_gpt2m_finetune taskweb_roberta_finetune taskweb_t5s_finetune taskweb_t5b_finetune taskweb_t5b_adapter "
    "taskweb_t5b_bitfit taskweb_t5b_lora taskweb_t5l_adapter taskweb_t5l_finetune choshen2022_roberta_base "
    "cogtaskonomy2022_bert"
).split()
OF_PUBLISHED = "random data-size tupate-lora outputs update effect source-mean strength gain".split()


def named(zoo: Zoo) -> Callable[[str], str]:
    def name_of(written: str) -> str:
        try:
            return zoo.registry.task(written.strip()).name
        except UnknownName:
            return written.strip()

    return name_of


def truth_of(zoo: Zoo, path: Path) -> Truth:
    tasks = [entry.task for entry in zoo.registry.in_space(SPACE)]
    return read_truth(path, named(zoo)).restricted_to(tasks)


def usable(truth: Truth) -> Truth:
    """The part of a table that is still being measured on which predictors can be judged fairly."""
    wide = wide_enough(truth, FEWEST_SOURCES)
    return without_unmeasured_sources(wide, math.ceil(FEWEST_SHARE * len(wide.targets)))


def own(zoo: Zoo) -> dict[str, Any]:
    found = {}
    for regime, (examples, steps, title) in REGIMES.items():
        path = TRUTH / f"{regime}.csv"
        if not path.is_file():
            continue
        table = usable(truth_of(zoo, path))
        if len(table.targets) < 2:
            continue
        evidence = Evidence(table, zoo, SPACE, ROOT / PREDICTIONS)
        found[regime] = {
            "title": title,
            "examples": examples,
            "steps": steps,
            "targets": len(table.targets),
            "sources": int(np.median(table.candidates().sum(axis=1))),
            "runs": int(np.isfinite(table.scores).sum()),
            "predictors": judged(evidence),
            "per_target": per_target(evidence, ["update", "gain"]),
            "scores": {
                target: [round(float(score), 4) for score in row[known]]
                for target, row, known in zip(table.targets, table.scores, table.candidates(), strict=True)
            },
        }
    return found


def published(zoo: Zoo, folder: Path) -> dict[str, Any]:
    """Means over the published tables, and for TaskWeb what each other setting's measured transfer reaches."""
    tables = {name: truth_of(zoo, folder / f"{name}.csv") for name in PUBLISHED}
    found = {name: judged(Evidence(table, zoo, SPACE), OF_PUBLISHED) for name, table in tables.items()}
    means = {
        predictor: {
            metric: round(float(np.mean([rows[predictor]["metrics"][metric]["mean"] for rows in found.values()])), 4)
            for metric in ("ndcg_rank", "regret@3_percent", "rank_of_best", "spearman")
        }
        for predictor in OF_PUBLISHED
    }
    return {"tables": found, "means": means, "again": list(again(tables))}


def again(tables: Mapping[str, Truth]) -> Iterator[dict[str, Any]]:
    """What measuring the transfer again says about a TaskWeb table: the mean effect in all other settings together."""
    taskweb = {name: table for name, table in tables.items() if name.startswith("taskweb")}
    for name, table in taskweb.items():
        others = [
            measured_again(table, replace(second, scores=second.effects()))
            for other, second in taskweb.items()
            if other != name
        ]
        counts = np.isfinite(others).sum(axis=0)
        mean = np.where(counts > 0, np.nansum(others, axis=0) / np.maximum(counts, 1), np.nan)
        known = known_cells(table, mean)
        rows = [table.targets.index(target) for target in known.targets]
        report = evaluate(np.nan_to_num(mean[rows]), known)
        yield {
            "table": name,
            "ndcg_rank": round(report.summary("ndcg_rank").mean, 4),
            "regret@3_percent": round(report.summary("regret@3_percent").mean, 4),
        }


def gain(zoo: Zoo) -> dict[str, Any]:
    """What the registry keeps: strengths, the weights of a ranking by gain, a forecast a regime."""
    entries = zoo.registry.in_space(SPACE)
    tasks = [entry.task for entry in entries]
    scores = pair_scores(zoo, SPACE, View())
    traits = {name: Evidence(_nothing(tasks), zoo, SPACE).traits[name] for name in tasks}
    noise = noise_level(off_diagonal(scores), [zoo.registry.tasks[task].kind for task in tasks])
    paths = {regime: TRUTH / f"{regime}.csv" for regime in REGIMES}
    tables = {
        regime: wide_enough(truth_of(zoo, path), FEWEST_SOURCES) for regime, path in paths.items() if path.is_file()
    }
    tables = {regime: table for regime, table in tables.items() if len(table.targets) >= 4}
    affinities = {regime: align(table, tasks, scores) for regime, table in tables.items()}
    model = fit_gain(list(tables.values()), list(affinities.values()), traits)
    forecasts = [
        fit_forecast(table, affinities[regime], noise, traits, regime=regime, examples=examples, steps=steps).as_dict()
        for regime, table in tables.items()
        for examples, steps, _ in [REGIMES[regime]]
        if noise is not None
    ]
    strengths = fit_strengths(list(tables.values()), traits)
    weights = {"affinity": round(model.affinity, 4), "strength": round(model.strength, 4), "targets": model.targets}
    return {
        SPACE: {
            "gain": {**weights, "forecasts": forecasts},
            "strengths": {task: strengths[task].as_dict() for task in tasks},
        }
    }


def _nothing(tasks: Sequence[str]) -> Truth:
    return Truth(tuple(tasks), tuple(tasks), np.full((len(tasks),) * 2, np.nan), np.full(len(tasks), np.nan), ())


def blends(zoo: Zoo) -> dict[str, Any]:
    """Starting from the blend of the first three picks against the best of the three and the first, in points.

    A target's seeds are averaged first: the error is that over targets.
    """
    found = {}
    for regime in REGIMES:
        path = TRUTH / f"blends-{regime}.csv"
        if not path.is_file():
            continue
        rows = [*_rows(regime), *_rows(f"repeats-{regime}")]
        singles = {(row["source"], row["target"], row["seed"]): float(row["score"]) for row in rows}
        found_by: dict[str, dict[str, list[float]]] = {"best": {}, "first": {}, "nothing": {}}
        for row in _rows(f"blends-{regime}"):
            parts = row["source"].split("+")
            scores = [singles.get((part, row["target"], row["seed"])) for part in parts]
            nothing = singles.get(("-", row["target"], row["seed"]))
            blend = 100 * float(row["score"])
            against = {"nothing": nothing, "first": scores[0], "best": max(scores, key=lambda one: one or -1)}
            for name, other in against.items():
                if other is not None and (name != "best" or None not in scores):
                    found_by[name].setdefault(row["target"], []).append(blend - 100 * other)
        means = {name: [float(np.mean(one)) for one in rows.values()] for name, rows in found_by.items()}
        found[regime] = {name: _mean_and_error(values) for name, values in means.items() if len(values) > 1}
    return found


def converged() -> dict[str, Any]:
    """From nothing until nothing more is gained, beside the same start after 150 steps: mean over targets, points."""
    long, short = _rows("few-shot-converged-600"), _rows("few-shot-150")
    if not long or not short:
        return {}
    scores: dict[str, list[float]] = {}
    for row in long:
        scores.setdefault(row["target"], []).append(float(row["score"]))
    picks = {row["target"]: row for row in short if row["source"] == "-"}
    return {
        target: {
            "seeds": len(values),
            "mean": round(float(np.mean(values)), 4),
            "error": round(float(np.std(values, ddof=1) / math.sqrt(len(values))), 4) if len(values) > 1 else None,
            "after_150": float(picks[target]["score"]) if target in picks else None,
        }
        for target, values in sorted(scores.items())
    }


def _rows(name: str) -> list[dict[str, str]]:
    path = TRUTH / f"{name}.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _mean_and_error(values: Sequence[float]) -> dict[str, float | int]:
    error = float(np.std(values, ddof=1) / math.sqrt(len(values)))
    return {"targets": len(values), "mean": round(float(np.mean(values)), 3), "error": round(error, 3)}


# --- the page --------------------------------------------------------------------------------------------------


def _interval(found: Mapping[str, float | None], digits: int = 3, sign: str = "") -> str:
    mean, low, high = (found[name] for name in ("mean", "low", "high"))
    if low is None or high is None:
        return f"{mean:{sign}.{digits}f}"
    return f"{mean:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def predictors_table(pool: Mapping[str, Any], costs: Mapping[str, Any]) -> str:
    rows = []
    for name in [name for name in PREDICTORS if name in pool["predictors"]]:
        found = pool["predictors"][name]
        metrics, pick = found["metrics"], found["first_pick"]
        rows.append(
            [
                f"**`{name}`**" if name == DEFAULT else f"`{name}`",
                PREDICTORS[name].needs,
                f"{found['targets']} x {found['sources']}",
                _interval(metrics["ndcg_rank"]),
                "" if name == DEFAULT else _interval(found["against_default"]["ndcg_rank"], 3, "+"),
                f"{metrics['rank_of_best']['mean']:.1f}",
                *(f"{metrics[metric]['mean']:.1f}" for metric in ("regret@1", "regret@3", "regret@5")),
                f"{metrics['regret@3_percent']['mean']:.1f}",
                f"{pick['gain']:+.1f}" if pick else "",
                f"{pick['helped_of_helpable']:.0%}" if pick else "",
                _seconds(costs.get(name, {}), found["sources"]),
            ]
        )
    header = ["predictor", "looks at", "targets x sources", "rank-NDCG", "minus `update`", "rank of best", "regret@1",
              "@3", "@5", "@3 in %", "first pick's gain", "helped", "seconds a target"]  # fmt: skip
    return markdown_table(header, rows)


def _seconds(cost: Mapping[str, Any], sources: int) -> str:
    """What a new target costs: its own part, and that of each source with it; "" where it was not measured."""
    if not cost:
        return ""
    return f"{cost['seconds_per_task'] + sources * cost['seconds_per_pair']:.2g}"


def targets_table(pool: Mapping[str, Any]) -> str:
    rows = [
        [
            row["target"],
            "" if row["without"] is None else f"{row['without']:.3f}",
            f"{row['mean']:.3f}",
            f"{row['best']} {row['best_score']:.3f}",
            f"{row['update']} {row['update_score']:.3f}",
            f"{row['gain']} {row['gain_score']:.3f}",
        ]
        for row in pool["per_target"]
    ]
    header = ["target", "from nothing", "mean of sources", "best source", "first by `update`", "first by gain"]
    return markdown_table(header, rows)


def published_table(report: Mapping[str, Any]) -> str:
    means = report["means"]
    ceiling, lost = (
        float(np.mean([row[metric] for row in report["again"]])) for metric in ("ndcg_rank", "regret@3_percent")
    )
    random = means["random"]["ndcg_rank"]
    rows = [
        [
            f"`{name}`",
            f"{found['ndcg_rank']:.3f}",
            f"{share_of_the_way(found['ndcg_rank'], random, ceiling):.2f}",
            f"{found['regret@3_percent']:.1f}",
            f"{found['rank_of_best']:.1f}",
            f"{found['spearman']:.2f}",
        ]
        for name, found in ((name, means[name]) for name in OF_PUBLISHED)
    ]
    rows.append(
        ["*transfer measured in the eight other settings (TaskWeb)*", f"{ceiling:.3f}", "1.00", f"{lost:.1f}", "", ""]
    )
    return markdown_table(
        ["predictor", "rank-NDCG", "share of the way", "regret@3 in %", "rank of best", "Spearman"], rows
    )


def forecast_table(gains: Mapping[str, Any]) -> str:
    rows = [
        [
            REGIMES[one["regime"]][2],
            str(one["targets"]),
            f"{one['helped']:.0%}",
            f"{one['gained']:+.1f} [{one['gained_low']:+.1f}, {one['gained_high']:+.1f}]",
            f"{one['error']:.1f}",
            *(f"{one['regrets'][k]:.1f}" for k in ("1", "3", "5")),
        ]
        for one in gains[SPACE]["gain"]["forecasts"]
    ]
    header = [
        "regime",
        "targets",
        "first pick helped",
        "its gain, points",
        "error of the forecast",
        "regret@1",
        "@3",
        "@5",
    ]
    return markdown_table(header, rows)


def strengths_table(gains: Mapping[str, Any], most: int = 10) -> str:
    ordered = sorted(gains[SPACE]["strengths"].items(), key=lambda item: (-item[1]["value"], item[0]))
    chosen = [*ordered[:most], *ordered[-most:]]
    rows = [[task, f"{one['value']:+.2f}", f"{one['error']:.2f}", str(one["targets"])] for task, one in chosen]
    return markdown_table(["source", "strength", "standard error", "targets measured"], rows)


def blends_table(report: Mapping[str, Any]) -> str:
    names = {"best": "the best single of the three", "first": "the first pick", "nothing": "from nothing"}
    rows = [
        [REGIMES[regime][2], names[name], str(one["targets"]), f"{one['mean']:+.1f} ± {one['error']:.1f}"]
        for regime in REGIMES
        if regime in report
        for name, one in ((name, report[regime][name]) for name in names if name in report[regime])
    ]
    return markdown_table(["regime", "blend minus", "targets", "points"], rows)


def converged_table(report: Mapping[str, Any]) -> str:
    rows = [
        [
            target,
            "" if one["after_150"] is None else f"{one['after_150']:.3f}",
            f"{one['mean']:.3f}" + ("" if one["error"] is None else f" ± {one['error']:.3f}"),
            str(one["seeds"]),
        ]
        for target, one in report.items()
    ]
    return markdown_table(["target", "from nothing, 150 steps", "from nothing, 600 steps", "seeds"], rows)


def read_costs(path: Path) -> dict[str, Any]:
    """Seconds by predictor; those of `update` are of one ranking of the bundled zoo."""
    if not path.is_file():
        return {}
    written = json.loads(path.read_text(encoding="utf-8"))
    ranking = {DEFAULT: {"seconds_per_task": written["ranking"]["seconds"], "seconds_per_pair": 0.0}}
    return {**written["predictors"], **ranking}


def tables(report: Mapping[str, Any], gains: Mapping[str, Any]) -> dict[str, str]:
    costs = read_costs(ROOT / PREDICTIONS / "costs.json")
    found = {f"transfer {regime}": predictors_table(pool, costs) for regime, pool in report["own"].items()}
    found |= {f"targets {regime}": targets_table(pool) for regime, pool in report["own"].items()}
    found |= {"forecast": forecast_table(gains), "strengths": strengths_table(gains)}
    if report["blends"]:
        found["blends"] = blends_table(report["blends"])
    if report["converged"]:
        found["converged"] = converged_table(report["converged"])
    if report["published"]:
        found["published"] = published_table(report["published"])
    return found


# --- stored and computed ---------------------------------------------------------------------------------------


def same(stored: Any, computed: Any, where: str = "") -> Iterator[str]:
    """Where a stored and a computed document differ by more than the tolerance."""
    if isinstance(stored, dict) and isinstance(computed, dict):
        for name in sorted({*stored, *computed}):
            if name not in stored or name not in computed:
                yield f"{where}/{name}"
            else:
                yield from same(stored[name], computed[name], f"{where}/{name}")
    elif isinstance(stored, list) and isinstance(computed, list) and len(stored) == len(computed):
        for at, pair in enumerate(zip(stored, computed, strict=True)):
            yield from same(*pair, f"{where}/{at}")
    elif isinstance(stored, float) or isinstance(computed, float):
        close = stored is not None and computed is not None and math.isclose(
            stored, computed, rel_tol=TOLERANCE, abs_tol=TOLERANCE
        )  # fmt: skip
        if not close and stored != computed:
            yield where
    elif stored != computed:
        yield where


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, metavar="FOLDER", help="tables of published transfer")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where something would change")
    options = parser.parse_args()
    began, zoo = time.perf_counter(), Zoo.open(ROOT)
    paths = {name: TRUTH / f"{name}.json" for name in ("report", "gain")}
    stored = {name: json.loads(path.read_text()) if path.is_file() else {} for name, path in paths.items()}
    computed = {
        "report": {
            "own": own(zoo),
            "blends": blends(zoo),
            "converged": converged(),
            "published": published(zoo, options.published)
            if options.published is not None
            else stored["report"].get("published", {}),
        },
        "gain": gain(zoo),
    }
    stale = []
    for name, path in paths.items():
        differ = list(same(stored[name], computed[name]))
        if differ:
            stale.append(f"{path.relative_to(ROOT)}: {', '.join(differ[:5])}")
            if not options.check:
                write_bytes(path, (json.dumps(computed[name], indent=1, sort_keys=True) + "\n").encode())
        else:
            computed[name] = stored[name]
    page = PAGE.read_text(encoding="utf-8")
    wanted = {PAGE: fill_tables(page, tables(computed["report"], computed["gain"]))}
    wanted |= {
        PAGE.with_name(f"gains-{regime}.svg"): picture(f"Gains: {pool['title']}", pool["per_target"], pool["scores"])
        for regime, pool in computed["report"]["own"].items()
    }
    for path, text in wanted.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(str(path.relative_to(ROOT)))
            if not options.check:
                write_bytes(path, text.encode())
    for line in stale:
        print(f"{'stale' if options.check else 'written'}: {line}", file=sys.stderr)
    print(f"{time.perf_counter() - began:.1f} s", file=sys.stderr)
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
