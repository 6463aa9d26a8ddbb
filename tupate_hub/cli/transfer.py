"""The verb transfer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tupate_hub.cli import output
from tupate_hub.cli.tune import about_source, data_asked, data_options, load, require_training

if TYPE_CHECKING:
    from tupate_hub.data.dataset import Loaded, TaskData
    from tupate_hub.embedding import TaskEmbedding
    from tupate_hub.evaluation.transfer_rows import TransferRow
    from tupate_hub.training.methods import Method
    from tupate_hub.training.protocol import Protocol
    from tupate_hub.training.transfer import Comparison, Gain, Score


@click.command("transfer")
@click.argument("source")
@click.argument("data", metavar="TARGET_DATA")
@data_options
@click.option("--space", help="The space of the source. [default: the registry's, or the first that has it]")
@click.option("--examples", type=click.IntRange(2), help="Draw so many training examples anew with each seed.")
@click.option("--steps", type=click.IntRange(1), help="Optimizer steps a run. [default: by the number of examples]")
@click.option("--score-at", type=click.IntRange(1), multiple=True, help="Score after so many steps as well.")
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="How many pairs of runs.")
@click.option("--converged", is_flag=True, help="Compare with a run from scratch four times as long, too.")
@click.option("--out", metavar="FILE.csv", type=click.Path(path_type=Path), help="Add a row a score to this table.")
@output.registry_option
@output.json_option
def transfer_command(source: str, data: str, **options: Any) -> None:
    """Measure what starting from a source adds on data of your own.

    Tunes the target twice a seed, from the source's parameters and from scratch, with the same examples in the same
    order, the same first head and the same number of steps, and compares the scores. SOURCE is a task of the registry,
    an adapter, or several joined by +, whose average is taken; TARGET_DATA is as for `tupate-hub train`.

    \b
      tupate-hub transfer sst2 reviews.csv --kind classification
      tupate-hub transfer sst2+imdb reviews.csv --examples 200 --seeds 5 --converged --out transfer.csv
    """
    require_training()
    from tupate_hub.evaluation.transfer_rows import append_rows, require_table
    from tupate_hub.training.protocol import protocol_for, until_converged
    from tupate_hub.training.transfer import gains
    from tupate_hub.training.warmstart import method_of, source_and_base

    asked = data_asked(options)
    zoo = output.opened(options["registry"])
    embedding, base = source_and_base(zoo, source, space=options["space"], base=options["base"])
    method = method_of(embedding)
    loaded = load(data, asked)
    protocol = protocol_for(
        len(loaded.data.train), examples=options["examples"], steps=options["steps"], score_at=options["score_at"]
    )
    if options["out"]:
        require_table(options["out"])
    output.note(about_source(source, embedding))
    output.note(_about(protocol, loaded.data, options["seeds"]))
    if embedding.facts.get("data", {}).get("sha256") == loaded.data.sha256:
        output.note(f"{embedding.task} was tuned on this very data: what it adds here says nothing about other data")
    bench = _Bench(base.folder, loaded.data, method, options["device"], options["as_json"])
    comparisons: list[Comparison] = []
    for seed in range(options["seeds"]):
        pairs, rows = bench.compare(
            protocol, until_converged(protocol) if options["converged"] else None, seed, embedding
        )
        comparisons += pairs
        if options["out"]:
            append_rows(options["out"], rows)
    if options["as_json"]:
        output.document(_as_document(embedding, loaded, protocol, comparisons, options["out"]))
        return
    _print(embedding.task, loaded.data, comparisons, gains(comparisons))


@dataclass(frozen=True)
class _Bench:
    """What all runs of the command share."""

    base: Path
    target: TaskData
    method: Method
    device: str
    quiet: bool

    def compare(
        self, protocol: Protocol, longer: Protocol | None, seed: int, source: TaskEmbedding
    ) -> tuple[list[Comparison], list[TransferRow]]:
        """The runs of a seed side by side, and their rows of truth."""
        from tupate_hub.evaluation.transfer_rows import SCRATCH
        from tupate_hub.training.transfer import compared, transfer_row

        started = self._run(protocol, seed, source)
        scratch = self._run(protocol, seed, None)
        converged = self._run(longer, seed, None) if longer else []
        named = [(score, source.task, protocol, without.value) for score, without in zip(started, scratch, strict=True)]
        named += [(score, SCRATCH, protocol, score.value) for score in scratch]
        named += [(score, SCRATCH, longer, score.value) for score in converged if longer]
        rows = [
            transfer_row(score, name, self.target, plan, seed, self.method.name, self.device, without)
            for score, name, plan, without in named
        ]
        return compared(seed, started, scratch, converged), rows

    def _run(self, protocol: Protocol, seed: int, source: TaskEmbedding | None) -> list[Score]:
        from tupate_hub.training.transfer import measure

        label = f"seed {seed}, from {source.task if source else 'scratch'}"
        meter = output.Meter(label, self.quiet)
        scores = []
        for score in measure(
            self.base, self.target, self.method, protocol, seed, source, device=self.device, progress=meter.over
        ):
            scores.append(score)
            meter.say(f"{label}: {score.value:.4f} after {score.steps} steps, {score.seconds:.0f} s")
        return scores


def _about(protocol: Protocol, target: TaskData, seeds: int) -> str:
    examples, most = protocol.sizes(len(target.train))
    scored = min(most, len(target.validation))
    return (
        f"{seeds} x 2 runs of {protocol.steps} steps on {examples} examples, scored on {scored}, "
        f"after {' and '.join(map(str, protocol.score_at))} steps"
    )


def _as_document(
    source: TaskEmbedding, loaded: Loaded, protocol: Protocol, comparisons: Sequence[Comparison], out: Path | None
) -> dict[str, Any]:
    from tupate_hub.training.transfer import gains

    examples, most = protocol.sizes(len(loaded.data.train))
    return {
        "source": source.task,
        "target": loaded.data.name,
        "space": source.space.name,
        "metric": loaded.data.metric,
        "blend": source.facts.get("blend"),
        "columns": dict(loaded.columns),
        "warnings": list(loaded.warnings),
        "examples": examples,
        "scored_on": min(most, len(loaded.data.validation)),
        "runs": [asdict(comparison) | {"difference": comparison.difference} for comparison in comparisons],
        "gains": [asdict(gain) for gain in gains(comparisons)],
        "out": None if out is None else str(out),
    }


def _print(source: str, target: TaskData, comparisons: Sequence[Comparison], total: Sequence[Gain]) -> None:
    rows: list[list[output.Cell]] = [
        [
            comparison.seed,
            comparison.steps,
            comparison.score,
            comparison.scratch_steps,
            comparison.scratch_score,
            f"{comparison.difference:+.3f}",
            None,
        ]
        for comparison in comparisons
    ]
    for gain in total:
        scores: list[output.Cell] = [
            gain.steps,
            gain.score,
            gain.scratch_steps,
            gain.scratch_score,
            f"{gain.difference:+.3f}",
        ]
        rows.append(["mean", *scores, gain.standard_error])
    columns = ["seed", "steps", f"from {source}", "scratch steps", "from scratch", "difference", "standard error"]
    output.table(columns, rows, right=columns)
    for gain in total:
        output.note(_sentence(source, target, gain))


def _sentence(source: str, target: TaskData, gain: Gain) -> str:
    points = 100 * gain.difference
    against = "scratch" if gain.steps == gain.scratch_steps else f"{gain.scratch_steps} steps from scratch"
    error = (
        "with one seed there is no standard error"
        if gain.standard_error is None
        else f"standard error {100 * gain.standard_error:.1f}, {gain.seeds} seeds"
    )
    verb = "adds" if points >= 0 else "costs"
    return (
        f"{target.name} after {gain.steps} steps: {source} {verb} {abs(points):.1f} points of {target.metric} "
        f"over {against} ({error})"
    )
