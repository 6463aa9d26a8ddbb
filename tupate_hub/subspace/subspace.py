"""Subspace: the coordinates that the tasks of a space share, as one safetensors file. docs/subspace.md says more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tupate_hub.arrays import Array, Float32Array
from tupate_hub.embedding import FORMS, Block, TaskEmbedding, make_block
from tupate_hub.errors import FormatError, SpaceMismatch
from tupate_hub.space import Space
from tupate_hub.storage.safetensors import TensorFile, parse_tensorfile
from tupate_hub.subspace.maps import Linear, Maps, pca

SCHEMA = "tupate-hub-subspace/1"
LOSSES = ("reconstruction", "task")
_MOST_BYTES = 400_000_000


@dataclass(frozen=True)
class Form:
    """What the embeddings of a subspace look like: a block's name, the shape of each of its parts, and its scale."""

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    scale: float = 1.0

    @staticmethod
    def of(block: Block) -> Form:
        """The form of a block."""
        return Form(block.name, {part: array.shape for part, array in block.parts.items()}, block.scale)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())


@dataclass(frozen=True)
class Subspace:
    """A few coordinates for the embeddings of a space, found over `tasks` (IPT, Qin et al. 2021).

    `codes`, of shape (tasks, dim), are the coordinates of the tasks, `losses` those that it was found by. `facts` are
    JSON values: base_sha256, split, seed, sources (task to sha256 of its embedding), training, settings, architecture.
    """

    space: Space
    maps: Maps
    forms: tuple[Form, ...]
    tasks: tuple[str, ...]
    codes: Float32Array
    losses: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """How many coordinates a task has."""
        return self.maps.dim

    @cached_property
    def name(self) -> str:
        """Its file's name in a zoo: `subspace-<dim>`, and the split where it is one of several."""
        split = self.facts.get("split", "")
        return f"subspace-{self.dim}{'-' + split if split else ''}"

    def flat(self, embedding: TaskEmbedding) -> Float32Array:
        """An embedding's parameters, of shape (P,), in the order of the maps.

        Raises
        ------
        SpaceMismatch
            When it is of another space, or has other blocks or shapes.
        """
        if embedding.space != self.space:
            raise SpaceMismatch(
                f"{embedding.task!r} is {embedding.space}, the subspace is of {self.space}.",
                hint=f"`space={self.space.name!r}`",
            )
        if tuple(map(Form.of, embedding.blocks)) != self.forms:
            raise SpaceMismatch(
                f"{embedding.task!r} has not the blocks and shapes of this subspace: {_told(self.forms)}."
            )
        return embedding.vector()

    def encode(self, embeddings: Sequence[TaskEmbedding]) -> Float32Array:
        """The coordinates of embeddings, of shape (n, dim); errors as in `flat`."""
        return self.maps.encode(np.stack([self.flat(embedding) for embedding in embeddings]))

    def coordinates(self, embeddings: Sequence[TaskEmbedding]) -> list[TaskEmbedding]:
        """Embeddings with their coordinates in place of their parameters, for a similarity to compare."""
        codes = self.encode(embeddings) if embeddings else ()
        return [
            replace(embedding, blocks=(make_block("coordinates", {"vector": row}),))
            for embedding, row in zip(embeddings, codes, strict=True)
        ]

    def decode(self, codes: Array | Sequence[float], task: str) -> TaskEmbedding:
        """The embedding at coordinates of shape (dim,).

        Raises
        ------
        FormatError
            When there are not so many of them, or they are not finite.
        """
        point = np.asarray(codes, dtype=np.float32)
        if point.shape != (self.dim,) or not np.isfinite(point).all():
            raise FormatError(
                f"The subspace has {self.dim} coordinates, each a finite number; {point.size} were given."
            )
        kept = {name: self.facts[name] for name in ("base_sha256", "settings", "architecture") if name in self.facts}
        return TaskEmbedding(task, self.space, self.blocks(self.maps.decode(point[None])[0]), kept)

    def blocks(self, flat: Array) -> tuple[Block, ...]:
        """The blocks that parameters of shape (P,) make up."""
        blocks, at = [], 0
        for form in self.forms:
            parts = {}
            for part, shape in form.shapes.items():
                size = int(np.prod(shape))
                parts[part] = flat[at : at + size].reshape(shape)
                at += size
            blocks.append(make_block(form.name, parts, form.scale))
        return tuple(blocks)

    def to_bytes(self, dtype: str = "float16") -> bytes:
        """The subspace's safetensors file; the same subspace always gives the same bytes.

        Raises
        ------
        FormatError
            When a number is too large for `dtype`.
        """
        layers = {"encoder": self.maps.encoder, **{f"decoder.{n}": layer for n, layer in enumerate(self.maps.decoder)}}
        tensors: dict[str, Array] = {"codes": self.codes.astype(np.float32)}
        for name, layer in layers.items():
            with np.errstate(over="ignore"):  # what overflows becomes infinity and is refused below
                tensors |= {f"{name}.weight": layer.weight.astype(dtype), f"{name}.bias": layer.bias.astype(np.float32)}
        for name, array in tensors.items():
            if not np.isfinite(array).all():
                raise FormatError(f"{name!r} of the subspace holds numbers that {dtype} cannot.", hint="write float32")
        forms = [{"name": form.name, "shapes": form.shapes, "scale": form.scale} for form in self.forms]
        fields = {"forms": forms, "tasks": self.tasks, "losses": self.losses, "facts": self.facts}
        return TensorFile(
            tensors,
            {
                "schema": SCHEMA,
                "base": self.space.base,
                "method": self.space.method,
                **{name: json.dumps(value, sort_keys=True, ensure_ascii=False) for name, value in fields.items()},
            },
        ).to_bytes()


def principal(embeddings: Sequence[TaskEmbedding], dim: int, facts: Mapping[str, Any], seed: int = 0) -> Subspace:
    """The subspace that the reconstruction loss alone finds with a linear decoder: principal components.

    Raises
    ------
    FormatError
        When there are more dimensions than the tasks span, n - 1 about their mean.
    SpaceMismatch
        When the embeddings are of different spaces or shapes.
    """
    if not 1 <= dim < len(embeddings):
        raise FormatError(
            f"{len(embeddings)} tasks span at most {len(embeddings) - 1} dimensions, not {dim}.",
            hint=f"`dim={max(1, len(embeddings) - 1)}`, or more tasks: `tasks='all'`",
        )
    return found(embeddings, pca(stacked(embeddings), dim, seed), LOSSES[:1], facts)


def stacked(embeddings: Sequence[TaskEmbedding]) -> Float32Array:
    """The parameters of embeddings of one space and form, of shape (n, P).

    Raises
    ------
    SpaceMismatch
        Naming the first that is not as the others are.
    """
    first = embeddings[0]
    forms = [tuple(map(Form.of, embedding.blocks)) for embedding in embeddings]
    for embedding, own in zip(embeddings, forms, strict=True):
        if embedding.space != first.space or own != forms[0]:
            raise SpaceMismatch(
                f"{embedding.task!r} and {first.task!r} have different spaces or shapes, and so no common subspace."
            )
    return np.stack([embedding.vector() for embedding in embeddings])


def found(embeddings: Sequence[TaskEmbedding], maps: Maps, losses: Sequence[str], facts: Mapping[str, Any]) -> Subspace:
    """A subspace that was found over embeddings, with what they say of their base model and method."""
    first = embeddings[0]
    known = {name: first.facts[name] for name in ("base_sha256", "settings", "architecture") if name in first.facts}
    forms = tuple(map(Form.of, first.blocks))
    tasks = tuple(embedding.task for embedding in embeddings)
    codes = maps.encode(stacked(embeddings))
    return Subspace(first.space, maps, forms, tasks, codes, tuple(losses), {**known, **facts})


def _told(forms: Sequence[Form]) -> str:
    first = forms[0]
    shapes = ", ".join(f"{part} {shape}" for part, shape in first.shapes.items())
    return f"{first.name}: {shapes}{f', and {len(forms) - 1} more' if len(forms) > 1 else ''}"


def read_subspace(path: Path) -> Subspace:
    """Read a subspace from disk; errors as in `parse_subspace`."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise FormatError(f"{path} is larger than any subspace: at most {_MOST_BYTES:,} bytes are read.")
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.", hint="tupate-hub subspace fit") from error
    return parse_subspace(data, str(path))


def parse_subspace(data: bytes, where: str) -> Subspace:
    """Read a subspace from the bytes of its file.

    Raises
    ------
    FormatError
        For a truncated or foreign file, maps that do not fit together, NaN or infinity.
    """
    file = parse_tensorfile(data, where)
    meta = file.metadata
    if meta.get("schema") != SCHEMA:
        raise FormatError(f"{where} is not a {SCHEMA} file.", hint="make one: tupate-hub subspace fit")
    try:
        forms = tuple(_form(row) for row in json.loads(meta["forms"]))
        tasks, losses = (tuple(map(_text, json.loads(meta[name]))) for name in ("tasks", "losses"))
        facts = dict(json.loads(meta["facts"]))
        space = Space(meta["base"], meta["method"])
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"{where} has a header that does not describe a subspace.") from error
    tensors = dict(file.tensors)
    codes = tensors.pop("codes", np.zeros(0, dtype=np.float32))
    maps = _maps(tensors, where)
    if codes.shape != (len(tasks), maps.dim) or codes.dtype.kind != "f" or not np.isfinite(codes).all():
        raise FormatError(f"{where} has not {maps.dim} finite coordinates for each of its {len(tasks)} tasks.")
    if not forms or sum(form.size for form in forms) != maps.parameters:
        raise FormatError(f"{where}: its maps are of {maps.parameters} parameters, its blocks have others.")
    return Subspace(space, maps, forms, tasks, codes.astype(np.float32), losses, facts)


def _form(row: Mapping[str, Any]) -> Form:
    shapes = {part: tuple(map(_size, shape)) for part, shape in row["shapes"].items()}
    ordered = next((parts for parts in FORMS.values() if set(parts) == set(shapes)), None)
    scale = float(row["scale"])
    if ordered is None or not np.isfinite(scale):
        raise ValueError("not a block")
    return Form(_text(row["name"]), {part: shapes[part] for part in ordered}, scale)


def _size(value: Any) -> int:
    if type(value) is not int or not 0 < value < 2**31:
        raise ValueError("not a size")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _maps(tensors: Mapping[str, Array], where: str) -> Maps:
    """The maps that a file's tensors make up, each as wide as what comes before it."""
    layers = 2 if "decoder.1.weight" in tensors else 1
    names = ["encoder", *(f"decoder.{number}" for number in range(layers))]
    if set(tensors) != {f"{name}.{part}" for name in names for part in ("weight", "bias")}:
        raise FormatError(f"{where} has other tensors than an encoder and a decoder of one or two layers.")
    if not all(array.dtype.kind == "f" and np.isfinite(array).all() for array in tensors.values()):
        raise FormatError(f"{where} holds NaN, infinity, or something that is not a number.")
    maps = [Linear(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in names]
    if not all(one.weight.ndim == 2 and one.bias.shape == one.weight.shape[:1] and one.weight.size for one in maps):
        raise FormatError(f"{where}: a weight and its bias do not fit together.")
    widths = [(one.weight.shape[1], one.weight.shape[0]) for one in maps]
    chained = all(first[1] == second[0] for first, second in zip(widths, widths[1:], strict=False))
    if not chained or widths[0][0] != widths[-1][1]:
        raise FormatError(f"{where}: its encoder and its decoder do not fit together.")
    return Maps(maps[0], tuple(maps[1:]))
