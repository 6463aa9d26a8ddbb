"""The verb that looks at a merge of adapters before it is made, and makes it: merge-check."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tupate_hub.cli import output
from tupate_hub.errors import TupateHubError

if TYPE_CHECKING:
    from tupate_hub.compare.interference import Interference
    from tupate_hub.compare.signs import Signs
    from tupate_hub.search.merge_check import MergeCheck


@click.command("merge-check")
@click.argument("adapters", nargs=-1, required=True)
@click.option("--space", help="The space to take tasks from; see `tupate-hub spaces`.")
@click.option("--base", metavar="MODEL", help="The base model of adapters that name none of the Hub.")
@click.option(
    "--weights",
    default="mean",
    show_default=True,
    help="mean (1/n each), whole (every update survives whole), suggested, or numbers: 0.7,0.3.",
)
@click.option("--explain", is_flag=True, help="Add a table of the layers.")
@click.option("--write", "target", type=click.Path(path_type=Path), metavar="DIR", help="Write the sum as one adapter.")
@click.option("--rank", type=click.IntRange(1), help="With --write: the rank of the sum. [default: the largest given]")
@click.option("--as", "form", default="peft", show_default=True, help="With --write: peft, adapters or embedding.")
@click.option("--bare", is_flag=True, help="With --write: for a model without a task head (AutoModel).")
@click.option("--force", is_flag=True, help="With --write: replace a folder that holds the same files.")
@output.registry_option
@output.json_option
def merge_check_command(
    adapters: tuple[str, ...],
    space: str | None,
    base: str | None,
    weights: str,
    explain: bool,
    target: Path | None,
    rank: int | None,
    form: str,
    bare: bool,
    force: bool,
    registry: str | None,
    as_json: bool,
) -> None:
    """Say what merging adapters would do to each of them, and make one of them.

    ADAPTERS are two or more: tasks (tupate-hub list), files or folders of adapters, or model repositories of the Hub,
    all of one base model and method. (`tupate-hub merge` is another thing: it makes one registry of two.)

    \b
      tupate-hub merge-check sst2 trec snli
      tupate-hub merge-check ./my-lora ./your-lora --explain
      tupate-hub merge-check ./my-lora ./your-lora --weights 0.7,0.3 --write ./merged --rank 16
    """
    from tupate_hub.search.merge_check import merge_check

    zoo = output.opened(registry)
    check = merge_check(zoo, adapters, space=space, base=base, weights=_parsed(weights))
    written = None if target is None else _write(check, target, form, rank, bare=bare, force=force)
    if as_json:
        output.document(_document(check, explain) | ({} if written is None else {"written": written}))
        return
    _print(check, explain)
    if written is not None:
        _tell(written)
        output.text(written["folder"])


def _parsed(written: str) -> str | list[float]:
    """Weights as they are typed: a word, or numbers with commas between them."""
    if not any(char.isdigit() for char in written):
        return written
    try:
        return [float(number) for number in written.split(",")]
    except ValueError as error:
        raise TupateHubError(
            f"{written!r} are no weights.", hint="write a number for each adapter: `weights=0.7,0.3`"
        ) from error


# --- writing ---------------------------------------------------------------------------------------------------


def _write(check: MergeCheck, target: Path, form: str, rank: int | None, *, bare: bool, force: bool) -> dict[str, Any]:
    from tupate_hub.cli.fetch import require_only
    from tupate_hub.search.merge_check import error_of, merged_files
    from tupate_hub.storage.atomic import write_folder

    merged = check.merged(rank)
    files = merged_files(check, merged, form, bare=bare)
    if force:
        require_only(target, files)
    write_folder(target, files, force=force)
    facts = merged.facts["blend"]
    return {
        "folder": str(target),
        "form": form,
        "files": [*files],
        "rank": facts["rank"],
        "kept": facts["kept"],
        "error": error_of(facts["kept"]),
    }


def _tell(written: dict[str, Any]) -> None:
    if written["rank"] is not None:
        output.note(
            f"rank {written['rank']} keeps {written['kept']:.2%} of the sum's squared norm: a relative error of "
            f"{written['error']:.3f}"
        )
    output.note("heads are not merged: each task needs its own")


# --- showing ---------------------------------------------------------------------------------------------------


def _print(check: MergeCheck, explain: bool) -> None:
    from tupate_hub.search.merge_check import sentences

    found, signs, names = check.found, check.signs, check.names
    output.note(f"{len(names)} adapters, {check.space}")
    columns = ["adapter", "norm", "weight", "survives", "distance", "disturbed"]
    rows: list[list[output.Cell]] = []
    for at, name in enumerate(names):
        lengths = [_known(values[at]) for values in (found.distance, found.disturbed)]
        rows.append([name, float(found.norms[at]), float(found.weights[at]), _share(found.survives[at]), *lengths])
    output.table(columns, rows, right=columns[1:])
    columns = ["first", "second", "cosine", "inputs", "outputs", "opposite signs"]
    rows = []
    for i, j in _pairs(len(names)):
        error = signs.error[i, j]
        opposite = _share(signs.opposite[i, j]) + (f" ± {error:.2%}" if error > 0 else "")
        pair = [_known(matrix[i, j]) for matrix in (found.cosines, found.reads, found.moves)]
        rows.append([names[i], names[j], *pair, opposite])
    output.table(columns, rows, right=columns[2:])
    if explain:
        _print_layers(check.by_layer(), names)
    for sentence in sentences(check):
        output.note(sentence)
    other = any(abs(one - two) > 1e-9 for one, two in zip(found.weights, check.suggestion.weights, strict=True))
    if other and len(check.suggestion.chosen) > 1:
        output.note("--weights suggested takes these")


def _print_layers(layers: Mapping[str, tuple[Interference, Signs]], names: Sequence[str]) -> None:
    """A line a layer: what the pairs have on average, and what survives of each adapter there."""
    rows: list[list[output.Cell]] = []
    for layer, (found, signs) in layers.items():
        means = [_mean_of_pairs(matrix) for matrix in (found.cosines, found.reads, found.moves)]
        survives = [_share(value) for value in found.survives]
        shares = [_share(_mean_of_pairs(signs.opposite)), _share(signs.cancelled)]
        rows.append([layer, found.norm, *map(_known, means), *shares, _known(found.total), *survives])
    columns = ["layer", "norm", "cosine", "inputs", "outputs", "opposite signs", "cancelled", "disturbed"]
    columns += [f"{name} survives" for name in names]
    output.table(columns, rows, right=columns[1:])


def _document(check: MergeCheck, explain: bool) -> dict[str, Any]:
    from tupate_hub.search.merge_check import sentences

    names, advice = check.names, check.suggestion
    layers = [{"layer": layer, **_figures(*both, names)} for layer, both in check.by_layer().items()] if explain else []
    return {
        "base": check.space.base,
        "method": check.space.method,
        **_figures(check.found, check.signs, names),
        "suggestion": {
            "adapters": [names[at] for at in advice.chosen],
            "weights": [float(advice.weights[at]) for at in advice.chosen],
            "left_out": [
                {"name": names[one.update], "why": one.why, "other": names[one.other], "value": one.value}
                for one in advice.dropped
            ],
            "survives": [float(advice.found.survives[at]) for at in advice.chosen],
            "distance": [float(advice.found.distance[at]) for at in advice.chosen],
            "smaller": [
                {"adapters": [names[at] for at in group.chosen], "survives": group.survives} for group in advice.smaller
            ],
        },
        "sentences": sentences(check),
        **({"layers": layers} if explain else {}),
    }


def _figures(found: Interference, signs: Signs, names: Sequence[str]) -> dict[str, Any]:
    """What there is to be said of a merge, or of a layer of it."""
    of_each = {
        "norm": found.norms,
        "weight": found.weights,
        "survives": found.survives,
        "distance": found.distance,
        "disturbed": found.disturbed,
    }
    of_pairs = {
        "cosine": found.cosines,
        "inputs": found.reads,
        "outputs": found.moves,
        "inputs_by_chance": found.chance[0],
        "outputs_by_chance": found.chance[1],
        "opposite": signs.opposite,
        "opposite_error": signs.error,
    }
    return {
        "adapters": [
            {"name": name, **{word: _known(values[at]) for word, values in of_each.items()}}
            for at, name in enumerate(names)
        ],
        "pairs": [
            {
                "first": names[i],
                "second": names[j],
                **{word: _known(matrix[i, j]) for word, matrix in of_pairs.items()},
            }
            for i, j in _pairs(len(names))
        ],
        "norm": found.norm,
        "norm_if_unrelated": found.unrelated,
        "disturbed": _known(found.total),
        "cancelled": signs.cancelled,
        "looked_at": signs.looked_at,
    }


def _pairs(count: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(count) for j in range(i + 1, count)]


def _mean_of_pairs(matrix: Any) -> float:
    known = [value for pair in _pairs(len(matrix)) if math.isfinite(value := float(matrix[pair]))]
    return sum(known) / len(known) if known else math.nan


def _known(value: float) -> float | None:
    """A number of the JSON, which has none for what is not known."""
    return float(value) if math.isfinite(value) else None


def _share(value: float) -> str:
    return f"{value:.1%}" if math.isfinite(value) else "-"
