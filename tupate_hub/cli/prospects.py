"""Prospects shown: neighbours by expected gain, and in a few sentences how far that can be trusted."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tupate_hub.cli import output
from tupate_hub.search.by_gain import Prospects


def as_document(prospects: Prospects) -> dict[str, Any]:
    """The fields of the JSON that `similar --rank-by gain` and `recommend` share."""
    return {
        "rank_by": "gain",
        "neighbors": [
            {
                **{
                    name: value
                    for name, value in asdict(prospect.neighbor).items()
                    if name not in ("interval", "contributions") or value
                },
                "strength": prospect.strength,
                "strength_error": prospect.error,
                "effect": prospect.effect,
                "expected": None if prospect.expected is None else asdict(prospect.expected),
            }
            for prospect in prospects.prospects
        ],
        "start": None if prospects.start is None else prospects.start.neighbor.task,
        "noise": None if prospects.noise is None else asdict(prospects.noise),
        "forecast": None if prospects.forecast is None else prospects.forecast.as_dict(),
        "sentences": sentences(prospects),
    }


def print_prospects(prospects: Prospects) -> None:
    """A table of the neighbours, then the sentences."""
    columns = ["rank", "task", "score", "strength", "expected gain", "80 % interval", "kind", "note"]
    rows: list[list[output.Cell]] = []
    for prospect in prospects.prospects:
        strength = "" if prospect.error is None else f"{prospect.strength:+.2f} ± {prospect.error:.2f}"
        gain, interval = "", ""
        if prospect.expected is not None:
            gain = f"{prospect.expected.points:+.1f}"
            interval = f"{prospect.expected.low:+.1f} to {prospect.expected.high:+.1f}"
        neighbor = prospect.neighbor
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
    for sentence in sentences(prospects):
        output.note(sentence)


def sentences(prospects: Prospects) -> list[str]:
    """What measured transfer supports: the pick's forecast, how often first picks helped, the noise, the regret."""
    told = []
    start, forecast = prospects.start, prospects.forecast
    if forecast is not None:
        regime = f"with {forecast.examples} examples and {forecast.steps} steps"
        if start is None:
            told.append(f"Start from nothing: {regime}, no task here is expected to do better.")
        elif start.expected is not None:
            gain = start.expected
            told.append(
                f"Starting from {start.neighbor.task} is expected to change the score by {gain.points:+.1f} points "
                f"({gain.low:+.1f} to {gain.high:+.1f}, 80 %) {regime}; it helps with probability {gain.chance:.2f}."
            )
        told.append(
            f"Measured on {forecast.targets} targets that the forecast had not seen: the first pick beat starting from "
            f"nothing on {forecast.helped:.0%} of them, by {forecast.gained:+.1f} points on average "
            f"({forecast.gained_low:+.1f} to {forecast.gained_high:+.1f}); trying the first three loses "
            f"{forecast.regrets['3']:.1f} points against the best source."
        )
        if forecast.converged is not None:
            told.append(f"Against {forecast.converged.in_words}.")
    if prospects.noise is not None:
        told.append(
            f"Unrelated tasks, those of different kinds, score up to {prospects.noise.upper:.3f} here "
            f"(95 % of {prospects.noise.pairs} pairs)."
        )
    return told
