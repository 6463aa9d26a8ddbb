"""The verb predict: a tuned task answers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tupate_hub.cli import output
from tupate_hub.cli.tune import require_training
from tupate_hub.errors import TargetExists, TupateHubError

if TYPE_CHECKING:
    from tupate_hub.data.table import Table
    from tupate_hub.training.tuned import Tuned

F = TypeVar("F", bound=Callable[..., Any])

_STDIN = "-"
_AT_ONCE = 512
_ALL_ROWS = 1 << 60  # training takes a sample of many rows, answers are wanted of each
_MOST_SHOWN = 80


def tuned_options(function: F) -> F:
    """Which tuned task is meant and where it computes, the same on the verbs that use one."""
    for option in (
        click.option(
            "--device", type=click.Choice(["cpu", "cuda", "mps"]), default="cpu", show_default=True, help="Where."
        ),
        click.option("--windows", is_flag=True, help="Read long texts to their end, in windows that are averaged."),
        click.option("--base", metavar="MODEL", help="The base model's folder, or its id on the Hub."),
        click.option("--space", help="The space that the task is taken from."),
        click.option("--column", "columns", multiple=True, metavar="ROLE=NAME", help="Which column is the text, ..."),
    ):
        function = option(function)
    return function


@click.command("predict")
@click.argument("task")
@click.argument("inputs", nargs=-1, metavar="[TEXT... | FILE]")
@tuned_options
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write the rows with what is predicted: .csv, .tsv or .jsonl.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the file of --out.")
@output.registry_option
@output.json_option
def predict_command(
    task: str,
    inputs: tuple[str, ...],
    columns: tuple[str, ...],
    out: Path | None,
    force: bool,
    registry: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Answer with a tuned task: labels, amounts, spans, tags, choices.

    TASK is a task of the registry or a folder: of a run, its adapter, or what pull made. It is asked TEXTs, a FILE
    (CSV, TSV, JSON lines, Parquet; or one text a line), or what comes in by standard input, a text or a JSON object a
    line. A TEXT may be a JSON object as well, for tasks that are asked more than a text: text and text_b, question and
    context, question and choices.

    \b
      tupate-hub predict sst2 "A warm and clever film."
      tupate-hub predict tupate-zoo/runs/all-MiniLM-L6-v2/lora/reviews new.csv --out answered.csv
      tupate-hub predict squad '{"question": "Who wrote it?", "context": "Ada wrote it."}'
    """
    require_training()
    from tupate_hub.data.outputs import predicted_table, require_writable
    from tupate_hub.storage.atomic import write_bytes

    if out is not None:
        require_writable(out)
        if out.exists() and not force:
            raise TargetExists(f"{out} exists already.", hint="give another file, or --force")
    table = _asked(inputs)
    tuned = loaded(task, registry, options)
    predictions = _answered(tuned, table, columns_asked(columns))
    if out is not None:
        write_bytes(out, predicted_table(out, table, predictions))
        output.note(f"{output.counted(len(predictions), 'rows')} answered, in {out}")
    if as_json:
        output.document({"task": tuned.head.task, "kind": tuned.head.kind, "predictions": predictions})
    elif out is None:
        _print(table, predictions)


def loaded(task: str, registry: str | None, options: Mapping[str, Any]) -> Tuned:
    """The tuned task that the options mean."""
    from tupate_hub.training.load import load

    return load(task, location=registry, **options)


def columns_asked(written: tuple[str, ...]) -> dict[str, str]:
    """Roles and their columns, as --column gives them.

    Raises
    ------
    TupateHubError
        For one without a `=`.
    """
    columns = {}
    for one in written:
        role, equals, name = one.partition("=")
        if not (role and equals and name):
            raise TupateHubError(f"{one!r} names no column.", hint="--column text=review")
        columns[role] = name
    return columns


def _asked(inputs: tuple[str, ...]) -> Table:
    """What is asked, as a table."""
    from tupate_hub.data.files import read_table, reader_of
    from tupate_hub.data.inputs import table_of_lines

    if inputs in ((), (_STDIN,)):
        if sys.stdin.isatty():
            raise TupateHubError("There is nothing to answer.", hint="give a text, a file, or pipe lines in")
        return table_of_lines("standard input", sys.stdin.read())
    path = Path(inputs[0])
    if len(inputs) == 1 and len(inputs[0]) < 1000 and path.is_file():
        if reader_of(path) is not None:
            return read_table(path, _ALL_ROWS)
        return table_of_lines(path.name, path.read_text(encoding="utf-8-sig", errors="replace"))
    if len(inputs) == 1 and reader_of(path) is not None and " " not in inputs[0]:
        raise TupateHubError(f"There is no file {inputs[0]}.", hint="check the path")
    return table_of_lines("the command line", "\n".join(" ".join(text.split("\n")) for text in inputs))


def _answered(tuned: Tuned, table: Table, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    from tupate_hub.data.inputs import rows_as_examples

    examples, guess = rows_as_examples(tuned.head.kind, table, columns)
    if len(table.columns) > 1:
        output.note("columns: " + ", ".join(f"{role} = {name}" for role, name in guess.columns.items()))
    starts = range(0, len(examples), _AT_ONCE)
    with output.progress(starts, "predict", len(starts)) as pieces:
        said = [one for start in pieces for one in tuned.predictions(examples[start : start + _AT_ONCE])]
    return [one.to_json() for one in said]


def _print(table: Table, predictions: list[dict[str, Any]]) -> None:
    """A row for each input: its number, what it says, the answer, and how sure the model is."""
    sure = any("probability" in fields for fields in predictions)
    rows = []
    for number, row, fields in zip(table.numbers, table.rows, predictions, strict=True):
        answer = fields["answer"]
        if isinstance(answer, list) and "spans" not in fields:
            answer = ", ".join(answer) or "none"
        if "spans" in fields:
            answer = "; ".join(f"{span['type']}: {span['text']}" for span in fields["spans"]) or "no span"
        said = f"{answer:.4f}" if isinstance(answer, float) else str(answer)
        share = [f"{fields['probability']:.3f}"] if sure else []
        asked = next((str(value) for value in row.values() if isinstance(value, str)), "")
        rows.append([str(number), shown(said), *share, shown(asked)])
    output.table([table.unit, "answer", *(["probability"] if sure else []), "input"], rows, right=["probability"])


def shown(text: str) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _MOST_SHOWN else line[: _MOST_SHOWN - 1] + "…"
