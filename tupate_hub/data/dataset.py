"""Task data: labelled examples of one task, from a folder in the project's data format or from a user's own files.

The folder holds `tasks.json` (facts about every task) and `tasks/<name>/{train,validation}.jsonl.gz`, one JSON
object a line; `docs/data.md` lists the fields by kind, and what else can be read.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, pstdev
from sys import maxsize
from typing import Any

from tupate_hub.data.checking import check
from tupate_hub.data.columns import Guess, guess_columns
from tupate_hub.data.examples import are_bio
from tupate_hub.data.faults import refuse_errors
from tupate_hub.data.files import read_table
from tupate_hub.data.kinds import KINDS, METRICS, OF_TWO_CLASSES
from tupate_hub.data.sources import SplitTables, read_source
from tupate_hub.data.splits import MOST_HELD_OUT, cut_splits, limited
from tupate_hub.data.table import MOST_ROWS
from tupate_hub.errors import FormatError, UnknownName
from tupate_hub.tasknames import dashed

Example = Mapping[str, Any]

_NEAR_ENOUGH = 5.0
_FEW_TO_SCORE = 5

_KNOWN_KINDS = "known kinds: " + ", ".join(KINDS)

#: The paper's classes of tasks; the others are question answering.
_CLASSES = {"classification": "CR", "multi_label": "CR", "regression": "CR", "token_classification": "SL"}
_PUBLISHED = {
    "classification": {"text": "text_a", "text_b": "text_b", "label": "label"},
    "multi_label": {"text": "text_a", "text_b": "text_b", "label": "label"},
    "regression": {"text": "text_a", "text_b": "text_b", "label": "label"},
    "extractive_qa": {"context": "context", "question": "question", "answer": "answers"},
    "multiple_choice": {"choices": "choices", "label": "label", "context": "context", "question": "question"},
    "token_classification": {"tokens": "tokens", "tags": "tags"},
}


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
        """Outputs of the task's head: classes or tags, 1 for regression, choices of multiple choice, 2 for spans."""
        if self.kind in ("classification", "multi_label", "token_classification"):
            return len(self.label_names)
        if self.kind == "multiple_choice":
            return len(self.train[0]["choices"])
        return 2 if self.kind == "extractive_qa" else 1

    @property
    def center(self) -> float:
        """What is taken from a regression's targets while they are learned."""
        return self._scale[0]

    @property
    def spread(self) -> float:
        """What a regression's targets are divided by while they are learned."""
        return self._scale[1]

    @cached_property
    def _scale(self) -> tuple[float, float]:
        """Mean and standard deviation of the training targets; (0, 1) for targets such as STS-B's, from 0 to 5.

        A head starts from 0 and its gradient is clipped: a large mean or unit would drown what there is to learn.
        """
        if self.kind != "regression":
            return 0.0, 1.0
        targets = [float(example["label"]) for example in self.train]
        center, spread = fmean(targets), pstdev(targets)
        near = abs(center) <= _NEAR_ENOUGH and 1 / _NEAR_ENOUGH <= spread <= _NEAR_ENOUGH
        return (0.0, 1.0) if near or not spread else (center, spread)


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
    except FileNotFoundError:
        raise FormatError(f"{path} is missing.", hint="docs/data.md describes the data folder") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise FormatError(
            f"{path} cannot be read as gzipped lines of JSON ({type(error).__name__}).",
            hint="docs/data.md describes the data folder",
        ) from error
    if len(examples) < fewest:
        raise FormatError(f"{path} has {len(examples)} examples.", hint=f"it needs at least {fewest}")
    digest.update(raw)
    return examples


# ---- a user's own data -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataOptions:
    """What a user says about data; what is None or not there is guessed or left as it is.

    Parameters
    ----------
    kind : str, optional
        Guessed where the columns leave no doubt.
    columns : mapping
        Role to column name; the roles that are not named are guessed.
    task : str, optional
        Which task of a data folder, or which configuration of a Hub dataset; names the task of a file.
    name : str, optional
        The task's name. Default: the file's or dataset's, or `task`.
    limit : int, optional
        At most so many training examples, with each class's share kept.
    metric : str, optional
        What the task is scored by, and the checkpoint is chosen by: one of `kinds.METRICS`. Default: the kind's first.
    skip_unlabelled : bool
        Leave out rows without a label, instead of refusing them.

    Raises
    ------
    FormatError
        When the limit leaves nothing to train on.
    """

    kind: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    task: str | None = None
    name: str | None = None
    limit: int | None = None
    metric: str | None = None
    skip_unlabelled: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 2:
            raise FormatError(f"{self.limit} training examples are too few.", hint="`limit=100`")


@dataclass(frozen=True)
class Loaded:
    """A user's data as a task, the column of each role, and what may be wrong with the rows all the same.

    `guessed` are the roles that nobody named, and "kind" where nobody named that.
    """

    data: TaskData
    columns: Mapping[str, str]
    warnings: tuple[str, ...]
    guessed: tuple[str, ...] = ()


def load_data(source: str | Path, options: DataOptions | None = None, *, seed: int = 0) -> Loaded:
    """A task out of a file (CSV, TSV, JSON, Parquet, CoNLL), a folder of such files, a data folder or a Hub dataset.

    A file is cut into 80 % to train on, 10 % to choose the checkpoint by and 10 % to be scored on, the latter two at
    most 1,000 examples each. Of a folder or dataset with splits, test (validation where there is none) is scored on;
    validation, or a tenth of train, chooses. `seed` decides the cut and the limit.

    Raises
    ------
    FormatError
        For data that cannot be trained on: all that is wrong is in the one message, with row numbers.
    UnknownName
        For a task that the data folder does not list.
    NotAvailableOffline
        For a Hub dataset that cannot be fetched.
    """
    options = options or DataOptions()
    published = (Path(source) / "tasks.json").is_file()
    loaded = _load_published(Path(source), options.task) if published else _load_tables(str(source), options, seed)
    if published and (options.kind not in (None, loaded.data.kind) or options.columns):
        raise FormatError(
            f"The kind and the columns are those of {source}/tasks.json: {loaded.data.kind}.",
            hint="leave out `kind` and `columns`",
        )
    data = replace(loaded.data, name=dashed(options.name)[:100] or "task") if options.name else loaded.data
    if options.metric is not None:
        data = replace(data, metric=_metric(options.metric, data))
    return replace(loaded, data=with_limit(data, options.limit, seed))


def _metric(name: str, data: TaskData) -> str:
    """A metric that suits the task."""
    known = [metric for metric in METRICS[data.kind] if metric not in OF_TWO_CLASSES or len(data.label_names) == 2]
    if data.kind == "token_classification" and not are_bio(data.label_names):
        known.remove("span_f1")
    if name not in known:
        raise UnknownName(f"{data.kind} of {data.name} is not scored by {name!r}.", hint="known: " + ", ".join(known))
    return name


def _load_tables(source: str, options: DataOptions, seed: int) -> Loaded:
    """A file, a folder of files or a Hub dataset, cut into parts."""
    splits = read_source(source, options.task, _rows_wanted(options.limit))
    first = next(iter(splits.tables.values()))
    try:
        guess = guess_columns(first, options.kind, options.columns)
    except FormatError as error:
        if not first.faults:
            raise
        lines = [error.message, *(f"  {fault}" for fault in first.faults)]
        raise FormatError("\n".join(lines), hint=error.hint) from error
    checked = check(splits.tables, guess, skip_unlabelled=options.skip_unlabelled)
    warnings = refuse_errors(repr(source), checked.faults)
    parts = cut_splits(guess.kind, checked.splits, seed)
    if len(parts[2]) < _FEW_TO_SCORE:
        warnings = (*warnings, f"only {len(parts[2])} examples are scored on: their score says next to nothing")
    data = _task(splits, guess.kind, checked.label_names, parts, options.task or splits.name)
    guessed = (*(["kind"] if options.kind is None else []), *guess.guessed)
    return Loaded(data, guess.columns, warnings, guessed)


def _rows_wanted(limit: int | None) -> int:
    """How many rows to read at most: enough to cut a limit of training examples from."""
    return MOST_ROWS if limit is None else max(MOST_ROWS, limit + 2 * MOST_HELD_OUT)


Parts = tuple[Sequence[Example], Sequence[Example], Sequence[Example]]


def _task(splits: SplitTables, kind: str, names: tuple[str, ...], parts: Parts, name: str) -> TaskData:
    metric = METRICS[kind][0]
    if kind == "extractive_qa" and any(not example["answers"]["text"] for part in parts for example in part):
        metric = "squad_v2_f1"
    if kind == "token_classification" and not are_bio(names):
        metric = "accuracy"
    plain = dashed(name)[:100] or "task"
    facts = {
        "name": plain,
        "kind": kind,
        "class": _CLASSES.get(kind, "QA"),
        "metric": metric,
        "label_names": list(names) or None,
        "original_dataset": splits.name,
        "original_train_size": len(parts[0]) + len(parts[1]),
        "licence": splits.licence,
        "source": splits.origin,
    }
    return TaskData(plain, kind, metric, names, *parts, facts, _digest(kind, names, parts))


def _digest(kind: str, names: Sequence[str], parts: Iterable[Sequence[Example]]) -> str:
    """sha256 of the examples, part by part."""
    digest = hashlib.sha256()
    for line in [[kind, *names], *(part for part in parts)]:
        digest.update(json.dumps(line, sort_keys=True).encode())
    return digest.hexdigest()


def with_limit(data: TaskData, limit: int | None, seed: int = 0) -> TaskData:
    """The task with at most so many training examples, always the same of one seed, with each class's share kept."""
    if limit is None or len(data.train) <= limit:
        return data
    train = [data.train[at] for at in limited(data.kind, data.train, limit, seed)]
    return replace(
        data, train=train, sha256=_digest(data.kind, data.label_names, (train, data.held_out, data.validation))
    )


def _load_published(folder: Path, task: str | None) -> Loaded:
    """A task of a data folder, whose columns are known and whose rows are checked as any other's."""
    facts = task_facts(folder)
    if task is None and len(facts) != 1:
        raise FormatError(
            f"{folder} holds {len(facts)} tasks.", hint="`task=NAME`, one of: " + ", ".join(sorted(facts))
        )
    data = load_task(folder, task or next(iter(facts)))
    roles = dict(_PUBLISHED[data.kind])
    if data.train[0].get("text_b") is None:
        roles.pop("text_b", None)
    names = {roles.get("tags", "label"): data.label_names} if data.label_names else {}
    tables = {
        split: replace(read_table(folder / "tasks" / data.name / f"{split}.jsonl.gz", maxsize), label_names=names)
        for split in ("train", "validation")
    }
    warnings = refuse_errors(f"{folder} ({data.name})", check(tables, Guess(data.kind, roles, ())).faults)
    return Loaded(data, roles, warnings)
