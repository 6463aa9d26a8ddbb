"""Source: one adapter's bytes, opened defensively: a configuration, named arrays, and what the user said of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from tupate_hub.arrays import Array, Float32Array
from tupate_hub.embedding import Adapter, Block, order_blocks
from tupate_hub.errors import FormatError
from tupate_hub.knownbases import is_local_name
from tupate_hub.readers.names import encoder_of
from tupate_hub.space import LEGACY_NAMES, normalise_base
from tupate_hub.storage.safetensors import parse_tensorfile, read_header
from tupate_hub.storage.strangers_json import parse_object

Legacy = Callable[[Path], dict[str, Array] | Array]

#: The name under which a file that holds one bare array keeps it.
BARE = ""

_POINTER = b"version https://git-lfs"
_MOST_CONFIG = 4_000_000
_MOST_ITEMS = 200_000
_MOST_WEIGHTS = 8_000_000_000
_PIECE = 1 << 20
_START = 1 << 16
_FEWEST_BYTES = 32
_MOST_KEY = 500
_MOST_TENSORS = 50_000


@dataclass(frozen=True)
class Source:
    """What a reader is given.

    `path` is what the user named, `config` the parsed configuration ({} where there is none), `tensors` the weights by
    key (`BARE` for a file that is one array). `base`, `task` and `base_weights` are what the user said. `metadata` is
    what the weights file says beside its tensors, for the layouts that ask for it.
    """

    path: Path
    weights: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Array]
    layout: str = ""
    base: str | None = None
    task: str | None = None
    base_weights: Path | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """How messages name it."""
        return str(self.weights)

    def refuse(self, what: str, hint: str = "") -> FormatError:
        """An error about this source, to be raised."""
        return FormatError(f"{self.where} {what}", hint=hint)

    def number(self, key: str, default: float, config: Mapping[str, Any] | None = None) -> float:
        """A number of the configuration.

        Raises
        ------
        FormatError
            When it is there and is not a finite number.
        """
        value = (self.config if config is None else config).get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e30:
            raise self.refuse(f"has a configuration whose {key!r} is {_short(value)}, which is not a number.")
        return float(value)

    def mapping(self, key: str, config: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """An object of the configuration, {} where it is missing or null.

        Raises
        ------
        FormatError
            When it is there and is not an object.
        """
        value = (self.config if config is None else config).get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.refuse(f"has a configuration whose {key!r} is {_short(value)}, which is not an object.")
        return value


@dataclass
class Findings:
    """What a reader gathers while it goes through the keys; `adapter` closes it."""

    blocks: list[Block] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    architecture: dict[str, Any] = field(default_factory=dict)

    def note_encoder(self, module: str) -> None:
        """Keep the attribute of the encoder that a key tells, the first that does."""
        if encoder := encoder_of(module):
            self.architecture.setdefault("encoder", encoder)

    def adapter(self, source: Source, method: str, base: object = None) -> Adapter:
        """The adapter made of what was found; `base` is the base model as the file writes it.

        Raises
        ------
        FormatError
            When no block was found, or two have one name.
        """
        written = base if isinstance(base, str) else None
        known = normalise_base(source.base) if source.base else normalise_base(written)
        if known is None:
            said = f"names a local base model, {_short(written)}" if written else "names no base model"
            self.notes.append(f"The file {said}.")
        elif is_local_name(known) and not known.startswith(LEGACY_NAMES):
            self.notes.append(f"The base model is called {known[:80]!r}, which has no owner as models on the Hub have.")
        blocks = order_blocks(self.blocks, source.where)
        if method != "plain" and all(_is_zero(block) for block in blocks):
            self.notes.append("Every update is zero: it was never trained.")
        return Adapter(
            method,
            known,
            blocks,
            self.settings,
            dict(sorted(self.left_out.items())),
            tuple(self.notes),
            source.task,
            source.layout,
            self.architecture,
            written if known is None else None,
        )


def _is_zero(block: Block) -> bool:
    parts = block.parts
    if block.form == "lowrank":
        return not parts["B"].any() or not parts["A"].any()
    if block.form == "bottleneck":
        return not parts["up"].any() and not parts["up_bias"].any()
    if block.form == "scaling":
        return bool((parts["scaling"] == 1).all())
    return not any(part.any() for part in parts.values())


def floats(source: Source, key: str, array: Array) -> Float32Array:
    """An array as float32.

    Raises
    ------
    FormatError
        When it holds anything but floating-point numbers: integers are quantised weights, whose scales are elsewhere.
    """
    if array.dtype.kind != "f":
        raise source.refuse(f"holds {key!r} as {array.dtype}; only floating-point weights are read.")
    # What overflows becomes infinity, and a signalling NaN a quiet one: make_block refuses both by name.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(array, dtype=np.float32)


def is_plain(value: object) -> bool:
    """Whether a configuration's value is a short scalar, fit to be kept among an adapter's settings."""
    return isinstance(value, (str, int, float)) and len(repr(value)) <= 80


def read_config(path: Path) -> dict[str, Any]:
    """A configuration file's JSON object.

    Raises
    ------
    FormatError
        When it cannot be read, is a Git LFS pointer, is too large, or is not a JSON object.
    """
    data = _read(path, _MOST_CONFIG)
    if data.startswith(_POINTER):
        raise FormatError(f"{path} is a Git LFS pointer, not the configuration itself.", hint="fetch it: git lfs pull")
    return parse_object(data, _MOST_ITEMS, str(path))


def read_weights(path: Path, legacy: Legacy | None = None) -> Mapping[str, Array]:
    """`parse_weights` of a file on disk."""
    return parse_weights(read_bytes(path), path, legacy)


def parse_weights(data: bytes, path: Path, legacy: Legacy | None = None) -> Mapping[str, Array]:
    """The arrays of a weights file by key, the format told from the name's ending; a bare array has the key `BARE`.

    `legacy` reads files of torch before 1.6 (`tupate_hub.training.legacy.load_legacy`); without it they are refused.

    Raises
    ------
    FormatError
        For a truncated, malformed or unreadable file.
    """
    suffix, where = path.suffix.lower(), str(path)
    if suffix == ".safetensors":
        tensors: Mapping[str, Array] | Array = parse_tensorfile(data, where).tensors
    elif suffix == ".gguf" or data[:4] in (b"GGUF", b"algg"):
        from tupate_hub.readers.formats.gguffile import parse_gguf_file

        tensors = parse_gguf_file(data, where)[0]
    elif suffix in (".npy", ".npz"):
        from tupate_hub.readers.formats.numpyfile import parse_numpy_file

        tensors = parse_numpy_file(data, where)
    else:
        from tupate_hub.readers.formats.torchfile import parse_torch_file

        tensors = parse_torch_file(data, where, None if legacy is None else lambda: legacy(path))
    named = tensors if isinstance(tensors, Mapping) else {BARE: tensors}
    if not named:
        raise FormatError(f"{path} holds no tensors.")
    if len(named) > _MOST_TENSORS:
        raise FormatError(f"{path} holds {len(named)} tensors; at most {_MOST_TENSORS} are read.")
    if any(len(key) > _MOST_KEY for key in named):
        raise FormatError(f"{path} holds a key of more than {_MOST_KEY} characters.")
    return named


def parse_metadata(data: bytes, path: Path) -> Mapping[str, Any]:
    """What a weights file says beside its tensors, {} where its format has no place for it; as `parse_weights`."""
    if path.suffix.lower() == ".safetensors":
        metadata = read_header(data, str(path))[0].get("__metadata__")
        return metadata if isinstance(metadata, dict) else {}
    if path.suffix.lower() == ".gguf":
        from tupate_hub.readers.formats.gguffile import parse_gguf_header

        return parse_gguf_header(data, str(path)).metadata
    return {}


def read_bytes(path: Path) -> bytes:
    """A weights file's bytes, from one opening.

    Raises
    ------
    FormatError
        For a Git LFS pointer, an empty or too large file, a placeholder, or anything that is not a regular file.
    """
    with _opened_weights(path) as file:
        return file.read()


def read_start(path: Path) -> bytes:
    """The first bytes of a weights file, 64 KB at most; errors as in `read_bytes`."""
    with _opened_weights(path) as file:
        return file.read(_START)


def check_weights(path: Path) -> None:
    """Refuse what is not a weights file, from its size and first bytes; errors as in `read_bytes`."""
    with _opened_weights(path):
        pass


def digest_of(path: Path) -> str:
    """The sha256 of a weights file that is not read whole at once; errors as in `read_bytes`."""
    with _opened_weights(path) as file:
        digest = sha256()
        while piece := file.read(_PIECE):
            digest.update(piece)
        return digest.hexdigest()


@contextmanager
def _opened_weights(path: Path) -> Iterator[FileIO]:
    try:
        if not path.is_file():
            raise FormatError(f"{path} is not a file.")
        with path.open("rb", buffering=0) as file:  # what was buffered would be copied once more
            require_weights(path, os.fstat(file.fileno()).st_size, file.read(len(_POINTER)))
            file.seek(0)
            yield file
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.") from error


def require_weights(path: Path, size: int, first: bytes) -> None:
    """Refuse what is not a weights file, by its size and its first bytes; errors as in `read_bytes`."""
    if first.startswith(_POINTER):
        raise FormatError(f"{path} is a Git LFS pointer, not the weights themselves.", hint="fetch them: git lfs pull")
    if size == 0:
        raise FormatError(f"{path} is empty.")
    if size < _FEWEST_BYTES:
        raise FormatError(f"{path} is a placeholder of {size} bytes, not weights.")
    if size > _MOST_WEIGHTS:
        raise FormatError(f"{path} has {size} bytes; an adapter of at most {_MOST_WEIGHTS} is read.")


def _read(path: Path, most: int) -> bytes:
    try:
        if not path.is_file():
            raise FormatError(f"{path} is not a file.")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > most:
        raise FormatError(f"{path} has more than {most} bytes, too many for a configuration.")
    return data


def _short(value: object) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def short_list(names: Iterable[str], most: int = 3) -> str:
    """A few names, for messages."""
    listed = [_short(name) for name in names]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
