"""A picture of curves: what a ranking reaches as something grows, with its interval over targets, as SVG text.

It is a function of zoo/truth/report.json: the same figures give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_LEFT, _TOP, _WIDTH, _HEIGHT = 64, 78, 520, 260
_FONT = "font-family='Helvetica,Arial,sans-serif'"
#: Okabe and Ito's colours, which colour-blind readers tell apart; dashes differ as well.
_STYLES = (("#0072B2", ""), ("#D55E00", "7 3"), ("#009E73", "2 3"), ("#CC79A7", "9 3 2 3"))


@dataclass(frozen=True)
class Curve:
    """A line: its name, and for each place on the axis the mean with its interval."""

    name: str
    means: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]


def picture(
    title: str,
    axis: str,
    places: Sequence[str],
    curves: Sequence[Curve],
    random: float,
    measure: str = "rank-NDCG",
    level: str = "random",
) -> str:
    """Curves over evenly spaced places, from 0 to 1, beside the level of a random order; whiskers are intervals.

    `measure` and `level` name what is drawn, and the level, where it is something else.
    """
    width, height = _LEFT + _WIDTH + 30, _TOP + _HEIGHT + 64
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"role='img'><title>{escape(title)}</title>\n<rect width='100%' height='100%' fill='#ffffff'/>\n",
        _text(16, 26, title, 16, "bold"),
    ]
    for tick in range(6):
        y = _y(tick / 5)
        parts.append(f"<line x1='{_LEFT}' y1='{y:.1f}' x2='{_LEFT + _WIDTH}' y2='{y:.1f}' stroke='#eeeeee'/>\n")
        parts.append(_text(_LEFT - 8, y + 4, f"{tick / 5:.1f}", 11, anchor="end"))
    y = _y(random)
    parts.append(
        f"<line x1='{_LEFT}' y1='{y:.1f}' x2='{_LEFT + _WIDTH}' y2='{y:.1f}' stroke='#555555' "
        "stroke-dasharray='1 4'/>\n"
    )
    parts.append(_text(_LEFT + _WIDTH, y - 6, level, 11, anchor="end"))
    for at, place in enumerate(places):
        parts.append(_text(_x(at, len(places)), _TOP + _HEIGHT + 20, place, 11, anchor="middle"))
    parts.append(_text(_LEFT + _WIDTH / 2, _TOP + _HEIGHT + 44, axis, 12, anchor="middle"))
    parts.append(_text(16, 66, measure, 11))
    for number, curve in enumerate(curves):
        parts += _curve(curve, number, len(curves), len(places))
    return "".join([*parts, "</svg>\n"])


def _curve(curve: Curve, number: int, count: int, places: int) -> list[str]:
    colour, dashes = _STYLES[number % len(_STYLES)]
    aside = 5.0 * (number - (count - 1) / 2)  # so that whiskers do not hide each other
    rows = enumerate(zip(curve.means, curve.lows, curve.highs, strict=True))
    points = [(_x(at, places) + aside, mean, low, high) for at, (mean, low, high) in rows]
    line = " ".join(f"{x:.1f},{_y(mean):.1f}" for x, mean, _, _ in points)
    parts = [
        f"<line x1='{x:.1f}' y1='{_y(low):.1f}' x2='{x:.1f}' y2='{_y(high):.1f}' stroke='{colour}' opacity='0.45'/>\n"
        for x, _, low, high in points
    ]
    parts.append(
        f"<polyline points='{line}' fill='none' stroke='{colour}' stroke-width='2' stroke-dasharray='{dashes}'/>\n"
    )
    parts += [f"<circle cx='{x:.1f}' cy='{_y(mean):.1f}' r='3.4' fill='{colour}'/>\n" for x, mean, _, _ in points]
    left = _LEFT + 110 * number
    parts.append(
        f"<line x1='{left + 40}' y1='50' x2='{left + 70}' y2='50' stroke='{colour}' stroke-width='2' "
        f"stroke-dasharray='{dashes}'/>\n"
    )
    return [*parts, _text(left + 76, 54, curve.name, 12)]


def _x(at: int, places: int) -> float:
    return _LEFT + _WIDTH * (at + 0.5) / places


def _y(value: float) -> float:
    return _TOP + _HEIGHT * (1 - value)


def _text(x: float, y: float, text: str, size: int, weight: str = "normal", anchor: str = "start") -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' {_FONT} font-size='{size}' font-weight='{weight}' text-anchor='{anchor}' "
        f"fill='#222222'>{escape(text)}</text>\n"
    )
