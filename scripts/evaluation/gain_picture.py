"""A picture of what sources gain: for each target from nothing, all sources, the first pick and the best, as SVG text.

It is a function of zoo/truth/report.json and of the rows behind it: the same figures give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_ROW, _LEFT, _WIDTH, _TOP = 26, 168, 560, 74
_FONT = "font-family='Helvetica,Arial,sans-serif'"
#: Okabe and Ito's colours, which colour-blind readers tell apart; shapes differ as well.
_NOTHING, _PICK, _BEST, _OTHERS = "#555555", "#0072B2", "#D55E00", "#9bb8c9"


def picture(title: str, targets: Sequence[Mapping[str, Any]], scores: Mapping[str, Sequence[float]]) -> str:
    """One row a target, the largest gain of the first pick above.

    Parameters
    ----------
    targets : sequence of mapping
        Rows as `evaluation.report.per_target` gives them, with a score without transfer.
    scores : mapping
        The scores of all sources, by target.
    """
    known = sorted((row for row in targets if row["without"] is not None), key=_gain)
    values = [value for row in known for value in (*scores[row["target"]], row["without"], row["best_score"])]
    low, high = min(values, default=0.0), max(values, default=1.0)

    def at(value: float) -> float:
        return _LEFT + _WIDTH * (value - low) / max(high - low, 1e-9)

    height = _TOP + _ROW * len(known) + 46
    width = _LEFT + _WIDTH + 40
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"role='img'><title>{escape(title)}</title>\n<rect width='100%' height='100%' fill='#ffffff'/>\n",
        _text(16, 26, title, 16, "bold"),
        *_legend(),
    ]
    for place, row in enumerate(known):
        y = _TOP + _ROW * place + _ROW / 2
        parts.append(_text(_LEFT - 10, y + 4, row["target"], 12, anchor="end"))
        parts.append(f"<line x1='{_LEFT}' y1='{y}' x2='{_LEFT + _WIDTH}' y2='{y}' stroke='#eeeeee'/>\n")
        parts += [_dot(at(value), y, _OTHERS, 2.2) for value in sorted(scores[row["target"]])]
        first, second = sorted((at(row["without"]), at(row["update_score"])))
        parts.append(
            f"<line x1='{first:.1f}' y1='{y}' x2='{second:.1f}' y2='{y}' stroke='{_PICK}' stroke-width='2'/>\n"
        )
        parts.append(_cross(at(row["without"]), y))
        parts.append(_diamond(at(row["best_score"]), y))
        parts.append(_dot(at(row["update_score"]), y, _PICK, 5))
    bottom = _TOP + _ROW * len(known) + 18
    for tick in range(5):
        value = low + (high - low) * tick / 4
        parts.append(_text(at(value), bottom, f"{value:.2f}", 11, anchor="middle"))
    parts.append(_text(_LEFT + _WIDTH / 2, bottom + 18, "score of the target (its own metric)", 11, anchor="middle"))
    return "".join([*parts, "</svg>\n"])


def _gain(row: Mapping[str, Any]) -> tuple[float, str]:
    return row["without"] - row["update_score"], row["target"]


def _legend() -> list[str]:
    y = 52.0
    return [
        _cross(24, y), _text(34, y + 4, "from nothing", 12),
        _dot(140, y, _PICK, 5), _text(150, y + 4, "first by update", 12),
        _diamond(268, y), _text(278, y + 4, "best source", 12),
        _dot(374, y, _OTHERS, 2.2), _text(382, y + 4, "every other source", 12),
    ]  # fmt: skip


def _text(x: float, y: float, text: str, size: int, weight: str = "normal", anchor: str = "start") -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' {_FONT} font-size='{size}' font-weight='{weight}' text-anchor='{anchor}' "
        f"fill='#222222'>{escape(text)}</text>\n"
    )


def _dot(x: float, y: float, colour: str, radius: float) -> str:
    return f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{radius}' fill='{colour}'/>\n"


def _cross(x: float, y: float) -> str:
    return f"<path d='M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8' stroke='{_NOTHING}' stroke-width='2.2' fill='none'/>\n"


def _diamond(x: float, y: float) -> str:
    return f"<path d='M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z' fill='none' stroke='{_BEST}' stroke-width='2'/>\n"
