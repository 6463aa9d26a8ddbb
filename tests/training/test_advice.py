"""Advice: sentences about cut texts, a loss that rises, a score that still rose, and what to try next."""

import dataclasses

import pytest

from tupate_hub.evaluation.performance import performance
from tupate_hub.training.advice import about_cut_texts, about_rising_loss, about_the_end, to_try
from tupate_hub.training.features import Feature
from tupate_hub.training.result import Evaluation


def of_length(*lengths):
    return [Feature(((1,) * length,), ((0,) * length,), {}, at) for at, length in enumerate(lengths)]


def test_the_share_of_texts_that_are_cut_is_told():
    told = about_cut_texts("classification", of_length(8, 8, 5), 8)
    assert told == "of 67% of the texts only the first 8 tokens are read; `max_length` takes more"
    assert about_cut_texts("classification", of_length(*[5] * 40, 8), 8) is None
    assert about_cut_texts("extractive_qa", of_length(8, 8), 8) is None  # read in windows


def test_a_loss_that_rises_is_told_while_it_does():
    falling = [1 / (n + 1) for n in range(100)]
    assert not any(about_rising_loss(falling[:n]) for n in range(100))
    rising = [0.7] * 20 + [3.0] * 40
    assert about_rising_loss(rising) == (
        "the loss has risen from 0.7 to 3 by step 60: the learning rate may be too high"
    )


@pytest.mark.parametrize(
    ("scores", "rising"), [([0.5, 0.6, 0.7], True), ([0.5, 0.7, 0.7], False), ([0.7, 0.6], False), ([0.5], False)]
)
def test_a_score_that_was_still_rising_is_told(scores, rising):
    curve = [Evaluation(10 * n, 0.1, score) for n, score in enumerate(scores, 1)]
    told = about_the_end(curve, stopped=False)
    assert (told is not None) == rising
    if told is not None:
        assert told.endswith("more steps may bring more, `steps=60`")
    assert about_the_end(curve, stopped=True) is None


def test_a_class_that_is_hardly_found_asks_for_weights(tuned):
    record = dataclasses.replace(tuned("toy_classes").record, train_examples=5000)
    neglected = performance("classification", "accuracy", ("ham", "spam"), [0] * 8 + [1, 1], [0] * 9 + [1])
    assert to_try(record, neglected) == []
    worse = performance("classification", "accuracy", ("ham", "spam"), [0] * 8 + [1, 1], [0] * 10)
    (told,) = to_try(record, worse)
    assert told.startswith("only 0 of 2 examples of spam are found: `class_weights='balanced'`")
    assert to_try(dataclasses.replace(record, cares={"class_weights": "balanced"}), worse) == []
    few = dataclasses.replace(record, train_examples=100)
    assert to_try(few, neglected) == ["100 examples are few: one run says little, `seeds=3`"]
    assert to_try(few, neglected, 3) == []
    poor = dataclasses.replace(record, scores={"primary": 0.1}, baseline=0.5)
    assert "does not beat the baseline" in to_try(poor, neglected)[0]
