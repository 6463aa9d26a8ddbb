"""Interference: what several updates of one base model do to one another when they are added up.

Every update of a place is W_i = U_i diag(s_i) V_iᵀ, found on its factors. U_i spans the outputs that it moves and V_i
the inputs that it reads, so another update W_j, seen from where the first acts, is the small matrix

    M_ij = U_iᵀ W_j V_i = (U_iᵀ U_j) diag(s_j) (V_iᵀ V_j)ᵀ          M_ii = diag(s_i)

The singular values of V_iᵀ V_j are the cosines of the principal angles between what both read (Björck and Golub 1973).
The merge is sum_j w_j W_j, and all that is said of it below is a sum over the inner products <M_ij, M_ik>, which are
kept: weights, layers and subsets can be tried without looking at an update again, and nothing of the size of a weight
is ever formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.kernel import MOST_BYTES, divided, pack
from tupate_hub.compare.lowrank import Factors, directions
from tupate_hub.compare.similarity import DEFAULT, get_similarity
from tupate_hub.embedding import Block, TaskEmbedding, layer_of, shared_names
from tupate_hub.errors import TupateHubError, WorkFailed

#: The inner products of a place are as many as the third power of this.
MOST_UPDATES = 24
#: Larger weights would overflow, and are a mistake.
MOST_WEIGHT = 1e6
#: Directions of an update that are weaker than this share of the strongest are the rounding of float32.
_ROUNDING = 1e-5
#: What is left of updates that are one and the same when one is taken from the other, in float16 files.
_SAME = 1e-3


@dataclass(frozen=True)
class Directions:
    """An update by its singular values, of shape (k,), with what it reads (in, k) and what it moves (out, k)."""

    strengths: Float64Array
    reads: Float64Array
    moves: Float64Array

    @staticmethod
    def of(update: Factors) -> Directions:
        """Those of B·A, but for what is its rounding."""
        reads, strengths, moves = directions(update.a.astype(np.float64), update.bt.astype(np.float64))
        count = int((strengths > _ROUNDING * strengths[0]).sum())
        return Directions(strengths[:count], reads[:, :count], moves[:, :count])


@dataclass(frozen=True)
class Products:
    """The inner products of n updates, block by block, as each of them sees the others.

    `seen` has shape (blocks, n, n, n): [b, i, j, k] is <M_ij, M_ik>. `reads` and `moves`, of shape (blocks, n, n), are
    the mean squared cosines of the principal angles between inputs and between outputs, NaN where one of both has no
    such block or the method has no such spaces; `chance`, of shape (blocks, 2, n, n), what random directions of as many
    dimensions would have.
    """

    blocks: tuple[str, ...]
    seen: Float64Array
    reads: Float64Array
    moves: Float64Array
    chance: Float64Array

    @property
    def count(self) -> int:
        """How many updates there are."""
        return int(self.seen.shape[1])

    @cached_property
    def cross(self) -> Float64Array:
        """<W_i, W_j> in each block, of shape (blocks, n, n)."""
        own = np.arange(self.count)
        return np.asarray(self.seen[:, own, own, :])

    @cached_property
    def summed(self) -> tuple[Float64Array, Float64Array]:
        """`seen` and `cross` over all blocks."""
        return self.seen.sum(axis=0), self.cross.sum(axis=0)

    @cached_property
    def means(self) -> tuple[Float64Array, Float64Array, Float64Array]:
        """`reads`, `moves` and `chance` on average over the blocks where they are known, NaN where they are nowhere."""
        return _mean(self.reads), _mean(self.moves), _mean(self.chance)

    def by_layer(self) -> dict[str, Products]:
        """The products of each layer alone."""
        layers = [layer_of(name) for name in self.blocks]
        rows = {layer: [at for at, one in enumerate(layers) if one == layer] for layer in dict.fromkeys(layers)}
        return {
            layer: Products(
                tuple(self.blocks[at] for at in places),
                self.seen[places],
                self.reads[places],
                self.moves[places],
                self.chance[places],
            )
            for layer, places in rows.items()
        }


def products(embeddings: Sequence[TaskEmbedding]) -> Products:
    """The inner products of the updates of embeddings of one space whose updates add up (`blend`).

    Raises
    ------
    SpaceMismatch
        For embeddings of two spaces, or blocks of different shapes.
    FormatError
        For an update that is all zero or too large to measure.
    TupateHubError
        For more than `MOST_UPDATES`.
    WorkFailed
        When they have so many blocks that the inner products would fill the memory.
    """
    if len(embeddings) > MOST_UPDATES:
        raise TupateHubError(f"{len(embeddings)} updates are too many to compare all at once: at most {MOST_UPDATES}.")
    pack(embeddings)  # refuses what has no direction, and what does not fit together
    names, count = shared_names(embeddings), len(embeddings)
    if (size := 8 * len(names) * count**3) > MOST_BYTES:
        raise WorkFailed(
            f"To compare {count} updates of {len(names)} blocks takes {size / 1e9:.0f} GB of memory; at most "
            f"{MOST_BYTES / 1e9:.0f} are used.",
            hint="compare fewer at once",
        )
    seen = np.zeros((len(names), count, count, count))
    reads, moves = (np.full((len(names), count, count), np.nan) for _ in range(2))
    chance = np.full((len(names), 2, count, count), np.nan)
    for row, name in enumerate(names):
        blocks = {at: one.by_name[name] for at, one in enumerate(embeddings) if name in one.by_name}
        found = {at: Directions.of(_factors(block)) for at, block in blocks.items()}
        low_rank = next(iter(blocks.values())).form == "lowrank"
        for i, mine in found.items():
            views = np.zeros((count, len(mine.strengths) ** 2))
            for j, other in found.items():
                reading, moving = mine.reads.T @ other.reads, mine.moves.T @ other.moves
                views[j] = ((moving * other.strengths) @ reading.T).ravel()
                if low_rank and min(reading.shape):
                    fewer, more = min(reading.shape), max(reading.shape)
                    reads[row, i, j] = np.square(reading).sum() / fewer
                    moves[row, i, j] = np.square(moving).sum() / fewer
                    chance[row, :, i, j] = more / len(mine.reads), more / len(mine.moves)
            seen[row, i] = views @ views.T
    return Products(names, seen, reads, moves, chance)


def _factors(block: Block) -> Factors:
    return get_similarity(DEFAULT).features(block, None)


@dataclass(frozen=True)
class Interference:
    """What a weighted sum does to each of its n updates, and each pair of them to one another.

    Of each update, of shape (n,): `norms`; `survives`, the share of it that is in the sum, <sum, W_i> / <W_i, W_i>,
    which may be negative; `disturbed`, how much else the sum puts where it acts, the norm of sum_{j != i} w_j M_ij
    without its part along W_i, by the norm of W_i; `distance`, the norm of sum - W_i by that of W_i. The last three are
    NaN of an update of which a layer has nothing. Of each pair, of shape (n, n): `cosines`, the overlaps `reads` and
    `moves`, and of these, in `chance`, what random directions would have. `norm` is that of the sum, and `unrelated`
    what it would be if no two updates had anything in common.
    """

    weights: Float64Array
    norms: Float64Array
    survives: Float64Array
    disturbed: Float64Array
    distance: Float64Array
    cosines: Float64Array
    reads: Float64Array
    moves: Float64Array
    chance: Float64Array
    norm: float
    unrelated: float

    @property
    def total(self) -> float:
        """The disturbance of all: the root of the mean square of `disturbed`."""
        known = self.disturbed[np.isfinite(self.disturbed)]
        return float(np.sqrt(np.square(known).mean())) if len(known) else float("nan")


def interference(known: Products, weights: Sequence[float] | Float64Array) -> Interference:
    """What the sum with these weights, one for each update, does to them.

    Raises
    ------
    TupateHubError
        When there are not as many weights as updates, or one is not a number or above `MOST_WEIGHT`.
    """
    shares = np.asarray(weights, dtype=np.float64)
    if shares.shape != (known.count,) or not (np.abs(shares) <= MOST_WEIGHT).all():
        given = shares.ravel()[:8].tolist()
        raise TupateHubError(f"{known.count} updates need as many weights of at most {MOST_WEIGHT:,.0f}, not {given}.")
    (seen, cross), (reads, moves, chance) = known.summed, known.means
    squares = np.diag(cross)
    there = np.where(squares > 0, squares, np.nan)
    along = cross @ shares / there - shares  # of each update, what the others add to its own share
    others = np.tile(shares, (known.count, 1))
    np.fill_diagonal(others, 0.0)
    inside = np.einsum("ij,ijk,ik->i", others, seen, others)
    across = np.maximum(inside - np.square(along) * squares, 0)
    whole = float(shares @ cross @ shares)
    apart = whole - 2 * (cross @ shares) + squares
    return Interference(
        weights=shares,
        norms=np.sqrt(squares),
        survives=along + shares,
        disturbed=np.sqrt(across / there),
        distance=np.sqrt(np.maximum(apart, 0) / there),
        cosines=divided(cross, np.sqrt(np.outer(squares, squares))),
        reads=reads,
        moves=moves,
        chance=chance,
        norm=float(np.sqrt(max(0.0, whole))),
        unrelated=float(np.sqrt(np.square(shares) @ squares)),
    )


def _mean(values: Float64Array) -> Float64Array:
    """The mean over blocks of what is known there; NaN where nothing is."""
    known = np.isfinite(values)
    counts = known.sum(axis=0)
    return np.where(counts > 0, np.where(known, values, 0).sum(axis=0) / np.maximum(counts, 1), np.nan)


def equal_shares(known: Products, chosen: Sequence[int] | None = None) -> Float64Array:
    """Weights with which each of the chosen updates survives whole in their sum, 0 for the others.

    The smallest such sum: K w = diag(K), for the kernel K of the updates. What has nothing in common gets 1, whatever
    its norm, and n copies of one update get 1 / n each. Where the others bring along more of an update than there is of
    it, the solution is negative, and cut at 0.
    """
    rows = list(range(known.count)) if chosen is None else list(chosen)
    cross = known.summed[1][np.ix_(rows, rows)]
    norms = np.sqrt(np.diag(cross))
    solved = np.linalg.lstsq(cross / np.outer(norms, norms), norms, rcond=_SAME)[0] / norms
    weights = np.zeros(known.count)
    weights[rows] = np.maximum(solved, 0)
    return weights
