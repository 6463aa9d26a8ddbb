"""Prospects shown: neighbours by expected gain, and in a few sentences how far that can be trusted."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tupate_hub.cli import output
from tupate_hub.search.by_gain import Prospects


def as_document(found: Prospects) -> dict[str, Any]:
    """The fields of the JSON that `similar --rank-by gain` and `recommend` share."""
    return {
        "rank_by": "gain",
        "neighbors": [
            {
                **{
                    name: value
                    for name, value in asdict(one.neighbor).items()
                    if name not in ("interval", "contributions") or value
                },
                "strength": one.strength,
                "strength_error": one.error,
                "effect": one.effect,
                "expected": None if one.expected is None else asdict(one.expected),
            }
            for one in found.prospects
        ],
        "start": None if found.start is None else found.start.neighbor.task,
        "noise": None if found.noise is None else asdict(found.noise),
        "forecast": None if found.forecast is None else found.forecast.as_dict(),
        "sentences": sentences(found),
    }


def print_prospects(found: Prospects) -> None:
    """A table of the neighbours, then the sentences."""
    columns = ["rank", "task", "score", "strength", "expected gain", "80 % interval", "kind", "note"]
    rows: list[list[output.Cell]] = []
    for one in found.prospects:
        strength = "" if one.error is None else f"{one.strength:+.2f} ± {one.error:.2f}"
        gain, interval = "", ""
        if one.expected is not None:
            gain = f"{one.expected.points:+.1f}"
            interval = f"{one.expected.low:+.1f} to {one.expected.high:+.1f}"
        neighbor = one.neighbor
        rows.append(
            [
                neighbor.rank,
                neighbor.task,
                neighbor.score,
                strength,
                gain,
                interval,
                neighbor.kind,
                ", ".join(neighbor.notes),
            ]
        )
    output.table(columns, rows, right=("rank", "score", "strength", "expected gain"))
    for sentence in sentences(found):
        output.note(sentence)


def sentences(found: Prospects) -> list[str]:
    """What measured transfer supports: the pick's forecast, how often first picks helped, the noise, the regret."""
    told = []
    start, forecast = found.start, found.forecast
    if forecast is not None:
        regime = f"with {forecast.examples} examples and {forecast.steps} steps"
        if start is None:
            told.append(f"Start from nothing: {regime}, no task here is expected to do better.")
        elif start.expected is not None:
            one = start.expected
            told.append(
                f"Starting from {start.neighbor.task} is expected to change the score by {one.points:+.1f} points "
                f"({one.low:+.1f} to {one.high:+.1f}, 80 %) {regime}; it helps with probability {one.chance:.2f}."
            )
        told.append(
            f"Measured on {forecast.targets} targets that the forecast had not seen: the first pick beat starting from "
            f"nothing on {forecast.helped:.0%} of them, by {forecast.gained:+.1f} points on average "
            f"({forecast.gained_low:+.1f} to {forecast.gained_high:+.1f}); trying the first three loses "
            f"{forecast.regrets['3']:.1f} points against the best source."
        )
    if found.noise is not None:
        told.append(
            f"Unrelated tasks, those of different kinds, score up to {found.noise.upper:.3f} here "
            f"(95 % of {found.noise.pairs} pairs)."
        )
    return told
