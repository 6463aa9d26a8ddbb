"""A registry put on the loopback Hub, and the names that tests of it use."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from builders import LORA
from damage import snapshot
from loopback import LoopbackHub

from tupate_hub.hub.cache import FRESH_SECONDS, cache_root

NAME = "acme/zoo"
REGISTRY = f"/datasets/{NAME}/resolve"
TOKEN = "hf_secretsecretsecret"
FIRST = f"zoo/{LORA.name}/imdb.safetensors"
INDEX = f"zoo/{LORA.name}/index-update.safetensors"


def publish(hub: LoopbackHub, folder: Path, name: str = NAME, **options: Any) -> str:
    """Put a registry's folder on the Hub; returns the commit."""
    return hub.store.put("datasets", name, snapshot(folder), **options)


def make_stale() -> None:
    """As if every branch had been asked for long ago."""
    for path in cache_root().glob("hub/*/refs/*"):
        os.utime(path, (time.time() - FRESH_SECONDS - 7200,) * 2)
