"""Readers: the files that strangers left, hostile bytes in, `Adapter` out, without torch.

`docs/formats.md` says what is read and what is refused. The reading itself is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tupate_hub.readers.layouts import Detection as Detection
    from tupate_hub.readers.layouts import Loaded as Loaded
    from tupate_hub.readers.layouts import detect as detect
    from tupate_hub.readers.layouts import find_adapters as find_adapters
    from tupate_hub.readers.layouts import load_adapter as load_adapter
    from tupate_hub.readers.layouts import read_adapter as read_adapter
    from tupate_hub.readers.table import LAYOUTS as LAYOUTS
    from tupate_hub.readers.table import Layout as Layout

__all__ = ["LAYOUTS", "Detection", "Layout", "Loaded", "detect", "find_adapters", "load_adapter", "read_adapter"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tupate_hub.readers import layouts

    return getattr(layouts, name)
