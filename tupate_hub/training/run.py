"""Run: a run in progress: its model, its optimizer, the steps it makes, and its state between them."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tupate_hub.arrays import Float32Array
from tupate_hub.data.dataset import TaskData
from tupate_hub.errors import WorkFailed
from tupate_hub.runrecord import DataRecord, Regime, RunRecord
from tupate_hub.training.advice import about_cut_texts, about_rising_loss, about_the_end
from tupate_hub.training.batches import collate, grouped_batches
from tupate_hub.training.checkpoint import Checkpoint
from tupate_hub.training.device import attention, device_of
from tupate_hub.training.features import Feature, encode, thin_empty_windows, with_scaled_labels
from tupate_hub.training.labels import LabelScorer
from tupate_hub.training.methods import Method, saved_config
from tupate_hub.training.model import (
    architecture,
    base_sha256,
    build_model,
    head_config,
    in_units_of_targets,
    is_head,
    load_tokenizer,
    predict,
    put_on,
    round_to_float16,
    tuned_state,
)
from tupate_hub.training.optimizer import balanced_weights, loss_of, make_optimizer, set_rate
from tupate_hub.training.precision import half_precision
from tupate_hub.training.regime import Setup
from tupate_hub.training.result import Answers, Evaluation, Layout, Result, Snapshot, versions
from tupate_hub.training.scoring import gold_labels, score, trivial_baseline

Tensors = dict[str, torch.Tensor]
#: Wraps the iteration over the remaining steps; its second argument is the number of all.
Progress = Callable[[Iterable[int], int], Iterable[int]]
#: Called with a line after each evaluation.
Say = Callable[[str], None]
#: Called after each step with its number, the mean of the last losses, and the last held-out score.
Pulse = Callable[[int, float, float | None], None]

_LOSSES_SHOWN = 50


class Run:
    """A run in progress: the model, its optimizer and what has been kept so far."""

    def __init__(
        self, base: Path, data: TaskData, method: Method, regime: Regime, setup: Setup, checkpoint: Path | None
    ) -> None:
        self.began = time.perf_counter()
        self.data, self.method, self.regime, self.setup = data, method, regime, setup
        self.device = device_of(setup.device)
        self.base_sha256 = base_sha256(base)
        self.tokenizer = load_tokenizer(base)
        self.train_features = encode(self.tokenizer, data.kind, data.train, regime.max_length)
        if data.kind == "extractive_qa":
            self.train_features = thin_empty_windows(self.train_features, data.train)
        if data.kind == "regression":
            self.train_features = with_scaled_labels(self.train_features, data.center, data.spread)
        self.held_features = encode(self.tokenizer, data.kind, data.held_out, regime.max_length)
        self.steps = min(regime.steps, regime.most_epochs * math.ceil(len(self.train_features) / regime.batch_size))
        self.model = build_model(base, data, method, regime.init_seed).to(self.device)
        self.scorer: Any = LabelScorer(self.model, self.tokenizer, data) if setup.head == "labels" else self.model
        self.origin = tuned_state(self.model) if method.relative else {}
        self._start()
        tuned = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        self.parameters = list(tuned.values())
        self.optimizer = make_optimizer(tuned, regime)
        self.weights = balanced_weights(data) if setup.balanced else None
        self.done = self.seen = 0
        self.seconds_before = 0.0
        self.losses: list[float] = []
        self.curve: list[Evaluation] = []
        self.early: dict[str, Tensors] = {}
        self.best: dict[str, Any] | None = None
        self.held_out: float | None = None
        self.zero_shot: float | None = None
        self.checkpoint = Checkpoint(checkpoint, self._fingerprint())
        self._resume()

    def _start(self) -> None:
        """Replace what the seed has drawn by the values to start from."""
        fresh = {name: value for name, value in tuned_state(self.model).items() if name in self.setup.start}
        self._load({name: torch.from_numpy(np.array(self.setup.start[name])) for name in fresh})

    def _load(self, kept: Mapping[str, torch.Tensor]) -> None:
        """Put values into the model that are kept as their difference from where they started, where there is one."""
        whole = {name: value + self.origin[name] if name in self.origin else value for name, value in kept.items()}
        self.model.load_state_dict(whole, strict=False)

    def _fingerprint(self) -> str:
        settings = sorted(self.method.settings.items())
        data = self.data
        task = (data.name, data.sha256, data.kind, data.metric, data.label_names, len(data.train), len(data.held_out))
        usual = (self.base_sha256, task, self.method.name, settings, asdict(self.regime))
        cares = self.setup.cares()
        if not self.setup.start and self.setup.head == "trained" and not cares:
            return repr(usual)
        start = hashlib.sha256(repr(sorted(cares.items())).encode())
        for name, array in sorted(self.setup.start.items()):
            start.update(name.encode() + array.tobytes())
        return repr((*usual, self.setup.head, start.hexdigest()))

    def _resume(self) -> None:
        state = self.checkpoint.load()
        if state is None:
            return
        self.done, self.losses, self.early = state["done"], state["losses"], state["early"]
        self.best, self.seconds_before = state["best"], state["seconds"]
        self.zero_shot, self.seen = state.get("zero_shot"), state.get("seen", 0)
        self.curve = [Evaluation(*look) for look in state.get("curve", ())]
        self.held_out = self.curve[-1].held_out if self.curve else None
        self.model.load_state_dict(state["model"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])

    def _save(self) -> None:
        self.checkpoint.save(
            {
                "done": self.done,
                "losses": self.losses,
                "early": self.early,
                "curve": [tuple(look) for look in self.curve],
                "best": self.best,
                "zero_shot": self.zero_shot,
                "seen": self.seen,
                "seconds": self._seconds(),
                "model": tuned_state(self.model),
                "optimizer": self.optimizer.state_dict(),
            }
        )

    def _seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.began

    def train(self, progress: Progress, report: Say, pulse: Pulse, warn: Say) -> None:
        """Make the remaining steps, evaluating and saving on the way."""
        if cut := about_cut_texts(self.data.kind, self.train_features, self.regime.max_length):
            warn(cut)
        regime = self.regime
        check_at = {round(self.steps * (n + 1) / regime.evaluations) for n in range(regime.evaluations)}
        early_at = {f"{share:g}": max(1, round(self.steps * share)) for share in regime.early}
        if self.setup.head == "labels" and self.zero_shot is None:
            self.zero_shot = self.validate()["primary"]
        if self.done:
            report(f"{self.data.name}: going on after step {self.done}/{self.steps}")
        self.model.train()
        warned = False
        for done in () if self._stopped() else self.advance(progress, pulse):
            for share in (share for share, step in early_at.items() if step == done):
                self.early[share] = tuned_state(self.model)
            if not warned and (rising := about_rising_loss(self.losses)):
                warn(rising)
                warned = True
            if done in check_at:
                self._evaluate(report)
                self._save()
                if self._stopped():
                    report(f"{self.data.name}: the held-out score no longer rises")
                    break
        if rising := about_the_end(self.curve, self._stopped()):
            warn(rising)

    def _stopped(self) -> bool:
        """Whether the patience is at an end."""
        if self.setup.patience is None or self.best is None:
            return False
        scores = [look.held_out for look in self.curve]
        return len(scores) - 1 - scores.index(max(scores)) >= self.setup.patience

    def advance(self, progress: Progress, pulse: Pulse) -> Iterator[int]:
        """Make the remaining steps one by one; yields how many are made."""
        batches = self.remaining_batches()
        for _ in progress(range(self.done, self.steps), self.steps):
            self._step(next(batches))
            pulse(self.done, self._loss(), self.held_out)
            yield self.done

    def snapshot(self) -> Snapshot:
        """The run as it stands."""
        tensors, _ = _split(round_to_float16(tuned_state(self.model), self.origin))
        return Snapshot(self.done, self.steps, self._loss(), tensors, self._layout())

    def _loss(self) -> float:
        return float(np.mean(self.losses[-_LOSSES_SHOWN:]))

    def remaining_batches(self) -> Iterator[list[Feature]]:
        """The examples of each step that is still to be made, without end."""
        batches = grouped_batches(self.train_features, self.regime.batch_size, self.regime.seed)
        self.seen = sum(len(next(batches)) for _ in range(self.done))
        return batches

    def _step(self, features: list[Feature]) -> None:
        set_rate(self.optimizer, self.regime.learning_rate_at(self.done, self.steps))
        value = sum(self._backward(part, len(part) / len(features)) for part in self._parts(features))
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.losses.append(value)
        self.seen += len(features)
        self.done += 1

    def _parts(self, features: list[Feature]) -> list[list[Feature]]:
        """A step's examples as they go through the model: all at once, or in parts of about one size."""
        size = math.ceil(len(features) / self.setup.parts)
        return [features[at : at + size] for at in range(0, len(features), size)]

    def _backward(self, features: list[Feature], share: float) -> float:
        """Add the gradient of a share of a step; returns what it adds to the loss."""
        batch = put_on(self.device, collate(features, self.tokenizer.pad_token_id))
        with self.precision(), attention(self.device):
            loss = loss_of(self.scorer(**batch), batch.get("labels"), self.weights)
        if share < 1:
            loss = loss * share
        value = float(loss.detach())
        if not math.isfinite(value):
            raise WorkFailed(
                f"The loss of {self.data.name} is {value} at step {self.done + 1}.", hint="lower the learning rate"
            )
        with attention(self.device):
            loss.backward()
        return value

    def precision(self) -> AbstractContextManager[Any]:
        """The regime's precision, for whatever is computed inside it."""
        return half_precision(self.device, self.regime.precision == "bfloat16")

    def _evaluate(self, report: Say) -> None:
        data = self.data
        guesses = predict(self.scorer, data, data.held_out, self.held_features, self.tokenizer.pad_token_id)
        value = score(data.metric, gold_labels(data, data.held_out), guesses)["primary"]
        self.held_out = value
        self.curve.append(Evaluation(self.done, self._loss(), value))
        report(f"{data.name}: step {self.done}/{self.steps} loss {self._loss():.3f} held-out {value:.4f}")
        best = -math.inf if self.best is None else self.best["score"]
        if value > best or (self.setup.latest and value == best):
            self.best = {"score": value, "step": self.done, "state": tuned_state(self.model)}

    def finish(self, report: Say) -> Result:
        """Score the best checkpoint as the zoo will store it."""
        if self.best is None:
            raise WorkFailed(f"{self.data.name} has no training step to make.", hint="give it more steps or examples")
        data = self.data
        state = round_to_float16(self.best["state"], self.origin)
        self._load(state)
        answers = self.answers()
        scores = score(data.metric, answers.gold, answers.predicted)
        tensors, head = _split(state)
        record = self._record(scores)
        report(f"{data.name}: validation {scores['primary']:.4f}, baseline {record.baseline:.4f}")
        return Result(
            record,
            tensors,
            self._layout(),
            head=in_units_of_targets(head, data),
            head_config=head_config(self.model, data),
            early={share: _split(round_to_float16(part, self.origin))[0] for share, part in self.early.items()},
            planned=self.steps,
            losses=tuple(self.losses),
            curve=tuple(self.curve),
            answers=answers,
        )

    def answers(self) -> Answers:
        """What the model says of the validation examples as it stands."""
        data = self.data
        features = encode(self.tokenizer, data.kind, data.validation, self.regime.max_length)
        guesses = predict(self.scorer, data, data.validation, features, self.tokenizer.pad_token_id)
        return Answers(gold_labels(data, data.validation), guesses, data.label_names)

    def validate(self) -> dict[str, float]:
        """The scores of the validation examples."""
        answers = self.answers()
        return score(self.data.metric, answers.gold, answers.predicted)

    def _record(self, scores: Mapping[str, float]) -> RunRecord:
        data, best = self.data, self.best or {}
        rule, baseline = trivial_baseline(data)
        return RunRecord(
            task=data.name,
            kind=data.kind,
            method=self.method.name,
            settings={**self.method.settings, "init_seed": self.regime.init_seed},
            architecture=architecture(self.model),
            base_sha256=self.base_sha256,
            regime=self.regime,
            steps=self.done,
            best_step=best["step"],
            held_out_score=best["score"],
            final_loss=self._loss(),
            examples_seen=self.seen,
            train_examples=len(data.train),
            validation_examples=len(data.validation),
            seconds=round(self._seconds(), 1),
            threads=torch.get_num_threads(),
            scores=scores,
            metric=data.metric,
            baseline=baseline,
            baseline_rule=rule,
            data=_about(data),
            software=versions(),
            device=self.device.type,
            head=self.setup.head,
            zero_shot=self.zero_shot,
            cares=self.setup.cares(),
        )

    def _layout(self) -> Layout:
        return Layout(self.data.name, self.method.name, saved_config(self.model), architecture(self.model))


def _about(data: TaskData) -> DataRecord:
    return DataRecord(
        name=data.facts.get("original_dataset", data.name),
        task_class=data.facts.get("class", ""),
        original_train_size=data.facts.get("original_train_size"),
        licence=data.facts.get("licence", ""),
        source=data.facts.get("source", ""),
        sha256=data.sha256,
    )


def _split(state: Tensors) -> tuple[dict[str, Float32Array], dict[str, Float32Array]]:
    """The method's tensors and the head's, as arrays."""
    arrays = {name: value.to(torch.float32).cpu().numpy() for name, value in state.items()}
    head = {name: array for name, array in arrays.items() if is_head(name)}
    return {name: array for name, array in arrays.items() if name not in head}, head
