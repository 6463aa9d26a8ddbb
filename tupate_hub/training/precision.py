"""Precision: bfloat16 where the device multiplies it fast, and the same numbers multiplied in float32 where not."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import lru_cache
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_PRODUCTS = (torch.nn.functional.linear, torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__)
#: How much longer bfloat16 has to take: far from both what it costs with instructions of its own (half and less) and
#: what it costs without them (two to eighty times as much).
_SLOWER = 1.3
_REPEATS = 3


def half_precision(device: torch.device, enabled: bool = True) -> AbstractContextManager[Any]:
    """Inside, factors and results of matrix products are rounded to bfloat16, as `torch.autocast` does it.

    Sums are made in float32 either way. Many processors have no instructions for bfloat16, and on some those of float32
    are faster: there the rounded numbers are multiplied as float32. The two differ in the order of sums alone.
    """
    stack = ExitStack()
    stack.enter_context(torch.autocast(device.type, torch.bfloat16, enabled=enabled))
    if enabled and device.type == "cpu" and bfloat16_is_slow():
        stack.enter_context(_WideProducts())
    return stack


@lru_cache
def bfloat16_is_slow() -> bool:
    """Whether this processor multiplies matrices of bfloat16 slower than those of float32, by trying it."""
    wide = torch.full((256, 384), 0.5)
    half = wide.to(torch.bfloat16)
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        return _seconds(lambda: half @ half.T) > _SLOWER * _seconds(lambda: wide @ wide.T)


def _seconds(product: Callable[[], object]) -> float:
    """The fastest of some: others may be at work here too. The first one is left aside, as code is made for it."""
    product()
    return min(timeit.repeat(product, number=1, repeat=_REPEATS))


class _WideProducts(TorchFunctionMode):  # type: ignore[misc]  # torch is not followed
    """Under autocast, products of numbers that are rounded to bfloat16 and multiplied as float32."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if function not in _PRODUCTS or not torch.is_autocast_enabled("cpu"):
            return function(*args, **given)
        with torch.autocast("cpu", enabled=False):
            result = function(*map(_rounded, args), **{name: _rounded(value) for name, value in given.items()})
            return result.to(torch.bfloat16)


def _rounded(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(torch.bfloat16).to(torch.float32)
