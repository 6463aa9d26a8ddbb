"""Task data: labelled examples of one task, as read from a folder in the project's data format.

The folder holds `tasks.json` (facts about every task) and `tasks/<name>/{train,validation}.jsonl.gz`, one JSON
object a line; `docs/data.md` lists the fields by kind.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tupate_hub.errors import FormatError, UnknownName

Example = Mapping[str, Any]

KINDS = ("classification", "regression", "extractive_qa", "multiple_choice")


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
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(
            f"{folder} has no readable tasks.json ({type(error).__name__}).",
            hint="docs/data.md describes the data folder",
        ) from error
    return {task["name"]: task for task in tasks}


def load_task(folder: Path, name: str, *, held_out_share: float = 0.1, held_out_most: int = 256) -> TaskData:
    """Read one task of a data folder and cut its held-out part from the training examples.

    The cut depends on the task's name alone, so every run of a task sees the same examples.

    Raises
    ------
    UnknownName
        When the folder does not list the task.
    """
    facts = task_facts(folder)
    if name not in facts:
        raise UnknownName(f"{folder} has no task {name!r}.", hint="known: " + ", ".join(sorted(facts)))
    digest = hashlib.sha256()
    parts = {}
    for part in ("train", "validation"):
        raw = (folder / "tasks" / name / f"{part}.jsonl.gz").read_bytes()
        digest.update(raw)
        parts[part] = [json.loads(line) for line in gzip.decompress(raw).splitlines()]
    train = parts["train"]
    random.Random(f"tupate-hub held-out:{name}").shuffle(train)
    cut = min(held_out_most, max(1, int(len(train) * held_out_share)))
    return TaskData(
        name=name,
        kind=facts[name]["kind"],
        metric=facts[name]["metric"],
        label_names=tuple(facts[name].get("label_names") or ()),
        train=train[cut:],
        held_out=train[:cut],
        validation=parts["validation"],
        facts=facts[name],
        sha256=digest.hexdigest(),
    )
