"""Regime: a kind and a method get what the zoo gives them, and what the user says wins."""

import dataclasses

import pytest

from tupate_hub.training.methods import METHODS, get_method
from tupate_hub.training.regime import Regime, Setup, regime_for, within_reach

LORA = get_method("lora")


def test_the_zoo_computes_in_bfloat16_with_the_defaults():
    assert regime_for("classification", LORA) == Regime(precision="bfloat16")


def test_spans_get_fewer_longer_examples_and_a_higher_rate():
    plan = regime_for("extractive_qa", LORA)
    assert (plan.batch_size, plan.max_length, plan.learning_rate) == (12, 384, 1e-3)
    assert regime_for("multiple_choice", LORA).batch_size == 12


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_a_method_has_its_own_wishes(method):
    plan = regime_for("classification", method)
    assert {name: getattr(plan, name) for name in method.regime} == dict(method.regime)


def test_what_is_said_wins_over_kind_and_method():
    plan = regime_for("extractive_qa", get_method("prefix"), learning_rate=0.5, batch_size=3, seed=7)
    assert (plan.learning_rate, plan.batch_size, plan.seed, plan.max_length) == (0.5, 3, 7, 384)


def test_an_unknown_field_is_the_programmer_s_error():
    with pytest.raises(TypeError, match="momentum"):
        regime_for("classification", LORA, momentum=0.9)


def test_a_regime_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Regime().steps = 3


def test_a_setup_is_the_zoo_s_unless_told_otherwise():
    assert (Setup().device, Setup().head, dict(Setup().start)) == ("cpu", "trained", {})


def test_of_many_examples_a_run_takes_what_its_steps_come_to(load):
    data = load("toy_classes")
    few = within_reach(data, regime_for("classification", LORA, steps=3, batch_size=8))
    assert (len(few.train), few.sha256, few.validation) == (24, data.sha256, data.validation)
    assert all(one in data.train for one in few.train)
    assert within_reach(data, regime_for("classification", LORA)).train == data.train
