"""Tuned: a base model with tuned parameters and a task's head, ready to answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tupate_hub.arrays import Float32Array
from tupate_hub.data.dataset import Example
from tupate_hub.data.inputs import as_examples
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError
from tupate_hub.head import OF_TOKENS, Head
from tupate_hub.training.features import Feature, encode, encode_windows
from tupate_hub.training.methods import NAME
from tupate_hub.training.model import batches_to_score, load_base, load_tokenizer, put_on, read_logits, tuned_state
from tupate_hub.training.precision import half_precision
from tupate_hub.training.predict import Prediction, prediction
from tupate_hub.training.warmstart import Places, method_of

_ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
}


def with_parameters(base: Path, embedding: TaskEmbedding) -> Any:
    """The base model with an embedding's parameters inside and without a head, not to be tuned.

    Raises
    ------
    FormatError
        When the parameters have no place in it, or are not of a method that is tuned here.
    """
    method = method_of(embedding)
    model = load_base(base, method.name)
    method.put(model, method.settings)
    if NAME in model.adapters_config:
        model.set_active_adapters(NAME)
    tensors = Places.of_model(model, method).filled_by(embedding)
    origin = tuned_state(model) if method.relative else {}
    state = {name: torch.from_numpy(array) for name, array in tensors.items()}
    model.load_state_dict(
        {name: value + origin[name] if name in origin else value for name, value in state.items()}, strict=False
    )
    return model.requires_grad_(False).eval()


@dataclass(frozen=True)
class Tuned:
    """A tuned model of a task.

    `head` turns its states into logits; `metric` is the task's, `max_length` the tokens that it was tuned with. Answers
    are given in float32; `bfloat16` is the precision of the zoo's regime, for what is fitted to many states. With
    `windows` texts are read to their end, in pieces of `max_length` tokens whose log probabilities, or amounts, are
    averaged by their tokens; pairs of texts are cut as in tuning.
    """

    model: Any
    tokenizer: Any
    head: Head
    metric: str
    max_length: int
    precision: str = "float32"
    windows: bool = False

    @classmethod
    def of(cls, base: Path, embedding: TaskEmbedding, head: Head) -> Tuned:
        """The base model in a folder with an embedding's parameters and the head that belongs to them.

        Raises
        ------
        FormatError
            When parameters or head do not fit the model.
        """
        model = with_parameters(base, embedding)
        if head.width != model.config.hidden_size:
            raise FormatError(
                f"The head of {head.task!r} reads {head.width} numbers; {embedding.space.base} gives "
                f"{model.config.hidden_size}.",
                hint="take the head that was tuned with the parameters",
            )
        facts = embedding.facts
        metric = head.facts.get("metric") or _text(facts, "scores", "metric")
        length = head.facts.get("max_length") or (facts.get("training") or {}).get("max_length") or 128
        return cls(model, load_tokenizer(base), head, str(metric), int(length))

    def features(self, examples: Sequence[Example]) -> list[Feature]:
        """The examples as token ids, labels left aside."""
        if self.windows and all(example["text_b"] is None for example in examples):
            return encode_windows(self.tokenizer, examples, self.max_length)
        return encode(self.tokenizer, self.head.kind, examples, self.max_length)

    def states(self, features: Sequence[Feature]) -> Iterable[tuple[int, torch.Tensor]]:
        """What the head reads of each feature, with the feature's position: those of similar length come together.

        Shapes: (width,) of the first token, (choices, width) of choices, (length, width) of all tokens.
        """
        every, choices = self.head.kind in OF_TOKENS, self.head.kind == "multiple_choice"
        batches = batches_to_score(self.head.kind, features, self.tokenizer.pad_token_id)
        for chosen, batch in batches:
            given = put_on(self.model.device, batch)
            count = given["input_ids"].shape[1]
            if choices:
                given = {name: value.flatten(0, 1) for name, value in given.items()}
            with torch.inference_mode(), half_precision(self.model.device, self.precision == "bfloat16"):
                found = self.model(**given)
                states = found.last_hidden_state if every else self._pooled(found)
            rows = states.unflatten(0, (-1, count)) if choices else states
            yield from zip(chosen, rows, strict=True)

    def _pooled(self, found: Any) -> torch.Tensor:
        pooled: torch.Tensor = found.pooler_output if self.head.pooled else found.last_hidden_state[:, 0]
        return pooled

    def logits(self, features: Sequence[Feature]) -> list[Float32Array]:
        """What the head gives of each feature: (outputs,), (choices,), or (length, outputs) of tokens."""
        layers = [(torch.from_numpy(one.weight), torch.from_numpy(one.bias)) for one in self.head.layers]
        activation = _ACTIVATIONS[self.head.activation]
        found: dict[int, Float32Array] = {}
        for position, states in self.states(features):
            value = states.float().cpu()
            for number, (weight, bias) in enumerate(layers):
                value = torch.nn.functional.linear(activation(value) if number else value, weight, bias)
            found[position] = (value.squeeze(-1) if self.head.kind == "multiple_choice" else value).numpy()
        return [found[position] for position in range(len(features))]

    def answers(self, examples: Sequence[Example]) -> list[Any]:
        """The label of each example: a class, number, choice, text or tags, as runs are scored by."""
        features = self.features(examples)
        return self.labels(self._of_examples(self.logits(features), features), examples, features)

    def predict(self, inputs: Iterable[Any]) -> list[Prediction]:
        """What the model answers: texts, pairs of texts, or mappings of roles (`data.inputs.as_examples`).

        Raises
        ------
        FormatError
            For an input that the kind of task cannot be asked.
        """
        return self.predictions(as_examples(self.head.kind, inputs))

    def refuse_single_texts(self, examples: Sequence[Example]) -> None:
        """Refuse texts that are alone where the task is about pairs.

        Raises
        ------
        FormatError
            Naming the task.
        """
        if self.head.facts.get("pairs") is True and any(example["text_b"] is None for example in examples):
            raise FormatError(
                f"{self.head.task} is about pairs of texts, and a text here is alone.",
                hint="give both texts of each pair",
            )

    def predictions(self, examples: Sequence[Example]) -> list[Prediction]:
        """The same of examples, whose labels are left aside."""
        return [said for said, _ in self.answered(examples)]

    def answered(self, examples: Sequence[Example]) -> list[tuple[Prediction, Any]]:
        """Each example's prediction, and the label that it stands for, as runs are scored by."""
        self.refuse_single_texts(examples)
        features = self.features(examples)
        logits = self._of_examples(self.logits(features), features)
        labels = self.labels(logits, examples, features)
        each = logits if len(logits) == len(examples) else [None] * len(examples)  # a long context has several
        return [
            (prediction(self.head, example, label, row), label)
            for example, label, row in zip(examples, labels, each, strict=True)
        ]

    def _of_examples(self, logits: list[Float32Array], features: Sequence[Feature]) -> list[Float32Array]:
        """The logits of examples, from those of their windows."""
        if not self.windows:
            return logits
        rows = torch.from_numpy(np.stack(logits))
        said = torch.log_softmax(rows, dim=-1) if self.head.kind == "classification" else rows
        of = torch.tensor([feature.example for feature in features])
        tokens = torch.tensor([[float(feature.length)] for feature in features])
        total = torch.zeros(int(of.max()) + 1, rows.shape[1]).index_add_(0, of, said * tokens)
        count = torch.zeros(len(total), 1).index_add_(0, of, tokens)
        return list((total / count).numpy())

    def labels(
        self, logits: Sequence[Float32Array], examples: Sequence[Example], features: Sequence[Feature]
    ) -> list[Any]:
        """The label of each example, from the logits of each feature."""
        values: Sequence[Any] = logits
        if self.head.kind == "extractive_qa":
            values = [(row[:, 0], row[:, 1]) for row in logits]
        return read_logits(values, self.head.kind, examples, features, self.head.label_names, no_answer=self.no_answer)

    @property
    def no_answer(self) -> bool:
        """Whether a question may have no answer in its text."""
        return self.metric == "squad_v2_f1"


def _text(facts: Mapping[str, Any], group: str, name: str) -> str:
    values = facts.get(group)
    return str(values.get(name, "")) if isinstance(values, Mapping) else ""
