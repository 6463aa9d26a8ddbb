"""Full fine-tunes: a whole model minus its base model, a tensor at a time, as a low-rank update of each weight."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from tupate_hub.arrays import Array, Float32Array
from tupate_hub.compare.truncation import truncate
from tupate_hub.embedding import Adapter, make_block
from tupate_hub.errors import FormatError
from tupate_hub.readers.checkpoint import Checkpoint, open_checkpoint
from tupate_hub.readers.names import CONV1D, is_task_head
from tupate_hub.readers.source import Findings, Source, floats, read_config

LAYOUT = "finetuned"
RANK = 16

#: Tables whose rows are looked up: transposed, as PEFT has them, so that the vocabulary is what goes in.
_TABLES = frozenset(
    "word_embeddings position_embeddings token_type_embeddings wte wpe embed_tokens embed_positions shared"
    " tok_embeddings".split()
)
#: Beyond this share of the base model's own norm a change is hardly that of a fine-tuning.
_MUCH = 0.5


@dataclass(frozen=True)
class Finetuned:
    """A model and the base model that it was tuned from; `names` are the tensors of the model, in its files' order."""

    model: Checkpoint
    base: Checkpoint

    @property
    def names(self) -> tuple[str, ...]:
        """The canonical names of the model's tensors."""
        return tuple(self.model.places)


def open_finetuned(model: Path, minus: Path) -> Finetuned:
    """The headers of both, which are checked to be of one kind of model.

    Raises
    ------
    FormatError
        When one has no safetensors files, or they share no weights.
    """
    for path in (model, minus):
        if not path.exists():
            raise FormatError(
                f"{path} does not exist; a whole model is read from this disk only.",
                hint="fetch it into a folder with Hugging Face's own command, hf download",
            )
    pair = Finetuned(open_checkpoint(model), open_checkpoint(minus))
    if not any(pair.base.shape(name) == pair.model.shape(name) for name in pair.names):
        raise FormatError(f"{model} and {minus} have no tensor of one name and shape: that is not its base model.")
    return pair


class _Sums:
    """Squared norms: of the matrices' changes, what is kept of them, of the vectors' changes, of the base's weights."""

    def __init__(self) -> None:
        self.squares = dict.fromkeys(("change", "kept", "vectors", "base"), 0.0)

    def add(self, **squares: float) -> None:
        for name, square in squares.items():
            self.squares[name] += square

    def share(self, name: str, of: str) -> float:
        return sqrt(self.squares[name] / self.squares[of]) if self.squares[of] else 0.0


def read_finetuned(
    pair: Finetuned,
    names: Iterable[str],
    *,
    rank: int = RANK,
    seed: int = 0,
    base: str | None = None,
    task: str | None = None,
) -> Adapter:
    """The change of every weight as a low-rank update, by truncated singular value decomposition.

    `names` are those of the pair, or an iteration over them that shows how far it is. Heads are left out and vectors
    (biases and norms) too; both are counted, and the notes say what share of the change's norm is kept.

    Raises
    ------
    FormatError
        When a file is malformed, nothing differs, or a number is not finite.
    """
    if rank < 1:
        raise FormatError(f"A rank of {rank} is none.", hint="1 or more: `rank=16`")
    findings, sums = Findings(), _Sums()
    where = pair.model.path
    source = Source(where, where, _config(where), {}, LAYOUT, base, task)
    for number, name in enumerate(names):
        matrix = _change(source, pair, name, findings, sums)
        if matrix is None:
            continue
        low = truncate(matrix, rank, np.random.default_rng([seed, number]))
        sums.add(change=low.square, kept=low.kept_square)
        parts = {"A": low.a, "B": low.b}
        findings.blocks.append(make_block(name.removesuffix(".weight"), parts, 1.0, source.where))
    if not findings.blocks:
        raise source.refuse(f"does not differ from {pair.base.path} in any matrix.")
    _note(findings, sums, rank)
    return findings.adapter(source, "lora", source.config.get("_name_or_path"))


def _change(source: Source, pair: Finetuned, name: str, findings: Findings, sums: _Sums) -> Float32Array | None:
    """What was added to a weight, (out, in); None for what is left out, which is counted."""
    if is_task_head(name):
        findings.left_out["heads"] += 1
        return None
    if pair.base.shape(name) != pair.model.shape(name):
        missing = pair.base.shape(name) is None
        findings.left_out["tensors that the base lacks" if missing else "tensors of another shape"] += 1
        return None
    ours, theirs = pair.model.read(name), pair.base.read(name)
    if ours.dtype.kind != "f" or theirs.dtype.kind != "f":
        findings.left_out["tensors of integers"] += 1
        return None
    change = _difference(source, name, ours, theirs, pair.model.dtype(name))
    square = _square(source, name, change)
    if not square:
        findings.left_out["unchanged weights"] += 1
        return None
    if change.ndim not in (2, 4):
        findings.left_out["biases and norms" if change.ndim < 2 else "stacked matrices"] += 1
        sums.add(vectors=square)
        return None
    sums.add(base=_square(source, name, floats(source, name, theirs)))
    place = name.removesuffix(".weight").rpartition(".")[2]
    flat = change.reshape(len(change), -1)
    return flat.T if place in _TABLES or (place in CONV1D and name.startswith("h.")) else flat


def _difference(source: Source, name: str, ours: Array, theirs: Array, dtype: str) -> Float32Array:
    """Ours minus theirs, theirs rounded to the type that ours is stored in: its rounding is nobody's tuning."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by its name
        change = np.array(floats(source, name, ours))
        if dtype == "F16":
            theirs = theirs.astype(np.float16)
        change -= _as_bfloat16(floats(source, name, theirs)) if dtype == "BF16" else floats(source, name, theirs)
    return change


def _square(source: Source, name: str, array: Float32Array) -> float:
    """The square of an array's norm; refused where a number is NaN or infinity, or so large that the square is."""
    with np.errstate(over="ignore", invalid="ignore"):
        norm = float(np.linalg.norm(array))
    if not np.isfinite(norm):
        raise source.refuse(f"differs from its base model by NaN, infinity or numbers next to it in {name!r}.")
    return norm**2


def _as_bfloat16(array: Float32Array) -> Float32Array:
    """Rounded to the nearest number of bfloat16, ties to even."""
    bits = array.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded &= np.uint32(0xFFFF0000)
    found: Float32Array = rounded.view(np.float32)
    return found


def _config(path: Path) -> dict[str, Any]:
    config = (path if path.is_dir() else path.parent) / "config.json"
    return read_config(config) if config.is_file() else {}


def _note(findings: Findings, sums: _Sums, rank: int) -> None:
    kept, change = sums.share("kept", "change"), sums.share("change", "base")
    findings.settings |= {"r": rank, "tuned_as": "full", "kept": round(kept, 4), "change": round(change, 4)}
    findings.notes.append(
        f"A full fine-tuning, {change:.2%} of its base's norm: rank {rank} keeps {kept:.1%} of the norm of the change."
    )
    if vectors := sums.share("vectors", "change"):
        findings.notes.append(
            f"What is left out of it (biases, norms, stacked matrices) has {vectors:.2%} of that norm."
        )
    if change > _MUCH:
        findings.notes.append("The change is as large as the base model's own weights: is it the right base model?")
