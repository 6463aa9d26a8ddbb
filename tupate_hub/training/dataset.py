"""Task data: labelled examples of one task, as read from a folder in the project's data format.

The folder holds `tasks.json` (facts about every task) and `tasks/<name>/{train,validation}.jsonl.gz`, one JSON
object a line; `docs/data.md` lists the fields by kind.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tupate_hub.errors import FormatError, UnknownName

Example = Mapping[str, Any]

KINDS = ("classification", "regression", "extractive_qa", "multiple_choice")
_KNOWN_KINDS = "known kinds: " + ", ".join(KINDS)


@dataclass(frozen=True)
class TaskData:
    """One task: what kind it is, how it is scored, and its examples.

    `held_out` is cut from the published training data and chooses the checkpoint; `validation` is scored once.
    """

    name: str
    kind: str
    metric: str
    label_names: tuple[str, ...]
    train: Sequence[Example]
    held_out: Sequence[Example]
    validation: Sequence[Example]
    facts: Mapping[str, Any]
    sha256: str

    @property
    def num_labels(self) -> int:
        """Outputs of the task's head: classes, 1 for regression, choices for multiple choice, 2 for spans."""
        if self.kind == "classification":
            return len(self.label_names)
        if self.kind == "multiple_choice":
            return len(self.train[0]["choices"])
        return 2 if self.kind == "extractive_qa" else 1


def task_facts(folder: Path) -> dict[str, dict[str, Any]]:
    """Facts about every task of a data folder, by name.

    Raises
    ------
    FormatError
        When the folder has no readable `tasks.json`.
    """
    index = folder / "tasks.json"
    try:
        tasks = json.loads(index.read_text(encoding="utf-8"))["tasks"]
        return {task["name"]: task for task in tasks}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"{folder} has no readable tasks.json ({type(error).__name__}).",
            hint="docs/data.md describes the data folder",
        ) from error


def load_task(folder: Path, name: str, *, held_out_share: float = 0.1, held_out_most: int = 256) -> TaskData:
    """Read one task of a data folder and cut its held-out part from the training examples.

    The cut depends on the task's name alone, so every run of a task sees the same examples.

    Raises
    ------
    UnknownName
        When the folder does not list the task.
    FormatError
        When its kind is not known, or its examples cannot be read or are too few to train on.
    """
    facts = task_facts(folder)
    if name not in facts:
        raise UnknownName(f"{folder} has no task {name!r}.", hint="known: " + ", ".join(sorted(facts)))
    if facts[name].get("kind") not in KINDS or "metric" not in facts[name]:
        raise FormatError(f"{folder}/tasks.json gives {name!r} no metric or no known kind.", hint=_KNOWN_KINDS)
    digest = hashlib.sha256()
    train = _read_examples(folder / "tasks" / name / "train.jsonl.gz", 2, digest)
    validation = _read_examples(folder / "tasks" / name / "validation.jsonl.gz", 1, digest)
    random.Random(f"tupate-hub held-out:{name}").shuffle(train)
    cut = min(held_out_most, max(1, int(len(train) * held_out_share)))
    return TaskData(
        name=name,
        kind=facts[name]["kind"],
        metric=facts[name]["metric"],
        label_names=tuple(facts[name].get("label_names") or ()),
        train=train[cut:],
        held_out=train[:cut],
        validation=validation,
        facts=facts[name],
        sha256=digest.hexdigest(),
    )


def _read_examples(path: Path, fewest: int, digest: Any) -> list[Example]:
    """The examples of a file, whose bytes go into `digest`."""
    try:
        raw = path.read_bytes()
        examples = [json.loads(line) for line in gzip.decompress(raw).splitlines()]
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise FormatError(
            f"{path} cannot be read as gzipped lines of JSON ({type(error).__name__}).",
            hint="docs/data.md describes the data folder",
        ) from error
    if len(examples) < fewest:
        raise FormatError(f"{path} has {len(examples)} examples.", hint=f"it needs at least {fewest}")
    digest.update(raw)
    return examples
