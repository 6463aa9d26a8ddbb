"""Verbs that make a registry fit to publish: init, merge, card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tupate_hub.cli import output
from tupate_hub.errors import TargetExists, TupateHubError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = click.Path(path_type=Path)


@click.command("init")
@click.argument("folder", type=_FOLDER)
@output.json_option
def init_command(folder: Path, as_json: bool) -> None:
    """Make an empty registry.

    \b
      tupate-hub init ./my-zoo
      tupate-hub add ./my-lora --task reviews --registry ./my-zoo
    """
    from tupate_hub.atomicfile import told_in_one_sentence, write_bytes
    from tupate_hub.registry import FILENAME, Registry

    path = folder / FILENAME
    with told_in_one_sentence(path):
        if path.exists() or path.is_symlink():
            raise TargetExists(f"{folder} holds a registry already.", hint=f"tupate-hub list --registry {folder}")
    write_bytes(path, Registry().to_json().encode())
    if as_json:
        output.document({"folder": str(folder)})
        return
    output.note(f"an empty registry in {folder}")
    output.note(f"  tupate-hub add PATH --registry {folder}")


@click.command("merge")
@click.argument("ours", metavar="A")
@click.argument("theirs", metavar="B")
@click.option("--to", "target", type=_FOLDER, metavar="DIR", required=True, help="The folder to make.")
@click.option("--ours", "take_ours", is_flag=True, help="Where both have a task with different content, take A's.")
@click.option("--theirs", "take_theirs", is_flag=True, help="Where both have a task with different content, take B's.")
@output.json_option
def merge_command(ours: str, theirs: str, target: Path, take_ours: bool, take_theirs: bool, as_json: bool) -> None:
    """Make one registry of two.

    A and B are registries, which stay as they are. A task that both have in one space with different content is
    refused, unless --ours or --theirs decides.

    \b
      tupate-hub merge ./my-zoo ./your-zoo --to ./our-zoo
    """
    from tupate_hub.merge import Side, merge_zoos
    from tupate_hub.zoo import Zoo

    if take_ours and take_theirs:
        raise TupateHubError("--ours and --theirs exclude each other.", hint="leave one of them out")
    prefer: Side | None = "ours" if take_ours else "theirs" if take_theirs else None

    def watched(names: list[str]) -> Iterator[str]:
        with output.progress(names, "merge", len(names)) as bar:
            yield from bar

    merged = merge_zoos(Zoo.open(ours), Zoo.open(theirs), target, prefer, watched)
    counts = merged.counts
    if as_json:
        total = len(merged.registry.entries)
        output.document(
            {"folder": str(target), "embeddings": total, **counts, "resolved": list(merged.conflicts)}
        )  # fmt: skip
        return
    for conflict in merged.conflicts:
        output.note(f"{conflict}: taken from {ours if prefer == 'ours' else theirs}")
    output.note(
        f"{len(merged.registry.entries)} embeddings in {target}: {counts['ours']} from {ours}, {counts['theirs']} from "
        f"{theirs}, {counts['both']} in both"
    )


@click.command("card")
@click.option("--title", help="The card's title.")
@click.option("--location", metavar="OWNER/NAME", help="How the card's commands call the registry. [default: DIR]")
@click.option("--language", "languages", multiple=True, metavar="CODE", help="A language, such as en; repeatable.")
@output.registry_option
@output.json_option
def card_command(
    title: str | None, location: str | None, languages: tuple[str, ...], registry: str | None, as_json: bool
) -> None:
    """Write a registry's dataset card, pictures and browsable table.

    They go into the registry's folder: zoo/README.md, a heatmap and a map of each space, zoo/embeddings.jsonl.

    \b
      tupate-hub card --registry ./my-zoo --location me/my-zoo
    """
    from tupate_hub.atomicfile import told_in_one_sentence, write_bytes
    from tupate_hub.report.card import BUNDLED, CARD, card_of
    from tupate_hub.report.frontmatter import About
    from tupate_hub.zoo import Zoo, bundled_root

    zoo = Zoo.open(registry)
    if zoo.remote is not None:
        raise TupateHubError(
            "The card is written into a folder, and this registry is on the Hub.", hint="tupate-hub card --registry DIR"
        )
    about = BUNDLED if zoo.root.resolve() == bundled_root().resolve() else About()
    about = About(title or about.title, location or about.location, languages or about.languages)
    changed = []
    folder, files = zoo.folder, card_of(zoo, about)
    for name, data in files.items():
        path = folder / name
        with told_in_one_sentence(path):
            same = path.is_file() and path.read_bytes() == data
        if not same:
            write_bytes(path, data)
            changed.append(name)
    if as_json:
        output.document({"folder": str(zoo.root), "files": list(files), "changed": changed})
        return
    output.note(f"{len(files)} files, {len(changed)} of them changed")
    output.text(str(zoo.root / CARD))
