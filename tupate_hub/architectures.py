"""Architectures: which base models can be tuned, by which methods and for which kinds of task, told by `config.json`.

Torch-free, so that what cannot be done is refused before weights are read or fetched. Facts from adapters 1.3.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tupate_hub.errors import FormatError

Config = Mapping[str, Any]

ENCODER, DECODER, ENCODER_DECODER = "encoder", "decoder", "encoder-decoder"

_NO_PLACE = "the adapters library (1.3) has no place for it there"
_MASKED = "the adapters library (1.3) would compute something else with it"
_OTHER_ATTENTION = "its attention is not written as BERT's is"
_NO_BIASES = "it has no biases"
_FUSED = "its queries, keys and values are one weight, in an order of its own"
_BESIDE_BERT = {"multihead-parallel": _OTHER_ATTENTION, "prompt": _MASKED}
_BEYOND_ENCODERS = {**_BESIDE_BERT, "prompt": _NO_PLACE}
#: Methods with a prefix, whose mask the library's fused attention gets wrong in some models.
_PREFIXED = frozenset({"prefix", "mam"})


@dataclass(frozen=True)
class Architecture:
    """A type of base model.

    `form` is `encoder`, `decoder` or `encoder-decoder`, `backbone` the attribute under which its classes with a head
    keep it. `without` are the methods that cannot be put into it, each with the reason. In methods that are `eager` the
    library's fused attention would let texts see their batch's padding.
    """

    form: str
    backbone: str
    without: Mapping[str, str] = field(default_factory=dict)
    eager: frozenset[str] = frozenset()


ARCHITECTURES: Mapping[str, Architecture] = {
    "albert": Architecture(ENCODER, "albert"),
    "bart": Architecture(ENCODER_DECODER, "model", _BEYOND_ENCODERS),
    "bert": Architecture(ENCODER, "bert"),
    "deberta": Architecture(ENCODER, "deberta", {**_BESIDE_BERT, "lora": _FUSED, "ia3": _FUSED}),
    "deberta-v2": Architecture(ENCODER, "deberta", _BESIDE_BERT),
    "distilbert": Architecture(ENCODER, "distilbert", _BESIDE_BERT, _PREFIXED),
    "electra": Architecture(ENCODER, "electra"),
    "gpt2": Architecture(DECODER, "transformer", _BEYOND_ENCODERS, _PREFIXED),
    "gptj": Architecture(DECODER, "transformer", _BEYOND_ENCODERS, _PREFIXED),
    "llama": Architecture(DECODER, "model", {**_BEYOND_ENCODERS, "bitfit": _NO_BIASES}, _PREFIXED),
    "mbart": Architecture(ENCODER_DECODER, "model", _BEYOND_ENCODERS),
    "mistral": Architecture(DECODER, "model", {**_BEYOND_ENCODERS, "bitfit": _NO_BIASES}, _PREFIXED),
    "mt5": Architecture(ENCODER_DECODER, "transformer", {**_BEYOND_ENCODERS, "bitfit": _NO_BIASES}),
    "plbart": Architecture(ENCODER_DECODER, "model", _BEYOND_ENCODERS),
    "roberta": Architecture(ENCODER, "roberta"),
    "t5": Architecture(ENCODER_DECODER, "transformer", {**_BEYOND_ENCODERS, "bitfit": _NO_BIASES}),
    "xlm-roberta": Architecture(ENCODER, "roberta"),
}
#: Kinds of task for which the library has no head, by the base model's form.
_NO_HEAD: Mapping[str, frozenset[str]] = {
    ENCODER: frozenset(),
    DECODER: frozenset({"multiple_choice"}),
    ENCODER_DECODER: frozenset({"multiple_choice", "token_classification"}),
}


def form_of(model_type: str) -> str:
    """The form of a model type; an encoder where it is not known."""
    known = ARCHITECTURES.get(model_type)
    return ENCODER if known is None else known.form


def require_tunable(config: Config, method: str | None = None, kind: str | None = None, head: str = "trained") -> None:
    """Refuse what cannot be tuned, by the base model's configuration alone.

    Parameters
    ----------
    config : mapping
        A base model's `config.json`.
    method, kind : str, optional
        A tuning method and a kind of task, where they are known yet.
    head : str
        As `Setup.head`.

    Raises
    ------
    FormatError
        Naming the model's type, and what it lacks.
    """
    written = config.get("model_type")
    known = ARCHITECTURES.get(written) if isinstance(written, str) else None
    if known is None:
        raise FormatError(
            f"A base model of type {str(written)[:40]!r} cannot be tuned: the adapters library (1.3) knows none.",
            hint=f"`base=MODEL` of type {', '.join(ARCHITECTURES)}",
        )
    if method is not None and method in known.without:
        left = [name for name in ("lora", "adapter") if name not in known.without]
        raise FormatError(
            f"{method} cannot be put into a {written} model: {known.without[method]}.",
            hint=f"take another method: `method={left[0]!r}`",
        )
    if kind in _NO_HEAD[known.form]:
        raise FormatError(
            f"A {written} model cannot be tuned for {kind}: the adapters library (1.3) has no such head for it.",
            hint="take an encoder, such as BERT: `base=MODEL`",
        )
    if head == "labels" and known.form != ENCODER:
        raise FormatError(
            f"The names of classes cannot be scored by a {written} model: it is no encoder.",
            hint="leave out `head='labels'`",
        )
