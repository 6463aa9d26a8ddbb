"""Alpha: where an adapter's files say how strongly it is applied, and what they say there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from tupate_hub.check.evidence import Evidence
from tupate_hub.storage.strangers_json import parse_json

_MOST_ITEMS = 10_000


@dataclass(frozen=True)
class Alpha:
    """One place that gives alpha, or the scale itself (`is_scale`), with every value there, smallest first."""

    where: str
    values: tuple[float, ...]
    is_scale: bool = False

    @property
    def text(self) -> str:
        """The place and its values, for messages."""
        shown = ", ".join(f"{value:g}" for value in self.values[:4]) + (", ..." if len(self.values) > 4 else "")
        return f"{shown} in {self.where}"


def alphas(evidence: Evidence) -> tuple[Alpha, ...]:
    """Every place that gives alpha, the one that its library takes first."""
    return tuple(_found(evidence))


def _found(evidence: Evidence) -> Iterator[Alpha]:
    if values := sorted(set(_in_tensors(evidence))):
        yield Alpha("tensors called alpha", tuple(values))
    for name in ("lora_alpha", "alpha"):
        if (alpha := evidence.number(name)) is not None:
            yield Alpha(f"{name} of the configuration", (alpha,))
    for field, name, is_scale in (("config", "alpha", False), ("lora_parameters", "scale", True)):
        inside = evidence.config.get(field)
        value = _number(inside.get(name)) if isinstance(inside, dict) else None
        if value is not None:
            yield Alpha(f"{name} of the configuration", (value,), is_scale)
    yield from _in_headers(evidence)


def _in_headers(evidence: Evidence) -> Iterator[Alpha]:
    """Of a GGUF file's header, and of a safetensors file's metadata."""
    if (value := _number(evidence.header.get("adapter.lora.alpha"))) is not None:
        yield Alpha("adapter.lora.alpha of the header", (value,))
    for where, text in evidence.metadata.items():
        if where == "lora_adapter_metadata":
            yield from _of_json(text)
        elif where in ("ss_network_alpha", "lora_alpha") or where.endswith(".lora_alpha"):
            value = _number(text)
            if value is not None:
                yield Alpha(f"{where} of the metadata", (value,))


def _in_tensors(evidence: Evidence) -> Iterator[float]:
    for key, array in evidence.tensors.items():
        if key.endswith((".alpha", ".lora_alpha")) and array.size == 1 and array.dtype.kind in "fiu":
            value = float(array.reshape(-1)[0])
            if math.isfinite(value):
                yield value


def _of_json(text: str) -> Iterator[Alpha]:
    """What diffusers writes: a configuration of PEFT's, its fields after the name of the model's part."""
    try:
        fields = parse_json(text, _MOST_ITEMS)
    except ValueError:
        return
    for name, written in fields.items() if isinstance(fields, dict) else ():
        value = _number(written) if name == "lora_alpha" or name.endswith(".lora_alpha") else None
        if value is not None:
            yield Alpha(f"{name} of the metadata", (value,))


def _number(written: object) -> float | None:
    if isinstance(written, bool) or not isinstance(written, (int, float, str)):
        return None
    try:
        value = float(written)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None
