"""GGUF, the container of llama.cpp: key-values and tensors, sizes checked before anything is allocated.

Format: ggml-org/ggml, docs/gguf.md, versions 2 and 3, little-endian; blocks of Q8_0: gguf-py 0.19, quants.py. Of the
quantised types only that one is read: converters write an adapter in F32, F16, BF16 or Q8_0.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tupate_hub.arrays import Array, Float32Array
from tupate_hub.errors import FormatError

_MOST_TENSORS = 50_000
_MOST_FIELDS = 10_000
#: Of all lists of one file together; a vocabulary has some 250,000 items.
_MOST_ITEMS = 1_000_000
_MOST_TEXT = 500
_MOST_DIMENSIONS = 4
_MOST_ALIGNMENT = 1 << 16

_STRING, _LIST = 8, 9
_NUMBERS: Mapping[int, struct.Struct] = {
    code: struct.Struct(f"<{letter}")
    for code, letter in {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "?",
        10: "Q",
        11: "q",
        12: "d",
    }.items()
}

#: Types of tensors: name, numbers in a block, bytes of a block.
_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    8: ("Q8_0", 32, 34),
    28: ("F64", 1, 8),
    30: ("BF16", 1, 2),
}


@dataclass(frozen=True)
class Entry:
    """One tensor as the header describes it: its type, its shape in numpy's order and where its bytes lie."""

    kind: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """What a file says before its tensors: key-values, and the tensors' entries. Long lists of texts are dropped."""

    metadata: Mapping[str, Any]
    entries: Mapping[str, Entry]


class _Reader:
    """A cursor over the bytes that refuses to go beyond their end."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data, self.where, self.at, self.items = data, where, 0, 0

    def refuse(self, why: str) -> FormatError:
        return FormatError(f"{self.where} is truncated or malformed: {why}.")

    def number(self, kind: struct.Struct) -> Any:
        if self.at + kind.size > len(self.data):
            raise self.refuse("it ends inside its header")
        self.at += kind.size
        return kind.unpack_from(self.data, self.at - kind.size)[0]

    def count(self, what: str, most: int) -> int:
        count: int = self.number(_NUMBERS[10])
        if count > most:
            raise self.refuse(f"it claims {count} {what}, at most {most} are read")
        return count

    def text(self, most: int | None = None) -> str:
        length = self.number(_NUMBERS[10])
        if length > len(self.data) - self.at:
            raise self.refuse("a text is longer than the file")
        if most is not None and length > most:
            raise self.refuse(f"a name has {length} bytes, at most {most} are read")
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8", errors="replace")

    def value(self) -> Any:
        kind = self.number(_NUMBERS[4])
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == _STRING:
            return self.text()
        if kind != _LIST:
            raise self.refuse(f"a value has the unknown type {kind}")
        return self.list_of(self.number(_NUMBERS[4]))

    def list_of(self, kind: int) -> list[Any]:
        if kind != _STRING and kind not in _NUMBERS:
            raise self.refuse(f"a list of type {kind} is not read")
        count = self.count("items in a list", _MOST_ITEMS - self.items)
        self.items += count
        if kind != _STRING:
            size = _NUMBERS[kind].size * count
            if size > len(self.data) - self.at:
                raise self.refuse("a list is longer than the file")
            self.at += size
            return [one[0] for one in _NUMBERS[kind].iter_unpack(self.data[self.at - size : self.at])]
        texts = [self.text() for _ in range(count)]
        return texts if count <= _MOST_DIMENSIONS else []


def parse_gguf_header(data: bytes, where: str) -> Header:
    """Key-values and tensors' entries, every entry checked against the file's size.

    Raises
    ------
    FormatError
        For a file of another kind, a truncated or malformed one, or one of a type of tensor that is not read.
    """
    if data[:4] == b"algg":
        raise FormatError(
            f"{where} is a GGLA file, from before GGUF.", hint="convert the adapter anew with convert_lora_to_gguf.py"
        )
    reader = _Reader(data, where)
    version = reader.number(_NUMBERS[4]) and reader.number(_NUMBERS[4])
    if data[:4] != b"GGUF":
        raise FormatError(f"{where} is not a GGUF file.")
    if version not in (2, 3):
        said = "big-endian" if version and version & 0xFFFF == 0 else f"of version {version}"
        raise FormatError(f"{where} is a GGUF file {said}; versions 2 and 3, little-endian, are read.")
    tensors = reader.count("tensors", _MOST_TENSORS)
    metadata: dict[str, Any] = {}
    for _ in range(reader.count("key-values", _MOST_FIELDS)):
        key = reader.text(_MOST_TEXT)
        if key in metadata:
            raise reader.refuse("two key-values have one key")
        metadata[key] = reader.value()
    return Header(metadata, _entries(reader, tensors, metadata.get("general.alignment", 32)))


def is_adapter(start: bytes) -> bool:
    """Whether the first bytes of a file say that it is an adapter: a model's gigabytes are not read to find that out.

    True for what is no GGUF file of a known version too: reading it says what is wrong.
    """
    if start[:4] != b"GGUF" or start[4:8] not in (b"\2\0\0\0", b"\3\0\0\0"):
        return True
    reader = _Reader(start, "")
    reader.at = 16
    try:
        for _ in range(reader.count("key-values", _MOST_FIELDS)):
            if reader.text(_MOST_TEXT) == "general.type":
                return bool(reader.value() == "adapter")
            reader.value()
    except FormatError:
        pass
    return False


def _entries(reader: _Reader, count: int, alignment: object) -> dict[str, Entry]:
    if type(alignment) is not int or not 0 < alignment <= _MOST_ALIGNMENT:
        raise reader.refuse("its alignment is no sensible number")
    raw: dict[str, tuple[str, tuple[int, ...], int, int]] = {}
    for _ in range(count):
        name = reader.text(_MOST_TEXT)
        dimensions = reader.number(_NUMBERS[4])
        if dimensions > _MOST_DIMENSIONS or name in raw:
            raise reader.refuse("a tensor has too many dimensions, or the name of another")
        shape = tuple(reader.number(_NUMBERS[10]) for _ in range(dimensions))[::-1]
        kind, offset = reader.number(_NUMBERS[4]), reader.number(_NUMBERS[10])
        raw[name] = _sized(reader, name, shape, kind, offset)
    begin = -(-reader.at // alignment) * alignment
    entries = {
        name: Entry(kind, shape, begin + offset, begin + offset + size)
        for name, (kind, shape, offset, size) in raw.items()
    }
    ordered = sorted((entry.start, entry.stop) for entry in entries.values())
    if ordered and ordered[-1][1] > len(reader.data):
        raise reader.refuse("a tensor does not fit the file")
    if any(first[1] > second[0] for first, second in pairwise(ordered)):
        raise reader.refuse("its tensors overlap")
    return entries


def _sized(
    reader: _Reader, name: str, shape: tuple[int, ...], kind: int, offset: int
) -> tuple[str, tuple[int, ...], int, int]:
    if kind not in _TYPES:
        known = ", ".join(each[0] for each in _TYPES.values())
        raise FormatError(f"{reader.where} holds {name!r} in GGML's type {kind}; read: {known}.")
    called, in_block, size = _TYPES[kind]
    numbers = math.prod(shape)
    if numbers > len(reader.data) or (shape and shape[-1] % in_block):
        raise reader.refuse(f"{name!r} has the impossible shape {shape}")
    return called, shape, offset, numbers // in_block * size


def parse_gguf_file(data: bytes, where: str) -> tuple[dict[str, Array], Mapping[str, Any]]:
    """The tensors by name, in numpy's order of axes, and the key-values; errors as in `parse_gguf_header`.

    F32, F16 and F64 are views of `data`, BF16 and Q8_0 become float32.
    """
    header = parse_gguf_header(data, where)
    buffer = memoryview(data)
    tensors = {name: _array(buffer[entry.start : entry.stop], entry) for name, entry in header.entries.items()}
    return tensors, header.metadata


def _array(data: memoryview, entry: Entry) -> Array:
    if entry.kind == "Q8_0":
        return _from_q8(data).reshape(entry.shape)
    if entry.kind == "BF16":
        wide = np.frombuffer(data, dtype="<u2").astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32).reshape(entry.shape)
    kinds = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
    return np.frombuffer(data, dtype=kinds[entry.kind]).reshape(entry.shape)


def _from_q8(data: memoryview) -> Float32Array:
    """Blocks of a float16 scale and 32 signed bytes, as the products of the two."""
    blocks = np.frombuffer(data, dtype=np.dtype([("scale", "<f2"), ("values", "i1", 32)]))
    numbers = blocks["values"].astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # make_block refuses what is not finite
        numbers *= blocks["scale"].astype(np.float32)[:, None]
    return numbers.ravel()
