"""Archive: a zip file's stored members as views of its bytes. Nothing is unpacked, written or decompressed.

Format: PKWARE APPNOTE 6.3.10, 4.3.7 (local header), 4.3.12 (central directory), 4.3.14 to 4.3.16 (its end, zip64).
The standard library's `zipfile` copies every member and makes an object for each of any number of members; here a
directory that lies is refused before anything of its size is allocated.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tupate_hub.errors import FormatError

MOST_MEMBERS = 20_000

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_LONGEST_COMMENT = 0xFFFF


@dataclass(frozen=True)
class Member:
    """A member's bytes, as a view, and the CRC-32 that the directory gives for them."""

    data: memoryview
    crc: int


@dataclass(frozen=True)
class Archive:
    """The members of a zip file by name; `where` names the file in errors."""

    members: Mapping[str, Member]
    where: str

    def read(self, name: str) -> memoryview:
        """A member's bytes.

        Raises
        ------
        FormatError
            When there is no such member, or its checksum is another.
        """
        member = self.members.get(name)
        if member is None:
            raise FormatError(f"{self.where} is incomplete: the archive has no {_shown(name)}.")
        if zlib.crc32(member.data) != member.crc:
            raise FormatError(
                f"{self.where} is damaged: the checksum of {_shown(name)} is wrong.", hint="fetch the file again"
            )
        return member.data


@dataclass(frozen=True)
class _Entry:
    name: bytes
    crc: int
    size: int
    offset: int


def open_archive(data: bytes, where: str) -> Archive:
    """The members of a zip file in memory.

    Raises
    ------
    FormatError
        When the bytes are not a zip file, or a truncated one; for compressed or encrypted members, members that overlap
        or share a name, names that lead outside the archive, and more than `MOST_MEMBERS` members.
    """
    try:
        count, begin, end = _directory(data, where)
        if count > MOST_MEMBERS:
            raise FormatError(f"{where} is an archive of {count} members; at most {MOST_MEMBERS} are read.")
        members: dict[str, Member] = {}
        spans = []
        for entry in _entries(data, count, begin, end, where):
            name = _safe_name(entry.name, where)
            if name in members:
                raise FormatError(f"{where} has two members called {_shown(name)}.")
            start = _data_start(data, entry, begin, where)
            members[name] = Member(memoryview(data)[start : start + entry.size], entry.crc)
            spans.append((entry.offset, start + entry.size))
    except struct.error as error:
        raise FormatError(f"{where} is a truncated or malformed zip archive.") from error
    spans.sort()
    if any(first[1] > second[0] for first, second in itertools.pairwise(spans)):
        raise FormatError(f"{where} is a malformed zip archive: its members overlap.")
    return Archive(members, where)


def _directory(data: bytes, where: str) -> tuple[int, int, int]:
    """How many members the central directory lists, where it begins and where it ends."""
    at = data.rfind(b"PK\5\6", max(0, len(data) - _LONGEST_COMMENT - _END.size))
    if at < 0:
        raise FormatError(f"{where} is truncated: a zip archive without its directory.", hint="fetch the file again")
    *_, count, length, begin, _ = _END.unpack_from(data, at)
    end = begin + length
    if at >= _LOCATOR64.size and data[at - _LOCATOR64.size : at - _LOCATOR64.size + 4] == b"PK\6\7":
        _, _, at64, _ = _LOCATOR64.unpack_from(data, at - _LOCATOR64.size)
        # A 64-bit offset can exceed what struct takes for one.
        if at64 > len(data):
            raise FormatError(f"{where} is a truncated or malformed zip archive.")
        magic, *_, count, length, begin = _END64.unpack_from(data, at64)
        end = begin + length
        at = at64 if magic == b"PK\6\6" else -1
    if end > at:
        raise FormatError(f"{where} is a truncated or malformed zip archive: its directory lies outside the file.")
    return count, begin, end


def _entries(data: bytes, count: int, begin: int, end: int, where: str) -> Iterator[_Entry]:
    at = begin
    for _ in range(count):
        fields = _ENTRY.unpack_from(data, at)
        magic, _, _, flags, method, _, _, crc, packed, size, of_name, of_extra, of_comment, *_, offset = fields
        at += _ENTRY.size
        after = at + of_name + of_extra + of_comment
        if magic != b"PK\1\2" or after > end:
            raise FormatError(f"{where} is a malformed zip archive: its directory does not list {count} members.")
        name = data[at : at + of_name]
        if flags & 1 or method != 0:
            raise FormatError(
                f"{where} has compressed or encrypted members; only stored ones are read, as torch.save writes them.",
                hint="load it and save it again with torch.save",
            )
        extra = data[at + of_name : at + of_name + of_extra]
        size, packed, offset = _widen(extra, size, packed, offset)
        if size != packed:
            raise FormatError(f"{where} is a malformed zip archive: {_shown(name)} has two sizes.")
        yield _Entry(name, crc, size, offset)
        at = after


def _widen(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """The 64-bit values that the zip64 extra field (id 1) gives for those that are all ones."""
    values, at = [size, packed, offset], 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if kind == 1:
            wide = [index for index, value in enumerate(values) if value == _FULL32]
            for index, value in zip(wide, struct.unpack_from(f"<{len(wide)}Q", extra, at), strict=True):
                values[index] = value
            break
        at += length
    return values[0], values[1], values[2]


def _data_start(data: bytes, entry: _Entry, directory: int, where: str) -> int:
    """Where a member's bytes begin, from its local header, which has to agree with the directory."""
    if entry.offset + entry.size > directory:
        raise FormatError(f"{where} is truncated or malformed: {_shown(entry.name)} lies outside the file.")
    magic, *_, of_name, of_extra = _LOCAL.unpack_from(data, entry.offset)
    begin = entry.offset + _LOCAL.size
    start: int = begin + of_name + of_extra
    if magic != b"PK\3\4" or data[begin : begin + of_name] != entry.name or start + entry.size > directory:
        raise FormatError(f"{where} is a malformed zip archive: {_shown(entry.name)} is not where it should be.")
    return start


def _safe_name(name: bytes, where: str) -> str:
    try:
        text = name.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{where} has a member whose name is not UTF-8.") from error
    if text.startswith("/") or "\\" in text or ":" in text.partition("/")[0] or ".." in text.split("/"):
        raise FormatError(f"{where} has a member whose name leads outside the archive: {_shown(name)}.")
    return text


def _shown(name: str | bytes) -> str:
    """A stranger's name, short and without control characters."""
    text = name if isinstance(name, str) else name.decode("utf-8", "replace")
    return repr(text if len(text) <= 80 else text[:77] + "...")
