"""Model: the base model with a method's parameters and a head for the task's kind; its state and its predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tupate_hub.architectures import ARCHITECTURES, DECODER, ENCODER_DECODER, form_of, require_tunable
from tupate_hub.data.dataset import Example, TaskData
from tupate_hub.errors import FormatError
from tupate_hub.storage.safetensors import require_whole
from tupate_hub.training.basemodel import base_sha256 as base_sha256
from tupate_hub.training.batches import Batch, collate
from tupate_hub.training.features import Feature
from tupate_hub.training.methods import NAME, Method
from tupate_hub.training.outputs import predict_spans, predict_tags

_ARCHITECTURE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
#: What it has to know of those that are no encoders: at which token a head looks, and how long the second half is.
_BEYOND_ENCODERS = {DECODER: ("pad_token_id",), ENCODER_DECODER: ("num_decoder_layers", "decoder_layers")}
_INPUTS = ("input_ids", "token_type_ids", "attention_mask")


def load_tokenizer(base: Path) -> Any:
    """The base model's tokenizer, which pads behind the text.

    A decoder's often has no token for padding: the one for a text's end takes its place.

    Raises
    ------
    FormatError
        When there is none that can be loaded, or texts of several lengths could not go into one batch.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(base), local_files_only=True)
    except Exception as error:  # the tokenizers library raises it bare
        reason = " ".join(str(error).split())[:120]
        hint = "pip install sentencepiece" if "sentencepiece" in reason else "give a base model with a tokenizer.json"
        raise FormatError(f"{base} has no tokenizer that can be loaded: {reason}", hint=hint) from error
    tokenizer.padding_side = "right"
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise FormatError(f"The tokenizer of {base} has no padding token.", hint="take another `base`")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def build_model(base: Path, data: TaskData, method: Method, init_seed: int) -> Any:
    """The base model with the method's parameters and a linear head for the task's kind, ready to be tuned.

    Every task's parameters start from the same values (`init_seed`), so that embeddings of one space share their
    origin. Dropout is off: attention without it runs in one fused kernel, and short runs do not overfit.

    Raises
    ------
    FormatError
        When the `adapters` library does not know the model's type, or has no such method or head for it.
    """
    model = load_base(base, method.name, data.kind)
    torch.manual_seed(init_seed)
    method.put(model, method.settings)
    torch.manual_seed(init_seed)
    if data.kind == "extractive_qa":
        model.add_qa_head(NAME, num_labels=2, layers=1)
    elif data.kind == "multiple_choice":
        model.add_multiple_choice_head(NAME, num_choices=data.num_labels, layers=1)
    elif data.kind == "token_classification":
        model.add_tagging_head(NAME, num_labels=data.num_labels, layers=1)
    else:
        several = data.kind == "multi_label"
        model.add_classification_head(NAME, num_labels=data.num_labels, layers=1, multilabel=several)
    if NAME in model.adapters_config:
        model.set_active_adapters(NAME)
    model.active_head = NAME
    return model


def load_base(base: Path, method: str | None = None, kind: str | None = None) -> Any:
    """The base model without dropout, whatever its type calls its several kinds of it.

    For the `method` that will be put into it: beside some the library's fused attention would see padding.

    Raises
    ------
    FormatError
        When it cannot be loaded, or not be tuned so.
    """
    from adapters import AutoAdapterModel
    from transformers import AutoConfig

    require_whole(base / "model.safetensors")  # the library raises an error of its own
    try:
        config = AutoConfig.from_pretrained(str(base), local_files_only=True)
        require_tunable(config.to_dict(), method, kind)
        for name, value in list(vars(config).items()):
            if "drop" in name and isinstance(value, float):
                setattr(config, name, 0.0)
        if form_of(config.model_type) == DECODER:  # whose head reads the last token before the padding
            config.pad_token_id = load_tokenizer(base).pad_token_id
        how = {"attn_implementation": "eager"} if method in ARCHITECTURES[config.model_type].eager else {}
        return AutoAdapterModel.from_pretrained(str(base), config=config, local_files_only=True, **how)
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise FormatError(f"{base} cannot be loaded to be tuned: {reason}", hint="take another `base`") from error


def architecture(model: Any) -> dict[str, Any]:
    """What an exporter has to know of the base model: its type and sizes, as far as its configuration has them."""
    config = model.config
    names = (*_ARCHITECTURE, *_BEYOND_ENCODERS.get(form_of(config.model_type), ()))
    return {name: getattr(config, name) for name in names if hasattr(config, name)}


def head_config(model: Any, data: TaskData) -> dict[str, Any]:
    """What the `adapters` library writes about a head, with the labels' own names; {} where there is none.

    Beside that, `pairs` says whether it was tuned on pairs of texts.
    """
    if NAME not in model.heads:
        return {}
    config = dict(model.heads[NAME].config)
    if len(data.label_names) == config.get("num_labels"):
        config["label2id"] = {name: number for number, name in enumerate(data.label_names)}
    return {
        "config": config,
        "hidden_size": model.config.hidden_size,
        "model_class": type(model).__name__,
        "model_type": model.config.model_type,
        "pairs": data.train[0].get("text_b") is not None,
    }


def tuned_state(model: Any) -> dict[str, torch.Tensor]:
    """Copies of the parameters that tuning changes, by name, in the computer's own memory."""
    return {name: value.detach().clone().cpu() for name, value in model.named_parameters() if value.requires_grad}


def is_head(name: str) -> bool:
    """Whether a parameter belongs to the task's head and not to the method."""
    return name.startswith("heads.")


def round_to_float16(
    state: Mapping[str, torch.Tensor], origin: Mapping[str, torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """The state in the precision in which the zoo stores it, as float32: its difference from `origin` where given."""
    origin = origin or {}
    moved = {name: value - origin[name] if name in origin else value for name, value in state.items()}
    return {name: value.to(torch.float16).to(torch.float32) for name, value in moved.items()}


def in_units_of_targets(head: Mapping[str, np.ndarray], data: TaskData) -> dict[str, np.ndarray]:
    """A linear head that predicts a regression's targets themselves, from one that was tuned on the scaled ones."""
    shift = {name: data.center if name.endswith("bias") else 0.0 for name in head}
    return {name: (array * data.spread + shift[name]).astype(array.dtype) for name, array in head.items()}


def predict(
    model: Any, data: TaskData, examples: Sequence[Example], features: Sequence[Feature], pad_id: int
) -> list[Any]:
    """Predicted label of each example: a class, number, choice, text or tags. In float32, without dropout."""
    outputs: dict[int, Any] = {}
    model.eval()
    with torch.inference_mode():
        for chosen, batch in batches_to_score(data.kind, features, pad_id):
            output = model(**put_on(model.device, batch))
            outputs.update(zip(chosen, values_of(output, data.kind), strict=True))
    model.train()
    return labels_from([outputs[index] for index in range(len(features))], data, examples, features)


def batches_to_score(kind: str, features: Sequence[Feature], pad_id: int) -> Iterator[tuple[list[int], Batch]]:
    """The model's inputs for all features, those of similar length together, with the positions of each batch's."""
    order = sorted(range(len(features)), key=lambda index: features[index].length)
    size = 16 if kind in ("extractive_qa", "multiple_choice") else 64
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        batch = collate([features[index] for index in chosen], pad_id)
        yield chosen, {name: batch[name] for name in _INPUTS if name in batch}


def labels_from(
    values: Sequence[Any], data: TaskData, examples: Sequence[Example], features: Sequence[Feature]
) -> list[Any]:
    """As `read_logits`, of a run's own examples: amounts are in the units of the data, not in those of the run."""
    no_answer = data.metric == "squad_v2_f1"
    labels = read_logits(values, data.kind, examples, features, data.label_names, no_answer=no_answer)
    return [label * data.spread + data.center for label in labels] if data.kind == "regression" else labels


def read_logits(
    values: Sequence[Any],
    kind: str,
    examples: Sequence[Example],
    features: Sequence[Feature],
    label_names: Sequence[str],
    *,
    no_answer: bool = False,
) -> list[Any]:
    """The label of each example, from what the model says of each feature: its logits, of spans those of both ends."""
    if kind == "extractive_qa":
        return list(predict_spans(features, values, examples, no_answer=no_answer))
    if kind == "token_classification":
        return list(predict_tags(features, values, label_names))
    if kind == "regression":
        return [float(row[0]) for row in values]
    if kind == "multi_label":
        return [[int(value > 0) for value in row] for row in values]  # a probability of one half
    return [int(np.argmax(row)) for row in values]


def put_on(device: torch.device, batch: Batch) -> Batch:
    """The batch on a device."""
    return {name: value.to(device) for name, value in batch.items()}


def values_of(output: Any, kind: str) -> list[Any]:
    """What a model says of each row of a batch, as arrays: its logits, of spans those of both ends."""
    if kind == "extractive_qa":
        return list(
            zip(output.start_logits.float().cpu().numpy(), output.end_logits.float().cpu().numpy(), strict=True)
        )
    return list(output.logits.float().cpu().numpy())
