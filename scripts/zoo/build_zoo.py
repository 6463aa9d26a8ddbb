"""Make registry.json, the packed indexes, docs/zoo.md and the dataset card from the embedding files below zoo/.

Every figure comes from the files' own headers. An index is computed, and processors round differently, so a stored one
that is right within `TOLERANCE` stays as it is; everything else is made from the stored files and has the same bytes
everywhere. Files that an earlier run made for a space that is gone are removed. `--check` writes nothing and fails
where something would change, or where the zoo has outgrown its 34 MB.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tupate_hub.compare.input_covariance import InputCovariance, parse_input_covariance
from tupate_hub.compare.pair_index import SCHEMA, PairIndex, build_pair_index, parse_pair_index
from tupate_hub.compare.similarity import available
from tupate_hub.embedding import TaskEmbedding, parse_embedding
from tupate_hub.errors import FormatError, TupateHubError
from tupate_hub.evaluation.metrics import standard_errors_above
from tupate_hub.head import parse_head
from tupate_hub.publish.card import BUNDLED, card_files, smallest_subspaces
from tupate_hub.publish.frontmatter import About
from tupate_hub.publish.table import zoo_page
from tupate_hub.registry import FILENAME, Entry, Registry, Repeat, SpaceEntry, Task, placed
from tupate_hub.runrecord import RunRecord
from tupate_hub.storage.atomic import write_bytes
from tupate_hub.storage.safetensors import parse_tensorfile
from tupate_hub.subspace.subspace import parse_subspace
from tupate_hub.zoo import Zoo

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(__file__).resolve().parent
DEFAULT_METHOD = "lora"
MOST_BYTES = 34_000_000
#: How far a stored cosine, and relatively a norm, may lie from the one computed here. Sums of float32 differ between
#: BLAS kernels, by up to 6e-7 in this zoo; what is shown has four digits.
MOMENTS = "moments.safetensors"
#: What measured transfer says of the spaces, by scripts/evaluation/report.py.
GAINS = "zoo/truth/gain.json"
#: Files of a space that this script makes.
GENERATED = ("index-*.safetensors", "heatmap.svg", "map.svg", "subspace.svg")
#: What an entry's source says of the run.
OF_THE_REGIME = ("batch_size", "learning_rate", "max_length", "precision", "seed")
OF_THE_RUN = ("steps", "best_step", "seconds", "train_examples", "validation_examples")


@dataclass(frozen=True)
class Listed:
    """An embedding of the zoo with the record of its run and the entry that lists it."""

    embedding: TaskEmbedding
    record: RunRecord
    entry: Entry


def record_of(embedding: TaskEmbedding) -> RunRecord:
    return RunRecord.from_facts(embedding.facts, task=embedding.task, method=embedding.space.method)


def is_weak(record: RunRecord) -> bool:
    """Whether the score does not beat the trivial baseline by more than one standard error."""
    above = standard_errors_above(record.scores["primary"], record.baseline, record.validation_examples, record.metric)
    return not above > 1  # NaN is weak


# --- rows of the registry --------------------------------------------------------------------------------------


def task_of(record: RunRecord, names: Mapping[str, Any]) -> Task:
    if record.task not in names:
        raise FormatError(
            f"Task {record.task!r} of the zoo has no line in scripts/zoo/task_names.json.",
            hint=f'add "{record.task}": {{"title": "...", "aliases": [], "dataset": "OWNER/NAME"}}',
        )
    known = names[record.task]
    return Task(
        name=record.task,
        title=known["title"],
        aliases=tuple(known["aliases"]),
        kind=record.kind,
        task_class=record.data.task_class,
        train_size=record.data.original_train_size,
        metric=record.metric,
        dataset=known["dataset"],
        licence=record.data.licence,
    )


def entry_of(embedding: TaskEmbedding, record: RunRecord, file: str, data: bytes) -> Entry:
    return Entry(
        task=record.task,
        space=embedding.space.name,
        **placed(file, data),
        source={
            **embedding.facts["source"],
            "licence": embedding.facts["licence"],
            "data_sha256": record.data.sha256,
            **{name: getattr(record, name) for name in OF_THE_RUN},
            **{name: getattr(record.regime, name) for name in OF_THE_REGIME},
        },
        scores=scores_of(record),
        flags=("weak",) if is_weak(record) else (),
    )


def head_of(root: Path, task: str, file: str) -> dict[str, Any]:
    """The head beside an embedding's file, as the registry lists it; {} where there is none."""
    path = (root / file).parent / "heads" / Path(file).name
    if not path.exists():
        return {}
    data = path.read_bytes()
    head = parse_head(data, str(path), task)
    fitted = {"fitted": True} if "fitted" in head.facts else {}
    return {**placed(path.relative_to(root).as_posix(), data), "scores": head.facts["scores"], **fitted}


def repeat_of(record: RunRecord, file: str, data: bytes) -> Repeat:
    return Repeat(
        **placed(file, data),
        seed=record.regime.seed,
        init_seed=record.regime.init_seed,
        scores=scores_of(record),
    )


def scores_of(record: RunRecord) -> dict[str, Any]:
    figures = {name: round(value, 4) for name, value in record.scores.items()}
    baseline = {"baseline": round(record.baseline, 4), "baseline_rule": record.baseline_rule}
    return {**figures, "metric": record.metric, **baseline}


def space_of(held: Sequence[Listed], index: Mapping[str, Any], moments: bytes | None) -> SpaceEntry:
    """A space as its embeddings describe it; of their settings those that all of them share."""
    first, settings = held[0], [one.record.settings for one in held]
    shared = {
        name: value
        for name, value in settings[0].items()
        if all(name in others and others[name] == value for others in settings)
    }
    space = first.embedding.space
    return SpaceEntry(
        space.name,
        space.base,
        space.method,
        first.record.base_sha256,
        shared,
        index,
        placed(f"zoo/{space.name}/{MOMENTS}", moments) if moments else {},
    )


# --- files -----------------------------------------------------------------------------------------------------


def read_folder(root: Path, pattern: str) -> Iterator[tuple[TaskEmbedding, str, bytes]]:
    """The embeddings below zoo/ whose paths fit, each with its path from the root and its bytes."""
    for path in sorted((root / "zoo").glob(pattern)):
        if path.name != MOMENTS and not path.match("index-*") and not path.match("subspace-*"):
            data = path.read_bytes()
            yield parse_embedding(data, str(path)), path.relative_to(root).as_posix(), data


def read_zoo(root: Path) -> dict[str, list[Listed]]:
    """The embeddings of each space in order of their tasks, their repeats in order of the seeds."""
    repeats: dict[tuple[str, str], list[Repeat]] = {}
    for embedding, file, data in read_folder(root, "*/*/repeats/*.safetensors"):
        repeats.setdefault((embedding.space.name, embedding.task), []).append(
            repeat_of(record_of(embedding), file, data)
        )
    spaces: dict[str, list[Listed]] = {}
    for embedding, file, data in read_folder(root, "*/*/*.safetensors"):
        mine = repeats.pop((embedding.space.name, embedding.task), [])
        mine.sort(key=lambda one: (one.seed, one.init_seed))
        record = record_of(embedding)
        entry = replace(
            entry_of(embedding, record, file, data), repeats=tuple(mine), head=head_of(root, record.task, file)
        )
        spaces.setdefault(entry.space, []).append(Listed(embedding, record, entry))
    for (space, task), alone in repeats.items():
        raise FormatError(
            f"{alone[0].file} repeats task {task!r}, which {space} does not have.",
            hint=f"python scripts/zoo/train_zoo.py --method {space.rpartition('/')[2]} --tasks {task}",
        )
    return {space: sorted(held, key=lambda one: one.entry.task) for space, held in spaces.items()}


def subspaces_of(root: Path, space: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The subspaces that lie beside a space's embeddings, by name, as the registry lists them."""
    for path in sorted((root / "zoo" / space).glob("subspace-*.safetensors")):
        data, file = path.read_bytes(), path.relative_to(root).as_posix()
        subspace = parse_subspace(data, file)
        yield subspace.name, {**placed(file, data), "dim": subspace.dim, "tasks": len(subspace.tasks)}


def index_files(
    root: Path, space: str, held: Sequence[Listed], moments: InputCovariance | None
) -> dict[str, tuple[str, bytes]]:
    """By similarity the path of its index from the root, and the file's bytes."""
    embeddings, digests = [one.embedding for one in held], [one.entry.sha256 for one in held]
    files = {}
    for name in available(moments is not None):
        file = f"zoo/{space}/index-{name}.safetensors"
        files[name] = file, stored_or_new(root / file, build_pair_index(space, name, embeddings, digests, moments))
    return files


def stored_or_new(path: Path, computed: PairIndex) -> bytes:
    """A stored index that agrees with the one computed here, as it is written today, else the computed one."""
    if path.exists():
        data = path.read_bytes()
        try:
            stored = parse_pair_index(data, str(path))
            schema = parse_tensorfile(data, str(path)).metadata["schema"]
        except FormatError:
            return computed.to_bytes()
        if schema == SCHEMA and stored.sizes and stored.space == computed.space and not stored.difference(computed):
            return data
    return computed.to_bytes()


def build(root: Path, *, bundled: bool = True) -> dict[str, bytes]:
    """Every generated file, by its path relative to the root; another zoo than the bundled one has no page in docs/."""
    spaces = read_zoo(root)
    names, reasons = (
        json.loads((SCRIPTS / file).read_text(encoding="utf-8")) for file in ("task_names.json", "weak_runs.json")
    )
    if not bundled:
        tasks = {one.record.task for held in spaces.values() for one in held}
        names = {task: {"title": task, "aliases": [], "dataset": ""} for task in tasks}
    gains = root / GAINS
    known: Mapping[str, Any] = json.loads(gains.read_text(encoding="utf-8")) if gains.exists() else {}
    registry = Registry()
    files: dict[str, bytes] = {}
    indexes: dict[str, dict[str, PairIndex]] = {}
    for space, held in spaces.items():
        statistics = root / "zoo" / space / MOMENTS
        moments = statistics.read_bytes() if statistics.exists() else None
        made = index_files(root, space, held, parse_input_covariance(moments, str(statistics)) if moments else None)
        files.update(made.values())
        indexes[space] = {name: parse_pair_index(data, file) for name, (file, data) in made.items()}
        row = space_of(held, {name: placed(file, data) for name, (file, data) in made.items()}, moments)
        measured = known.get(space, {"gain": {}, "strengths": {}})
        row = replace(row, gain=measured["gain"], subspaces=dict(subspaces_of(root, space)))
        for one in held:
            entry = replace(one.entry, strength=measured["strengths"].get(one.entry.task, {}))
            registry = registry.with_entry(entry, task_of(one.record, names), row)
    registry = replace(registry, default_space=default_space(registry))
    files[FILENAME] = registry.to_json().encode()
    if bundled:
        files["docs/zoo.md"] = zoo_page(registry, reasons).encode()
    files.update(
        card_files(
            registry, indexes, BUNDLED if bundled else About(), subspaces=smallest_subspaces(Zoo(root, registry))
        )
    )
    return files


def default_space(registry: Registry) -> str:
    """The space of the default method, else the first."""
    named = [name for name, space in registry.spaces.items() if space.method == DEFAULT_METHOD]
    return next(iter([*named, *registry.spaces]), "")


def vanished(root: Path, files: Mapping[str, bytes]) -> list[str]:
    """What an earlier run made and this one does not."""
    there = (path for pattern in GENERATED for path in (root / "zoo").glob(f"*/*/{pattern}"))
    return sorted({path.relative_to(root).as_posix() for path in there} - set(files))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where something would change")
    parser.add_argument(
        "--root", type=Path, help="a folder with a zoo/ of your own (docs/own-zoo.md) [default: this checkout]"
    )
    options = parser.parse_args()
    check, bundled, root = options.check, options.root is None, options.root or ROOT
    if not (root / "zoo").is_dir():
        print(
            f"{root} has no folder zoo/.\n  python scripts/zoo/train_zoo.py --base MODEL --out {root}", file=sys.stderr
        )
        return 2
    try:
        files = build(root, bundled=bundled)
    except TupateHubError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return error.exit_code
    gone = vanished(root, files)
    stale = [name for name, data in files.items() if not (root / name).exists() or (root / name).read_bytes() != data]
    if not check:
        for name in gone:
            (root / name).unlink()
        for name in stale:
            write_bytes(root / name, files[name])
    print("\n".join([*stale, *gone]) or "nothing to do", file=sys.stderr)
    size = sum(path.stat().st_size for path in (root / "zoo").rglob("*") if path.is_file()) if bundled else 0
    if size > MOST_BYTES:
        print(f"zoo/ has {size / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:.0f}", file=sys.stderr)
    return 1 if size > MOST_BYTES or (check and (stale or gone)) else 0


if __name__ == "__main__":
    sys.exit(main())
