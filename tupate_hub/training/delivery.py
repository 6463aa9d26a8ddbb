"""Delivery: what a finished run leaves in a registry's folder.

- `zoo/<space>/<task>.safetensors`: the embedding, listed in registry.json
- `runs/<space>/<task>/checkpoint.pt`: the run's state, until it is done
- `runs/<space>/<task>/early/<task>@<share>.safetensors`: embeddings of the run before its end, in float16
- `runs/<space>/<task>/adapter/`: the adapter and its head, as the adapters library loads them
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

from tupate_hub.collect.add import add_embeddings, open_or_start
from tupate_hub.collect.read_adapter import plain_name
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError, TargetExists
from tupate_hub.export import export
from tupate_hub.export.readme import readme_of_adapters
from tupate_hub.registry import Entry, fold
from tupate_hub.runrecord import RunRecord
from tupate_hub.search.resolve import find_space
from tupate_hub.space import Space
from tupate_hub.storage.atomic import alone, told_in_one_sentence, write_bytes, write_folder
from tupate_hub.storage.safetensors import TensorFile
from tupate_hub.training.methods import NAME
from tupate_hub.training.record import to_embedding
from tupate_hub.training.result import Result
from tupate_hub.zoo import Zoo


class SeedScore(NamedTuple):
    """One of several runs: the seed of its order, its score, and the held-out score by which the best is chosen."""

    seed: int
    score: float
    held_out: float


@dataclass(frozen=True)
class Delivery:
    """Where everything is: the zoo with the new embedding, its file, and the run's folder.

    `adapter` is the folder that the adapters library loads, or that of the head alone where the library has no such
    method; `early` the files of the embeddings before the end. `seeds` are the runs of which this is the best, where
    there were several.
    """

    zoo: Zoo
    entry: Entry
    embedding: TaskEmbedding
    record: RunRecord
    run: Path
    adapter: Path | None
    early: tuple[Path, ...]
    result: Result
    seeds: tuple[SeedScore, ...] = ()

    @property
    def file(self) -> Path:
        """The embedding's file."""
        return self.zoo.folder / self.entry.file


def run_folder(zoo: Zoo, space: Space, task: str) -> Path:
    """Where a run keeps its checkpoint and what is no embedding."""
    return zoo.folder / "runs" / space.name / task


def name_in(zoo: Zoo, task: str) -> str:
    """The task's name as the registry spells it, or fit to be in one.

    Raises
    ------
    FormatError
        When it cannot be a task's name.
    """
    return zoo.registry.spelled.get(fold(task)) or plain_name(task)


def refuse_taken(zoo: Zoo, space: Space, task: str) -> None:
    """Refuse, before any work, a task that the registry has in the space.

    Raises
    ------
    TargetExists
        Naming task and space.
    """
    for entry in zoo.registry.entries:
        if entry.task == task and zoo.registry.spaces[entry.space].space == space:
            raise TargetExists(
                f"Task {task!r} is in space {entry.space!r} of {zoo.root} already.",
                hint="replace it with `force=True`, or give another `task`",
            )


@contextmanager
def reserved(zoo: Zoo, space: Space, task: str) -> Iterator[Path]:
    """The folder of a run, for one process at a time.

    Raises
    ------
    WorkFailed
        When another process is tuning the same.
    TupateHubError
        When nothing can be written there: before any work, not after it.
    """
    folder = run_folder(zoo, space, task)
    with alone(folder, patient=False):
        with told_in_one_sentence(folder), TemporaryFile(dir=folder):
            pass
        yield folder


def deliver(zoo: Zoo, result: Result, base: str, source: Mapping[str, Any]) -> Delivery:
    """Write a run's embedding, early embeddings, adapter and head; the registry comes last.

    The registry is read again first: another run may have been added in the meantime. `base` is the base model's
    id, `source` says where the embedding comes from (`by`, `start_from`, ...).
    """
    zoo = open_or_start(zoo.root)
    record = result.record
    origin = {"data_sha256": record.data.sha256, **source}
    embedding = to_embedding(result, base, origin)
    run = run_folder(zoo, embedding.space, embedding.task)
    early = []
    for share in result.early:
        before_the_end = _early(to_embedding(result, base, origin, share=share), share, result.planned or record.steps)
        early.append(run / "early" / f"{before_the_end.task}.safetensors")
        write_bytes(early[-1], before_the_end.to_bytes())
    adapter = _write_adapter(run, embedding, result)
    zoo, became = add_embeddings(zoo, [(run, embedding)], force=True)
    became.require_all()
    entry = zoo.registry.entry(embedding.task, find_space(zoo.registry, embedding.space).name)
    return Delivery(zoo, entry, embedding, record, run, adapter, tuple(early), result)


def _early(embedding: TaskEmbedding, share: str, steps: int) -> TaskEmbedding:
    """The embedding of a run before its end, under a name of its own."""
    training = {"step": max(1, round(steps * float(share))), "steps": steps}
    return replace(embedding, task=f"{embedding.task}@{share}", facts={**embedding.facts, "training": training})


def _write_adapter(run: Path, embedding: TaskEmbedding, result: Result) -> Path | None:
    head = _head_files(embedding, result)
    try:
        readme = {"README.md": readme_of_adapters(embedding, with_head=bool(head))}
        files, folder = {**export(embedding, "adapters"), **head, **readme}, run / "adapter"
    except FormatError:  # the library has no place for the method
        files, folder = head, run / "head"
    if not files:
        return None
    write_folder(folder, files, force=True)
    return folder


def _head_files(embedding: TaskEmbedding, result: Result) -> dict[str, bytes]:
    """The task's head as `model.load_head` and `model.load_adapter` read it (adapters 1.3)."""
    if not result.head:
        return {}
    task = embedding.task
    named = {"model_name": embedding.space.base, "name": task, "version": "adapters.1.3.0"}
    config = {**result.head_config, **named}
    tensors = {name.replace(f"heads.{NAME}.", f"heads.{task}.", 1): array for name, array in result.head.items()}
    return {
        "head_config.json": (json.dumps(config, indent=2, sort_keys=True) + "\n").encode(),
        "model_head.safetensors": TensorFile(tensors, {"format": "pt"}).to_bytes(),
    }
