"""Many tasks in one batch: their texts and their classes' names as token ids, each with the number of its task.

A class is scored by how close its name lies to the text, as `labels` does it, so no task has a head of its own; of a
multiple-choice question the choices themselves are the names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tupate_hub.arrays import Array, IndexArray
from tupate_hub.data.dataset import Example, TaskData
from tupate_hub.errors import FormatError
from tupate_hub.storage.safetensors import TensorFile, parse_tensorfile
from tupate_hub.training.features import Feature, encode
from tupate_hub.training.labels import readable

_NAME_LENGTH = 64
_PARTS = ("train", "held_out", "validation")
_NONE = -1


@dataclass(frozen=True)
class Texts:
    """Token ids of n texts, `types` of the same shape (n, length), `lengths` and the number of each `task`, (n,).

    `ids` and `types` are on the device, what decides the order of the work is not.
    """

    ids: torch.Tensor
    types: torch.Tensor
    lengths: IndexArray
    task: IndexArray

    def to(self, device: torch.device) -> Texts:
        """The same on a device."""
        return Texts(self.ids.to(device), self.types.to(device), self.lengths, self.task)

    def select(self, rows: IndexArray, numbers: IndexArray) -> Texts:
        """Some of the texts; `numbers` gives the tasks their new ones."""
        at = torch.from_numpy(rows).to(self.ids.device)
        return Texts(self.ids[at], self.types[at], self.lengths[rows], numbers[self.task[rows]])


@dataclass(frozen=True)
class Part:
    """Examples of all tasks: texts, labels (n,), and `names` (n, classes): rows of the names, -1 beyond the last."""

    texts: Texts
    labels: IndexArray
    names: IndexArray


@dataclass(frozen=True)
class ManyTasks:
    """Tasks by name, the names of their classes, and the parts of their examples, by name."""

    tasks: tuple[str, ...]
    names: Texts
    parts: Mapping[str, Part]

    @staticmethod
    def of(tokenizer: Any, tasks: Sequence[TaskData], new: Sequence[TaskData] = (), max_length: int = 48) -> ManyTasks:
        """Tokenise tasks, and a second draw of each as the parts `new_train` and `new_held_out`.

        Raises
        ------
        FormatError
            When a task has no classes, or two of its classes read the same.
        """
        build = _Build(tokenizer, max_length)
        draws: list[tuple[str, Sequence[TaskData], Sequence[str]]] = [("", tasks, _PARTS), ("new_", new, _PARTS[:2])]
        for prefix, drawn, parts in draws:
            for number, data in enumerate(drawn):
                for part in parts:
                    build.add(prefix + part, number, data, getattr(data, part))
        return build.done(tuple(data.name for data in tasks))

    def to(self, device: torch.device) -> ManyTasks:
        """The same on a device."""
        parts = {name: Part(part.texts.to(device), part.labels, part.names) for name, part in self.parts.items()}
        return ManyTasks(self.tasks, self.names.to(device), parts)

    def select(self, numbers: Sequence[int]) -> ManyTasks:
        """Some of the tasks, in that order."""
        new = np.full(len(self.tasks), _NONE)
        new[np.asarray(numbers)] = np.arange(len(numbers))
        kept = np.flatnonzero(new[self.names.task] >= 0)
        renamed = np.full(len(self.names.task) + 1, _NONE)  # its last stays -1, which -1 finds
        renamed[kept] = np.arange(len(kept))
        parts = {}
        for name, part in self.parts.items():
            rows = np.flatnonzero(new[part.texts.task] >= 0)
            parts[name] = Part(part.texts.select(rows, new), part.labels[rows], renamed[part.names[rows]])
        return ManyTasks(tuple(self.tasks[number] for number in numbers), self.names.select(kept, new), parts)

    def batches(self, part: str, steps: int, each: int, seed: int) -> Iterator[IndexArray]:
        """The rows of each step: `each` examples of every task, which goes through its own in passes of a new order."""
        rows = [np.flatnonzero(self.parts[part].texts.task == number) for number in range(len(self.tasks))]
        orders = []
        for number, own in enumerate(rows):
            passes = -(-steps * each // len(own))
            rng = np.random.default_rng((seed, number))
            orders.append(np.concatenate([rng.permutation(own) for _ in range(passes)])[: steps * each])
        yield from np.stack(orders).reshape(len(rows), steps, each).transpose(1, 0, 2).reshape(steps, -1)

    def to_bytes(self) -> bytes:
        """A safetensors file of it, so that it is tokenised once."""
        tensors: dict[str, Array] = {}
        for name, texts in {"names": self.names, **{name: part.texts for name, part in self.parts.items()}}.items():
            tensors |= {f"{name}.ids": texts.ids.numpy(), f"{name}.types": texts.types.numpy()}
            tensors |= {f"{name}.lengths": texts.lengths, f"{name}.task": texts.task}
        for name, part in self.parts.items():
            tensors |= {f"{name}.labels": part.labels, f"{name}.names": part.names}
        small = {name: array.astype(_smallest(array)) for name, array in tensors.items()}
        return TensorFile(small, {"tasks": json.dumps(self.tasks)}).to_bytes()

    @staticmethod
    def parse(data: bytes, where: str) -> ManyTasks:
        """Read such a file.

        Raises
        ------
        FormatError
            When it is none.
        """
        file = parse_tensorfile(data, where)
        try:
            tasks = tuple(json.loads(file.metadata["tasks"]))
            parts = {name.removesuffix(".labels") for name in file.tensors if name.endswith(".labels")}
            found = {name: _texts(file, name) for name in ("names", *parts)}
            return ManyTasks(
                tasks,
                found["names"],
                {
                    name: Part(
                        found[name],
                        file.tensors[f"{name}.labels"].astype(np.intp),
                        file.tensors[f"{name}.names"].astype(np.intp),
                    )
                    for name in sorted(parts)
                },
            )
        except (KeyError, ValueError) as error:
            raise FormatError(f"{where} holds no tokenised tasks.", hint="delete it: it is made again") from error


def _smallest(array: Array) -> str:
    return next(kind for kind in ("i1", "i2", "i4") if np.abs(array).max(initial=0) <= np.iinfo(kind).max)


def _texts(file: TensorFile, name: str) -> Texts:
    ids, types = (torch.from_numpy(file.tensors[f"{name}.{field}"].astype(np.int32)) for field in ("ids", "types"))
    lengths, task = (file.tensors[f"{name}.{field}"].astype(np.intp) for field in ("lengths", "task"))
    return Texts(ids, types, lengths, task)


class _Build:
    """Collects tokenised texts, task by task."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self.names: list[tuple[Feature, int]] = []
        self.parts: dict[str, list[tuple[Feature, int, int, Sequence[int]]]] = {}
        self.classes: dict[int, Sequence[int]] = {}

    def add(self, part: str, number: int, data: TaskData, examples: Sequence[Example]) -> None:
        """The examples of a part of a task."""
        if data.kind == "multiple_choice":
            read: Sequence[Example] = [_question(example) for example in examples]
            names = [self._names(number, example["choices"], self.max_length) for example in examples]
        elif data.kind == "classification":
            read = examples
            names = [self._classes(number, data)] * len(examples)
        else:
            raise FormatError(f"{data.name} is {data.kind}: only classes and choices can be scored by their names.")
        features = encode(self.tokenizer, "classification", read, self.max_length)
        rows = self.parts.setdefault(part, [])
        rows += [(feature, number, feature.labels["labels"], own) for feature, own in zip(features, names, strict=True)]

    def _classes(self, number: int, data: TaskData) -> Sequence[int]:
        if number not in self.classes:
            written = [readable(name) for name in data.label_names]
            if len(set(written)) < len(written):
                raise FormatError(f"{data.name} has classes that read the same: {', '.join(written)[:80]}.")
            self.classes[number] = self._names(number, written, _NAME_LENGTH)
        return self.classes[number]

    def _names(self, number: int, written: Sequence[str], most: int) -> Sequence[int]:
        examples = [{"text_a": text, "text_b": None, "label": 0} for text in written]
        start = len(self.names)
        self.names += [(feature, number) for feature in encode(self.tokenizer, "classification", examples, most)]
        return range(start, len(self.names))

    def done(self, tasks: tuple[str, ...]) -> ManyTasks:
        parts = {}
        for name, rows in self.parts.items():
            features, numbers, labels, names = zip(*rows, strict=True)
            most = max(map(len, names))
            padded = np.array([[*own, *[_NONE] * (most - len(own))] for own in names])
            parts[name] = Part(_padded(features, numbers), np.array(labels), padded)
        return ManyTasks(tasks, _padded(*zip(*self.names, strict=True)), parts)


def _question(example: Example) -> dict[str, Any]:
    """A multiple-choice question as a text, or as a pair with its context first."""
    both = example["context"] and example["question"]
    first = example["context"] or example["question"]
    return {"text_a": first, "text_b": example["question"] if both else "", "label": example["label"]}


def _padded(features: Sequence[Feature], numbers: Sequence[int]) -> Texts:
    """Ids filled up with 0, which no text sees: its length says where it ends."""
    lengths = np.array([feature.length for feature in features])
    ids = np.zeros((len(features), lengths.max()), dtype=np.int32)
    types = np.zeros_like(ids)
    for row, feature in enumerate(features):
        ids[row, : lengths[row]], types[row, : lengths[row]] = feature.ids[0], feature.types[0]
    return Texts(torch.from_numpy(ids), torch.from_numpy(types), lengths, np.array(numbers))
