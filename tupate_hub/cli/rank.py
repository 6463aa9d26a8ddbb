"""Verbs that rank: similar, explain."""

from __future__ import annotations

from dataclasses import asdict

import click

from tupate_hub.cli import output


@click.command("similar")
@click.argument("query")
@click.option("-k", "--top", "k", type=click.IntRange(1), default=10, show_default=True, help="How many neighbours.")
@click.option("--space", help="The space to look in; see `tupate-hub spaces`.")
@click.option("--similarity", default="update", show_default=True, help="update, or tupate (the paper's).")
@click.option("--centre", is_flag=True, help="Centre the embeddings over the zoo first.")
@click.option("--explain", is_flag=True, help="Add the blocks that contribute most to each score.")
@output.registry_option
@output.json_option
def similar_command(
    query: str,
    k: int,
    space: str | None,
    similarity: str,
    centre: bool,
    explain: bool,
    registry: str | None,
    as_json: bool,
) -> None:
    """Rank tasks by similarity to a task or an adapter.

    QUERY is a task's name or alias (tupate-hub list), or the path of an adapter file or folder (PEFT and others).

    \b
      tupate-hub similar squad
      tupate-hub similar ./my-lora --explain
      tupate-hub similar glue/sst2 -k 5 --json
    """
    from tupate_hub.zoo import Zoo

    ranking = Zoo.open(registry).similar(query, k, space=space, similarity=similarity, centre=centre, explain=explain)
    if as_json:
        neighbors = [asdict(neighbor) for neighbor in ranking.neighbors]
        for neighbor in neighbors:
            if not explain:
                del neighbor["contributions"]
        output.document(
            {
                "query": ranking.query,
                "space": ranking.space,
                "similarity": ranking.similarity,
                "centred": ranking.centred,
                "neighbors": neighbors,
            }
        )
        return
    output.note(f"{ranking.query} in {ranking.space}, {ranking.similarity}{', centred' if centre else ''}")
    columns = ["rank", "task", "score", "percentile", "kind", "train size", "note"]
    rows: list[list[output.Cell]] = []
    for one in ranking.neighbors:
        share = None if one.percentile is None else f"{one.percentile:.0f}"
        rows.append([one.rank, one.task, one.score, share, one.kind, one.train_size, ", ".join(one.notes)])
        if explain:
            best = sorted(one.contributions.items(), key=lambda item: -abs(item[1]))[:3]
            rows[-1].append("; ".join(f"{name} {value:+.3f}" for name, value in best))
    output.table(
        [*columns, "blocks"] if explain else columns, rows, right=("rank", "score", "percentile", "train size")
    )


@click.command("explain")
@click.argument("first")
@click.argument("second")
@click.option("--space", help="The space to look in; see `tupate-hub spaces`.")
@click.option("--similarity", default="update", show_default=True, help="update, or tupate (the paper's).")
@output.registry_option
@output.json_option
def explain_command(
    first: str, second: str, space: str | None, similarity: str, registry: str | None, as_json: bool
) -> None:
    """Show what each block adds to the similarity of two tasks.

    FIRST and SECOND are tasks or paths of adapters. The contributions add up to the score.

    \b
      tupate-hub explain squad squad_v2
    """
    from tupate_hub.search import explain_pair
    from tupate_hub.zoo import Zoo

    score, parts = explain_pair(Zoo.open(registry), first, second, space, similarity)
    if as_json:
        output.document(
            {"first": first, "second": second, "similarity": similarity, "score": score, "contributions": parts}
        )
        return
    output.note(f"{first} and {second}, {similarity}: {score:.4f}")
    peak = max(map(abs, parts.values()), default=0.0) or 1.0
    rows = [[name, f"{value:+.4f}", "█" * round(20 * abs(value) / peak)] for name, value in parts.items()]
    output.table(["block", "contribution", ""], [*rows, ["total", f"{score:+.4f}", ""]], right=("contribution",))
