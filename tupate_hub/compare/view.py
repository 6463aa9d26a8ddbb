"""View: how embeddings are looked at before they are ranked: similarity, blocks, balancing, centring."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.kernel import Kernel, Origin, divided
from tupate_hub.compare.similarity import DEFAULT
from tupate_hub.embedding import kind_of, layer_of
from tupate_hub.errors import UnknownName


@dataclass(frozen=True)
class View:
    """A way to compare. `blocks` is a part of the names of the blocks to keep, `*` and `?` allowed; all by default."""

    similarity: str = DEFAULT
    centre: bool = False
    balance: bool = False
    blocks: str | None = None

    @property
    def plain(self) -> bool:
        """Whether the totals over all blocks are enough."""
        return not (self.balance or self.blocks)

    def of(self, kernel: Kernel) -> Kernel:
        """The kernel of the chosen blocks, balanced if asked for.

        Raises
        ------
        UnknownName
            When no block has such a name.
        """
        if self.blocks is not None:
            chosen = [name for name in kernel.blocks if fnmatchcase(name, f"*{self.blocks}*")]
            if not chosen:
                kinds = dict.fromkeys(kind_of(name) for name in kernel.blocks)
                raise UnknownName(f"No block's name has {self.blocks!r} in it.", hint=f"known: {', '.join(kinds)}")
            kernel = kernel.select(chosen)
        return kernel.balanced() if self.balance else kernel


@dataclass(frozen=True)
class Compared:
    """One query against a zoo, block by block, after a view.

    `cross` has shape (blocks, tasks), `square`, the query's squared norms, (blocks,), `squares`, the tasks',
    (blocks, tasks).
    """

    blocks: tuple[str, ...]
    cross: Float64Array
    square: Float64Array
    squares: Float64Array

    @staticmethod
    def plainly(across: Kernel) -> Compared:
        """From the kernel between one query and the zoo."""
        return Compared(across.blocks, across.cross[:, 0], across.x_squares[:, 0], across.y_squares)

    @staticmethod
    def centred(across: Kernel, inside: Kernel) -> Compared:
        """The same after moving the origin of each block's feature space to the zoo's mean."""
        zoo = np.stack([_block(inside, name) for name in across.blocks])
        origin = Origin.of(zoo)
        square = origin.squares(across.cross, across.x_squares)[:, 0]
        squares = origin.squares(zoo, np.diagonal(zoo, axis1=1, axis2=2))
        return Compared(across.blocks, origin.cross(across.cross)[:, 0], square, squares)

    def scores(self) -> Float64Array:
        """Cosines, of shape (tasks,); 0 where a side has no norm left."""
        return divided(self.cross.sum(axis=0), self._norms())

    def contributions(self) -> Float64Array:
        """What each block adds to each score, of shape (blocks, tasks)."""
        return divided(self.cross, self._norms())

    def by_block(self) -> dict[str, Float64Array]:
        """What each block adds to each score, by the block's name."""
        return dict(zip(self.blocks, self.contributions(), strict=True))

    def by_layer(self) -> Float64Array:
        """Cosines within each layer, of shape (layers, tasks), for fusion."""
        layers = list(dict.fromkeys(map(layer_of, self.blocks)))
        member = np.array([[layer_of(name) == layer for name in self.blocks] for layer in layers], dtype=float)
        return self._weighed(member)

    def intervals(self, draws: int = 200, level: float = 0.9, seed: int = 0) -> Float64Array:
        """Bootstrap intervals of the scores over blocks, of shape (2, tasks): blocks drawn with replacement."""
        weights = np.random.default_rng(seed).multinomial(
            len(self.blocks), np.full(len(self.blocks), 1 / len(self.blocks)), size=draws
        )
        scores = self._weighed(weights.astype(float))
        return np.asarray(np.quantile(scores, [(1 - level) / 2, (1 + level) / 2], axis=0))

    def _norms(self) -> Float64Array:
        """The product of the query's norm and each task's, of shape (tasks,)."""
        return np.asarray(np.sqrt(self.square.sum() * self.squares.sum(axis=0)))

    def _weighed(self, weights: Float64Array) -> Float64Array:
        """Scores with each block counted so often, for `weights` of shape (n, blocks); of shape (n, tasks)."""
        norms = np.sqrt((weights @ self.square)[:, None] * (weights @ self.squares))
        return divided(weights @ self.cross, norms)


def _block(kernel: Kernel, name: str) -> Float64Array:
    if name not in kernel.blocks:
        return np.zeros(kernel.cross.shape[1:])
    return np.asarray(kernel.cross[kernel.blocks.index(name)])
