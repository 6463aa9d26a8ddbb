"""Precision: bfloat16's rounding is the same, whether its numbers are multiplied as they are or as float32."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys import REGIME

from tupate_hub.training import precision
from tupate_hub.training.methods import get_method
from tupate_hub.training.precision import bfloat16_is_slow, half_precision
from tupate_hub.training.tuner import tune

CPU = torch.device("cpu")
#: Between two roundings of one sum: bfloat16 has eight bits.
ROUNDING = 2**-8


@pytest.fixture
def multiplied_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[torch.dtype], None]:
    """Make matrices be multiplied as bfloat16 or as float32, whatever this processor does faster."""

    def choose(dtype: torch.dtype) -> None:
        monkeypatch.setattr(precision, "bfloat16_is_slow", lambda: dtype == torch.float32)

    return choose


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


PRODUCTS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "linear": lambda x, w: torch.nn.functional.linear(x, w),
    "linear with a bias": lambda x, w: torch.nn.functional.linear(x, w, bias=numbers(24, seed=2)),
    "a module": lambda x, w: torch.func.functional_call(torch.nn.Linear(48, 24, bias=False), {"weight": w}, (x,)),
    "@": lambda x, w: x @ w.T,
    "torch.matmul": lambda x, w: torch.matmul(x, w.T),
    "a method": lambda x, w: x.matmul(w.T),
    "of bfloat16": lambda x, w: x.bfloat16() @ w.bfloat16().T,
}


def made(product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
    """A product, (3, 5, 24), and the gradients of both factors, (3, 5, 48) and (24, 48)."""
    x, w = numbers(3, 5, 48).requires_grad_(), numbers(24, 48, seed=1).requires_grad_()
    with half_precision(CPU):
        result = product(x, w)
    result.backward(numbers(*result.shape, seed=3).to(result.dtype))
    return [result, x.grad, w.grad]


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_and_its_gradients_are_the_same_either_way(name: str, multiplied_as: Any) -> None:
    found = {}
    for dtype in (torch.bfloat16, torch.float32):
        multiplied_as(dtype)
        found[dtype] = made(PRODUCTS[name])
    for narrow, wide in zip(*found.values(), strict=True):
        assert (narrow.dtype, narrow.shape) == (wide.dtype, wide.shape)
        torch.testing.assert_close(narrow, wide, rtol=2 * ROUNDING, atol=2 * ROUNDING)


def test_factors_and_results_are_rounded(multiplied_as: Any) -> None:
    """In float32 it would be .09 away, ten times as much as a rounding of the result."""
    multiplied_as(torch.float32)
    x, w = torch.full((1, 64), 1.0034), torch.full((1, 64), 1.0034)
    with half_precision(CPU):
        result = torch.nn.functional.linear(x, w)
    assert result.dtype == torch.bfloat16
    assert result.item() == 64


def test_what_is_exempt_from_autocast_stays_exact(multiplied_as: Any) -> None:
    multiplied_as(torch.float32)
    x, w = numbers(4, 48), numbers(24, 48, seed=1)
    with half_precision(CPU), torch.autocast("cpu", enabled=False):
        inside = torch.nn.functional.linear(x, w)
    torch.testing.assert_close(inside, torch.nn.functional.linear(x, w))
    assert inside.dtype == torch.float32


def test_full_precision_is_left_alone(multiplied_as: Any) -> None:
    multiplied_as(torch.float32)
    with half_precision(CPU, enabled=False):
        assert (numbers(4, 48) @ numbers(48, 4)).dtype == torch.float32


def test_a_run_goes_the_same_way(base: Path, load: Callable[[str], Any], multiplied_as: Any) -> None:
    losses: dict[torch.dtype, list[float]] = {}
    regime = dataclasses.replace(REGIME, precision="bfloat16", steps=30)
    for dtype in (torch.bfloat16, torch.float32):
        multiplied_as(dtype)
        losses[dtype] = list(tune(base, load("toy_classes"), get_method("lora"), regime).losses)
    narrow, wide = losses.values()
    assert narrow[0] > 1.2 * narrow[-1]
    np.testing.assert_allclose(wide, narrow, rtol=0.05)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="asks for an x86 processor's instructions")
def test_a_processor_without_instructions_for_bfloat16_multiplies_float32() -> None:
    program = "from tupate_hub.training.precision import bfloat16_is_slow; print(bfloat16_is_slow())"
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert found.stdout.strip() == "True"


def test_which_is_slower_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Any] = []
    seconds = iter([0.3, 0.1, 0.1, 0.3])
    monkeypatch.setattr(precision, "_seconds", lambda product: tried.append(product()) or next(seconds))
    bfloat16_is_slow.cache_clear()
    try:
        assert bfloat16_is_slow() and bfloat16_is_slow()
        assert [result.dtype for result in tried] == [torch.bfloat16, torch.float32]
        bfloat16_is_slow.cache_clear()
        assert not bfloat16_is_slow()
    finally:
        bfloat16_is_slow.cache_clear()
