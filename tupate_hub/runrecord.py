"""Run record: what is known of the run that tuned an embedding, as the embedding's header keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tupate_hub.errors import FormatError


@dataclass(frozen=True)
class Regime:
    """How long and how hard to tune. A step is one optimizer step on `batch_size` examples.

    Small tasks stop after `most_epochs` passes, so `steps` is an upper bound. The head learns `head_factor` times as
    fast as the method's parameters: it starts from nothing, and parameters that move no more than the task asks for
    carry less noise. `early` are shares of the steps after which the parameters are kept as well.
    """

    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 5e-4
    head_factor: float = 10.0
    warmup_share: float = 0.06
    most_epochs: int = 10
    evaluations: int = 5
    max_length: int = 128
    precision: str = "float32"
    seed: int = 0
    init_seed: int = 0
    early: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5)

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Linear warm-up over `warmup_share` of the steps, then linear decay to zero."""
        warmup = max(1, int(self.warmup_share * steps))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return self.learning_rate * max(0.0, (steps - step) / max(1, steps - warmup))


@dataclass(frozen=True)
class DataRecord:
    """The data of a run, as its author describes it; `sha256` is that of the examples.

    `task_class` is the paper's: CR (classification and regression), QA (question answering) or SL (sequence labelling).
    `original_train_size` is None where nobody says it.
    """

    name: str
    task_class: str
    original_train_size: int | None
    licence: str
    source: str
    sha256: str


@dataclass(frozen=True)
class RunRecord:
    """A finished run.

    `settings` are the method's, with the seed of the first parameters; `steps` are those that were made, where a
    `regime` only says how many at most. `scores` are the metric's figures on the validation examples of the checkpoint
    that was best on the held-out ones, after `best_step`; `baseline` is the same metric's of the best guess that looks
    at no input. `seconds` are those of the wall clock. `device`, `head` and `zero_shot` are None where a file does not
    say them, as those of the bundled zoo, which are all made alike; `zero_shot` also where there was nothing to score.
    `cares` is what the run minded beyond the regime: class weights, patience, the parts of a step.
    """

    task: str
    kind: str
    method: str
    settings: Mapping[str, Any]
    architecture: Mapping[str, Any]
    base_sha256: str
    regime: Regime
    steps: int
    best_step: int
    held_out_score: float
    final_loss: float
    examples_seen: int
    train_examples: int
    validation_examples: int
    seconds: float
    threads: int
    scores: Mapping[str, float]
    metric: str
    baseline: float
    baseline_rule: str
    data: DataRecord
    software: Mapping[str, str]
    device: str | None = None
    head: str | None = None
    zero_shot: float | None = None
    cares: Mapping[str, Any] = field(default_factory=dict)

    def to_facts(self) -> dict[str, Any]:
        """The record as groups of JSON values, as `TaskEmbedding.facts` has them."""
        setup = {"device": self.device, "head": self.head, "zero_shot": self.zero_shot}
        return {
            "task_kind": self.kind,
            "base_sha256": self.base_sha256,
            "architecture": dict(self.architecture),
            "settings": dict(self.settings),
            "training": {
                **asdict(self.regime),
                **{name: getattr(self, name) for name in _TRAINING},
                **(setup if self.device is not None else {}),
                **self.cares,
            },
            "scores": {
                **self.scores,
                "metric": self.metric,
                "baseline": self.baseline,
                "baseline_rule": self.baseline_rule,
            },
            "data": {_IN_HEADER.get(name, name): value for name, value in asdict(self.data).items()},
            "software": dict(self.software),
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], *, task: str, method: str) -> RunRecord:
        """The record of an embedding that a finished run has made, from its `facts`.

        Raises
        ------
        FormatError
            When something is missing, as in an embedding of a run before its end, or of a stranger's adapter.
        """
        try:
            training, scores, data = (dict(facts[group]) for group in ("training", "scores", "data"))
            told = {name: scores.pop(name) for name in ("metric", "baseline", "baseline_rule")}
            regime = {one.name: training[one.name] for one in fields(Regime)}
            return cls(
                task=task,
                kind=facts["task_kind"],
                method=method,
                settings=facts["settings"],
                architecture=facts["architecture"],
                base_sha256=facts["base_sha256"],
                regime=Regime(**{**regime, "early": tuple(regime["early"])}),
                **{name: training[name] for name in _TRAINING},
                scores=scores,
                **told,
                data=DataRecord(**{one.name: data[_IN_HEADER.get(one.name, one.name)] for one in fields(DataRecord)}),
                software=facts["software"],
                device=training.get("device"),
                head=training.get("head"),
                zero_shot=training.get("zero_shot"),
                cares={name: training[name] for name in _CARES if name in training},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"{task!r} is not a finished run of this project: its header does not say {str(error)[:60]}."
            ) from error


_TRAINING = (
    "steps", "best_step", "held_out_score", "final_loss", "examples_seen", "train_examples", "validation_examples",
    "seconds", "threads",
)  # fmt: skip
_CARES = ("parts", "class_weights", "patience", "latest")
#: Fields whose names in the header are no names in Python.
_IN_HEADER = {"task_class": "class"}
