"""Reading: an adapter on disk or on the Hub as a task's embedding, fit to be compared."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tupate_hub.collect.naming import dataset_of, default_name
from tupate_hub.compare.kernel import pack
from tupate_hub.embedding import Adapter, TaskEmbedding, embed, is_embedding, read_embedding
from tupate_hub.errors import FormatError
from tupate_hub.extras import is_installed
from tupate_hub.hub.location import MODEL, not_on_this_disk, parse_location
from tupate_hub.readers import load_adapter
from tupate_hub.readers.layouts import CONFIG
from tupate_hub.readers.source import Legacy
from tupate_hub.space import Space, require_base
from tupate_hub.tasknames import canonical, dashed

if TYPE_CHECKING:
    from tupate_hub.hub.download import DownloadedAdapter
    from tupate_hub.readers.in_memory import InMemory

_MOST_BYTES = 200
#: Files that stand beside the embeddings of a space: `moments.safetensors`, `index-<similarity>.safetensors`,
#: `subspace-<dim>.safetensors`.
_TAKEN = re.compile(r"moments|index-.*|subspace-.*", re.IGNORECASE)


def read_from(
    written: str | Path,
    *,
    base: str | None = None,
    task: str | None = None,
    base_weights: Path | None = None,
    check: bool = True,
) -> TaskEmbedding:
    """Read an adapter from a path, or from a model repository of the Hub where there is no such path.

    Of a repository its configuration and weights are fetched, and nothing else. Task and base model are what the user
    says, else what the configuration does, else the card's tags, else, for the task, the repository's name, spelled as
    `tasknames` does. The embedding's facts name repository, commit and licence.

    Raises
    ------
    FormatError
        When there is no such path, repository or adapter, and as `read_for_registry`.
    NotAvailableOffline
        When it is not cached and there is no network.
    TupateHubError
        When the Hub refuses, each time with its own sentence.
    """
    adapter = find_adapter(written)
    if isinstance(adapter, Path):
        return read_for_registry(adapter, base=base, task=task, base_weights=base_weights, check=check)
    return read_downloaded(adapter, base=base, task=task, base_weights=base_weights, check=check)


def read_downloaded(
    downloaded: DownloadedAdapter,
    *,
    base: str | None = None,
    task: str | None = None,
    base_weights: Path | None = None,
    check: bool = True,
) -> TaskEmbedding:
    """Read what was fetched of a model repository; errors as `read_from`.

    A task that the user does not name gets the name that `tasknames` has for it.
    """
    embedding = read_for_registry(
        downloaded.folder,
        base=base,
        fallback_base=downloaded.base,
        task=task,
        fallback_task=downloaded.task,
        base_weights=base_weights,
        check=check,
    )
    licence = {"licence": downloaded.licence} if downloaded.licence else {}
    facts = {**embedding.facts, **licence, "source": {**embedding.facts["source"], **downloaded.source}}
    return replace(embedding, task=embedding.task if task else canonical(embedding.task), facts=facts)


def find_adapter(written: str | Path) -> Path | DownloadedAdapter:
    """The path, where there is one, else what was fetched of the model repository of that name.

    Errors as `read_from`.
    """
    if os.path.exists(written):  # noqa: PTH110 - Path.exists raises on a name that is too long
        return Path(written)
    location = parse_location(str(written), MODEL)
    if location is None:
        hint = "give a task (tupate-hub list), or the path or Hub id of an adapter"
        raise FormatError(f"{written} does not exist.", hint=hint)
    from tupate_hub.hub.download import download_adapter

    with not_on_this_disk(str(written)):
        return download_adapter(location)


def inspect_path(
    written: str | Path, *, base: str | None = None, base_weights: Path | None = None
) -> tuple[str, Adapter]:
    """What a path or a model repository of the Hub holds, as it is, and how that was told, in one sentence.

    An embedding of this project is shown as the adapter that it was made of. Errors as `read_from`, but for an update
    without direction.
    """
    found = find_adapter(written)
    place = found if isinstance(found, Path) else found.folder
    if (file := embedding_file(place)) is not None:
        ours = _of_ours(file, base, None)
        settings = ours.facts.get("settings")
        known = settings if isinstance(settings, dict) else {}
        adapter = Adapter(ours.space.method, ours.space.base, ours.blocks, known, task=ours.task, layout="embedding")
        return f"{file.name} is an embedding of this project", adapter
    loaded = load_adapter(place, base=base, base_weights=base_weights, legacy=legacy_reader())
    return loaded.detection.why, replace(loaded.adapter, layout=loaded.detection.layout)


def read_for_registry(
    path: Path,
    *,
    base: str | None = None,
    fallback_base: str | None = None,
    task: str | None = None,
    fallback_task: str | None = None,
    base_weights: Path | None = None,
    check: bool = True,
) -> TaskEmbedding:
    """Read an adapter as an embedding, with where it came from; `check` refuses one that has no direction.

    `base` overrides the base model that the file names, `fallback_base` stands in where it names none. Its task is
    `task`, else what the file says, else `fallback_task`, else its `default_name`. An embedding of this
    project, alone or in the folder that `pull` makes, keeps all that it says.

    Raises
    ------
    FormatError
        When it cannot be read, names no base model, or its update is all zero or not finite.
    """
    if (file := embedding_file(path)) is not None:
        return _checked(_of_ours(file, base, task), check)
    loaded = load_adapter(path, base=base, task=task, base_weights=base_weights, legacy=legacy_reader())
    detection, adapter = loaded.detection, loaded.adapter
    dataset = dataset_of(path)
    name = plain_name(task or adapter.task or fallback_task or default_name(path, dataset))
    adapter = replace(adapter, base=require_base(adapter.base or fallback_base or adapter.local_base, str(path)))
    said = {"dataset": dataset} if dataset else {}
    return _checked(_named(adapter, name, detection.weights.name, detection.layout, loaded.sha256, said), check)


def read_streamed(read: InMemory, said: Mapping[str, str | None], source: Mapping[str, Any]) -> TaskEmbedding:
    """What was read from memory as an embedding; `said` is what its repository's card says, as `list_adapters.facts`.

    Raises
    ------
    FormatError
        When it names no base model.
    """
    adapter = read.adapter
    name = canonical(plain_name(adapter.task or said.get("task") or ""))
    base = require_base(adapter.base or said.get("base") or adapter.local_base, read.file)
    embedding = _named(replace(adapter, base=base), name, read.file, read.layout, read.sha256, source)
    licence = {"licence": said["licence"]} if said.get("licence") else {}
    return replace(embedding, facts={**embedding.facts, **licence})


def require_direction(embedding: TaskEmbedding) -> None:
    """Refuse an update that cannot be compared.

    Raises
    ------
    FormatError
        When it is all zero, or too large to measure.
    """
    pack([embedding])


def _named(
    adapter: Adapter, name: str, file: str, layout: str, sha256: str, source: Mapping[str, Any]
) -> TaskEmbedding:
    """An adapter's embedding, with where it came from."""
    found: dict[str, Any] = {"kind": "file", "file": file, "layout": layout, "sha256": sha256}
    found |= {"left_out": dict(adapter.left_out), "notes": list(adapter.notes), **source}
    return embed(adapter, name, {"source": found})


def embedding_file(path: Path) -> Path | None:
    """The file of an embedding of this project that a path is, or that is alone in a folder; only headers are read."""
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if len(files) != 1 or (files[0].parent / CONFIG).exists():
        return None
    return files[0] if is_embedding(files[0]) else None


def _of_ours(file: Path, base: str | None, task: str | None) -> TaskEmbedding:
    found = read_embedding(file)
    name = found.task if task is None else plain_name(task)
    space = found.space if base is None else Space(require_base(base, str(file)), found.space.method)
    return replace(found, task=name, space=space)


def _checked(embedding: TaskEmbedding, check: bool) -> TaskEmbedding:
    if check:
        require_direction(embedding)
    return embedding


def legacy_reader() -> Legacy | None:
    """What reads files that torch wrote before 1.6, which only torch can: None where torch is not installed.

    The one door from here up to `training`. It opens when such a file is met, not before.
    """
    if not is_installed("torch"):
        return None
    return lambda path: import_module("tupate_hub.training.legacy").load_legacy(path)


def plain_name(written: str) -> str:
    """A task's name with what a registry does not allow replaced by `-`.

    Raises
    ------
    FormatError
        When nothing is left, it is too long for a file's name, or a file of the registry's own has it.
    """
    name = dashed(written)
    if not name:
        raise FormatError(f"{written!r} cannot be made a task name.", hint="name it: `task=NAME`")
    if len(name.encode()) > _MOST_BYTES:
        raise FormatError(f"{name[:40]!r}... is too long for a task's name.", hint="name it: `task=NAME`")
    if _TAKEN.fullmatch(name):
        raise FormatError(f"{name!r} is the name of a file of the registry's own.", hint="name it: `task=NAME`")
    return name
