"""Start head: the head of what a run starts from, as the run's own first head, where both mean the same labels."""

from __future__ import annotations

import numpy as np

from tupate_hub.arrays import Float32Array
from tupate_hub.collect.read_head import head_of
from tupate_hub.data.dataset import TaskData
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError, UnknownName
from tupate_hub.head import NAMED, Head
from tupate_hub.search.resolve import find_space
from tupate_hub.training.methods import NAME
from tupate_hub.zoo import Zoo

_WITHOUT = "leave out `start_head`"


def source_head(zoo: Zoo, written: str, source: TaskEmbedding) -> Head:
    """The head of a source: of a task what the registry keeps, of an adapter what is beside it or in it.

    Raises
    ------
    FormatError
        When it has none: a blend has several.
    """
    if "blend" in source.facts:
        raise FormatError(f"{written} is a blend: it has no one head.", hint=_WITHOUT)
    try:
        task = zoo.registry.task(written).name
    except UnknownName:
        head = head_of(written)
    else:
        head = zoo.head(zoo.registry.entry(task, find_space(zoo.registry, source.space).name))
    if head is None:
        raise FormatError(f"No head is kept with {written}.", hint=_WITHOUT)
    return head


def starting_head(head: Head, data: TaskData, width: int) -> dict[str, Float32Array]:
    """A source's head as first values of a run's, by the names of `Setup.start`, in the order of the run's labels.

    Raises
    ------
    FormatError
        When the kind, the labels, the model's width or the form of the head are others.
    """
    if head.kind != data.kind:
        raise FormatError(f"{head.task} is {head.kind}, the data is {data.kind}: its head cannot go on.", hint=_WITHOUT)
    if len(head.layers) > 1 or head.pooled or head.width != width:
        raise FormatError(f"The head of {head.task} is of another form than a run's.", hint=_WITHOUT)
    weight, bias = head.layers[0].weight, head.layers[0].bias
    if head.kind in NAMED:
        if set(head.label_names) != set(data.label_names):
            theirs, ours = (", ".join(names[:6]) for names in (head.label_names, data.label_names))
            raise FormatError(f"{head.task} has other labels ({theirs}) than the data ({ours}).", hint=_WITHOUT)
        order = [head.label_names.index(name) for name in data.label_names]
        weight, bias = weight[order], bias[order]
    if head.kind == "regression":  # the run learns amounts less their mean, in units of their spread
        weight, bias = weight / np.float32(data.spread), (bias - np.float32(data.center)) / np.float32(data.spread)
    return {f"heads.{NAME}.1.weight": weight.astype(np.float32), f"heads.{NAME}.1.bias": bias.astype(np.float32)}
