"""Folder: the files of a registry on this disk, each checked before it is used."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from tupate_hub.errors import FormatError


@dataclass(frozen=True)
class Folder:
    """The folder of a registry."""

    root: Path

    def read(self, file: str, size: int, sha256: str) -> bytes:
        """The bytes of a file, checked: inside the folder, of the size and digest that the registry gives.

        Raises
        ------
        FormatError
            When the file leaves the folder, is missing, truncated or has another content.
        """
        path = self.root / file
        try:
            if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root)):
                raise FormatError(f"{path} leads out of the zoo.", hint="tupate-hub verify")
            if path.exists() and not path.is_file():
                raise FormatError(f"{path} is not a file.", hint="tupate-hub verify")
            on_disk = path.stat().st_size
            if on_disk != size:
                raise FormatError(f"{path} has {on_disk} bytes, the registry says {size}.", hint="tupate-hub verify")
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
