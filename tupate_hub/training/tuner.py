"""Tuning: one task, one method, one base model; the loop, its checkpoints and its result."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tupate_hub.errors import FormatError, WorkFailed
from tupate_hub.training import features as F
from tupate_hub.training.dataset import Example, TaskData
from tupate_hub.training.methods import Method
from tupate_hub.training.scoring import gold_labels, score, trivial_baseline

NAME = "task"
Floats = NDArray[np.float32]
Progress = Callable[[Iterable[int], int], Iterable[int]]


@dataclass(frozen=True)
class Regime:
    """How long and how hard to tune. Steps are optimizer steps; a batch is `batch_size` examples.

    Small tasks stop after `most_epochs` passes, so `steps` is an upper bound.
    """

    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup_share: float = 0.06
    most_epochs: int = 10
    evaluations: int = 5
    max_length: int = 128
    precision: str = "float32"
    seed: int = 0
    init_seed: int = 0
    early: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5)


@dataclass(frozen=True)
class Result:
    """A finished run: the tuned tensors under the `adapters` library's names, and everything known about the run."""

    tensors: dict[str, NDArray[np.float32]]
    head: dict[str, NDArray[np.float32]]
    early: dict[str, dict[str, NDArray[np.float32]]]
    facts: dict[str, Any] = field(default_factory=dict)


def base_sha256(base: Path) -> str:
    """sha256 of the base model's weights file, in hexadecimal digits."""
    weights = base / "model.safetensors"
    try:
        with weights.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else (
                hashlib.sha256(stream.read()).hexdigest()
            )
    except OSError as error:
        raise FormatError(f"{base} has no model.safetensors.", hint="give the folder of a base model") from error


def build_model(base: Path, data: TaskData, method: Method, init_seed: int) -> Any:
    """The base model with the method's parameters and a linear head for the task's kind.

    Every task's method parameters start from the same values (`init_seed`), so that embeddings of one space share
    their origin. Dropout is off: attention without it runs in one fused kernel, and short runs do not overfit.
    """
    from adapters import AutoAdapterModel

    model = AutoAdapterModel.from_pretrained(
        str(base), local_files_only=True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    torch.manual_seed(init_seed)
    model.add_adapter(NAME, method.config(**method.settings))
    torch.manual_seed(init_seed)
    if data.kind == "extractive_qa":
        model.add_qa_head(NAME, num_labels=2, layers=1)
    elif data.kind == "multiple_choice":
        model.add_multiple_choice_head(NAME, num_choices=data.num_labels, layers=1)
    else:
        model.add_classification_head(NAME, num_labels=data.num_labels, layers=1)
    model.train_adapter(NAME)
    model.set_active_adapters(NAME)
    return model


def tuned_state(model: Any) -> dict[str, torch.Tensor]:
    """The parameters that tuning changes, copied."""
    return {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}


def predict(
    model: Any, data: TaskData, examples: Sequence[Example], rows: Sequence[F.Feature], pad_id: int
) -> list[Any]:
    """Predicted label of each example: a class, a number, a choice or an answer text."""
    order = sorted(range(len(rows)), key=lambda index: rows[index].length)
    size = 16 if data.kind in ("extractive_qa", "multiple_choice") else 64
    outputs: dict[int, Any] = {}
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            batch = F.collate([rows[index] for index in chosen], pad_id)
            inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")}
            output = model(**inputs)
            if data.kind == "extractive_qa":
                values = zip(output.start_logits.float().numpy(), output.end_logits.float().numpy(), strict=True)
            else:
                values = output.logits.float().numpy()
            outputs.update(zip(chosen, values, strict=True))
    model.train()
    logits = [outputs[index] for index in range(len(rows))]
    if data.kind == "extractive_qa":
        return F.predict_spans(rows, logits, examples, no_answer=data.metric == "squad_v2_f1")
    if data.kind == "regression":
        return [float(row[0]) for row in logits]
    return [int(np.argmax(row)) for row in logits]


def learning_rate_at(step: int, steps: int, regime: Regime) -> float:
    """Linear warm-up, then linear decay to zero."""
    warmup = max(1, int(regime.warmup_share * steps))
    if step < warmup:
        return regime.learning_rate * (step + 1) / warmup
    return regime.learning_rate * max(0.0, (steps - step) / max(1, steps - warmup))


class Checkpoint:
    """The state of a run on disk, replaced as a whole: after a kill the run goes on from the last one."""

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint

    def load(self) -> dict[str, Any] | None:
        """The last state written for this very run, or None."""
        if self.path is None or not self.path.exists():
            return None
        state = torch.load(self.path, weights_only=True)
        return state if state["fingerprint"] == self.fingerprint else None

    def save(self, state: dict[str, Any]) -> None:
        """Write the state under a temporary name and rename it into place."""
        if self.path is None:
            return
        temporary = self.path.with_suffix(".part")
        with temporary.open("wb") as stream:
            torch.save({**state, "fingerprint": self.fingerprint}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self.path)


def tune(
    base: Path,
    data: TaskData,
    method: Method,
    regime: Regime,
    *,
    checkpoint: Path | None = None,
    progress: Progress = lambda steps, total: steps,
    report: Callable[[str], None] = lambda line: None,
) -> Result:
    """Tune one method on one task and score it.

    The checkpoint with the best held-out score is kept. Its tensors are rounded to float16, the precision in which the
    zoo stores them, before the validation examples are scored, so that the figure belongs to the file.

    Raises
    ------
    WorkFailed
        When the loss is not a finite number.
    """
    from transformers import AutoTokenizer

    started = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(str(base), local_files_only=True)
    pad_id = tokenizer.pad_token_id
    train_rows = F.encode(tokenizer, data.kind, data.train, regime.max_length)
    if data.kind == "extractive_qa":
        train_rows = F.thin_empty_windows(train_rows, data.train)
    held_rows = F.encode(tokenizer, data.kind, data.held_out, regime.max_length)
    steps = min(regime.steps, regime.most_epochs * math.ceil(len(train_rows) / regime.batch_size))
    check_at = {round(steps * (n + 1) / regime.evaluations) for n in range(regime.evaluations)}
    early_at = {max(1, round(steps * share)): f"{share:g}" for share in regime.early}

    model = build_model(base, data, method, regime.init_seed)
    parameters = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=regime.learning_rate, weight_decay=0.0)
    fingerprint = repr((data.name, data.sha256, method.name, sorted(method.settings.items()), asdict(regime)))
    saved = Checkpoint(checkpoint, fingerprint)
    state = saved.load()
    done, best, early, spent, losses = 0, None, {}, 0.0, []
    if state is not None:
        done, best, early, spent, losses = (state[key] for key in ("done", "best", "early", "spent", "losses"))
        model.load_state_dict(state["model"], strict=False)
        optimizer.load_state_dict(state["optimizer"])

    batches = F.grouped_batches(train_rows, regime.batch_size, regime.seed)
    for _ in range(done):
        next(batches)
    model.train()
    for step in progress(range(done, steps), steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, steps, regime)
        batch = F.collate(next(batches), pad_id)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=regime.precision == "bfloat16"):
            loss = model(**batch).loss
        if not torch.isfinite(loss):
            raise WorkFailed(f"The loss of {data.name} is {loss.item()} at step {step + 1}.", hint="lower --lr")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        done = step + 1
        if done in early_at:
            early[early_at[done]] = tuned_state(model)
        if done in check_at:
            guesses = predict(model, data, data.held_out, held_rows, pad_id)
            value = score(data.metric, gold_labels(data, data.held_out), guesses)["primary"]
            report(f"{data.name}: step {done}/{steps} loss {np.mean(losses[-50:]):.3f} held-out {value:.4f}")
            if best is None or value > best["score"]:
                best = {"score": value, "step": done, "state": tuned_state(model)}
            saved.save(
                {
                    "done": done,
                    "best": best,
                    "early": early,
                    "spent": spent + time.perf_counter() - started,
                    "losses": losses,
                    "model": tuned_state(model),
                    "optimizer": optimizer.state_dict(),
                }
            )
    if best is None:
        raise WorkFailed(f"{data.name} has no training step to make.", hint="raise --steps")

    rounded = {name: value.to(torch.float16).to(torch.float32) for name, value in best["state"].items()}
    model.load_state_dict(rounded, strict=False)
    rows = F.encode(tokenizer, data.kind, data.validation, regime.max_length)
    scores = score(data.metric, gold_labels(data, data.validation), predict(model, data, data.validation, rows, pad_id))
    rule, baseline = trivial_baseline(data)
    report(f"{data.name}: validation {scores} baseline {baseline:.4f} ({rule})")
    tensors, head = _split(rounded)
    facts = {
        "task": data.name,
        "kind": data.kind,
        "method": method.name,
        "settings": dict(method.settings),
        "regime": asdict(regime),
        "steps": steps,
        "best_step": best["step"],
        "held_out_score": best["score"],
        "scores": scores,
        "metric": data.metric,
        "baseline": baseline,
        "baseline_rule": rule,
        "train_examples": len(data.train),
        "examples_seen": min(steps * regime.batch_size, len(train_rows) * regime.most_epochs),
        "validation_examples": len(data.validation),
        "data_sha256": data.sha256,
        "base_sha256": base_sha256(base),
        "final_loss": float(np.mean(losses[-50:])),
        "seconds": round(spent + time.perf_counter() - started, 1),
        "threads": torch.get_num_threads(),
        "versions": _versions(),
    }
    return Result(tensors, head, {share: _split(part)[0] for share, part in early.items()}, facts)


def _split(
    state: dict[str, torch.Tensor],
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """Method parameters and head parameters apart, as arrays."""
    arrays = {name: value.to(torch.float32).numpy() for name, value in state.items()}
    head = {name: array for name, array in arrays.items() if name.startswith("heads.")}
    return {name: array for name, array in arrays.items() if name not in head}, head


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("tupate-hub", "torch", "adapters", "transformers", "numpy")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except Exception:  # noqa: BLE001 - an uninstalled checkout has no version of itself
            continue
    return found
