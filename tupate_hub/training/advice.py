"""Advice: what a run shows of itself that its user should know, as sentences."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from tupate_hub.evaluation.performance import Performance
from tupate_hub.runrecord import RunRecord
from tupate_hub.training.features import Feature
from tupate_hub.training.result import Evaluation

_WORTH_TELLING = 0.05
_LAST, _NOT_BEFORE = 10, 20
_RISEN = 2.0
_NEGLECTED, _FEW = 0.5, 1000


def about_cut_texts(kind: str, features: Sequence[Feature], max_length: int) -> str | None:
    """The share of the examples of which only the beginning is read; long contexts of questions are read in windows."""
    if kind == "extractive_qa" or not features:
        return None
    share = sum(feature.length >= max_length for feature in features) / len(features)
    if share < _WORTH_TELLING:
        return None
    return f"of {share:.0%} of the texts only the first {max_length} tokens are read; `max_length` takes more"


def about_rising_loss(losses: Sequence[float]) -> str | None:
    """Said while a run goes on whose loss is twice as large as it was at first."""
    if len(losses) < _NOT_BEFORE:
        return None
    first, last = losses[0], fmean(losses[-_LAST:])
    if last <= _RISEN * first:
        return None
    step = len(losses)
    return f"the loss has risen from {first:.3g} to {last:.3g} by step {step}: the learning rate may be too high"


def about_the_end(curve: Sequence[Evaluation], stopped: bool) -> str | None:
    """Said where the last held-out score is above all before it: more steps may bring more."""
    if stopped or len(curve) < 2:
        return None
    before, last = max(one.held_out for one in curve[:-1]), curve[-1]
    if last.held_out <= before:
        return None
    return (
        f"the held-out score was still rising at the end, from {before:.3f} to {last.held_out:.3f}: "
        f"more steps may bring more, `steps={2 * last.step}`"
    )


def to_try(record: RunRecord, measured: Performance, runs: int = 1) -> list[str]:
    """What may make the next run better, most telling first, of so many `runs`; parameters stand between backticks."""
    advice = []
    if record.scores["primary"] <= record.baseline:
        advice.append("the score does not beat the baseline: look at the labels of some rows, or `epochs=20`")
    neglected = [one for one in measured.classes if one.support and one.recall < _NEGLECTED]
    if record.kind == "classification" and neglected and "class_weights" not in record.cares:
        worst = min(neglected, key=lambda one: one.recall)
        advice.append(
            f"only {worst.right} of {worst.support} examples of {worst.name} are found: `class_weights='balanced'`, "
            "or `metric='macro_f1'`"
        )
    if record.train_examples < _FEW and runs == 1:
        advice.append(f"{record.train_examples} examples are few: one run says little, `seeds=3`")
    return advice
