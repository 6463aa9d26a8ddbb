"""Similarity: the catalogue of inner products between blocks.

For two embeddings x, y of one space and blocks b,

    k(x, y) = sum_b k_b(x_b, y_b)          score = k(x, y) / sqrt(k(x, x) k(y, y))

A block that one side lacks was not changed by it and contributes nothing. Every similarity is a feature map: it turns a
block into the factors of a low-rank update, and k_b is the Frobenius inner product of the updates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tupate_hub.compare.input_covariance import InputCovariance
from tupate_hub.compare.lowrank import Factors
from tupate_hub.embedding import Block
from tupate_hub.errors import SpaceMismatch, UnknownName


@dataclass(frozen=True)
class Similarity:
    """A named inner product: `features` maps a block to the factors whose update it compares.

    `needs_input_covariance` says whether it asks for the covariance of the base model's inputs as well, and
    `needs_subspace` whether it compares coordinates in an intrinsic subspace, which stand in for the parameters. A
    `variant` is one of another similarity, which is used where it is asked for by name.
    """

    name: str
    features: Callable[[Block, InputCovariance | None], Factors]
    summary: str
    needs_input_covariance: bool = False
    needs_subspace: bool = False
    variant: bool = False


def _every_number(block: Block, covariance: InputCovariance | None) -> Factors:
    return Factors.of_vector(np.concatenate([array.ravel() for array in block.parts.values()]))


def _flattened(block: Block, covariance: InputCovariance | None) -> Factors:
    if block.form == "rows":
        return Factors.of_vector(block.parts["rows"].mean(axis=0))
    return _every_number(block, covariance)


def _update(block: Block, covariance: InputCovariance | None) -> Factors:
    parts = block.parts
    if block.form == "lowrank":
        return Factors(parts["A"], block.scale * parts["B"].T)
    if block.form == "bottleneck":
        return _affine(block)
    if block.form == "scaling":
        return Factors.of_vector(parts["scaling"] - np.float32(1))
    if block.form == "rows":
        return Factors.of_vector(parts["rows"].mean(axis=0))
    (vector,) = parts.values()
    return Factors.of_vector(block.scale * vector)


def _affine(block: Block) -> Factors:
    """X -> s (up (down x + down_bias) + up_bias) as factors over [x; 1]: hidden units may be permuted and rescaled."""
    parts = block.parts
    hidden, width = parts["down"].shape
    a = np.zeros((hidden + 1, width + 1), dtype=np.float32)
    a[:hidden, :width] = parts["down"]
    a[:hidden, width] = parts["down_bias"]
    a[hidden, width] = 1
    return Factors(a, np.float32(block.scale) * np.concatenate([parts["up"].T, parts["up_bias"][None, :]]))


def _effect(block: Block, covariance: InputCovariance | None) -> Factors:
    """Updates of weights as what they do to the base model's own inputs: tr(W C W'ᵀ) = <W R, W' R>, C = R Rᵀ."""
    factors = _update(block, covariance)
    if covariance is None or block.form != "lowrank":
        return factors
    root = covariance.root(block.name)
    if factors.a.shape[1] != len(root):
        raise SpaceMismatch(f"Block {block.name!r} has {factors.a.shape[1]} inputs, the base model's has {len(root)}.")
    return Factors(factors.a @ root, factors.bt)


SIMILARITIES: Mapping[str, Similarity] = {
    similarity.name: similarity
    for similarity in (
        Similarity("update", _update, "cosine of the changes that the parameters make, whatever their coordinates"),
        Similarity(
            "tupate",
            _flattened,
            "cosine of the flattened parameters (Zhou et al., EMNLP 2022); of prompts and prefixes the positions' mean",
        ),
        Similarity(
            "tupate-flat", _every_number, "tupate, with prompts and prefixes flattened as in the paper", variant=True
        ),
        Similarity(
            "effect", _effect, "update, weighed by the base model's own activations", needs_input_covariance=True
        ),
        Similarity(
            "intrinsic", _flattened, "cosine of coordinates in the space's intrinsic subspace", needs_subspace=True
        ),
    )
}
DEFAULT = "update"
#: Those that compare the parameters themselves, number by number.
COORDINATES = ("tupate", "tupate-flat")


def get_similarity(name: str) -> Similarity:
    """The similarity of that name.

    Raises
    ------
    UnknownName
        Listing the known similarities.
    """
    if name not in SIMILARITIES:
        raise UnknownName(f"Unknown similarity {name!r}.", hint="known: " + ", ".join(SIMILARITIES))
    return SIMILARITIES[name]


def available(has_input_covariance: bool, has_subspace: bool = False) -> tuple[str, ...]:
    """The names of the similarities that a space allows, by whether it has statistics of its base and a subspace.

    Variants are not among them.
    """
    return tuple(
        similarity.name
        for similarity in SIMILARITIES.values()
        if (has_input_covariance or not similarity.needs_input_covariance)
        and (has_subspace or not similarity.needs_subspace)
        and not similarity.variant
    )
