"""InputCovariance: what the base model's own inputs look like at each place, to weigh an update by its effect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tupate_hub.arrays import Float32Array
from tupate_hub.errors import FormatError
from tupate_hub.storage.safetensors import TensorFile, load_tensorfile

SCHEMA = "tupate-hub-moments/1"

#: Added to each covariance, as a share of its mean eigenvalue: what a small text never visits counts a little.
_SHRINKAGE = 0.01


@dataclass(frozen=True)
class InputCovariance:
    """Uncentred covariance C = E[x xᵀ] of the inputs of a base model's weights, over the tokens of a probe text.

    `inputs` maps an input's name to C, of shape (in, in); `place` maps a block's name to the input that it reads
    (query, key and value of a layer read one input). `tokens` is how many were averaged.
    """

    base: str
    base_sha256: str
    tokens: int
    inputs: Mapping[str, Float32Array]
    place: Mapping[str, str]

    def root(self, block: str) -> Float32Array:
        """A matrix R with R Rᵀ = C + shrinkage for a block's input, of shape (in, in).

        Raises
        ------
        FormatError
            When nothing is known of the block's input, or what is known is not a covariance.
        """
        if block not in self.place:
            raise FormatError(
                f"Nothing is known of the inputs of {block!r} in {self.base}.", hint="`similarity='update'`"
            )
        return self._roots[self.place[block]]

    @cached_property
    def _roots(self) -> dict[str, Float32Array]:
        roots = {}
        for name, matrix in self.inputs.items():
            full = matrix.astype(np.float64)
            full += np.eye(len(full)) * (_SHRINKAGE * np.trace(full) / len(full))
            try:
                roots[name] = np.linalg.cholesky(full).astype(np.float32)
            except np.linalg.LinAlgError as error:
                raise FormatError(
                    f"What {self.base!r} reads at {name!r} is not a covariance: it is not positive.",
                    hint="measure it again: tupate-hub stats BASE_FOLDER",
                ) from error
        return roots

    def to_bytes(self) -> bytes:
        """The safetensors file: the upper triangle of each C in float32."""
        tensors = {name: matrix[np.triu_indices(len(matrix))] for name, matrix in self.inputs.items()}
        metadata = {
            "schema": SCHEMA,
            "base": self.base,
            "base_sha256": self.base_sha256,
            "tokens": str(self.tokens),
            "place": json.dumps(self.place, sort_keys=True),
        }
        return TensorFile(tensors, metadata).to_bytes()


def parse_input_covariance(data: bytes, where: str) -> InputCovariance:
    """Read a covariance from the bytes of its file.

    Raises
    ------
    FormatError
        When the file holds none, or numbers that cannot be one.
    """
    file = load_tensorfile(data, where)
    meta = file.metadata
    try:
        place = dict(json.loads(meta["place"]))
        tokens = int(meta["tokens"])
        known = meta["schema"] == SCHEMA and set(place.values()) <= set(file.tensors)
        inputs = {name: _square(array) for name, array in file.tensors.items()}
        covariance = InputCovariance(meta["base"], meta["base_sha256"], tokens, inputs, place)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"{where} is not a file of input covariances.") from error
    if not known or not all(np.isfinite(matrix).all() for matrix in inputs.values()):
        raise FormatError(f"{where} is not a {SCHEMA} file, or is damaged.")
    return covariance


def _square(triangle: Float32Array) -> Float32Array:
    width = int((np.sqrt(8 * triangle.size + 1) - 1) / 2)
    if triangle.ndim != 1 or not width or width * (width + 1) // 2 != triangle.size:
        raise ValueError("not a triangle")
    full = np.zeros((width, width), dtype=np.float32)
    full[np.triu_indices(width)] = triangle
    return np.asarray(full + np.triu(full, 1).T)
