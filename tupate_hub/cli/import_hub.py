"""The verb that takes in many adapters of the Hub: import."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from tupate_hub.cli import output
from tupate_hub.errors import TupateHubError

if TYPE_CHECKING:
    from tupate_hub.collect.fetching import Pending
    from tupate_hub.collect.import_hub import ImportResult
    from tupate_hub.collect.streaming import Wish
    from tupate_hub.zoo import Zoo

#: What --keep is called here and in a registry.
_KEEP = {"embedding": "embedding", "sketch": "sketch", "nothing-but-facts": "facts"}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?(|k|M|G|T)B?", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def _bytes(context: click.Context, parameter: click.Parameter, written: str | None) -> int | None:
    """A number of bytes as a user writes it."""
    if written is None:
        return None
    match = _SIZE.fullmatch(written.strip())
    if match is None or float(match[1]) == 0:
        raise click.BadParameter(f"{written!r} is no number of bytes: 500MB, 20GB, 1000000.")
    return round(float(match[1]) * _UNITS[match[2].upper()])


@click.command("import")
@click.option("--base", required=True, metavar="MODEL", help="The base model whose adapters are wanted.")
@click.option("--author", metavar="NAME", help="Only those of a user or organisation of the Hub.")
@click.option("--library", type=click.Choice(["adapters", "peft"]), help="Only those of a library. [default: both]")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the N most downloaded ones.")
@click.option(
    "--keep",
    type=click.Choice(list(_KEEP)),
    default="embedding",
    show_default=True,
    help="What is kept of each. Weights that are not kept lie on no disk.",
)
@click.option("--blocks", metavar="PART[/N]", help="Fetch only tensors with this in their names, of every Nth layer.")
@click.option("--most-bytes", metavar="SIZE", callback=_bytes, help="Begin no other one after so many bytes: 20GB.")
@click.option("--most-repositories", type=click.IntRange(min=1), metavar="N", help="Take in at most N in this run.")
@click.option("--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="How many are fetched at once.")
@click.option("--ray", metavar="ADDRESS", help="Fetch on the workers of a Ray cluster; local: on --jobs of them here.")
@output.own_registry_option
@output.json_option
@click.pass_context
def import_command(
    context: click.Context,
    base: str,
    author: str | None,
    library: str | None,
    limit: int | None,
    keep: str,
    blocks: str | None,
    most_bytes: int | None,
    most_repositories: int | None,
    jobs: int,
    ray: str | None,
    registry: str | None,
    as_json: bool,
) -> None:
    """Read what the Hub lists for a base model into a registry of your own.

    The registry's folder is made if it is not there. An adapter is named by its task, as its configuration, its card's
    tags or its name say, the most downloaded first; a further one for the same task is called OWNER--NAME. What cannot
    be read is counted with the reason. After an interruption, run it again: what the registry has is not fetched
    again. With --keep sketch, the registry has 2 KB of each, by which it is compared.

    \b
      tupate-hub import --author AdapterHub --base bert-base-uncased --registry ./my-zoo
      tupate-hub import --library peft --base roberta-base --limit 50 --registry ./my-zoo
      tupate-hub import --library peft --base google/gemma-2-9b --keep sketch --blocks v_proj/4 --registry ./my-zoo
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is there: the threads here are enough
    from tupate_hub.collect.add import open_or_start
    from tupate_hub.collect.fetching import Budget
    from tupate_hub.collect.import_hub import import_adapters

    zoo = open_or_start(_place(base, author, library, registry))
    wish, budget = _wish(base, keep, blocks, ray), Budget(most_bytes, most_repositories)
    result = import_adapters(
        zoo,
        wish,
        author=author,
        library=library,
        limit=limit,
        jobs=jobs,
        budget=budget,
        each=_watched,
        tell=lambda seconds: output.note(f"The Hub asks for fewer requests: waiting {seconds:.0f} s"),
    )
    _summary(result, as_json, _command(context))
    if result.stopped is not None:
        raise result.stopped
    _pack(result.zoo, wish.base)
    context.exit(0 if (result.added or result.kept) and not result.failed else 1)


def _place(base: str, author: str | None, library: str | None, registry: str | None) -> str:
    """The registry that is written to."""
    from tupate_hub.zoo import ENVIRONMENT

    again = f"tupate-hub import --base {base}"
    if author is None and library is None:
        raise TupateHubError("Say whose adapters, or of which library.", hint=f"{again} --library peft --registry DIR")
    place = registry or os.environ.get(ENVIRONMENT)
    if not place:
        raise TupateHubError(
            "The bundled zoo takes no additions.", hint=f"{again} ... --registry DIR (it is made if need be)"
        )
    return place


def _wish(base: str, keep: str, blocks: str | None, ray: str | None) -> Wish:
    from tupate_hub.collect.block_pattern import BlockPattern
    from tupate_hub.collect.streaming import Wish
    from tupate_hub.space import require_base

    pattern = BlockPattern.parse(blocks) if blocks is not None else None
    return Wish(require_base(base, "--base"), _KEEP[keep], pattern, ray)


def _watched(downloads: Iterator[Pending], count: int) -> Iterator[Pending]:
    with output.progress(downloads, "import", count) as bar:
        yield from bar


def _command(context: click.Context) -> str:
    """The command that goes on: the same again."""
    given = []
    for option in context.command.params:
        value = context.params.get(option.name or "")
        if value is True or (value not in (None, False) and value != option.get_default(context)):
            given += [option.opts[0]] if value is True else [option.opts[0], str(value)]
    return output.command("import", *given)


def _pack(zoo: Zoo, base: str) -> None:
    from tupate_hub.collect.add import keep_pair_index
    from tupate_hub.collect.import_hub import unpacked

    for space in unpacked(zoo, base):
        output.note(f"packing the index of {space}")
        zoo = keep_pair_index(zoo, space)


def _summary(result: ImportResult, as_json: bool, again: str) -> None:
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
        rest = {"fetched": result.fetched, "left": result.left, "next": again if result.left else None}
        output.document({**counts, "refused": refused, "failed": failed, "stopped": stopped, **rest})
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
    if result.left:
        output.note(f"{result.left} are left: the budget is spent, {result.fetched / 1e6:,.1f} MB. To go on: {again}")
