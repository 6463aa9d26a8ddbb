"""The verb subspace tune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tupate_hub.cli import output
from tupate_hub.cli.tune import data_asked, data_options, load, require_training

if TYPE_CHECKING:
    from tupate_hub.training.subspace.intrinsic import IntrinsicRun
    from tupate_hub.zoo import Zoo


@click.command("tune")
@click.argument("data")
@data_options
@click.option("--subspace", "written", metavar="FILE|DIM",
              help="A subspace's file, or one of the registry. [default: its largest]")  # fmt: skip
@click.option("--space", help="The space of the subspace; see `tupate-hub spaces`.")
@click.option("--steps", type=click.IntRange(1), default=80, show_default=True, help="Optimizer steps.")
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Examples a step.")
@click.option("--lr", "learning_rate", type=click.FloatRange(0, min_open=True), default=0.1, show_default=True,
              help="Learning rate of five coordinates; more move more slowly.")  # fmt: skip
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the examples' order and the first coordinates."
)
@click.option("--head", type=click.Choice(["labels", "linear"]), default="labels", show_default=True,
              help="Classes scored by their encoded names, or a head that is trained as well.")  # fmt: skip
@click.option("--then-full", is_flag=True, help="Then tune all parameters, from there.")
@click.option("--to", default="tupate-zoo", show_default=True, metavar="DIR",
              help="The registry's folder to add to; it is made if need be.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace a task that the folder's registry has already.")
@output.registry_option
@output.json_option
def tune_command(
    data: str, written: str | None, space: str | None, to: str, force: bool, registry: str | None, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Tune a task of your own by the coordinates of a subspace alone (IST).

    DATA is what `tupate-hub train` takes, with classes or choices: they are scored by their encoded names, so that no
    head is trained and the coordinates are all there is, unless --head linear adds one. The embedding that they decode
    to goes to --to.

    \b
      tupate-hub subspace tune reviews.csv
      tupate-hub subspace tune ./data --task trec --subspace 5 --then-full
    """
    require_training()
    import json
    from dataclasses import replace
    from pathlib import Path

    from tupate_hub.collect.add import add_embeddings, open_or_start
    from tupate_hub.search.subspaces import find_subspace
    from tupate_hub.storage.atomic import write_bytes
    from tupate_hub.storage.safetensors import TensorFile
    from tupate_hub.training.basemodel import find_base
    from tupate_hub.training.delivery import name_in, refuse_taken, run_folder
    from tupate_hub.training.subspace.find import require_same_base
    from tupate_hub.training.subspace.intrinsic import TuneOptions, require_classes, tune_in_subspace

    zoo = output.opened(registry)
    subspace, _ = find_subspace(zoo, written, space)
    base = find_base(options["base"] or subspace.space.base, zoo.registry.spaces.values())
    require_same_base(base, subspace)
    target = open_or_start(to)
    loaded = load(data, data_asked(options))
    task = replace(loaded.data, name=name_in(target, loaded.data.name))
    require_classes(task, options["head"])
    if not force:
        refuse_taken(target, subspace.space, task.name)
    names = ("steps", "batch_size", "learning_rate", "seed", "device", "then_full", "head")
    meter = output.Meter(task.name, as_json)
    run = tune_in_subspace(
        subspace, base, task, TuneOptions(**{name: options[name] for name in names}), progress=meter.over, say=meter.say
    )
    target, became = add_embeddings(target, [(Path(data), run.embedding)], force=force)
    became.require_all()  # another process may have been faster
    if run.head is not None:
        place = run_folder(target, subspace.space, task.name) / "head.safetensors"
        write_bytes(place, TensorFile(run.head, {"labels": json.dumps(task.label_names)}).to_bytes())
    _show(run, target, subspace.name, as_json)


def _show(run: IntrinsicRun, target: Zoo, subspace: str, as_json: bool) -> None:
    embedding = run.embedding
    entry = target.registry.entry(embedding.task, _space_name(target, run))
    file = target.folder / entry.file
    if as_json:
        output.document(
            {
                "task": embedding.task,
                "space": entry.space,
                "subspace": subspace,
                "numbers": len(run.coordinates),
                "head_numbers": run.head_numbers,
                "coordinates": list(run.coordinates),
                "zero_shot": run.zero_shot,
                "in_subspace": run.in_subspace,
                "in_full": run.in_full,
                "scores": embedding.facts["scores"],
                "held_out": run.held_out,
                "seconds": run.seconds,
                "embedding": str(file),
            }
        )
        return
    scores = embedding.facts["scores"]
    output.lines(
        [
            ("task", embedding.task),
            ("numbers", f"{len(run.coordinates)}, and {run.head_numbers or 'none'} of a head"),
            ("zero-shot", f"{run.zero_shot:.4f} {scores['metric']}"),
            ("in the subspace", f"{run.in_subspace:.4f}"),
            *([("then in full", f"{run.in_full:.4f}")] if run.in_full is not None else []),
            ("baseline", f"{scores['baseline']:.4f} ({scores['baseline_rule']})"),
            ("seconds", run.seconds),
            ("embedding", str(file)),
        ]
    )
    output.note(f"  tupate-hub similar {file} --similarity intrinsic")


def _space_name(target: Zoo, run: IntrinsicRun) -> str:
    return next(entry.name for entry in target.registry.spaces.values() if entry.space == run.embedding.space)
