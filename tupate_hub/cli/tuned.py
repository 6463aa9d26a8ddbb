"""What is told of a run: in the terminal, as JSON, and as the page `report.html` in the run's folder."""

from __future__ import annotations

from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from tupate_hub.cli import output
from tupate_hub.cli.hints import for_verb

if TYPE_CHECKING:
    from pathlib import Path

    from tupate_hub.data.dataset import Loaded
    from tupate_hub.evaluation.performance import Performance
    from tupate_hub.training.cost import Cost
    from tupate_hub.training.delivery import Delivery
    from tupate_hub.training.train import TrainPlan
    from tupate_hub.zoo import Zoo

_MOST_CLASSES = 12


class Told:
    """What a run has told on its way that its user should know."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def warn(self, sentence: str) -> None:
        """Say a sentence, once, in the words of the command line."""
        said = for_verb(sentence, "train")
        if said not in self.sentences:
            self.sentences.append(said)
            output.note(said)


def print_cost(found: Cost, plan: TrainPlan, loaded: Loaded, as_json: bool) -> None:
    """What a run will come to."""
    from tupate_hub.training.train import regime_of

    regime = regime_of(plan, loaded.data.kind)
    if as_json:
        output.document(
            {
                "dry_run": True,
                "task": loaded.data.name,
                "space": plan.space.name,
                "settings": dict(plan.method.settings),
                "steps": found.steps,
                "passes": round(found.passes, 2),
                "batch_size": regime.batch_size,
                "max_length": regime.max_length,
                "parameters": found.parameters,
                "runs": found.runs,
                "seconds_per_step": round(found.step_seconds, 3),
                "seconds": round(found.seconds, 1),
                "columns": dict(loaded.columns),
                "warnings": list(loaded.warnings),
            }
        )
        return
    runs = f"{found.runs} runs of " if found.runs > 1 else ""
    output.lines(
        [
            ("task", loaded.data.name),
            ("space", plan.space.name),
            ("parameters", found.parameters),
            ("steps", f"{runs}{found.steps} of {regime.batch_size} examples, {found.passes:.1f} passes"),
            ("tokens", f"{regime.max_length} of a text at most"),
            ("time", f"about {output.duration(found.seconds)}, measured on {found.measured} steps"),
        ]
    )


def print_run(delivery: Delivery, loaded: Loaded, zoo: Zoo, told: Told, as_json: bool, base: str | None = None) -> None:
    """What came of a run; its report is written first. `base` is the base model, as the user named it."""
    from tupate_hub.training.advice import to_try

    embedding, record = delivery.embedding, delivery.record
    known = any(space.space == embedding.space for space in zoo.registry.spaces.values())
    asked = (delivery.file,) if known else (embedding.task, "--registry", delivery.zoo.root)
    named = ("--base", base) if base else ()
    answers = [output.command("predict", delivery.adapter, "A text.", *named)] if delivery.head else []
    following = [
        *answers,
        output.command("similar", *asked),
        output.command("similar", *asked, "--explain"),
        output.command("push", "OWNER/NAME", "--registry", delivery.zoo.root),
    ]
    measured = delivery.result.performance()
    advice = [for_verb(sentence, "train") for sentence in to_try(record, measured, len(delivery.seeds) or 1)]
    report = _write_report(delivery, loaded, measured, told, advice, following)
    if as_json:
        output.document(_as_document(delivery, loaded, measured, report, advice, told) | {"next": following})
        return
    low, high = measured.interval
    reach = f", {low:.3f} to {high:.3f} (95 %)" if low == low else ""
    beaten = "" if record.scores["primary"] > record.baseline else ", which it does not beat"
    output.lines(
        [
            ("task", embedding.task),
            ("score", f"{record.scores['primary']:.4f} {record.metric}{reach}"),
            ("baseline", f"{record.baseline:.4f} ({record.baseline_rule}){beaten}"),
            *([("zero-shot", f"{record.zero_shot:.4f}")] if record.zero_shot is not None else []),
            *([("seeds", _about_seeds(delivery))] if delivery.seeds else []),
            *((f"class {name}", figures) for name, figures in _by_class(measured)),
            ("steps", f"{record.steps}, the best after {record.best_step}, {record.seconds} s"),
            ("space", delivery.entry.space),
            ("parameters", embedding.parameters),
            ("embedding", str(delivery.file)),
            ("adapter", str(delivery.adapter)),
            ("early", str(delivery.run / "early")),
            ("report", str(report)),
        ]
    )
    for sentence in advice:
        output.note(sentence)
    for line in following:
        output.note(f"  {line}")


def _as_document(
    delivery: Delivery, loaded: Loaded, measured: Performance, report: Path, advice: list[str], told: Told
) -> dict[str, Any]:
    embedding, record = delivery.embedding, delivery.record
    return {
        "task": embedding.task,
        "space": delivery.entry.space,
        "settings": embedding.facts["settings"],
        "scores": embedding.facts["scores"],
        "performance": measured.to_json(),
        "zero_shot": record.zero_shot,
        "steps": record.steps,
        "best_step": record.best_step,
        "seconds": record.seconds,
        "curve": [look._asdict() for look in delivery.result.curve],
        "seeds": [one._asdict() for one in delivery.seeds],
        "parameters": embedding.parameters,
        "embedding": str(delivery.file),
        "adapter": str(delivery.adapter),
        "report": str(report),
        "early": list(map(str, delivery.early)),
        "columns": dict(loaded.columns),
        "warnings": [*loaded.warnings, *told.sentences],
        "advice": advice,
    }


def _about_seeds(delivery: Delivery) -> str:
    scores = [one.score for one in delivery.seeds]
    best = delivery.record.regime.seed
    listed = ", ".join(f"{score:.4f}" for score in scores)
    return (
        f"{listed}: mean {fmean(scores):.4f}, standard deviation {stdev(scores):.4f}; that of seed {best} is kept, "
        "by its held-out score"
    )


def _by_class(measured: Performance) -> list[tuple[str, str]]:
    kept = sorted(measured.classes, key=lambda one: -one.support)[:_MOST_CLASSES]
    return [
        (one.name, f"precision {one.precision:.3f}, recall {one.recall:.3f}, F1 {one.f1:.3f}, of {one.support}")
        for one in kept
    ]


def _write_report(
    delivery: Delivery, loaded: Loaded, measured: Performance, told: Told, advice: list[str], commands: list[str]
) -> Path:
    from tupate_hub.publish.run_report import RunStory, run_report
    from tupate_hub.storage.atomic import write_bytes

    result = delivery.result
    story = RunStory(
        delivery.record,
        measured,
        result.losses,
        [(look.step, look.held_out) for look in result.curve],
        seeds=[(one.seed, one.score) for one in delivery.seeds],
        notes=told.sentences,
        advice=advice,
        commands=commands,
    )
    path = delivery.run / "report.html"
    write_bytes(path, run_report(story, loaded).encode())
    return path
