"""The arithmetic of LoRA's files: patterns as PEFT matches them, scales, grouped factors, the activations of prefixes."""

from __future__ import annotations

import time
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.errors import FormatError
from tupate_hub.readers.lowrank import expand_groups, pair, parse_patterns, scale_of
from tupate_hub.readers.prefix import flatten_prefix, prefix_blocks
from tupate_hub.readers.source import Source

MODULES = [
    "bert.encoder.layer.0.attention.self.query",
    "bert.encoder.layer.10.attention.self.query",
    "bert.encoder.layer.1.attention.self.value",
    "bert.encoder.layer.1.output.dense",
    "bert.encoder.layer.1.attention.output.dense",
    "model.layers.3.self_attn.q_proj",
    "query",
    "my_query",
]
PATTERNS = [
    "query",
    "self.query",
    "output.dense",
    "attention.output.dense",
    r"layer\.1\.output\.dense",
    r"layer\.\d+\.attention\.self\.query",
    r"layer.[0-9]+.attention.self.query",
    "^query",
    "^bert.encoder.layer.1.output.dense",
    r"^bert\.encoder\.layer\.\d+\.output\.dense",
    r".*\.query",
    ".*query",
    ".*layer.1.attention.self.value",
    r".*layers\.\d+\.self_attn\.q_proj",
    r".*\.ayer\.\d+\.output\.dense",
    r".*\.layer\.\d+\.output\.dense",
    "query$",
    "nothing",
]


def source(**config: object) -> Source:
    return Source(Path("a"), Path("a/adapter_model.safetensors"), config, {})


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_matches_what_it_matches_in_peft(pattern: str) -> None:
    other = pytest.importorskip("peft.utils.other")
    read = parse_patterns(source(alpha_pattern={pattern: 5}), "alpha_pattern")
    for module in MODULES:
        matched = other.get_pattern_key([pattern], module) == pattern
        # PEFT answers with the module itself where nothing matches, which a pattern of that very name cannot show.
        assert (read.get(module, 0.0) == 5.0) == (matched or pattern == module), module


@pytest.mark.parametrize(
    "order", list(permutations(["query", r".*\.self.query", r"layer\.\d+\.attention\.self\.query"]))
)
def test_the_first_pattern_that_matches_counts(order: tuple[str, ...]) -> None:
    alphas = {pattern: number for number, pattern in enumerate(order, start=1)}
    read = parse_patterns(source(alpha_pattern=alphas), "alpha_pattern")
    assert read.get(MODULES[0], 0.0) == 1.0
    assert read.get(MODULES[-1], 0.5) == 0.5


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(q|qq)*", "a{9}{9}{9}", "[^a]+", "q?" * 30 + "q" * 30, "", "a..b", ".*.*.*x"]
)
def test_an_expression_that_may_take_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(FormatError, match="is not read"):
        parse_patterns(source(alpha_pattern={pattern: 1}), "alpha_pattern")


def test_many_patterns_on_many_modules_stay_quick() -> None:
    alphas: dict[str, float] = {f"layer.{number}.attention.self.query": number + 1 for number in range(3000)}
    alphas |= {"x" + r".\d+" * 40 + f".end{number}": 1 for number in range(64)}
    begin = time.process_time()
    read = parse_patterns(source(alpha_pattern=alphas), "alpha_pattern")
    values = [read.get(f"bert.layer.{number}.attention.self.query", 0.0) for number in range(3000)]
    read.get("x" + ".1" * 245, 0.0)
    assert values == [float(number + 1) for number in range(3000)]
    assert time.process_time() - begin < 5


@given(st.integers(1, 64), st.floats(0.1, 100))
def test_scales(rank: int, alpha: float) -> None:
    assert scale_of(alpha, rank) == pytest.approx(alpha / rank)
    assert scale_of(alpha, rank, rank_stabilised=True) ** 2 == pytest.approx(alpha**2 / rank)


@given(st.lists(st.booleans(), min_size=1, max_size=4).filter(any), st.integers(1, 3), st.integers(1, 4), st.booleans())
def test_grouped_factors_are_the_groups_products_in_their_places(
    enabled: list[bool], rank: int, width: int, convolution: bool
) -> None:
    draw, groups = np.random.default_rng(0), sum(enabled)
    a = draw.normal(size=(groups * rank, 5)).astype(np.float32)
    b = draw.normal(size=(groups * width, rank)).astype(np.float32)
    wide, tall = expand_groups(source(), "c_attn", {"A": a, "B": b[:, :, None] if convolution else b}, enabled)
    rows = (tall @ wide).reshape(len(enabled), width, 5)
    group = 0
    for on, found in zip(enabled, rows, strict=True):
        if not on:
            assert not found.any()
            continue
        wanted = b[group * width : (group + 1) * width] @ a[group * rank : (group + 1) * rank]
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        group += 1


@pytest.mark.parametrize(
    ("a", "b", "enabled"),
    [
        ((4, 5), (6, 3), [True, True]),
        ((4, 5), (7, 2), [True, True]),
        ((4, 5), (6, 2), [False, False]),
        ((4, 5), (6, 2), []),
        ((4, 5), (6, 2, 2), [True, True]),
        ((0, 5), (6, 0), [True, True]),
        ((4,), (6, 2), [True, True]),
        ((10, 5), (10, 2), [True] * 5),
    ],
)
def test_groups_that_do_not_divide(a: tuple[int, ...], b: tuple[int, ...], enabled: list[bool]) -> None:
    with pytest.raises(FormatError, match="fused LoRA"):
        expand_groups(source(), "c_attn", {"A": np.ones(a, np.float32), "B": np.ones(b, np.float32)}, enabled)
    with pytest.raises(FormatError, match="without its lora_B"):
        expand_groups(source(), "c_attn", {"A": np.ones((2, 2), np.float32)}, [True])


def test_a_convolution_with_a_spread_second_half_is_no_pair() -> None:
    a, b = np.ones((2, 3, 3, 3), np.float32), np.ones((8, 2, 1, 1), np.float32)
    flat = pair(source(), "conv", {"A": a, "B": b})
    assert (flat[0].shape, flat[1].shape) == ((2, 27), (8, 2))
    with pytest.raises(FormatError, match="do not fit together"):
        pair(source(), "conv", {"A": a, "B": np.ones((8, 2, 3, 3), np.float32)})


def network(n: int = 3, d: int = 4, hidden: int = 5, out: int = 8) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    shapes = {
        "wte.weight": (n, d),
        "control_trans.0.weight": (hidden, d),
        "control_trans.0.bias": (hidden,),
        "control_trans.2.weight": (out, hidden),
        "control_trans.2.bias": (out,),
    }
    return {name: draw.normal(size=shape).astype(np.float32) * 3 for name, shape in shapes.items()}


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "gelu_new", "swish", "silu", "sigmoid", "linear"])
def test_every_activation_is_the_frameworks(activation: str) -> None:
    torch = pytest.importorskip("torch")
    activations = pytest.importorskip("transformers.activations")
    parts = network(n=50)
    linear = torch.nn.functional.linear
    t = {name: torch.tensor(array) for name, array in parts.items()}
    inner = linear(t["wte.weight"], t["control_trans.0.weight"], t["control_trans.0.bias"])
    inner = activations.get_activation(activation)(inner)
    wanted = linear(inner, t["control_trans.2.weight"], t["control_trans.2.bias"]).numpy()
    np.testing.assert_allclose(flatten_prefix(source(), parts, activation), wanted, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(network()))
def test_a_network_that_does_not_fit(name: str) -> None:
    parts = network()
    with pytest.raises(FormatError, match=f"without its '{name}'"):
        flatten_prefix(source(), {key: value for key, value in parts.items() if key != name}, "tanh")
    if name != "wte.weight":  # any number of positions fits
        with pytest.raises(FormatError, match="do not fit together"):
            flatten_prefix(source(), parts | {name: np.concatenate([parts[name]] * 2)}, "tanh")
    with pytest.raises(FormatError, match="do not fit together"):
        flatten_prefix(source(), parts | {name: parts[name][None]}, "tanh")
    with pytest.raises(FormatError, match="activation 'maxout'"):
        flatten_prefix(source(), parts, "maxout")


def test_a_prefix_out_of_all_proportion_is_not_computed() -> None:
    huge = network(n=100_000, d=1, hidden=1, out=100_000)
    with pytest.raises(FormatError, match="do not fit together"):
        flatten_prefix(source(), huge, "tanh")


def test_a_flat_prefix_is_divided_by_position_layer_and_half() -> None:
    rows = np.arange(2 * 3 * 2 * 5, dtype=np.float32).reshape(2, 30)
    blocks = {block.name: block.parts["rows"] for block in prefix_blocks(source(), rows, [0, 2, 7], "cross.")}
    assert list(blocks) == [f"cross.layer.{layer}.{half}" for layer in (0, 2, 7) for half in ("keys", "values")]
    np.testing.assert_array_equal(blocks["cross.layer.2.values"], [[15, 16, 17, 18, 19], [45, 46, 47, 48, 49]])
    for layers in ([], range(4), range(1001)):
        with pytest.raises(FormatError, match="does not divide"):
            prefix_blocks(source(), rows, layers, "")
