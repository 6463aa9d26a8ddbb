"""Total: what a large space has in all, of which a card shows a sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tupate_hub.registry import Registry


@dataclass(frozen=True)
class Total:
    """How many embeddings a space has, the bytes of their files, and their licences as the Hub calls them."""

    embeddings: int
    bytes: int
    licences: frozenset[str] = frozenset()


def embeddings_in(registry: Registry, totals: Mapping[str, Total]) -> int:
    """How many embeddings there are, of a registry which has a sample alone of the spaces that `totals` are of."""
    return sum(totals[name].embeddings if name in totals else len(registry.in_space(name)) for name in registry.spaces)
