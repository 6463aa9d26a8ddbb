"""Verbs that move and check bytes: pull, verify."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tupate_hub.cli import output
from tupate_hub.errors import FormatError, TargetExists, UnknownName

if TYPE_CHECKING:
    from tupate_hub.embedding import TaskEmbedding
    from tupate_hub.head import Head
    from tupate_hub.registry import Entry
    from tupate_hub.zoo import Zoo


@click.command("pull")
@click.argument("task")
@click.option("--space", help="The space of the embedding.")
@click.option("--to", "target", type=click.Path(path_type=Path), metavar="DIR", help="The folder to make.")
@click.option(
    "--as", "form", default="embedding", show_default=True, help="embedding, peft, or adapters: what the folder is for."
)
@click.option("--bare", is_flag=True, help="With --as peft: for a model without a task head (AutoModel).")
@click.option("--force", is_flag=True, help="Replace a folder that holds the same files.")
@output.registry_option
@output.json_option
def pull_command(
    task: str,
    space: str | None,
    target: Path | None,
    form: str,
    bare: bool,
    force: bool,
    registry: str | None,
    as_json: bool,
) -> None:
    """Fetch a task's embedding, or weights ready to load.

    Makes a folder, in the cache unless --to says where, and prints its path. The file's sha256 is checked first.

    \b
      tupate-hub pull sst2
      tupate-hub pull sst2 --as peft --to ./sst2-lora
    """
    from tupate_hub.export import export
    from tupate_hub.export.readme import at_home
    from tupate_hub.hub.cache import cache_root
    from tupate_hub.storage.atomic import write_folder

    embedding, where, head = _asked(output.opened(registry), task, space)
    try:
        files = export(embedding, form, bare=bare, head=head)
    except FormatError as error:
        if head is None or bare:
            raise
        files = export(embedding, form)  # what is wrong with more than the head is raised again
        output.note(f"without the head: {error.message}")
    place = target or cache_root() / where / embedding.task / (f"{form}-bare" if bare else form)
    if force:
        require_only(place, files)
    write_folder(place, at_home(files, str(place.resolve())), force=force or target is None)
    if as_json:
        output.document({"task": embedding.task, "space": where, "form": form, "folder": str(place), "files": [*files]})
        return
    output.note(f"{embedding.task} from {where}, {sum(map(len, files.values()))} bytes, sha256 checked")
    if "README.md" in files:
        output.note("README.md has the lines of Python that load it")
    output.text(str(place))


@click.command("verify")
@output.registry_option
@output.json_option
@click.pass_context
def verify_command(context: click.Context, registry: str | None, as_json: bool) -> None:
    """Check every file of a registry against its hash and its entry.

    \b
      tupate-hub verify --registry ./my-registry
    """
    zoo = output.opened(registry)
    total = len(zoo.registry.entries)

    def watched(entries: Iterator[Entry]) -> Iterator[Entry]:
        with output.progress(entries, "verify", total) as bar:
            yield from bar

    problems = zoo.verify(watched)
    if as_json:
        output.document({"embeddings": total, "problems": problems})
    else:
        for problem in problems:
            output.text(output.printable(problem))
        output.note(f"{total} embeddings checked, {len(problems)} problems")
    context.exit(2 if problems else 0)


def _asked(zoo: Zoo, task: str, space: str | None) -> tuple[TaskEmbedding, str, Head | None]:
    """A task of the zoo, or an adapter of a model repository of the Hub; the name of its space, and its head."""
    from tupate_hub.collect.read_adapter import read_from

    try:
        zoo.registry.task(task)
    except UnknownName:
        if "/" not in task:
            raise
        embedding = read_from(task)
        return embedding, embedding.space.name, None
    entry = zoo.registry.find(task, space)
    return zoo.load(entry), entry.space, zoo.head(entry)


def require_only(folder: Path, files: Iterable[str]) -> None:
    """Refuse to replace a folder that holds anything but files of these names: --force must not delete others."""
    try:
        others = sorted({entry.name for entry in os.scandir(folder)} - set(files))
    except OSError:  # missing, no folder, not readable: writing it says so
        return
    if others:
        raise TargetExists(
            f"{folder} holds {others[0]}, which --force would delete.", hint="give a new folder: --to DIR"
        )
