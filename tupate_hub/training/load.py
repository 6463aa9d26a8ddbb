"""Load: a tuned task as a model that answers, from a registry or from a folder with its parameters and its head."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tupate_hub.collect.read_adapter import read_from
from tupate_hub.collect.read_head import head_of
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError, UnknownName
from tupate_hub.extras import require_extra
from tupate_hub.head import FILENAME, Head
from tupate_hub.registry import SpaceEntry
from tupate_hub.zoo import Zoo

if TYPE_CHECKING:
    from tupate_hub.training.tuned import Tuned

_OF_TEXTS = frozenset({"classification", "multi_label", "regression"})
#: Where a run keeps what answers, inside its own folder.
_INSIDE = ("adapter", "head")


def load(
    task: str | Path,
    *,
    location: str | Path | None = None,
    space: str | None = None,
    base: str | None = None,
    device: str = "cpu",
    windows: bool = False,
) -> Tuned:
    """A tuned task, ready to answer: `load("sst2").predict(["A fine film."])`.

    Parameters
    ----------
    task : str or Path
        A task of the registry, by name or alias; else a folder: that of a run, its `adapter` folder, what `pull` made,
        or an adapter with a head on disk or on the Hub.
    location : str or Path, optional
        The registry, as `Zoo.open` takes it.
    space : str, optional
        The space that the task is taken from, where it has several.
    base : str, optional
        Folder or id of the base model; by default the one that the parameters were tuned on.
    device : str
        `cpu`, `cuda` or `mps`.
    windows : bool
        Read long texts to their end, in windows whose answers are averaged.

    Raises
    ------
    TupateHubError
        When torch, transformers or adapters is not installed.
    UnknownName
        When there is no such task or folder.
    FormatError
        When no head is kept with it, or the parameters do not fit the base model.
    NotAvailableOffline
        When the base model is not on this disk, and cannot be fetched.
    """
    require_extra("train")
    from tupate_hub.training.basemodel import find_base
    from tupate_hub.training.device import device_of
    from tupate_hub.training.tuned import Tuned

    named = find_base(base) if base else None
    embedding, head, spaces = _found(task, location, space, named.id if named else None)
    model = named or find_base(embedding.space.base, spaces)
    on = device_of(device)
    tuned = Tuned.of(model.folder, embedding, head)
    tuned.model.to(on)
    if windows and head.kind not in _OF_TEXTS:
        raise FormatError(f"{head.task} is no task of single texts: it has no windows.", hint="leave out `windows`")
    return replace(tuned, windows=windows)


def _found(
    task: str | Path, location: str | Path | None, space: str | None, base: str | None
) -> tuple[TaskEmbedding, Head, Iterable[SpaceEntry]]:
    """The parameters, their head, and the spaces whose base model it may be."""
    if Path(task).exists():
        return *read_folder(Path(task), base), ()
    zoo = Zoo.open(location)
    try:
        entry = zoo.registry.find(str(task), space)
    except UnknownName:
        if "/" not in str(task):
            raise
        return read_from(task, base=base, check=False), _require(head_of(task), str(task)), ()
    return zoo.load(entry), _require(zoo.head(entry), f"{entry.task} in {entry.space}"), zoo.registry.spaces.values()


def read_folder(folder: Path, base: str | None = None) -> tuple[TaskEmbedding, Head]:
    """The parameters and the head in a folder: of a run, its `adapter` folder, or one that `pull` made.

    Raises
    ------
    FormatError
        When either is missing or cannot be read.
    """
    inside = [folder / name for name in _INSIDE if (folder / name).is_dir()]
    folder = inside[0] if inside and not (folder / FILENAME).exists() else folder
    head = _require(head_of(folder), str(folder))
    return read_from(folder, base=base, check=False), head


def _require(head: Head | None, where: str) -> Head:
    if head is None:
        raise FormatError(
            f"No head is kept with {where}: without it there are no answers.",
            hint="tune the task: tupate-hub train DATA",
        )
    return head
