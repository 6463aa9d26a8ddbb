"""Tuning many tasks at once: full prompt tuning and intrinsic subspace tuning are one loop over other numbers.

Nothing of one task reaches another: each has its own row of numbers and its own examples in every batch, the loss is
the sum of the tasks' own, gradients are clipped row by row and AdamW is elementwise. So tuning sixty tasks together
gives each what tuning it alone would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from tupate_hub.arrays import Float64Array, IndexArray
from tupate_hub.errors import WorkFailed
from tupate_hub.runrecord import Regime
from tupate_hub.training.labels import SCALE
from tupate_hub.training.subspace.encoder import FrozenEncoder
from tupate_hub.training.subspace.manytasks import ManyTasks

Say = Callable[[str], None]
Progress = Callable[[Iterable[int], int], Iterable[int]]
#: What linear heads add to the logits of unit vectors: weights (tasks, classes, width), and biases (tasks, classes).
Heads = tuple[torch.Tensor, torch.Tensor]

_NO_CLASS = -1e9


@dataclass(frozen=True)
class TunedRows:
    """The row of numbers of each task, of shape (tasks, k), of its best checkpoint, and that one's held-out score."""

    rows: torch.Tensor
    held_out: Float64Array
    losses: tuple[float, ...]


def task_losses(
    encoder: FrozenEncoder,
    many: ManyTasks,
    part: str,
    rows: IndexArray,
    flat: torch.Tensor,
    heads: Heads | None = None,
) -> torch.Tensor:
    """The mean cross-entropy of each task, of shape (tasks,), over examples of a part; 0 for a task that has none."""
    task = torch.from_numpy(many.parts[part].texts.task[rows]).to(encoder.device)
    labels = torch.from_numpy(many.parts[part].labels[rows]).to(encoder.device)
    logits = _logits(encoder, many, part, rows, flat, heads)
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    zeros = torch.zeros(len(many.tasks), device=encoder.device)
    counts = zeros.index_add(0, task, torch.ones_like(losses)).clamp(min=1)
    return zeros.index_add(0, task, losses) / counts


def accuracies(
    encoder: FrozenEncoder, many: ManyTasks, part: str, flat: torch.Tensor | None, heads: Heads | None = None
) -> Float64Array:
    """The share of right answers of each task, of shape (tasks,), over all examples of a part; see `vectors`."""
    chosen = many.parts[part]
    right = guesses(encoder, many, part, flat, heads) == chosen.labels
    count = np.bincount(chosen.texts.task, minlength=len(many.tasks))
    return np.asarray(np.bincount(chosen.texts.task, weights=right, minlength=len(many.tasks)) / np.maximum(count, 1))


def guesses(
    encoder: FrozenEncoder, many: ManyTasks, part: str, flat: torch.Tensor | None, heads: Heads | None = None
) -> IndexArray:
    """The class or choice of each example of a part, of shape (n,)."""
    with torch.inference_mode():
        logits = _logits(encoder, many, part, np.arange(len(many.parts[part].labels)), flat, heads)
    return np.asarray(logits.argmax(dim=1).cpu().numpy())


def _logits(
    encoder: FrozenEncoder,
    many: ManyTasks,
    part: str,
    rows: IndexArray,
    flat: torch.Tensor | None,
    heads: Heads | None = None,
) -> torch.Tensor:
    """Of shape (rows, classes): s times the cosine of a text and its names (`labels`), or by its task's head."""
    texts = encoder.vectors(many.parts[part].texts, rows, flat)
    if heads is not None:
        task = torch.from_numpy(many.parts[part].texts.task[rows]).to(encoder.device)
        return SCALE * torch.einsum("bw,bcw->bc", texts, heads[0][task]) + heads[1][task]
    own = many.parts[part].names[rows]
    filled = np.where(own < 0, own[:, :1], own)  # by a name of the same task, so that no gradient, even NaN, leaks
    used, places = np.unique(filled, return_inverse=True)
    names = encoder.vectors(many.names, used, flat)
    logits = SCALE * torch.einsum(
        "bw,bcw->bc", texts, names[torch.from_numpy(places.reshape(own.shape)).to(names.device)]
    )
    return logits.masked_fill(torch.from_numpy(own < 0).to(encoder.device), _NO_CLASS)


def tune_rows(
    encoder: FrozenEncoder,
    many: ManyTasks,
    start: torch.Tensor,
    regime: Regime,
    *,
    flat_of: Callable[[torch.Tensor], torch.Tensor] = lambda rows: rows,
    heads_of: Callable[[torch.Tensor], Heads | None] = lambda rows: None,
    prefix: str = "",
    batches: Iterable[IndexArray] | None = None,
    progress: Progress = lambda steps, total: steps,
    say: Say = lambda line: None,
) -> TunedRows:
    """Tune each task's row of numbers, from `start` of shape (tasks, k), and keep each task's best checkpoint.

    Parameters
    ----------
    regime : Regime
        `batch_size` is the number of examples of each task in a step.
    flat_of : callable
        Rows (tasks, k) to parameters (tasks, P): a subspace's decoder, or nothing for full tuning.
    heads_of : callable
        Rows to linear heads, in place of the classes' names.
    prefix : str
        `new_` tunes on the second draw.
    batches : iterable, optional
        The examples of each step, in place of those that the seed draws.
    progress : callable, optional
        Wraps the iteration over the steps; its second argument is the number of all.

    Raises
    ------
    WorkFailed
        When a task's numbers are no longer finite.
    """
    rows = start.detach().clone().to(encoder.device).requires_grad_(True)
    optimizer = torch.optim.AdamW([rows], lr=regime.learning_rate, weight_decay=0.0)
    best, held_out = rows.detach().clone(), np.full(len(rows), -np.inf)
    losses = []
    check_at = {round(regime.steps * (n + 1) / regime.evaluations) for n in range(regime.evaluations)}
    part = f"{prefix}train"
    drawn = many.batches(part, regime.steps, regime.batch_size, regime.seed) if batches is None else batches
    for step, examples in zip(progress(range(regime.steps), regime.steps), drawn, strict=False):
        optimizer.param_groups[0]["lr"] = regime.learning_rate_at(step, regime.steps)
        loss = task_losses(encoder, many, part, examples, flat_of(rows), heads_of(rows)).sum()
        loss.backward()
        clip_rows(rows)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step + 1 in check_at:
            require_finite(rows, many, step + 1)
            kept = rows.detach()
            scores = accuracies(encoder, many, f"{prefix}held_out", flat_of(kept), heads_of(kept))
            better = scores > held_out
            best[torch.from_numpy(better)] = kept[torch.from_numpy(better)]
            held_out = np.maximum(held_out, scores)
            losses.append(float(loss.detach()) / len(many.tasks))
            say(f"step {step + 1}/{regime.steps}: loss {losses[-1]:.3f}, held-out {scores.mean():.4f}")
    return TunedRows(best, held_out, tuple(losses))


def first_codes(tasks: int, dim: int, seed: int) -> torch.Tensor:
    """Where intrinsic tuning starts: N(0, 0.02), as IPT does, of shape (tasks, dim)."""
    drawn = np.random.default_rng((seed, 2)).normal(0, 0.02, (tasks, dim))
    return torch.from_numpy(drawn.astype(np.float32))


def slower(dim: int) -> float:
    """The learning rate of so many coordinates as a share of that of five: chosen at 5 and 250, on twelve tasks."""
    return float((5 / dim) ** 0.2)


def clip_rows(rows: torch.Tensor, most: float = 1.0) -> None:
    """Shorten the gradient of each row to `most`, as `clip_grad_norm_` does with all parameters of one task."""
    if rows.grad is not None:
        norms = rows.grad.norm(dim=1, keepdim=True)
        rows.grad.mul_((most / (norms + 1e-6)).clamp(max=1.0))


def require_finite(rows: torch.Tensor, many: ManyTasks, step: int) -> None:
    """Refuse numbers that have diverged, by the task's name."""
    good = torch.isfinite(rows).all(dim=1).cpu().numpy()
    if not good.all():
        task = many.tasks[int(np.flatnonzero(~good)[0])]
        raise WorkFailed(f"The numbers of {task} are not finite after step {step}.", hint="lower the learning rate")
