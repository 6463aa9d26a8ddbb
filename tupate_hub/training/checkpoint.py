"""Checkpoint: the state of a run on disk, so that a killed run goes on where it stopped."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from tupate_hub.errors import FormatError
from tupate_hub.storage.atomic import write_bytes


class Checkpoint:
    """One file, replaced as a whole. `fingerprint` names the run; a file of another run counts as none.

    Without a path nothing is kept.
    """

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint

    def load(self) -> dict[str, Any] | None:
        """The last state that this very run has written, or None.

        Raises
        ------
        FormatError
            When the file is not a checkpoint at all: it may be something that the user wants to keep.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, weights_only=True, map_location="cpu")
            written_by = state["fingerprint"]
        except (pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{self.path} is not a checkpoint.", hint="delete it, or give another file") from error
        return state if written_by == self.fingerprint else None

    def save(self, state: dict[str, Any]) -> None:
        """Replace the file by this state."""
        if self.path is None:
            return
        stream = io.BytesIO()
        torch.save({**state, "fingerprint": self.fingerprint}, stream)
        write_bytes(self.path, stream.getvalue())

    def remove(self) -> None:
        """Forget the run, once its result is safe."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
