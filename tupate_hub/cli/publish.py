"""Verbs that make a registry fit to publish, and publish it: init, merge, card, push."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tupate_hub.cli import output
from tupate_hub.errors import TargetExists, TupateHubError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tupate_hub.collect.origins import Side
    from tupate_hub.hub.location import Location
    from tupate_hub.publish.push import Change, Pushed
    from tupate_hub.zoo import Zoo

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
    from tupate_hub.registry import FILENAME, Registry
    from tupate_hub.storage.atomic import told_in_one_sentence, write_bytes

    path = folder / FILENAME
    with told_in_one_sentence(path):
        if path.exists() or path.is_symlink():
            there = output.command("list", "--registry", folder)
            raise TargetExists(f"{folder} holds a registry already.", hint=there)
    write_bytes(path, Registry().to_json().encode())
    if as_json:
        output.document({"folder": str(folder)})
        return
    output.note(f"an empty registry in {folder}")
    output.note(f"  {output.command('add', 'PATH', '--registry', folder)}")


@click.command("merge")
@click.argument("ours", metavar="A")
@click.argument("theirs", metavar="B")
@click.option("--to", "target", type=_FOLDER, metavar="DIR", required=True, help="The folder to make.")
@click.option("--ours", "take_ours", is_flag=True, help="Where both have a task with different content, take A's.")
@click.option("--theirs", "take_theirs", is_flag=True, help="Where both have a task with different content, take B's.")
@output.json_option
def merge_command(ours: str, theirs: str, target: Path, take_ours: bool, take_theirs: bool, as_json: bool) -> None:
    """Make one registry of two.

    A and B are registries, which stay as they are (adapters are merged by `tupate-hub merge-check`). A task that
    both have in one space with different content is refused, unless --ours or --theirs decides.

    \b
      tupate-hub merge ./my-zoo ./your-zoo --to ./our-zoo
    """
    from tupate_hub.collect.merge import merge_zoos
    from tupate_hub.zoo import Zoo

    prefer = _side(take_ours, take_theirs)
    merged = merge_zoos(Zoo.open(ours), Zoo.open(theirs), target, prefer, lambda names: _watched("merge", names))
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
    from tupate_hub.publish.card import BUNDLED, CARD, card_of
    from tupate_hub.publish.frontmatter import About
    from tupate_hub.storage.atomic import told_in_one_sentence, write_bytes
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


@click.command("push")
@click.argument("repository", metavar="OWNER/NAME")
@output.registry_option
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--revision", metavar="BRANCH", help="The branch, which is made from main if need be. [default: main]")
@click.option("--default-space", metavar="SPACE", help="Make this the registry's default space. [default: the Hub's]")
@click.option(
    "--space", "page", metavar="OWNER/NAME", help="Publish the registry's page too, as this Space of the Hub."
)
@click.option("--dry-run", is_flag=True, help="Say what would change, and send nothing.")
@click.option("--ours", "take_ours", is_flag=True, help="Where the Hub has a task with different content, take ours.")
@click.option("--theirs", "take_theirs", is_flag=True, help="Where it has one with different content, take the Hub's.")
@output.json_option
def push_command(
    repository: str,
    registry: str | None,
    private: bool,
    revision: str | None,
    default_space: str | None,
    page: str | None,
    dry_run: bool,
    take_ours: bool,
    take_theirs: bool,
    as_json: bool,
) -> None:
    """Publish a registry as a dataset repository of the Hub.

    The registry is checked, and sent with its dataset card and browsable table: what changed, in one commit, so that
    readers see the old registry or the new one.

    Embeddings that only the Hub has stay, and so does its default space: the two registries are merged, also when
    someone else pushes at the same moment. A task that both have in one space with different content is refused,
    unless --ours or --theirs decides.
    The registry that was pushed is not changed. With --space the page that `tupate-hub site` makes is published beside
    it, and the card links to that.

    \b
      hf auth login
      tupate-hub push me/my-zoo --registry ./my-zoo --dry-run
      tupate-hub push me/my-zoo --registry ./my-zoo
      tupate-hub push me/my-zoo --registry ./my-zoo --space me/my-zoo-page
    """
    from tupate_hub.publish.push import push

    target = _branch(repository, revision)
    shown = None if page is None else _space(page)
    prefer = _side(take_ours, take_theirs)
    zoo = output.opened(registry)
    pushed = push(
        zoo,
        target,
        private=private,
        prefer=prefer,
        default_space=default_space,
        explorer=None if shown is None else shown.id,
        dry_run=dry_run,
        watch=_watched,
    )
    site = None if shown is None else _push_page(zoo, target, pushed, shown, private, dry_run)
    if as_json:
        told = None if site is None else _pushed_document(site, dry_run)
        output.document({**_pushed_document(pushed, dry_run), "space": told})
        return
    if site is not None:
        output.note("the page:")
        _say_changes(site, dry_run)
        output.note("the registry:")
    _say_pushed(pushed, prefer, dry_run)


def _space(written: str) -> Location:
    from tupate_hub.hub.location import SPACE, parse_location

    location = parse_location(written, SPACE)
    if location is None:
        raise TupateHubError(f"{written!r} names no Space of the Hub.", hint="write it as OWNER/NAME")
    return location


def _push_page(zoo: Zoo, target: Location, pushed: Pushed, shown: Location, private: bool, dry_run: bool) -> Pushed:
    """The page of the registry as the push has left it; in a dry run that of the one to be pushed."""
    from tupate_hub.publish.push_site import as_on_the_hub, push_site
    from tupate_hub.publish.site import about_site

    whole = zoo if dry_run else as_on_the_hub(pushed.location, zoo)
    branch = target.id if target.revision in (None, "main") else f"{target.id}@{target.revision}"
    about = about_site(zoo, location=branch)
    return push_site(whole, shown, about, private=private, dry_run=dry_run, watch=_watched)


def _branch(repository: str, revision: str | None) -> Location:
    from tupate_hub.hub.location import DATASET, parse_location

    location = parse_location(repository, DATASET)
    if location is None:
        raise TupateHubError(f"{repository!r} names no repository of the Hub.", hint="tupate-hub push OWNER/NAME")
    if revision and location.revision not in (None, revision):
        raise TupateHubError(
            f"{repository} and --revision {revision} are two branches.",
            hint=f"tupate-hub push {location.id} --revision B",
        )
    return location.at(revision) if revision else location


def _side(ours: bool, theirs: bool) -> Side | None:
    if ours and theirs:
        raise TupateHubError("--ours and --theirs exclude each other.", hint="leave one of them out")
    return "ours" if ours else "theirs" if theirs else None


def _watched(label: str, items: list[Any]) -> Iterator[Any]:
    with output.progress(items, label, len(items)) as bar:
        yield from bar


def _pushed_document(pushed: Pushed, dry_run: bool) -> dict[str, Any]:
    def listed(changes: Sequence[Change]) -> list[dict[str, Any]]:
        return [{"file": change.file, "bytes": change.bytes} for change in changes]

    return {
        "repository": pushed.location.id,
        "commit": pushed.location.revision if pushed.location.pinned else None,
        "page": pushed.location.page,
        "dry_run": dry_run,
        "created": pushed.created,
        "added": listed(pushed.added),
        "changed": listed(pushed.changed),
        "removed": listed(pushed.removed),
        "merged": list(pushed.merged),
        "resolved": list(pushed.resolved),
    }


def _say_pushed(pushed: Pushed, prefer: Side | None, dry_run: bool) -> None:
    """Say what was, or would be, done: the changes of a dry run, or the commit, are data."""
    for name in pushed.resolved:
        output.note(f"{name}: taken from {'the Hub' if prefer == 'theirs' else 'this registry'}")
    if pushed.merged:
        output.note(f"only on the Hub, and kept: {output.some(pushed.merged, 3)}")
    _say_changes(pushed, dry_run)
    if not dry_run:
        output.text(str(pushed.location))
        return
    kinds = {"added": pushed.added, "changed": pushed.changed, "removed": pushed.removed}
    rows = [(kind, change.file, change.bytes) for kind, changes in kinds.items() for change in changes]
    output.table(("what", "file", "bytes"), rows, right=("bytes",))


def _say_changes(pushed: Pushed, dry_run: bool) -> None:
    """How much was, or would be, changed, and where that is seen."""
    if pushed.created:
        output.note(f"the {pushed.created} {'would be' if dry_run else 'was'} made")
    kinds = {"added": pushed.added, "changed": pushed.changed, "removed": pushed.removed}
    counts = ", ".join(f"{len(changes)} {kind}" for kind, changes in kinds.items())
    size = sum(change.bytes for change in (*pushed.added, *pushed.changed))
    output.note("nothing has changed" if pushed.unchanged else f"files: {counts}; {size:,} bytes in all")
    if not dry_run:
        output.note(pushed.location.page)
