"""IST, intrinsic subspace tuning: a task tuned by the coordinates of a subspace alone, and then perhaps in full."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from tupate_hub.data.dataset import TaskData
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError
from tupate_hub.runrecord import Regime
from tupate_hub.subspace.subspace import Subspace
from tupate_hub.training.basemodel import BaseModel
from tupate_hub.training.model import load_tokenizer
from tupate_hub.training.result import versions
from tupate_hub.training.run import device_of
from tupate_hub.training.scoring import score, trivial_baseline
from tupate_hub.training.subspace.encoder import FrozenEncoder
from tupate_hub.training.subspace.find import MAX_LENGTH, require_same_base
from tupate_hub.training.subspace.manytasks import ManyTasks
from tupate_hub.training.subspace.maps_in_torch import TorchMaps
from tupate_hub.training.subspace.tuning import Say, first_codes, guesses, slower, tune_rows

LEARNING_RATE = 0.1
FULL_RATE: Mapping[str, float] = {"prompt": 1e-2, "lora": 4e-3}


@dataclass(frozen=True)
class TuneOptions:
    """How to tune in a subspace. `learning_rate` is that of five coordinates; more move more slowly.

    With `then_full` as many steps more tune all parameters, from where the coordinates have come to.
    """

    steps: int = 80
    learning_rate: float = LEARNING_RATE
    batch_size: int = 16
    max_length: int = MAX_LENGTH
    seed: int = 0
    device: str = "cpu"
    precision: str = "bfloat16"
    then_full: bool = False

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
    None where there was none; `held_out` is the share of right answers by which the checkpoint was chosen.
    """

    embedding: TaskEmbedding
    coordinates: tuple[float, ...]
    zero_shot: float
    in_subspace: float
    in_full: float | None
    held_out: float
    seconds: float


def tune_in_subspace(
    subspace: Subspace, base: BaseModel, data: TaskData, options: TuneOptions, *, say: Say = lambda line: None
) -> IntrinsicRun:
    """Tune a task of classes by the coordinates of a subspace; the classes are scored by their encoded names.

    Raises
    ------
    SpaceMismatch
        When the subspace is of another base model.
    FormatError
        When the task has no classes, or two that read the same.
    WorkFailed
        When a number is no longer finite.
    """
    began = time.perf_counter()
    require_same_base(base, subspace)
    device = device_of(options.device)
    encoder = FrozenEncoder(base.folder, subspace.blocks(subspace.maps.decoder[-1].bias), device, options.precision)
    many = ManyTasks.of(load_tokenizer(base.folder), [data], max_length=options.max_length).to(device)
    maps = TorchMaps(subspace.maps, device)

    def scored(flat: torch.Tensor | None) -> Mapping[str, float]:
        answers = guesses(encoder, many, "validation", flat)
        return score(data.metric, [example["label"] for example in data.validation], list(answers))

    rate = options.learning_rate * slower(subspace.dim)
    tuned = tune_rows(
        encoder, many, first_codes(1, subspace.dim, options.seed), options.regime(rate), flat_of=maps.decode, say=say
    )
    flat = maps.decode(tuned.rows)
    scores, held_out = scored(flat), float(tuned.held_out[0])
    in_subspace, in_full = scores["primary"], None
    if options.then_full:
        regime = options.regime(FULL_RATE[subspace.space.method])
        full = tune_rows(encoder, many, flat, regime, say=say)
        scores, held_out, flat = scored(full.rows), float(full.held_out[0]), full.rows
        in_full = scores["primary"]
    codes = tuple(float(value) for value in tuned.rows[0].cpu())
    facts = _facts(subspace, data, options, scores, codes)
    blocks = subspace.blocks(np.asarray(flat[0].float().cpu().numpy()))
    embedding = TaskEmbedding(data.name, subspace.space, blocks, facts)
    zero_shot = scored(None)["primary"]
    return IntrinsicRun(
        embedding, codes, zero_shot, in_subspace, in_full, held_out, round(time.perf_counter() - began, 1)
    )


def _facts(
    subspace: Subspace,
    data: TaskData,
    options: TuneOptions,
    scores: Mapping[str, float],
    codes: tuple[float, ...],
) -> dict[str, Any]:
    rule, baseline = trivial_baseline(data)
    kept = {
        name: subspace.facts[name] for name in ("base_sha256", "settings", "architecture") if name in subspace.facts
    }
    return {
        **kept,
        "task_kind": data.kind,
        "training": {**asdict(options), "head": "labels"},
        "coordinates": list(codes),
        "scores": {**scores, "metric": data.metric, "baseline": baseline, "baseline_rule": rule},
        "data": {"name": data.facts.get("original_dataset", data.name), "sha256": data.sha256},
        "source": {"kind": "trained", "by": "tupate-hub subspace tune", "subspace": subspace.name},
        "software": versions(),
    }


def require_classes(data: TaskData) -> None:
    """Refuse, before any work, a task whose classes have no names to be scored by.

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
