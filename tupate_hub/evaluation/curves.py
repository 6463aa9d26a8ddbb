"""Curves: how well a ranking does by measured transfer, as what it is computed from grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.blend import blend
from tupate_hub.compare.kernel import kernel, pack
from tupate_hub.evaluation.evaluate import Summary, evaluate
from tupate_hub.evaluation.predictors import Evidence, known_cells
from tupate_hub.evaluation.truth import Truth

_METRICS = ("ndcg_rank", "regret@1", "regret@3")

#: The scores that sources get from one query, by their names, for each target.
Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class CurvePoint:
    """Where a point lies on its axes, how many targets it was judged on, and what the ranking reaches there."""

    at: Mapping[str, float]
    targets: int
    metrics: Mapping[str, Summary]

    def as_dict(self, digits: int = 4) -> dict[str, Any]:
        """JSON values, the metrics' means and intervals rounded."""
        rounded = {}
        for name, summary in self.metrics.items():
            known = summary.as_dict()
            rounded[name] = {
                key: None if known[key] is None else round(known[key], digits) for key in ("mean", "low", "high")
            }
        return {**self.at, "targets": self.targets, "metrics": rounded}


def by_queries(evidence: Evidence, points: Sequence[tuple[Mapping[str, float], Scores]]) -> list[CurvePoint]:
    """A curve of rankings by runs of the targets themselves: each point is where it lies, and the scores there.

    Every point is judged on the same cells: those that all of them, and the truth, know.
    """
    predictions = [_placed(evidence.truth, scores) for _, scores in points]
    if not predictions:
        return []
    truth = known_cells(evidence.truth, np.where(np.isfinite(predictions).all(axis=0), 1.0, np.nan))
    return [
        _point(at, prediction, evidence.truth, truth)
        for (at, _), prediction in zip(points, predictions, strict=True)
        if truth.targets
    ]


def by_rank(evidence: Evidence, ranks: Sequence[int]) -> list[CurvePoint]:
    """A curve over ranks: each LoRA of the space is kept to its best approximation of that rank, then ranked."""
    entries = evidence.zoo.registry.in_space(evidence.space)
    embeddings = evidence.zoo.load_space(evidence.space)
    tasks = [entry.task for entry in entries]
    points = []
    for rank in ranks:
        packed = pack([blend([embedding], rank=rank) for embedding in embeddings], "update")
        prediction = evidence.placed(tasks, kernel(packed, packed).scores())
        points.append(_point({"rank": rank}, prediction, evidence.truth, known_cells(evidence.truth, prediction)))
    return points


def _placed(truth: Truth, scores: Scores) -> Float64Array:
    rows = [[scores.get(target, {}).get(source, np.nan) for source in truth.sources] for target in truth.targets]
    return np.array(rows, dtype=np.float64)


def _point(at: Mapping[str, float], prediction: Float64Array, whole: Truth, judged: Truth) -> CurvePoint:
    rows = [whole.targets.index(target) for target in judged.targets]
    report = evaluate(np.nan_to_num(prediction[rows]), judged)
    return CurvePoint(at, len(judged.targets), {metric: report.summary(metric) for metric in _METRICS})
