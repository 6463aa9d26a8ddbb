"""Sizes: whether tuned parameters can be of the base model that they are said to be of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tupate_hub.embedding import TaskEmbedding
from tupate_hub.knownbases import WIDTHS
from tupate_hub.registry import SpaceEntry

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo


@dataclass(frozen=True)
class Sizes:
    """The sizes of the blocks of spaces, as the first embedding that has a block gives them."""

    known: dict[str, dict[str, tuple[tuple[int, ...], str]]] = field(default_factory=dict)
    #: Those of the first embedding of a space, where the registry has no file of it.
    widths: dict[str, frozenset[int]] = field(default_factory=dict)

    def misfit(self, embedding: TaskEmbedding, space: SpaceEntry, zoo: Zoo) -> str:
        """Why an embedding cannot be of a space's base model, in a sentence; "" where it can, and is then known.

        Where the base model is a known one, some block has to be as wide as it is; where the space has embeddings,
        their blocks have the sizes of the first one's.
        """
        seen = self.known.setdefault(space.name, {})
        entry = None if seen else next(iter(zoo.registry.in_space(space.name)), None)
        if entry is not None and entry.has_file:
            seen |= {block.name: (block.outer, entry.task) for block in zoo.outline(entry.task, space.name).blocks}
        elif entry is not None:
            told = entry.source.get("widths")
            widths = told if isinstance(told, list) else []
            self.widths[space.name] = frozenset(width for width in widths if type(width) is int)
        for block in embedding.blocks:
            outer, task = seen.get(block.name, (block.outer, ""))
            if outer != block.outer:
                return (
                    f"{embedding.task!r} is not of {space.base}: its block {block.name!r} has {_said(block.outer)}, "
                    f"that of {task!r} {_said(outer)}."
                )
        sizes = {size for outer, _ in seen.values() for size in outer} | self.widths.get(space.name, frozenset())
        if sizes and not any(sizes & set(block.outer) for block in embedding.blocks):
            first = embedding.blocks[0]
            return (
                f"{embedding.task!r} is not of {space.base}, whose blocks have other sizes: its block {first.name!r} "
                f"has {_said(first.outer)}."
            )
        width = WIDTHS.get(space.base)
        if width is not None and not any(width in block.outer for block in embedding.blocks):
            widest = _said(embedding.blocks[0].outer)
            return f"{embedding.task!r} is not of {space.base}, which is {width} wide: its first block has {widest}."
        for block in embedding.blocks:
            seen.setdefault(block.name, (block.outer, embedding.task))
        return ""


def _said(outer: tuple[int, ...]) -> str:
    return f"{outer[0]} inputs and {outer[1]} outputs" if len(outer) == 2 else f"a width of {outer[0]}"
