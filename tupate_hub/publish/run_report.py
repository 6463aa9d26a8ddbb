"""Run report: a finished run as one HTML page that asks nothing of anyone: no script, no file beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from tupate_hub.data.dataset import Loaded, TaskData
from tupate_hub.evaluation.performance import Performance
from tupate_hub.publish.curves import curves
from tupate_hub.runrecord import RunRecord

_MOST_CLASSES = 30
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --faint: #6a6a6a; --paper: #fff; --line: #ddd; --mark: 0, 114, 178; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --faint: #9a9a9a; --paper: #17181a; --line: #3a3b3e; --mark: 86, 180, 233; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2rem; } .faint { color: var(--faint); } .score { font-size: 2rem; }
table { border-collapse: collapse; } th, td { border: 1px solid var(--line); padding: .2rem .6rem; text-align: left; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: rgba(var(--mark), .08); padding: .6rem; overflow-x: auto; }
svg { max-width: 100%; height: auto; } svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
svg .axis { stroke: var(--line); } svg .loss, svg .held { fill: none; stroke: rgb(var(--mark)); stroke-width: 2; }
svg .loss { stroke-width: 1.2; } svg .dot { fill: rgb(var(--mark)); }
svg .base { stroke: var(--faint); stroke-dasharray: 4; }
"""


@dataclass(frozen=True)
class RunStory:
    """What a report tells of a run: its record and figures, how it went, and what was advised and can be typed next.

    `losses` are those of the steps; `looks` the steps and held-out scores of the evaluations; `seeds` the seeds and
    scores of the runs of which this is the best.
    """

    record: RunRecord
    measured: Performance
    losses: Sequence[float]
    looks: Sequence[tuple[int, float]]
    seeds: Sequence[tuple[int, float]] = ()
    notes: Sequence[str] = ()
    advice: Sequence[str] = ()
    commands: Sequence[str] = ()
    code: str = ""


def run_report(story: RunStory, loaded: Loaded) -> str:
    """The page."""
    record = story.record
    parts = [
        _head(story),
        "<h2>How it went</h2>",
        curves(story.losses, story.looks, record.metric, record.baseline),
        _went(story),
        _classes(story.measured),
        _confusion(story.measured),
        "<h2>The data</h2>",
        _data(loaded, record),
        *(["<h2>How to use it</h2>", _code(story)] if story.commands or story.code else []),
        *(["<h2>What to try next</h2>", _listed(story.advice)] if story.advice else []),
    ]
    title = escape(record.task)
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width">\n<style>{_STYLE}</style>\n'
        f"<body>\n{chr(10).join(part for part in parts if part)}\n</body>\n</html>\n"
    )


def _head(story: RunStory) -> str:
    record, measured = story.record, story.measured
    low, high = measured.interval
    reach = f" (95 % interval {low:.3f} to {high:.3f})" if low == low else ""
    beaten = "" if record.scores["primary"] > record.baseline else ", which it does not beat"
    seeds = ""
    if len(story.seeds) > 1:
        listed = ", ".join(f"{score:.3f}" for _, score in story.seeds)
        seeds = f"<p>The best by held-out score of {len(story.seeds)} runs, which scored {listed}.</p>"
    return (
        f"<h1>{escape(record.task)}</h1>\n"
        f'<p class="score">{record.scores["primary"]:.3f} {escape(record.metric)}</p>\n'
        f"<p>On {measured.examples} examples that took no part{reach}. Without looking at the input: "
        f"{record.baseline:.3f} ({escape(record.baseline_rule)}){beaten}.</p>\n{seeds}"
    )


def _went(story: RunStory) -> str:
    record, regime = story.record, story.record.regime
    rows = [
        (
            "method",
            f"{record.method}, {', '.join(f'{name} {_said(value)}' for name, value in record.settings.items())}",
        ),
        ("steps", f"{record.steps} of {regime.batch_size} examples; the best checkpoint after {record.best_step}"),
        ("tokens of a text", f"{regime.max_length} at most"),
        ("learning rate", f"{regime.learning_rate:g}"),
        ("seed", str(regime.seed)),
        *((name.replace("_", " "), _said(value)) for name, value in record.cares.items() if name != "latest"),
        ("time", f"{record.seconds} s on {record.device or 'cpu'}"),
    ]
    return _table(("", ""), rows) + (_listed(story.notes) if story.notes else "")


def _said(value: Any) -> str:
    """A setting's value in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " and ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _classes(measured: Performance) -> str:
    if not measured.classes:
        return _table(("figure", "value"), [(name, f"{value:.3f}") for name, value in measured.figures.items()], 1)
    kept = sorted(measured.classes, key=lambda one: -one.support)[:_MOST_CLASSES]
    rows = [(one.name, str(one.support), f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}") for one in kept]
    more = (
        f"<p>The {len(kept)} most frequent of {len(measured.classes)}.</p>" if len(kept) < len(measured.classes) else ""
    )
    return "<h2>By class</h2>\n" + _table(("class", "examples", "precision", "recall", "F1"), rows, 1) + more


def _confusion(measured: Performance) -> str:
    """Rows are what is right, columns what was said; the darker a cell, the larger its share of the row."""
    if not measured.confusion or len(measured.confusion) > _MOST_CLASSES:
        return ""
    names = [escape(one.name) for one in measured.classes]
    head = "".join(f"<th>{name}</th>" for name in names)
    lines = []
    for name, row in zip(names, measured.confusion, strict=True):
        shades = [count / max(1, sum(row)) / 1.5 for count in row]
        cells = "".join(
            f'<td class="number" style="background: rgba(var(--mark), {shade:.2f})">{count}</td>'
            for count, shade in zip(row, shades, strict=True)
        )
        lines.append(f"<tr><th>{name}</th>{cells}</tr>")
    return f"<h3>Right in rows, said in columns</h3>\n<table><tr><th></th>{head}</tr>{''.join(lines)}</table>"


def _data(loaded: Loaded, record: RunRecord) -> str:
    data = loaded.data
    guessed = set(loaded.guessed)
    kind = f"{data.kind}{' (guessed)' if 'kind' in guessed else ''}"
    columns = ", ".join(
        f"{role} = {name}{' (guessed)' if role in guessed else ''}" for role, name in loaded.columns.items()
    )
    rows = [
        ("source", str(data.facts.get("source", ""))),
        ("kind", kind),
        ("columns", columns),
        (
            "examples",
            f"{record.train_examples} to train on, {len(data.held_out)} to choose by, {len(data.validation)} scored",
        ),
        *([("labels", _labels(data))] if data.kind == "classification" else []),
    ]
    return _table(("", ""), rows) + (_listed(loaded.warnings) if loaded.warnings else "")


def _labels(data: TaskData) -> str:
    counts = Counter(data.label_names[example["label"]] for example in data.train)
    listed = [f"{name} {count}" for name, count in counts.most_common(_MOST_CLASSES)]
    return ", ".join(listed) + (" ..." if len(counts) > _MOST_CLASSES else "")


def _code(story: RunStory) -> str:
    shown = [*story.commands, *(["", story.code] if story.code else [])]
    return f"<pre>{escape(chr(10).join(shown))}</pre>"


def _listed(sentences: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 9) -> str:
    """A table; columns from `numbers_from` on hold numbers."""

    def line(tag: str, row: Sequence[str]) -> str:
        marks = [" class=number" if at >= numbers_from else "" for at in range(len(row))]
        cells = (f"<{tag}{mark}>{escape(cell)}</{tag}>" for mark, cell in zip(marks, row, strict=True))
        return f"<tr>{''.join(cells)}</tr>"

    head = line("th", columns) if any(columns) else ""
    return f"<table>{head}{''.join(line('td', row) for row in rows)}</table>"
