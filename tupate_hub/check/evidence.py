"""Evidence: everything that one reading of an adapter's files shows, whether or not its reader takes it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tupate_hub.arrays import Array
from tupate_hub.check.basemodel import BaseModel
from tupate_hub.check.beside import Beside, beside
from tupate_hub.check.pickles import foreign_names
from tupate_hub.check.updates import Update, measure
from tupate_hub.embedding import Adapter, Block, layer_of
from tupate_hub.errors import FormatError
from tupate_hub.readers.layouts import CONFIG, Detection, detect, open_source
from tupate_hub.readers.names import block_name, is_task_head
from tupate_hub.readers.source import Legacy, read_bytes, read_config
from tupate_hub.storage.safetensors import read_file_header

_POINTER = b"version https://git-lfs"
_LARGEST_POINTER = 1024
_MOST_POINTERS = 200
#: Below this no number is too large for float16, whose largest is 65504.
_WORTH_A_LOOK = 60_000.0
_HALVES = {
    "lora_A": "A",
    "lora_B": "B",
    "lora_embedding_A": "A",
    "lora_embedding_B": "B",
    "lora_down": "A",
    "lora_up": "B",
}
WEIGHTS = (".safetensors", ".bin", ".npz", ".npy", ".pt", ".pth", ".gguf")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")


@dataclass(frozen=True)
class Evidence:
    """An adapter's files, its configuration and tensors, what its reader made of them, and its base model's facts.

    `path` is how the user named it, `files` the names and sizes of its folder's files, or of the one that was named.
    `refusal` says why there is no `adapter`; `tensors` is empty where not even they could be taken out of the file.
    `header` is what the file's own header says, of formats whose reader asks for it.
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
    header: Mapping[str, Any] = field(default_factory=dict)

    @property
    def layout(self) -> str:
        """The name of the layout, "" where there is none."""
        return self.detection.layout if self.detection else ""

    @property
    def weights(self) -> str:
        """The name of the weights file, "" where there is none."""
        return self.detection.weights.name if self.detection else ""

    @property
    def reason(self) -> str:
        """Why the reader refuses it, without the folder, which need not be named again."""
        said = self.refusal.message.rstrip(".") if self.refusal is not None else ""
        rest = said.removeprefix(str(self.folder))
        return said if rest == said else rest.removeprefix(os.sep) if rest.startswith(os.sep) else f"it{rest}"

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
        """The safetensors file's own metadata; nothing elsewhere, nor beside a configuration that gives alpha."""
        if self.detection is None or self.detection.weights.suffix != ".safetensors" or "lora_alpha" in self.config:
            return {}
        try:
            said = read_file_header(self.detection.weights)[0].get("__metadata__")
        except FormatError:
            return {}
        return {key: value for key, value in said.items() if isinstance(value, str)} if isinstance(said, dict) else {}

    @cached_property
    def pointers(self) -> tuple[str, ...]:
        """The files that are Git LFS pointers."""
        read = (CONFIG if self.config else "", self.weights if self.tensors else "")
        small = [
            name for name, size in self.files.items() if len(_POINTER) <= size <= _LARGEST_POINTER and name not in read
        ]
        return tuple(name for name in small[:_MOST_POINTERS] if _begins(self.folder / name, _POINTER))

    @cached_property
    def has_weights(self) -> bool:
        """Whether a file there could hold weights, by its name."""
        return self.detection is not None or any(name.lower().endswith(WEIGHTS) for name in self.files)

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
    def largest(self) -> Mapping[str, float]:
        """The largest magnitude in each tensor of floating-point numbers, or a bound of it; NaN where one is NaN.

        It is exact from `_WORTH_A_LOOK` on. Below, the root of the sum of squares stands for it, which is quicker.
        """
        found = {}
        with np.errstate(invalid="ignore", over="ignore"):  # a signalling NaN; what is large is looked at again
            for key, array in self.tensors.items():
                if array.dtype.kind == "f" and array.size:
                    flat = array.ravel()
                    bound = math.sqrt(np.dot(flat, flat)) if array.dtype.itemsize > 2 else math.inf
                    exact = not bound < _WORTH_A_LOOK
                    found[key] = float(np.maximum(flat.max(), -flat.min())) if exact else bound
        return found

    @cached_property
    def broken(self) -> tuple[str, ...]:
        """The tensors that hold NaN or infinity."""
        return tuple(key for key, most in self.largest.items() if not math.isfinite(most))

    @cached_property
    def heads(self) -> tuple[str, ...]:
        """The keys of a head whose shape depends on the task, adapters of one apart."""
        return tuple(key for key in self.tensors if "lora_" not in key and is_task_head(key))

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
        return math.hypot(*(update.norm for update in self.updates))

    @cached_property
    def layers(self) -> Mapping[str, str]:
        """The layer of each block, by the block's name."""
        return {block.name: layer_of(block.name) for block in self.blocks}

    @cached_property
    def by_kind(self) -> Mapping[str, tuple[Update, ...]]:
        """The updates by their place in a layer, those of the same place in different layers together."""
        found: dict[str, list[Update]] = {}
        for update in self.updates:
            layer = self.layers[update.name]
            found.setdefault(update.name[len(layer) :].lstrip(".") or update.name, []).append(update)
        return {kind: tuple(alike) for kind, alike in found.items()}

    @cached_property
    def beside_base(self) -> Mapping[str, Beside]:
        """Each update beside the base model's weight, where its numbers are on this disk."""
        if self.base is None:
            return {}
        try:
            return beside(self.base, self.updates)
        except FormatError:  # the file changed after its header was read
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


def gather(path: Path, called: str, legacy: Legacy | None = None) -> Evidence:
    """Read an adapter's files as far as they go; what stops it is the evidence's `refusal`, and nothing is raised.

    `called` is how the user named it; `legacy` as in `load_adapter`.
    """
    folder = path if path.is_dir() else path.parent
    files = _listing(folder) if path.is_dir() else {path.name: _size(path)}
    try:
        opened = open_source(path, None, None, None, legacy)
    except FormatError as refusal:
        detection, config = _as_far_as_it_goes(path, folder)
        return Evidence(called, folder, files, config, detection, refusal=refusal)
    found = (called, folder, files, opened.source.config, opened.detection, opened.source.tensors)
    try:
        return Evidence(*found, adapter=opened.layout.read(opened.source), header=opened.source.metadata)
    except FormatError as refusal:
        return Evidence(*found, refusal=refusal, header=opened.source.metadata)


def _as_far_as_it_goes(path: Path, folder: Path) -> tuple[Detection | None, Mapping[str, Any]]:
    """What was recognised, and the configuration, of a path whose tensors cannot be read."""
    detection: Detection | None = None
    config: Mapping[str, Any] = {}
    with suppress(FormatError):
        detection = detect(path)
    with suppress(FormatError):
        config = read_config(folder / CONFIG)
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
