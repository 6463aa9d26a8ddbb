"""Reading adapters on this disk as embeddings: one after the other, or by the workers of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tupate_hub.collect.read_adapter import embedding_file, read_for_registry
from tupate_hub.embedding import TaskEmbedding, parse_embedding
from tupate_hub.errors import FormatError, TupateHubError, WorkFailed
from tupate_hub.extras import require_extra
from tupate_hub.fan_out import in_order_over_ray
from tupate_hub.readers.layouts import detect

#: What was read of a path, or why that could not be done.
Read = tuple[Path, str, TaskEmbedding | TupateHubError]


def read_all(
    named: Iterable[tuple[Path, str]], base: str | None, base_weights: Path | None = None, ray: str | None = None
) -> Iterator[Read]:
    """Each path with its name for want of a better one, and what was read of it, in their order.

    `base` is for those that name none, `ray` the address of a cluster that reads, or `local`.

    Raises
    ------
    TupateHubError
        When Ray is wanted and not installed, or together with `base_weights`.
    """
    if ray is None:
        return _read_here(named, base, base_weights)
    require_extra("cluster")
    if base_weights is not None:
        raise TupateHubError("A cluster's workers do not have the base model's weights.", hint="leave out `ray`")
    return _read_over_ray(named, base, ray)


def _read_here(named: Iterable[tuple[Path, str]], base: str | None, base_weights: Path | None) -> Iterator[Read]:
    for path, name in named:
        try:
            yield path, name, read_for_registry(path, fallback_base=base, fallback_task=name, base_weights=base_weights)
        except TupateHubError as error:
            yield path, name, error


def _read_over_ray(named: Iterable[tuple[Path, str]], base: str | None, address: str) -> Iterator[Read]:
    """An adapter's files go out, and its embedding comes back."""
    runs, jobs = (_sent(path, name) for path, name in named), os.cpu_count() or 1
    for sent, result in in_order_over_ray(partial(_read_there, base=base), runs, address=address, jobs=jobs):
        if isinstance(result, bytes):
            yield sent.path, sent.name, parse_embedding(result, str(sent.path))
        elif isinstance(result, TupateHubError):
            yield sent.path, sent.name, result
        else:
            yield sent.path, sent.name, WorkFailed(f"{sent.path}: its worker ended without a word.", hint="retry")


@dataclass(frozen=True)
class _Sent:
    """An adapter on its way to a worker: its files by their names, and whether its folder was named or a file of it."""

    path: Path
    name: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    is_folder: bool = True
    error: TupateHubError | None = None


def _sent(path: Path, name: str) -> _Sent:
    try:
        ours = embedding_file(path)
        detection = None if ours is not None else detect(path)
        files = [ours] if detection is None else [detection.weights, detection.config]
        if path.is_dir():
            files.append(path / "README.md")
        return _Sent(
            path, name, {file.name: file.read_bytes() for file in files if file and file.is_file()}, path.is_dir()
        )
    except TupateHubError as error:
        return _Sent(path, name, error=error)
    except OSError as error:
        return _Sent(path, name, error=FormatError(f"{path} cannot be read: {error.strerror}."))


def _read_there(sent: _Sent, base: str | None) -> bytes:
    """On a worker: the bytes of an adapter's embedding."""
    if sent.error is not None:
        raise sent.error
    with TemporaryDirectory(prefix="tupate-hub-") as scratch:
        folder = Path(scratch) / sent.path.absolute().parts[-1 if sent.is_folder else -2]
        folder.mkdir()
        for name, data in sent.files.items():
            (folder / name).write_bytes(data)
        here = folder if sent.is_folder else folder / sent.path.name
        try:
            read = read_for_registry(here, fallback_base=base, fallback_task=sent.name)
        except TupateHubError as error:
            raise type(error)(error.message.replace(str(here), str(sent.path)), hint=error.hint) from None
        return read.to_bytes("float32")
