"""Delivery: what a finished run leaves in a registry's folder.

- `zoo/<space>/<task>.safetensors`: the embedding, listed in registry.json
- `runs/<space>/<task>/checkpoint.pt`: the run's state, until it is done
- `runs/<space>/<task>/early/<task>@<share>.safetensors`: embeddings of the run before its end, in float16
- `runs/<space>/<task>/adapter/`: the adapter and its head, as the adapters library loads them where it can
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

from tupate_hub.collect.add import add_embeddings, open_or_start
from tupate_hub.collect.keep import keep_head
from tupate_hub.collect.read_adapter import plain_name
from tupate_hub.embedding import TaskEmbedding, natural_key
from tupate_hub.entry import Entry
from tupate_hub.errors import FormatError, TargetExists
from tupate_hub.export import export
from tupate_hub.export.readme import at_home
from tupate_hub.head import NAMED, Head, make_head
from tupate_hub.runrecord import RunRecord
from tupate_hub.search.resolve import find_space
from tupate_hub.space import Space
from tupate_hub.storage.atomic import alone, told_in_one_sentence, write_bytes, write_folder
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

    `adapter` is the folder that answers, by `load` and, where it has such a method, in the adapters library; `head` is
    None where the labels' names took its place; `early` the files of the embeddings before the end. `seeds` are the
    runs of which this is the best, where there were several.
    """

    zoo: Zoo
    entry: Entry
    embedding: TaskEmbedding
    record: RunRecord
    run: Path
    adapter: Path
    head: Head | None
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
    return zoo.registry.called(task) or plain_name(task)


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
    head = head_of(result, embedding.task)
    adapter = _write_adapter(run, embedding, head)
    zoo, became = add_embeddings(zoo, [(run, embedding)], force=True)
    became.require_all()
    if head is not None:
        zoo = keep_head(zoo, find_space(zoo.registry, embedding.space).name, head)
    entry = zoo.registry.entry(embedding.task, find_space(zoo.registry, embedding.space).name)
    return Delivery(zoo, entry, embedding, record, run, adapter, head, tuple(early), result)


def _early(embedding: TaskEmbedding, share: str, steps: int) -> TaskEmbedding:
    """The embedding of a run before its end, under a name of its own."""
    training = {"step": max(1, round(steps * float(share))), "steps": steps}
    return replace(embedding, task=f"{embedding.task}@{share}", facts={**embedding.facts, "training": training})


def _write_adapter(run: Path, embedding: TaskEmbedding, head: Head | None) -> Path:
    folder = run / "adapter"
    try:
        files = export(embedding, "adapters", head=head)
    except FormatError:  # the library has no place for the method
        files = export(embedding, "embedding", head=head)
    write_folder(folder, at_home(files, str(folder.resolve())), force=True)
    return folder


def head_of(result: Result, task: str) -> Head | None:
    """The head that a run has tuned, None where the labels' names took its place."""
    if not result.head:
        return None
    config, record = result.head_config["config"], result.record
    named = config.get("label2id") or {}
    modules = sorted({name.rpartition(".")[0] for name in result.head}, key=natural_key)
    facts = {
        "metric": record.metric,
        "max_length": record.regime.max_length,
        "scores": {name: round(value, 4) for name, value in record.scores.items()},
        "model_class": result.head_config["model_class"],
        **({"choices": config["num_choices"]} if "num_choices" in config else {}),
        **({"pairs": True} if result.head_config.get("pairs") else {}),
    }
    return make_head(
        task,
        record.kind,
        sorted(named, key=lambda name: int(named[name])) if record.kind in NAMED else (),
        [(result.head[f"{module}.weight"], result.head[f"{module}.bias"]) for module in modules],
        activation=config.get("activation_function") or "tanh",
        facts=facts,
    )
