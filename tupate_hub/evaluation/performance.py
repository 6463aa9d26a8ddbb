"""Performance: how well a tuned model answers, in detail: a metric with its interval, figures by class, confusions.

Labels in, figures out, by kind of task:

- classes, and tags that are no spans: accuracy, precision, recall and F1 of each class, and a confusion matrix;
- choices: accuracy;
- several labels at once: the same figures of each label;
- amounts: errors and correlations;
- answers in a text: exact match and F1 of words (Rajpurkar et al. 2016, 2018);
- tagged spans: precision, recall and F1 of each type (conlleval, Tjong Kim Sang and De Meulder 2003).

The 95 % interval of a proportion is Wilson's (1927); that of every other metric is a percentile bootstrap over examples
(Efron 1979): reproducible by its seed, and NaN where there are fewer than two examples. What is a ratio of nothing is
0, as in scikit-learn with `zero_division=0`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.errors import FormatError, UnknownName
from tupate_hub.evaluation.intervals import RESAMPLES, SEED, interval, resampled, wilson_interval
from tupate_hub.evaluation.metrics import mean_ranks
from tupate_hub.evaluation.spans import answer_f1, tagged_spans, words_of_answer


@dataclass(frozen=True)
class ClassFigures:
    """A class, label or type of span: how many there are (`support`), how many were predicted, and how many rightly."""

    name: str
    support: int
    predicted: int
    right: int

    @property
    def precision(self) -> float:
        """Right ones among the predicted ones."""
        return self.right / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Right ones among those that there are."""
        return self.right / self.support if self.support else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.right / (self.support + self.predicted) if self.support + self.predicted else 0.0


@dataclass(frozen=True)
class Performance:
    """What was measured on `examples` examples.

    `primary` is the metric's single number and `interval` its 95 % interval, made as `interval_rule` says (`Wilson` or
    `bootstrap`). `figures` has the metric's parts and what else makes sense for the kind. `confusion[i][j]` counts the
    examples (tags: words) of class i that were taken for class j, in the order of `classes`; () where classes do not
    exclude one another or mean nothing.
    """

    metric: str
    examples: int
    primary: float
    interval: tuple[float, float]
    interval_rule: str
    figures: Mapping[str, float]
    classes: tuple[ClassFigures, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()

    def most_confused(self, count: int) -> list[tuple[str, str, int]]:
        """The commonest mistakes: what it was, what it was taken for, and how often."""
        names = [one.name for one in self.classes]
        mistakes = [
            (names[i], names[j], times)
            for i, row in enumerate(self.confusion)
            for j, times in enumerate(row)
            if i != j and times
        ]
        return sorted(mistakes, key=lambda mistake: -mistake[2])[:count]

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON has them: no interval is null, each class with its precision, recall and F1."""
        fields = asdict(self)
        fields["interval"] = None if math.isnan(self.interval[0]) else list(self.interval)
        fields["classes"] = [
            {**asdict(one), "precision": one.precision, "recall": one.recall, "f1": one.f1} for one in self.classes
        ]
        return fields


def performance(
    kind: str, metric: str, label_names: Sequence[str], gold: Sequence[Any], predicted: Sequence[Any]
) -> Performance:
    """Measure predictions of one task.

    Parameters
    ----------
    kind, metric : str
        As a `TaskData` has them.
    label_names : sequence of str
        The names of classes, labels or tags; what has none is called by its number.
    gold, predicted : sequences
        As `gold_labels` and `predict` of the training package give them, one item an example: the number of a class or
        choice; an amount; a row of 0 and 1, one a label; a list of accepted answers and one answer; a list of tags.

    Raises
    ------
    FormatError
        When there is nothing to measure, or one side is longer.
    UnknownName
        For a kind or a metric that is not known.
    """
    if not len(gold) or len(gold) != len(predicted):
        raise FormatError(f"{len(predicted)} predictions cannot be measured on {len(gold)} examples.")
    if kind not in _MEASURES:
        raise UnknownName(f"Unknown kind {kind!r}.", hint="known: " + ", ".join(_MEASURES))
    return _MEASURES[kind](metric, label_names, gold, predicted)


# ---- classes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Counts:
    """By class, of shape (classes,) or (resamples, classes): how many there are, were predicted, and rightly so."""

    gold: Float64Array
    predicted: Float64Array
    right: Float64Array

    @property
    def f1(self) -> Float64Array:
        return _ratio(2 * self.right, self.gold + self.predicted)

    def mean_of_present(self, figure: Float64Array) -> Float64Array:
        """The mean over the classes that occur, on either side."""
        present = (self.gold + self.predicted) > 0
        return _ratio((figure * present).sum(-1), present.sum(-1))


def _accuracy(counts: _Counts) -> Float64Array:
    return _ratio(counts.right.sum(-1), counts.gold.sum(-1))


def _macro_f1(counts: _Counts) -> Float64Array:
    return counts.mean_of_present(counts.f1)


def _macro_recall(counts: _Counts) -> Float64Array:
    return counts.mean_of_present(_ratio(counts.right, counts.gold))


def _positive_f1(counts: _Counts) -> Float64Array:
    return counts.f1[..., 1]


def _micro_f1(counts: _Counts) -> Float64Array:
    return _ratio(2 * counts.right.sum(-1), counts.gold.sum(-1) + counts.predicted.sum(-1))


def _matthews(counts: _Counts) -> Float64Array:
    """The correlation of Gorodkin (2004) for any number of classes, Matthews' for two; 0 where a side is constant."""
    size = counts.gold.sum(-1)
    both = counts.right.sum(-1) * size - (counts.gold * counts.predicted).sum(-1)
    sides = [size**2 - (side**2).sum(-1) for side in (counts.gold, counts.predicted)]
    return _ratio(both, np.sqrt(sides[0] * sides[1]))


_OF_CLASSES: Mapping[str, Mapping[str, Callable[[_Counts], Float64Array]]] = {
    "accuracy": {"accuracy": _accuracy},
    "accuracy_and_f1": {"accuracy": _accuracy, "f1": _positive_f1},
    "accuracy_and_macro_f1": {"accuracy": _accuracy, "macro_f1": _macro_f1},
    "matthews_correlation": {"matthews": _matthews},
    "macro_f1": {"macro_f1": _macro_f1},
    "macro_recall": {"macro_recall": _macro_recall},
    "f1_answer": {"f1": _positive_f1},
}
_OF_LABELS: Mapping[str, Mapping[str, Callable[[_Counts], Float64Array]]] = {
    "micro_f1": {"micro_f1": _micro_f1},
    "macro_f1": {"macro_f1": _macro_f1},
}
_ALL_OF_LABELS = {"micro_f1": _micro_f1, "macro_f1": _macro_f1}


def _of_classes(metric: str, names: Sequence[str], gold: Sequence[Any], predicted: Sequence[Any]) -> Performance:
    parts = _known(metric, _OF_CLASSES)
    truth, guess = (np.asarray(side, dtype=np.int64) for side in (gold, predicted))
    count = max(len(names), int(truth.max()) + 1, int(guess.max()) + 1, 2)
    matrix = np.bincount(truth * count + guess, minlength=count * count).reshape(count, count)
    cells = np.argwhere(matrix)
    times = matrix[matrix > 0].astype(np.float64)
    place = np.eye(count)
    on_gold, on_guess = place[cells[:, 0]], place[cells[:, 1]]
    on_right = on_gold * (cells[:, 0] == cells[:, 1])[:, None]

    def counts_of(weights: Float64Array) -> _Counts:
        return _Counts(weights @ on_gold, weights @ on_guess, weights @ on_right)

    whole = counts_of(times)
    figures = {name: float(part(whole)) for name, part in {**parts, **_OF_CLASSES["accuracy_and_macro_f1"]}.items()}
    primary = float(np.mean([figures[name] for name in parts]))
    if list(parts) == ["accuracy"]:
        bounds, rule = wilson_interval(int(np.trace(matrix)), len(truth)), "Wilson"
    else:
        draw = resampled(times, lambda weights: np.mean([part(counts_of(weights)) for part in parts.values()], axis=0))
        bounds, rule = interval(draw, len(truth)), "bootstrap"
    named = _names(names, count)
    rows = tuple(map(tuple, matrix.tolist())) if names else ()
    classes = _class_figures(named, whole) if names else ()
    return Performance(metric, len(truth), primary, bounds, rule, figures, classes, rows)


def _of_choices(metric: str, names: Sequence[str], gold: Sequence[Any], predicted: Sequence[Any]) -> Performance:
    """Accuracy alone: what place the right choice has means nothing."""
    measured = _of_classes("accuracy", (), gold, predicted)
    return Performance(
        metric,
        measured.examples,
        measured.primary,
        measured.interval,
        measured.interval_rule,
        {"accuracy": measured.primary},
    )


def _of_labels(metric: str, names: Sequence[str], gold: Sequence[Any], predicted: Sequence[Any]) -> Performance:
    parts = _known(metric, _OF_LABELS)
    truth, guess = (np.asarray(side, dtype=np.float64).reshape(len(gold), -1) for side in (gold, predicted))
    both = truth * guess

    def counts_of(weights: Float64Array) -> _Counts:
        return _Counts(weights @ truth, weights @ guess, weights @ both)

    ones = np.ones(len(truth))
    whole = counts_of(ones)
    figures = {name: float(part(whole)) for name, part in _ALL_OF_LABELS.items()}
    figures["exact_match"] = float((truth == guess).all(axis=1).mean())
    draw = resampled(ones, lambda weights: np.mean([part(counts_of(weights)) for part in parts.values()], axis=0))
    primary = float(np.mean([figures[name] for name in parts]))
    classes = _class_figures(_names(names, truth.shape[1]), whole)
    return Performance(metric, len(truth), primary, interval(draw, len(truth)), "bootstrap", figures, classes)


def _class_figures(names: Sequence[str], counts: _Counts) -> tuple[ClassFigures, ...]:
    sides = (counts.gold, counts.predicted, counts.right)
    return tuple(ClassFigures(name, *(round(float(side[at])) for side in sides)) for at, name in enumerate(names))


def _names(names: Sequence[str], count: int) -> list[str]:
    return [*names, *(str(number) for number in range(len(names), count))]


# ---- amounts -------------------------------------------------------------------------------------------------------


def _of_amounts(metric: str, names: Sequence[str], gold: Sequence[Any], predicted: Sequence[Any]) -> Performance:
    _known(metric, {"pearson_and_spearman": {}})
    truth, guess = (np.asarray(side, dtype=np.float64) for side in (gold, predicted))
    error, spread = guess - truth, float(np.var(truth))
    pearson, spearman = _correlation(truth, guess), _correlation(mean_ranks(truth), mean_ranks(guess))
    figures = {
        "pearson": pearson,
        "spearman": spearman,
        "mean_absolute_error": float(np.abs(error).mean()),
        "root_mean_squared_error": float(np.sqrt((error**2).mean())),
        "explained_variance": 1 - float((error**2).mean()) / spread if spread else 0.0,
    }
    generator = np.random.default_rng(SEED)
    draws = []
    for _ in range(RESAMPLES if len(truth) > 1 else 0):
        taken = generator.integers(len(truth), size=len(truth))
        a, b = truth[taken], guess[taken]
        draws.append((_correlation(a, b) + _correlation(mean_ranks(a), mean_ranks(b))) / 2)
    primary = (pearson + spearman) / 2
    return Performance(metric, len(truth), primary, interval(np.array(draws), len(truth)), "bootstrap", figures)


def _correlation(first: Float64Array, second: Float64Array) -> float:
    first, second = first - first.mean(), second - second.mean()
    norm = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / norm if norm else 0.0


# ---- answers in a text, and tagged spans -------------------------------------------------------------------------


def _of_answers(metric: str, names: Sequence[str], gold: Sequence[Any], predicted: Sequence[Any]) -> Performance:
    _known(metric, {"squad_f1": {}, "squad_v2_f1": {}})
    f1 = np.array([answer_f1(accepted, answer) for accepted, answer in zip(gold, predicted, strict=True)])
    exact = [
        any(words_of_answer(one) == words_of_answer(answer) for one in accepted) if accepted else not answer
        for accepted, answer in zip(gold, predicted, strict=True)
    ]
    figures = {"f1": float(f1.mean()), "exact_match": float(np.mean(exact))}
    has_answer = np.array([any(accepted) for accepted in gold])
    if not has_answer.all():
        figures["f1_without_answer"] = float(f1[~has_answer].mean())
        figures |= {"f1_with_answer": float(f1[has_answer].mean())} if has_answer.any() else {}
    draw = resampled(np.ones(len(f1)), lambda weights: weights @ f1 / len(f1))
    return Performance(metric, len(f1), figures["f1"], interval(draw, len(f1)), "bootstrap", figures)


def _of_tags(metric: str, names: Sequence[str], gold: Sequence[Any], predicted: Sequence[Any]) -> Performance:
    """Spans of each type where the metric is one of spans; else every word is an example of its tag's class."""
    if metric != "span_f1":
        number = {name: at for at, name in enumerate(names)}
        flat = [[number[tag] for tags in side for tag in tags] for side in (gold, predicted)]
        return _of_classes(metric, names, *flat)
    pairs = [(tagged_spans(truth), tagged_spans(guess)) for truth, guess in zip(gold, predicted, strict=True)]
    types = sorted({span[0] for truth, guess in pairs for span in truth | guess})
    sides = [
        np.array([[sum(span[0] == kind for span in spans) for kind in types] for spans in side], dtype=np.float64)
        for side in zip(*((truth, guess, truth & guess) for truth, guess in pairs), strict=True)
    ]
    ones = np.ones(len(pairs))
    draw = resampled(ones, lambda weights: _micro_f1(_Counts(*(weights @ side for side in sides))))
    whole = _Counts(*(side.sum(axis=0) for side in sides))
    right = whole.right.sum()
    figures = {
        "f1": float(_micro_f1(whole)),
        "precision": float(_ratio(right, whole.predicted.sum())),
        "recall": float(_ratio(right, whole.gold.sum())),
    }
    classes = _class_figures(types, whole)
    return Performance(metric, len(pairs), figures["f1"], interval(draw, len(pairs)), "bootstrap", figures, classes)


_MEASURES: Mapping[str, Callable[[str, Sequence[str], Sequence[Any], Sequence[Any]], Performance]] = {
    "classification": _of_classes,
    "multi_label": _of_labels,
    "regression": _of_amounts,
    "multiple_choice": _of_choices,
    "extractive_qa": _of_answers,
    "token_classification": _of_tags,
}


def _ratio(part: Any, whole: Any) -> Float64Array:
    """A quotient, and 0 where it is a ratio of nothing."""
    quotient: Float64Array = np.divide(part, whole, out=np.zeros(np.shape(part)), where=np.asarray(whole) != 0)
    return quotient


def _known(metric: str, table: Mapping[str, Any]) -> Any:
    if metric not in table:
        raise UnknownName(f"Unknown metric {metric!r}.", hint="known: " + ", ".join(sorted(table)))
    return table[metric]
