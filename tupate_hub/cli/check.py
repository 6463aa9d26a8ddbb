"""The verb that says whether an adapter will do anything: check."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tupate_hub.cli import output

if TYPE_CHECKING:
    from tupate_hub.check.checking import Checked, Place
    from tupate_hub.check.rule import Finding


@click.command("check")
@click.argument("adapters", nargs=-1, required=True, metavar="ADAPTER...")
@click.option("--base", metavar="MODEL", help="The base model to check against: a folder, or a model of the Hub.")
@click.option("--all", "everything", is_flag=True, help="Check every adapter below each ADAPTER, a folder.")
@click.option("--ignore", metavar="RULE", multiple=True, help="Leave a rule out; may be given several times.")
@click.option("--strict", is_flag=True, help="Fail on warnings as well.")
@output.json_option
def check_command(
    adapters: tuple[str, ...], base: str | None, everything: bool, ignore: tuple[str, ...], strict: bool, as_json: bool
) -> int:
    """Say whether adapters will do anything, and on which base model.

    One line a finding, with what to do; docs/check.md lists everything that can be found. The exit code is 1 where
    there is an error. Of a base model on the Hub its configuration and the headers of its weights are fetched; without
    --base the folder that the adapter's configuration names is taken, where it is there.

    \b
      tupate-hub check ./my-lora --base Qwen/Qwen2.5-0.5B-Instruct
      tupate-hub check --all ./downloads --json
    """
    from tupate_hub.check.basemodel import open_base
    from tupate_hub.check.checking import check_adapters, document
    from tupate_hub.collect.read_adapter import legacy_reader

    places = list(dict.fromkeys(place for written in adapters for place in _places(written, everything)))
    against = None if base is None else open_base(base)
    with output.progress(places, "check", len(places)) as bar:
        checked = check_adapters(bar, against, ignore, legacy_reader())
    failing = ("error", "warning") if strict else ("error",)
    failed = any(one.count(severity) for one in checked for severity in failing)
    if as_json:
        output.document(document(checked))
    else:
        for one in checked:
            for line in _lines(one):
                output.text(output.printable(line))
        _sum_up(checked)
    return 1 if failed else 0


def _places(written: str, everything: bool) -> Iterable[Place]:
    from tupate_hub.check.checking import Place
    from tupate_hub.collect.among import adapters_below
    from tupate_hub.collect.read_adapter import find_adapter

    if everything:
        return [Place(str(path), path) for path in adapters_below(Path(written))]
    found = find_adapter(written)
    return [Place(written, found if isinstance(found, Path) else found.folder)]


def _lines(checked: Checked) -> Iterable[str]:
    if not checked.findings:
        layout, method, base = (checked.facts[name] for name in ("layout", "method", "base"))
        yield f"{checked.path}: nothing found ({layout}, {method} on {base or 'a base model without a name'})"
    for finding in checked.findings:
        yield f"{checked.path}: {_line(finding)}"


def _line(finding: Finding) -> str:
    rule, detail = finding.rule, finding.found.text
    said = f"{rule.sentence.rstrip('.')} ({detail})." if detail else rule.sentence
    return f"{rule.severity} {rule.id}: {said} {rule.advice}"


def _sum_up(checked: Sequence[Checked]) -> None:
    counts = {severity: sum(one.count(severity) for one in checked) for severity in ("error", "warning", "note")}
    told = ", ".join(f"{count} {severity}{'s' * (count != 1)}" for severity, count in counts.items())
    output.note(f"{len(checked)} checked: {told}")
    for why, partly in (
        ("without a base model (name it: --base MODEL)", [one for one in checked if one.against is None]),
        ("beside a base model whose weights are not on this disk", [one for one in checked if one.against is not None]),
    ):
        missed = [one.not_applied for one in partly if one.not_applied]
        if missed:
            output.note(f"  {len(missed)} {why}; not applied: {', '.join(rule.id for rule in missed[0])}")
