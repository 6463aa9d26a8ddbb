"""Device: where tensors are, of those that this computer has, and how attention is computed there."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tupate_hub.errors import TupateHubError


def device_of(name: str) -> torch.device:
    """The device of that name.

    Raises
    ------
    TupateHubError
        When it is not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise TupateHubError("There is no CUDA device here, or torch was built without CUDA.", hint="`device='cpu'`")
    if name == "mps" and not torch.backends.mps.is_available():
        raise TupateHubError("There is no MPS device here.", hint="`device='cpu'`")
    return torch.device(name)


def devices() -> tuple[str, ...]:
    """The names that `device_of` takes here, each with what it is."""
    found = [f"cpu ({torch.get_num_threads()} threads)"]
    found += [f"cuda ({torch.cuda.get_device_name(number)})" for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps (Apple)")
    return tuple(found)


def attention(device: torch.device) -> AbstractContextManager[Any]:
    """On a CPU, plain matrix products: the fused kernel's backward pass takes two fifths of a step of short texts."""
    plain: AbstractContextManager[Any] = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    return plain
