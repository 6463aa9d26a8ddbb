"""Layouts: which of the ways in which libraries leave tuned parameters (`readers.table`) a path has, and why."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from tupate_hub.arrays import Array
from tupate_hub.embedding import Adapter, is_embedding
from tupate_hub.errors import FormatError
from tupate_hub.readers.bitfit import header_keys
from tupate_hub.readers.source import (
    Legacy,
    Source,
    check_weights,
    digest_of,
    parse_metadata,
    parse_weights,
    read_bytes,
    read_config,
    read_start,
    short_list,
)
from tupate_hub.readers.table import LAYOUTS, Layout

CONFIG = "adapter_config.json"

#: What training leaves beside an adapter: pickles of anything, states, heads. Never opened, whatever the user names.
_NEVER = (
    "training_args.bin",
    "optimizer*",
    "scheduler*",
    "scaler*",
    "rng_state*",
    "*.pkl",
    "*.pickle",
    "*.joblib",
    "pytorch_model_head.bin",
    "model_head.safetensors",
)
_FUSION = ("adapter_fusion_config.json", "pytorch_model_adapter_fusion.bin", "model_adapter_fusion.safetensors")


@dataclass(frozen=True)
class Detection:
    """What a path holds: the layout's name, the files that will be read, and why in one sentence."""

    layout: str
    weights: Path
    config: Path | None
    why: str


def detect(path: Path) -> Detection:
    """Say which layout a file or folder has, reading no weights.

    Raises
    ------
    FormatError
        When it has none, or half of one: a configuration without weights, weights without a configuration.
    """
    return _detect(path)[0]


@dataclass(frozen=True)
class Opened:
    """A path's content before its layout's reader has judged it; `data` is None where a part will be read."""

    detection: Detection
    layout: Layout
    source: Source
    data: bytes | None


@dataclass(frozen=True)
class Loaded:
    """What one reading of a path gave: what was found there and the adapter; `digest` is None where a part was read."""

    detection: Detection
    adapter: Adapter
    digest: str | None

    @cached_property
    def sha256(self) -> str:
        """The sha256 of the weights file, which is read for it only if it was not read whole."""
        return self.digest or digest_of(self.detection.weights)


def load_adapter(
    path: Path,
    *,
    base: str | None = None,
    task: str | None = None,
    base_weights: Path | None = None,
    legacy: Legacy | None = None,
) -> Loaded:
    """Read tuned parameters, whichever library left them, from one opening of their file.

    Parameters
    ----------
    path : Path
        A folder, or a weights file, whose configuration is then looked for beside it.
    base : str, optional
        The base model's id, overriding what the file says.
    task : str, optional
        The task's name.
    base_weights : Path, optional
        The base model's safetensors file or folder; biases are then read as differences from its.
    legacy : callable, optional
        Reads files that torch wrote before 1.6: `tupate_hub.training.legacy.load_legacy`, where torch is installed.

    Raises
    ------
    FormatError
        For everything that is not read, each with its own sentence.
    """
    opened = open_source(path, base, task, base_weights, legacy)
    adapter = opened.layout.read(opened.source)
    digest = None if opened.data is None else sha256(opened.data).hexdigest()
    return Loaded(opened.detection, replace(adapter, task=task) if task else adapter, digest)


def open_source(
    path: Path, base: str | None, task: str | None, base_weights: Path | None, legacy: Legacy | None
) -> Opened:
    """What `load_adapter` gives to a layout's reader; parameters as there.

    Raises
    ------
    FormatError
        When nothing is recognised, or the weights cannot be taken apart into tensors.
    """
    detection, layout, config = _detect(path)
    tensors: Mapping[str, Array] = {}
    metadata: Mapping[str, Any] = {}
    data = None
    if layout.whole:
        data = read_bytes(detection.weights)
        tensors, metadata = content(layout, data, detection.weights, legacy)
    source = Source(path, detection.weights, config, tensors, layout.name, base, task, base_weights, metadata)
    return Opened(detection, layout, source, data)


def content(
    layout: Layout, data: bytes, weights: Path, legacy: Legacy | None = None
) -> tuple[Mapping[str, Array], Mapping[str, Any]]:
    """The tensors of a weights file, and what it says beside them where the layout asks for it.

    Errors as `parse_weights`.
    """
    metadata = parse_metadata(data, weights) if layout.metadata else {}
    return parse_weights(data, weights, legacy), metadata


def read_adapter(
    path: Path,
    *,
    base: str | None = None,
    task: str | None = None,
    base_weights: Path | None = None,
    legacy: Legacy | None = None,
) -> Adapter:
    """The adapter alone; parameters and errors as in `load_adapter`."""
    return load_adapter(path, base=base, task=task, base_weights=base_weights, legacy=legacy).adapter


def find_adapters(folder: Path) -> list[Path]:
    """Every folder or file below a folder that looks like an adapter, broken ones too, in order of their paths.

    Hidden folders and links to folders are passed over.

    Raises
    ------
    FormatError
        When it is not a folder.
    """
    if not folder.is_dir():
        raise FormatError(f"{folder} is not a folder.")
    adapters: list[Path] = []
    waiting = [folder]  # os.walk, up to Python 3.11, ends with a RecursionError in a folder 1,000 deep
    while waiting:
        here = waiting.pop()
        names, below = _content(here)
        waiting += [here / name for name in below]
        if CONFIG in names or any(name in layout.weights for layout in LAYOUTS[:3] for name in names):
            adapters.append(here)
        else:
            adapters += [here / name for name in names if _looks_bare(here / name)]
    return sorted(adapters)


def _content(folder: Path) -> tuple[list[str], list[str]]:
    """A folder's files, and its folders but for hidden ones and links; nothing where it cannot be read."""
    try:
        entries = list(os.scandir(folder))
        names = [one.name for one in entries if not one.is_dir()]
        return names, [one.name for one in entries if one.is_dir(follow_symlinks=False) and one.name[0] != "."]
    except OSError:
        return [], []


def _looks_bare(path: Path) -> bool:
    if path.name.startswith(".") or _matches(path.name, _NEVER):
        return False
    if path.suffix == ".safetensors" and is_embedding(path):
        return True
    for layout in LAYOUTS:
        if layout.config is None and layout.whole and _matches(path.name, layout.weights) and _has_keys(layout, path):
            return True
    return False


def _detect(path: Path) -> tuple[Detection, Layout, Mapping[str, Any]]:
    if path.name == CONFIG and path.is_file():
        path = path.parent
    if not path.exists():
        raise FormatError(f"{path} does not exist.")
    folder = path if path.is_dir() else path.parent
    only = None if path.is_dir() else path.name
    names = _listing(folder) if only is None else (only,)
    if only is not None and _matches(only, _NEVER):
        raise FormatError(f"{path} is a training state, a pickle or a head, which is never opened.")
    if any(name in _FUSION for name in names) and CONFIG not in names:
        raise FormatError(f"{path} is an AdapterFusion, which is not read: name one of the adapters that it mixes.")
    config_file = folder / CONFIG
    if config_file.is_file() and (only is None or not _matches(only, ("*.npy", "*.gguf", "task_prompt"))):
        return _with_config(path, folder, names, config_file)
    return _without_config(path, folder, names)


def _with_config(
    path: Path, folder: Path, names: tuple[str, ...], config_file: Path
) -> tuple[Detection, Layout, Mapping[str, Any]]:
    config = read_config(config_file)
    layout = next((known for known in LAYOUTS if known.config is not None and known.config(config)), None)
    if layout is None:
        keys = short_list(sorted(config)) or "nothing"
        raise FormatError(f"{config_file} is not from a known library: it has {keys}.")
    weights = next((name for pattern in layout.weights for name in names if fnmatchcase(name, pattern)), None)
    if weights is None and not path.is_dir() and path.suffix in (".safetensors", ".bin", ".npz"):
        weights = path.name
    if weights is None and not path.is_dir():
        raise FormatError(f"{path} is not an adapter's weights file.", hint=f"name its folder: {folder}")
    if weights is None:
        wanted = " or ".join(layout.weights)
        raise FormatError(f"{path} holds a configuration and no weights: {wanted} is missing.")
    why = f"{layout.summary}, and {weights} beside it"
    return Detection(layout.name, folder / weights, config_file, why), layout, config


def _without_config(path: Path, folder: Path, names: tuple[str, ...]) -> tuple[Detection, Layout, Mapping[str, Any]]:
    orphan = next((name for layout in LAYOUTS[:2] for name in layout.weights if name in names), None)
    if orphan is not None:
        raise FormatError(
            f"{folder / orphan} is there and {CONFIG} is not: without it method and scale are unknown.",
            hint=f"fetch {CONFIG} from where the weights came from",
        )
    for layout in LAYOUTS:
        if layout.config is not None:
            continue
        fitting = [name for name in names if _matches(name, layout.weights) and _has_keys(layout, folder / name)]
        if len(fitting) > 1:
            raise FormatError(
                f"{path} holds {len(fitting)} files that could be read, {short_list(fitting)}.",
                hint="name one of them, or take them all: `add_all`",
            )
        if fitting:
            why = f"{layout.summary}, in {fitting[0]}"
            return Detection(layout.name, folder / fitting[0], None, why), layout, {}
    if not path.is_dir():
        return _unnamed(path)
    raise FormatError(f"{path} holds no adapter: neither {CONFIG} nor weights of a known name.")


def _unnamed(path: Path) -> tuple[Detection, Layout, Mapping[str, Any]]:
    """A file whose name says nothing: told by its keys where it is safetensors, else read as a bare array."""
    if path.suffix == ".gguf":
        check_weights(path)
        raise FormatError(f"{path} is a whole model in GGUF, or a malformed file, not an adapter.")
    if path.suffix == ".safetensors":
        keys = header_keys(path)
        layout = next((known for known in LAYOUTS if known.keys is not None and known.keys(keys)), None)
        if layout is None:
            raise FormatError(
                f"{path} holds {short_list(keys)}, which says neither method nor scale without {CONFIG} beside it."
            )
    else:
        layout = next(known for known in LAYOUTS if known.name == "array")
    return Detection(layout.name, path, None, f"{layout.summary}, by its keys"), layout, {}


def _listing(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_file()))
    except OSError as error:
        raise FormatError(f"{folder} cannot be read: {error.strerror}.") from error


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _has_keys(layout: Layout, path: Path) -> bool:
    try:
        if layout.start is not None:
            return layout.start(read_start(path))
        return layout.keys is None or layout.keys(header_keys(path))
    except FormatError:
        return False
