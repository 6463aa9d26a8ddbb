"""Find: a subspace over the embeddings of a zoo, with the tasks' own losses through the frozen base model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tupate_hub.data.dataset import TaskData, load_task
from tupate_hub.data.fewshot import FewShot
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError, SpaceMismatch
from tupate_hub.runrecord import Regime
from tupate_hub.subspace.maps import pca, with_tanh
from tupate_hub.subspace.subspace import LOSSES, Subspace, found, stacked
from tupate_hub.training.basemodel import BaseModel
from tupate_hub.training.device import device_of
from tupate_hub.training.model import base_sha256, load_tokenizer
from tupate_hub.training.result import versions
from tupate_hub.training.subspace.encoder import FrozenEncoder
from tupate_hub.training.subspace.manytasks import ManyTasks
from tupate_hub.training.subspace.msf import ALPHA, fit
from tupate_hub.training.subspace.tuning import Progress, Say

#: What the rows of zoo/truth/subspace.csv were made with.
HIDDEN = 128
STEPS = 150
LEARNING_RATE = 1e-3
EACH = 4
MAX_LENGTH = 48


@dataclass(frozen=True)
class FitOptions:
    """How to find a subspace: `each` is how many examples of every task a step has, `hidden` the decoder's width."""

    dim: int
    hidden: int = HIDDEN
    steps: int = STEPS
    learning_rate: float = LEARNING_RATE
    each: int = EACH
    seed: int = 0
    device: str = "cpu"
    precision: str = "bfloat16"

    def regime(self) -> Regime:
        """The same as a regime of ten reports, at each of which the run is kept."""
        return Regime(
            steps=self.steps,
            batch_size=self.each,
            learning_rate=self.learning_rate,
            evaluations=min(10, self.steps),
            max_length=MAX_LENGTH,
            precision=self.precision,
            seed=self.seed,
        )


def few_shots(folder: Path, tasks: Sequence[str]) -> list[TaskData]:
    """Sixteen examples a class of each task of a data folder.

    Raises
    ------
    FormatError
        Naming the tasks without classes, whose loss names cannot give.
    """
    whole = [load_task(folder, task) for task in tasks]
    if others := [data.name for data in whole if data.kind not in ("classification", "multiple_choice")]:
        raise FormatError(
            f"These tasks have no classes that can be scored by their names: {', '.join(others)[:200]}.",
            hint="leave them out of `tasks`, or `loss='reconstruction'`",
        )
    return [FewShot(data.name, data.name, "cls").draw(data) for data in whole]


def find_subspace(
    base: BaseModel,
    embeddings: Sequence[TaskEmbedding],
    data: Sequence[TaskData],
    options: FitOptions,
    facts: Mapping[str, Any],
    *,
    checkpoint: Path | None = None,
    progress: Progress = lambda steps, total: steps,
    say: Say = lambda line: None,
) -> Subspace:
    """MSF over embeddings of one space, with the examples of each one's task in the same order.

    Raises
    ------
    SpaceMismatch
        When the embeddings are of different spaces, or of another base model than the one in the folder.
    FormatError
        When the decoder is too narrow, or the method is not prompts or LoRA.
    WorkFailed
        When the loss is not a finite number.
    """
    flat = stacked(embeddings)
    require_same_base(base, embeddings[0])
    if options.hidden < options.dim:
        raise FormatError(
            f"A decoder {options.hidden} units wide holds no {options.dim} dimensions.", hint=f"`hidden={options.dim}`"
        )
    encoder = FrozenEncoder(base.folder, embeddings[0].blocks, device_of(options.device), options.precision)
    many = ManyTasks.of(load_tokenizer(base.folder), data, max_length=MAX_LENGTH).to(encoder.device)
    start = with_tanh(pca(flat, options.dim, options.seed), options.hidden, options.seed)
    fitted = fit(
        encoder,
        many,
        torch.from_numpy(flat),
        start,
        options.regime(),
        checkpoint=checkpoint,
        progress=progress,
        say=say,
    )
    steps, task, reconstruction = fitted.losses[-1]
    told = {
        "training": {**asdict(options), "alpha": ALPHA, "max_length": MAX_LENGTH},
        "final": {"steps": steps, "task_loss": task, "reconstruction": reconstruction},
        "seed": options.seed,
        "software": versions(),
    }
    return found(embeddings, fitted.maps, LOSSES, {**told, **facts})


def require_same_base(base: BaseModel, known: TaskEmbedding | Subspace) -> None:
    """Refuse a base model that is not the one of an embedding or subspace, by its weights where they are known.

    Raises
    ------
    SpaceMismatch
        Naming both.
    """
    sha256 = known.facts.get("base_sha256")
    other = base.id != known.space.base if sha256 is None else base_sha256(base.folder) != sha256
    if other:
        raise SpaceMismatch(
            f"{base.folder} is not the base model {known.space.base} that this was tuned on.",
            hint=f"`base={known.space.base!r}`",
        )
