"""Few-shot tasks: a few examples of each class of a task, or of a part of it that is a task by itself.

CrossFit (Ye et al. 2021) draws 16 examples of each class to train on and as many to choose the checkpoint by; IPT
(Qin et al. 2021) draws a second time for "new data". A part of a task is some of its classes, or the examples about
one thing: the domains of an intent corpus, the targets of a stance corpus.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tupate_hub.data.dataset import Example, TaskData, load_task
from tupate_hub.errors import FormatError

SHOTS = 16
#: The families by which IPT splits its tasks.
FAMILIES = ("cls", "non-cls")
_KINDS = ("classification", "multiple_choice")
_DRAWS = 2


@dataclass(frozen=True)
class FewShot:
    """How a few-shot task is made of a task of the data folder.

    `labels` maps the classes that it keeps, by their names there, to words; all of them under their own names where it
    is empty. `where` are values that its examples have, such as the target of a stance.
    """

    name: str
    source: str
    family: str
    labels: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)

    def draw(self, whole: TaskData, number: int = 0, *, shots: int = SHOTS, scored_on: int = 300) -> TaskData:
        """The examples of a draw: `shots` a class to train on, as many held out, and balanced ones to be scored on.

        The two draws (0 and 1) have no training or held-out example in common, and are scored on the same ones: those
        to be scored on, then what no draw takes of the others. A class that has fewer than four times `shots` examples
        gives a quarter of them to each part.

        Raises
        ------
        FormatError
            When the task is of a kind without classes, has not the classes, or one of them has too few examples.
        """
        if whole.kind not in _KINDS or number not in range(_DRAWS):
            raise FormatError(f"{self.name}: {whole.kind} has no classes to draw from, or there is no draw {number}.")
        kept = self._classes(whole)
        pools = self._by_class((*whole.train, *whole.held_out), kept, "pool")
        scored = self._by_class(whole.validation, kept, "scored")
        train: list[Example] = []
        held_out: list[Example] = []
        for label in kept.values():
            pool = pools.get(label, [])
            size = min(shots, len(pool) // (2 * _DRAWS))
            if not size or label not in scored:
                raise FormatError(f"{self.name} has too few examples of a class to draw from.")
            start = 2 * number * size
            train += pool[start : start + size]
            held_out += pool[start + size : start + 2 * size]
            scored[label] += pool[2 * _DRAWS * size :]
        most = -(-scored_on // len(kept))
        names = tuple(self.labels.get(name, name) for name in whole.label_names if self._keeps(name))
        return replace(
            whole,
            name=self.name,
            metric="accuracy",
            label_names=names,
            train=train,
            held_out=held_out,
            validation=[example for label in sorted(scored) for example in scored[label][:most]],
        )

    def _keeps(self, label: str) -> bool:
        return not self.labels or label in self.labels

    def _classes(self, whole: TaskData) -> dict[int, int]:
        """The number of each class that is kept, by its number in the whole task."""
        if whole.kind == "multiple_choice":
            return {label: label for label in range(whole.num_labels)}
        if missing := self.labels.keys() - set(whole.label_names):
            raise FormatError(f"{self.name}: {self.source} has no class {min(missing)!r}.")
        numbers = [number for number, name in enumerate(whole.label_names) if self._keeps(name)]
        return {number: at for at, number in enumerate(numbers)}

    def _by_class(self, examples: Sequence[Example], kept: Mapping[int, int], part: str) -> dict[int, list[Example]]:
        """The examples of each class that is kept, in an order that the task's name alone decides."""
        found: defaultdict[int, list[Example]] = defaultdict(list)
        for example in examples:
            if example["label"] in kept and all(example[name] == value for name, value in self.where.items()):
                found[kept[example["label"]]].append({**example, "label": kept[example["label"]]})
        for label in sorted(found):
            random.Random(f"tupate-hub few-shot:{self.name}:{part}:{label}").shuffle(found[label])
        return dict(found)


def read_fewshots(path: Path) -> tuple[FewShot, ...]:
    """The few-shot tasks that a JSON file lists, one object a task with the fields of `FewShot`.

    Raises
    ------
    FormatError
        When it is not such a file, or two tasks have one name.
    """
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        tasks = tuple(FewShot(**row) for row in rows)
    except (OSError, ValueError, TypeError) as error:
        raise FormatError(f"{path} is not a list of few-shot tasks ({type(error).__name__}).") from error
    if len({task.name for task in tasks}) < len(tasks) or not {task.family for task in tasks} <= set(FAMILIES):
        raise FormatError(f"{path} names a task twice, or a family that is not one of {', '.join(FAMILIES)}.")
    return tasks


def draw_all(folder: Path, tasks: Sequence[FewShot], number: int = 0, *, scored_on: int = 300) -> list[TaskData]:
    """The same draw of each task from a data folder; errors as in `FewShot.draw` and `load_task`."""
    whole: dict[str, TaskData] = {}
    for task in tasks:
        if task.source not in whole:
            whole[task.source] = load_task(folder, task.source)
    return [task.draw(whole[task.source], number, scored_on=scored_on) for task in tasks]
