"""Verbs that measure: stats, evaluate."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tupate_hub.cli import output
from tupate_hub.compare.similarity import available
from tupate_hub.compare.view import View
from tupate_hub.errors import TupateHubError, UnknownName
from tupate_hub.evaluation.evaluate import Report
from tupate_hub.evaluation.truth import Truth, align, read_truth
from tupate_hub.extras import require_extra
from tupate_hub.search.similar import pair_scores
from tupate_hub.zoo import ENVIRONMENT, Zoo

_PATH = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("stats")
@click.argument("base", type=_PATH)
@click.option("--space", help="The space whose base model it is.")
@click.option("--text", type=_FILE, metavar="FILE", help="A passage a line. [default: the project's probe text]")
@output.own_registry_option
def stats_command(base: Path, space: str | None, text: Path | None, registry: str | None) -> None:
    """Measure a base model's inputs, for --similarity effect.

    BASE is the folder of the space's base model. Needs the `train` extra (torch, transformers); what is measured is
    kept with the space, and `similar --similarity effect` needs neither.

    \b
      tupate-hub stats ./all-MiniLM-L6-v2 --registry ./my-zoo
    """
    from tupate_hub.collect.keep import keep_input_covariance

    if not (registry or os.environ.get(ENVIRONMENT)):
        again = output.command("stats", base, "--registry", "DIR")
        raise TupateHubError("The bundled zoo takes no additions.", hint=again)
    zoo = output.opened(registry)
    entry = zoo.registry.space(space)
    if not base.is_dir():
        raise TupateHubError(f"{base} is not a base model's folder.", hint="give the folder with its model.safetensors")
    require_extra("train", "torch", "transformers")
    from tupate_hub.training.measure import measure_input_covariance

    passages = None if text is None else _passages(text)
    blocks = {block.name: None for listed in zoo.registry.in_space(entry.name) for block in zoo.load(listed).blocks}

    def watched(batches: Sequence[list[str]]) -> Iterator[list[str]]:
        with output.progress(batches, "stats", len(batches)) as bar:
            yield from bar

    covariance = measure_input_covariance(base, entry.base, list(blocks), passages, progress=watched)
    place = keep_input_covariance(zoo, entry.name, covariance).registry.space(entry.name).moments
    output.note(
        f"{covariance.tokens} tokens, {len(covariance.inputs)} inputs, {place['bytes'] / 1e6:.1f} MB in {place['file']}"
    )


def _passages(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TupateHubError(f"{file} is not UTF-8 text.", hint="leave out --text for the project's own") from error


@click.command("evaluate")
@click.option(
    "--truth",
    type=_PATH,
    default="few-shot-150",
    show_default=True,
    metavar="FILE",
    help="CSV (source, target, score, ...), or the name of a table of zoo/truth.",
)
@click.option("--similarity", default="update", show_default=True, help="A similarity, or `all` of them.")
@click.option(
    "--predictor",
    "chosen",
    multiple=True,
    metavar="NAME",
    help="A predictor of docs/evaluation.md instead of a similarity; may be given more than once, or `all`.",
)
@click.option("--space", help="The space to judge; see `tupate-hub spaces`.")
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@click.option("--per-target", is_flag=True, help="Show every target, not only the means.")
@output.registry_option
@output.json_option
def evaluate_command(
    truth: Path,
    similarity: str,
    chosen: tuple[str, ...],
    space: str | None,
    seed: int,
    per_target: bool,
    registry: str | None,
    as_json: bool,
) -> None:
    """Judge rankings by measured transfer, beside the baselines.

    For each target, all other tasks that were measured are its sources. docs/evaluation.md has the formulas.

    \b
      tupate-hub evaluate --predictor all
      tupate-hub evaluate --registry ./my-zoo --truth transfer.csv --similarity all
    """
    from tupate_hub.evaluation.baselines import judge

    zoo = output.opened(registry)
    where = zoo.registry.space(space)
    found = _predictions(zoo, where.name, similarity)
    tasks, found = _comparable([entry.task for entry in zoo.registry.in_space(where.name)], found)
    table = _truth_of(zoo, truth, tasks)
    predictors = {name: align(table, tasks, scores) for name, scores in found.items()}
    known = {task: zoo.registry.tasks[task].train_size for task in tasks}
    sizes = {task: size for task, size in known.items() if size is not None}
    reports = _by_name(zoo, where.name, table, chosen, seed) if chosen else judge(predictors, table, sizes, seed)
    if as_json:
        output.document(
            {
                "space": where.name,
                "truth": str(truth),
                "targets": len(table.targets),
                "sources": len(table.sources),
                "notes": list(table.notes),
                "predictors": [report.as_dict() for report in reports],
            }
        )
        return
    for sentence in table.notes:
        output.note(sentence)
    output.note(f"{len(table.targets)} targets, {len(table.sources)} sources in {where.name}; intervals are 95 %")
    _print_reports(reports, per_target)


def _comparable(tasks: Sequence[str], found: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """The tasks that every prediction knows, so that all are judged on the same, and the predictions of those."""
    import numpy as np

    known = np.all([np.isfinite(np.diag(scores)) for scores in found.values()], axis=0)
    left_out = [task for task, here in zip(tasks, known, strict=True) if not here]
    if left_out:
        output.note(f"left out, because they do not compare with the others: {', '.join(left_out)}")
    kept = [task for task, here in zip(tasks, known, strict=True) if here]
    return kept, {name: scores[np.ix_(known, known)] for name, scores in found.items()}


def _by_name(zoo: Zoo, space: str, table: Truth, chosen: Sequence[str], seed: int) -> Sequence[Report]:
    """Reports of predictors by their names, each on the cells of the table that it knows."""
    import numpy as np

    from tupate_hub.evaluation.evaluate import evaluate
    from tupate_hub.evaluation.predictors import PREDICTORS, Evidence, get_predictor, known_cells
    from tupate_hub.zoo import bundled_root

    evidence = Evidence(table, zoo, space, bundled_root() / "zoo" / "truth" / "predictions")
    reports = []
    for predictor in [get_predictor(name) for name in (PREDICTORS if "all" in chosen else chosen)]:
        prediction = predictor.compute(evidence)
        known = known_cells(table, prediction)
        if not known.targets:
            output.note(f"{predictor.name} knows nothing of these tasks: left out")
            continue
        rows = [table.targets.index(target) for target in known.targets]
        # what is not known is no candidate: its number is never looked at
        reports.append(evaluate(np.nan_to_num(prediction[rows]), known, predictor.name, seed))
        if len(known.targets) < len(table.targets):
            output.note(f"{predictor.name} knows {len(known.targets)} of the targets")
    if not reports:
        raise TupateHubError("None of these predictors knows two sources of any target.", hint="tupate-hub spaces")
    return reports


def _truth_of(zoo: Zoo, written: Path, tasks: Sequence[str]) -> Truth:
    """The truth under the registry's names of tasks, as far as the space has them.

    A name that is not a file is that of a table which comes with the package.
    """
    from tupate_hub.zoo import bundled_root

    shipped = bundled_root() / "zoo" / "truth" / f"{written}.csv"
    path = shipped if not written.exists() and len(written.parts) == 1 and shipped.is_file() else written

    def name_of(written: str) -> str:
        try:
            return zoo.registry.task(written.strip()).name
        except UnknownName:
            return written.strip()

    return read_truth(path, name_of).restricted_to(tasks)


def _predictions(zoo: Zoo, space: str, similarity: str) -> dict[str, Any]:
    """Scores of shape (tasks, tasks) by predictor: the similarity, or all of them, plain and centred."""
    if similarity != "all":
        return {similarity: pair_scores(zoo, space, View(similarity))}
    held = zoo.registry.space(space)
    names = available(bool(held.moments), bool(held.subspaces))
    first = next(iter(zoo.registry.in_space(space)), None)
    if first is not None and any(block.form == "rows" for block in zoo.outline(first.task, space).blocks):
        names = (*names, "tupate-flat")
    return {
        f"{name}, centred" if centre else name: pair_scores(zoo, space, View(name, centre))
        for name in names
        for centre in (False, True)
    }


_SHOWN = ("ndcg_rank", "ndcg_score", "regret@1", "regret@3", "regret@5", "rank_of_best", "spearman")


def _print_reports(reports: Sequence[Report], per_target: bool) -> None:
    shown = [name for name in _SHOWN if name in reports[0].values]
    columns = ["predictor", *(["target", "picked", "best"] if per_target else []), *shown]
    rows: list[list[output.Cell]] = []
    for report in reports:
        if per_target:
            for at, target in enumerate(report.targets):
                cells = [float(report.values[name][at]) for name in shown]
                rows.append([report.name, target, report.picked[at], report.best[at], *cells])
            continue
        summaries = [report.summary(name) for name in shown]
        rows.append(
            [report.name, *(f"{summary.mean:.3f} [{summary.low:.3f}, {summary.high:.3f}]" for summary in summaries)]
        )
    output.table(columns, rows, right=shown)
