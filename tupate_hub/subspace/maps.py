"""Maps: between the parameters of tasks and their coordinates in a subspace, and those that need no model to be found.

IPT (Qin et al. 2021, section 3.2): the encoder is one linear map; the decoder is linear, tanh, linear. Without tanh,
and with the reconstruction loss alone, the best maps are the principal components (Baldi and Hornik 1989).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from tupate_hub.arrays import Array, Float32Array, Float64Array
from tupate_hub.errors import FormatError

#: How far a coordinate's share of a hidden unit reaches at first, where tanh is nearly straight.
_GENTLE = 0.3


@dataclass(frozen=True)
class Linear:
    """x -> weight x + bias, with `weight` of shape (out, in) and `bias` of shape (out,)."""

    weight: Array
    bias: Array

    def __call__(self, x: Array) -> Float32Array:
        """The images of vectors of shape (n, in), of shape (n, out)."""
        return np.asarray(x @ self.weight.T.astype(np.float32) + self.bias.astype(np.float32), dtype=np.float32)


@dataclass(frozen=True)
class Maps:
    """An encoder from P parameters to D coordinates, and a decoder back: one layer, or two with tanh between them."""

    encoder: Linear
    decoder: tuple[Linear, ...]

    @property
    def dim(self) -> int:
        """D."""
        return int(self.encoder.weight.shape[0])

    @property
    def parameters(self) -> int:
        """P."""
        return int(self.encoder.weight.shape[1])

    def encode(self, x: Array) -> Float32Array:
        """Coordinates of shape (n, D) of parameters of shape (n, P)."""
        return self.encoder(x)

    def decode(self, codes: Array) -> Float32Array:
        """Parameters of shape (n, P) at coordinates of shape (n, D)."""
        first, *rest = self.decoder
        return reduce(lambda x, layer: layer(np.tanh(x)), rest, first(codes))


def pca(x: Array, dim: int, seed: int = 0) -> Maps:
    """The principal components of parameters of shape (n, P), scaled so that each coordinate has variance one.

    n parameters lie in n - 1 directions about their mean. What `dim` asks for beyond them are random directions
    orthogonal to all others, as long as the average component: those of unseen tasks have a share in them.

    Raises
    ------
    FormatError
        When there are fewer than two parameters, all are the same, or `dim` is not in 1 ... P.
    """
    mean = x.mean(axis=0, dtype=np.float64)
    if len(x) < 2 or not 1 <= dim <= x.shape[1]:
        raise FormatError(f"{len(x)} tasks of {x.shape[1]} parameters have no subspace of {dim} dimensions.")
    _, lengths, directions = np.linalg.svd(x - mean, full_matrices=False)
    spreads = lengths / np.sqrt(len(x))
    known = min(dim, int((spreads > 1e-6 * max(spreads[0], 1e-12)).sum()))
    if known == 0:
        raise FormatError("The parameters of all tasks are the same: they span nothing.")
    spread = np.concatenate([spreads[:known], np.full(dim - known, spreads[:known].mean())])
    basis = np.vstack([directions[:known], _orthogonal(directions[:known], dim - known, seed)])
    return linear_maps(mean, basis, spread)


def random_maps(origin: Array, spread: float, dim: int, seed: int = 0) -> Maps:
    """Random directions through `origin`, of shape (P,), each `spread` long: a control that knows no task."""
    nothing = np.zeros((0, len(origin)))
    return linear_maps(origin, _orthogonal(nothing, dim, seed), np.full(dim, spread))


def linear_maps(mean: Array, basis: Array, spread: Array) -> Maps:
    """The maps z = basis (x - mean) / spread, and back.

    `basis` has orthonormal rows and shape (D, P), `mean` (P,), `spread` (D,).
    """
    weight = basis / spread[:, None]
    decoder = Linear((basis * spread[:, None]).T.astype(np.float32), mean.astype(np.float32))
    return Maps(Linear(weight.astype(np.float32), (-weight @ mean).astype(np.float32)), (decoder,))


def with_tanh(maps: Maps, hidden: int, seed: int = 0) -> Maps:
    """Nearly the same maps with a decoder of linear, tanh, linear, `hidden` units wide: where MSF starts from.

    Coordinates of variance one reach so far into tanh that it is nearly straight; learning bends it.

    Raises
    ------
    FormatError
        When there are fewer hidden units than coordinates, or the decoder has tanh already.
    """
    if hidden < maps.dim or len(maps.decoder) != 1:
        raise FormatError(f"A decoder {hidden} units wide cannot hold {maps.dim} coordinates of a linear one.")
    spread = _orthogonal(np.zeros((0, hidden)), maps.dim, seed).T * _GENTLE * np.sqrt(hidden / maps.dim)
    (straight,) = maps.decoder
    out = straight.weight @ np.linalg.pinv(spread)
    first = Linear(spread.astype(np.float32), np.zeros(hidden, dtype=np.float32))
    return Maps(maps.encoder, (first, Linear(out.astype(np.float32), straight.bias)))


def _orthogonal(basis: Array, count: int, seed: int) -> Float64Array:
    """`count` random orthonormal rows, orthogonal to the rows of `basis`."""
    drawn = np.random.default_rng(seed).standard_normal((count, basis.shape[1]))
    drawn -= (drawn @ basis.T) @ basis
    return np.asarray(np.linalg.qr(drawn.T)[0].T)
