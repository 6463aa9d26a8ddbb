"""Naming: what to call a task that nobody has named, from what lies beside the adapter and from where it lies.

The same file gets the same name whichever command reads it.
"""

from __future__ import annotations

import re
from pathlib import Path

from tupate_hub.readers.layouts import CONFIG
from tupate_hub.tasknames import of_dataset, single

_MOST_BYTES = 100_000
#: Folders that are called after what they hold, or when it was saved, whatever the task.
_GENERIC = re.compile(
    r"(?:(?:final|best|last|latest|saved|fine[-_]?tuned|ft|peft|lora|adapter|trained|task|pytorch|checkpoints?|model"
    r"|weights?|outputs?|results?|runs?|epoch|step|default|\d+)s?[-_. ]*)+",
    re.IGNORECASE,
)
_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?)\n---[ \t]*(?:\n|$)", re.DOTALL)


def default_name(path: Path, dataset: str | None = None) -> str:
    """A task's name for an adapter: that of the one dataset on its model card, else that of its folder or file.

    Where the folder is called `checkpoint-500` or `best_model`, it is the one around it. `dataset` is what
    `dataset_of` has said, where it was asked already.
    """
    told = dataset_of(path) if dataset is None else dataset
    if task := of_dataset(told) if told else None:
        return task
    whole = (path.parent if path.name == CONFIG else path).resolve()
    names = [whole.stem if whole.is_file() else whole.name, *(one.name for one in whole.parents)]
    return next((name for name in names if name and not _GENERIC.fullmatch(name)), names[0])


def dataset_of(path: Path) -> str:
    """The dataset that the model card in an adapter's folder names, where it is one alone; else nothing.

    A file that is an adapter by itself has no card: what lies beside it may be anyone's.
    """
    if path.is_file() and path.name != CONFIG:
        return ""
    folder = path if path.is_dir() else path.parent
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            text = file.read(_MOST_BYTES)
    except OSError:
        return ""
    found = _FRONT_MATTER.match(text.lstrip("\ufeff"))
    lines = found[1].split("\n") if found else []
    at = next((number for number, line in enumerate(lines) if line.startswith("datasets:")), None)
    if at is None:
        return ""
    listed = [lines[at].removeprefix("datasets:")]
    for line in lines[at + 1 :]:
        item = re.fullmatch(r"[ \t]*-[ \t]+(.*)", line)
        if item is None:
            break
        listed.append(item[1])
    named = [word for word in (one.strip(" \t[]'\"") for one in listed) if word]
    return single(named[0]) if len(named) == 1 else ""
