"""Magnitude: how large an update is, and how many directions it uses, without its base model or other adapters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tupate_hub.arrays import Float64Array, IndexArray
from tupate_hub.compare.lowrank import Factors, inner
from tupate_hub.compare.similarity import DEFAULT, get_similarity
from tupate_hub.embedding import Block, TaskEmbedding, layer_of

if TYPE_CHECKING:
    from tupate_hub.compare.kernel import Pack

#: A base model's own outputs are near one where its inputs are. Of 28 LoRAs of strangers the largest change is
#: 0.73, but for one, whose weights ran away: 114. A norm of 165 over twelve weights 768 wide, as one that scores 87.6 %
#: has, makes 1.7.
DIVERGED = 10.0


@dataclass(frozen=True)
class Magnitude:
    """Norms of an update, block by block: the Frobenius norm of `update`'s features.

    `changes` has, for each low-rank block, ||W|| / sqrt(out): the root mean square by which one of its outputs changes
    where the inputs are uncorrelated and of variance one, as behind a layer norm.
    """

    norms: Mapping[str, float]
    changes: Mapping[str, float]
    ranks: Mapping[str, float]

    @staticmethod
    def of(blocks: Iterable[Block], *, spectrum: bool = True) -> Magnitude:
        """That of some blocks; without the `spectrum`, which takes a decomposition each, `ranks` is empty."""
        features = get_similarity("update").features
        norms, changes, ranks = {}, {}, {}
        for block in blocks:
            with np.errstate(over="ignore", invalid="ignore"):  # a norm beyond float32 is infinite, and diverged
                factors = features(block, None)
                norms[block.name] = _norm(factors)
                if block.form == "lowrank":
                    changes[block.name] = norms[block.name] / factors.bt.shape[1] ** 0.5
            if spectrum and block.form == "lowrank":
                ranks[block.name] = effective_rank(singular_values(factors))
        return Magnitude(norms, changes, ranks)

    @cached_property
    def norm(self) -> float:
        """The norm of the whole update."""
        return float(np.sqrt(sum(norm**2 for norm in self.norms.values())))

    @cached_property
    def output_change(self) -> float:
        """The median of `changes`, 0 where no block is of low rank."""
        return _median(list(self.changes.values()))

    @cached_property
    def effective_rank(self) -> float:
        """The median over the low-rank blocks, 0 where there is none."""
        return _median(list(self.ranks.values()))

    @property
    def diverged(self) -> bool:
        """Whether the update changes outputs by more than a run that still works ever does."""
        return not self.output_change <= DIVERGED

    def by_layer(self) -> dict[str, float]:
        """The norm of each layer's update, in the order of the blocks."""
        squares: dict[str, float] = {}
        for name, norm in self.norms.items():
            squares[layer_of(name)] = squares.get(layer_of(name), 0.0) + norm**2
        return {layer: float(np.sqrt(square)) for layer, square in squares.items()}


def output_changes(squares: Float64Array, outputs: IndexArray) -> Float64Array:
    """`Magnitude.output_change` of many updates, of shape (tasks,), from the squared norms of their low-rank blocks.

    `squares` has shape (blocks, tasks), 0 where a task lacks the block; `outputs` (blocks,).
    """
    if not len(squares):
        return np.zeros(squares.shape[1])
    changes = np.sqrt(squares / outputs[:, None])
    ordered = np.sort(np.where(changes > 0, changes, np.inf), axis=0)
    count = np.maximum((changes > 0).sum(axis=0), 1)
    middle = [ordered[place, np.arange(len(count))] for place in ((count - 1) // 2, count // 2)]
    return np.where((changes > 0).any(axis=0), (middle[0] + middle[1]) / 2, 0.0)


def packed_changes(packed: Pack, embeddings: Iterable[TaskEmbedding]) -> Float64Array:
    """`Magnitude.output_change` of the embeddings that were packed, of shape (tasks,), in their order.

    From their squared norms, where those are of updates.
    """
    blocks = {one.task: one.blocks for one in embeddings}
    if packed.similarity != DEFAULT:
        return np.array([Magnitude.of(blocks[task], spectrum=False).output_change for task in packed.tasks])
    forms = {block.name: block.form for own in blocks.values() for block in own}
    low = [row for row, name in enumerate(packed.blocks) if forms[name] == "lowrank"]
    outputs = np.array([packed.stacks[packed.blocks[row]].bt.shape[1] for row in low])
    return output_changes(packed.squares[low], outputs)


def singular_values(factors: Factors) -> Float64Array:
    """The singular values of an update of rank r, of shape (r,), from two decompositions of (r, r) at most.

    NaN where a number is not finite or beyond float64.
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (factors.a, factors.bt)]
    if not all(np.isfinite(side).all() for side in sides):
        return np.full(len(factors.a), np.nan)
    a, bt = (np.asarray(np.linalg.qr(side.T, mode="r")) for side in sides)
    return np.asarray(np.linalg.svd(bt @ a.T, compute_uv=False))


def effective_rank(values: Float64Array) -> float:
    """Exp of the entropy of singular values as shares of their sum (Roy and Vetterli, 2007); 0 for an update of zero.

    >>> effective_rank(np.array([2.0, 2.0])), effective_rank(np.array([2.0, 0.0]))
    (2.0, 1.0)
    """
    total = float(values.sum())
    if not np.isfinite(total) or total <= 0:
        return 0.0
    shares = values[values > 0] / total
    return round(float(np.exp(-(shares * np.log(shares)).sum())), 9)


def _norm(factors: Factors) -> float:
    square = inner(factors, factors)
    return float(np.sqrt(max(square, 0.0))) if np.isfinite(square) else float("inf")


def _median(values: list[float]) -> float:
    """np.median would import numpy.ma, a tenth of a cold question's time."""
    ordered = sorted(values)
    count = len(ordered)
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2 if count else 0.0
