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

Files = dict[str, bytes]

EXPORTS: Mapping[str, Callable[[TaskEmbedding, bool], Files]] = {
    "embedding": as_embedding,
    "peft": as_peft,
    "adapters": as_adapters,
}


def export(embedding: TaskEmbedding, form: str, *, bare: bool = False) -> Files:
    """The files of a folder in the named form, by name; `bare` where it is for a model without a task head.

    Raises
    ------
    UnknownName
        Listing the known forms.
    FormatError
        When the form has no place for the method, or a setting that matters is not known.
    """
    if form not in EXPORTS:
        raise UnknownName(f"Unknown form {form!r}.", hint="known: " + ", ".join(EXPORTS))
    return EXPORTS[form](embedding, bare)
