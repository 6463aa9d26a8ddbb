"""Text lines: the lines of a file one at a time, whatever its encoding, and those of them that are no text."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tupate_hub.data.faults import Fault
from tupate_hub.errors import FormatError

_LOOKED_AT = 8192
_MARKS_OF_UTF16 = (b"\xff\xfe", b"\xfe\xff")
#: How files begin that people take for tables.
_BEGINNINGS = {
    b"PK\x03\x04": "a ZIP archive, as Excel's .xlsx and others are",
    b"\xd0\xcf\x11\xe0": "an old Office document, as Excel's .xls is",
    b"\x1f\x8b": "compressed by gzip",
    b"%PDF": "a PDF",
    b"SQLite format 3": "an SQLite database",
    b"PAR1": "Parquet",
}
_HINTS = {b"\x1f\x8b": "add .gz to its name", b"PAR1": "give it a name that ends in .parquet"}
_CONTROLS = bytes({*range(32), 127} - set(b"\0\t\n\v\f\r\x1b"))
_MOST_CONTROLS = 0.03
_ESCAPED = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of bytes that are no UTF-8
_LOST = "\N{REPLACEMENT CHARACTER}"


class TextLines:
    """The lines of a text file with their ends, in one pass. `faults` are known when the pass is over."""

    def __init__(self, name: str, stream: IO[bytes], encoding: str) -> None:
        self.name, self.encoding = name, encoding
        self._text = io.TextIOWrapper(stream, encoding, "strict" if "16" in encoding else "surrogateescape", newline="")
        self._broken: list[int] = []
        self._nul: list[int] = []

    def __iter__(self) -> Iterator[str]:
        """Each line; a mark stands where a character is lost."""
        number = 0
        try:
            for number, line in enumerate(self._text, 1):
                if "\0" in line:
                    self._nul.append(number)
                    line = line.replace("\0", _LOST)
                if not line.isascii() and _ESCAPED.search(line):
                    self._broken.append(number)
                    line = line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                yield line
        except UnicodeDecodeError:  # of UTF-16, from here on
            self._broken.append(number + 1)

    @property
    def faults(self) -> list[Fault]:
        """What is wrong with the lines that were passed."""
        said = "the encoding is broken: this is not UTF-8 text"
        hint = f"save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 {self.name} > utf8-{self.name}"
        if "16" in self.encoding:
            said, hint = "the encoding is broken: this is not UTF-16 text", "check that the file is whole"
        nul = "has NUL characters, which are no part of a text"
        without = f"take them out: tr -d '\\000' < {self.name} > text-{self.name}"
        found = [
            Fault(said, self.name, "line", tuple(self._broken), hint=hint),
            Fault(nul, self.name, "line", tuple(self._nul), hint=without),
        ]
        return [fault for fault in found if fault.numbers]


@contextmanager
def opened(path: Path) -> Iterator[TextLines]:
    """The lines of a file of text, which may be gzipped.

    Raises
    ------
    FormatError
        When it begins as no text does, with what it seems to be.
    OSError, EOFError, zlib.error
        When it cannot be read.
    """
    raw: Any = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115 - closed below
    with raw:
        head = raw.peek(_LOOKED_AT)[:_LOOKED_AT]
        yield TextLines(path.name, raw, _encoding(path.name, head))


def _encoding(name: str, head: bytes) -> str:
    if head.startswith(_MARKS_OF_UTF16):
        return "utf-16"
    for beginning, what in _BEGINNINGS.items():
        if head.startswith(beginning):
            hint = _HINTS.get(beginning, "save the table as CSV and give that")
            raise FormatError(f"{name} is {what}, and not what its name says.", hint=hint)
    plain = _utf16_without_mark(head)
    if plain:
        raise FormatError(
            f"{name} is {plain} without a byte order mark.",
            hint=f"save it as UTF-8: iconv -f {plain} -t UTF-8 {name} > utf8-{name}",
        )
    if not _is_utf8(head) and len(head) - len(head.translate(None, _CONTROLS)) > _MOST_CONTROLS * len(head):
        raise FormatError(f"{name} is not text: it holds bytes of another kind.", hint="save the table as CSV")
    return "utf-8-sig"


def _is_utf8(head: bytes) -> bool:
    try:
        head[:-4].decode()  # the last character may be cut
    except UnicodeDecodeError as error:
        return error.start > len(head) - 8
    return True


def _utf16_without_mark(head: bytes) -> str | None:
    """The name of the encoding where every second byte of Latin text, and of line ends, is zero."""
    if b"\0" not in head:
        return None
    for encoding in ("utf-16-le", "utf-16-be"):
        text = head[: len(head) // 2 * 2].decode(encoding, "replace")
        lines = 2 * text.count("\n") > head.count(b"\n")
        if lines and all(char.isprintable() or char.isspace() for char in text[:-1]) and _LOST not in text[:-1]:
            return encoding.upper().replace("-LE", "LE").replace("-BE", "BE")  # as iconv calls them
    return None
