"""Trial: the tuned models of a space, each tried on a target's labelled examples. Nothing is tuned."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tupate_hub.data.dataset import TaskData
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.training.methods import Method
from tupate_hub.training.model import build_model, load_tokenizer, tuned_state
from tupate_hub.training.predictors.evidence import log_evidence
from tupate_hub.training.predictors.labelled import SCORED_KINDS, labelled_states
from tupate_hub.training.predictors.subject import SEED, base_encoder
from tupate_hub.training.warmstart import method_of, starting_tensors

#: What a trial may wrap around the sources, for a progress bar.
Watch = Callable[[list[TaskEmbedding]], Iterable[TaskEmbedding]]


@dataclass(frozen=True)
class Trial:
    """LogME of a target's examples, in nats a row: under the base model, and under each source's model by task.

    `seconds` is what it took.
    """

    base: float
    sources: Mapping[str, float]
    seconds: float

    def rise(self, task: str) -> float:
        """How far a source's evidence is above the base model's."""
        return self.sources[task] - self.base


def try_sources(
    base: Path,
    data: TaskData,
    sources: Iterable[TaskEmbedding],
    *,
    watch: Watch = lambda sources: sources,
) -> Trial | None:
    """The evidence of each source's model for a target's labels; None for spans and tags, which have no LogME.

    At most 200 training examples are looked at, those of a few-shot run with seed 0.

    Parameters
    ----------
    base : Path
        Folder of the base model.
    sources : iterable of TaskEmbedding
        Of one space.

    Raises
    ------
    SpaceMismatch, FormatError, UnknownName
        As `warmstart.method_of` and `warmstart.starting_tensors`.
    """
    if data.kind not in SCORED_KINDS:
        return None
    began, tokenizer = time.perf_counter(), load_tokenizer(base)
    reference = _evidence(base_encoder(base), tokenizer, data)
    if reference is None:
        return None
    found: dict[str, float] = {}
    method: Method | None = None
    model: Any = None
    for source in watch(list(sources)):
        wanted = method_of(source)
        if wanted != method:
            method, model = wanted, build_model(base, data, wanted, SEED)
            origin = tuned_state(model) if wanted.relative else {}
            model.active_head = None
        start = starting_tensors(base, data, wanted, SEED, source)
        whole = {name: torch.from_numpy(np.array(array)) + origin.get(name, 0) for name, array in start.items()}
        model.load_state_dict(whole, strict=False)
        value = _evidence(model.eval(), tokenizer, data)
        if value is not None:
            found[source.task] = value
    return Trial(reference, found, time.perf_counter() - began)


def _evidence(model: Any, tokenizer: Any, data: TaskData) -> float | None:
    labelled = labelled_states(model, tokenizer, data)
    return None if labelled is None else log_evidence(labelled.states.cls, labelled.targets)
