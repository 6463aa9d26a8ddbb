"""Task: what is known of a task, whoever tuned on it, and the names that it answers to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Task:
    """What is known of a task, whoever tuned on it. `train_size` is the published one, `dataset` an id on the Hub."""

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    kind: str = ""
    task_class: str = ""
    train_size: int | None = None
    metric: str = ""
    dataset: str = ""
    licence: str = ""

    def to_fields(self) -> dict[str, Any]:
        """The fields of its object in a registry, which stands under its name."""
        fields = asdict(self)
        del fields["name"]
        return fields


def fold(name: str) -> str:
    """A name as it is compared with others: without case, `-`, `_` and blanks."""
    return name.casefold().replace("-", "").replace("_", "").replace(" ", "")


def spellings(tasks: Iterable[Task]) -> dict[str, str]:
    """Every name and alias of some tasks, folded, with the name of its task."""
    spelled = {}
    listed = list(tasks)
    for task in listed:
        spelled.update({fold(alias): task.name for alias in task.aliases})
    spelled.update({fold(task.name): task.name for task in listed})
    return spelled


def did_you_mean(wanted: str, spelled: Mapping[str, str]) -> str:
    """A hint at the names nearest to a folded one."""
    import difflib

    near = difflib.get_close_matches(wanted, spelled, n=3, cutoff=0.6)
    names = dict.fromkeys(spelled[name] for name in near)
    return f"did you mean {' or '.join(names)}?" if names else "tupate-hub list"


def clash(tasks: Mapping[str, Task]) -> str:
    """What is wrong where two tasks answer to one name, as spelled after folding; empty where none do."""
    owners: dict[str, str] = {}
    for task in tasks.values():
        for spelled in (task.name, *task.aliases):
            owner = owners.setdefault(fold(spelled), task.name)
            if owner != task.name:
                return clashing(task.name, spelled, owner)
    return ""


def clashing(task: str, spelled: str, owner: str) -> str:
    """The sentence that says that a task's name or alias is another's."""
    return f"task {task!r}: {spelled!r} in its name or aliases is also a name of task {owner!r}"
