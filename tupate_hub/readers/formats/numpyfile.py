"""NumPy's files, .npy and .npz, read without pickle: headers and sizes are checked before anything is allocated.

Format: numpy.lib.format, versions 1.0 to 3.0 (NumPy reference, "NumPy file format"). The header is matched
against the one form that NumPy writes; nothing is evaluated.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib

import numpy as np

from tupate_hub.arrays import Array
from tupate_hub.errors import FormatError

_HEADER = re.compile(
    r"\{ *'descr': '(?P<dtype>[<>=|](?:f[248]|[iu][1248]))', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>[0-9L, ]*)\),? *\} *\n?"
)
_OBJECTS = re.compile(r"'descr': '?[<>=|]*O")
_MOST_MEMBERS = 10_000
_MOST_GROWTH = 2
_SPARE = 32_000_000


def parse_numpy_file(data: bytes, where: str) -> dict[str, Array] | Array:
    """The array of a .npy file, or those of a .npz archive by name; `where` is the file's path, whose ending decides.

    Raises
    ------
    FormatError
        For a truncated, malformed or hostile file, and for one of Python objects.
    """
    return _parse_archive(data, where) if where.lower().endswith(".npz") else parse_array(data, where)


def parse_array(data: bytes, where: str) -> Array:
    """The array of a .npy file's bytes, a view of them where it can be.

    Raises
    ------
    FormatError
        As `parse_numpy_file`.
    """
    if data[:6] != b"\x93NUMPY" or len(data) < 12:
        raise FormatError(f"{where} is not a .npy file.")
    wide = data[6] >= 2
    begin = 12 if wide else 10
    (length,) = struct.unpack_from("<I" if wide else "<H", data, 8)
    if length > min(len(data) - begin, 10_000):
        raise FormatError(f"{where} is truncated or malformed: its header claims {length} bytes.")
    header = data[begin : begin + length].decode("latin-1")
    match = _HEADER.fullmatch(header.rstrip())
    if match is None:
        what = (
            "Python objects, which are never unpickled" if _OBJECTS.search(header) else "something other than numbers"
        )
        raise FormatError(f"{where} is a .npy file of {what}.")
    numbers = [piece.strip(" L") for piece in match["shape"].split(",")]
    if any(len(number) > 18 for number in numbers) or len(numbers) > 9:
        raise FormatError(f"{where} has a shape that is out of all proportion.")
    shape = tuple(int(number) for number in numbers if number.isdigit())
    dtype = np.dtype(match["dtype"])
    if math.prod(shape) * dtype.itemsize != len(data) - begin - length:
        raise FormatError(f"{where} is truncated or malformed: {shape} of {dtype} does not fit the file.")
    array = np.frombuffer(data, dtype=dtype, offset=begin + length)
    return array.reshape(shape, order="F" if match["fortran"] == "True" else "C")


def _parse_archive(data: bytes, where: str) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(len(data), where, members)
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name in arrays:
                    raise FormatError(f"{where} holds two arrays of the name {name[:80]!r}.")
                arrays[name] = parse_array(archive.read(member), f"{where}: {name[:80]!r}")
    except (zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise FormatError(f"{where} is truncated or not a .npz archive.") from error
    except (NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError) as error:
        raise FormatError(f"{where} is a .npz archive that is encrypted or malformed.") from error
    return arrays


def _check_members(size: int, where: str, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > _MOST_MEMBERS:
        raise FormatError(f"{where} holds {len(members)} arrays; at most {_MOST_MEMBERS} are read.")
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
        raise FormatError(f"{where} is compressed in a way that NumPy does not write.")
    if any(member.compress_size > size for member in members):
        raise FormatError(f"{where} is truncated: an array is longer than the file.")
    if sum(member.file_size for member in members) > _MOST_GROWTH * size + _SPARE:
        raise FormatError(f"{where} claims to unpack to much more than its own size.")
