"""Full fine-tunes into a registry: a model's change from its base model, as an embedding beside those of LoRA."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from tupate_hub.collect.add import add_embeddings
from tupate_hub.collect.read_adapter import plain_name
from tupate_hub.compare.kernel import pack
from tupate_hub.embedding import TaskEmbedding, embed
from tupate_hub.readers.checkpoint import shards
from tupate_hub.readers.finetuned import LAYOUT, RANK, Finetuned, open_finetuned, read_finetuned
from tupate_hub.readers.source import digest_of
from tupate_hub.space import require_base
from tupate_hub.zoo import Zoo


def add_finetuned(
    zoo: Zoo,
    model: Path,
    minus: Path,
    *,
    base: str | None = None,
    task: str | None = None,
    rank: int = RANK,
    seed: int = 0,
    force: bool = False,
) -> tuple[Zoo, TaskEmbedding]:
    """Read a whole model minus its base model, both on disk, into a zoo; errors as `put_finetuned`."""
    pair = open_finetuned(model, minus)
    return put_finetuned(zoo, pair, pair.names, base=base, task=task, rank=rank, seed=seed, force=force)


def put_finetuned(
    zoo: Zoo,
    pair: Finetuned,
    names: Iterable[str],
    *,
    base: str | None = None,
    task: str | None = None,
    rank: int = RANK,
    seed: int = 0,
    force: bool = False,
) -> tuple[Zoo, TaskEmbedding]:
    """The same of a pair that is open, with an iteration over its names that shows how far it is.

    Raises
    ------
    TargetExists
        When the task is in the space already, without `force`.
    FormatError
        As `read_finetuned`, and when the base model's id is not known.
    """
    path = pair.model.path
    name = plain_name(task or (path.resolve().name if path.is_dir() else path.resolve().stem))
    adapter = read_finetuned(pair, names, rank=rank, seed=seed, base=base, task=task)
    adapter = replace(adapter, base=require_base(adapter.base, str(path)))
    files = shards(path)
    digests = [digest_of(file) for file in files]
    embedding = embed(
        adapter,
        name,
        {
            "source": {
                "kind": "file",
                "file": files[0].name,
                "layout": LAYOUT,
                "sha256": digests[0] if len(files) == 1 else sha256("".join(digests).encode()).hexdigest(),
                "left_out": dict(adapter.left_out),
                "notes": list(adapter.notes),
            }
        },
    )
    pack([embedding])  # refuses an update that is all zero or too large to measure
    zoo, became = add_embeddings(zoo, [(path, embedding)], force=force)
    became.require_all()
    return zoo, replace(embedding, task=zoo.registry.task(embedding.task).name)
