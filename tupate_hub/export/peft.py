"""PEFT's folders (0.17 to 0.21): `adapter_config.json` and `adapter_model.safetensors`.

The inverse of `tupate_hub.readers.peft`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tupate_hub.arrays import Float32Array
from tupate_hub.embedding import Block, TaskEmbedding, kind_of, layer_of
from tupate_hub.errors import FormatError
from tupate_hub.export.heads import as_saved_modules
from tupate_hub.export.origin import (
    counts_positions,
    depth,
    encoder,
    library,
    model_type,
    refusal,
    require_complete,
    saved_bare,
    size,
)
from tupate_hub.export.places import ATTENTION, gather_prefix, sort_blocks, whole
from tupate_hub.export.readme import (
    as_json,
    language_task,
    readme_of_peft,
    readme_of_peft_prompt,
    task_type,
    task_type_of,
)
from tupate_hub.head import Head
from tupate_hub.readers.names import is_head
from tupate_hub.storage.safetensors import TensorFile

_FORM = "peft"
_ADAPTERS = "`form='adapters'`"
_BARE = "`form='peft'` `bare=True`"
_INPUT = ".input"
#: Model types without a pooler, for which PEFT 0.21.2 takes a prefix's cache for the pooled output (SEQ_CLS).
_CACHE_FOR_LOGITS = frozenset({"roberta", "xlm-roberta"})

Files = dict[str, bytes]
Blocks = Mapping[str, list[Block]]


def as_peft(embedding: TaskEmbedding, bare: bool = False, head: Head | None = None) -> Files:
    """A PEFT adapter folder, for any model class with a head; the head's weights are in it where one is given.

    With `bare`, for a model without a head (`AutoModel`), whose modules have no prefix. PEFT saves a head with LoRA and
    IA3; with prompts and prefixes it is left out.

    Raises
    ------
    FormatError
        When PEFT has no counterpart of the method, or the base's model type is not known.
    """
    require_complete(embedding, _FORM)
    blocks = sort_blocks(embedding, _FORM)
    kinds = tuple(kind for kind in blocks if kind != "bias")
    if kinds not in _WRITERS:
        raise refusal(embedding, _FORM, f"PEFT has no {embedding.space.method}", _ADAPTERS)
    return _WRITERS[kinds](embedding, blocks, bare, head)


def _write_lora(embedding: TaskEmbedding, blocks: Blocks, bare: bool, head: Head | None) -> Files:
    """LoRA, of any ranks and scales; biases of its own (`lora_bias`) are zero where the embedding has none."""
    lowrank = blocks["lowrank"]
    keys = _keys(embedding, (block.name for block in lowrank), bare)
    tensors: dict[str, Float32Array] = {}
    for block in lowrank:
        tensors[f"{keys[block.name]}.lora_A.weight"] = block.parts["A"]
        tensors[f"{keys[block.name]}.lora_B.weight"] = block.parts["B"]
    if "bias" in blocks:
        tensors |= {f"{keys[name]}.lora_B.bias": bias for name, bias in _lora_biases(embedding, blocks).items()}
    ranks = {block.name: len(block.parts["A"]) for block in lowrank}
    alphas = {block.name: whole(block.scale * ranks[block.name]) for block in lowrank}
    rank, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": embedding.space.base,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "target_modules": _target_modules(embedding, lowrank),
        "lora_dropout": 0.0,
        "lora_bias": "bias" in blocks,
        "bias": "none",
        "fan_in_fan_out": model_type(embedding) == "gpt2",
        "inference_mode": True,
    }
    return _headed_folder(embedding, config, tensors, bare, head)


def _lora_biases(embedding: TaskEmbedding, blocks: Blocks) -> dict[str, Float32Array]:
    """A bias beside each B, in the units of its block's scale."""
    biases = {block.name.removesuffix(".bias"): block for block in blocks["bias"]}
    by_block = {}
    for block in blocks["lowrank"]:
        zero = np.zeros(len(block.parts["B"]), dtype=np.float32)
        bias = biases.pop(block.name, None)
        if bias is not None and (bias.scale != block.scale or bias.parts["bias"].shape != zero.shape):
            raise refusal(embedding, _FORM, f"the bias {bias.name[:80]!r} does not fit its LoRA")
        by_block[block.name] = zero if bias is None else bias.parts["bias"]
    if biases:
        raise refusal(embedding, _FORM, f"the bias of {min(biases)[:80]!r} stands beside no LoRA")
    return by_block


def _write_ia3(embedding: TaskEmbedding, blocks: Blocks, bare: bool, head: Head | None) -> Files:
    """IA3: factors of outputs, (out, 1), and of a feed-forward's inputs, (1, in), whose blocks end in `.input`."""
    modules = [block.name.removesuffix(_INPUT) for block in blocks["scaling"]]
    keys = _keys(embedding, modules, bare)
    if len(set(modules)) < len(modules):
        raise refusal(embedding, _FORM, "a layer's inputs and outputs cannot both be scaled")
    tensors = {}
    for block, module in zip(blocks["scaling"], modules, strict=True):
        scaling = block.parts["scaling"]
        tensors[f"{keys[module]}.ia3_l"] = scaling[None] if block.name.endswith(_INPUT) else scaling[:, None]
    inputs = [module for block, module in zip(blocks["scaling"], modules, strict=True) if block.name != module]
    config = {
        "peft_type": "IA3",
        "base_model_name_or_path": embedding.space.base,
        "target_modules": sorted(modules) if inputs else _target_modules(embedding, blocks["scaling"]),
        "feedforward_modules": sorted(inputs),
        "fan_in_fan_out": model_type(embedding) == "gpt2",
        "init_ia3_weights": True,
        "inference_mode": True,
    }
    return _headed_folder(embedding, config, tensors, bare, head)


def _write_prefix(embedding: TaskEmbedding, blocks: Blocks, bare: bool, head: Head | None) -> Files:
    """A flat prefix; the README undoes what the libraries do differently to the text's positions.

    PEFT hands the prefix over as the cache of a text before, so the text's positions start behind it.
    """
    prefix = gather_prefix(embedding, _FORM, blocks["prefix"])
    count = len(prefix.layers)
    if prefix.layers != tuple(range(depth(embedding) or count)):
        raise refusal(embedding, _FORM, "PEFT has no place for a prefix that leaves out layers", _ADAPTERS)
    if prefix.place or model_type(embedding) == "distilbert":
        raise refusal(embedding, _FORM, "the model takes no past keys and values, as PEFT needs", _ADAPTERS)
    if library(embedding) != "peft":
        _require_same_outputs(embedding, bare)
    if not bare and model_type(embedding) in _CACHE_FOR_LOGITS and task_type(embedding) == "SEQ_CLS":
        why = "PEFT's model for classification takes the cache of this model for its output and fails"
        raise refusal(embedding, _FORM, why, _BARE)
    config = {"token_dim": prefix.width, "prefix_projection": False}
    return _prompt_folder(embedding, "PREFIX_TUNING", prefix.rows, count, config, bare)


def _require_same_outputs(embedding: TaskEmbedding, bare: bool) -> None:
    """Refuse a prefix of the adapters library's where PEFT would compute something else.

    Raises
    ------
    FormatError
        When nobody can say, or PEFT drops a part of the input.
    """
    if not library(embedding):
        raise refusal(embedding, _FORM, "nothing says which library's prefix it is, and they differ")
    if not counts_positions(embedding):
        why = "PEFT moves the text's positions behind the prefix, and how this model counts them is not known"
        raise refusal(embedding, _FORM, why, _ADAPTERS)
    if not bare and model_type(embedding) == "bert" and task_type(embedding) == "QUESTION_ANS":
        why = "PEFT's model for extractive questions drops the 'token_type_ids' with which it was tuned"
        raise refusal(embedding, _FORM, why, _ADAPTERS)


def _write_prompt(embedding: TaskEmbedding, blocks: Blocks, bare: bool, head: Head | None) -> Files:
    """A prompt among the word embeddings (Lester et al. 2021); a decoder's rows come after the encoder's."""
    if library(embedding) == "adapters":
        why = "the adapters library puts a prompt behind the embedding layer's positions and norm, PEFT before them"
        raise refusal(embedding, _FORM, why, _ADAPTERS)
    if not library(embedding):
        raise refusal(embedding, _FORM, "nothing says which library's prompt it is, and they differ")
    rows = {block.name: block.parts["rows"] for block in blocks["prompt"]}
    both = set(rows) == {"prompt", "decoder.prompt"} and rows["prompt"].shape == rows["decoder.prompt"].shape
    if not both and set(rows) != {"prompt"}:
        raise refusal(embedding, _FORM, "its prompts are not those of an encoder and a decoder")
    stacked = np.concatenate([rows["prompt"], rows["decoder.prompt"]]) if both else rows["prompt"]
    config = {
        "num_virtual_tokens": len(rows["prompt"]),
        "num_transformer_submodules": 2 if both else 1,
        "token_dim": rows["prompt"].shape[1],
        "prompt_tuning_init": "RANDOM",
    }
    return _prompt_folder(embedding, "PROMPT_TUNING", stacked, depth(embedding) or None, config, bare)


def _prompt_folder(
    embedding: TaskEmbedding,
    peft_type: str,
    rows: Float32Array,
    layers: int | None,
    more: Mapping[str, Any],
    bare: bool,
) -> Files:
    """A folder of prompt learning, which PEFT applies only in a model of its own class for the kind of task.

    Raises
    ------
    FormatError
        When PEFT has no such class.
    """
    kind = "FEATURE_EXTRACTION" if bare else task_type(embedding)
    if not kind:
        why = f"PEFT has no prompts for the kind of task {str(embedding.facts.get('task_kind'))[:40]!r}"
        raise refusal(embedding, _FORM, why, _BARE)
    config = {
        "peft_type": peft_type,
        "task_type": kind,
        "base_model_name_or_path": embedding.space.base,
        "num_virtual_tokens": len(rows),
        "num_layers": layers,  # PEFT asks the model for what is null
        "num_attention_heads": size(embedding, "num_attention_heads"),
        "inference_mode": True,
        **more,
    }
    return _folder(config, {"prompt_embeddings": rows}, readme_of_peft_prompt(embedding, bare))


def _headed_folder(
    embedding: TaskEmbedding,
    config: Mapping[str, Any],
    tensors: Mapping[str, Float32Array],
    bare: bool,
    head: Head | None,
) -> Files:
    """A folder with the task's head, if there is one; PEFT demands it where the kind of task is named.

    PEFT's own class for extractive questions (0.21.2) does not pass `token_type_ids` on, with which BERT was tuned: a
    folder that names no kind is loaded by the class that does.
    """
    if head is None:
        kind = None if bare else language_task(embedding)
        return _folder({**config, "task_type": kind}, tensors, readme_of_peft(embedding, bare))
    saved, modules = as_saved_modules(embedding, head, _FORM)
    drops = head.kind == "extractive_qa" and model_type(embedding) == "bert"
    kind = None if drops else task_type_of(head.kind) or None
    config = {**config, "task_type": kind, "modules_to_save": modules}
    tensors = {**tensors, **{f"base_model.model.{name}": array for name, array in saved.items()}}
    return _folder(config, tensors, readme_of_peft(embedding, bare, head))


def _folder(config: Mapping[str, Any], tensors: Mapping[str, Float32Array], readme: bytes) -> Files:
    return {
        "adapter_config.json": as_json(config),
        "adapter_model.safetensors": TensorFile(tensors, {"format": "pt"}).to_bytes(),
        "README.md": readme,
    }


def _keys(embedding: TaskEmbedding, names: Iterable[str], bare: bool) -> dict[str, str]:
    """PEFT's key of each module. A model with a head has its encoder, but not its head, under an attribute.

    Raises
    ------
    FormatError
        When that attribute is not known.
    """
    classes = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")
    if bare or (saved_bare(embedding) and task_type(embedding) not in classes):
        return {name: f"base_model.model.{name}" for name in names}
    if not encoder(embedding) and not model_type(embedding):
        raise FormatError(
            f"The model type of {embedding.space.base} is not known to the exporter.",
            hint=f"for a model without a head: {_BARE}",
        )
    root = f"{encoder(embedding)}." if encoder(embedding) else ""
    return {name: f"base_model.model.{'' if is_head(name) else root}{name}" for name in names}


def _target_modules(embedding: TaskEmbedding, blocks: list[Block]) -> list[str]:
    """The last parts of the blocks' names where every layer has them, as people write it; else the whole names.

    PEFT adapts every module whose name ends so: a short name would also adapt layers that the embedding lacks.
    """
    names = {block.name for block in blocks}
    places = {kind_of(name) for name in names}
    stems = {layer_of(name).rpartition(".")[0] for name in names}
    everywhere = {f"{stem}.{layer}.{place}" for stem in stems for layer in range(depth(embedding)) for place in places}
    short = len(stems) == 1 and places <= ATTENTION.keys() and names == everywhere
    return sorted({place.rpartition(".")[2] for place in places} if short else names)


_WRITERS: Mapping[tuple[str, ...], Callable[[TaskEmbedding, Blocks, bool, Head | None], Files]] = {
    ("lowrank",): _write_lora,
    ("scaling",): _write_ia3,
    ("prefix",): _write_prefix,
    ("prompt",): _write_prompt,
}
