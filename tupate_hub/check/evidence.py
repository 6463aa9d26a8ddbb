"""Evidence: everything that one reading of an adapter's files shows, whether or not its reader takes it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tupate_hub.arrays import Array
from tupate_hub.check.basemodel import BaseModel
from tupate_hub.check.pickles import foreign_names
from tupate_hub.check.updates import Update, measure
from tupate_hub.embedding import Adapter, Block
from tupate_hub.errors import FormatError
from tupate_hub.readers.layouts import CONFIG, Detection, detect, open_source
from tupate_hub.readers.names import block_name
from tupate_hub.readers.source import Legacy, read_bytes, read_config
from tupate_hub.storage.safetensors import read_file_header

_POINTER = b"version https://git-lfs"
_LARGEST_POINTER = 1024
_MOST_POINTERS = 200
_HALVES = {
    "lora_A": "A",
    "lora_B": "B",
    "lora_embedding_A": "A",
    "lora_embedding_B": "B",
    "lora_down": "A",
    "lora_up": "B",
}
_WEIGHTS = (".safetensors", ".bin", ".npz", ".npy", ".pt", ".pth", ".gguf")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")


@dataclass(frozen=True)
class Evidence:
    """An adapter's files, its configuration and tensors, what its reader made of them, and its base model's facts.

    `path` is how the user named it, `files` the names and sizes of its folder's files, or of the one that was named.
    `refusal` says why there is no `adapter`; `tensors` is empty where not even they could be taken out of the file.
    """

    path: str
    folder: Path
    files: Mapping[str, int]
    config: Mapping[str, Any] = field(default_factory=dict)
    detection: Detection | None = None
    tensors: Mapping[str, Array] = field(default_factory=dict)
    adapter: Adapter | None = None
    refusal: FormatError | None = None
    base: BaseModel | None = None

    @property
    def layout(self) -> str:
        """The name of the layout, "" where there is none."""
        return self.detection.layout if self.detection else ""

    @property
    def weights(self) -> str:
        """The name of the weights file, "" where there is none."""
        return self.detection.weights.name if self.detection else ""

    @property
    def is_pickled(self) -> bool:
        """Whether the weights are a pickle."""
        return self.weights == "task_prompt" or self.weights.lower().endswith(PICKLES)

    def number(self, key: str) -> float | None:
        """A finite number of the configuration, None where it is missing or is none."""
        value = self.config.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e30:
            return None
        return float(value)

    def words(self, key: str) -> tuple[str, ...]:
        """A list of texts of the configuration, or one text, without what is neither."""
        value = self.config.get(key)
        listed = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        return tuple(dict.fromkeys(one for one in listed if isinstance(one, str)))

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        """The safetensors file's own metadata; nothing elsewhere."""
        if self.detection is None or self.detection.weights.suffix != ".safetensors":
            return {}
        try:
            said = read_file_header(self.detection.weights)[0].get("__metadata__")
        except FormatError:
            return {}
        return {key: value for key, value in said.items() if isinstance(value, str)} if isinstance(said, dict) else {}

    @cached_property
    def pointers(self) -> tuple[str, ...]:
        """The files that are Git LFS pointers."""
        small = [name for name, size in self.files.items() if len(_POINTER) <= size <= _LARGEST_POINTER]
        return tuple(name for name in small[:_MOST_POINTERS] if _begins(self.folder / name, _POINTER))

    @cached_property
    def has_weights(self) -> bool:
        """Whether a file there could hold weights, by its name."""
        return self.detection is not None or any(name.lower().endswith(_WEIGHTS) for name in self.files)

    @cached_property
    def foreign_names(self) -> tuple[str, ...]:
        """What the weights' pickle names beyond tensors. A file that was read has none: its reader allows none."""
        if self.detection is None or self.tensors or not self.is_pickled:
            return ()
        try:
            return foreign_names(read_bytes(self.detection.weights))
        except FormatError:
            return ()

    @cached_property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """The smallest and the largest number of each tensor of floating-point numbers: NaN where one is."""
        with np.errstate(invalid="ignore"):  # a signalling NaN
            return {
                key: (float(array.min()), float(array.max()))
                for key, array in self.tensors.items()
                if array.dtype.kind == "f" and array.size
            }

    @cached_property
    def broken(self) -> tuple[str, ...]:
        """The tensors that hold NaN or infinity."""
        return tuple(key for key, limits in self.ranges.items() if not all(map(math.isfinite, limits)))

    @cached_property
    def halves(self) -> Mapping[str, Mapping[str, str]]:
        """The keys of LoRA's factors, `A` and `B`, by the module's name as the file spells it."""
        found: dict[str, dict[str, str]] = {}
        for key in self.tensors:
            pieces = key.split(".")
            at = next((index for index, piece in enumerate(pieces) if piece in _HALVES), None)
            if at is not None:
                found.setdefault(".".join(pieces[:at]), {}).setdefault(_HALVES[pieces[at]], key)
        return found

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The adapter's blocks; of one that is refused those pairs of factors that can be measured all the same."""
        return self.adapter.blocks if self.adapter else tuple(self._pairs())

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """How large the change of each block is. Plain vectors are no change of a model."""
        return measure(self.blocks) if not (self.adapter and self.adapter.method == "plain") else ()

    @cached_property
    def norm(self) -> float:
        """The norm of all updates together."""
        return math.sqrt(math.fsum(update.norm**2 for update in self.updates))

    @cached_property
    def weight_sizes(self) -> Mapping[str, float]:
        """The root mean square of the base model's weight of each block, where its numbers are on this disk."""
        if self.base is None:
            return {}
        try:
            return self.base.sizes(block.name for block in self.blocks)
        except FormatError:
            return {}

    def _pairs(self) -> Iterator[Block]:
        alpha = self.number("lora_alpha")
        for module, keys in self.halves.items():
            if len(keys) < 2 or not set(keys.values()).isdisjoint(self.broken):
                continue
            a, b = (self.tensors[keys[half]] for half in "AB")
            if a.ndim != 2 or b.ndim != 2 or len(a) != b.shape[1] or 0 in (*a.shape, *b.shape):
                continue
            if a.dtype.kind == b.dtype.kind == "f":
                parts = {"A": np.asarray(a, dtype=np.float32), "B": np.asarray(b, dtype=np.float32)}
                yield Block(block_name(module), parts, 1.0 if alpha is None else alpha / len(a))


def gather(path: Path, called: str, base: str | None = None, legacy: Legacy | None = None) -> Evidence:
    """Read an adapter's files as far as they go; what stops it is the evidence's `refusal`, and nothing is raised.

    `called` is how the user named it, `base` the base model's id; `legacy` as in `load_adapter`.
    """
    folder = path if path.is_dir() else path.parent
    files = _listing(folder) if path.is_dir() else {path.name: _size(path)}
    try:
        opened = open_source(path, base, None, None, legacy)
    except FormatError as refusal:
        detection, config = _as_far_as_it_goes(path, folder)
        return Evidence(called, folder, files, config, detection, refusal=refusal)
    found = (called, folder, files, opened.source.config, opened.detection, opened.source.tensors)
    try:
        return Evidence(*found, adapter=opened.layout.read(opened.source))
    except FormatError as refusal:
        return Evidence(*found, refusal=refusal)


def _as_far_as_it_goes(path: Path, folder: Path) -> tuple[Detection | None, Mapping[str, Any]]:
    """What was recognised, and the configuration, of a path whose tensors cannot be read."""
    detection, config = None, {}
    try:
        detection = detect(path)
    except FormatError:
        pass
    try:
        config = read_config(folder / CONFIG)
    except FormatError:
        pass
    return detection, config


def _listing(folder: Path) -> dict[str, int]:
    try:
        return {one.name: one.stat().st_size for one in sorted(os.scandir(folder), key=_name) if one.is_file()}
    except OSError:
        return {}


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _begins(path: Path, start: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(start)) == start
    except OSError:
        return False
