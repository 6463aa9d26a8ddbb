"""Make registry.json, the packed indexes, docs/zoo.md and the dataset card from the embedding files below zoo/.

Every figure comes from the files' own headers; a rerun writes the same bytes. `--check` writes nothing and fails where
something would change.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

from tupate_hub.atomicfile import write_bytes
from tupate_hub.embedding import TaskEmbedding, parse_embedding
from tupate_hub.index import Index, build_index, parse_index
from tupate_hub.moments import parse_moments
from tupate_hub.registry import FILENAME, Entry, Registry, SpaceEntry, Task, placed
from tupate_hub.report.card import BUNDLED, card_files
from tupate_hub.report.tables import zoo_page
from tupate_hub.similarity import SIMILARITIES

ROOT = Path(__file__).resolve().parent.parent
MOMENTS = "moments.safetensors"
RECORDED = (
    "steps", "best_step", "batch_size", "learning_rate", "max_length", "precision", "seed", "seconds", "train_examples"
)  # fmt: skip


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_weak(embedding: TaskEmbedding) -> bool:
    """Whether the score does not beat the trivial baseline by more than one standard error of a proportion."""
    scores, count = embedding.facts["scores"], embedding.facts["training"]["validation_examples"]
    spread = math.sqrt(max(scores["baseline"] * (1 - scores["baseline"]), 0.01) / count)
    return not scores["primary"] > scores["baseline"] + spread  # NaN is weak


def task_of(embedding: TaskEmbedding, names: dict[str, Any]) -> Task:
    data, known = embedding.facts["data"], names[embedding.task]
    return Task(
        name=embedding.task,
        title=known["title"],
        aliases=tuple(known["aliases"]),
        kind=embedding.facts["task_kind"],
        task_class=data["class"],
        train_size=data["original_train_size"],
        metric=embedding.facts["scores"]["metric"],
        dataset=known["dataset"],
        licence=data["licence"],
    )


def entry_of(embedding: TaskEmbedding, file: str, data: bytes) -> Entry:
    facts = embedding.facts
    training = facts["training"]
    return Entry(
        task=embedding.task,
        space=embedding.space.name,
        file=file,
        bytes=len(data),
        sha256=digest(data),
        source={
            **facts["source"],
            "licence": facts["licence"],
            "data_sha256": facts["data"]["sha256"],
            **{name: training[name] for name in RECORDED if name in training},
        },
        scores={name: round(v, 4) if isinstance(v, float) else v for name, v in facts["scores"].items()},
        flags=("weak",) if is_weak(embedding) else (),
    )


def build(root: Path) -> dict[str, bytes]:
    """Every generated file, by its path relative to the root."""
    names = json.loads((ROOT / "scripts" / "task_names.json").read_text(encoding="utf-8"))
    held: dict[str, list[tuple[TaskEmbedding, Entry]]] = {}
    registry = Registry()
    for path in sorted((root / "zoo").glob("*/*/*.safetensors")):
        if path.name == MOMENTS or path.name.startswith("index-"):
            continue
        data = path.read_bytes()
        embedding = parse_embedding(data, str(path))
        entry = entry_of(embedding, path.relative_to(root).as_posix(), data)
        held.setdefault(entry.space, []).append((embedding, entry))
    files: dict[str, bytes] = {}
    indexes: dict[str, dict[str, Index]] = {}
    for space, pairs in held.items():
        pairs.sort(key=lambda pair: pair[1].task)
        first = pairs[0][0]
        statistics = root / "zoo" / space / MOMENTS
        moments = parse_moments(statistics.read_bytes(), str(statistics)) if statistics.exists() else None
        index = {}
        for similarity in SIMILARITIES.values():
            if similarity.needs_moments and moments is None:
                continue
            embeddings, digests = [one for one, _ in pairs], [entry.sha256 for _, entry in pairs]
            data = build_index(space, similarity.name, embeddings, digests, moments).to_bytes()
            place = f"zoo/{space}/index-{similarity.name}.safetensors"
            files[place] = data
            index[similarity.name] = placed(place, data)
            indexes.setdefault(space, {})[similarity.name] = parse_index(data, place)  # as a reader of the file has it
        row = SpaceEntry(
            space,
            first.space.base,
            first.space.method,
            first.facts["base_sha256"],
            first.facts["settings"],
            index,
            placed(f"zoo/{space}/{MOMENTS}", statistics.read_bytes()) if moments else {},
        )
        for embedding, entry in pairs:
            registry = registry.with_entry(entry, task_of(embedding, names), row)
    files[FILENAME] = registry.to_json().encode()
    files["docs/zoo.md"] = zoo_page(registry).encode()
    files.update(card_files(registry, indexes, BUNDLED))
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where something would change")
    arguments = parser.parse_args()
    stale = []
    for name, data in build(ROOT).items():
        path = ROOT / name
        if not path.exists() or path.read_bytes() != data:
            stale.append(name)
            if not arguments.check:
                write_bytes(path, data)
    print("\n".join(stale) if stale else "nothing to do", file=sys.stderr)
    return 1 if stale and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
