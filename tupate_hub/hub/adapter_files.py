"""Which files of a model repository are its adapter, and of which base model, told before any weights are fetched."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

from tupate_hub.errors import FormatError, SpaceMismatch
from tupate_hub.hub.location import Location
from tupate_hub.space import normalise_base, require_base
from tupate_hub.storage.strangers_json import parse_json

CONFIG = "adapter_config.json"
MOST_CONFIG = 4_000_000
#: What diffusers calls a LoRA's file, which has no configuration beside it.
_DIFFUSERS = "pytorch_lora_weights.safetensors"
_MOST_ITEMS = 200_000
#: The fields of configurations that name the base model: those of PEFT, AdapterHub and MLX.
_BASES = ("base_model_name_or_path", "model_name", "model")


def parse_config(at: Location, data: bytes) -> Mapping[str, Any]:
    """A configuration.

    Raises
    ------
    FormatError
        When it is not a JSON object.
    """
    try:
        fields = parse_json(data.decode("utf-8-sig"), _MOST_ITEMS)
    except ValueError as error:
        raise FormatError(f"{CONFIG} of {at} is not a JSON object.") from error
    if not isinstance(fields, dict):
        raise FormatError(f"{CONFIG} of {at} is not a JSON object.")
    return fields


def weights_of(
    at: Location, config: Mapping[str, Any], names: Collection[str], tagged: str | None, base: str | None
) -> str:
    """The weights, among the files of these names, that go with a configuration.

    `tagged` is the base model where the configuration names none, `base` the one that is wanted.

    Raises
    ------
    FormatError
        When the configuration is of no known library, or there are no weights.
    SpaceMismatch
        When the adapter is of another base model than `base`.
    """
    from tupate_hub.readers.table import LAYOUTS

    layout = next((one for one in LAYOUTS if one.config is not None and one.config(config)), None)
    if layout is None:
        raise FormatError(f"{CONFIG} of {at} is not that of a known library.")
    if base is not None:
        named = (config[name] for name in _BASES if isinstance(config.get(name), str) and normalise_base(config[name]))
        _require_of(at, base, next(named, tagged))
    fitting = (name for pattern in layout.weights for name in sorted(names) if fnmatchcase(name, pattern))
    weights = next(fitting, None)
    if weights is None:
        raise FormatError(f"{at} holds a configuration without weights: {' or '.join(layout.weights)} is missing.")
    return weights


def container_in(at: Location, names: Collection[str], tagged: str | None, base: str | None) -> str:
    """The one file that holds a LoRA by its name: diffusers' own, or one in safetensors or GGUF that is called so.

    Raises
    ------
    FormatError
        When there is none, or more than one.
    SpaceMismatch
        When the adapter is of another base model than `base`.
    """
    called = [name for name in names if name.endswith((".safetensors", ".gguf")) and "lora" in name.lower()]
    if _DIFFUSERS not in names and len(called) != 1:
        but = f", and {len(called)} files called a LoRA" if called else ""
        raise FormatError(
            f"{at} does not hold an adapter: it has no {CONFIG}{but}.", hint=f"see what it holds: {at.page}/tree/main"
        )
    if base is not None:
        _require_of(at, base, tagged)
    return _DIFFUSERS if _DIFFUSERS in names else called[0]


def _require_of(at: Location, base: str, named: str | None) -> None:
    if (of := require_base(named, str(at))) != base:
        raise SpaceMismatch(f"{at} is an adapter of {of}, not of {base}.", hint=f"name that model: `base={of!r}`")
