"""MSF, multi-task subspace finding: one encoder and decoder for the parameters of many tasks.

IPT (Qin et al. 2021, section 3.2): the loss is the tasks' own, through the decoded parameters and the frozen model, and
alpha = 200 times the mean squared error of reconstruction. The paper makes 100,000 steps from random maps; here the
maps start as principal components, so that a few hundred are enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from tupate_hub.errors import WorkFailed
from tupate_hub.runrecord import Regime
from tupate_hub.subspace.maps import Linear, Maps
from tupate_hub.training.subspace.encoder import FrozenEncoder
from tupate_hub.training.subspace.manytasks import ManyTasks
from tupate_hub.training.subspace.tuning import Say, task_losses

ALPHA = 200.0
#: The encoder's rate, as a share of the decoder's: each of its outputs sums over all parameters of a task.
ENCODER_SHARE = 0.01


@dataclass(frozen=True)
class Fitted:
    """Maps that have been learned, with the losses on the way: the tasks' own, and the reconstruction's."""

    maps: Maps
    losses: tuple[tuple[int, float, float], ...]


class TorchMaps:
    """The maps as tensors that can learn. Parameters come and go less their mean, which stays as it is."""

    def __init__(self, maps: Maps, device: torch.device, *, trained: bool = False) -> None:
        def tensor(array: object) -> torch.Tensor:
            return torch.tensor(np.asarray(array, dtype=np.float32), device=device, requires_grad=trained)

        self.mean = tensor(maps.decoder[-1].bias).detach().clone()
        mean = np.asarray(maps.decoder[-1].bias, dtype=np.float64)
        at_mean = maps.encoder.weight.astype(np.float64) @ mean + maps.encoder.bias
        self.encoder = (tensor(maps.encoder.weight), tensor(at_mean))
        biases = [layer.bias for layer in maps.decoder[:-1]] + [np.zeros_like(maps.decoder[-1].bias)]
        weights = [layer.weight for layer in maps.decoder]
        self.decoder = [(tensor(weight), tensor(bias)) for weight, bias in zip(weights, biases, strict=True)]

    def encode(self, flat: torch.Tensor) -> torch.Tensor:
        """Coordinates (tasks, D) of parameters (tasks, P)."""
        return torch.nn.functional.linear(flat - self.mean, *self.encoder)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Parameters (tasks, P) at coordinates (tasks, D)."""
        for weight, bias in self.decoder[:-1]:
            codes = torch.tanh(torch.nn.functional.linear(codes, weight, bias))
        return torch.nn.functional.linear(codes, *self.decoder[-1]) + self.mean

    def maps(self) -> Maps:
        """The maps as arrays."""
        mean = self.mean.cpu().numpy().astype(np.float64)
        weight, at_mean = (value.detach().cpu().numpy() for value in self.encoder)
        encoder = Linear(weight, (at_mean - weight.astype(np.float64) @ mean).astype(np.float32))
        layers = [Linear(*(value.detach().cpu().numpy() for value in layer)) for layer in self.decoder]
        last = Linear(layers[-1].weight, (layers[-1].bias + mean).astype(np.float32))
        return Maps(encoder, (*layers[:-1], last))


def fit(
    encoder: FrozenEncoder,
    many: ManyTasks,
    flat: torch.Tensor,
    start: Maps,
    regime: Regime,
    *,
    alpha: float = ALPHA,
    say: Say = lambda line: None,
    pulse: Callable[[int], None] = lambda step: None,
) -> Fitted:
    """Find the subspace of the tuned parameters `flat`, of shape (tasks, P), beginning with the maps `start`.

    `regime.batch_size` is the number of examples of each task in a step.

    Raises
    ------
    WorkFailed
        When the loss is not a finite number.
    """
    flat = flat.to(encoder.device)
    learned = TorchMaps(start, encoder.device, trained=True)
    decoder = [value for layer in learned.decoder for value in layer]
    groups = [{"params": decoder, "factor": 1.0}, {"params": list(learned.encoder), "factor": ENCODER_SHARE}]
    optimizer = torch.optim.AdamW(groups, lr=regime.learning_rate, weight_decay=0.0)
    report_at = {round(regime.steps * (n + 1) / regime.evaluations) for n in range(regime.evaluations)}
    losses = []
    for step, rows in enumerate(many.batches("train", regime.steps, regime.batch_size, regime.seed)):
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * regime.learning_rate_at(step, regime.steps)
        decoded = learned.decode(learned.encode(flat))
        tasks = task_losses(encoder, many, "train", rows, decoded).mean()
        error = torch.nn.functional.mse_loss(decoded, flat)
        (tasks + alpha * error).backward()
        for group in optimizer.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step + 1 in report_at:
            told = (step + 1, float(tasks.detach()), float(error.detach()))
            if not np.isfinite(told[1:]).all():
                raise WorkFailed(f"The loss is not finite at step {step + 1}.", hint="lower the learning rate")
            losses.append(told)
            say(f"step {step + 1}/{regime.steps}: task loss {told[1]:.3f}, reconstruction {told[2]:.5f}")
        pulse(step + 1)
    return Fitted(learned.maps(), tuple(losses))
