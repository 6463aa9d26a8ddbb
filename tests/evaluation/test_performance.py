"""Performance: figures worked out by hand, intervals that hold, and rows as JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tupate_hub.errors import FormatError, UnknownName
from tupate_hub.evaluation.intervals import wilson_interval
from tupate_hub.evaluation.performance import performance

CALM = np.random.default_rng(7)


def test_classes_by_hand() -> None:
    measured = performance("classification", "accuracy", ("ham", "spam"), [0, 0, 0, 1, 1], [0, 0, 1, 1, 0])
    ham, spam = measured.classes
    assert (ham.name, ham.support, ham.predicted, ham.right) == ("ham", 3, 3, 2)
    assert (spam.precision, spam.recall, spam.f1) == (0.5, 0.5, 0.5)
    assert measured.confusion == ((2, 1), (1, 1))
    assert measured.primary == pytest.approx(0.6)
    assert measured.interval == pytest.approx(wilson_interval(3, 5))
    assert measured.most_confused(1) == [("ham", "spam", 1)]


def test_a_class_that_nobody_has_or_predicts_has_figures_of_zero_and_does_not_count_in_the_mean() -> None:
    measured = performance("classification", "macro_f1", ("a", "b", "c"), [0, 0, 1], [0, 0, 1])
    assert measured.primary == 1.0
    assert (measured.classes[2].precision, measured.classes[2].recall, measured.classes[2].f1) == (0, 0, 0)


def test_wilson_against_the_published_example() -> None:
    """15 of 148, Newcombe (1998), table I, method 3."""
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    low, high = wilson_interval(20, 20)
    assert low == pytest.approx(0.8389, abs=1e-4)
    assert high == 1.0


@pytest.mark.parametrize("metric", ["accuracy_and_f1", "macro_f1", "macro_recall", "matthews_correlation", "f1_answer"])
def test_intervals_hold_the_metric_and_narrow_with_more_examples(metric: str) -> None:
    widths = []
    for count in (100, 1600):
        gold = CALM.integers(2, size=count)
        guess = np.where(CALM.random(count) < 0.8, gold, 1 - gold)
        measured = performance("classification", metric, ("no", "yes"), gold, guess)
        low, high = measured.interval
        assert low < measured.primary < high
        assert measured.interval_rule == "bootstrap"
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.35)  # the square root of 16, up to the draw


def test_amounts() -> None:
    gold = np.arange(50.0)
    measured = performance("regression", "pearson_and_spearman", (), gold, gold + np.where(gold % 2, 1.0, -1.0))
    assert measured.figures["mean_absolute_error"] == pytest.approx(1)
    assert measured.figures["root_mean_squared_error"] == pytest.approx(1)
    assert measured.interval[0] < measured.primary <= measured.interval[1] + 1e-9
    constant = performance("regression", "pearson_and_spearman", (), [1.0, 2.0], [3.0, 3.0])
    assert constant.primary == 0


def test_answers() -> None:
    gold = [["The red house", "red"], [], ["1999"], []]
    measured = performance("extractive_qa", "squad_v2_f1", (), gold, ["a red house!", "", "in 1999", "yes"])
    assert measured.figures["exact_match"] == 0.5
    assert measured.primary == pytest.approx((1 + 1 + 2 / 3 + 0) / 4)
    assert measured.figures["f1_without_answer"] == 0.5


def test_tagged_spans_by_type() -> None:
    gold = [["B-PER", "I-PER", "O"], ["B-LOC", "O", "O"]]
    guess = [["B-PER", "I-PER", "O"], ["O", "B-LOC", "B-PER"]]
    measured = performance("token_classification", "span_f1", ("O", "B-PER", "I-PER", "B-LOC"), gold, guess)
    assert [(one.name, one.support, one.predicted, one.right) for one in measured.classes] == [
        ("LOC", 1, 1, 0),
        ("PER", 1, 2, 1),
    ]
    assert measured.primary == pytest.approx(2 / 5)
    words = performance("token_classification", "accuracy", ("O", "B-PER", "I-PER", "B-LOC"), gold, guess)
    assert (words.examples, words.primary) == (6, pytest.approx(3 / 6))


def test_no_span_at_all() -> None:
    measured = performance("token_classification", "span_f1", ("O",), [["O"], ["O"]], [["O"], ["O"]])
    assert (measured.primary, measured.classes) == (0, ())


def test_several_labels() -> None:
    gold, guess = [[1, 0, 1], [0, 0, 0], [1, 1, 0]], [[1, 0, 0], [0, 0, 0], [1, 0, 1]]
    measured = performance("multi_label", "micro_f1", ("x", "y", "z"), gold, guess)
    assert measured.primary == pytest.approx(2 * 2 / (4 + 3))
    assert measured.figures["exact_match"] == pytest.approx(1 / 3)
    assert [(one.precision, one.recall) for one in measured.classes] == [(1, 1), (0, 0), (0, 0)]


def test_choices_have_no_classes() -> None:
    measured = performance("multiple_choice", "accuracy", (), [0, 1, 2, 3], [0, 1, 2, 0])
    assert (measured.primary, measured.classes, measured.confusion) == (0.75, (), ())


def test_as_json() -> None:
    measured = performance("classification", "macro_f1", ("a", "b"), [0], [0])
    assert math.isnan(measured.interval[0])
    fields = json.loads(json.dumps(measured.to_json(), allow_nan=False))
    assert fields["interval"] is None
    assert fields["classes"][0] == {
        "name": "a", "support": 1, "predicted": 1, "right": 1, "precision": 1.0, "recall": 1.0, "f1": 1.0
    }  # fmt: skip


def test_what_cannot_be_measured() -> None:
    with pytest.raises(FormatError, match="1 predictions"):
        performance("classification", "accuracy", ("a",), [0, 1], [0])
    with pytest.raises(FormatError, match="0 examples"):
        performance("classification", "accuracy", ("a",), [], [])
    with pytest.raises(UnknownName, match="BLEU"):
        performance("classification", "BLEU", ("a", "b"), [0], [0])
    with pytest.raises(UnknownName, match="poetry"):
        performance("poetry", "accuracy", ("a", "b"), [0], [0])
