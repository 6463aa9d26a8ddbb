"""Tuning: one task, one method, one base model; the loop and its result."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tupate_hub.errors import WorkFailed
from tupate_hub.training.checkpoint import Checkpoint
from tupate_hub.training.dataset import TaskData
from tupate_hub.training.features import Feature, collate, encode, grouped_batches, thin_empty_windows
from tupate_hub.training.methods import Method
from tupate_hub.training.model import (
    architecture,
    base_sha256,
    build_model,
    is_head,
    load_tokenizer,
    predict,
    round_to_float16,
    tuned_state,
)
from tupate_hub.training.scoring import gold_labels, score, trivial_baseline

Floats = NDArray[np.float32]
Tensors = dict[str, torch.Tensor]
Progress = Callable[[Iterable[int], int], Iterable[int]]
Report = Callable[[str], None]

_LOSSES_SHOWN = 50
_PACKAGES = ("tupate-hub", "torch", "adapters", "transformers", "numpy")


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
class Result:
    """A finished run: the tuned tensors under the `adapters` library's names, and everything known about the run.

    `early` maps shares of the steps to the tensors at that point.
    """

    tensors: dict[str, Floats]
    head: dict[str, Floats]
    early: dict[str, dict[str, Floats]]
    facts: dict[str, Any] = field(default_factory=dict)


def tune(
    base: Path,
    data: TaskData,
    method: Method,
    regime: Regime,
    *,
    checkpoint: Path | None = None,
    progress: Progress = lambda steps, total: steps,
    report: Report = lambda line: None,
) -> Result:
    """Tune one method on one task and score it.

    The checkpoint with the best held-out score is kept. Its tensors are rounded to float16, in which the zoo stores
    them, before the validation examples are scored, so that the figure belongs to the file.

    Parameters
    ----------
    base : Path
        Folder of the base model.
    checkpoint : Path, optional
        File to resume from and to write to after each evaluation; on a CPU, a resumed run gives the same result.
    progress : callable, optional
        Wraps the iteration over the remaining steps; its second argument is the total.
    report : callable, optional
        Called with a line after each evaluation.

    Raises
    ------
    WorkFailed
        When the loss is not a finite number, or there is no step to make.
    """
    run = _Run(base, data, method, regime, checkpoint)
    run.train(progress, report)
    return run.finish(report)


class _Run:
    """A run in progress: the model, its optimizer and what has been kept so far."""

    def __init__(self, base: Path, data: TaskData, method: Method, regime: Regime, checkpoint: Path | None) -> None:
        self.began = time.perf_counter()
        self.base, self.data, self.method, self.regime = base, data, method, regime
        self.base_sha256 = base_sha256(base)
        self.tokenizer = load_tokenizer(base)
        self.train_features = encode(self.tokenizer, data.kind, data.train, regime.max_length)
        if data.kind == "extractive_qa":
            self.train_features = thin_empty_windows(self.train_features, data.train)
        self.held_features = encode(self.tokenizer, data.kind, data.held_out, regime.max_length)
        self.steps = min(regime.steps, regime.most_epochs * math.ceil(len(self.train_features) / regime.batch_size))
        self.model = build_model(base, data, method, regime.init_seed)
        self.parameters = [value for value in self.model.parameters() if value.requires_grad]
        self.optimizer = self._make_optimizer()
        self.done = 0
        self.seconds_before = 0.0
        self.losses: list[float] = []
        self.early: dict[str, Tensors] = {}
        self.best: dict[str, Any] | None = None
        self.checkpoint = Checkpoint(checkpoint, self._fingerprint())
        self._resume()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        named = [(name, value) for name, value in self.model.named_parameters() if value.requires_grad]
        groups = [
            {"params": [value for name, value in named if not is_head(name)], "factor": 1.0},
            {"params": [value for name, value in named if is_head(name)], "factor": self.regime.head_factor},
        ]
        return torch.optim.AdamW(groups, lr=self.regime.learning_rate, weight_decay=0.0)

    def _fingerprint(self) -> str:
        settings = sorted(self.method.settings.items())
        task = (self.data.name, self.data.sha256)
        return repr((self.base_sha256, task, self.method.name, settings, asdict(self.regime)))

    def _resume(self) -> None:
        state = self.checkpoint.load()
        if state is None:
            return
        self.done, self.losses, self.early = state["done"], state["losses"], state["early"]
        self.best, self.seconds_before = state["best"], state["seconds"]
        self.model.load_state_dict(state["model"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])

    def _save(self) -> None:
        self.checkpoint.save(
            {
                "done": self.done,
                "losses": self.losses,
                "early": self.early,
                "best": self.best,
                "seconds": self._seconds(),
                "model": tuned_state(self.model),
                "optimizer": self.optimizer.state_dict(),
            }
        )

    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.began

    def train(self, progress: Progress, report: Report) -> None:
        """Make the remaining steps, evaluating and saving on the way."""
        regime = self.regime
        check_at = {round(self.steps * (n + 1) / regime.evaluations) for n in range(regime.evaluations)}
        early_at = {f"{share:g}": max(1, round(self.steps * share)) for share in regime.early}
        batches = self._remaining_batches()
        self.model.train()
        for _ in progress(range(self.done, self.steps), self.steps):
            self._step(next(batches))
            for share in (share for share, step in early_at.items() if step == self.done):
                self.early[share] = tuned_state(self.model)
            if self.done in check_at:
                self._evaluate(report)
                self._save()

    def _remaining_batches(self) -> Iterator[list[Feature]]:
        batches = grouped_batches(self.train_features, self.regime.batch_size, self.regime.seed)
        for _ in range(self.done):
            next(batches)
        return batches

    def _step(self, features: list[Feature]) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["factor"] * self.regime.learning_rate_at(self.done, self.steps)
        batch = collate(features, self.tokenizer.pad_token_id)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.regime.precision == "bfloat16"):
            loss = self.model(**batch).loss
        value = float(loss.detach())
        if not math.isfinite(value):
            raise WorkFailed(
                f"The loss of {self.data.name} is {value} at step {self.done + 1}.", hint="lower the learning rate"
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.losses.append(value)
        self.done += 1

    def _evaluate(self, report: Report) -> None:
        data = self.data
        guesses = predict(self.model, data, data.held_out, self.held_features, self.tokenizer.pad_token_id)
        value = score(data.metric, gold_labels(data, data.held_out), guesses)["primary"]
        loss = np.mean(self.losses[-_LOSSES_SHOWN:])
        report(f"{data.name}: step {self.done}/{self.steps} loss {loss:.3f} held-out {value:.4f}")
        if self.best is None or value > self.best["score"]:
            self.best = {"score": value, "step": self.done, "state": tuned_state(self.model)}

    def finish(self, report: Report) -> Result:
        """Score the best checkpoint as the zoo will store it."""
        if self.best is None:
            raise WorkFailed(f"{self.data.name} has no training step to make.", hint="give it more steps or examples")
        data = self.data
        state = round_to_float16(self.best["state"])
        self.model.load_state_dict(state, strict=False)
        features = encode(self.tokenizer, data.kind, data.validation, self.regime.max_length)
        guesses = predict(self.model, data, data.validation, features, self.tokenizer.pad_token_id)
        scores = score(data.metric, gold_labels(data, data.validation), guesses)
        tensors, head = _split(state)
        facts = self._facts(scores)
        report(f"{data.name}: validation {scores['primary']:.4f}, baseline {facts['baseline']:.4f}")
        early = {share: _split(round_to_float16(part))[0] for share, part in self.early.items()}
        return Result(tensors, head, early, facts)

    def _facts(self, scores: dict[str, float]) -> dict[str, Any]:
        data, regime = self.data, self.regime
        rule, baseline = trivial_baseline(data)
        best = self.best or {}
        return {
            "task": data.name,
            "kind": data.kind,
            "method": self.method.name,
            "settings": dict(self.method.settings),
            "architecture": architecture(self.model),
            "regime": asdict(regime),
            "steps": self.steps,
            "best_step": best["step"],
            "held_out_score": best["score"],
            "final_loss": float(np.mean(self.losses[-_LOSSES_SHOWN:])),
            "scores": scores,
            "metric": data.metric,
            "baseline": baseline,
            "baseline_rule": rule,
            "train_examples": len(data.train),
            "validation_examples": len(data.validation),
            "examples_seen": self.steps * regime.batch_size,
            "data": dict(data.facts),
            "data_sha256": data.sha256,
            "base_sha256": self.base_sha256,
            "seconds": round(self._seconds(), 1),
            "threads": torch.get_num_threads(),
            "versions": _versions(),
        }


def _split(state: Tensors) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """The method's tensors and the head's, as arrays."""
    arrays = {name: value.to(torch.float32).numpy() for name, value in state.items()}
    head = {name: array for name, array in arrays.items() if is_head(name)}
    return {name: array for name, array in arrays.items() if name not in head}, head


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
