"""The verb recommend."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tupate_hub.cli import output
from tupate_hub.cli.tune import data_asked, data_options, load, require_training

if TYPE_CHECKING:
    from tupate_hub.data.dataset import DataOptions, Loaded
    from tupate_hub.training.recommend import Recommendation, RecommendOptions
    from tupate_hub.training.trial import Trial


@click.command("recommend")
@click.argument("data")
@data_options
@click.option("-k", "--top", "k", type=click.IntRange(1), default=5, show_default=True, help="How many to recommend.")
@click.option("--space", help="The space to look in. [default: the registry's]")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=4.0, show_default=True, help="At most.")
@click.option("--steps", type=click.IntRange(1), help="At most so many steps. [default: the space's]")
@click.option("--trial/--no-trial", default=True, show_default=True, help="Try each task's model on the labels too.")
@output.registry_option
@output.json_option
def recommend_command(data: str, registry: str | None, as_json: bool, **options: Any) -> None:
    """Say which task to start from, for data of your own.

    Tunes briefly, ranks the registry's tasks on the way, and stops as soon as three rankings agree; then asks of each
    task's model how well it explains up to 200 of the labels, which tunes nothing and takes under a second a task (not
    for spans and tags). DATA is as for `tupate-hub train`, whose command line to go on with is printed.

    \b
      tupate-hub recommend reviews.csv --kind classification
      tupate-hub recommend reviews.csv --column text=review --column label=stars -k 3
    """
    require_training()
    from tupate_hub.training.recommend import Look, RecommendOptions, plan_recommendation, recommend

    asked = data_asked(options)
    zoo = output.opened(registry)
    how = RecommendOptions(
        space=options["space"],
        base=options["base"],
        k=options["k"],
        most_seconds=60 * options["minutes"],
        most_steps=options["steps"],
        device=options["device"],
        trial=options["trial"],
    )
    plan = plan_recommendation(zoo, how)
    loaded = load(data, asked)
    meter = output.Meter(loaded.data.name, as_json)

    def seen(look: Look) -> None:
        meter.say(f"step {look.step}: {', '.join(look.first(how.k))}")

    def watch(sources: list[Any]) -> Iterable[Any]:
        return output.Meter("trial", as_json).over(sources, len(sources))

    found = recommend(zoo, plan, loaded.data, progress=meter.over, pulse=meter.pulse, seen=seen, watch=watch)
    command = _command(data, asked, how, registry, loaded, found)
    if as_json:
        output.document(_as_document(found, loaded, command))
        return
    _print_recommendation(found, command)


def _command(
    data: str, asked: DataOptions, how: RecommendOptions, registry: str | None, loaded: Loaded, found: Recommendation
) -> str:
    """The command line that starts from the first of the recommended tasks, or from nothing where that is advised."""
    words = ["tupate-hub", "train", data]
    if found.start is not None:
        words += ["--start-from", found.start.task]
    if not (Path(data) / "tasks.json").is_file():  # which says what they are
        words += ["--kind", loaded.data.kind]
        for role, name in loaded.columns.items():
            words += ["--column", f"{role}={name}"]
    repeated = {
        "--task": asked.task,
        "--base": how.base,
        "--limit": asked.limit,
        "--space": how.space,
        "--registry": registry,
    }
    for option, value in repeated.items():
        if value is not None:
            words += [option, str(value)]
    if how.device != "cpu":
        words += ["--device", how.device]
    return shlex.join(words)


def _as_document(found: Recommendation, loaded: Loaded, command: str) -> dict[str, Any]:
    from tupate_hub.cli.prospects import as_document

    ranking = found.ranking
    return {
        "query": ranking.query,
        "space": ranking.space,
        "similarity": ranking.similarity,
        "columns": dict(loaded.columns),
        "warnings": list(loaded.warnings),
        "step": found.looks[-1].step,
        "steps": found.steps,
        "seconds": round(found.looks[-1].seconds, 1),
        "stable": found.stable,
        "agreement": found.agreement,
        "since": found.since,
        "close": list(found.close),
        "looks": [
            {
                "step": look.step,
                "loss": look.loss,
                "seconds": round(look.seconds, 1),
                "first": list(look.first(found.k)),
            }
            for look in found.looks
        ],
        "neighbors": [
            {
                "rank": one.rank,
                "task": one.task,
                "score": one.score,
                "percentile": one.percentile,
                "notes": list(one.notes),
                "interval": one.interval,
                "contributions": dict(one.contributions),
            }
            for one in ranking.neighbors[: found.k]
        ],
        "gain": None if found.prospects is None else as_document(found.prospects),
        "trial": None if found.trial is None else _trial_as_document(found, found.trial),
        "start": None if found.start is None else found.start.task,
        "command": command,
    }


def _trial_as_document(found: Recommendation, trial: Trial) -> dict[str, Any]:
    return {
        "base": trial.base,
        "sources": dict(trial.sources),
        "seconds": round(trial.seconds, 1),
        "first": [
            {
                "rank": one.neighbor.rank,
                "task": one.neighbor.task,
                "score": one.neighbor.score,
                "rise": one.rise,
                "promise": None if one.promise is None else asdict(one.promise),
                "notes": list(one.neighbor.notes),
            }
            for one in found.tried
        ],
        "sentences": _trial_sentences(found),
    }


def _print_tried(found: Recommendation) -> None:
    rows: list[list[output.Cell]] = []
    for one in found.tried:
        gain, reach = "", ""
        if one.promise is not None:
            gain, reach = f"{one.promise.points:+.1f}", f"{one.promise.low:+.1f} to {one.promise.high:+.1f}"
        neighbor = one.neighbor
        rows.append(
            [neighbor.rank, neighbor.task, neighbor.score, f"{one.rise:+.3f}", gain, reach, ", ".join(neighbor.notes)]
        )
    columns = ["rank", "task", "score", "evidence", "expected gain", "range", "note"]
    output.table(columns, rows, right=("rank", "score", "evidence", "expected gain"))
    for sentence in _trial_sentences(found):
        output.note(sentence)


def _trial_sentences(found: Recommendation) -> list[str]:
    """What the order stands on, and what measured transfer supports."""
    told = [
        "evidence: how much better a task's model explains your labels than the base model does, in nats an example "
        "(LogME)"
    ]
    start, forecast = found.start, found.forecast
    if start is None:
        return [*told, "start from nothing: no task here is expected to do better"]
    promise = next(one.promise for one in found.tried if one.neighbor.task == start.task)
    if promise is None or forecast is None:
        return [*told, "no transfer was measured in this space: what starting from these brings is not known"]
    told.append(
        f"with {forecast.examples} examples and {forecast.steps} steps, the {promise.cases} measured first picks most "
        f"like {start.task} changed the score by {promise.points:+.1f} points on average ({promise.low:+.1f} to "
        f"{promise.high:+.1f}), and {promise.helped} of them beat starting from nothing"
    )
    told.append(
        f"such a forecast was wrong by {forecast.error:.1f} points (root mean square) on the {len(forecast.targets)} "
        "targets that were measured, each left out in turn"
    )
    return told


def _print_recommendation(found: Recommendation, command: str) -> None:
    """By run and trial, else by expected gain, else by similarity; then how settled the ranking is."""
    from tupate_hub.cli.prospects import print_prospects

    if found.tried:
        _print_tried(found)
    elif found.prospects is not None:
        print_prospects(found.prospects)
    else:
        _print_by_similarity(found)
        output.note("no transfer was measured in this space: what starting from these brings is not known")
    last, best = found.looks[-1], found.ranking.neighbors[0].task
    state = "the ranking by similarity is settled" if found.stable else "the ranking by similarity was still changing"
    output.note(
        f"after {last.step} of {found.steps} steps and {last.seconds:.0f} s {state}: {best} is first since step "
        f"{found.since}, and {found.agreement:.0%} of the first {found.k} were there in the rankings before; "
        "that says how stable the answer is, not how good"
    )
    if found.close:
        output.note(f"as similar as {best}: {', '.join(found.close)}")
    output.note(f"  {command}")


def _print_by_similarity(found: Recommendation) -> None:
    from tupate_hub.training.recommend import parts_that_agree

    neighbors = found.ranking.neighbors[: found.k]
    rows: list[list[output.Cell]] = []
    for one in neighbors:
        share = None if one.percentile is None else f"{one.percentile:.0f}"
        low, high = one.interval or (one.score, one.score)
        blocks = "; ".join(f"{name} {value:+.3f}" for name, value in parts_that_agree(one))
        rows.append([one.rank, one.task, one.score, f"{low:.3f} to {high:.3f}", share, ", ".join(one.notes), blocks])
    columns = ["rank", "task", "score", "interval", "percentile", "note", "blocks that agree most"]
    output.table(columns, rows, right=("rank", "score", "percentile"))
    if found.start is not None and found.start.task != neighbors[0].task:
        output.note(f"{found.start.task} is the first to start from: look at the notes of those before it")
