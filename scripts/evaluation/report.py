"""Judge every predictor by measured transfer: zoo/truth/report.json and gain.json, and tables of docs/evaluation.md.

    python scripts/evaluation/report.py [--published FOLDER] [--check]

It takes zoo/truth/*.csv and the bundled embeddings, and, where FOLDER is there, published tables of transfer; without
it what report.json says of them stays. What is computed is compared with what is stored by a tolerance, since
processors round differently; the page is a function of the stored report. `--check` writes nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from regimes import JUDGE, PICKED, REGIMES, path_of, rows_of, truth_of, usable, whole_seeds, wide
from report_page import OF_PUBLISHED, pictures, tables
from starts import blends, converged, from_nothing
from transfers import PARTS, ROOT, SPACE, TRUTH, held

from tupate_hub import Zoo
from tupate_hub.arrays import Float64Array
from tupate_hub.compare.kernel import off_diagonal
from tupate_hub.compare.noise import noise_level
from tupate_hub.compare.view import View
from tupate_hub.evaluation.choice import chosen_by_halves
from tupate_hub.evaluation.converged import against_converged
from tupate_hub.evaluation.curves import by_queries, by_rank
from tupate_hub.evaluation.evaluate import evaluate
from tupate_hub.evaluation.forecast import fit_forecast
from tupate_hub.evaluation.gain import fit_gain
from tupate_hub.evaluation.metrics import POINTS
from tupate_hub.evaluation.predictors import PREDICTIONS, PREDICTORS, Evidence, known_cells, traits_of
from tupate_hub.evaluation.report import (
    DEFAULT,
    first_reordered,
    judged,
    judged_together,
    measured_again,
    per_target,
    wide_enough,
)
from tupate_hub.evaluation.strength import fit_strengths
from tupate_hub.evaluation.transfer_rows import SCRATCH
from tupate_hub.evaluation.trial import TrialForecast, joined
from tupate_hub.evaluation.truth import Truth, align
from tupate_hub.publish.table import fill_tables
from tupate_hub.search.similar import pair_scores
from tupate_hub.storage.atomic import write_bytes

PAGE = ROOT / "docs" / "evaluation.md"
TOLERANCE = 2e-3
#: With fewer targets a regime is not judged yet.
FEWEST_TARGETS = 4
#: The ways of comparing weights that are defined for every pair, of which the default is one.
CANDIDATES: Mapping[str, View] = {
    f"{name}{', centred' * centre}{', balanced' * balance}": View(name, centre=centre, balance=balance)
    for name in ("update", "effect", "tupate")
    for centre in (False, True)
    for balance in (False, True)
}
#: Of a query's run that is joined with a trial, and the steps of a whole run in the zoo.
QUERY_EXAMPLES, WHOLE_RUN = 200, 400
#: The tables of short runs: of every source on other examples, of first picks on halves of the target's own.
TRIED, HALVES = "few-shot-40", "few-shot-halves-40"
#: The ranks of the curve.
RANKS = (1, 2, 4, 8)
#: Published tables of fine-tuning: model and method differ from the bundled zoo's, tasks are matched by name.
PUBLISHED = (
    "taskweb_gpt2m_finetune taskweb_roberta_finetune taskweb_t5s_finetune taskweb_t5b_finetune taskweb_t5b_adapter "
    "taskweb_t5b_bitfit taskweb_t5b_lora taskweb_t5l_adapter taskweb_t5l_finetune choshen2022_roberta_base "
    "cogtaskonomy2022_bert"
).split()


def judge(zoo: Zoo) -> Evidence:
    """The regime that judges curves, choices and recommendations, with what its predictors look at."""
    return Evidence(usable(zoo, JUDGE), zoo, SPACE, ROOT / PREDICTIONS)


def own(zoo: Zoo, judging: Evidence) -> dict[str, Any]:
    found = {}
    for name, regime in REGIMES.items():
        if not path_of(name).is_file():
            continue
        evidence = judging if name == JUDGE else Evidence(usable(zoo, name), zoo, SPACE, ROOT / PREDICTIONS)
        table = evidence.truth
        if len(table.targets) < FEWEST_TARGETS:
            continue
        found[name] = {
            "title": regime.title,
            "examples": regime.examples,
            "steps": regime.steps,
            "targets": len(table.targets),
            "sources": int(np.median(table.candidates().sum(axis=1))),
            "runs": int(np.isfinite(table.scores).sum()),
            "predictors": judged(evidence),
            "per_target": per_target(evidence, PICKED),
            "scores": {
                target: [round(float(score), 4) for score in row[known]]
                for target, row, known in zip(table.targets, table.scores, table.candidates(), strict=True)
            },
        }
    return found


def second_measurement(zoo: Zoo) -> dict[str, Any]:
    """How well transfer that is measured once more, with another seed, orders the sources: the ceiling of a prediction.

    Each seed's table in turn is the truth, and each other seed's scores a prediction of it; `update` and a random order
    are judged on the same cells. A seed of fewer targets than others, from which less can be learned, is no truth. What
    several pairs of seeds say of a target counts with its mean.
    """
    found: dict[str, Any] = {}
    for regime in (name for name in REGIMES if path_of(name).is_file()):
        tables = {
            seed: wide(zoo, regime, [seed]) for seed in sorted({seed for _, seed in whole_seeds(path_of(regime))})
        }
        widest = max((len(table.targets) for table in tables.values()), default=0)
        judgements: dict[str, list[dict[str, Any]]] = {}
        for seed, first in tables.items():
            others = [table for other, table in tables.items() if other != seed]
            if others and len(first.targets) == widest > 1:
                for target, judgement in _judged_by_one_seed(zoo, first, others):
                    judgements.setdefault(target, []).append(judgement)
        if judgements:
            orders = next(iter(judgements.values()))[0]
            found[regime] = {
                "seeds": len(tables),
                "targets": len(judgements),
                **{name: _over_targets(name, judgements.values()) for name in orders},
            }
    return found


def _judged_by_one_seed(zoo: Zoo, truth: Truth, others: Sequence[Truth]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each target with its judgement, by one seed's transfers, of predictors and of each other seed that has it."""
    evidence = Evidence(truth, zoo, SPACE)
    known = {name: PREDICTORS[name].compute(evidence) for name in ("random", "source-mean", "update", "gain")}
    for second in others:
        orders = {"again": measured_again(truth, second), **known}
        for row, target in enumerate(truth.targets):
            if judgement := judged_together(truth.rows([row]), {name: order[[row]] for name, order in orders.items()}):
                yield target, judgement


def _over_targets(name: str, judgements: Collection[Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """The mean over targets of what each one's judgements say of an order."""
    return {
        metric: round(
            float(np.mean([np.mean([one[name]["metrics"][metric]["mean"] for one in of]) for of in judgements])), 4
        )
        for metric in ("ndcg_rank", "regret@1", "regret@3")
    }


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
    tasks = [entry.task for entry in zoo.registry.in_space(SPACE)]
    candidates = {}
    for name, view in CANDIDATES.items():
        scores = pair_scores(zoo, SPACE, view)
        reports = [
            evaluate(np.nan_to_num(Evidence(table, zoo, SPACE).placed(tasks, scores)), table)
            for table in tables.values()
        ]
        candidates[name] = round(float(np.mean([one.summary("ndcg_rank").mean for one in reports])), 4)
    return {"tables": found, "means": means, "again": list(again(tables)), "candidates": candidates}


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


def curves(evidence: Evidence) -> dict[str, Any]:
    """Quality against the share of a query's steps, the number of its examples, and the rank that is kept."""
    queries: dict[tuple[int, float], dict[str, dict[str, float]]] = {}
    about = ("target", "examples", "share", "step", "seconds")
    for row in rows_of("queries"):
        scores = {source: float(row[source]) for source in row if source not in about and row[source]}
        queries.setdefault((int(row["examples"]), float(row["share"])), {})[row["target"]] = scores
    points = [({"examples": examples, "share": share}, queries[examples, share]) for examples, share in sorted(queries)]
    if points:
        affinity = evidence.affinity(evidence.method, View())
        own_runs = {
            target: dict(zip(evidence.truth.sources, map(float, row), strict=True))
            for target, row in zip(evidence.truth.targets, affinity, strict=True)
        }
        points.append(({"examples": 0, "share": 1.0}, own_runs))
    return {
        "rank": [point.as_dict() for point in by_rank(evidence, RANKS)],
        "queries": [point.as_dict() for point in by_queries(evidence, points)],
    }


@dataclass(frozen=True)
class Trials:
    """What `recommend` orders by on the judge's targets: arrays of shape (targets, sources), `base` (targets,).

    `run` are the similarities of a run on 200 examples, `evidence` LogME under the sources' models and `base` under the
    base model, `both` the two joined.
    """

    truth: Truth
    run: Float64Array
    evidence: Float64Array
    base: Float64Array
    both: Float64Array
    zoo_run: Float64Array


def trials(evidence: Evidence) -> Trials:
    truth = evidence.truth
    run, shares = np.full(truth.scores.shape, np.nan), np.ones(len(truth.targets))
    for row in rows_of("queries"):
        if row["examples"] == str(QUERY_EXAMPLES) and float(row["share"]) == 1 and row["target"] in truth.targets:
            at = truth.targets.index(row["target"])
            run[at] = [float(row.get(source) or np.nan) for source in truth.sources]
            shares[at] = int(row["step"]) / WHOLE_RUN
    log_me = PREDICTORS["log-me"].compute(evidence)
    known = {row["target"]: float(row["score"]) for row in rows_of("predictions/log-me") if row["source"] == SCRATCH}
    base = np.array([known.get(target, np.nan) for target in truth.targets])
    both = np.array([joined(*rows) for rows in zip(run, log_me, shares, strict=True)])
    return Trials(truth, run, log_me, base, both, evidence.affinity(evidence.method, View()))


def recommended(found: Trials) -> dict[str, Any]:
    """The order that `recommend` gives, and what it is made of, on the same targets and sources."""
    whole = np.array([joined(*rows, 1.0) for rows in zip(found.zoo_run, found.evidence, strict=True)])
    return judged_together(
        found.truth,
        {
            "run": found.run,
            "trial": found.evidence,
            "both": found.both,
            "zoo run": found.zoo_run,
            "zoo run and trial": whole,
        },
    )


def tries(evidence: Evidence, found: Trials) -> dict[str, Any]:
    """What a few steps from the first sources by gain add to their order, and from every source.

    They are scored on the validation examples, which judge as well, or half by half on the target's own 200 examples.
    """
    truth = evidence.truth
    soon, halves = (measured_again(truth, truth_of(evidence.zoo, TRUTH / f"{name}.csv")) for name in (TRIED, HALVES))
    orders = {"update": PREDICTORS["update"].compute(evidence), "gain": evidence.gain, "every": soon}
    orders |= {f"gain, first {first}": first_reordered(truth, evidence.gain, soon, first) for first in (3, 10)}
    orders["gain, halves"] = first_reordered(truth, evidence.gain, halves, 3)
    first = {"recommend": found.both, "recommend, halves": first_reordered(truth, found.both, halves, 3)}
    return judged_together(truth, orders, DEFAULT) | judged_together(truth, first)


def ahead(evidence: Evidence) -> dict[str, Any]:
    """How far the order by gain is ahead of every other predictor, on the cells that both know."""
    found = {}
    for name in (name for name in PREDICTORS if name != "gain"):
        orders = {name: PREDICTORS[name].compute(evidence), "gain": evidence.gain}
        if pair := judged_together(evidence.truth, orders, name):
            found[name] = {part: pair["gain"][part] for part in ("targets", "sources", "against_default")}
    return found


def trial_forecast(found: Trials) -> TrialForecast:
    """What the first picks of run and trial together brought, by how far their evidence rose."""
    targets, rises, gains = [], [], []
    scores, longer = dict[str, float](), from_nothing(JUDGE)
    for row, target in enumerate(found.truth.targets):
        known = np.flatnonzero(found.truth.candidates()[row] & np.isfinite(found.both[row]))
        if len(known) and np.isfinite(found.base[row]) and np.isfinite(found.truth.baseline[row]):
            pick = known[found.both[row, known].argmax()]
            targets.append(target)
            rises.append(float(found.evidence[row, pick] - found.base[row]))
            gains.append(POINTS * float((found.truth.scores[row, pick] - found.truth.baseline[row]) / found.truth.unit))
            scores[target] = float(found.truth.scores[row, pick] / found.truth.unit)
    regime, lasting = REGIMES[JUDGE], None if longer is None else against_converged(scores, longer)
    return TrialForecast(JUDGE, regime.examples, regime.steps, tuple(targets), tuple(rises), tuple(gains), lasting)


def choice(evidence: Evidence) -> list[dict[str, Any]]:
    """The default affinity chosen on half of the targets and judged on the other half."""
    candidates = {name: evidence.affinity(evidence.method, view) for name, view in CANDIDATES.items()}
    return [one.as_dict() for one in chosen_by_halves(evidence.truth, candidates, DEFAULT)]


def gain(zoo: Zoo, found: Trials) -> dict[str, Any]:
    """What the registry keeps: strengths, the weights of a ranking by gain, a forecast a regime."""
    entries = zoo.registry.in_space(SPACE)
    tasks = [entry.task for entry in entries]
    scores = pair_scores(zoo, SPACE, View())
    traits = traits_of(zoo)
    noise = noise_level(off_diagonal(scores), [zoo.registry.tasks[task].kind for task in tasks])
    tables = {regime: wide(zoo, regime) for regime in REGIMES if path_of(regime).is_file()}
    tables = {regime: table for regime, table in tables.items() if len(table.targets) >= FEWEST_TARGETS}
    affinities = {regime: align(table, tasks, scores) for regime, table in tables.items()}
    model = fit_gain(list(tables.values()), list(affinities.values()), traits)
    forecasts = [
        fit_forecast(
            table,
            affinities[name],
            noise,
            traits,
            regime=name,
            examples=REGIMES[name].examples,
            steps=REGIMES[name].steps,
            longer=from_nothing(name),
        ).as_dict()
        for name, table in tables.items()
        if noise is not None
    ]
    strengths = fit_strengths(list(tables.values()), traits)
    weights = {
        "affinity": round(model.affinity, 4),
        "strength": round(model.strength, 4),
        "targets": model.targets,
        "kinds": {
            kind: {name: round(value, 4) for name, value in added.items()} for kind, added in model.kinds.items()
        },
    }
    return {
        SPACE: {
            "gain": {**weights, "forecasts": forecasts, "trial": trial_forecast(found).as_dict()},
            "strengths": {task: strengths[task].as_dict() for task in tasks},
        }
    }


def limited_sources(zoo: Zoo) -> dict[str, Any]:
    """Sources that were tuned on 1,000 examples themselves: what their own weights say, and those of the full runs."""
    folder = TRUTH / "limited-sources"
    if not (folder / "limited-300.csv").is_file():
        return {}
    limited = Zoo.open(folder)
    truth = wide_enough(truth_of(limited, folder / "limited-300.csv"), REGIMES["limited-300"].fewest_sources)
    own_runs, full_runs = Evidence(truth, limited, SPACE), Evidence(truth, zoo, SPACE)
    orders = {name: PREDICTORS[name].compute(own_runs) for name in ("random", "source-mean", "update", "tupate-lora")}
    orders["update, sources tuned on all their data"] = PREDICTORS["update"].compute(full_runs)
    return judged_together(truth, orders)


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
    evidence = judge(zoo)
    tried, judgements = trials(evidence), own(zoo, evidence)
    paths = {name: TRUTH / f"{name}.json" for name in ("report", "gain")}
    stored = {name: json.loads(path.read_text()) if path.is_file() else {} for name, path in paths.items()}
    computed = {
        "report": {
            "runs": {name: dict(zip(("made", "wanted"), held(name), strict=True)) for name in PARTS},
            "own": judgements,
            "blends": blends(),
            "converged": converged(judgements[JUDGE]["per_target"]),
            "again": second_measurement(zoo),
            "limited_sources": limited_sources(zoo),
            "curves": curves(evidence),
            "choice": choice(evidence),
            "ahead": ahead(evidence),
            "recommended": recommended(tried),
            "tries": tries(evidence, tried),
            "published": published(zoo, options.published)
            if options.published is not None
            else stored["report"].get("published", {}),
        },
        "gain": gain(zoo, tried),
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
    wanted |= {PAGE.with_name(name): text for name, text in pictures(computed["report"]).items()}
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
