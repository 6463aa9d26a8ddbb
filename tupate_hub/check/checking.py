"""Checking: adapters through the table of rules, beside their base model where its facts are there."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from tupate_hub.check.alpha import alphas
from tupate_hub.check.basemodel import BaseModel, read_base
from tupate_hub.check.config_rules import named_base
from tupate_hub.check.evidence import Evidence, gather
from tupate_hub.check.rule import SEVERITIES, Finding, Rule
from tupate_hub.check.rules import BY_ID, RULES
from tupate_hub.check.updates import Fingerprint, fingerprint
from tupate_hub.errors import FormatError, UnknownName
from tupate_hub.readers.source import Legacy

#: The gravest rules first, and of those the first of the table.
_ORDER = {rule.id: (SEVERITIES.index(rule.severity), at) for at, rule in enumerate(RULES)}


@dataclass(frozen=True)
class Checked:
    """An adapter with what was found, the gravest first, and the rules that lacked what they need.

    `facts` are JSON values, those of the fields that `docs/cli.md` lists beside the findings; `against` is where the
    base model's facts come from, None where there are none.
    """

    path: str
    facts: Mapping[str, Any]
    findings: tuple[Finding, ...]
    not_applied: tuple[Rule, ...]
    against: str | None = None

    def count(self, severity: str) -> int:
        """How many findings there are of that severity."""
        return sum(finding.rule.severity == severity for finding in self.findings)


@dataclass(frozen=True)
class Place:
    """An adapter to check: how the user named it, and where it lies."""

    called: str
    path: Path


def check_adapters(
    places: Iterable[Place],
    base: BaseModel | None = None,
    ignore: Collection[str] = (),
    legacy: Legacy | None = None,
) -> tuple[Checked, ...]:
    """Every rule on every adapter.

    Parameters
    ----------
    places : iterable of Place
        The adapters.
    base : BaseModel, optional
        The base model of all of them; without it, of each the folder that its configuration names, where it is there.
    ignore : collection of str
        Rules that are not applied.
    legacy : callable, optional
        As in `tupate_hub.readers.load_adapter`.

    Raises
    ------
    UnknownName
        For a rule to ignore that there is not.
    """
    if unknown := sorted(set(ignore) - set(BY_ID)):
        raise UnknownName(f"There is no rule {unknown[0]!r}.", hint="known: " + ", ".join(BY_ID))
    rules = [rule for rule in RULES if rule.id not in ignore]
    opened: dict[str, BaseModel | None] = {}
    checked, prints = [], []
    first: Evidence | None = None  # one alone is compared with none
    for place in places:
        evidence = gather(place.path, place.called, legacy)
        evidence = replace(evidence, base=base or _own_base(evidence, opened))
        checked.append(_check(evidence, rules))
        if len(checked) == 1:
            first = evidence
            continue
        if first is not None:
            prints.append(fingerprint(first.path, first.updates))
            first = None
        prints.append(fingerprint(evidence.path, evidence.updates))
    among = _among([one for one in prints if one is not None], rules)
    return tuple(replace(one, findings=_ordered([*one.findings, *among.get(one.path, [])])) for one in checked)


def _check(evidence: Evidence, rules: Sequence[Rule]) -> Checked:
    findings, not_applied = [], []
    for rule in rules:
        if rule.find is None:
            continue
        if _has(evidence, rule.needs):
            findings += [Finding(rule, found) for found in rule.find(evidence)]
        else:
            not_applied.append(rule)
    against = evidence.base.where if evidence.base is not None else None
    return Checked(evidence.path, _facts(evidence), _ordered(findings), tuple(not_applied), against)


def _ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda one: _ORDER[one.rule.id]))


def _has(evidence: Evidence, needed: str) -> bool:
    """Whether there is what a rule needs."""
    if needed == "base":
        return evidence.base is not None
    return needed != "weights" or (evidence.base is not None and evidence.base.on_disk)


def _among(prints: Sequence[Fingerprint], rules: Sequence[Rule]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for rule in rules:
        for path, what in rule.among(prints) if rule.among is not None else ():
            found.setdefault(path, []).append(Finding(rule, what))
    return found


def _own_base(evidence: Evidence, opened: dict[str, BaseModel | None]) -> BaseModel | None:
    """The base model in the folder of this disk that the configuration names; a stranger's may name no other place."""
    written = named_base(evidence)
    if written is None or written.replace("\\", "/").startswith("//") or len(written) > 1000:
        return None
    if written not in opened:
        try:
            opened[written] = read_base(Path(written)) if Path(written).is_dir() else None
        except (FormatError, OSError, ValueError):
            opened[written] = None
    return opened[written]


# --- as a document -----------------------------------------------------------------------------------------------


def document(checked: Sequence[Checked]) -> dict[str, Any]:
    """Everything that was found, as JSON values; `docs/cli.md` lists the fields."""
    counts = {f"{severity}s": sum(one.count(severity) for one in checked) for severity in SEVERITIES}
    return {**counts, "adapters": [_row(one) for one in checked]}


def _row(checked: Checked) -> dict[str, Any]:
    findings = [
        {
            "rule": finding.rule.id,
            "severity": finding.rule.severity,
            "sentence": finding.rule.sentence,
            "detail": finding.found.text,
            "names": list(finding.found.names),
            "advice": finding.rule.advice,
            "source": finding.rule.source,
        }
        for finding in checked.findings
    ]
    return {
        "path": checked.path,
        **checked.facts,
        "checked_against": checked.against,
        "findings": findings,
        "not_applied": [rule.id for rule in checked.not_applied],
    }


def _facts(evidence: Evidence) -> dict[str, Any]:
    adapter = evidence.adapter
    return {
        "layout": evidence.layout or None,
        "method": adapter.method if adapter else None,
        "base": adapter.base if adapter else None,
        "parameters": sum(part.size for block in evidence.blocks for part in block.parts.values()),
        "alpha": [{"where": place.where, "values": list(place.values)} for place in alphas(evidence)],
        "scales": sorted({block.scale for block in evidence.blocks if math.isfinite(block.scale)}),
        "norm": _finite(evidence.norm),
        "effective_rank": _effective_rank(evidence),
        "layers": [{"layer": layer, "norm": _finite(norm)} for layer, norm in _layers(evidence).items()],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _effective_rank(evidence: Evidence) -> float | None:
    """The middle one of the LoRA updates' effective ranks."""
    ranks = [update.effective_rank for update in evidence.updates if update.block.form == "lowrank" and update.norm > 0]
    return _finite(median(ranks)) if ranks else None


def _layers(evidence: Evidence) -> Mapping[str, float]:
    """The norm of each layer's updates together, in the order of the blocks."""
    norms: dict[str, list[float]] = {}
    for update in evidence.updates:
        layer = evidence.layers[update.name]
        norms.setdefault(layer, []).append(update.norm)
    return {layer: math.hypot(*some) for layer, some in norms.items()}
