"""Origin: what the facts of an embedding say of its base model and of the library that its parameters are for.

The facts may be a stranger's: each is checked where it is used, and one that is missing is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tupate_hub.architectures import ARCHITECTURES, ENCODER_DECODER, form_of
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError

#: Under which attribute the models with a task head keep their encoder, by model type.
BACKBONES: Mapping[str, str] = {name: known.backbone for name, known in ARCHITECTURES.items()}
#: Of these it is known how they count a text's positions behind a prefix.
_POSITIONS = frozenset({"bert", "roberta", "xlm-roberta", "distilbert"})
#: Where the models that answer questions have it otherwise: T5's has its two halves at the top, under no attribute.
_ANSWERING: Mapping[str, str] = {"llama": "transformer", "mt5": "", "t5": ""}
_ATTRIBUTES = re.compile(r"[a-z_]{1,40}(?:\.[a-z_]{1,40}){0,3}")
#: What a reader may leave out without a change of the outputs, the head's aside.
_HARMLESS = frozenset(
    {"heads", "aliases", "pruned to rank 0", "unchanged weights", "tensors of integers", "units that act nowhere"}
)
MOST_LAYERS = 1000


def refusal(embedding: TaskEmbedding, form: str, why: str, instead: str = "`form='embedding'`") -> FormatError:
    """The error that the form has no place for the embedding, to be raised; its hint takes it in the form `instead`."""
    return FormatError(
        f"{embedding.task!r} ({embedding.space.method}) cannot be written in the form {form!r}: {why}.",
        hint=f"take another form: {instead}",
    )


def fact(embedding: TaskEmbedding, group: str, name: str) -> Any:
    """One value of a group of facts (`settings`, `architecture`, `source`), None where it is not there."""
    facts = embedding.facts.get(group)
    return facts.get(name) if isinstance(facts, dict) else None


def is_trained(embedding: TaskEmbedding) -> bool:
    """Whether this project's own training made it."""
    return bool(fact(embedding, "source", "kind") == "trained")


def library(embedding: TaskEmbedding) -> str:
    """The library in which the parameters were tuned: `adapters`, `peft`, or nothing where the facts do not say.

    The two put a prompt in different places and count the text's positions behind a prefix differently.
    """
    if is_trained(embedding):
        return "adapters"
    return {"adapterhub": "adapters", "peft": "peft"}.get(str(fact(embedding, "source", "layout")), "")


def require_complete(embedding: TaskEmbedding, form: str) -> None:
    """Refuse an embedding of which something was left out that changes the outputs.

    Raises
    ------
    FormatError
        Naming what is missing.
    """
    left_out = fact(embedding, "source", "left_out")
    missing = sorted(set(left_out) - _HARMLESS) if isinstance(left_out, dict) else []
    if missing:
        raise refusal(embedding, form, f"its {missing[0][:40]} were left out when it was read, and change the outputs")


def model_type(embedding: TaskEmbedding) -> str:
    """The base model's type, such as `bert`, or nothing where it is not one of `BACKBONES`."""
    name = fact(embedding, "architecture", "model_type")
    return name if isinstance(name, str) and name in BACKBONES else ""


def is_eager(embedding: TaskEmbedding) -> bool:
    """Whether it was tuned here without the `adapters` library's fused attention, which computes something else."""
    known = ARCHITECTURES.get(model_type(embedding))
    return is_trained(embedding) and known is not None and not known.eager.isdisjoint(embedding.space.method.split("+"))


def counts_positions(embedding: TaskEmbedding) -> bool:
    """Whether it is known how the base model counts a text's positions behind a prefix."""
    return model_type(embedding) in _POSITIONS


def decoder_depth(embedding: TaskEmbedding) -> int:
    """How many layers an encoder-decoder's second half has; 0 of another model."""
    if form_of(model_type(embedding)) != ENCODER_DECODER:
        return 0
    layers = size(embedding, "num_decoder_layers") or size(embedding, "decoder_layers") or depth(embedding)
    return layers if layers <= MOST_LAYERS else 0


def encoder(embedding: TaskEmbedding) -> str:
    """The attribute under which the models with a task head keep their encoder, or nothing where it is not known."""
    attribute = fact(embedding, "architecture", "encoder")
    if isinstance(attribute, str) and _ATTRIBUTES.fullmatch(attribute):
        return attribute
    if embedding.facts.get("task_kind") == "extractive_qa" and model_type(embedding) in _ANSWERING:
        return _ANSWERING[model_type(embedding)]
    return BACKBONES.get(model_type(embedding), "")


def saved_bare(embedding: TaskEmbedding) -> bool:
    """Whether PEFT saved it on a model that is no wrapper around an encoder, and whose type is not known here.

    A language model with its own layers at the top (T5), or a model without a head. Its modules have no prefix.
    """
    return library(embedding) == "peft" and not encoder(embedding)


def depth(embedding: TaskEmbedding) -> int:
    """How many layers the base model has, 0 where it is not known."""
    layers = size(embedding, "num_hidden_layers") or 0
    return layers if layers <= MOST_LAYERS else 0


def size(embedding: TaskEmbedding, name: str) -> int | None:
    """A size of the base model, such as its `hidden_size`, None where it is not known."""
    value = fact(embedding, "architecture", name)
    return value if type(value) is int and value > 0 else None
