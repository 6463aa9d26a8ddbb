"""Addition: tuned parameters from outside into a registry of the user's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from tupate_hub.collect.content import STORED, content_digest
from tupate_hub.collect.keep import held, keep_head, space_entry
from tupate_hub.collect.listed import described, entry_of, is_from_there, is_of_its_file, task_of
from tupate_hub.collect.nearest import KnownSketches, with_nearest
from tupate_hub.collect.read_adapter import read_from
from tupate_hub.collect.read_head import head_of
from tupate_hub.collect.shelf import Shelf
from tupate_hub.collect.sizes import Sizes
from tupate_hub.compare.sketch import Sketch
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.entry import KEPT, Entry
from tupate_hub.errors import FormatError, TargetExists, TupateHubError
from tupate_hub.head import Head
from tupate_hub.registry import FILENAME, Registry, SpaceEntry
from tupate_hub.space import Space
from tupate_hub.task import Task, fold, spellings
from tupate_hub.zoo import Zoo


@dataclass(frozen=True)
class RejectedFile:
    """An adapter that was not taken in, and the sentence that says why."""

    path: Path
    reason: str
    hint: str = ""
    error: type[TupateHubError] = FormatError


@dataclass(frozen=True)
class Additions:
    """What became of many adapters: the names and spaces of those `added` and of those `kept`, as they were there.

    `rejected` are the others, each with its sentence.
    """

    added: tuple[tuple[Path, str, str], ...] = ()
    kept: tuple[tuple[Path, str, str], ...] = ()
    rejected: tuple[RejectedFile, ...] = ()

    def with_more(self, other: Additions) -> Additions:
        """These, and then those."""
        return Additions(self.added + other.added, self.kept + other.kept, self.rejected + other.rejected)

    def require_all(self) -> None:
        """Raise the first rejection as the error that it is, where there is one."""
        for one in self.rejected:
            raise one.error(one.reason, hint=one.hint)


def open_or_start(written: str | Path) -> Zoo:
    """The registry in a folder, or an empty one that its first addition will write.

    Raises
    ------
    TupateHubError
        For `hf://...`: a registry on the Hub takes no additions.
    """
    if str(written).startswith("hf://"):
        raise TupateHubError(
            f"{written} is on the Hub; only a folder can be written to.", hint="name a folder: `location=DIR`"
        )
    root = Path(written)
    return Zoo.open(root) if (root / FILENAME).exists() else Zoo(root, Registry())


def add_embeddings(
    zoo: Zoo,
    embeddings: Iterable[tuple[Path, TaskEmbedding]],
    *,
    force: bool = False,
    keep: str = KEPT[0],
    sketches: Mapping[str, Sketch] = MappingProxyType({}),
) -> tuple[Zoo, Additions]:
    """Write embeddings, each with where it was read, into a zoo's folder and then, at once, the registry of them.

    Where the work is interrupted, what was written until then is listed all the same; where it is killed, the old
    registry stands (`Shelf`). Other processes that add to the folder wait. With `keep` at `sketch` or `facts` the
    registry lists embeddings without their files, which are not written. `sketches` are those that were made before,
    by `content_digest`; an embedding that has one is looked at no more, and may have lost its numbers.

    Returns
    -------
    The new zoo, and what became of each embedding: refused are those whose task is in the space already (without
    `force`), unless it is the very file, and those whose sizes are of another base model.
    """
    with held(zoo) as zoo:
        return _add(zoo, embeddings, force, keep, sketches)


def _add(
    zoo: Zoo, embeddings: Iterable[tuple[Path, TaskEmbedding]], force: bool, keep: str, sketches: Mapping[str, Sketch]
) -> tuple[Zoo, Additions]:
    registry, shelf = zoo.registry, Shelf(zoo.folder, zoo.registry)
    added, kept, rejected = [], [], []
    known, passing = _KnownTasks(registry), KnownSketches(registry)
    spaces, sizes = dict(registry.spaces), Sizes()
    new: dict[tuple[str, str], tuple[Entry, Task, SpaceEntry]] = {}
    try:
        for path, embedding in embeddings:
            task = known.task_of(embedding)
            space = described(_space(spaces, embedding.space), embedding)
            spaces[space.name] = space
            key = (task.name, space.name)
            old = registry.get(*key)
            if old is not None and keep == KEPT[0] and not old.has_file and is_from_there(embedding, old):
                old = None  # its weights come after all
            if old is not None and not force and key not in new and _is_the_same(embedding, old, zoo):
                kept.append((path, *key))
                continue
            if (old is not None and not force) or key in new:
                hint = "give another `task`" if key in new else "replace it: `force=True`, or give another `task`"
                reason = f"Task {task.name!r} is in space {space.name!r} already."
                rejected.append(RejectedFile(path, reason, hint, TargetExists))
                continue
            if reason := sizes.misfit(embedding, space, zoo):
                rejected.append(RejectedFile(path, reason, "say which model it was tuned on: `base=MODEL_ID`"))
                continue
            entry = _put(shelf, replace(embedding, task=task.name), space, keep)
            passing.note(entry, embedding, sketches.get(entry.sha256))
            added.append((path, *key))
            repeats = old.repeats if old is not None and entry.has_file else ()
            new[key] = (replace(entry, repeats=repeats), task, space)
    finally:
        if new:
            registry = registry.with_entries(list(new.values()))
            registry = with_nearest(shelf, zoo, registry, passing, {space for _, space in new})
            registry = shelf.write_registry(registry)
    return replace(zoo, registry=registry), Additions(tuple(added), tuple(kept), tuple(rejected))


class _KnownTasks:
    """The tasks of a registry, and those that additions bring: by their names and aliases."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._new: dict[str, Task] = {}

    def __contains__(self, spelled: object) -> bool:
        return isinstance(spelled, str) and (spelled in self._new or self._registry.called(spelled) is not None)

    def task_of(self, embedding: TaskEmbedding) -> Task:
        """The task of an embedding: a known one of its name, or a new one."""
        spelled = fold(embedding.task)
        if spelled in self._new:
            return self._new[spelled]
        called = self._registry.called(spelled)
        if called is not None:
            return self._registry.tasks[called]
        task = task_of(embedding, self)
        for name in spellings([task]):
            self._new.setdefault(name, task)
        return task


def add(
    zoo: Zoo,
    path: str | Path,
    *,
    base: str | None = None,
    task: str | None = None,
    base_weights: Path | None = None,
    force: bool = False,
    head: bool = False,
) -> tuple[Zoo, TaskEmbedding]:
    """Read one adapter, on disk or on the Hub, into a zoo; its task is then called as the registry calls it.

    Where the zoo has the very file already, it stays as it is. With `head` the task's head, which the adapter must have
    beside it or in it, is kept too.

    Raises
    ------
    TargetExists
        When its task is in its space already, from another file, without `force`.
    FormatError
        As `read_from`, and when it is of another base model than the space that it would be in.
    """
    kept = _head_of(path) if head else None
    embedding = read_from(path, base=base, task=task, base_weights=base_weights)
    zoo, became = add_embeddings(zoo, [(Path(path), embedding)], force=force)
    became.require_all()
    embedding = replace(embedding, task=zoo.registry.task(embedding.task).name)
    if kept is not None:
        space = next(entry.name for entry in zoo.registry.spaces.values() if entry.space == embedding.space)
        zoo = keep_head(zoo, space, replace(kept, task=embedding.task))
    return zoo, embedding


def _head_of(path: str | Path) -> Head:
    """The head of an adapter on disk or on the Hub.

    Raises
    ------
    FormatError
        When it has none that can be told.
    """
    head = head_of(path)
    if head is None:
        raise FormatError(f"{path} holds no head of a known form.", hint="leave out `head=True`")
    return head


def _space(spaces: Mapping[str, SpaceEntry], space: Space) -> SpaceEntry:
    """The space's entry without its indexes, which are of other embeddings from now on."""
    return replace(space_entry(spaces, space), index={}, nearest={})


def _is_the_same(embedding: TaskEmbedding, entry: Entry, zoo: Zoo) -> bool:
    """Whether an entry was made of the very file that an embedding was, and read in the same way."""
    if not is_of_its_file(embedding, entry):
        return False
    if not entry.has_file:
        return True
    there = zoo.load(entry)
    scales = [{block.name: block.scale for block in one.blocks} for one in (embedding, there)]
    return scales[0] == scales[1] and np.array_equal(embedding.vector(), there.vector())


def _put(shelf: Shelf, embedding: TaskEmbedding, space: SpaceEntry, keep: str) -> Entry:
    if keep == KEPT[0]:
        place = shelf.put(f"zoo/{space.name}/{embedding.task}.safetensors", embedding.to_bytes(STORED))
    else:
        place = {"file": "", "bytes": 0, "sha256": content_digest(embedding) if keep == "sketch" else ""}
    return entry_of(embedding, space, place, keep)
