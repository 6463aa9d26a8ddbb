"""BitFit: tuned biases, as a file of nothing else, or as a whole checkpoint of which only the biases are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tupate_hub.arrays import Array
from tupate_hub.embedding import Adapter, Block, make_block
from tupate_hub.errors import FormatError
from tupate_hub.readers.names import block_name, is_head
from tupate_hub.readers.source import Findings, Source, check_weights, floats, read_weights
from tupate_hub.storage.safetensors import parse_tensorfile, read_header

_MOST_HEADER = 16_000_000
_PROBE = 4096


def bias_blocks(source: Source, tuned: Mapping[str, Array], found: Findings) -> list[Block]:
    """Blocks of form `bias`: the difference from the base model's tensors where those are given, else as they are.

    Raises
    ------
    FormatError
        When a tensor is no vector, or the base model lacks one or has it in another shape.
    """
    names = {block_name(key): key for key in tuned}
    if len(names) < len(tuned):
        raise source.refuse("holds two biases of one name.")
    base: Mapping[str, Array] = {}
    if source.base_weights is not None:
        base = read_named(source.base_weights, set(names))
    else:
        found.notes.append("The biases are raw: give the base model's weights to have the difference from them.")
    found.settings["delta"] = source.base_weights is not None
    blocks = []
    for name, key in names.items():
        value = floats(source, key, tuned[key])
        if source.base_weights is not None:
            if name not in base or base[name].shape != value.shape:
                raise source.refuse(f"holds {name!r} of shape {value.shape}, which {source.base_weights} lacks.")
            value = value - floats(source, key, base[name])
        blocks.append(make_block(name, {"bias": value}, 1.0, source.where))
    return blocks


def read_biases(source: Source) -> Adapter:
    """A file whose tensors are all called `*.bias`.

    Raises
    ------
    FormatError
        When there is no bias beside the heads', or a tensor is something else.
    """
    found, tuned = Findings(), {}
    for key, array in source.tensors.items():
        if is_head(key):
            found.left_out["heads"] += 1
        else:
            tuned[key] = array
    found.blocks += bias_blocks(source, tuned, found)
    return found.adapter(source, "bitfit")


def read_checkpoint(source: Source) -> Adapter:
    """A whole model's checkpoint against its base model: only the biases are read, and a little of every weight.

    Raises
    ------
    FormatError
        Without the base model's weights, or when a weight that is no bias differs: it is no BitFit.
    """
    if source.base_weights is None:
        raise source.refuse(
            "is a whole model, not an adapter; its biases are read only against those of its base model.",
            hint="give the base model's weights: `base_weights=FOLDER`",
        )
    found, tuned = Findings(), {}
    ours = {block_name(key): (key, start) for key, start in _beginnings(source.weights)}
    theirs = {block_name(key): start for file in _files(source.base_weights) for key, start in _beginnings(file)}
    for name, (key, start) in ours.items():
        if is_head(key):
            found.left_out["heads"] += 1
        elif name.endswith("bias"):
            tuned[name] = key
        elif name in theirs and theirs[name] != start:
            raise source.refuse(f"differs from its base model in {name!r}, which is no bias: it is no BitFit.")
        else:
            found.left_out["unchanged weights" if name in theirs else "weights that the base model lacks"] += 1
    kept = read_named(source.weights, set(tuned))
    found.blocks += bias_blocks(source, {tuned[name]: array for name, array in kept.items()}, found)
    return found.adapter(source, "bitfit", source.config.get("_name_or_path"))


def read_named(path: Path, names: set[str]) -> dict[str, Array]:
    """The tensors of those canonical names, of a safetensors file or of a folder of them; nothing else is read.

    Raises
    ------
    FormatError
        When there is no safetensors file, or one is malformed.
    """
    found: dict[str, Array] = {}
    for file in _files(path):
        if file.suffix != ".safetensors":
            found |= {block_name(key): array for key, array in read_weights(file).items() if block_name(key) in names}
            continue
        header, begin = _header(file)
        with file.open("rb") as handle:
            for key, entry in header.items():
                if block_name(key) not in names:
                    continue
                start, stop = _span(entry, file, key)
                handle.seek(begin + start)
                found[block_name(key)] = _tensor(key, entry, handle.read(min(stop - start, 1 << 30)), str(file))
    return found


def _tensor(key: str, entry: dict[str, Any], data: bytes, where: str) -> Array:
    # A safetensors file of this one tensor, so that one parser checks dtypes, shapes and sizes.
    alone = json.dumps({key: {**entry, "data_offsets": [0, len(data)]}}).encode()
    return np.asarray(parse_tensorfile(len(alone).to_bytes(8, "little") + alone + data, where).tensors[key])


def _beginnings(path: Path) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Each tensor's key with its dtype, shape and first bytes."""
    header, begin = _header(path)
    with path.open("rb") as handle:
        for key, entry in header.items():
            start, stop = _span(entry, path, key)
            handle.seek(begin + start)
            yield key, (str(entry.get("dtype")), str(entry.get("shape")), handle.read(min(stop - start, _PROBE)))


def _header(path: Path) -> tuple[dict[str, Any], int]:
    check_weights(path)
    if path.suffix != ".safetensors":
        raise FormatError(f"{path} is no safetensors file, of which alone single tensors are read.")
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            data = length.to_bytes(8, "little") + handle.read(min(length, size, _MOST_HEADER))
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.") from error
    header, begin = read_header(data, str(path), size)
    header.pop("__metadata__", None)
    return header, begin


def _span(entry: object, path: Path, key: str) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(one) is int for one in offsets):
        raise FormatError(f"{path}: the header's entry of {key!r} is malformed.")
    start, stop = offsets
    if not 0 <= start <= stop <= path.stat().st_size:
        raise FormatError(f"{path} is truncated or malformed: {key!r} does not fit the file.")
    return start, stop


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.safetensors")) or sorted(path.glob("pytorch_model*.bin"))
    if not found:
        raise FormatError(f"{path} holds no model weights.")
    return found


def header_keys(path: Path) -> tuple[str, ...]:
    """The keys of a safetensors file, from its header alone.

    Raises
    ------
    FormatError
        When it is no safetensors file.
    """
    return tuple(_header(path)[0])
