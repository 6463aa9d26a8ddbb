"""Record: a finished run as a TaskEmbedding whose header tells everything about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tupate_hub.arrays import Float32Array
from tupate_hub.embedding import Adapter, Block, TaskEmbedding, make_block
from tupate_hub.readers.adapterhub import read_adapterhub
from tupate_hub.readers.names import block_name
from tupate_hub.readers.source import Findings, Source
from tupate_hub.space import Space
from tupate_hub.training.multihead import ATTRIBUTE
from tupate_hub.training.result import Layout, Result

#: Every layer knows the one pool of prefixes; torch names its parameters by the first.
_PREFIX_POOL = re.compile(r".*\.prefix_tuning\.pool\.")


def to_embedding(
    result: Result,
    base: str,
    source: Mapping[str, Any] | None = None,
    *,
    share: str | None = None,
    licence: str | None = None,
) -> TaskEmbedding:
    """The embedding of a finished run.

    Parameters
    ----------
    base : str
        The base model's id on the Hub.
    source : mapping, optional
        Where the embedding comes from, beside that it was trained: `by`, `start_from`, ...
    share : str, optional
        One of `Result.early`: the run after that share of its steps, without the scores, which are those of its end.
    licence : str, optional
        The parameters'. That of a user's is the user's to say.

    Raises
    ------
    ValueError
        When the tensors are not the method's own.
    """
    tensors = result.tensors if share is None else result.early[share]
    adapter, record = read_tensors(tensors, result.layout), result.record
    facts = replace(record, settings={**adapter.settings, **record.settings}).to_facts()
    facts["source"] = {"kind": "trained", **(source or {})}
    if share is not None:
        del facts["scores"]
    if licence is not None:
        facts["licence"] = licence
    return TaskEmbedding(record.task, Space(base, record.method), adapter.blocks, facts)


def read_tensors(tensors: Mapping[str, Float32Array], layout: Layout) -> Adapter:
    """A run's own parameters, read as a stranger's file of them would be."""
    named = {_PREFIX_POOL.sub("prefix_tuning.", name): array for name, array in tensors.items()}
    source = Source(Path(layout.task), Path(layout.task), layout.saved_config, named)
    if not layout.saved_config:
        findings = Findings()
        findings.blocks += _OWN[layout.method](tensors, layout.architecture)
        return findings.adapter(source, layout.method)
    adapter = read_adapterhub(source)
    if adapter.left_out:
        raise ValueError(f"these parameters are not part of {layout.method}: {dict(adapter.left_out)}")
    return adapter


def _biases(tensors: Mapping[str, Float32Array], architecture: Mapping[str, Any]) -> Iterator[Block]:
    for name, difference in tensors.items():
        yield make_block(block_name(name), {"bias": difference})


def _multihead(tensors: Mapping[str, Float32Array], architecture: Mapping[str, Any]) -> Iterator[Block]:
    """One block a head: positions may change places, and a ReLU's input and output may trade a positive factor."""
    heads = architecture["num_attention_heads"]
    for name, keys in tensors.items():
        module, _, part = name.rpartition(".")
        if part == "keys":
            values = tensors[f"{module}.values"]
            halves = zip(np.split(keys, heads, axis=1), np.split(values, heads, axis=1), strict=True)
            attention = block_name(module).removesuffix(f".{ATTRIBUTE}")
            for head, (key, value) in enumerate(halves):
                yield make_block(f"{attention}.head.{head}", {"A": key, "B": value.T})


_OWN: Mapping[str, Callable[[Mapping[str, Float32Array], Mapping[str, Any]], Iterator[Block]]] = {
    "bitfit": _biases,
    "multihead-parallel": _multihead,
}
