"""IST, intrinsic subspace tuning: a task tuned by the coordinates of a subspace alone, and then perhaps in full."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from tupate_hub.arrays import Float32Array
from tupate_hub.data.dataset import TaskData
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError
from tupate_hub.runrecord import Regime
from tupate_hub.subspace.subspace import Subspace
from tupate_hub.training.basemodel import BaseModel
from tupate_hub.training.device import device_of
from tupate_hub.training.labels import SCALE
from tupate_hub.training.model import load_tokenizer
from tupate_hub.training.result import versions
from tupate_hub.training.scoring import score, trivial_baseline
from tupate_hub.training.subspace.encoder import FrozenEncoder
from tupate_hub.training.subspace.find import MAX_LENGTH, require_same_base
from tupate_hub.training.subspace.manytasks import ManyTasks
from tupate_hub.training.subspace.maps_in_torch import TorchMaps
from tupate_hub.training.subspace.tuning import Heads, Progress, Say, first_codes, guesses, slower, tune_rows

LEARNING_RATE = 0.1
#: How far a head's number moves a weight: a step is to be small beside an entry of a unit vector.
_HEAD_STEP = 0.02
FULL_RATE: Mapping[str, float] = {"prompt": 1e-2, "lora": 4e-3}


@dataclass(frozen=True)
class TuneOptions:
    """How to tune in a subspace. `learning_rate` is that of five coordinates; more move more slowly.

    With `then_full` as many steps more tune all parameters, from where the coordinates have come to. `head` is
    `labels`, classes scored by their encoded names, or `linear`, a trained one that begins there.
    """

    steps: int = 80
    learning_rate: float = LEARNING_RATE
    batch_size: int = 16
    max_length: int = MAX_LENGTH
    seed: int = 0
    device: str = "cpu"
    precision: str = "bfloat16"
    then_full: bool = False
    head: str = "labels"

    def regime(self, learning_rate: float) -> Regime:
        """The same as a regime of four evaluations."""
        return Regime(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=learning_rate,
            evaluations=min(4, self.steps),
            max_length=self.max_length,
            precision=self.precision,
            seed=self.seed,
        )


@dataclass(frozen=True)
class IntrinsicRun:
    """A task that was tuned in a subspace: its embedding, coordinates, and scores on its validation examples.

    `zero_shot` is that of the base model, `in_subspace` that at the coordinates, `in_full` that of the second stage,
    None where there was none; `held_out` is the share of right answers by which the checkpoint was chosen. `head` is
    the linear head, `weight` (classes, width) and `bias` (classes), over the unit mean of the last states, if any.
    """

    embedding: TaskEmbedding
    coordinates: tuple[float, ...]
    zero_shot: float
    in_subspace: float
    in_full: float | None
    held_out: float
    seconds: float
    head: Mapping[str, Float32Array] | None = None

    @property
    def head_numbers(self) -> int:
        """How many numbers the head adds."""
        return sum(array.size for array in (self.head or {}).values())


def tune_in_subspace(
    subspace: Subspace,
    base: BaseModel,
    data: TaskData,
    options: TuneOptions,
    *,
    progress: Progress = lambda steps, total: steps,
    say: Say = lambda line: None,
) -> IntrinsicRun:
    """Tune a task of classes by the coordinates of a subspace.

    Raises
    ------
    SpaceMismatch
        When the subspace is of another base model.
    FormatError
        When the task has no classes, two that read the same, or choices that a linear head is asked for.
    WorkFailed
        When a number is no longer finite.
    """
    began = time.perf_counter()
    require_classes(data, options.head)
    require_same_base(base, subspace)
    device = device_of(options.device)
    encoder = FrozenEncoder(base.folder, subspace.blocks(subspace.maps.decoder[-1].bias), device, options.precision)
    many = ManyTasks.of(load_tokenizer(base.folder), [data], max_length=options.max_length).to(device)
    maps, head = TorchMaps(subspace.maps, device), _head(encoder, many, options)

    def scored(flat: torch.Tensor | None, heads: Heads | None) -> Mapping[str, float]:
        answers = guesses(encoder, many, "validation", flat, heads)
        return score(data.metric, [example["label"] for example in data.validation], list(answers))

    def tuned(start: torch.Tensor, rate: float, decode: Callable[[torch.Tensor], torch.Tensor]) -> _Stage:
        size = start.shape[1] - head.numbers
        found = tune_rows(
            encoder, many, start, options.regime(rate), progress=progress, say=say,
            flat_of=lambda rows: decode(rows[:, :size]), heads_of=lambda rows: head.heads(rows[:, size:]),
        )  # fmt: skip
        flat = decode(found.rows[:, :size])
        scores = scored(flat, head.heads(found.rows[:, size:]))
        return _Stage(found.rows[:, :size], found.rows[:, size:], flat, scores, float(found.held_out[0]))

    codes = first_codes(1, subspace.dim, options.seed).to(device)
    rate = options.learning_rate * slower(subspace.dim)
    first = last = tuned(torch.cat([codes, head.start], dim=1), rate, maps.decode)
    if options.then_full:
        rate = FULL_RATE.get(subspace.space.method, FULL_RATE["lora"])
        last = tuned(torch.cat([first.flat, first.head], dim=1), rate, lambda rows: rows)
    coordinates = tuple(float(value) for value in first.rows[0].cpu())
    heads = head.heads(last.head)
    return IntrinsicRun(
        embedding=_embedding(subspace, data, options, last, coordinates),
        coordinates=coordinates,
        zero_shot=scored(None, None)["primary"],
        in_subspace=first.scores["primary"],
        in_full=last.scores["primary"] if options.then_full else None,
        held_out=last.held_out,
        seconds=round(time.perf_counter() - began, 1),
        head=None if heads is None else {"weight": _array(heads[0][0]) * SCALE, "bias": _array(heads[1][0])},
    )


@dataclass(frozen=True)
class _Stage:
    """What a stage has come to: its numbers, those of the head, the parameters they stand for, and the scores."""

    rows: torch.Tensor
    head: torch.Tensor
    flat: torch.Tensor
    scores: Mapping[str, float]
    held_out: float


@dataclass(frozen=True)
class _Head:
    """The numbers of a linear head, as differences from the encoded names in `_HEAD_STEP`s; none without one."""

    start: torch.Tensor
    names: torch.Tensor | None

    @property
    def numbers(self) -> int:
        return int(self.start.shape[1])

    def heads(self, rows: torch.Tensor) -> Heads | None:
        if self.names is None:
            return None
        classes, width = self.names.shape
        moved = _HEAD_STEP * rows
        return self.names + moved[:, : classes * width].reshape(-1, classes, width), moved[:, classes * width :]


def _head(encoder: FrozenEncoder, many: ManyTasks, options: TuneOptions) -> _Head:
    if options.head == "labels":
        return _Head(torch.zeros((1, 0), device=encoder.device), None)
    with torch.no_grad():
        names = encoder.vectors(many.names, np.arange(len(many.names.lengths)), None)
    return _Head(torch.zeros((1, names.numel() + len(names)), device=encoder.device), names)


def _array(tensor: torch.Tensor) -> Float32Array:
    found: Float32Array = tensor.detach().float().cpu().numpy()
    return found


def _embedding(
    subspace: Subspace, data: TaskData, options: TuneOptions, last: _Stage, coordinates: tuple[float, ...]
) -> TaskEmbedding:
    """The embedding of the last stage, with everything known of it."""
    rule, baseline = trivial_baseline(data)
    kept = {
        name: subspace.facts[name] for name in ("base_sha256", "settings", "architecture") if name in subspace.facts
    }
    facts: dict[str, Any] = {
        **kept,
        "task_kind": data.kind,
        "training": asdict(options),
        "coordinates": list(coordinates),
        "scores": {**last.scores, "metric": data.metric, "baseline": baseline, "baseline_rule": rule},
        "data": {"name": data.facts.get("original_dataset", data.name), "sha256": data.sha256},
        "source": {"kind": "trained", "by": "tupate-hub subspace tune", "subspace": subspace.name},
        "software": versions(),
    }
    return TaskEmbedding(data.name, subspace.space, subspace.blocks(_array(last.flat[0])), facts)


def require_classes(data: TaskData, head: str) -> None:
    """Refuse, before any work, a task whose classes have no names to be scored by, or that has no head of its own.

    Raises
    ------
    FormatError
        Naming its kind.
    """
    if data.kind not in ("classification", "multiple_choice"):
        raise FormatError(
            f"{data.name} is {data.kind}: in a subspace classes are scored by their names.",
            hint="tune it as usual: tupate-hub train DATA",
        )
    if head == "linear" and data.kind != "classification":
        raise FormatError(f"{data.name} is {data.kind}: choices have no linear head.", hint="`head='labels'`")
