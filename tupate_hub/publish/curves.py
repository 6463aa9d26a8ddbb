"""Curves: a run's loss and held-out score over its steps, as a small picture that takes its colours from the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 420, 180, 48, 22, 18
_POINTS = 120


def curves(losses: Sequence[float], looks: Sequence[tuple[int, float]], metric: str, baseline: float) -> str:
    """Two pictures side by side, as SVG.

    Parameters
    ----------
    losses : sequence of float
        Of each step.
    looks : sequence of (step, score)
        The held-out score on the way.
    baseline : float
        Drawn as a line, where it lies within the picture.
    """
    if not losses:
        return ""
    steps = len(losses)
    loss = [(at, value) for at, value in _thinned(losses)]
    scores = [*looks]
    first = _picture("loss", loss, steps, "loss", None)
    return first + (_picture(f"held-out {metric}", scores, steps, "held", baseline) if scores else "")


def _thinned(losses: Sequence[float]) -> list[tuple[int, float]]:
    """The means of neighbouring steps, at most `_POINTS` of them, each at its last step."""
    width = -(-len(losses) // _POINTS)
    groups = [losses[at : at + width] for at in range(0, len(losses), width)]
    return [(min(len(losses), (at + 1) * width), sum(group) / len(group)) for at, group in enumerate(groups)]


def _picture(title: str, points: Sequence[tuple[int, float]], steps: int, kind: str, baseline: float | None) -> str:
    values = [value for _, value in points] + ([] if baseline is None else [baseline])
    low, high = min(values), max(values)
    spread = (high - low) or 1.0

    def place(step: float, value: float) -> tuple[float, float]:
        across = _LEFT + (_WIDTH - _LEFT - 8) * step / max(1, steps)
        return across, _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / spread

    placed = [place(*point) for point in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    dots = "".join(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in placed if kind == "held")
    base = ""
    if baseline is not None:
        _, y = place(0, baseline)
        base = f'<line class="base" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>'
    foot = _HEIGHT - _BOTTOM
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="{escape(title)}">'
        f'<text x="{_LEFT}" y="12">{escape(title)}</text>'
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{foot}" y2="{foot}"/>'
        f'<line class="axis" x1="{_LEFT}" x2="{_LEFT}" y1="{_TOP}" y2="{foot}"/>'
        f'<text x="{_LEFT - 4}" y="{_TOP + 8}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{_LEFT - 4}" y="{foot}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 6}" text-anchor="end">step {steps}</text>'
        f'{base}<polyline class="{kind}" points="{line}"/>{dots}</svg>'
    )
