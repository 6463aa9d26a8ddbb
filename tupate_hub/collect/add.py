"""Addition: tuned parameters from outside into a registry of the user's own."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tupate_hub.collect.content import STORED, content_digest
from tupate_hub.collect.nearest import KnownSketches, with_nearest
from tupate_hub.collect.read_adapter import read_from
from tupate_hub.collect.shelf import Shelf
from tupate_hub.collect.sizes import Sizes
from tupate_hub.compare.input_covariance import InputCovariance
from tupate_hub.compare.similarity import DEFAULT, get_similarity
from tupate_hub.compare.sketch import Sketch
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.entry import KEPT, Entry
from tupate_hub.errors import FormatError, TargetExists, TupateHubError
from tupate_hub.registry import FILENAME, Registry, SpaceEntry
from tupate_hub.space import Space
from tupate_hub.storage.atomic import alone
from tupate_hub.subspace.subspace import Subspace
from tupate_hub.task import Task, fold, spellings
from tupate_hub.tasknames import aliases, single
from tupate_hub.zoo import Zoo

#: What PEFT's word for a model's head says of the kind of task.
_KINDS = {"SEQ_CLS": "classification", "QUESTION_ANS": "extractive_qa", "TOKEN_CLS": "token_classification"}


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
    with _held(zoo) as zoo:
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
            space = _described(_space(spaces, embedding.space), embedding)
            spaces[space.name] = space
            key = (task.name, space.name)
            old = registry.get(*key)
            if old is not None and keep == KEPT[0] and not old.has_file and _is_from_there(embedding, old):
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
        task = _task(embedding, self)
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
) -> tuple[Zoo, TaskEmbedding]:
    """Read one adapter, on disk or on the Hub, into a zoo; its task is then called as the registry calls it.

    Where the zoo has the very file already, it stays as it is.

    Raises
    ------
    TargetExists
        When its task is in its space already, from another file, without `force`.
    FormatError
        As `read_from`, and when it is of another base model than the space that it would be in.
    """
    embedding = read_from(path, base=base, task=task, base_weights=base_weights)
    zoo, became = add_embeddings(zoo, [(Path(path), embedding)], force=force)
    became.require_all()
    return zoo, replace(embedding, task=zoo.registry.task(embedding.task).name)


def keep_input_covariance(zoo: Zoo, space: str, covariance: InputCovariance) -> Zoo:
    """Keep a base model's statistics with a space of a zoo; indexes made with other ones are no longer listed."""
    with _held(zoo) as zoo:
        entry, shelf = zoo.registry.space(space), Shelf(zoo.folder, zoo.registry)
        place = shelf.put(f"zoo/{entry.name}/moments.safetensors", covariance.to_bytes())
        index = {name: at for name, at in entry.index.items() if not get_similarity(name).needs_input_covariance}
        return _with_space(zoo, replace(entry, index=index, moments=place), shelf)


def keep_pair_index(zoo: Zoo, space: str, similarity: str = DEFAULT) -> Zoo:
    """Keep the kernel of a space of a zoo, so that a question about its tasks needs no embeddings."""
    with _held(zoo) as zoo:
        entry, shelf = zoo.registry.space(space), Shelf(zoo.folder, zoo.registry)
        data = zoo.pair_index(space, similarity).to_bytes()
        place = shelf.put(f"zoo/{entry.name}/index-{similarity}.safetensors", data)
        return _with_space(zoo, replace(entry, index={**entry.index, similarity: place}), shelf)


def keep_subspace(zoo: Zoo, subspace: Subspace, *, force: bool = False) -> tuple[Zoo, str]:
    """Keep an intrinsic subspace with its space in a zoo, which gets the space where it lacks it; its file comes too.

    Raises
    ------
    TargetExists
        When the space has a subspace of that name, without `force`.
    """
    with _held(zoo) as zoo:
        entry = _space_entry(zoo.registry.spaces, subspace.space)
        if subspace.name in entry.subspaces and not force:
            raise TargetExists(
                f"{entry.name!r} has a subspace {subspace.name!r} already.", hint="replace it with `force=True`"
            )
        shelf = Shelf(zoo.folder, zoo.registry)
        place = shelf.put(f"zoo/{entry.name}/{subspace.name}.safetensors", subspace.to_bytes())
        place |= {"dim": subspace.dim, "tasks": len(subspace.tasks)}
        registry = zoo.registry if zoo.registry.spaces else replace(zoo.registry, default_space=entry.name)
        entry = replace(entry, subspaces={**entry.subspaces, subspace.name: place})
        return _with_space(replace(zoo, registry=registry), entry, shelf), place["file"]


@contextmanager
def _held(zoo: Zoo) -> Iterator[Zoo]:
    """The zoo as it is in its folder by now, which no other process adds to meanwhile."""
    with alone(zoo.folder):
        written = (zoo.folder / FILENAME).exists()
        yield replace(zoo, registry=Zoo.open(zoo.folder).registry) if written else zoo


def _with_space(zoo: Zoo, entry: SpaceEntry, shelf: Shelf) -> Zoo:
    """The zoo with a space's new entry, written to its folder."""
    spaces = {**zoo.registry.spaces, entry.name: entry}
    return replace(zoo, registry=shelf.write_registry(replace(zoo.registry, spaces=spaces)))


def _space(spaces: Mapping[str, SpaceEntry], space: Space) -> SpaceEntry:
    """The space's entry without its indexes, which are of other embeddings from now on."""
    return replace(_space_entry(spaces, space), index={}, nearest={})


def _space_entry(spaces: Mapping[str, SpaceEntry], space: Space) -> SpaceEntry:
    """The space's entry; two bases whose last names agree get spaces of different names."""
    for entry in spaces.values():
        if entry.space == space:
            return entry
    name, base = space.name, space.base.replace("/", "--")
    while name in spaces:
        name, base = f"{base}/{space.method}", f"{base}-"
    return SpaceEntry(name, space.base, space.method)


def _described(space: SpaceEntry, embedding: TaskEmbedding) -> SpaceEntry:
    """The space with the base model's digest and the method's settings, as its first run of this project has them."""
    if space.base_sha256 or not _is_run(embedding):
        return space
    return replace(space, base_sha256=_text(embedding.facts, "base_sha256"), settings=_group(embedding, "settings"))


def _task(embedding: TaskEmbedding, known: Container[str]) -> Task:
    """What an embedding says of its task: a run of this project a lot, a stranger's a little, a file nothing.

    Of the aliases of a task that everybody tunes on those are left out that are `known` as something else.
    """
    source = _group(embedding, "source")
    kind = _KINDS.get(_text(_group(embedding, "settings"), "task_type"), "")
    if source.get("kind") == "hub":
        names = tuple(name for name in aliases(embedding.task) if fold(name) not in known)
        title = f"{source['task']} by {_text(source, 'repo')}" if "task" in source else embedding.task
        dataset, licence = single(source.get("dataset", "")), source.get("licence", "")
        return Task(embedding.task, title=title, aliases=names, kind=kind, dataset=dataset, licence=licence)
    if not _is_run(embedding):
        return Task(embedding.task, title=embedding.task, kind=kind, dataset=single(_text(source, "dataset")))
    data, scores = _group(embedding, "data"), _group(embedding, "scores")
    size = data.get("original_train_size")
    return Task(
        embedding.task,
        title=embedding.task,
        kind=_text(embedding.facts, "task_kind"),
        task_class=_text(data, "class"),
        train_size=size if type(size) is int else None,
        metric=_text(scores, "metric"),
        licence=_text(data, "licence"),
    )


def _is_the_same(embedding: TaskEmbedding, entry: Entry, zoo: Zoo) -> bool:
    """Whether an entry was made of the very file that an embedding was, and read in the same way."""
    digest = _group(embedding, "source").get("sha256")
    if digest is None or digest != entry.source.get("sha256"):
        return False
    if not entry.has_file:
        return True
    held = zoo.load(entry)
    scales = [{block.name: block.scale for block in one.blocks} for one in (embedding, held)]
    return scales[0] == scales[1] and np.array_equal(embedding.vector(), held.vector())


def _is_from_there(embedding: TaskEmbedding, entry: Entry) -> bool:
    """Whether an embedding was read where an entry was: from the same file, or the same commit of the Hub."""
    said = _group(embedding, "source")
    digest, place = said.get("sha256"), (said.get("repo"), said.get("revision"))
    known = (entry.source.get("repo"), entry.source.get("revision"))
    return (digest is not None and digest == entry.source.get("sha256")) or (None not in place and place == known)


def _is_run(embedding: TaskEmbedding) -> bool:
    return bool(_group(embedding, "source").get("kind") == "trained")


def _group(embedding: TaskEmbedding, name: str) -> Mapping[str, Any]:
    """A group of an embedding's facts, {} where there is none: runs before their end have no scores, say."""
    group = embedding.facts.get(name)
    return group if isinstance(group, Mapping) else {}


def _text(facts: Mapping[str, Any], name: str) -> str:
    """What facts say under a name, "" where it is no text."""
    value = facts.get(name)
    return value if isinstance(value, str) else ""


def _put(shelf: Shelf, embedding: TaskEmbedding, space: SpaceEntry, keep: str) -> Entry:
    if keep == KEPT[0]:
        place = shelf.put(f"zoo/{space.name}/{embedding.task}.safetensors", embedding.to_bytes(STORED))
    else:
        place = {"file": "", "bytes": 0, "sha256": content_digest(embedding) if keep == "sketch" else ""}
    source = {name: value for name, value in _group(embedding, "source").items() if name != "notes"}
    figures = _group(embedding, "scores") if _is_run(embedding) else {}
    scores = {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}
    return Entry(embedding.task, space.name, **place, source=source, scores=scores, kept=keep)
