"""The verb recommend."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tupate_hub.cli import output
from tupate_hub.cli.compared import comparison_document, name_of, print_comparison
from tupate_hub.cli.tune import data_asked, data_options, load, require_training
from tupate_hub.cli.tuned import Told
from tupate_hub.extras import require_extra

if TYPE_CHECKING:
    from tupate_hub.data.dataset import DataOptions, Loaded
    from tupate_hub.training.comparison import Comparison
    from tupate_hub.training.recommend import RecommendOptions, RecommendPlan
    from tupate_hub.training.recommendation import Recommendation
    from tupate_hub.training.trial import Trial
    from tupate_hub.zoo import Zoo


@click.command("recommend")
@click.argument("data")
@data_options
@click.option("-k", "--top", "k", type=click.IntRange(1), default=5, show_default=True, help="How many to recommend.")
@click.option("--space", help="The space to look in. [default: the registry's]")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=4.0, show_default=True, help="At most.")
@click.option("--steps", type=click.IntRange(1), help="At most so many steps. [default: the space's]")
@click.option("--trial/--no-trial", default=True, show_default=True, help="Try each task's model on the labels too.")
@click.option("--compare", type=click.IntRange(1), metavar="N",
              help="Then really tune from the first N and from nothing, and keep the best.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1), default=2, show_default=True, help="Runs from each start.")
@click.option("--compare-steps", type=click.IntRange(1), help="Steps of each of these runs. [default: as train]")
@click.option("--out", metavar="FILE", help="Save these runs as a table that evaluate reads.")
@click.option("--to", default="tupate-zoo", show_default=True, metavar="DIR", help="Where the best run goes.")
@click.option("--force", is_flag=True, help="Replace a task that the folder's registry has already.")
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
      tupate-hub recommend reviews.csv --compare 3 --seeds 3
    """
    require_extra("train")
    loaded = load(data, data_asked(options))  # what is wrong with the data is told before torch is loaded
    require_training()
    from tupate_hub.training.recommend import RecommendOptions, plan_recommendation, recommend
    from tupate_hub.training.recommendation import Look

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
    if options["compare"]:
        _require_room(options, loaded, plan)
    meter = output.Meter(loaded.data.name, as_json)

    def seen(look: Look) -> None:
        meter.say(f"step {look.step}: {', '.join(look.first(how.k))}")

    def watch(sources: list[Any]) -> Iterable[Any]:
        return output.Meter("trial", as_json).over(sources, len(sources))

    recommendation = recommend(zoo, plan, loaded.data, progress=meter.over, pulse=meter.pulse, seen=seen, watch=watch)
    command = _command(data, asked, how, registry, loaded, recommendation)
    if not as_json:
        _print_recommendation(recommendation, command)
    compared = _compared(options, zoo, plan, loaded, recommendation, as_json) if options["compare"] else None
    if as_json:
        told = None if compared is None else comparison_document(compared, options["out"])
        output.document(_as_document(recommendation, loaded, command) | {"comparison": told})
    elif compared is not None:
        print_comparison(compared)


def _require_room(options: Mapping[str, Any], loaded: Loaded, plan: RecommendPlan) -> None:
    """Refuse what could not be kept, before any work."""
    from tupate_hub.collect.add import open_or_start
    from tupate_hub.evaluation.transfer_rows import require_table
    from tupate_hub.training.delivery import name_in, refuse_taken

    target = open_or_start(options["to"])
    if not options["force"]:
        refuse_taken(target, plan.space.space, name_in(target, loaded.data.name))
    if options["out"]:
        require_table(Path(options["out"]))


def _compared(
    options: Mapping[str, Any],
    zoo: Zoo,
    plan: RecommendPlan,
    loaded: Loaded,
    recommendation: Recommendation,
    quiet: bool,
) -> Comparison:
    """The runs that `--compare` asks for, told on the way, and saved where that is asked for."""
    from tupate_hub.collect.add import open_or_start
    from tupate_hub.evaluation.transfer_rows import append_rows
    from tupate_hub.training.comparison import CompareOptions, compare, picks_of

    meter = output.Meter("", quiet)

    def began(source: str, seed: int) -> None:
        meter.label = f"from {name_of(source)}, seed {seed}"
        meter.say(meter.label)

    how = CompareOptions(options["compare"], options["seeds"], options["compare_steps"], options["force"])
    target, picks = open_or_start(options["to"]), picks_of(recommendation, how.picks)
    with output.resumable():
        compared = compare(
            zoo, plan, loaded.data, picks, target, how,
            began=began, progress=meter.over, pulse=meter.pulse, warn=Told().warn,
        )  # fmt: skip
    if options["out"]:
        append_rows(Path(options["out"]), compared.rows)
    return compared


def _command(
    data: str,
    asked: DataOptions,
    how: RecommendOptions,
    registry: str | None,
    loaded: Loaded,
    recommendation: Recommendation,
) -> str:
    """The command line that starts from the first of the recommended tasks, or from nothing where that is advised."""
    words = ["tupate-hub", "train", data]
    if recommendation.start is not None:
        words += ["--start-from", recommendation.start.task]
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


def _as_document(recommendation: Recommendation, loaded: Loaded, command: str) -> dict[str, Any]:
    from tupate_hub.cli.prospects import as_document

    ranking = recommendation.ranking
    return {
        "query": ranking.query,
        "space": ranking.space,
        "similarity": ranking.similarity,
        "columns": dict(loaded.columns),
        "warnings": list(loaded.warnings),
        "step": recommendation.looks[-1].step,
        "steps": recommendation.steps,
        "seconds": round(recommendation.looks[-1].seconds, 1),
        "stable": recommendation.stable,
        "agreement": recommendation.agreement,
        "since": recommendation.since,
        "close": list(recommendation.close),
        "looks": [
            {
                "step": look.step,
                "loss": look.loss,
                "seconds": round(look.seconds, 1),
                "first": list(look.first(recommendation.k)),
            }
            for look in recommendation.looks
        ],
        "neighbors": [
            {
                "rank": neighbor.rank,
                "task": neighbor.task,
                "score": neighbor.score,
                "percentile": neighbor.percentile,
                "notes": list(neighbor.notes),
                "interval": neighbor.interval,
                "contributions": dict(neighbor.contributions),
            }
            for neighbor in ranking.neighbors[: recommendation.k]
        ],
        "gain": None if recommendation.prospects is None else as_document(recommendation.prospects),
        "trial": None if recommendation.trial is None else _trial_as_document(recommendation, recommendation.trial),
        "start": None if recommendation.start is None else recommendation.start.task,
        "command": command,
    }


def _trial_as_document(recommendation: Recommendation, trial: Trial) -> dict[str, Any]:
    return {
        "base": trial.base,
        "sources": dict(trial.sources),
        "seconds": round(trial.seconds, 1),
        "first": [
            {
                "rank": source.neighbor.rank,
                "task": source.neighbor.task,
                "score": source.neighbor.score,
                "rise": source.rise,
                "promise": None if source.promise is None else asdict(source.promise),
                "notes": list(source.neighbor.notes),
            }
            for source in recommendation.tried[: recommendation.k]
        ],
        "sentences": _trial_sentences(recommendation),
    }


def _print_tried(recommendation: Recommendation) -> None:
    rows: list[list[output.Cell]] = []
    for source in recommendation.tried[: recommendation.k]:
        gain, reach = "", ""
        if source.promise is not None:
            gain, reach = f"{source.promise.points:+.1f}", f"{source.promise.low:+.1f} to {source.promise.high:+.1f}"
        neighbor = source.neighbor
        rows.append(
            [
                neighbor.rank,
                neighbor.task,
                neighbor.score,
                f"{source.rise:+.3f}",
                gain,
                reach,
                ", ".join(neighbor.notes),
            ]
        )
    columns = ["rank", "task", "score", "evidence", "expected gain", "range", "note"]
    output.table(columns, rows, right=("rank", "score", "evidence", "expected gain"))
    for sentence in _trial_sentences(recommendation):
        output.note(sentence)


def _trial_sentences(recommendation: Recommendation) -> list[str]:
    """What the order stands on, and what measured transfer supports."""
    told = [
        "evidence: how much better a task's model explains your labels than the base model does, in nats an example "
        "(LogME)"
    ]
    start, forecast = recommendation.start, recommendation.forecast
    if start is None:
        return [*told, "start from nothing: no task here is expected to do better"]
    promise = next(source.promise for source in recommendation.tried if source.neighbor.task == start.task)
    if promise is None or forecast is None:
        return [*told, "no transfer was measured in this space: what starting from these brings is not known"]
    told.append(
        f"with {forecast.examples} examples and {forecast.steps} steps, the {promise.cases} measured first picks whose "
        f"evidence rose most nearly as much as that of {start.task} changed the score by {promise.points:+.1f} points "
        f"on average ({promise.low:+.1f} to {promise.high:+.1f}); {promise.helped} of them beat starting from nothing"
    )
    told.append(
        f"such a forecast was wrong by {forecast.error:.1f} points (root mean square) on the {len(forecast.targets)} "
        "targets that were measured, each left out in turn"
    )
    if forecast.converged is not None:
        told.append(f"against {forecast.converged.in_words}")
    return told


def _print_recommendation(recommendation: Recommendation, command: str) -> None:
    """By run and trial, else by expected gain, else by similarity; then how settled the ranking is."""
    from tupate_hub.cli.prospects import print_prospects

    if recommendation.tried:
        _print_tried(recommendation)
    elif recommendation.prospects is not None:
        print_prospects(recommendation.prospects)
    else:
        _print_by_similarity(recommendation)
        output.note("no transfer was measured in this space: what starting from these brings is not known")
    last, best = recommendation.looks[-1], recommendation.ranking.neighbors[0].task
    state = "is settled" if recommendation.stable else "was still changing"
    output.note(
        f"after {last.step} of {recommendation.steps} steps and {last.seconds:.0f} s the ranking by similarity {state}"
        f": {best} is first since step {recommendation.since}, and {recommendation.agreement:.0%} of the first "
        f"{recommendation.k} were there in the rankings before; that says how stable the answer is, not how good"
    )
    if recommendation.close:
        output.note(f"as similar as {best}: {', '.join(recommendation.close)}")
    output.note(f"  {command}")


def _print_by_similarity(recommendation: Recommendation) -> None:
    from tupate_hub.training.recommendation import parts_that_agree

    neighbors = recommendation.ranking.neighbors[: recommendation.k]
    rows: list[list[output.Cell]] = []
    for neighbor in neighbors:
        share = None if neighbor.percentile is None else f"{neighbor.percentile:.0f}"
        low, high = neighbor.interval or (neighbor.score, neighbor.score)
        blocks = "; ".join(f"{name} {value:+.3f}" for name, value in parts_that_agree(neighbor))
        rows.append(
            [
                neighbor.rank,
                neighbor.task,
                neighbor.score,
                f"{low:.3f} to {high:.3f}",
                share,
                ", ".join(neighbor.notes),
                blocks,
            ]
        )
    columns = ["rank", "task", "score", "interval", "percentile", "note", "blocks that agree most"]
    output.table(columns, rows, right=("rank", "score", "percentile"))
    if recommendation.start is not None and recommendation.start.task != neighbors[0].task:
        output.note(f"{recommendation.start.task} is the first to start from: look at the notes of those before it")
