"""Sources: what a user may name as data: a file, a folder with a file for each split, a dataset of the Hub."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tupate_hub.data.columns import lacks_header
from tupate_hub.data.faults import Fault, shown
from tupate_hub.data.files import has_header, read_table, reader_of
from tupate_hub.data.table import MOST_ROWS, Table, drawn_fault
from tupate_hub.errors import FormatError, NotAvailableOffline, TupateHubError
from tupate_hub.extras import install_command, is_installed
from tupate_hub.hub.location import DATASET, Location, parse_location

_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class SplitTables:
    """What the user named: its tables by split, the one to train on first, and where they are from.

    `licence` is as its author states it.
    """

    tables: Mapping[str, Table]
    name: str
    origin: str
    licence: str = "unknown"


def read_source(source: str, configuration: str | None = None, most: int = MOST_ROWS) -> SplitTables:
    """Read a file, a folder with a file for each split, or a dataset of the Hub (of a configuration, if it has some).

    Of a file or split with more rows than `most`, so many are drawn.

    Raises
    ------
    FormatError
        When it is none of these, or cannot be read at all. Rows that cannot be read are the tables' faults.
    NotAvailableOffline
        When the Hub cannot be asked.
    """
    path = Path(source)
    if path.is_dir():
        return _read_folder(path, most)
    if path.is_file():
        return SplitTables({"train": _read_file(path, most)}, _stem(path), path.name)
    location = None if reader_of(path) else parse_location(source, DATASET)
    if location is None:
        raise FormatError(
            f"There is no file or folder {source!r}.", hint="give a file, a folder, or a Hub dataset as OWNER/NAME"
        )
    return _read_hub(location, configuration, most)


def _read_file(path: Path, most: int) -> Table:
    """The file's table, with a warning where its first line does not look like names of columns."""
    table = read_table(path, most)
    if has_header(path) and lacks_header(table):
        said = f"the first line was taken for the names of columns, but looks like a row: {shown(table.columns[0])}"
        table = replace(table, faults=(*table.faults, Fault(said, table.where, error=False)))
    return table


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0]


def _read_folder(folder: Path, most: int) -> SplitTables:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        split = split_of(_stem(path)) if reader_of(path) and path.is_file() else None
        if split in files:
            raise FormatError(
                f"{folder} has two files for {split}: {files[split].name} and {path.name}.", hint="leave one of them"
            )
        if split:
            files[split] = path
    if "train" not in files:
        raise FormatError(
            f"{folder} has no tasks.json and no train.csv (or .tsv, .jsonl, .conll, .parquet).",
            hint="name the files train, validation and test, or give one file",
        )
    return SplitTables(
        {split: _read_file(files[split], most) for split in _SPLITS if split in files}, folder.name, folder.name
    )


def split_of(name: str) -> str | None:
    """Which split a file or a dataset's split is by its name, as in `reviews-dev` or `validation_matched`."""
    words = re.split(r"[^a-z]+", name.lower())
    splits = [split for split, names in _SPLITS.items() if set(words) & set(names)]
    return splits[0] if len(splits) == 1 else None


# ---- the Hub ---------------------------------------------------------------------------------------------------------


def _read_hub(location: Location, configuration: str | None, most: int) -> SplitTables:
    if not is_installed("datasets"):
        said = f"{location} is a dataset of the Hub, which needs the extra 'data'."
        raise FormatError(said, hint=install_command("data"))
    import datasets

    try:
        splits = datasets.load_dataset(location.id, configuration, revision=location.revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise _refusal(location, configuration, error) from error
    tables: dict[str, Table] = {}
    for name in splits:
        split = split_of(name)
        if split is not None and split not in tables:
            tables[split] = _of_split(name, splits[name], most)
    if "train" not in tables:
        raise FormatError(f"{location} has no split for training.", hint=f"it has {', '.join(splits)}")
    ordered = {split: tables[split] for split in _SPLITS if split in tables}
    licence = str(next(iter(splits.values())).info.license or "unknown")
    return SplitTables(ordered, configuration or location.id.rpartition("/")[2], str(location), licence)


def _refusal(location: Location, configuration: str | None, error: Exception) -> TupateHubError:
    """What to tell of an error out of `datasets`, whose own messages span many lines."""
    said = str(error)
    if isinstance(error, ConnectionError) or "offline" in said.lower():
        return NotAvailableOffline(
            f"The Hub cannot be asked for {location}.", hint="download its files and give their folder"
        )
    names = [name for name in re.findall(r"'([\w.+-]+)'", said) if name != configuration]
    if "config" in said.lower() and names:
        return FormatError(
            f"{location} has the configurations {', '.join(names)}, of which one is to be named.",
            hint=f"`task={names[0]!r}`",
        )
    named = f" ({configuration})" if configuration else ""
    return FormatError(
        f"The dataset {location}{named} cannot be read ({type(error).__name__}).", hint="look at its page on the Hub"
    )


def _of_split(name: str, split: Any, most: int) -> Table:
    """A split of `datasets`, sampled where it is too large; rows are numbered from 0, as the Hub shows them."""
    numbers: Sequence[int] = range(len(split))
    faults, more = [], None
    if len(split) > most:
        more = len(split)
        faults.append(drawn_fault(name, most, more))
        numbers = sorted(random.Random(name).sample(numbers, most))
        split = split.select(numbers)
    names = {}
    for column, feature in split.features.items():
        inner = getattr(feature, "feature", feature)
        if getattr(inner, "names", None):
            names[column] = tuple(inner.names)
    return Table(name, "row", tuple(split.column_names), split.to_list(), numbers, names, tuple(faults), more)
