"""The safetensors file, in numpy: written through the library, and read through it where its digest was checked.

Strangers' files, and files of which a part is enough, are read here, defensively: the library's numpy flavour knows no
bfloat16, reads files whole and says little of what is wrong with one.

Format: https://github.com/huggingface/safetensors, README, "Format": eight bytes of header length, a JSON header, one
buffer.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from tupate_hub.arrays import Array
from tupate_hub.errors import FormatError
from tupate_hub.storage.strangers_json import parse_json

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items() if name != "BF16"}
_MOST_HEADER = 16_000_000
#: Of a header: some 60,000 tensors.
_MOST_ITEMS_OF_HEADER = 500_000
_MOST_ITEMS = 2**56
_MOST_NAME = 500


@dataclass(frozen=True)
class TensorFile:
    """Tensors by name and the file's own metadata. bfloat16 arrives as float32, everything else as stored."""

    tensors: Mapping[str, Array]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The file's bytes, as the library lays them out; the same tensors and metadata always give the same bytes.

        Raises
        ------
        FormatError
            For a dtype that is not written, or text that is not Unicode.
        """
        for name, array in self.tensors.items():
            if array.dtype.newbyteorder("<") not in _NAMES:
                raise FormatError(f"{name!r} has dtype {array.dtype}, which is not written.")
        little = {name: array.astype(array.dtype.newbyteorder("<"), order="C") for name, array in self.tensors.items()}
        try:
            written = safetensors.numpy.save(little)
            return _with_metadata(written, self.metadata) if self.metadata else written
        except UnicodeEncodeError as error:
            raise FormatError("A name or the metadata holds half a character (a lone surrogate).") from error


def _with_metadata(written: bytes, metadata: Mapping[str, str]) -> bytes:
    """A file that the library wrote, with metadata in order of its keys: in the library's own it changes by the run."""
    header, begin = read_header(written, "the file")
    header = {"__metadata__": dict(sorted(metadata.items())), **header}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, written[begin:]])


def header_length(data: bytes | memoryview | mmap, where: str, size: int) -> int:
    """How many bytes of header follow the first eight of a file of `size` bytes.

    Raises
    ------
    FormatError
        When so many cannot be there, or are not read.
    """
    if size < 8:
        raise FormatError(f"{where} is not a safetensors file: it has {size} bytes.")
    length = int.from_bytes(data[:8], "little")
    if length > size - 8:
        raise FormatError(
            f"{where} is truncated or not a safetensors file: its header claims {length} bytes of {size}."
        )
    if length > _MOST_HEADER:
        raise FormatError(f"{where} has a header of {length} bytes; at most {_MOST_HEADER} are read.")
    return length


def read_header(data: bytes | memoryview | mmap, where: str, size: int | None = None) -> tuple[dict[str, Any], int]:
    """The parsed header and the offset at which the buffer begins; `data` may end after the header.

    `size` is the size of the whole file, that of `data` unless given.

    Raises
    ------
    FormatError
        When the bytes are not a safetensors file.
    """
    length = header_length(data, where, len(data) if size is None else size)
    try:
        header = parse_json(bytes(data[8 : 8 + length]).decode(), _MOST_ITEMS_OF_HEADER, _distinct)
    except ValueError as error:
        raise FormatError(
            f"{where} has a safetensors header that is not JSON, has too much in it or names something twice."
        ) from error
    if not isinstance(header, dict):
        raise FormatError(f"{where} has a safetensors header that is not a JSON object.")
    return header, 8 + length


def described_as(entry: object) -> tuple[str, tuple[int, ...]] | None:
    """Dtype and shape in a tensor's entry of a header, None where they are malformed."""
    if not isinstance(entry, dict):
        return None
    dtype, shape = entry.get("dtype"), entry.get("shape")
    if not isinstance(dtype, str) or not isinstance(shape, list) or len(shape) > 8:
        return None
    return (dtype, tuple(shape)) if all(type(size) is int and size >= 0 for size in shape) else None


def load_tensorfile(data: bytes, where: str) -> TensorFile:
    """Read, through the library, a file of this project's own whose digest was checked. Arrays are read-only.

    Raises
    ------
    FormatError
        When the library refuses it, or it holds a dtype that is not written: the digest may be a stranger's, too.
    """
    header, _ = read_header(data, where)
    try:
        tensors = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:  # numpy lacks the dtype or so many axes
        raise FormatError(f"{where} is truncated or malformed: {error}.") from error
    for name, array in tensors.items():
        if array.dtype not in _NAMES:
            raise FormatError(f"{where}: {name!r} has dtype {array.dtype}, which is not read.")
        array.flags.writeable = False
    return TensorFile(tensors, _metadata(header, where))


def parse_tensorfile(data: bytes | mmap, where: str) -> TensorFile:
    """Read a stranger's whole file from memory, or as it is mapped there.

    Arrays are read-only views of `data` where the dtype allows.

    Raises
    ------
    FormatError
        Naming the tensor whose dtype, shape or offsets do not fit the file.
    """
    header, begin = read_header(data, where)
    metadata = _metadata(header, where)
    buffer = memoryview(data)[begin:]
    spans = tensor_spans(header, where, len(buffer))
    tensors = {name: tensor_of(buffer[slice(*span)], name, header[name], where) for name, span in spans.items()}
    return TensorFile(tensors, metadata)


def read_tensorfile(path: Path) -> TensorFile:
    """Read a stranger's whole file from disk.

    Raises
    ------
    FormatError
        When it cannot be read or is not a safetensors file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.") from error
    return parse_tensorfile(data, str(path))


# --- a part of a file ------------------------------------------------------------------------------------------


def read_file_header(path: Path) -> tuple[dict[str, Any], int]:
    """`read_header` of a file on disk, of which nothing else is read; errors as in `read_tensorfile`."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(8)
            start += file.read(header_length(start, str(path), size))
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.") from error
    return read_header(start, str(path), size)


def read_tensors(path: Path, wanted: Callable[[str], bool]) -> dict[str, Array]:
    """Those tensors of a file on disk whose names are wanted; errors as in `parse_tensorfile`."""
    pieces = read_pieces(path, wanted)
    return {name: tensor_of(memoryview(data), name, entry, str(path)) for name, entry, data in pieces}


def read_pieces(
    path: Path, wanted: Callable[[str], bool] = lambda name: True, most: int | None = None
) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    """Each wanted tensor's name, its entry of the header and its bytes, at most the first `most` of them.

    Raises
    ------
    FormatError
        When the file cannot be read, its header is malformed, or a tensor does not lie inside it.
    """
    header, begin = read_file_header(path)
    header.pop("__metadata__", None)
    try:
        with path.open("rb") as file:
            spans = tensor_spans(header, str(path), os.fstat(file.fileno()).st_size - begin)
            for name, (start, stop) in spans.items():
                if wanted(name):
                    file.seek(begin + start)
                    yield name, header[name], file.read(stop - start if most is None else min(stop - start, most))
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.") from error


def read_tensor(path: Path, name: str, entry: Any, begin: int) -> Array:
    """One tensor of a file on disk whose header was read before: `entry` of `read_file_header`'s, and its offset.

    Raises
    ------
    FormatError
        When the file cannot be read, or the tensor does not fit it.
    """
    try:
        with path.open("rb") as file:
            start, stop = _span(entry, name, str(path), os.fstat(file.fileno()).st_size - begin)
            file.seek(begin + start)
            return tensor_of(memoryview(file.read(stop - start)), name, entry, str(path))
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.") from error


# --- the header's entries --------------------------------------------------------------------------------------


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("two fields of one name")
    return fields


def _metadata(header: dict[str, Any], where: str) -> Mapping[str, str]:
    """Take the metadata out of a header."""
    metadata = header.pop("__metadata__", None) or {}  # MLX writes null
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"{where} has metadata that is not text.")
    return metadata


def tensor_spans(header: dict[str, Any], where: str, room: int) -> dict[str, tuple[int, int]]:
    """Where each tensor lies in a buffer of `room` bytes.

    All of them are looked at before one is read: tensors that overlap can be converted to any multiple of the file.
    """
    spans = {name: _span(entry, name, where, room) for name, entry in header.items()}
    if any(first[1] > second[0] for first, second in pairwise(sorted(spans.values()))):
        raise FormatError(f"{where} has tensors that overlap.")
    return spans


def _span(entry: Any, name: str, where: str, room: int) -> tuple[int, int]:
    """Where a tensor's bytes begin and end in a buffer of `room` bytes."""
    if len(name) > _MOST_NAME:
        raise FormatError(f"{where} has a tensor whose name has {len(name)} characters; at most {_MOST_NAME} are read.")
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(offset) is int for offset in offsets):
        raise FormatError(f"{where}: the header's entry of {name!r} is malformed.")
    start, stop = offsets
    if not 0 <= start <= stop <= room:
        raise FormatError(f"{where} is truncated or malformed: {name!r} does not fit the file.")
    return start, stop


def tensor_of(data: memoryview, name: str, entry: Mapping[str, Any], where: str) -> Array:
    """The tensor that an entry of the header describes, of its bytes."""
    code, shape = entry.get("dtype"), entry.get("shape")
    if not isinstance(code, str) or code not in _DTYPES:
        said = f"dtype {code[:20]!r}" if isinstance(code, str) else "a dtype that is not text"
        raise FormatError(f"{where}: {name!r} has {said}, which is not read.")
    dtype = _DTYPES[code]
    whole = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not isinstance(shape, list) or not whole or len(shape) > 8 or math.prod(n or 1 for n in shape) > _MOST_ITEMS:
        raise FormatError(f"{where} is malformed: {name!r} has an impossible shape.")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise FormatError(f"{where} is truncated or malformed: {name!r} does not fit the file.")
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    return _widened(array) if code == "BF16" else array


def _widened(bfloat16: Array) -> Array:
    """Its bits as the upper half of float32's; shifted in place, since the whole file may be one tensor."""
    wide = bfloat16.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)
