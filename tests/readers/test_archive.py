"""Zip archives as views of their bytes: what the standard library writes is read, what lies is refused."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tupate_hub.errors import FormatError
from tupate_hub.readers.formats import archive as module
from tupate_hub.readers.formats.archive import open_archive

MEMBERS = {"a/data.pkl": b"N.", "a/data/0": bytes(range(256)), "a/empty": b"", "a/é": b"x"}


def zipped(members: dict[str, bytes], **options: object) -> bytes:
    """What the standard library writes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, data in members.items():
            with target.open(name, "w", **options) as stream:  # type: ignore[call-overload]
                stream.write(data)
    return buffer.getvalue()


def contents(data: bytes) -> dict[str, bytes]:
    """Every member's bytes."""
    read = open_archive(data, "x")
    return {name: bytes(read.read(name)) for name in read.members}


def refusal(data: bytes) -> str:
    """The sentence with which an archive, or one of its members, is refused."""
    with pytest.raises(FormatError) as error:
        contents(data)
    return error.value.message


def directory_of(data: bytes) -> int:
    """Where the central directory begins."""
    return data.index(b"PK\1\2")


def patched(data: bytes, at: int, layout: str, value: int) -> bytes:
    """The bytes with one number changed."""
    changed = bytearray(data)
    struct.pack_into(layout, changed, at, value)
    return bytes(changed)


def test_what_zipfile_writes() -> None:
    assert contents(zipped(MEMBERS)) == MEMBERS
    assert contents(zipped({})) == {}


def test_zip64() -> None:
    assert contents(zipped(MEMBERS, force_zip64=True)) == MEMBERS


def test_zip64_end_of_directory() -> None:
    """As torch writes it for a file of any size: the directory's place is in the 64-bit record."""
    data = zipped(MEMBERS)
    end = data.rindex(b"PK\5\6")
    *_, count, length, begin, _ = struct.unpack_from("<4s4H2LH", data, end)
    wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, begin)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    changed = data[:end] + wide + locator + last
    assert contents(changed) == MEMBERS
    with zipfile.ZipFile(io.BytesIO(changed)) as same:
        assert same.namelist() == list(MEMBERS)
    for place in (2**63, end + 1, len(changed)):
        bad = changed.replace(locator, struct.pack("<4sLQL", b"PK\6\7", 0, place, 1))
        assert "malformed" in refusal(bad)
    lies = changed.replace(wide, struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, 2**62))
    assert "outside the file" in refusal(lies)


def test_data_descriptors() -> None:
    class Stream(io.BytesIO):
        def tell(self) -> int:
            raise OSError("a stream")

    buffer = Stream()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, data in MEMBERS.items():
            target.writestr(name, data)
    data = buffer.getvalue()
    assert struct.unpack_from("<H", data, 6)[0] & 8
    assert contents(data) == MEMBERS


def test_comments_and_extra_fields() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        entry = zipfile.ZipInfo("a")
        entry.extra = struct.pack("<2H", 0x4246, 8) + bytes(8) + struct.pack("<2H", 0x7777, 0)
        entry.comment = b"of the member"
        target.writestr(entry, b"data")
        target.comment = b"of the file"
    assert contents(buffer.getvalue()) == {"a": b"data"}


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=9), st.binary(max_size=99)))
def test_any_members(members: dict[str, bytes]) -> None:
    assert contents(zipped(members)) == members


def test_members_are_views_of_the_bytes() -> None:
    data = zipped(MEMBERS)
    assert open_archive(data, "x").members["a/data/0"].data.obj is data


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_members_are_refused(method: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as target:
        target.writestr("a", bytes(5_000_000))
    assert "compressed" in refusal(buffer.getvalue())


def test_encrypted_members_are_refused() -> None:
    data = zipped(MEMBERS)
    assert "encrypted" in refusal(patched(data, directory_of(data) + 8, "<H", 1))


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a\\..\\x", "C:/x", "C:\\x", "..", "a/.."])
def test_names_that_lead_outside_are_refused(name: str) -> None:
    stand_in = "n" * len(name.encode())
    data = zipped({stand_in: b"x"}).replace(stand_in.encode(), name.encode())
    assert "outside the archive" in refusal(data)


def test_names_are_shown_short_and_clean() -> None:
    assert len(refusal(zipped({"../" + "a" * 10_000: b""}))) < 300
    assert "\x1b" not in refusal(zipped({"../\x1b[31m": b""}))


def test_names_that_are_no_utf8_are_refused() -> None:
    assert "UTF-8" in refusal(zipped({"nnn": b"x"}).replace(b"nnn", b"\xff\xfe\xfd"))


def test_two_members_of_one_name_are_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as target:
            target.writestr("a", b"1")
            target.writestr("a", b"2")
    assert "two members called 'a'" in refusal(buffer.getvalue())


def test_a_member_that_is_missing() -> None:
    with pytest.raises(FormatError, match="has no 'b'"):
        open_archive(zipped(MEMBERS), "x").read("b")


def test_damaged_data_is_noticed() -> None:
    data = zipped(MEMBERS)
    at = data.index(bytes(range(256))) + 7
    assert "checksum of 'a/data/0'" in refusal(patched(data, at, "B", 99))


@pytest.mark.parametrize(
    ("field", "layout", "value"),
    [
        (0, "<L", 0),  # the signature
        (16, "<L", 1),  # the checksum
        (20, "<L", 1),  # the size, packed
        (24, "<L", 2**31),  # the size
        (24, "<L", 0xFFFFFFFF),  # the size, in a zip64 field that is not there
        (28, "<H", 0xFFFF),  # the length of the name
        (28, "<H", 0),
        (30, "<H", 0xFFFF),  # of the extra field
        (32, "<H", 0xFFFF),  # of the comment
        (42, "<L", 2**32 - 2),  # the place of the member
        (42, "<L", 1),
    ],
)
def test_directory_entries_that_lie(field: int, layout: str, value: int) -> None:
    data = zipped(MEMBERS)
    refusal(patched(data, directory_of(data) + field, layout, value))


@pytest.mark.parametrize(("field", "layout", "value"), [(0, "<L", 0), (26, "<H", 0), (26, "<H", 9), (28, "<H", 0xFFFF)])
def test_local_headers_that_lie(field: int, layout: str, value: int) -> None:
    refusal(patched(zipped(MEMBERS), field, layout, value))


@pytest.mark.parametrize(
    ("field", "layout", "value"),
    [(10, "<H", 5), (10, "<H", 60_000), (12, "<L", 10), (12, "<L", 2**32 - 1), (16, "<L", 0), (16, "<L", 2**32 - 1)],
)
def test_ends_that_lie(field: int, layout: str, value: int) -> None:
    data = zipped(MEMBERS)
    refusal(patched(data, data.rindex(b"PK\5\6") + field, layout, value))


def test_overlapping_members_are_refused() -> None:
    """A quine of members that share their bytes would multiply a small file."""
    inner = zipped({"b": b"0123456789"})
    outer = zipped({"a": inner})
    first, second = outer.index(b"PK\1\2", len(inner)), outer.rindex(b"PK\1\2")
    assert first == second
    entry = bytearray(inner[inner.index(b"PK\1\2") : inner.rindex(b"PK\5\6")])
    struct.pack_into("<L", entry, 42, outer.index(inner))
    end = outer.rindex(b"PK\5\6")
    forged = bytearray(outer[:end] + entry + outer[end:])
    struct.pack_into("<2HL", forged, end + len(entry) + 8, 2, 2, end - first + len(entry))
    assert "overlap" in refusal(bytes(forged))


def test_too_many_members_are_refused_before_any_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_MEMBERS", 3)
    assert "4 members; at most 3" in refusal(zipped(MEMBERS))


def test_truncated_at_every_byte() -> None:
    data = zipped(MEMBERS)
    for length in range(len(data)):
        refusal(data[:length])


def test_flipped_at_every_byte() -> None:
    """A flipped byte is noticed, or changes nothing of what is read but names (dates, versions, attributes)."""
    data = zipped(MEMBERS)
    for at in range(len(data)):
        try:
            read = contents(patched(data, at, "B", data[at] ^ 0x10))
        except FormatError:
            continue
        assert set(read.values()) <= set(MEMBERS.values())


@pytest.mark.parametrize(
    "data",
    [b"", b"PK", b"PK\5\6", b"PK\5\6" + b"\xff" * 18, b"PK\6\7" + b"\xff" * 16 + b"PK\5\6" + bytes(18)],
)
def test_no_archives(data: bytes) -> None:
    assert "archive" in refusal(data)


def test_lies_of_any_kind_in_the_module_are_told_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"some/file\.bin is truncated"):
        open_archive(b"x" * 100, "some/file.bin")
