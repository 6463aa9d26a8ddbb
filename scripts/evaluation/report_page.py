"""The report as docs/evaluation.md shows it: its tables and pictures, functions of the stored report alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from curve_picture import Curve
from curve_picture import picture as curve_picture
from gain_picture import picture as gain_picture
from regimes import JUDGE, PICKED, REGIMES
from transfers import PARTS, ROOT, SPACE

from tupate_hub.evaluation.predictors import PREDICTIONS, PREDICTORS
from tupate_hub.evaluation.report import DEFAULT, share_of_the_way
from tupate_hub.publish.table import markdown_table
from tupate_hub.training.protocol import PROTOCOLS

OF_PUBLISHED = "random data-size tupate-lora outputs update effect source-mean strength gain".split()


def _interval(found: Mapping[str, float | None], digits: int = 3, sign: str = "") -> str:
    mean, low, high = (found[name] for name in ("mean", "low", "high"))
    if low is None or high is None:
        return f"{mean:{sign}.{digits}f}"
    return f"{mean:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def runs_table(counts: Mapping[str, Mapping[str, int]]) -> str:
    rows = []
    for name, part in PARTS.items():
        sources = "none" if not part.sources else f"{len(part.sources)} tasks"
        if part.sources is None:
            sources = "every task of the zoo"
        elif part.source_examples is not None:
            sources += f", tuned on {part.source_examples:,} examples themselves"
        after = ", ".join(map(str, PROTOCOLS[part.protocol].score_at))
        examples = PROTOCOLS[part.protocol].examples
        made = f"{counts[name]['made']:,} of {counts[name]['wanted']:,}"
        rows.append(
            [
                f"`{name}`",
                sources,
                str(len(part.targets)),
                "all" if examples is None else f"{examples:,}",
                after,
                str(len(part.seeds)),
                made,
            ]
        )
    return markdown_table(["part", "sources", "targets", "examples", "scored after steps", "seeds", "runs made"], rows)


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
                f"{metrics['ndcg_score']['mean']:.3f}",
                f"{metrics['rank_of_best']['mean']:.1f}",
                *(f"{metrics[metric]['mean']:.1f}" for metric in ("regret@1", "regret@3", "regret@5")),
                f"{metrics['regret@3_percent']['mean']:.1f}",
                f"{pick['gain']:+.1f}" if pick else "",
                f"{pick['helped_of_helpable']:.0%}" if pick else "",
                _seconds(costs.get(name, {}), found["sources"]),
            ]
        )
    header = ["predictor", "looks at", "targets x sources", "rank-NDCG", "minus `update`", "score-NDCG", "rank of best",
              "regret@1", "@3", "@5", "@3 in %", "first pick's gain", "helped", "seconds a target"]  # fmt: skip
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
            *(f"{row[name]} {row[f'{name}_score']:.3f}" for name in PICKED),
            *("" if lost is None else f"{lost:.1f}" for lost in (row[f"{name}_regret@3_percent"] for name in PICKED)),
        ]
        for row in pool["per_target"]
    ]
    header = ["target", "from nothing", "mean of sources", "best source", *PICKED.values(),
              "regret@3 in %: `update`", "gain"]  # fmt: skip
    return markdown_table(header, rows)


def ahead_table(report: Mapping[str, Any]) -> str:
    rows = [
        [
            f"`{name}`",
            f"{one['targets']} x {one['sources']}",
            _interval(one["against_default"]["ndcg_rank"], sign="+"),
            _interval(one["against_default"]["regret@3"], 1, "+"),
        ]
        for name, one in ((name, report[name]) for name in PREDICTORS if name in report)
    ]
    return markdown_table(
        ["predictor", "targets x sources", "rank-NDCG: `gain` minus it", "regret@3: `gain` minus it"], rows
    )


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
            REGIMES[one["regime"]].title,
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


#: What orders that are judged by one seed's transfers alone are called.
_BY_ONE_SEED: Mapping[str, str] = {
    **{name: f"`{name}`" for name in ("random", "source-mean", DEFAULT, "gain")},
    "again": "*measured again, with another seed*",
}


def again_table(report: Mapping[str, Any]) -> str:
    """What measuring once more would say, and how far predictors come on the way there from a random order."""
    rows = []
    for regime, found in report.items():
        random, ceiling = (found[name]["ndcg_rank"] for name in ("random", "again"))
        for name, title in _BY_ONE_SEED.items():
            one = found[name]
            rows.append(
                [
                    REGIMES[regime].title,
                    str(found["seeds"]),
                    str(found["targets"]),
                    title,
                    f"{one['ndcg_rank']:.3f}",
                    f"{share_of_the_way(one['ndcg_rank'], random, ceiling):.2f}",
                    *(f"{one[metric]:.1f}" for metric in ("regret@1", "regret@3")),
                ]
            )
    header = ["regime", "seeds", "targets", "order by", "rank-NDCG", "share of the way", "regret@1", "@3"]
    return markdown_table(header, rows)


def strengths_table(gains: Mapping[str, Any], most: int = 10) -> str:
    ordered = sorted(gains[SPACE]["strengths"].items(), key=lambda item: (-item[1]["value"], item[0]))
    chosen = [*ordered[:most], *ordered[-most:]]
    rows = [[task, f"{one['value']:+.2f}", f"{one['error']:.2f}", str(one["targets"])] for task, one in chosen]
    return markdown_table(["source", "strength", "standard error", "targets measured"], rows)


def blends_table(report: Mapping[str, Any]) -> str:
    names = {"best": "the best single of the three", "first": "the first pick", "nothing": "from nothing"}
    rows = [
        [REGIMES[regime].title, names[name], str(one["targets"]), f"{one['mean']:+.1f} ± {one['error']:.1f}"]
        for regime in REGIMES
        if regime in report
        for name, one in ((name, report[regime][name]) for name in names if name in report[regime])
    ]
    return markdown_table(["regime", "blend minus", "targets", "points"], rows)


def converged_table(report: Mapping[str, Any], picks: Sequence[Mapping[str, Any]]) -> str:
    steps, rows = report["steps"], []
    for row in (row for row in picks if row["target"] in report["targets"]):
        one = report["targets"][row["target"]]
        seeds = one["all_seeds"]
        mean = f"{seeds['mean']:.3f}" + ("" if seeds["error"] is None else f" ± {seeds['error']:.3f}")
        scores = [row["without"], one["longer"], *(row[f"{name}_score"] for name in PICKED)]
        rows.append([row["target"], *(f"{score:.3f}" for score in scores), mean, str(seeds["seeds"])])
    judge = f"{REGIMES[JUDGE].steps} steps"
    header = [
        "target",
        f"from nothing, {judge}",
        f"from nothing, {steps} steps",
        *(f"{title}, {judge}" for title in PICKED.values()),
        f"from nothing, {steps} steps, all seeds",
        "seeds",
    ]
    return markdown_table(header, rows)


def lasting_table(report: Mapping[str, Any]) -> str:
    """What first picks keep of their gain against the longer runs."""
    rows = [
        [
            title,
            str(one["targets"]),
            f"{one['helped']:.0%}",
            f"{one['gained']:+.1f} [{one['gained_low']:+.1f}, {one['gained_high']:+.1f}]",
        ]
        for title, one in ((PICKED[name], report["against"][name]) for name in PICKED if name in report["against"])
    ]
    return markdown_table(["", "targets", "ahead on", "points"], rows)


def read_costs(path: Path) -> dict[str, Any]:
    """Seconds by predictor; those of `update` are of one ranking of the bundled zoo."""
    if not path.is_file():
        return {}
    written = json.loads(path.read_text(encoding="utf-8"))
    ranking = {DEFAULT: {"seconds_per_task": written["ranking"]["seconds"], "seconds_per_pair": 0.0}}
    return {**written["predictors"], **ranking}


#: What the parts of a recommendation are called.
ORDERS: Mapping[str, str] = {
    "run": "a run on 200 examples, by `update`",
    "trial": "the trial alone: LogME of 200 labels under each source's model",
    "both": "**both together, as `recommend` orders**",
    "zoo run": "the zoo's own run on all the data, by `update`",
    "zoo run and trial": "that and the trial",
}


def recommended_table(report: Mapping[str, Any]) -> str:
    rows = []
    for name, title in ORDERS.items():
        found = report[name]
        pick = found["first_pick"]
        rows.append(
            [
                title,
                f"{found['targets']} x {found['sources']}",
                _interval(found["metrics"]["ndcg_rank"]),
                *(f"{found['metrics'][metric]['mean']:.1f}" for metric in ("regret@1", "regret@3", "regret@5")),
                f"{pick['gain']:+.1f}",
                f"{pick['helped_of_helpable']:.0%}",
            ]
        )
    header = ["order by", "targets x sources", "rank-NDCG", "regret@1", "@3", "@5", "first pick's gain", "helped"]
    return markdown_table(header, rows)


#: The steps of a try.
_TRY = PROTOCOLS["few-shot-halves"].steps
#: What the orders with and without tries are called, and the steps each spends on a target, None for a try a source.
TRIES: Mapping[str, tuple[str, int | None]] = {
    "update": ("`update`", 0),
    "gain": ("`gain`", 0),
    "gain, first 3": ("its first three tried", 3 * _TRY),
    "gain, first 10": ("its first ten tried", 10 * _TRY),
    "every": ("every source tried", None),
    "gain, halves": ("`gain`, its first three tried on halves", 3 * 2 * _TRY),
    "recommend": ("as `recommend` orders", 0),
    "recommend, halves": ("its first three tried on halves", 3 * 2 * _TRY),
}


def tries_table(report: Mapping[str, Any]) -> str:
    rows = []
    for name, (title, steps) in TRIES.items():
        found = report[name]
        metrics, pick, against = found["metrics"], found["first_pick"], found.get("against_default")
        rows.append(
            [
                title,
                f"{found['targets']} x {found['sources']}",
                f"{_TRY * found['sources'] if steps is None else steps:,}",
                _interval(metrics["ndcg_rank"]),
                "" if name == DEFAULT or against is None else _interval(against["ndcg_rank"], 3, "+"),
                *(f"{metrics[metric]['mean']:.1f}" for metric in ("regret@1", "regret@3")),
                f"{metrics['regret@3_percent']['mean']:.1f}",
                f"{pick['gain']:+.1f}",
                f"{pick['helped_of_helpable']:.0%}",
            ]
        )
    header = ["order by", "targets x sources", "steps spent", "rank-NDCG", "minus `update`", "regret@1", "@3",
              "@3 in %", "first pick's gain", "helped"]  # fmt: skip
    return markdown_table(header, rows)


def trial_table(trial: Mapping[str, Any]) -> str:
    picks = sorted(trial["picks"], key=lambda row: -row["rise"])
    rows = [[row["target"], f"{row['rise']:+.3f}", f"{row['gain']:+.1f}"] for row in picks]
    return markdown_table(["target", "evidence of the first pick above the base model's", "its gain, points"], rows)


def queries_table(points: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            str(point["examples"]) if point["examples"] else "all, the zoo's own run",
            f"{point['share']:.0%}",
            _interval(point["metrics"]["ndcg_rank"]),
            f"{point['metrics']['regret@1']['mean']:.1f}",
            f"{point['metrics']['regret@3']['mean']:.1f}",
        ]
        for point in sorted(points, key=lambda point: (not point["examples"], point["examples"], point["share"]))
    ]
    return markdown_table(["examples of the target", "share of the steps", "rank-NDCG", "regret@1", "@3"], rows)


def ranks_table(points: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            str(point["rank"]),
            _interval(point["metrics"]["ndcg_rank"]),
            f"{point['metrics']['regret@1']['mean']:.1f}",
            f"{point['metrics']['regret@3']['mean']:.1f}",
        ]
        for point in points
    ]
    return markdown_table(["rank kept", "rank-NDCG", "regret@1", "@3"], rows)


def choice_table(choices: Sequence[Mapping[str, Any]], published: Mapping[str, float]) -> str:
    rows = [
        [
            str(len(one["chosen_on"])),
            f"`{one['chosen']}`",
            f"{one['value']:.3f}",
            f"{one['default']:.3f}",
            f"`{one['best_there']}` {one['best_value']:.3f}",
            *(f"{published[name]:.3f}" if name in published else "" for name in (one["chosen"], DEFAULT)),
        ]
        for one in choices
    ]
    header = ["targets chosen on", "chosen", "on the others", "`update` there", "best there", "chosen, published",
              "`update`, published"]  # fmt: skip
    return markdown_table(header, rows)


def tables(report: Mapping[str, Any], gains: Mapping[str, Any]) -> dict[str, str]:
    costs = read_costs(ROOT / PREDICTIONS / "costs.json")
    found = {f"transfer {regime}": predictors_table(pool, costs) for regime, pool in report["own"].items()}
    found |= {f"targets {regime}": targets_table(pool) for regime, pool in report["own"].items()}
    found["runs of transfer"] = runs_table(report["runs"])
    found |= {"forecast": forecast_table(gains), "strengths": strengths_table(gains)}
    found["ranks"] = ranks_table(report["curves"]["rank"])
    found["ahead"] = ahead_table(report["ahead"])
    found["choice"] = choice_table(report["choice"], report["published"].get("candidates", {}))
    if report["recommended"]:
        found["recommended"] = recommended_table(report["recommended"])
        found["trial"] = trial_table(gains[SPACE]["gain"]["trial"])
    if report["tries"]:
        found["tries"] = tries_table(report["tries"])
    if report["curves"]["queries"]:
        found["queries"] = queries_table(report["curves"]["queries"])
    if report["again"]:
        found["again"] = again_table(report["again"])
    if report["blends"]:
        found["blends"] = blends_table(report["blends"])
    if report["converged"]:
        found["converged"] = converged_table(report["converged"], report["own"][JUDGE]["per_target"])
        found["lasting"] = lasting_table(report["converged"])
    if report["published"]:
        found["published"] = published_table(report["published"])
    return found


# --- pictures --------------------------------------------------------------------------------------------------


def pictures(report: Mapping[str, Any]) -> dict[str, str]:
    """The page's pictures by their files' names."""
    found = {
        f"gains-{regime}": gain_picture(f"Gains: {pool['title']}", pool["per_target"], pool["scores"])
        for regime, pool in report["own"].items()
    }
    random = report["own"][JUDGE]["predictors"]["random"]["metrics"]["ndcg_rank"]["mean"]
    points = [point for point in report["curves"]["queries"] if point["examples"]]
    if points:
        sizes, shares = (sorted({point[axis] for point in points}) for axis in ("examples", "share"))
        found["curve-queries"] = curve_picture(
            "How early, and from how few examples, a run ranks the zoo",
            "share of the run's steps",
            [f"{share:.0%}" for share in shares],
            [_line(f"{size} examples", [one for one in points if one["examples"] == size]) for size in sizes],
            random,
        )
    ranks = report["curves"]["rank"]
    found["curve-ranks"] = curve_picture(
        "How much of a LoRA a ranking needs",
        "rank that is kept of every update",
        [str(point["rank"]) for point in ranks],
        [_line("update", ranks)],
        random,
    )
    return {f"{name}.svg": text for name, text in found.items()}


def _line(name: str, points: Sequence[Mapping[str, Any]]) -> Curve:
    metric = [point["metrics"]["ndcg_rank"] for point in points]
    return Curve(name, *([one[key] for one in metric] for key in ("mean", "low", "high")))
