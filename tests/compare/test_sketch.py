"""Sketches: made as docs/sketch.md says, by arithmetic of another kind; estimates near the exact cosines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import bottleneck, dense, lora, prompt
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.compare.bits import cosines
from tupate_hub.compare.kernel import kernel, pack
from tupate_hub.compare.random_signs import key_of, mixed, sign_matrix, words
from tupate_hub.compare.sketch import (
    ENTRIES,
    PICTURES,
    SIDE,
    STARTS,
    Sketcher,
    Sketches,
    entries,
    hadamard_matrix,
    pairs_above,
)
from tupate_hub.embedding import TaskEmbedding, make_block

ROOT = Path(__file__).parents[2]


def mix(number: int) -> int:
    """As docs/sketch.md has it, with Python's own integers."""
    number ^= number >> 16
    number = number * 0x7FEB352D % 2**32
    number ^= number >> 15
    number = number * 0x846CA68B % 2**32
    return number ^ (number >> 16)


def word(text: str, number: int) -> int:
    key = 0x811C9DC5
    for byte in text.encode():
        key = (key ^ byte) * 0x01000193 % 2**32
    return mix((mix(number) + key) % 2**32)


@given(st.text(max_size=8), st.integers(0, 2**32 - 4))
def test_words_are_those_of_the_page(text: str, start: int) -> None:
    assert [*words(key_of(text), 3, start)] == [word(text, start + n) for n in range(3)]


def test_mixing_is_a_permutation_that_spreads_each_bit() -> None:
    numbers = np.arange(2**16, dtype=np.uint32)
    assert len(set(mixed(numbers).tolist())) == 2**16
    for bit in range(32):
        changed = mixed(numbers) ^ mixed(numbers ^ np.uint32(1 << bit))
        flipped = np.unpackbits(changed.view(np.uint8)).reshape(len(numbers), 32).mean(axis=0)
        assert abs(flipped - 0.5).max() < 0.13


def test_signs_are_those_of_the_page() -> None:
    found = sign_matrix("x", 64, 5)
    assert found.shape == (64, 5)
    for row, column in ((0, 0), (31, 1), (32, 1), (63, 4)):
        assert found[row, column] == (1 if word("x", 2 * column + row // 32) >> row % 32 & 1 else -1)
    assert abs(sign_matrix("y", 256, 1000).mean()) < 0.01
    apart = sign_matrix("block\0inputs", 256, 400).ravel() @ sign_matrix("block\0outputs", 256, 400).ravel()
    assert abs(apart) / (256 * 400) < 0.02


@pytest.mark.parametrize("size", [1, 2, 32])
def test_the_transform_is_the_one_of_walsh_and_hadamard(size: int) -> None:
    matrix = [[(-1.0) ** (row & column).bit_count() for column in range(size)] for row in range(size)]
    np.testing.assert_allclose(hadamard_matrix(size), np.array(matrix) / np.sqrt(size), atol=1e-6)


def signs(name: str, side: str, width: int) -> np.ndarray:
    """A block's signs, of shape (rows, width), as docs/sketch.md has them, number by number."""
    own, rows = key_of(f"{name}\0{side}"), PICTURES * SIDE
    shared = sign_matrix(f"\0{side}", rows, STARTS + width)[:, own % STARTS :][:, :width].astype(float)
    return shared * np.array([1 if word(f"{name}\0{side}", at) & 1 else -1 for at in range(width)])


def test_entries_are_those_of_the_full_product() -> None:
    one = lora("x", 4)
    expected = np.zeros((PICTURES, SIDE, SIDE))
    for name, w in dense(one).items():
        seen = signs(name, "outputs", w.shape[0]) @ w @ signs(name, "inputs", w.shape[1]).T
        for at in range(PICTURES):
            part = slice(SIDE * at, SIDE * (at + 1))
            expected[at] += seen[part, part] / 128
    (found,) = entries([one])
    np.testing.assert_allclose(found, expected.ravel(), atol=1e-5 * abs(expected).max())


def test_bits_are_the_signs_of_the_spread_entries() -> None:
    one = lora("x", 4)
    (found,) = entries([one])
    turns = np.array([1 if word("\0flips", at) & 1 else -1 for at in range(ENTRIES)])

    def transformed(values: np.ndarray) -> np.ndarray:
        size = 1
        while size < len(values):
            pairs = values.reshape(-1, 2, size)
            values = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).ravel()
            size *= 2
        return values / np.sqrt(len(values))

    expected = transformed(transformed(found) * turns)
    np.testing.assert_allclose(Sketcher().spread(found), expected, atol=1e-4 * abs(expected).max())
    sure = abs(expected) > 1e-3 * abs(expected).max()
    (bits,) = np.unpackbits(Sketches.of([one]).bits, axis=1)
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(bits[sure].astype(bool), expected[sure] > 0)


def test_one_of_many_is_sketched_as_it_is_alone() -> None:
    zoo = [lora(f"t{n}", n, rank=1 + n % 3, layers=1 + n % 2) for n in range(18)] + [prompt("p", 1)]
    together = Sketches.of(zoo).bits
    for row, one in enumerate(zoo):
        alone = Sketcher().sketch(one)
        assert (np.unpackbits(alone.bits) != np.unpackbits(together[row])).mean() < 1e-3  # entries that round to zero
    assert Sketcher().sketch(zoo[3]).task == "t3"


def test_the_first_bits_are_a_sketch_themselves() -> None:
    rng = np.random.default_rng(5)
    base = lora("x", 0, rank=4)
    zoo = []
    for number in range(20):
        share = rng.uniform(0, 1)
        blocks = tuple(
            make_block(b.name, {"A": np.concatenate([share * b.parts["A"], rng.standard_normal((2, 6))]),
                                "B": np.concatenate([b.parts["B"], rng.standard_normal((5, 2))], axis=1)})
            for b in base.blocks
        )  # fmt: skip
        zoo.append(replace(base, task=f"t{number}", blocks=blocks))
    bits = Sketches.of(zoo).bits
    whole = np.stack([cosines(row, bits) for row in bits])
    for count in (32, 256):
        part = np.ascontiguousarray(bits[:, :count])
        coarse = np.stack([cosines(row, part) for row in part])
        assert abs(coarse - whole).mean() < 1.1 * np.pi / 2 / np.sqrt(8 * count)


@pytest.mark.parametrize("make", [lora, bottleneck, prompt])
def test_a_factor_changes_the_norm_alone(make: Any) -> None:
    one = make("x", 1)
    louder = replace(one, blocks=tuple(replace(block, scale=4 * block.scale) for block in one.blocks))
    if make is prompt:
        louder = replace(one, blocks=tuple(replace(b, parts={"rows": 4 * b.parts["rows"]}) for b in one.blocks))
    found = Sketches.of([one, louder])
    assert (np.unpackbits(found.bits[0]) != np.unpackbits(found.bits[1])).mean() < 1e-3
    assert found.norms[1] == pytest.approx(4 * found.norms[0])


def test_estimates_are_near_across_ranks_and_blocks() -> None:
    rng = np.random.default_rng(0)
    base = [rng.standard_normal((2, 8, 40)) for _ in range(3)]
    zoo = []
    for number in range(24):
        blocks = []
        for at in range(3 if number % 3 else 2):
            share = rng.uniform(0, 1)
            own = rng.standard_normal((2, 2 + number % 5, 40))
            a, b = (np.concatenate([share * base[at][side], own[side]]) for side in (0, 1))
            blocks.append(make_block(f"layer.{at}.value", {"A": a, "B": b.T}))
        zoo.append(TaskEmbedding(f"t{number}", lora("x", 0).space, tuple(blocks)))
    packed = pack(zoo)
    exact = kernel(packed, packed).scores()
    sketches = Sketches.of(zoo)
    told = np.stack([sketches.cosines(row) for row in range(len(zoo))])
    above = np.triu_indices(len(zoo), 1)
    assert abs(told - exact)[above].mean() < 0.02  # of three blocks with few directions; of the zoo's twelve .011
    assert np.corrcoef(told[above], exact[above])[0, 1] > 0.98
    np.testing.assert_allclose(sketches.norms, np.sqrt(np.diag(kernel(packed, packed).cross.sum(axis=0))), rtol=1e-5)


def test_vectors_with_few_large_numbers_are_no_worse() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((12, 300))
    vectors[:, :3] *= 40
    zoo = [
        TaskEmbedding(f"t{n}", lora("x", 0).space, (make_block("b", {"vector": row}),)) for n, row in enumerate(vectors)
    ]
    exact = np.corrcoef(vectors) * 0 + (vectors @ vectors.T) / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    told = np.stack([Sketches.of(zoo).cosines(row) for row in range(12)])
    assert abs(told - exact).mean() < 0.015


def test_pairs_are_found_among_many() -> None:
    zoo = [lora(f"t{n}", n) for n in range(600)]
    near = {3: 500, 299: 301, 10: 11}
    for first, second in near.items():
        other = zoo[second]
        mixed_blocks = tuple(
            make_block(a.name, {"A": np.concatenate([a.parts["A"], 0.1 * b.parts["A"]]),
                                "B": np.concatenate([a.parts["B"], 0.1 * b.parts["B"]], axis=1)})
            for a, b in zip(zoo[first].blocks, other.blocks, strict=True)
        )  # fmt: skip
        zoo[second] = replace(other, blocks=mixed_blocks)
    found = {pair for pair in Sketches.of(zoo).pairs_above(0.98)}
    assert set(near.items()) <= found
    assert len(found) < 20


def test_without_numpys_own_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = np.random.default_rng(0).integers(0, 256, (3, 2048), dtype=np.uint8)
    expected = [np.cos(np.pi * (np.unpackbits(bits[0]) != np.unpackbits(row)).mean()) for row in bits]
    np.testing.assert_allclose(cosines(bits[0], bits), expected, atol=1e-12)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    np.testing.assert_allclose(cosines(bits[0], bits), expected, atol=1e-12)
    assert Sketches.of([]).bits.shape == (0, 2048)


@pytest.mark.parametrize("cosine", [0.95, 0.4])
def test_pairs_above_are_all_of_them(cosine: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """In tiles of any size, each pair once."""
    from tupate_hub.compare import sketch

    rng = np.random.default_rng(2)
    base = rng.integers(0, 256, (5, 2048), dtype=np.uint8)
    bits = np.repeat(base, 8, axis=0)
    bits ^= np.packbits(rng.random((40, 16384)) < np.linspace(0, 0.3, 40)[:, None], axis=1)
    expected = {
        (row, column)
        for row in range(40)
        for column in range(row + 1, 40)
        if cosines(bits[row], bits[column][None])[0] >= cosine - 3 * sketch.MEAN_ERROR
    }
    assert expected
    monkeypatch.setattr(sketch, "_ROWS", 7)
    monkeypatch.setattr(sketch, "_COLUMNS_AT_ONCE", 9)
    found = list(pairs_above(bits, cosine))
    assert len(found) == len(set(found))
    assert set(found) == expected
