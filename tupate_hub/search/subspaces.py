"""Subspaces: which one is meant by what a user writes: a file, or a name or size in a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tupate_hub.errors import SpaceMismatch
from tupate_hub.subspace.subspace import Subspace, read_subspace

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo


def find_subspace(zoo: Zoo, written: str | None, space: str | None) -> tuple[Subspace, str | None]:
    """A subspace, and the name of its space where the registry has that.

    Parameters
    ----------
    written : str, optional
        A file, or a name or number of dimensions in the registry; its largest by default.
    space : str, optional
        The space to look in. Default: as `space_with_subspace`.

    Raises
    ------
    FormatError
        When the file cannot be read, or is none of a subspace.
    UnknownName
        When the registry has no such subspace.
    SpaceMismatch
        When a file is a subspace of another space than is asked for.
    """
    if written is not None and (written.endswith(".safetensors") or Path(written).is_file()):
        subspace = read_subspace(Path(written))
        if space is not None and zoo.registry.space(space).space != subspace.space:
            said = f"{written} is a subspace of {subspace.space}, not of {zoo.registry.space(space).name}."
            raise SpaceMismatch(said, hint="leave out `space`")
        names = [entry.name for entry in zoo.registry.spaces.values() if entry.space == subspace.space]
        return subspace, next(iter(names), None)
    where = space_with_subspace(zoo, space)
    return zoo.subspace(where, written), where


def space_with_subspace(zoo: Zoo, space: str | None) -> str:
    """The space that is asked for; else the default one if it has a subspace, or the first that has one.

    Raises
    ------
    UnknownName
        When there is no such space.
    """
    held = zoo.registry
    if space is not None or not held.spaces or held.space().subspaces:
        return held.space(space).name
    return next((entry.name for entry in held.spaces.values() if entry.subspaces), held.space().name)
