"""Verbs that measure: stats, evaluate."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from tupate_hub.cli import output
from tupate_hub.errors import TupateHubError

#: As in `zoo`, which is imported later.
ENVIRONMENT = "TUPATE_HUB_REGISTRY"

_PATH = click.Path(path_type=Path)


@click.command("stats")
@click.argument("base", type=_PATH)
@click.option("--space", help="The space whose base model it is.")
@click.option("--text", type=_PATH, metavar="FILE", help="A passage a line. [default: the project's probe text]")
@output.registry_option
def stats_command(base: Path, space: str | None, text: Path | None, registry: str | None) -> None:
    """Measure a base model's inputs, for --similarity effect.

    BASE is the folder of the space's base model. Needs the `train` extra (torch, transformers); what is measured is
    kept with the space, and `similar --similarity effect` needs neither.

    \b
      tupate-hub stats ./all-MiniLM-L6-v2 --registry ./my-zoo
    """
    from tupate_hub.intake import keep_moments
    from tupate_hub.zoo import Zoo

    if registry is None and ENVIRONMENT not in os.environ:
        raise TupateHubError("The bundled zoo takes no additions.", hint=f"tupate-hub stats {base} --registry DIR")
    zoo = Zoo.open(registry)
    entry = zoo.registry.space(space)
    if not base.is_dir():
        raise TupateHubError(f"{base} is no folder of a base model.", hint="give the folder with its model.safetensors")
    try:
        from tupate_hub.training.measure import measure_moments
    except ImportError as error:
        raise TupateHubError(f"This needs {error.name}.", hint="pip install 'tupate-hub[train]'") from error
    passages = None if text is None else text.read_text(encoding="utf-8").splitlines()
    blocks = {block.name: None for one in zoo.registry.in_space(entry.name) for block in zoo.load(one).blocks}

    def watched(batches: Sequence[list[str]]) -> Iterator[list[str]]:
        with output.progress(batches, "stats", len(batches)) as bar:
            yield from bar

    moments = measure_moments(base, entry.base, list(blocks), passages, progress=watched)
    place = keep_moments(zoo, entry.name, moments).registry.space(entry.name).moments
    output.note(
        f"{moments.tokens} tokens, {len(moments.inputs)} inputs, {place['bytes'] / 1e6:.1f} MB in {place['file']}"
    )
