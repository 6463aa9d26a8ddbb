"""Blends, against sums of updates formed in full."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import bottleneck, lora, lora_block, prompt, single
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.compare.blend import blend
from tupate_hub.embedding import Block, TaskEmbedding, make_block, order_blocks
from tupate_hub.errors import FormatError, SpaceMismatch, TupateHubError
from tupate_hub.export import export

seeds = st.integers(0, 2**32 - 1)
weight_lists = st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3)


def full(block: Block) -> np.ndarray:
    """A LoRA block's update itself, of shape (out, in), in float64."""
    return block.scale * block.parts["B"].astype(np.float64) @ block.parts["A"].astype(np.float64)


def updates(embedding: TaskEmbedding) -> dict[str, np.ndarray]:
    return {block.name: full(block) for block in embedding.blocks}


def assert_close(found: TaskEmbedding, expected: dict[str, np.ndarray]) -> None:
    """Float32 factors: to six digits of the largest entry at hand."""
    assert set(found.by_name) == set(expected)
    size = max(1.0, *(np.abs(one).max() for one in expected.values()))
    for name, update in updates(found).items():
        np.testing.assert_allclose(update, expected[name], rtol=0, atol=2e-5 * size)


def three(seed: int) -> list[TaskEmbedding]:
    """Sources of rank 1, 2 and 2 and of different scales."""
    return [lora("a", seed, 1, scale=2.0), lora("b", seed + 1, 2, scale=0.5), lora("c", seed + 2, 2, scale=2.0)]


@given(seeds, st.integers(1, 4))
def test_of_one_it_is_that_one(seed: int, rank: int) -> None:
    one = lora("a", seed, rank)
    found = blend([one])
    assert_close(found, updates(one))
    assert (found.task, found.space) == ("a", one.space)
    assert found.facts["blend"]["kept"] == pytest.approx(1)
    assert {(block.parts["A"].shape[0], block.scale) for block in found.blocks} == {(rank, 2.0)}


@given(seeds, weight_lists)
def test_with_room_for_all_ranks_it_is_the_weighted_sum(seed: int, weights: list[float]) -> None:
    sources = three(seed)
    expected = {
        name: sum(weight * updates(one)[name] for weight, one in zip(weights, sources, strict=True))
        for name in sources[0].by_name
    }
    found = blend(sources, weights, rank=5)
    assert_close(found, expected)
    assert found.facts["blend"]["kept"] == pytest.approx(1)


@given(seeds)
def test_without_weights_it_is_the_average(seed: int) -> None:
    sources = three(seed)
    assert_close(blend(sources, rank=5), updates(blend(sources, [1 / 3] * 3, rank=5)))
    assert blend(sources).facts["blend"]["weights"] == [1 / 3] * 3


@given(seeds)
def test_the_order_of_the_sources_does_not_matter(seed: int) -> None:
    sources = three(seed)
    found = blend([sources[2], sources[0], sources[1]])
    assert_close(found, updates(blend(sources)))
    assert found.facts["blend"]["kept"] == pytest.approx(blend(sources).facts["blend"]["kept"])


@given(seeds, st.sampled_from([-3.0, 0.1, 4.0]))
def test_weights_scale_the_update(seed: int, factor: float) -> None:
    sources = three(seed)
    scaled = blend(sources, [factor, factor, factor])
    assert_close(scaled, {name: factor * update for name, update in updates(blend(sources, [1, 1, 1])).items()})


@given(seeds, st.integers(1, 4))
def test_the_truncation_is_the_best_of_its_rank(seed: int, rank: int) -> None:
    """Eckart and Young: what is lost are the smallest singular values, of the full sum formed here."""
    sources = three(seed)
    whole = {name: sum(updates(one)[name] for one in sources) / 3 for name in sources[0].by_name}
    found = blend(sources, rank=rank)
    lost = total = 0.0
    for name, update in updates(found).items():
        squares = np.linalg.svd(whole[name], compute_uv=False) ** 2
        assert np.square(whole[name] - update).sum() == pytest.approx(squares[rank:].sum(), abs=1e-4 * squares.sum())
        assert found.by_name[name].parts["A"].shape[0] == rank
        lost, total = lost + squares[rank:].sum(), total + squares.sum()
    assert found.facts["blend"]["kept"] == pytest.approx(1 - lost / total, abs=1e-5)


@given(seeds)
def test_the_coordinates_of_the_sources_do_not_matter(seed: int) -> None:
    """Ranks permuted, and (B R, R^-1 A) for (B, A)."""
    rng = np.random.default_rng(seed)
    sources = three(seed)
    change = np.linalg.qr(rng.standard_normal((2, 2)))[0] @ np.diag(rng.uniform(0.5, 2, 2))
    moved = [
        make_block(
            block.name,
            {"A": np.linalg.inv(change) @ block.parts["A"], "B": block.parts["B"] @ change},
            block.scale,
        )
        for block in sources[1].blocks
    ]
    flipped = [
        make_block(block.name, {"A": block.parts["A"][::-1], "B": block.parts["B"][:, ::-1]}, block.scale)
        for block in sources[2].blocks
    ]
    again = [sources[0], replace(sources[1], blocks=tuple(moved)), replace(sources[2], blocks=tuple(flipped))]
    assert_close(blend(again, rank=5), updates(blend(sources, rank=5)))


def test_the_rank_and_scale_are_the_sources() -> None:
    found = blend(three(3))
    assert {block.parts["A"].shape for block in found.blocks} == {(2, 6)}
    assert {block.scale for block in found.blocks} == {1.5}  # their mean
    assert blend([lora("a", 1, scale=1 / 3), lora("b", 2, scale=1 / 3)]).blocks[0].scale == 1 / 3
    assert found.facts["blend"]["of"] == ["a", "b", "c"]
    assert (found.task, found.facts["blend"]["rank"]) == ("a+b+c", 2)
    assert 0.3 < found.facts["blend"]["kept"] < 0.999


@given(seeds)
def test_its_rows_are_as_long_as_those_of_its_sources(seed: int) -> None:
    sources = [lora("a", seed, 2), lora("b", seed + 1, 2)]
    for block in blend(sources).blocks:
        rows = np.concatenate([one.by_name[block.name].parts["A"] for one in sources])
        gram = block.parts["A"] @ block.parts["A"].T
        np.testing.assert_allclose(gram, np.eye(2) * np.square(rows).sum() / 4, rtol=1e-4, atol=1e-4)


def test_a_rank_of_no_effect_can_still_learn() -> None:
    """Of twice the same source only its own ranks have an effect; A of the others is not zero, B is."""
    one = lora("a", 1, 2)
    (block, *_) = blend([one, one], rank=4).blocks
    np.testing.assert_allclose(block.parts["B"][:, 2:], 0, atol=1e-6)
    assert (np.linalg.norm(block.parts["A"], axis=1) > 1).all()


def test_a_block_that_one_source_lacks_is_unchanged_there() -> None:
    whole, half = lora("a", 1), lora("b", 2)
    half = replace(half, blocks=half.blocks[:2])
    found = updates(blend([whole, half], rank=4))
    assert set(found) == set(whole.by_name)
    np.testing.assert_allclose(found["layer.1.value"], updates(whole)["layer.1.value"] / 2, atol=1e-5)


def test_more_rank_than_there_is_stays_empty() -> None:
    found = blend([lora("a", 1, 1)], rank=3)
    assert {block.parts["A"].shape for block in found.blocks} == {(3, 6)}
    assert_close(found, updates(lora("a", 1, 1)))


def test_a_sum_of_nothing_is_nothing() -> None:
    one = lora("a", 1)
    found = blend([one, one], [1, -1])
    assert all(np.abs(update).max() < 1e-5 for update in updates(found).values())


# --- other methods ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "method", "first", "second", "expected"),
    [
        ("bias", "bitfit", [1, 3], [3, -1], [2, 1]),
        ("scaling", "ia3", [1, 3], [2, 1], [1.5, 2]),
        ("vector", "paper", [1, 3], [3, -1], [2, 1]),
    ],
)
def test_updates_that_add_up_are_averaged(part, method, first, second, expected) -> None:  # type: ignore[no-untyped-def]
    found = blend([single(name, part, np.array(values), method) for name, values in (("a", first), ("b", second))])
    np.testing.assert_allclose(found.blocks[0].parts[part], expected)
    assert (found.facts["blend"]["kept"], found.facts["blend"]["rank"]) == (1.0, None)


def test_a_scaling_that_one_source_lacks_is_one_there() -> None:
    first = TaskEmbedding("a", single("a", "scaling", np.ones(2), "ia3").space, order_blocks(
        [make_block("one", {"scaling": np.array([3.0])}), make_block("two", {"scaling": np.array([5.0])})]
    ))  # fmt: skip
    second = replace(first, task="b", blocks=first.blocks[:1])
    found = blend([first, second])
    assert [block.parts["scaling"].item() for block in found.blocks] == [3.0, 3.0]


@pytest.mark.parametrize("make", [prompt, bottleneck])
def test_methods_whose_updates_do_not_add_up_are_refused(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FormatError, match="has no average") as caught:
        blend([make("a", 1), make("b", 2)])
    assert "single one" in caught.value.hint


# --- what is refused -------------------------------------------------------------------------------------------


def test_another_space() -> None:
    with pytest.raises(SpaceMismatch, match="they do not blend"):
        blend([lora("a", 1), single("b", "bias", np.ones(3))])


def test_other_widths() -> None:
    wide = replace(lora("b", 2), blocks=(lora_block(np.random.default_rng(1), "layer.0.query", inner=7),))
    with pytest.raises(FormatError, match=r"'layer.0.query' has different shapes .*lowrank 5 6 and lowrank 5 7"):
        blend([lora("a", 1), wide])


@pytest.mark.parametrize("weights", [[1.0], [1.0, math.nan], [1.0, 2.0, 3.0], [math.inf, 1.0]])
def test_weights_that_are_none(weights: list[float]) -> None:
    with pytest.raises(TupateHubError, match="2 embeddings need as many finite weights"):
        blend([lora("a", 1), lora("b", 2)], weights)


def test_no_sources_and_no_rank() -> None:
    with pytest.raises(TupateHubError, match="at least one"):
        blend([])
    with pytest.raises(TupateHubError, match="0 is not a rank"):
        blend([lora("a", 1)], rank=0)


# --- what it keeps ---------------------------------------------------------------------------------------------


def test_facts_that_all_agree_on() -> None:
    architecture = {"hidden_size": 6}
    first = lora("a", 1, settings={"r": 2, "alpha": 4, "non_linearity": "relu"}, architecture=architecture)
    second = lora(
        "b", 2, settings={"r": 8, "alpha": 4, "non_linearity": "relu"}, architecture=architecture, licence="x"
    )
    found = blend([first, second]).facts
    assert set(found) == {"architecture", "settings", "blend"}
    assert (found["settings"], found["architecture"]) == ({"non_linearity": "relu"}, architecture)


def test_of_the_base_model_it_keeps_what_none_denies() -> None:
    """A task of the zoo names sizes, a stranger's file the attribute of the encoder."""
    ours = lora("a", 1, architecture={"model_type": "bert", "hidden_size": 6})
    theirs = lora("b", 2, architecture={"encoder": "bert", "hidden_size": 6})
    assert blend([ours, theirs]).facts["architecture"] == {"model_type": "bert", "hidden_size": 6, "encoder": "bert"}
    other = lora("c", 3, architecture={"model_type": "roberta"})
    assert blend([ours, theirs, other]).facts["architecture"] == {"hidden_size": 6, "encoder": "bert"}
    assert "architecture" not in blend([lora("a", 1, architecture="bert"), lora("b", 2)]).facts


def test_a_bias_beside_lora_is_in_the_units_of_its_block() -> None:
    """PEFT's `lora_bias`, which has one scale with the factors."""

    def biased(task: str, seed: int, scale: float) -> TaskEmbedding:
        one = lora(task, seed, scale=scale)
        values = np.random.default_rng(seed).standard_normal(5)
        biases = [make_block(f"{block.name}.bias", {"bias": values}, scale) for block in one.blocks]
        return replace(one, blocks=order_blocks([*one.blocks, *biases]))

    first, second = biased("a", 1, 3.0), biased("b", 2, 5.0)
    found = blend([first, second], [0.5, -1.0])
    for block in (block for block in found.blocks if block.form == "bias"):
        assert block.scale == found.by_name[block.name.removesuffix(".bias")].scale == 4.0
        mine, other = (one.by_name[block.name].parts["bias"] for one in (first, second))
        np.testing.assert_allclose(block.scale * block.parts["bias"], 1.5 * mine - 5 * other, rtol=1e-5)
    assert "adapter_model.safetensors" in export(found, "peft", bare=True)


def test_it_can_be_written_and_read_again() -> None:
    from tupate_hub.embedding import parse_embedding

    found = blend(three(5))
    assert parse_embedding(found.to_bytes("float32"), "blend").facts["blend"] == found.facts["blend"]
