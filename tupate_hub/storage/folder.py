"""Folder: the files of a registry on this disk, each checked before it is used."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tupate_hub.errors import FormatError


@dataclass(frozen=True)
class Folder:
    """The folder of a registry."""

    root: Path

    @cached_property
    def _real(self) -> str:
        """Where the folder is, without links."""
        return os.path.realpath(self.root)

    @cached_property
    def _inside(self) -> set[str]:
        """Folders that lie in it, without a link on the way."""
        return set()

    def _is_inside(self, file: str, linked: bool) -> bool:
        """Whether a file lies in the folder; a question reads many, mostly beside each other."""
        parent = os.path.dirname(file)  # noqa: PTH120
        if parent in self._inside and not linked:
            return True
        target = os.path.realpath(self.root / file)
        inside = target.startswith(os.path.join(self._real, ""))  # noqa: PTH118
        if inside and target == os.path.join(self._real, file):  # noqa: PTH118
            self._inside.add(parent)
        return inside

    def read(self, file: str, size: int, sha256: str) -> bytes:
        """The bytes of a file, checked: inside the folder, of the size and digest that the registry gives.

        Raises
        ------
        FormatError
            When the file leaves the folder, is missing, truncated or has another content.
        """
        path = self.root / file
        try:
            told = path.lstat()
            linked = stat.S_ISLNK(told.st_mode)
            if not self._is_inside(file, linked):
                raise FormatError(f"{path} leads out of the zoo.", hint="tupate-hub verify")
            told = path.stat() if linked else told
            if not stat.S_ISREG(told.st_mode):
                raise FormatError(f"{path} is not a file.", hint="tupate-hub verify")
            if told.st_size != size:
                raise FormatError(
                    f"{path} has {told.st_size} bytes, the registry says {size}.", hint="tupate-hub verify"
                )
            data = path.read_bytes()
        except OSError as error:
            raise FormatError(f"{path} cannot be read: it {why_not(error)}.", hint="tupate-hub verify") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise FormatError(f"{path} has another content than the registry says.", hint="tupate-hub verify")
        return data


def why_not(error: OSError) -> str:
    """Why a file cannot be opened, as the end of a sentence."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    return f"cannot be opened ({error.strerror})"
