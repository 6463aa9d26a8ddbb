"""Pictures of a space as SVG text: a heatmap of all pairs and a map of the tasks. The same registry, the same bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.kernel import off_diagonal
from tupate_hub.publish.layout import seriate

Box = tuple[float, float, float, float]

#: Above so many tasks the heatmap shows those with the nearest neighbours, and the map names no others than the first.
MOST_TASKS = 100
#: A map shows no more points than these, so that it stays below 200 kB.
MOST_POINTS = 1500
MOST_LETTERS = 24

#: Pale to dark with falling lightness, so that colour-blind readers and grey prints keep the order.
_SCALE = ((255, 252, 230), (199, 224, 180), (98, 183, 170), (44, 123, 158), (38, 62, 126), (22, 16, 70))
_STEPS = 24
_SAME = "#d8d8d8"

#: Marks of the map: fill (Okabe and Ito's colours, which colour-blind readers tell apart) and shape.
_MARKS = (
    ("#0072B2", "circle"),
    ("#D55E00", "square"),
    ("#009E73", "triangle"),
    ("#CC79A7", "diamond"),
    ("#E69F00", "circle"),
    ("#56B4E9", "square"),
    ("#555555", "triangle"),
)
_FONT = "font-family='Helvetica,Arial,sans-serif'"
_INK, _FAINT = "#222222", "#767676"


@dataclass(frozen=True)
class Point:
    """A task on the map. `group` gives its mark; `weak` ones are drawn hollow."""

    task: str
    x: float
    y: float
    group: str = ""
    weak: bool = False


# --- heatmap ---------------------------------------------------------------------------------------------------


def heatmap(title: str, tasks: Sequence[str], scores: Float64Array) -> str:
    """The heatmap of a space: a cell for each pair of tasks, similar tasks beside each other.

    Parameters
    ----------
    title : str
        Its heading.
    tasks : sequence of str
        The names, in the order of the matrix.
    scores : array of shape (tasks, tasks)
        Cosines. Colours go from the 2nd to the 98th percentile of the pairs; the diagonal is grey.

    Returns
    -------
    A whole SVG file, without a reference to anything outside of it.
    """
    kept = _nearest_tasks(scores)
    shown = [kept[at] for at in seriate(scores[np.ix_(kept, kept)])]
    matrix = scores[np.ix_(shown, shown)]
    names = [_short(tasks[at]) for at in shown]
    low, high = _limits(off_diagonal(matrix))
    count = len(shown)
    cell = max(7.0, min(26.0, 760 / max(1, count)))
    size = min(13.0, max(6.5, cell * 0.78))
    turn = -90 if cell < 14 else -55
    left = 18 + max(map(len, names), default=0) * size * 0.6
    top = 58 + left * abs(math.sin(math.radians(turn)))
    side, bar = cell * count, max(90.0, min(260.0, cell * count))
    said = f"{count} tasks" if count == len(tasks) else f"the {count} of {len(tasks)} tasks with the nearest neighbours"
    said = f"Cosine between each two tasks; {said}, ordered so that similar ones touch."
    width = max(left + side + 96, 48 + len(title) * 9.8, 48 + len(said) * 6.0)
    parts = [
        _head(width, top + max(side, bar) + 20, title, said),
        f"<g transform='translate({left:.1f} {top:.1f}) scale({cell:.3f})' shape-rendering='crispEdges'>\n",
        *_cells(matrix, low, high),
        "</g>\n",
        *_names_around(names, (left, top), cell, size, turn),
        *_colour_bar((left + side + 24, top), bar, low, high, off_diagonal(matrix)),
        "</svg>\n",
    ]
    return "".join(parts)


def _nearest_tasks(scores: Float64Array) -> list[int]:
    if len(scores) <= MOST_TASKS:
        return list(range(len(scores)))
    best = np.round(np.where(np.eye(len(scores), dtype=bool), -np.inf, scores).max(axis=1), 6)
    return sorted(np.argsort(-best, kind="stable")[:MOST_TASKS].tolist())


def _limits(pairs: Float64Array) -> tuple[float, float]:
    if not len(pairs):
        return 0.0, 1.0
    low = float(np.percentile(pairs, 2, method="lower"))
    high = float(np.percentile(pairs, 98, method="higher"))
    return low, max(high, low + 0.04)


def _cells(matrix: Float64Array, low: float, high: float) -> list[str]:
    """One path for each colour; cells of a row that touch in one colour are one rectangle."""
    share = np.clip((np.round(matrix, 6) - low) / (high - low), 0, 1)
    step = np.rint(share * (_STEPS - 1)).astype(int)
    np.fill_diagonal(step, _STEPS)
    drawn: dict[int, list[str]] = {}
    for y, row in enumerate(step.tolist()):
        x = 0
        for colour, run in groupby(row):
            wide = len(list(run))
            drawn.setdefault(colour, []).append(f"M{x} {y}h{wide}v1h-{wide}z")
            x += wide
    return [f"<path fill='{_colour(colour)}' d='{''.join(paths)}'/>\n" for colour, paths in sorted(drawn.items())]


def _colour(step: int) -> str:
    if step == _STEPS:
        return _SAME
    at = step / (_STEPS - 1) * (len(_SCALE) - 1)
    first = min(int(at), len(_SCALE) - 2)
    mixed = [round(a + (b - a) * (at - first)) for a, b in zip(_SCALE[first], _SCALE[first + 1], strict=True)]
    return "#" + "".join(f"{value:02x}" for value in mixed)


def _names_around(names: Sequence[str], corner: tuple[float, float], cell: float, size: float, turn: int) -> list[str]:
    left, top = corner
    rows = [
        f"<text x='{left - 6:.1f}' y='{top + cell * (at + 0.5) + size * 0.35:.1f}'>{_text(name)}</text>\n"
        for at, name in enumerate(names)
    ]
    columns = [
        f"<text transform='translate({left + cell * (at + 0.5) + size * 0.3:.1f} {top - 6:.1f}) rotate({turn})'>"
        f"{_text(name)}</text>\n"
        for at, name in enumerate(names)
    ]
    style = f"{_FONT} font-size='{size:.1f}' fill='{_INK}'"
    return [f"<g {style} text-anchor='end'>\n", *rows, "</g>\n", f"<g {style}>\n", *columns, "</g>\n"]


def _colour_bar(corner: tuple[float, float], length: float, low: float, high: float, pairs: Float64Array) -> list[str]:
    (x, y), height = corner, length / _STEPS
    parts = [
        f"<rect x='{x:.1f}' y='{y + height * (_STEPS - 1 - step):.2f}' width='14' height='{height + 0.3:.2f}' "
        f"fill='{_colour(step)}'/>\n"
        for step in range(_STEPS)
    ]
    parts.append(f"<g {_FONT} font-size='11' fill='{_INK}'>\n")
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = y + length * (1 - share) + 4
        value = low + (high - low) * share
        beyond = "≤ " if share == 0 and (pairs < low).any() else "≥ " if share == 1 and (pairs > high).any() else ""
        parts.append(f"<text x='{x + 20:.1f}' y='{at:.1f}'>{beyond}{round(value, 2) + 0.0:.2f}</text>\n")
    return [*parts, "</g>\n"]


# --- map -------------------------------------------------------------------------------------------------------


def task_map(title: str, points: Sequence[Point], shares: Sequence[float]) -> str:
    """The map of a space: a point for each task, near to those that are similar.

    Parameters
    ----------
    title : str
        Its heading.
    points : sequence of Point
        Where the tasks lie, in any unit: both axes get one scale.
    shares : sequence of float
        The part of the squared distances that each of the two axes carries.

    Returns
    -------
    A whole SVG file. Names that would cover another one are left out.
    """
    width = 900.0
    total, points = len(points), points[:MOST_POINTS]
    groups = list(dict.fromkeys(sorted(point.group for point in points)))
    marks = {group: _MARKS[min(at, len(_MARKS) - 1)] for at, group in enumerate(groups)}
    legend, rows = _legend(marks, any(point.weak for point in points), width)
    lower = 18.0 * (rows - 1)
    plot = (40.0, 96.0 + lower, 860.0, 640.0 + lower)
    places = _fitted(points, plot)
    count = f"{total}" if total <= MOST_POINTS else f"{MOST_POINTS} of {total}"
    carried = f"The axes carry {shares[0]:.0%} and {shares[1]:.0%} of the squared distances."
    parts = [
        _head(width, 680.0 + lower, title, f"{count} tasks; near means similar. {carried}"),
        f"<rect x='20' y='{76 + lower:.0f}' width='{width - 40:.0f}' height='584' fill='none' stroke='#dddddd'/>\n",
        *legend,
    ]
    labels = _labels([_short(point.task) for point in points], places, plot)
    parts += [f"<path d='{line}' stroke='#b5b5b5' stroke-width='0.8'/>\n" for line, _ in labels if line]
    for point, (x, y) in zip(points, places, strict=True):
        fill, shape = marks[point.group]
        parts.append(_mark(shape, x, y, fill, point.weak))
    parts.append(f"<g {_FONT} font-size='12' fill='{_INK}'>\n")
    parts += [label for _, label in labels]
    return "".join([*parts, "</g>\n</svg>\n"])


def _fitted(points: Sequence[Point], plot: Box) -> list[tuple[float, float]]:
    """Points in pixels: one scale for both axes, as large as the plot allows, in its middle."""
    if not points:
        return []
    xs, ys = np.array([point.x for point in points]), np.array([point.y for point in points])
    middle = (xs.max() + xs.min()) / 2, (ys.max() + ys.min()) / 2
    room = 60.0  # for names beside the outermost points
    spans = (plot[2] - plot[0] - 2 * room) / max(np.ptp(xs), 1e-9), (plot[3] - plot[1] - room) / max(np.ptp(ys), 1e-9)
    unit = min(*spans, 1e4)
    centre = (plot[0] + plot[2]) / 2, (plot[1] + plot[3]) / 2
    return [
        (float(centre[0] + (x - middle[0]) * unit), float(centre[1] - (y - middle[1]) * unit))
        for x, y in zip(xs, ys, strict=True)
    ]


def _labels(names: Sequence[str], places: Sequence[tuple[float, float]], plot: Box) -> list[tuple[str, str]]:
    """For each name that finds room: the path of a line to its point, if it stands away from it, and its text."""
    taken: list[Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    labels = []
    for name, (x, y) in list(zip(names, places, strict=True))[:MOST_TASKS]:
        for distance, turn in _tries():
            box = _label_box(name, x + distance * math.cos(turn), y + distance * math.sin(turn), math.cos(turn))
            inside = box[0] > plot[0] - 16 and box[2] < plot[2] + 16 and box[1] > plot[1] - 10 and box[3] < plot[3] + 14
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                near = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
                line = f"M{x:.1f} {y:.1f}L{near[0]:.1f} {near[1]:.1f}" if distance > 20 else ""
                labels.append((line, f"<text x='{box[0]:.1f}' y='{box[3] - 3:.1f}'>{_text(name)}</text>\n"))
                break
    return labels


def _tries() -> list[tuple[float, float]]:
    """Distances and angles at which a name may stand, the pleasant ones first: to the right, near."""
    turns = (0.0, math.pi, -math.pi / 2, math.pi / 2, -math.pi / 4, math.pi / 4, -3 * math.pi / 4, 3 * math.pi / 4)
    return [(distance, turn) for distance in (10.0, 24.0, 38.0, 54.0) for turn in turns]


def _label_box(name: str, x: float, y: float, cosine: float) -> Box:
    """The rectangle of a name of 12 pixels whose near side is at a point: left of it, right of it, or around it."""
    wide = len(name) * 6.6 + 2
    start = x - wide * (0.5 - 0.5 * max(-1.0, min(1.0, cosine * 1.5)))
    return start, y - 7, start + wide, y + 7


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _legend(marks: dict[str, tuple[str, str]], weak: bool, width: float) -> tuple[list[str], int]:
    """The marks with their groups, in as many rows as they need; and how many those are."""
    parts, x, rows = [], 30.0, 1
    listed = [(group or "kind not known", fill, shape, False) for group, (fill, shape) in marks.items()][: len(_MARKS)]
    if len(marks) > len(_MARKS):
        listed[-1] = ("other", *_MARKS[-1], False)
    for name, fill, shape, hollow in [*listed, *([("weak", _FAINT, "circle", True)] if weak else [])]:
        said = _short(name.replace("_", " "))
        if x + 10 + len(said) * 6.4 > width - 20:
            x, rows = 30.0, rows + 1
        y = 62 + 18 * (rows - 1)
        parts.append(_mark(shape, x, y, fill, hollow))
        parts.append(f"<text x='{x + 10:.1f}' y='{y + 4}' {_FONT} font-size='12' fill='{_INK}'>{_text(said)}</text>\n")
        x += len(said) * 6.4 + 34
    return parts, rows


def _mark(shape: str, x: float, y: float, fill: str, hollow: bool) -> str:
    paint = f"fill='{'#ffffff' if hollow else fill}' stroke='{fill if hollow else '#ffffff'}' stroke-width='1.2'"
    if shape == "circle":
        return f"<circle cx='{x:.1f}' cy='{y:.1f}' r='5' {paint}/>\n"
    outline = {
        "square": "M-4.5 -4.5h9v9h-9z",
        "triangle": "M0 -5.8L5.4 4H-5.4z",
        "diamond": "M0 -6.2L6.2 0L0 6.2L-6.2 0z",
    }[shape]
    return f"<path transform='translate({x:.1f} {y:.1f})' d='{outline}' {paint}/>\n"


# --- text ------------------------------------------------------------------------------------------------------


def _head(width: float, height: float, title: str, said: str) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0f} {height:.0f}' width='{width:.0f}' "
        f"height='{height:.0f}' role='img'>\n<title>{_text(title)}</title>\n<desc>{_text(said)}</desc>\n"
        f"<rect width='100%' height='100%' fill='#ffffff'/>\n"
        f"<g {_FONT}>\n<text x='24' y='30' font-size='17' font-weight='bold' fill='{_INK}'>{_text(title)}</text>\n"
        f"<text x='24' y='48' font-size='11' fill='{_FAINT}'>{_text(said)}</text>\n</g>\n"
    )


def _short(name: str) -> str:
    return name if len(name) <= MOST_LETTERS else name[: MOST_LETTERS - 1] + "…"


def _text(words: str) -> str:
    """Text for XML: markup escaped, and without the characters that XML forbids."""
    return escape("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in words))
