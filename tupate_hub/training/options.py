"""Options: what a user asks of a run. Imports nothing that takes time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from tupate_hub.errors import FormatError, UnknownName

PRECISIONS = ("bfloat16", "float32")
HEADS = ("trained", "labels")
CLASS_WEIGHTS = ("none", "balanced")
#: Of a run with patience.
EVALUATIONS = 20
DEFAULT_METHOD = "lora"
#: Numbers that an option may not be below, with what is usual.
_USUAL = {"steps": 400, "epochs": 10, "batch_size": 32, "accumulate": 4, "max_length": 128, "patience": 3, "seeds": 3}


@dataclass(frozen=True)
class TrainOptions:
    """What to tune and how. What is None is decided by the source, the method or the kind of task.

    Parameters
    ----------
    method : str, optional
        A name of `METHODS`. Default: that of the source, else `lora`.
    start_from : str, optional
        A task of the zoo, an adapter, or several joined by `+`, whose average is taken.
    start_head : bool
        Start from the source's head too, which has to have the data's labels.
    space : str, optional
        The space of the task to start from.
    base : str, optional
        The base model's folder, or its id on the Hub. Default: that of the source, else the bundled zoo's.
    settings : mapping
        The method's settings that are not its defaults: `{"r": 16}`.
    budget : str, optional
        The method's size as a share of the base model: `"0.5%"`.
    steps, epochs : int, optional
        Optimizer steps; passes over the data. Where both are given, whichever ends first.
    batch_size : int, optional
        Examples a step.
    accumulate : int
        In how many parts a step's examples go through the model, one after another: more take less memory.
    max_length : int, optional
        Tokens of a text that are read at most.
    learning_rate : float, optional
        The head's moves with it.
    patience : int, optional
        End the run after so many evaluations in a row, of `EVALUATIONS`, that did not raise the held-out score.
    class_weights : str
        One of `CLASS_WEIGHTS`: `balanced` gives each class the same weight in the loss, for skewed labels.
    seed : int
        Of the examples' order.
    seeds : int
        So many runs, from `seed` on, of which the one with the best held-out score is kept.
    init_seed : int, optional
        Of the first parameters. Default: the zoo's, from which embeddings compare best.
    precision : str
        Of the computation, one of `PRECISIONS`; results are float32.
    device : str
        `cpu`, `cuda` or `mps`.
    head : str
        One of `HEADS`: a head of its own, or classes scored by their encoded names.
    force : bool
        Replace a task that the registry has already.

    Raises
    ------
    FormatError
        When a number is not above 0.
    UnknownName
        For another precision or head.
    """

    method: str | None = None
    start_from: str | None = None
    start_head: bool = False
    space: str | None = None
    base: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    budget: str | None = None
    steps: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    accumulate: int = 1
    max_length: int | None = None
    learning_rate: float | None = None
    patience: int | None = None
    class_weights: str = "none"
    seed: int = 0
    seeds: int = 1
    init_seed: int | None = None
    precision: str = "bfloat16"
    device: str = "cpu"
    head: str = "trained"
    force: bool = False

    def __post_init__(self) -> None:
        if self.start_head and (self.start_from is None or self.head != "trained"):
            raise FormatError("There is no head to start from.", hint="say whose: `start_from='sst2'`")
        for name, usual in _USUAL.items():
            number = getattr(self, name)
            if number is not None and number < 1:
                raise FormatError(f"{number} {name.replace('_', ' ')} is too few.", hint=f"`{name}={usual}`")
        if self.learning_rate is not None and not 0 < self.learning_rate < inf:
            raise FormatError(f"{self.learning_rate} is not a learning rate.", hint="`learning_rate=5e-4`")
        for name, known in (("precision", PRECISIONS), ("head", HEADS), ("class_weights", CLASS_WEIGHTS)):
            if getattr(self, name) not in known:
                raise UnknownName(f"Unknown {name} {getattr(self, name)!r}.", hint=f"known: {', '.join(known)}")
