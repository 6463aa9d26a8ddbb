"""Labels head: classes scored by how close the text is to their encoded names, with no trained head.

The score of class c is s · cos(e(text), e(name of c)), where e is the mean of the encoder's last states over the tokens
of its input and s = 20, as sentence-transformers trains with (MultipleNegativesRankingLoss). Both sides are encoded
with the same, current parameters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch

from tupate_hub.data.dataset import TaskData
from tupate_hub.errors import FormatError

SCALE = 20.0
_AT_ONCE = 64


@dataclass(frozen=True)
class Scored:
    """What a model with a head gives as well: logits of shape (batch, classes), and the loss where labels are given."""

    logits: torch.Tensor
    loss: torch.Tensor | None = None


class LabelScorer:
    """A model without a head that answers like one with a head.

    While the model is tuned the names are encoded at every step, with gradients; between `eval` and `train`, when
    nothing moves, once.

    Raises
    ------
    FormatError
        When the task is not a classification, or two of its labels read the same.
    """

    def __init__(self, model: Any, tokenizer: Any, data: TaskData) -> None:
        if data.kind != "classification":
            raise FormatError(
                f"{data.name} is {data.kind}: only the names of classes can be scored.",
                hint="leave out `head='labels'`",
            )
        names = [readable(name) for name in data.label_names]
        read = {tuple(ids) for ids in tokenizer(names, truncation=True, max_length=_AT_ONCE)["input_ids"]}
        if len(read) < len(names) or not all(re.search(r"[^\W\d]", name) for name in names):
            raise FormatError(
                f"The labels of {data.name} are not words that the model can tell apart: "
                f"{', '.join(data.label_names)[:80]}.",
                hint="leave out `head='labels'`, or name the classes",
            )
        if model.active_head:
            model.delete_head(model.active_head)
        self.model = model
        self.names = tokenizer(names, padding=True, truncation=True, max_length=_AT_ONCE, return_tensors="pt")
        self.encoded: torch.Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return torch.device(self.model.device)

    def eval(self) -> None:
        """Stand still: the names are encoded once from here on."""
        self.model.eval()
        self.encoded = None

    def train(self) -> None:
        """Move: the names are encoded at every step."""
        self.model.train()
        self.encoded = None

    def __call__(self, labels: torch.Tensor | None = None, **inputs: torch.Tensor) -> Scored:
        """Score a batch, as a model of transformers does."""
        texts, names = self._encode(inputs), self._names()
        with torch.autocast(texts.device.type, enabled=False):  # near 20, bfloat16 has steps of an eighth
            logits = SCALE * texts @ names.T
        return Scored(logits, None if labels is None else torch.nn.functional.cross_entropy(logits, labels))

    def _names(self) -> torch.Tensor:
        if self.model.training:
            return self._encode(self.names.to(self.device))
        if self.encoded is None:
            self.encoded = self._encode(self.names.to(self.device))
        return self.encoded

    def _encode(self, inputs: Any) -> torch.Tensor:
        """Unit vectors of shape (batch, width)."""
        states = self.model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def readable(label: str) -> str:
    """A label as a text: `not_entailment` and `notEntailment` as `not entailment`.

    >>> readable("card_payment-failed")
    'card payment failed'
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label)
    return " ".join(re.split(r"[\s_\-/:]+", spaced)).strip().lower()
