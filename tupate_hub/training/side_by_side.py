"""Side by side: runs of one target from several starts, made at once.

Such runs share their examples, order, first head and steps, and differ only in what they start from. So one pass of the
frozen model serves all of them: what is tuned is stacked along a first axis, over which `torch.func.vmap` maps the
model. A small encoder leaves a GPU idle between its many small kernels; a stack of twenty costs little more than one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tupate_hub.arrays import Float32Array
from tupate_hub.data.dataset import TaskData
from tupate_hub.runrecord import Regime
from tupate_hub.training.batches import Batch, collate
from tupate_hub.training.features import encode
from tupate_hub.training.methods import Method
from tupate_hub.training.model import batches_to_score, labels_from, put_on
from tupate_hub.training.optimizer import make_optimizer, set_rate
from tupate_hub.training.regime import Setup
from tupate_hub.training.run import Progress, Run
from tupate_hub.training.scoring import gold_labels, score

Tensors = dict[str, torch.Tensor]
Start = Mapping[str, Float32Array]


@dataclass(frozen=True)
class Scores:
    """The scores of one run, by its place among the starts, after so many steps."""

    place: int
    steps: int
    values: Mapping[str, float]


def score_side_by_side(
    base: Path,
    data: TaskData,
    method: Method,
    regime: Regime,
    at: Collection[int],
    starts: Sequence[Start],
    *,
    device: str = "cpu",
    progress: Progress = lambda steps, total: steps,
) -> Iterator[Scores]:
    """As `tuner.score_on_the_way` for each of several starts, of which {} is what the seed draws.

    A run whose loss is not a finite number has no scores from then on; the others do not notice.

    Parameters
    ----------
    starts : sequence of mappings
        Of each run, as `Setup.start`.
    """
    stack = Stack(Run(base, data, method, regime, Setup(device), None), starts)
    for done in stack.advance(progress):
        if done in at:
            yield from (Scores(place, done, values) for place, values in stack.scores())


class Stack:
    """The tuned parameters of several runs, and the run whose model, examples and regime they share."""

    def __init__(self, run: Run, starts: Sequence[Start]) -> None:
        self.run, self.count = run, len(starts)
        drawn = {name: value.detach() for name, value in run.model.named_parameters() if value.requires_grad}
        run.model.requires_grad_(False)
        self.tuned = {
            name: torch.stack([_first(name, value, start, run.origin) for start in starts]).requires_grad_()
            for name, value in drawn.items()
        }
        self.optimizer = make_optimizer(self.tuned, run.regime)
        self.finite = torch.ones(self.count, dtype=torch.bool, device=run.device)
        data = run.data
        self.features = encode(run.tokenizer, data.kind, data.validation, run.regime.max_length)

    def advance(self, progress: Progress) -> Iterator[int]:
        """Make the steps one by one; yields how many are made."""
        run, batches = self.run, self.run.remaining_batches()
        run.model.train()
        for done in progress(range(run.steps), run.steps):
            batch = put_on(run.device, collate(next(batches), run.tokenizer.pad_token_id))
            set_rate(self.optimizer, run.regime.learning_rate_at(done, run.steps))
            with run.precision():
                losses = self._mapped(lambda output: output.loss, batch)
            with sdpa_kernel(SDPBackend.MATH):
                losses.sum().backward()
            self.finite &= losses.detach().isfinite()
            self._clip()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            yield done + 1

    def _mapped(self, of_output: Any, batch: Batch) -> Any:
        """What `of_output` takes from the model's output on a batch, for each run along a first axis."""

        def call(tuned: Tensors) -> Any:
            return of_output(functional_call(self.run.model, tuned, (), batch))

        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels cannot be mapped over
            return vmap(call)(self.tuned)

    def _clip(self) -> None:
        """Each run's gradient to a norm of 1 at most, as `clip_grad_norm_` does for one run."""
        gradients = [value.grad for value in self.tuned.values() if value.grad is not None]
        squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients])
        factors = (1 / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))

    def scores(self) -> Iterator[tuple[int, dict[str, float]]]:
        """The scores of the validation examples, run by run, in the regime's precision."""
        run, data = self.run, self.run.data
        outputs: dict[int, Any] = {}
        run.model.eval()
        with torch.inference_mode(), run.precision():
            for chosen, batch in batches_to_score(data.kind, self.features, run.tokenizer.pad_token_id):
                said = self._mapped(_logits, put_on(run.device, batch))
                arrays = [logits.float().cpu().numpy().swapaxes(0, 1) for logits in said]
                outputs.update(zip(chosen, zip(*arrays, strict=True), strict=True))
        run.model.train()
        gold = gold_labels(data, data.validation)
        for place in self.finite.nonzero().flatten().tolist():
            values = [tuple(logits[place] for logits in outputs[index]) for index in range(len(self.features))]
            plain = values if data.kind == "extractive_qa" else [value for (value,) in values]
            yield place, score(data.metric, gold, labels_from(plain, data, data.validation, self.features))


def _first(name: str, drawn: torch.Tensor, start: Start, origin: Tensors) -> torch.Tensor:
    if name not in start:
        return drawn
    value = torch.tensor(start[name], device=drawn.device)
    return value + origin[name].to(value.device) if name in origin else value


def _logits(output: Any) -> tuple[torch.Tensor, ...]:
    spans = hasattr(output, "start_logits")
    return (output.start_logits, output.end_logits) if spans else (output.logits,)
