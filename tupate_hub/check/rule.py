"""Rule and Finding: what can be wrong with an adapter, and that it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tupate_hub.check.evidence import Evidence
from tupate_hub.check.updates import Fingerprint
from tupate_hub.readers.source import short_list

#: Where issues and pull requests lie that rules have as their source.
ISSUES = "https://github.com"

#: From the worst on: it does nothing, cannot be loaded or is dangerous; it hardly does what was meant; worth knowing.
SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Found:
    """Where a rule applies: `detail`, a few words or "", and the names of the blocks, keys or files concerned."""

    detail: str = ""
    names: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The detail and the first of the names."""
        listed = short_list(self.names)
        return ": ".join(part for part in (self.detail, listed) if part)


Find = Callable[[Evidence], Iterable[Found]]
#: What concerns several adapters: the path of the one that is told, and what of it.
FindAmong = Callable[[Sequence[Fingerprint]], Iterable[tuple[str, Found]]]


@dataclass(frozen=True)
class Rule:
    """One thing that can be found.

    `sentence` says what it means, `advice` what to do, `source` how that is known. `needs` is what must be there:
    "base", the base model's facts; "weights", its numbers on this disk; "others", further adapters; "" for nothing but
    the adapter. `find` looks at one adapter, `among` at several; a rule has one of the two.
    """

    id: str
    severity: str
    sentence: str
    advice: str
    source: str
    find: Find | None = None
    among: FindAmong | None = None
    needs: str = ""


@dataclass(frozen=True)
class Finding:
    """That a rule applies to an adapter."""

    rule: Rule
    found: Found
