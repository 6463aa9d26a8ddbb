"""What is told of a comparison: which start won, by how much, with which seeds."""

from __future__ import annotations

from statistics import stdev
from typing import TYPE_CHECKING, Any

from tupate_hub.cli import output

if TYPE_CHECKING:
    from tupate_hub.training.comparison import Comparison, Start

NOTHING = "nothing"


def name_of(source: str) -> str:
    """A start as people call it."""
    return NOTHING if source == "-" else source


def comparison_document(compared: Comparison, out: str | None) -> dict[str, Any]:
    """The field `comparison` of the JSON."""
    delivery = compared.delivery
    return {
        "best": name_of(compared.best.source),
        "starts": [
            {
                "start": name_of(start.source),
                "score": start.score,
                "scores": list(start.scores),
                "held_out": list(start.held_out),
                "gain": None if start.gain is None else start.gain.difference,
                "standard_error": None if start.gain is None else start.gain.standard_error,
            }
            for start in compared.starts
        ],
        "metric": delivery.record.metric,
        "steps": delivery.record.steps,
        "sentence": sentence(compared),
        "embedding": str(delivery.file),
        "adapter": str(delivery.adapter),
        "out": out,
    }


def print_comparison(compared: Comparison) -> None:
    """A table of the starts, and who won."""
    columns = ["start", "score", "spread", "held-out", "gain", "standard error"]
    rows: list[list[output.Cell]] = []
    for start in compared.starts:
        held_out = sum(start.held_out) / len(start.held_out)
        gain, error = "", None
        if start.gain is not None:
            gain, error = f"{start.gain.difference:+.3f}", start.gain.standard_error
        spread = stdev(start.scores) if len(start.scores) > 1 else None
        rows.append([name_of(start.source), start.score, spread, held_out, gain, error])
    output.table(columns, rows, right=columns[1:])
    output.note(sentence(compared))
    output.note(f"kept: {compared.delivery.file}")


def sentence(compared: Comparison) -> str:
    """Who won, by how much, and how sure that is."""
    best, record = compared.best, compared.delivery.record
    seeds = output.counted(len(best.scores), "seeds")
    how = f"after {record.steps} steps, {seeds}"
    scratch = next(start for start in compared.starts if start.gain is None)
    if best.gain is None:
        other = max((start for start in compared.starts if start.gain is not None), key=_held_out, default=None)
        behind = "" if other is None else f", {100 * (best.score - other.score):+.1f} points against {other.source}"
        return f"starting from nothing was best by the held-out score: {best.score:.3f} {record.metric}{behind} ({how})"
    error = best.gain.standard_error
    sure = "one seed says nothing about chance" if error is None else f"standard error {100 * error:.1f}"
    return (
        f"starting from {best.source} was best by the held-out score: {best.score:.3f} {record.metric} against "
        f"{scratch.score:.3f} from nothing, {100 * best.gain.difference:+.1f} points ({sure}; {how})"
    )


def _held_out(start: Start) -> float:
    return sum(start.held_out) / len(start.held_out)
