"""Bare arrays: a soft prompt that somebody saved without a word about it, or one plain vector."""

from __future__ import annotations

import re
from dataclasses import replace

from tupate_hub.arrays import Array
from tupate_hub.embedding import Adapter, make_block
from tupate_hub.readers.source import BARE, Findings, Source, floats

#: Where the plain vectors of the TuPaTE authors come from: a space of their own, since no model is known.
TUPATE = "JetRunner/TuPaTE"
_TUPATE_SHAPE = (1024,)

_FILE_NAMES = frozenset({"task_prompt", "prompt", "soft_prompt", "prompt_embeddings", "prompts", "embedding", "arr_0"})
_FOLDER = re.compile(r"(?:.*__)?(\w+?)Prompt(?:Roberta|Bert|T5|GPT|Opt|Llama)\w*")


def read_prompt(source: Source) -> Adapter:
    """One array: (tokens, width) is a soft prompt, (width,) a plain vector.

    The base model is the user's to say. The task is told from the file's or its folder's name where that names one.

    Raises
    ------
    FormatError
        When there are several arrays, or one of another shape.
    """
    key, array = _the_array(source)
    values = floats(source, key or "the array", array)
    findings = Findings()
    task = _task(source)
    if values.ndim == 1:
        findings.blocks.append(make_block("vector", {"vector": values}, 1.0, source.where))
        authors = array.dtype == "float64" and array.shape == _TUPATE_SHAPE
        if authors and not source.base:
            findings.notes.append(
                f"Taken for a vector of {TUPATE}, whose method nobody knows: it has a space of its own."
            )
        return replace(findings.adapter(source, "plain", TUPATE if authors else None), task=task)
    if values.ndim != 2:
        raise source.refuse(f"holds an array of shape {values.shape}; a prompt is (tokens, width), a vector (width,).")
    findings.blocks.append(make_block("prompt", {"rows": values}, 1.0, source.where))
    findings.settings["tokens"] = len(values)
    return replace(findings.adapter(source, "prompt"), task=task)


def _the_array(source: Source) -> tuple[str, Array]:
    tensors = source.tensors
    if BARE in tensors or len(tensors) == 1:
        return next(iter(tensors.items()))
    if any("lora_" in key for key in tensors):
        raise source.refuse("holds LoRA factors and no configuration, without which their scale is unknown.")
    raise source.refuse(f"holds {len(tensors)} arrays and no configuration; a soft prompt is one array.")


def _task(source: Source) -> str | None:
    stem = source.weights.stem
    if stem not in _FILE_NAMES:
        return stem
    match = _FOLDER.fullmatch(source.weights.absolute().parent.name)
    return match.group(1) if match else None
