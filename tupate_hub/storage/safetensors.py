"""The safetensors file: read defensively into numpy, bfloat16 included, and written byte-identically.

Format: https://github.com/huggingface/safetensors, README, "Format": eight bytes of header length, a JSON header, one
buffer. The library's numpy flavour knows no bfloat16 and writes metadata in an order that changes from run to run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tupate_hub.arrays import Array
from tupate_hub.errors import FormatError

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
_MOST_ITEMS = 2**56
_MOST_NAME = 500


@dataclass(frozen=True)
class TensorFile:
    """Tensors by name and the file's own metadata. bfloat16 arrives as float32, everything else as stored."""

    tensors: Mapping[str, Array]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The file's bytes; the same tensors and metadata always give the same bytes.

        Tensors are stored in order of name, metadata keys sorted, the header padded with spaces to 8 bytes.

        Raises
        ------
        FormatError
            For a dtype that is not written, or text that is no Unicode.
        """
        header: dict[str, Any] = {"__metadata__": dict(sorted(self.metadata.items()))} if self.metadata else {}
        chunks, offset = [], 0
        for name in sorted(self.tensors):
            array = self.tensors[name].astype(self.tensors[name].dtype.newbyteorder("<"), copy=False)
            if array.dtype not in _NAMES:
                raise FormatError(f"{name!r} has dtype {array.dtype}, which is not written.")
            data = array.tobytes()
            header[name] = {
                "dtype": _NAMES[array.dtype],
                "shape": list(array.shape),
                "data_offsets": [offset, offset + len(data)],
            }
            chunks.append(data)
            offset += len(data)
        try:
            text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        except UnicodeEncodeError as error:
            raise FormatError("A name or the metadata holds half a character (a lone surrogate).") from error
        text += b" " * (-len(text) % 8)
        return b"".join([len(text).to_bytes(8, "little"), text, *chunks])


def header_length(data: bytes | memoryview, where: str, size: int) -> int:
    """How many bytes of header follow the first eight of a file of `size` bytes.

    Raises
    ------
    FormatError
        When so many cannot be there, or are not read.
    """
    if size < 8:
        raise FormatError(f"{where} is no safetensors file: it has {size} bytes.")
    length = int.from_bytes(data[:8], "little")
    if length > size - 8:
        raise FormatError(f"{where} is truncated or no safetensors file: its header claims {length} bytes of {size}.")
    if length > _MOST_HEADER:
        raise FormatError(f"{where} has a header of {length} bytes; at most {_MOST_HEADER} are read.")
    return length


def read_header(data: bytes | memoryview, where: str, size: int | None = None) -> tuple[dict[str, Any], int]:
    """The parsed header and the offset at which the buffer begins; `data` may end after the header.

    `size` is the size of the whole file, that of `data` unless given.

    Raises
    ------
    FormatError
        When the bytes are no safetensors file.
    """
    length = header_length(data, where, len(data) if size is None else size)
    try:
        header = json.loads(bytes(data[8 : 8 + length]).decode(), object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where} has a safetensors header that is not JSON, or names something twice.") from error
    if not isinstance(header, dict):
        raise FormatError(f"{where} has a safetensors header that is no JSON object.")
    return header, 8 + length


def parse_tensorfile(data: bytes, where: str) -> TensorFile:
    """Read a whole safetensors file from memory. Arrays are read-only views of `data` where the dtype allows.

    Raises
    ------
    FormatError
        Naming the tensor whose dtype, shape or offsets do not fit the file.
    """
    header, begin = read_header(data, where)
    metadata = header.pop("__metadata__", None) or {}  # MLX writes null
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"{where} has metadata that is not text.")
    buffer = memoryview(data)[begin:]
    tensors, spans = {}, []
    for name, entry in header.items():
        array, span = _tensor(buffer, name, entry, where)
        tensors[name] = array
        spans.append(span)
    spans.sort()
    if any(first[1] > second[0] for first, second in zip(spans, spans[1:], strict=False)):
        raise FormatError(f"{where} has tensors that overlap.")
    return TensorFile(tensors, metadata)


def read_tensorfile(path: Path) -> TensorFile:
    """Read a safetensors file from disk.

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


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("two fields of one name")
    return found


def _tensor(buffer: memoryview, name: str, entry: Any, where: str) -> tuple[Array, tuple[int, int]]:
    if len(name) > _MOST_NAME:
        raise FormatError(f"{where} has a tensor whose name has {len(name)} characters; at most {_MOST_NAME} are read.")
    try:
        code, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = isinstance(shape, list) and all(type(number) is int and number >= 0 for number in (*shape, start, stop))
    except (TypeError, KeyError, ValueError) as error:
        raise FormatError(f"{where}: the header's entry of {name!r} is malformed.") from error
    if not isinstance(code, str) or code not in _DTYPES:
        said = f"dtype {code[:20]!r}" if isinstance(code, str) else "a dtype that is no text"
        raise FormatError(f"{where}: {name!r} has {said}, which is not read.")
    dtype = _DTYPES[code]
    if not whole or len(shape) > 8 or math.prod(size or 1 for size in shape) > _MOST_ITEMS:
        raise FormatError(f"{where} is malformed: {name!r} has an impossible shape or place.")
    if stop > len(buffer) or math.prod(shape) * dtype.itemsize != stop - start:
        raise FormatError(f"{where} is truncated or malformed: {name!r} does not fit the file.")
    array = np.frombuffer(buffer[start:stop], dtype=dtype).reshape(shape)
    if code == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array, (start, stop)
