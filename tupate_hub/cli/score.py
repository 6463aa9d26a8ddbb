"""The verb score: a tuned task judged on labelled data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tupate_hub.cli import output
from tupate_hub.cli.predict import columns_asked, loaded, shown, tuned_options
from tupate_hub.cli.tune import require_training

if TYPE_CHECKING:
    from tupate_hub.data.dataset import TaskData
    from tupate_hub.evaluation.performance import Performance
    from tupate_hub.training.assess import Assessment, Mistake
    from tupate_hub.training.tuned import Tuned

_MOST_CLASSES_SQUARE = 12
_MOST_CONFUSED = 10


@click.command("score")
@click.argument("task")
@click.argument("data")
@tuned_options
@click.option("--task", "part", metavar="NAME", help="In a folder of tasks, which one.")
@click.option("--worst", type=click.IntRange(0), default=5, show_default=True, help="How many mistakes to show.")
@output.registry_option
@output.json_option
def score_command(
    task: str,
    data: str,
    columns: tuple[str, ...],
    part: str | None,
    worst: int,
    registry: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Judge a tuned task on labelled data of your own.

    TASK is what predict takes, DATA what train takes. Of a file every row is scored, of data in splits its test part
    (validation, where there is no test). Figures come with 95 % intervals, and beside the best guess that looks at no
    input.

    \b
      tupate-hub score sst2 reviews.csv --column text=review --column label=stars
      tupate-hub score tupate-zoo/runs/all-MiniLM-L6-v2/lora/reviews test.csv
    """
    require_training()
    from tupate_hub.training.assess import assess

    tuned = loaded(task, registry, options)
    labelled = _labelled(data, tuned, columns_asked(columns), part)

    def watch(starts: Any) -> Any:
        with output.progress(starts, "score", len(starts)) as pieces:
            yield from pieces

    found = assess(tuned, labelled, worst=worst, watch=watch)
    if as_json:
        output.document(
            {
                "task": tuned.head.task,
                "kind": tuned.head.kind,
                "performance": found.performance.to_json(),
                "baseline": found.baseline,
                "baseline_rule": found.rule,
                "worst": [_as_json(one) for one in found.worst],
            }
        )
        return
    _print(tuned, found)


def _labelled(data: str, tuned: Tuned, columns: dict[str, str], part: str | None) -> TaskData:
    from tupate_hub.data.dataset import DataOptions, load_data

    published = (Path(data) / "tasks.json").is_file()
    options = DataOptions(task=part) if published else DataOptions(kind=tuned.head.kind, columns=columns, task=part)
    found = load_data(data, options)
    for warning in found.warnings:
        output.note(warning)
    if not Path(data).is_file():
        return found.data
    whole = [*found.data.train, *found.data.held_out, *found.data.validation]
    return replace(found.data, train=[], held_out=[], validation=whole)


def _as_json(mistake: Mistake) -> dict[str, Any]:
    asked = {name: value for name, value in mistake.example.items() if name not in ("label", "tags", "answers")}
    return {**asked, "right": mistake.right, "error": round(mistake.error, 4), **mistake.prediction.to_json()}


def _print(tuned: Tuned, found: Assessment) -> None:
    measured = found.performance
    low, high = measured.interval
    beaten = "" if measured.primary > found.baseline else ", which it does not beat"
    output.lines(
        [
            ("task", f"{tuned.head.task}, {tuned.head.kind}"),
            ("examples", str(measured.examples)),
            (measured.metric, f"{measured.primary:.4f}, 95 % in {low:.4f} to {high:.4f} ({measured.interval_rule})"),
            ("baseline", f"{found.baseline:.4f} ({found.rule}){beaten}"),
            *((name.replace("_", " "), f"{value:.4f}") for name, value in measured.figures.items()),
        ]
    )
    if measured.classes:
        output.text("")
        _print_classes(measured)
    if measured.confusion:
        output.text("")
        _print_confusion(measured)
    if found.worst:
        output.text("")
        rows = [_row(one) for one in found.worst]
        output.table(["error", "right", "answer", "input"], rows, right=["error"])


def _print_classes(measured: Performance) -> None:
    rows = [
        [one.name, f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}", str(one.support)]
        for one in measured.classes
    ]
    figures = ["precision", "recall", "f1", "support"]
    output.table(["class", *figures], rows, right=figures)


def _print_confusion(measured: Performance) -> None:
    """All of it where it fits on a screen, else the commonest mistakes."""
    names = [one.name for one in measured.classes]
    if len(names) <= _MOST_CLASSES_SQUARE:
        rows = [[name, *map(str, row)] for name, row in zip(names, measured.confusion, strict=True)]
        output.table(["is \\ taken for", *names], rows, right=names)
        return
    rows = [[was, taken, str(times)] for was, taken, times in measured.most_confused(_MOST_CONFUSED)]
    output.table(["is", "taken for", "times"], rows, right=["times"])


def _row(mistake: Mistake) -> list[str]:
    asked = " | ".join(
        " ".join(value) if isinstance(value, list) else str(value)
        for name, value in mistake.example.items()
        if name not in ("label", "tags", "answers", "choices") and value
    )
    return [f"{mistake.error:.3f}", _short(mistake.right), _short(mistake.prediction.answer), shown(asked)]


def _short(value: Any) -> str:
    if isinstance(value, list):
        return shown(" ".join(map(str, value)))
    return f"{value:.4f}" if isinstance(value, float) else shown(str(value))
