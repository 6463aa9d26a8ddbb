"""The verb subspace with its own verbs: fit, list, pull, encode, decode, tune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tupate_hub.cli import output
from tupate_hub.cli.subspace_fit import fit_command
from tupate_hub.cli.subspace_tune import tune_command
from tupate_hub.errors import FormatError, TargetExists

if TYPE_CHECKING:
    from tupate_hub.embedding import TaskEmbedding
    from tupate_hub.zoo import Zoo

_PATH = click.Path(path_type=Path)
subspace_option = click.option(
    "--subspace",
    "written",
    metavar="FILE|DIM",
    help="A subspace's file, or one of the registry. [default: its largest]",
)
_SPACE = click.option("--space", help="The space of the subspace; see `tupate-hub spaces`.")


@click.group("subspace", context_settings={"help_option_names": ["-h", "--help"]})
def subspace_command() -> None:
    """Find and use the few numbers that describe a task (IPT).

    The tuned parameters of many tasks lie near a subspace of few dimensions. docs/subspace.md says what was measured.

    \b
      tupate-hub subspace encode sst2 --space prompt
      tupate-hub subspace tune reviews.csv
      tupate-hub subspace fit --space lora --dim 5 --loss reconstruction --to ./my-zoo
    """


subspace_command.add_command(fit_command)
subspace_command.add_command(tune_command)


@subspace_command.command("list")
@output.registry_option
@output.json_option
def list_command(registry: str | None, as_json: bool) -> None:
    """List the subspaces that a registry holds."""
    rows: list[dict[str, Any]] = [
        {
            "space": space.name,
            "subspace": name,
            **{field: place[field] for field in ("dim", "tasks", "bytes", "sha256")},
        }
        for space in output.opened(registry).registry.spaces.values()
        for name, place in space.subspaces.items()
    ]
    if as_json:
        output.document(rows)
        return
    columns = ["space", "subspace", "dim", "tasks", "bytes"]
    output.table(columns, [[row[name] for name in columns] for row in rows], right=columns[2:])


@subspace_command.command("pull")
@click.argument("name", required=False)
@_SPACE
@click.option("--to", "target", type=_PATH, metavar="FILE", help="The file to write. [default: one in the cache]")
@click.option("--force", is_flag=True, help="Replace a file.")
@output.registry_option
@output.json_option
def pull_command(
    name: str | None, space: str | None, target: Path | None, force: bool, registry: str | None, as_json: bool
) -> None:
    """Fetch a subspace's file, checked, and print its path.

    NAME is a subspace's name or number of dimensions (tupate-hub subspace list); the largest one without it.
    """
    from tupate_hub.hub.cache import cache_root
    from tupate_hub.search.subspaces import space_with_subspace
    from tupate_hub.storage.atomic import write_bytes

    zoo = output.opened(registry)
    where = space_with_subspace(zoo, space)
    subspace = zoo.subspace(where, name)
    place = zoo.registry.space(where).subspace(name)
    path = target or cache_root() / where / f"{subspace.name}.safetensors"
    if target is not None and target.exists() and not force:
        raise TargetExists(f"{target} exists already.", hint="replace it with `force=True`, or give another `target`")
    write_bytes(path, zoo.read_file(place["file"], place["bytes"], place["sha256"]))
    if as_json:
        output.document({"space": where, "subspace": subspace.name, "dim": subspace.dim, "file": str(path)})
        return
    output.text(str(path))


@subspace_command.command("encode")
@click.argument("query")
@subspace_option
@_SPACE
@click.option("--base", metavar="MODEL", help="The base model of an adapter that names none of the Hub.")
@output.registry_option
@output.json_option
def encode_command(
    query: str, written: str | None, space: str | None, base: str | None, registry: str | None, as_json: bool
) -> None:
    """Give the coordinates of a task or an adapter in a subspace; no model is needed.

    QUERY is a task's name or alias (tupate-hub list), or the path of an adapter or embedding.

    \b
      tupate-hub subspace encode sst2 --space prompt
      tupate-hub subspace encode ./my-prompt --json
    """
    import numpy as np

    from tupate_hub.search.subspaces import find_subspace

    zoo = output.opened(registry)
    subspace, where = find_subspace(zoo, written, space)
    embedding = embedding_asked(zoo, query, where, base)
    flat = subspace.flat(embedding)
    codes = subspace.maps.encode(flat[None])
    mean = subspace.maps.decoder[-1].bias
    lost = float(np.linalg.norm(subspace.maps.decode(codes)[0] - flat) / max(np.linalg.norm(flat - mean), 1e-12))
    coordinates = [round(float(value), 6) for value in codes[0]]
    if as_json:
        output.document(
            {
                "task": embedding.task,
                "space": str(subspace.space),
                "subspace": subspace.name,
                "coordinates": coordinates,
                "lost": round(lost, 4),
            }
        )
        return
    output.lines([(str(number), value) for number, value in enumerate(coordinates)])
    output.note(
        f"{embedding.task}: decoding gives its parameters back but for {lost:.0%} of their distance to the mean"
    )


@subspace_command.command("decode", context_settings={"ignore_unknown_options": True})  # -0.5,1 is no option
@click.argument("codes")
@subspace_option
@_SPACE
@click.option("--task", default="decoded", show_default=True, help="The name of the task.")
@click.option("--as", "form", default="embedding", show_default=True, help="embedding, peft, or adapters.")
@click.option("--to", "target", type=_PATH, required=True, metavar="DIR", help="The folder to make.")
@click.option("--force", is_flag=True, help="Replace the folder.")
@output.registry_option
@output.json_option
def decode_command(
    codes: str,
    written: str | None,
    space: str | None,
    task: str,
    form: str,
    target: Path,
    force: bool,
    registry: str | None,
    as_json: bool,
) -> None:
    """Make an adapter of coordinates in a subspace.

    CODES is what `encode --json` prints, in a file, or the coordinates themselves with commas between them.

    \b
      tupate-hub subspace encode sst2 --space prompt --json > sst2.json
      tupate-hub subspace decode sst2.json --as adapters --to ./sst2-again
    """
    from tupate_hub.collect.read_adapter import plain_name
    from tupate_hub.export import export
    from tupate_hub.search.subspaces import find_subspace
    from tupate_hub.storage.atomic import write_folder

    zoo = output.opened(registry)
    subspace, _ = find_subspace(zoo, written, space)
    embedding = subspace.decode(coordinates_of(codes), plain_name(task))
    files = export(embedding, form)
    write_folder(target, files, force=force)
    if as_json:
        output.document({"task": embedding.task, "form": form, "folder": str(target), "files": [*files]})
        return
    output.text(str(target))


# --- what is asked ---------------------------------------------------------------------------------------------


def embedding_asked(zoo: Zoo, query: str, space: str | None, base: str | None) -> TaskEmbedding:
    """A task of the registry in the subspace's space, or an adapter on disk."""
    from tupate_hub.errors import UnknownName
    from tupate_hub.search.resolve import read_query

    try:
        name = zoo.registry.task(query).name
    except UnknownName:
        if "/" not in query and not Path(query).exists():
            raise
        return read_query(query, base)
    return zoo.embedding(name, space)


def coordinates_of(written: str) -> list[float]:
    """Coordinates as numbers with commas between them, or in a JSON file."""
    import json

    try:
        path = Path(written)
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else json.loads(f"[{written}]")
        numbers = found["coordinates"] if isinstance(found, dict) else found
        return [float(number) for number in numbers]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(
            f"{written[:80]!r} is neither coordinates nor a file of them.",
            hint="tupate-hub subspace encode TASK --json > codes.json",
        ) from error
