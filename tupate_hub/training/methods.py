"""Tuning methods: how each is put into a base model, and which of the model's parameters are its blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tupate_hub.errors import UnknownName


@dataclass(frozen=True)
class Method:
    """A tuning method of the `adapters` library.

    `config` builds the library's configuration from `settings`, the method's defaults.
    """

    name: str
    config: Callable[..., Any]
    settings: Mapping[str, Any]


def _lora(**settings: Any) -> Any:
    from adapters import LoRAConfig

    return LoRAConfig(
        r=settings["r"],
        alpha=settings["alpha"],
        attn_matrices=[{"query": "q", "key": "k", "value": "v"}[target] for target in settings["targets"]],
    )


METHODS: Mapping[str, Method] = {
    method.name: method for method in (Method("lora", _lora, {"r": 8, "alpha": 16, "targets": ["query", "value"]}),)
}


def get_method(name: str) -> Method:
    """The method of that name.

    Raises
    ------
    UnknownName
        Listing the known methods.
    """
    if name not in METHODS:
        raise UnknownName(f"Unknown tuning method {name!r}.", hint="known: " + ", ".join(sorted(METHODS)))
    return METHODS[name]
