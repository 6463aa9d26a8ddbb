"""Generated adapters with real spectra: noise on the bundled zoo's LoRA, in families, alike wherever they are made.

A family is a task that several people tuned on: a LoRA of the zoo, of which the value projections are taken, with noise
of half the size of its own numbers. Its twenty members have noise of .2 to 1 times that size on top. The noise is put
on the factors A and B, which keeps the rank of 8 and the shape of the spectra. Family f is made of the seed (SEED, f)
alone, so that any part of a million adapters can be made again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tupate_hub import Zoo
from tupate_hub.arrays import Float32Array
from tupate_hub.embedding import Block, TaskEmbedding

SEED, FAMILY = 17, 20
SPACE = "all-MiniLM-L6-v2/lora"
_CENTRE, _LEAST, _MOST = 0.5, 0.2, 1.0


@dataclass(frozen=True)
class Generated:
    """The adapters that are made of a zoo's LoRA; number n is member n mod 20 of family n // 20."""

    root: Path

    @cached_property
    def sources(self) -> list[TaskEmbedding]:
        """The zoo's own, their value projections alone."""
        whole = Zoo.open(self.root).load_space(SPACE)
        return [
            TaskEmbedding(one.task, one.space, tuple(block for block in one.blocks if "value" in block.name))
            for one in whole
        ]

    def family(self, number: int) -> list[TaskEmbedding]:
        """The members of a family."""
        rng = np.random.default_rng((SEED, number))
        source = self.sources[int(rng.integers(len(self.sources)))]
        levels = rng.uniform(_LEAST, _MOST, FAMILY).astype(np.float32)[:, None, None]
        parts: list[dict[str, Float32Array]] = []
        for block in source.blocks:
            parts.append({})
            for name, array in block.parts.items():
                centre = _noisy(array, np.float32(_CENTRE) * array.std(), rng.standard_normal(array.shape, "f4"))
                noise = rng.standard_normal((FAMILY, *array.shape), "f4")
                parts[-1][name] = _noisy(centre, levels * array.std(), noise) / np.sqrt(1 + levels**2)
        return [
            TaskEmbedding(
                f"g{number * FAMILY + at:07d}-{source.task}",
                source.space,
                tuple(
                    Block(block.name, {name: array[at] for name, array in own.items()}, block.scale)
                    for block, own in zip(source.blocks, parts, strict=True)
                ),
            )
            for at in range(FAMILY)
        ]

    def first(self, count: int) -> Iterator[TaskEmbedding]:
        """Numbers 0 to `count`."""
        for number in range(-(-count // FAMILY)):
            yield from self.family(number)[: count - number * FAMILY]


def _noisy(array: Float32Array, size: Float32Array, noise: Float32Array) -> Float32Array:
    return np.asarray(array + size * noise, dtype=np.float32)
