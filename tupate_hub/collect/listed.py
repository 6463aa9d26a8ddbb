"""Listed: what a registry says of an embedding: its entry, its task and its space, as the embedding's facts tell."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any

from tupate_hub.embedding import TaskEmbedding
from tupate_hub.entry import Entry
from tupate_hub.registry import SpaceEntry
from tupate_hub.task import Task, fold
from tupate_hub.tasknames import aliases, single

#: What PEFT's word for a model's head says of the kind of task.
_KINDS = {"SEQ_CLS": "classification", "QUESTION_ANS": "extractive_qa", "TOKEN_CLS": "token_classification"}


def described(space: SpaceEntry, embedding: TaskEmbedding) -> SpaceEntry:
    """The space with the base model's digest and the method's settings, as its first run of this project has them."""
    if space.base_sha256 or not _is_run(embedding):
        return space
    return replace(space, base_sha256=_text(embedding.facts, "base_sha256"), settings=_group(embedding, "settings"))


def task_of(embedding: TaskEmbedding, known: Container[str]) -> Task:
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


def entry_of(embedding: TaskEmbedding, space: SpaceEntry, place: Mapping[str, Any], kept: str) -> Entry:
    """The entry of an embedding whose file, if there is one, is at a place; `kept` as in `Entry`."""
    source = {name: value for name, value in _group(embedding, "source").items() if name != "notes"}
    figures = _group(embedding, "scores") if _is_run(embedding) else {}
    scores = {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}
    return Entry(embedding.task, space.name, **place, source=source, scores=scores, kept=kept)


def is_of_its_file(embedding: TaskEmbedding, entry: Entry) -> bool:
    """Whether an embedding was read from the very file that an entry was."""
    digest = _group(embedding, "source").get("sha256")
    return digest is not None and digest == entry.source.get("sha256")


def is_from_there(embedding: TaskEmbedding, entry: Entry) -> bool:
    """Whether an embedding was read where an entry was: from the same file, or the same commit of the Hub."""
    said = _group(embedding, "source")
    place, known = ((facts.get("repo"), facts.get("revision")) for facts in (said, entry.source))
    return is_of_its_file(embedding, entry) or (None not in place and place == known)


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
