"""Export: an embedding as a folder that the `adapters` library or PEFT loads.

`docs/formats.md` says which method each of them has a place for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import UnknownName
from tupate_hub.export.adapterhub import as_adapters
from tupate_hub.export.own import as_embedding
from tupate_hub.export.peft import as_peft
from tupate_hub.head import FILENAME, Head

Files = dict[str, bytes]

EXPORTS: Mapping[str, Callable[[TaskEmbedding, bool, Head | None], Files]] = {
    "embedding": as_embedding,
    "peft": as_peft,
    "adapters": as_adapters,
}


def export(embedding: TaskEmbedding, form: str, *, bare: bool = False, head: Head | None = None) -> Files:
    """The files of a folder in the named form, by name.

    Parameters
    ----------
    embedding : TaskEmbedding
        What is written.
    form : str
        One of `EXPORTS`.
    bare : bool
        For a model without a task head.
    head : Head, optional
        The task's, which is written as the library reads it, and in its own file beside that.

    Raises
    ------
    UnknownName
        Listing the known forms.
    FormatError
        When the form has no place for the method, or a setting that matters is not known.
    """
    if form not in EXPORTS:
        raise UnknownName(f"Unknown form {form!r}.", hint="known: " + ", ".join(EXPORTS))
    head = None if bare else head
    files = EXPORTS[form](embedding, bare, head)
    return files if head is None else {**files, FILENAME: head.to_bytes()}
