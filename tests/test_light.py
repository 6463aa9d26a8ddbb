"""What the second environment of `make test` is there for: no torch, and the newer client of the Hub."""

from __future__ import annotations

import os
from importlib.metadata import version
from importlib.util import find_spec

import pytest
from environments import HEAVY

pytestmark = pytest.mark.skipif(
    os.environ.get("TUPATE_HUB_LIGHT") != "1", reason="for the environment of `make test-light` alone"
)


@pytest.mark.parametrize("name", HEAVY)
def test_nothing_heavy_is_there(name: str) -> None:
    assert find_spec(name) is None


def test_the_client_is_the_newer_one() -> None:
    assert version("huggingface_hub").startswith("2.")
