"""Adapter and TaskEmbedding: tuned parameters as named blocks, and a task made of them in one safetensors file.

`docs/registry.md` specifies the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tupate_hub.arrays import Array, Float32Array
from tupate_hub.errors import FormatError
from tupate_hub.space import Space
from tupate_hub.storage.safetensors import TensorFile, parse_tensorfile, read_file_header
from tupate_hub.storage.strangers_json import parse_json

SCHEMA = "tupate-hub-embedding/1"


#: The parts of each form of block, in the order in which they are flattened.
FORMS: Mapping[str, tuple[str, ...]] = {  # the parts of each in alphabetical order
    "lowrank": ("A", "B"),
    "bottleneck": ("down", "down_bias", "up", "up_bias"),
    "bias": ("bias",),
    "scaling": ("scaling",),
    "rows": ("rows",),
    "vector": ("vector",),
}
_MOST_FACTS = 100_000
_FIELDS = frozenset({"schema", "task", "base", "method", "scales"})
_FORM_OF = {parts: form for form, parts in FORMS.items()}


@dataclass(frozen=True)
class Block:
    """One place in the model that the method changed.

    Parts by form: `lowrank` A (r, in) and B (out, r); `bottleneck` down (k, d), down_bias (k,), up (d, k),
    up_bias (d,); `bias` the difference from the base model's bias; `scaling` a vector of factors; `rows` prefix or
    prompt vectors (n, d); `vector` anything else. `scale` multiplies the update: alpha / r for LoRA.
    """

    name: str
    parts: Mapping[str, Float32Array]
    scale: float = 1.0

    @property
    def form(self) -> str:
        """Which of `FORMS` the parts make up."""
        return _FORM_OF[tuple(self.parts)]

    @property
    def outer(self) -> tuple[int, ...]:
        """The sizes that the base model gives it, whatever the rank: inputs and outputs, or a width."""
        arrays = list(self.parts.values())
        if self.form == "lowrank":
            return arrays[0].shape[1], arrays[1].shape[0]
        return arrays[0].shape[-1:]


def make_block(name: str, parts: Mapping[str, Array], scale: float = 1.0, where: str = "") -> Block:
    """A block of float32 parts in their form's order, checked.

    Raises
    ------
    FormatError
        When the parts do not make up a form, their shapes do not fit together, or a number is not finite.
    """
    form = _FORM_OF.get(tuple(sorted(parts)))
    if form is None:
        raise FormatError(
            f"{where or 'A file'}: the parts {sorted(parts)[:8]} of {name!r} do not make up a known block."
        )
    with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN are refused below
        ordered = {part: np.asarray(parts[part], dtype=np.float32) for part in FORMS[form]}
    if not _fits(form, ordered):
        shapes = ", ".join(f"{part} {array.shape}" for part, array in ordered.items())
        raise FormatError(f"{where or 'A file'}: the shapes of {name!r} do not fit together: {shapes}.")
    if not np.isfinite(scale) or not all(np.isfinite(array).all() for array in ordered.values()):
        raise FormatError(f"{where or 'A file'}: {name!r} holds NaN or infinity.")
    return Block(name, ordered, float(scale))


def _fits(form: str, parts: Mapping[str, Float32Array]) -> bool:
    shapes = [array.shape for array in parts.values()]
    if any(0 in shape for shape in shapes):
        return False
    if form == "lowrank":
        a, b = shapes
        return len(a) == len(b) == 2 and a[0] == b[1]
    if form == "bottleneck":
        down, down_bias, up, up_bias = shapes
        return len(down) == len(up) == 2 and down[0] == up[1] and down_bias == down[:1] and up_bias == up[:1]
    return len(shapes[0]) == (2 if form == "rows" else 1)


@lru_cache(maxsize=8192)  # the embeddings of a space name the same blocks
def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts names with their numbers as numbers: layer.2 before layer.10. No two names have one key."""
    keys = []
    for piece in re.split(r"(\d+)", name):
        digits = piece.lstrip("0")  # compared by length, then as text: a hostile name may have any number of digits
        keys.append((1, len(digits), digits) if piece.isdigit() else (0, 0, piece))
    return (*keys, (-1, 0, name))


def order_blocks(blocks: Iterable[Block], where: str = "") -> tuple[Block, ...]:
    """Blocks in their canonical order.

    Raises
    ------
    FormatError
        When two blocks have one name, or there is none.
    """
    ordered = tuple(sorted(blocks, key=lambda block: natural_key(block.name)))
    names = [block.name for block in ordered]
    if not names:
        raise FormatError(f"{where or 'The file'} holds no tuned parameters.")
    if len(set(names)) < len(names):
        raise FormatError(f"{where or 'The file'} holds two blocks of one name.")
    return ordered


@dataclass(frozen=True)
class Adapter:
    """Tuned parameters as found in a file: a method, a base model and blocks, with every scale applied.

    `base` is None where the file does not name a model of the Hub, and `local_base` then what it names. `settings` are
    the method's own (r, alpha, ...); `left_out` counts tensors outside the method (heads, full copies); `notes` are
    sentences for the reader. `architecture` is what the file says of its base model (model_type, hidden_size).
    """

    method: str
    base: str | None
    blocks: tuple[Block, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    task: str | None = None
    layout: str = ""
    architecture: Mapping[str, Any] = field(default_factory=dict)
    local_base: str | None = None


@dataclass(frozen=True)
class TaskEmbedding:
    """A task in a space: its blocks and everything known about where they came from. Immutable.

    `facts` are JSON values: base_sha256, settings, architecture, data, training, scores, source, licence, software.
    """

    task: str
    space: Space
    blocks: tuple[Block, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def by_name(self) -> dict[str, Block]:
        """Its blocks by name."""
        return {block.name: block for block in self.blocks}

    @property
    def parameters(self) -> int:
        """How many numbers its blocks hold."""
        return sum(array.size for block in self.blocks for array in block.parts.values())

    def vector(self) -> Float32Array:
        """All parameters as one vector, of shape (parameters,): the paper's flattening.

        Blocks in natural order of their names, the parts of a block in the order of `FORMS`, each in C order. Scales
        are not applied (TuPaTE, section 3, flattens the parameters themselves).
        """
        return np.concatenate([array.ravel() for block in self.blocks for array in block.parts.values()])

    def to_bytes(self, dtype: str = "float16") -> bytes:
        """The embedding's safetensors file; the same embedding always gives the same bytes.

        Raises
        ------
        FormatError
            When a number is too large for `dtype` (float16 ends at 65504), or a fact has the name of a field.
        """
        with np.errstate(over="ignore"):  # what overflows becomes infinity and is refused below
            tensors = {
                f"{block.name}.{part}": array.astype(dtype)
                for block in self.blocks
                for part, array in block.parts.items()
            }
        for name, array in tensors.items():
            if not np.isfinite(array).all():
                raise FormatError(f"{self.task!r}: {name!r} holds numbers that {dtype} cannot.", hint="write float32")
        if taken := _FIELDS & self.facts.keys():
            raise FormatError(
                f"{self.task!r}: a fact cannot be named {min(taken)!r}: the file has a field of that name."
            )
        scales = {block.name: block.scale for block in self.blocks if block.scale != 1.0}
        metadata = {
            "schema": SCHEMA,
            "task": self.task,
            "base": self.space.base,
            "method": self.space.method,
            "scales": _json(scales),
            **{key: _json(value) for key, value in sorted(self.facts.items())},
        }
        return TensorFile(tensors, metadata).to_bytes()


def parse_embedding(data: bytes, where: str) -> TaskEmbedding:
    """Read an embedding from the bytes of its file; errors as in `embedding_of`."""
    return embedding_of(parse_tensorfile(data, where), where)


def embedding_of(file: TensorFile, where: str) -> TaskEmbedding:
    """The embedding that a safetensors file holds.

    Raises
    ------
    FormatError
        For a truncated or foreign file, a newer schema, NaN or infinity.
    """
    meta = dict(file.metadata)
    if meta.pop("schema", None) != SCHEMA:
        raise FormatError(f"{where} is not a {SCHEMA} file.", hint="other formats are read by: tupate-hub inspect PATH")
    try:
        task, base, method = meta.pop("task"), meta.pop("base"), meta.pop("method")
        scales = parse_json(meta.pop("scales"), _MOST_FACTS)
        facts = {key: parse_json(value, _MOST_FACTS) for key, value in meta.items()}
        written = "".join((*file.metadata, *file.metadata.values()))
        written.encode()  # a lone surrogate can be neither shown nor written
        if "\\u" in written:
            _json(facts).encode()
    except KeyError as error:
        raise FormatError(f"{where} has a header without {error}.") from error
    except ValueError as error:
        raise FormatError(f"{where} has a header whose facts are not JSON, or have too much in them.") from error
    parts: dict[str, dict[str, Array]] = {}
    for name, array in file.tensors.items():
        if array.dtype.kind != "f":
            raise FormatError(
                f"{where} holds {name!r} as {array.dtype}; the numbers of an embedding are floating-point."
            )
        block, _, part = name.rpartition(".")
        parts.setdefault(block, {})[part] = array
    blocks = [make_block(name, part, _scale(scales, name, where), where) for name, part in parts.items()]
    return TaskEmbedding(task, Space(base, method), order_blocks(blocks, where), facts)


def read_embedding(path: Path) -> TaskEmbedding:
    """Read an embedding file from disk; errors as in `parse_embedding`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.") from error
    return parse_embedding(data, str(path))


def is_embedding(path: Path) -> bool:
    """Whether a file is an embedding of this project, of any version; only its header is read."""
    try:
        metadata = read_file_header(path)[0].get("__metadata__")
    except FormatError:  # reading it as an adapter says what is wrong
        return False
    return isinstance(metadata, dict) and str(metadata.get("schema")).startswith(SCHEMA.partition("/")[0])


def embed(adapter: Adapter, task: str, facts: Mapping[str, Any] | None = None) -> TaskEmbedding:
    """Name an adapter's task and keep what is known of it.

    Raises
    ------
    FormatError
        When the adapter's base model is not known.
    """
    if adapter.base is None:
        raise FormatError(f"The adapter of {task!r} names no base model.", hint="name it: `base=MODEL_ID`")
    known = {"architecture": dict(adapter.architecture)} if adapter.architecture else {}
    merged = {"settings": dict(adapter.settings), **known, **(facts or {})}
    return TaskEmbedding(task, Space(adapter.base, adapter.method), adapter.blocks, merged)


def _scale(scales: Any, name: str, where: str) -> float:
    value = scales.get(name, 1.0) if isinstance(scales, dict) else None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise FormatError(f"{where} has a header whose scales are not numbers.")
    try:
        return float(value)
    except OverflowError as error:
        raise FormatError(f"{where} has a header whose scale of {name!r} is too large.") from error


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def shared_names(embeddings: Sequence[TaskEmbedding]) -> tuple[str, ...]:
    """Every block name of any of the embeddings, in canonical order."""
    return tuple(sorted({block.name for embedding in embeddings for block in embedding.blocks}, key=natural_key))


def layer_of(block: str) -> str:
    """The layer a block belongs to: its name up to and with the first number, all of it where it has none.

    >>> layer_of("encoder.layer.3.attention.self.query")
    'encoder.layer.3'
    """
    match = re.match(r"(?:[^.]+\.)*?\d+(?=\.|$)", block)
    return match[0] if match else block


def kind_of(block: str) -> str:
    """Which of a layer's places a block is: its name after the layer's.

    >>> kind_of("encoder.layer.3.attention.self.query")
    'attention.self.query'
    """
    return block[len(layer_of(block)) :].lstrip(".") or block
