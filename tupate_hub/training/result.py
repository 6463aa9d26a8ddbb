"""Result: what a run has come to, at its end or on the way, and the versions of what made it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tupate_hub.arrays import Float32Array

_PACKAGES = ("tupate-hub", "torch", "adapters", "transformers", "numpy")


@dataclass(frozen=True)
class Moment:
    """A run after `step` of its `steps`: the method's tensors, the mean of the last losses, and facts of the run."""

    step: int
    steps: int
    loss: float
    tensors: dict[str, Float32Array]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """A finished run: the tuned tensors under the `adapters` library's names, and everything known about the run.

    `early` maps shares of the steps to the tensors at that point.
    """

    tensors: dict[str, Float32Array]
    head: dict[str, Float32Array]
    early: dict[str, dict[str, Float32Array]]
    facts: dict[str, Any] = field(default_factory=dict)


def versions() -> dict[str, str]:
    """Those of Python and of the packages that a run depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
