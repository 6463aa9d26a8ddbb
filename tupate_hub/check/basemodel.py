"""BaseModel: what a base model's configuration and safetensors headers say: which weights it has, of which shape.

Its weights are not read, but for the first rows of those that an adapter changes, where the model is on this disk.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.check import architecture
from tupate_hub.errors import FormatError
from tupate_hub.hub.location import MODEL, parse_location
from tupate_hub.readers.names import block_name
from tupate_hub.readers.source import read_config
from tupate_hub.space import spellings
from tupate_hub.storage.safetensors import described_as, read_file_header, read_pieces

Shape = tuple[int, ...]

_MOST_FILES = 256
_MOST_DEPTH = 16
_PIECE = re.compile(r"model-\d{1,6}-of-(\d{1,6})\.safetensors")
_MOST_SAMPLE = 1 << 19
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_READ = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
#: Models whose linear layers keep their weights as (in, out): transformers' Conv1D.
_TRANSPOSED = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
_TABLES = ("embed_tokens", "wte", "word_embeddings", "embeddings", "shared", "embed_in")
_HEADS = ("lm_head", "embed_out")


@dataclass(frozen=True)
class Weight:
    """One tensor of a base model: its shape and dtype, and the file of this disk that has it under `key`."""

    shape: Shape
    dtype: str
    key: str
    file: Path | None = None


@dataclass(frozen=True)
class BaseModel:
    """A base model: `where` its facts come from, its configuration, {} where it has none, and its weights by name.

    Names are canonical (`readers.names.block_name`). `weights` is empty where no safetensors header is there, and
    then names and shapes are those that the configuration tells.
    """

    where: str
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Weight] = field(default_factory=dict)

    @property
    def on_disk(self) -> bool:
        """Whether the numbers of its weights can be read here."""
        return any(weight.file is not None for weight in self.weights.values())

    @property
    def is_of_the_hub(self) -> bool:
        """Whether its facts come from a repository of the Hub, which `where` then names."""
        return self.where.startswith("hf://")

    @cached_property
    def modules(self) -> frozenset[str]:
        """The names of everything that holds a tensor, or something that does."""
        found: set[str] = set()
        for name in self.weights:
            for _ in range(_MOST_DEPTH):
                name = name.rpartition(".")[0]
                if not name or name in found:
                    break
                found.add(name)
        return frozenset(found)

    @property
    def width(self) -> int | None:
        """How wide its hidden states are."""
        return architecture.width_of(self.config)

    @cached_property
    def vocabulary(self) -> int | None:
        """How many tokens its embedding has rows for."""
        for name, weight in self.weights.items():
            if is_embedding(name) and len(weight.shape) == 2 and weight.dtype in _FLOATS:
                return weight.shape[0]
        return architecture.vocabulary_of(self.config)

    def lacks(self, block: str) -> bool:
        """Whether it has no place of that name, as far as is known."""
        if block.startswith(("lm_head", "pooler")):  # tied to the embedding, or left out of the checkpoint
            return False
        if self.weights:
            return block not in self.modules and block not in self.weights
        return architecture.lacks_layer(self.config, block)

    def shape(self, block: str) -> tuple[int, int] | None:
        """The (out, in) of the weight of a block; None where that is not known, as of quantised weights."""
        weight = self.weights.get(f"{block}.weight")
        if weight is None:
            return None if self.weights else architecture.shape_of(self.config, block)
        if weight.dtype not in _FLOATS or len(weight.shape) not in (2, 4):
            return None
        rows, columns = weight.shape[0], math.prod(weight.shape[1:])
        return (columns, rows) if self.is_transposed(block) else (rows, columns)

    def is_transposed(self, block: str) -> bool:
        """Whether the weight of a block is kept as (in, out): an embedding's table, or a layer of Conv1D's."""
        last = block.rpartition(".")[2]
        return last in _TABLES or (self.config.get("model_type") in _TRANSPOSED and last not in _HEADS)

    def first_rows(self, blocks: Iterable[str]) -> Iterator[tuple[str, Float64Array]]:
        """The first rows of the weights of these blocks as they are kept, some half a megabyte of each.

        Blocks whose weights are not on this disk, not in floating point, or of longer rows, are passed over.

        Raises
        ------
        FormatError
            When a file is malformed.
        """
        wanted: dict[Path, dict[str, str]] = {}
        for block in blocks:
            weight = self.weights.get(f"{block}.weight")
            if weight is not None and weight.file is not None and weight.dtype in _READ:
                wanted.setdefault(weight.file, {})[weight.key] = block
        for file, keys in wanted.items():
            for key, entry, data in read_pieces(file, keys.__contains__, _MOST_SAMPLE):
                weight = self.weights[f"{keys[key]}.weight"]
                dtype, columns = np.dtype(_READ[weight.dtype]), math.prod(weight.shape[1:])
                rows = len(data) // dtype.itemsize // columns if columns else 0
                if rows and entry.get("dtype") == weight.dtype:
                    numbers = np.frombuffer(data, dtype=dtype, count=rows * columns)
                    if weight.dtype == "BF16":
                        numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
                    yield keys[key], numbers.astype(np.float64).reshape(rows, columns)


def is_embedding(name: str) -> bool:
    """Whether a tensor is a table of tokens, or the head that is one, by its name."""
    module, _, last = name.rpartition(".")
    return last == "weight" and module.rpartition(".")[2] in (*_TABLES, *_HEADS)


def open_base(written: str) -> BaseModel:
    """The base model that the user names: a folder, a safetensors file, or a model of the Hub.

    Of one on the Hub its configuration and the headers of its safetensors files are fetched, by their range, unless the
    Hub's own cache has the model: then nothing is asked for.

    Raises
    ------
    FormatError
        When there is no such folder or model, or neither configuration nor weights are in it.
    NotAvailableOffline
        When it is not cached and there is no network.
    TupateHubError
        When the Hub refuses, each time with its own sentence.
    """
    path = Path(written)
    if written and _is_there(path):
        return read_base(path)
    location = next((found for one in spellings(written) if (found := parse_location(one, MODEL))), None)
    if location is None:
        raise FormatError(
            f"{written!r} is neither a folder nor a model of the Hub.", hint="name the base model: `base=MODEL_ID`"
        )
    from tupate_hub.hub.outline import cached_model, fetch_outline

    if (folder := cached_model(location)) is not None:
        return read_base(folder)
    outline = fetch_outline(location)
    weights = {block_name(key): Weight(shape, dtype, key) for key, (dtype, shape) in outline.tensors.items()}
    return BaseModel(str(outline.location), outline.config, weights)


def read_base(path: Path) -> BaseModel:
    """The base model in a folder, or the one a safetensors file is of; of its weights the headers alone are read.

    Raises
    ------
    FormatError
        When neither configuration nor weights are there, or one is malformed.
    """
    folder = path if path.is_dir() else path.parent
    config = read_config(folder / "config.json") if (folder / "config.json").is_file() else {}
    files = _weights_in(path) if path.is_dir() else [path]
    weights: dict[str, Weight] = {}
    for file in files:
        header, _ = read_file_header(file)
        header.pop("__metadata__", None)
        for key, entry in header.items():
            if (described := described_as(entry)) is not None:
                dtype, shape = described
                weights[block_name(key)] = Weight(shape, dtype, key, file)
    if not config and not weights:
        raise FormatError(
            f"{path} is no base model: it has neither a config.json nor safetensors.",
            hint="name the base model: `base=MODEL_ID`",
        )
    return BaseModel(str(path), config, weights)


def _weights_in(folder: Path) -> list[Path]:
    """The model's own safetensors files; none where pieces of it are missing, which would leave its names uncertain.

    In a folder that holds an adapter as well, the adapter's are not its.
    """
    try:
        files = sorted(one for one in folder.glob("*.safetensors") if not one.name.startswith("adapter"))
    except OSError as error:
        raise FormatError(f"{folder} cannot be read: {error.strerror}.") from error
    pieces = [match for file in files if (match := _PIECE.fullmatch(file.name))]
    whole = not pieces or len(pieces) == int(pieces[0][1])
    return files if whole and len(files) <= _MOST_FILES else []


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
