"""The verb that takes in many adapters of the Hub: import."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from tupate_hub.cli import output
from tupate_hub.errors import TupateHubError

if TYPE_CHECKING:
    from tupate_hub.collect.import_hub import ImportResult, Pending
    from tupate_hub.zoo import Zoo


@click.command("import")
@click.option("--base", required=True, metavar="MODEL", help="The base model whose adapters are wanted.")
@click.option("--author", metavar="NAME", help="Only those of a user or organisation of the Hub.")
@click.option("--library", type=click.Choice(["adapters", "peft"]), help="Only those of a library. [default: both]")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the N most downloaded ones.")
@click.option("--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="How many are fetched at once.")
@output.own_registry_option
@output.json_option
@click.pass_context
def import_command(
    context: click.Context,
    base: str,
    author: str | None,
    library: str | None,
    limit: int | None,
    jobs: int,
    registry: str | None,
    as_json: bool,
) -> None:
    """Read what the Hub lists for a base model into a registry of your own.

    The registry's folder is made if it is not there. An adapter is named by its task, as its configuration, its card's
    tags or its name say, the most downloaded first; a further one for the same task is called OWNER--NAME. What cannot
    be read is counted with the reason. After an interruption, run it again: what the registry has is not fetched
    again.

    \b
      tupate-hub import --author AdapterHub --base bert-base-uncased --registry ./my-zoo
      tupate-hub import --library peft --base roberta-base --limit 50 --registry ./my-zoo
    """
    from tupate_hub.collect.add import open_or_start
    from tupate_hub.collect.import_hub import import_adapters
    from tupate_hub.space import require_base
    from tupate_hub.zoo import ENVIRONMENT

    again = f"tupate-hub import --base {base}"
    if author is None and library is None:
        raise TupateHubError("Say whose adapters, or of which library.", hint=f"{again} --library peft --registry DIR")
    place = registry or os.environ.get(ENVIRONMENT)
    if not place:
        raise TupateHubError(
            "The bundled zoo takes no additions.", hint=f"{again} ... --registry DIR (it is made if need be)"
        )

    def watched(downloads: Iterator[Pending], count: int) -> Iterator[Pending]:
        with output.progress(downloads, "import", count) as bar:
            yield from bar

    def tell(seconds: float) -> None:
        output.note(f"The Hub asks for fewer requests: waiting {seconds:.0f} s")

    zoo, model = open_or_start(place), require_base(base, "--base")
    result = import_adapters(
        zoo, model, author=author, library=library, limit=limit, jobs=jobs, each=watched, tell=tell
    )
    _summary(result, as_json)
    if result.stopped is not None:
        raise result.stopped
    _pack(result.zoo, model)
    context.exit(0 if (result.added or result.kept) and not result.failed else 1)


def _pack(zoo: Zoo, base: str) -> None:
    from tupate_hub.collect.add import keep_pair_index
    from tupate_hub.collect.import_hub import unpacked

    for space in unpacked(zoo, base):
        output.note(f"packing the index of {space}")
        zoo = keep_pair_index(zoo, space)


def _summary(result: ImportResult, as_json: bool) -> None:
    if as_json:
        from tupate_hub.cli.hints import for_verb

        added = [
            {"task": entry.task, "space": entry.space, "repository": entry.source["repo"]} for entry in result.added
        ]
        refused, failed = (
            [
                {"repository": one.repository, "reason": one.reason, "hint": for_verb(one.hint, "import")}
                for one in repositories
            ]
            for repositories in (result.rejected, result.failed)
        )
        counts = {"listed": result.listed, "added": added, "kept": result.kept}
        stopped = result.stopped.message if result.stopped else None
        output.document({**counts, "refused": refused, "failed": failed, "stopped": stopped})
        return
    kinds = Counter(rejection.kind for rejection in result.rejected)
    first = {rejection.kind: rejection.repository for rejection in reversed(result.rejected)}
    rows: list[list[output.Cell]] = [[count, kind, first[kind]] for kind, count in kinds.most_common()]
    output.table(["refused", "reason", "for example"], rows, right=["refused"])
    done = (
        f"{len(result.added)} added to {result.zoo.root}, {result.kept} there already, {len(result.rejected)} refused"
    )
    output.note(f"{result.listed} listed: {done}")
    if result.failed:
        first_failure = result.failed[0]
        output.note(
            f"{len(result.failed)} could not be fetched, {first_failure.repository} first, and are worth another try: "
            f"{first_failure.reason}"
        )
    for space, count in sorted(Counter(entry.space for entry in result.added).items()):
        listed = output.command("list", "--space", space, "--registry", result.zoo.root)
        output.note(f"  {count} in {space}: {listed}")
