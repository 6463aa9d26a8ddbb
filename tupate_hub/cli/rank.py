"""Verbs that rank: similar, explain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tupate_hub.cli import output
from tupate_hub.errors import TupateHubError

if TYPE_CHECKING:
    from tupate_hub.compare.ranking import Neighbor, Ranking
    from tupate_hub.zoo import Zoo

F = TypeVar("F", bound=Callable[..., Any])
#: So many tasks that do not compare with the query are named.
_MOST_LEFT_OUT = 3


def view_options(function: F) -> F:
    """How to compare, the same on every verb that does."""
    for option in (
        click.option("--base", metavar="MODEL", help="The base model of an adapter that names none of the Hub."),
        click.option("--blocks", metavar="PART", help="Only blocks with this in their names: value, layer.5, ..."),
        click.option("--balance", is_flag=True, help="Normalise every block on its own."),
        click.option(
            "--similarity",
            default="update",
            show_default=True,
            help="update, tupate (the paper's), tupate-flat, effect or intrinsic.",
        ),
        click.option("--space", help="The space to look in; see `tupate-hub spaces`."),
    ):
        function = option(function)
    return function


@click.command("similar")
@click.argument("query")
@click.option("-k", "--top", "k", type=click.IntRange(1), default=10, show_default=True, help="How many neighbours.")
@view_options
@click.option(
    "--rank-by",
    type=click.Choice(["similarity", "gain"]),
    default="similarity",
    show_default=True,
    help="gain: by what starting from a task is expected to bring.",
)
@click.option(
    "--among",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR",
    help="Rank the adapters below DIR, in place of a registry's; may be repeated.",
)
@click.option("--centre", is_flag=True, help="Centre the embeddings over the zoo first.")
@click.option("--fuse", metavar="WHAT", help="Rank by each of the layers, or similarities, and merge the rankings.")
@click.option("--explain", is_flag=True, help="Add an interval and the blocks that contribute most to each score.")
@click.option("--exact", is_flag=True, help="Compare with all of a large space, not with the nearest by sketches.")
@output.registry_option
@output.json_option
def similar_command(
    query: str,
    k: int,
    space: str | None,
    similarity: str,
    balance: bool,
    blocks: str | None,
    base: str | None,
    rank_by: str,
    among: tuple[Path, ...],
    centre: bool,
    fuse: str | None,
    explain: bool,
    exact: bool,
    registry: str | None,
    as_json: bool,
) -> None:
    """Rank tasks by similarity to a task or an adapter.

    QUERY is a task's name or alias (tupate-hub list), or the path of an adapter file or folder (PEFT and others).

    \b
      tupate-hub similar squad
      tupate-hub similar ./my-lora --explain
      tupate-hub similar glue/sst2 -k 5 --json
      tupate-hub similar ./my-lora --rank-by gain
      tupate-hub similar ./my-lora --among ./downloads
    """
    from tupate_hub.compare.view import View

    by_gain = rank_by == "gain"
    if among and (registry or by_gain):
        other = "--registry" if registry else "--rank-by gain"
        raise TupateHubError(f"{other} asks a registry; --among is in place of one.", hint="leave one of them out")
    with _asked(registry, among, base) as zoo:
        ranking = zoo.similar(
            query,
            None if by_gain else k,
            space=space,
            view=View(similarity, centre, balance, blocks),
            explain=explain,
            fuse=fuse,
            base=base,
            exact=exact,
        )
        if by_gain:
            _show_prospects(zoo, ranking, k, as_json)
            return
    if as_json:
        output.document(_document(ranking, explain))
        return
    ways = [similarity, *(f"fused over {fuse}",) * bool(fuse), *("centred",) * centre, *("balanced",) * balance]
    output.note(f"{ranking.query} in {ranking.space}: {', '.join(ways)}{f', blocks {blocks}' if blocks else ''}")
    _say_of_query(ranking)
    _print_ranking(ranking, explain)
    _say_how_found(ranking)
    if not ranking.neighbors:
        _offer_bundled(zoo, ranking)
    if ranking.from_index and zoo.remote is not None:
        output.note("these scores are its publisher's word: --explain computes them, tupate-hub verify checks all")


def _document(ranking: Ranking, explain: bool) -> dict[str, Any]:
    about = ("query", "space", "similarity", "centred", "fused", "from_index", "notes", "itself")
    return {
        **{name: getattr(ranking, name) for name in about},
        "noise": None if ranking.noise is None else asdict(ranking.noise),
        "approximation": None if ranking.approximation is None else asdict(ranking.approximation),
        "left_out": dict(ranking.left_out),
        "neighbors": [_as_json(neighbor, explain) for neighbor in ranking.neighbors],
    }


@contextmanager
def _asked(registry: str | None, among: tuple[Path, ...], base: str | None) -> Iterator[Zoo]:
    """The registry that is asked: one that exists, or one of the adapters below some folders."""
    if not among:
        yield output.opened(registry)
        return
    from tupate_hub.collect.among import gathered

    with gathered(among, base) as (zoo, became):
        if became.rejected:
            shown = f"the first is {became.rejected[0].path}: {became.rejected[0].reason}"
            output.note(f"{len(became.added)} adapters read, {len(became.rejected)} refused; {shown}")
        yield zoo


def _say_of_query(ranking: Ranking) -> None:
    if ranking.itself not in (None, ranking.query):
        output.note(f"it is here as {ranking.itself}, which is no neighbour of itself")
    if "diverged" in ranking.notes:
        output.note(f"{ranking.query} diverged: its update is far too large to work (tupate-hub inspect says more)")


def _say_how_found(ranking: Ranking) -> None:
    """What is approximate about the neighbours in a large space."""
    how = ranking.approximation
    if how is not None:
        best = f"the best {how.compared} compared exactly" if how.compared else "from which scores are estimated"
        output.note(f"found by the sketches of {how.embeddings:,} embeddings, {best}: --exact compares them all")


def _offer_bundled(zoo: Zoo, ranking: Ranking) -> None:
    """What to type where a task is alone in its registry, as the first one that somebody tunes."""
    here = (entry for entry in zoo.registry.entries if (entry.task, entry.space) == (ranking.query, ranking.space))
    entry = next(here, None)
    if entry is not None and zoo.remote is None:
        output.note("the bundled zoo may have tasks like it:")
        output.note(f"  {output.command('similar', zoo.folder / entry.file)}")


def _print_ranking(ranking: Ranking, explain: bool) -> None:
    columns = ["rank", "task", "score", "percentile", "kind", "train size", "note"]
    rows: list[list[output.Cell]] = []
    for neighbor in ranking.neighbors:
        share = None if neighbor.percentile is None else f"{neighbor.percentile:.0f}"
        score = f"{neighbor.score:.4f}" if ranking.fused else neighbor.score
        rows.append(
            [neighbor.rank, neighbor.task, score, share, neighbor.kind, neighbor.train_size, ", ".join(neighbor.notes)]
        )
        if explain:
            low, high = neighbor.interval or (neighbor.score, neighbor.score)
            best = sorted(neighbor.contributions.items(), key=lambda item: -abs(item[1]))[:3]
            rows[-1] += [f"{low:.3f} to {high:.3f}", "; ".join(f"{name} {value:+.3f}" for name, value in best)]
    more = ["interval", "blocks"] if explain else []
    if output.on_terminal() and ranking.neighbors:
        peak = max(neighbor.score for neighbor in ranking.neighbors) or 1.0
        columns.insert(3, "")
        for row, neighbor in zip(rows, ranking.neighbors, strict=True):
            row.insert(3, output.bar(neighbor.score / peak))
    if rows:
        output.table([*columns, *more], rows, right=("rank", "score", "percentile", "train size"))
    else:
        output.note("there is nothing else here that it compares with")
    if ranking.noise is not None:
        output.note(f"unrelated tasks, those of different kinds, score up to {ranking.noise.upper:.3f} here")
    for task, why in list(ranking.left_out.items())[:_MOST_LEFT_OUT]:
        output.note(f"{task} is left out: {why}")
    if (others := len(ranking.left_out) - _MOST_LEFT_OUT) > 0:
        output.note(f"{others} more are left out: --json lists them all")


def _as_json(neighbor: Neighbor, explain: bool) -> dict[str, Any]:
    fields = asdict(neighbor)
    return {name: fields[name] for name in fields if explain or name not in ("interval", "contributions")}


def _show_prospects(zoo: Zoo, ranking: Ranking, k: int, as_json: bool) -> None:
    """The neighbours by expected gain, and what measured transfer says about the first."""
    from tupate_hub.cli.prospects import as_document, print_prospects
    from tupate_hub.search.by_gain import rank_by_gain

    prospects = rank_by_gain(zoo, ranking, k)
    if as_json:
        head = {name: getattr(ranking, name) for name in ("query", "space", "similarity", "centred", "fused")}
        output.document({**head, **as_document(prospects)})
        return
    output.note(f"{ranking.query} in {ranking.space}: by expected gain")
    print_prospects(prospects)


@click.command("explain")
@click.argument("first")
@click.argument("second")
@view_options
@click.option("--by-layer", is_flag=True, help="A picture: layers down, places across.")
@output.registry_option
@output.json_option
def explain_command(
    first: str,
    second: str,
    space: str | None,
    similarity: str,
    balance: bool,
    blocks: str | None,
    base: str | None,
    by_layer: bool,
    registry: str | None,
    as_json: bool,
) -> None:
    """Show what each block adds to the similarity of two tasks.

    FIRST and SECOND are tasks or paths of adapters. The contributions add up to the score.

    \b
      tupate-hub explain squad squad_v2
      tupate-hub explain squad ./my-lora --by-layer
    """
    from tupate_hub.compare.view import View
    from tupate_hub.search.similar import explain_pair

    view = View(similarity, balance=balance, blocks=blocks)
    score, parts = explain_pair(output.opened(registry), first, second, space=space, view=view, base=base)
    if as_json:
        output.document(
            {"first": first, "second": second, "similarity": similarity, "score": score, "contributions": parts}
        )
        return
    output.note(f"{first} and {second}, {similarity}: {score:.4f}")
    if by_layer:
        _picture(parts, score)
        return
    peak = max(map(abs, parts.values()), default=0.0) or 1.0
    rows = [[name, f"{value:+.4f}", "█" * round(20 * abs(value) / peak)] for name, value in parts.items()]
    output.table(["block", "contribution", ""], [*rows, ["total", f"{score:+.4f}", ""]], right=("contribution",))


def _picture(parts: Mapping[str, float], score: float) -> None:
    """Layers down, places across, a number and a shade each; the sums of the rows add up to the score."""
    from tupate_hub.embedding import kind_of, layer_of

    layers = list(dict.fromkeys(map(layer_of, parts)))
    kinds = list(dict.fromkeys(map(kind_of, parts)))
    cells = {(layer_of(name), kind_of(name)): value for name, value in parts.items()}
    peak = max(map(abs, parts.values()), default=0.0) or 1.0
    rows: list[list[output.Cell]] = []
    for layer in layers:
        values = [cells.get((layer, kind)) for kind in kinds]
        total = sum(value for value in values if value is not None)
        rows.append([layer, *(None if value is None else _shade(value, peak) for value in values), f"{total:+.4f}"])
    totals = [sum(value for (_, column), value in cells.items() if column == kind) for kind in kinds]
    rows.append(["total", *(f"{total:+.4f}" for total in totals), f"{score:+.4f}"])
    output.table(["layer", *kinds, "total"], rows, right=(*kinds, "total"))


def _shade(value: float, peak: float) -> str:
    return f"{' ░▒▓█'[round(4 * abs(value) / peak)]} {value:+.4f}"
