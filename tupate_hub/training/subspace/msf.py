"""MSF, multi-task subspace finding: one encoder and decoder for the parameters of many tasks.

IPT (Qin et al. 2021, section 3.2): the loss is the tasks' own, through the decoded parameters and the frozen model, and
alpha = 200 times the mean squared error of reconstruction. The paper makes 100,000 steps from random maps; here the
maps start as principal components, so that a few hundred are enough.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from tupate_hub.errors import WorkFailed
from tupate_hub.runrecord import Regime
from tupate_hub.subspace.maps import Maps
from tupate_hub.training.checkpoint import Checkpoint
from tupate_hub.training.subspace.encoder import FrozenEncoder
from tupate_hub.training.subspace.manytasks import ManyTasks
from tupate_hub.training.subspace.maps_in_torch import TorchMaps
from tupate_hub.training.subspace.tuning import Progress, Say, task_losses

ALPHA = 200.0
#: A step, the tasks' loss and the reconstruction's.
Told = tuple[int, float, float]
#: The encoder's rate, as a share of the decoder's: each of its outputs sums over all parameters of a task.
ENCODER_SHARE = 0.01


@dataclass(frozen=True)
class Fitted:
    """Maps that have been learned, with the losses on the way."""

    maps: Maps
    losses: tuple[Told, ...]


def fit(
    encoder: FrozenEncoder,
    many: ManyTasks,
    flat: torch.Tensor,
    start: Maps,
    regime: Regime,
    *,
    alpha: float = ALPHA,
    turns: int = 1,
    checkpoint: Path | None = None,
    progress: Progress = lambda steps, total: steps,
    say: Say = lambda line: None,
) -> Fitted:
    """Find the subspace of the tuned parameters `flat`, of shape (tasks, P), beginning with the maps `start`.

    Parameters
    ----------
    regime : Regime
        `batch_size` is the number of examples of each task in a step; `evaluations` how often the losses are told.
    turns : int
        A step takes one task in so many, in turn, and the reconstruction of all: with two a step costs half.
    checkpoint : Path, optional
        File to go on from, written whenever the losses are told.
    progress : callable, optional
        Wraps the iteration over the remaining steps; its second argument is the number of all.

    Raises
    ------
    WorkFailed
        When the loss is not a finite number.
    """
    flat = flat.to(encoder.device)
    learned = TorchMaps(start, encoder.device, trained=True)
    optimizer = _optimizer(learned, regime)
    kept = Checkpoint(checkpoint, _fingerprint(many, flat, start, regime, (alpha, turns)))
    done, losses = _resume(kept, learned, optimizer)
    tell_at = {round(regime.steps * (n + 1) / regime.evaluations) for n in range(regime.evaluations)}
    batches = islice(many.batches("train", regime.steps, regime.batch_size, regime.seed), done, None)
    for step, rows in zip(progress(range(done, regime.steps), regime.steps), batches, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * regime.learning_rate_at(step, regime.steps)
        decoded = learned.decode(learned.encode(flat))
        taken = rows.reshape(len(flat), -1)[(np.arange(len(flat)) + step) % turns == 0]
        tasks = task_losses(encoder, many, "train", taken.ravel(), decoded).sum() / len(taken)
        error = torch.nn.functional.mse_loss(decoded, flat)
        (tasks + alpha * error).backward()
        for group in optimizer.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step + 1 in tell_at:
            told = (step + 1, float(tasks.detach()), float(error.detach()))
            if not np.isfinite(told[1:]).all():
                raise WorkFailed(f"The loss is not finite at step {step + 1}.", hint="lower the learning rate")
            losses.append(told)
            say(f"step {step + 1}/{regime.steps}: task loss {told[1]:.3f}, reconstruction {told[2]:.5f}")
            kept.save({"maps": learned.state(), "optimizer": optimizer.state_dict(), "losses": losses})
    return Fitted(learned.maps(), tuple(losses))


def _optimizer(learned: TorchMaps, regime: Regime) -> torch.optim.Optimizer:
    decoder = [value for layer in learned.decoder for value in layer]
    groups = [{"params": decoder, "factor": 1.0}, {"params": list(learned.encoder), "factor": ENCODER_SHARE}]
    return torch.optim.AdamW(groups, lr=regime.learning_rate, weight_decay=0.0)


def _resume(kept: Checkpoint, learned: TorchMaps, optimizer: torch.optim.Optimizer) -> tuple[int, list[Told]]:
    """How many steps were made before, and the losses that were told."""
    state = kept.load()
    if state is None:
        return 0, []
    learned.load(state["maps"])
    optimizer.load_state_dict(state["optimizer"])
    losses = [tuple(told) for told in state["losses"]]
    return losses[-1][0], losses


def _fingerprint(many: ManyTasks, flat: torch.Tensor, start: Maps, regime: Regime, how: tuple[float, int]) -> str:
    """What makes a run this very run."""
    digest = hashlib.sha256(flat.cpu().numpy().tobytes())
    for layer in (start.encoder, *start.decoder):
        digest.update(layer.weight.tobytes())
    digest.update(many.parts["train"].texts.ids.cpu().numpy().tobytes())
    return repr((many.tasks, asdict(regime), how, digest.hexdigest()))
