"""A picture of growth: seconds or bytes over a number of embeddings, on logarithmic axes, as SVG text.

It is a function of docs/scale.json: the same figures give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_LEFT, _TOP, _WIDTH, _HEIGHT = 84, 50, 520, 260
_FONT = "font-family='Helvetica,Arial,sans-serif'"
#: Okabe and Ito's colours, which colour-blind readers tell apart; dashes differ as well.
_STYLES = (("#0072B2", ""), ("#D55E00", "7 3"), ("#009E73", "2 3"))

Points = Sequence[tuple[int, float]]


def picture(title: str, axis: str, measure: str, curves: Mapping[str, Points]) -> str:
    """Curves of positive values, each with its name at its end; `measure` is what is drawn, with its unit."""
    places = sorted({place for points in curves.values() for place, _ in points})
    values = [value for points in curves.values() for _, value in points]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    width, height = _LEFT + _WIDTH + 190, _TOP + _HEIGHT + 64
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"role='img'><title>{escape(title)}</title>\n<rect width='100%' height='100%' fill='#ffffff'/>\n",
        _text(16, 26, title, 16, "bold"),
    ]
    for power in range(low, high + 1):
        y = _TOP + _HEIGHT * (1 - (power - low) / (high - low))
        parts.append(f"<line x1='{_LEFT}' y1='{y:.1f}' x2='{_LEFT + _WIDTH}' y2='{y:.1f}' stroke='#eeeeee'/>\n")
        parts.append(_text(_LEFT - 8, y + 4, f"{10.0**power:g}", 11, anchor="end"))
    for place in places:
        parts.append(_text(_x(place, places), _TOP + _HEIGHT + 20, f"{place:,}", 11, anchor="middle"))
    parts.append(_text(_LEFT + _WIDTH / 2, _TOP + _HEIGHT + 44, axis, 12, anchor="middle"))
    parts.append(_text(16, 42, measure, 11))
    for number, (name, points) in enumerate(curves.items()):
        colour, dashes = _STYLES[number % len(_STYLES)]
        drawn = [
            (_x(place, places), _TOP + _HEIGHT * (1 - (math.log10(value) - low) / (high - low)))
            for place, value in sorted(points)
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        parts.append(
            f"<polyline points='{line}' fill='none' stroke='{colour}' stroke-width='2' stroke-dasharray='{dashes}'/>\n"
        )
        parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.4' fill='{colour}'/>\n" for x, y in drawn]
        parts.append(_text(drawn[-1][0] + 10, drawn[-1][1] + 4, name, 12, colour=colour))
    return "".join([*parts, "</svg>\n"])


def _x(place: int, places: Sequence[int]) -> float:
    first, last = math.log10(places[0]), math.log10(places[-1])
    return _LEFT + _WIDTH * ((math.log10(place) - first) / (last - first) if last > first else 0.5)


def _text(
    x: float, y: float, text: str, size: int, weight: str = "normal", *, anchor: str = "start", colour: str = "#222222"
) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' {_FONT} font-size='{size}' font-weight='{weight}' text-anchor='{anchor}' "
        f"fill='{colour}'>{escape(text)}</text>\n"
    )
