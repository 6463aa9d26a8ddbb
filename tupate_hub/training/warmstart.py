"""Warm start: a source's tuned parameters as the first values of a run's own.

Where a number of a block came from is not written down a second time: the run's own tensors, filled with their
positions, are read as any adapter is, and each block then shows which position of which tensor fills each of its
places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tupate_hub.arrays import Float32Array
from tupate_hub.compare.blend import blend
from tupate_hub.data.dataset import TaskData
from tupate_hub.embedding import Block, TaskEmbedding, kind_of
from tupate_hub.errors import FormatError, SpaceMismatch, UnknownName
from tupate_hub.export.places import ATTENTION, BESIDE, FEED_FORWARD, FUSED, fused_parts, whole
from tupate_hub.search.resolve import read_query
from tupate_hub.space import Space
from tupate_hub.training.basemodel import BaseModel, find_base
from tupate_hub.training.methods import Method, get_method, saved_config
from tupate_hub.training.model import architecture, build_model, is_head, tuned_state
from tupate_hub.training.record import read_tensors
from tupate_hub.training.result import Layout
from tupate_hub.zoo import Zoo

#: LoRA's targets by what the libraries call them, and the places of a layer where they are.
_CALLED: Mapping[str, str] = {
    "q": "query", "k": "key", "v": "value", "intermediate_lora": "intermediate", "output_lora": "output"
}  # fmt: skip
_TARGETS: Mapping[str, str] = {place: _CALLED[name] for place, name in {**ATTENTION, **FEED_FORWARD}.items()}
#: What readers put into the places of a fused weight that the method does not tune: below every position.
_FIRST_POSITION = 2


def find_source(zoo: Zoo, written: str, *, method: str | None, space: str | None, base: str | None) -> TaskEmbedding:
    """What to start from: a task of the zoo, by name or alias, else an adapter on disk or on the Hub.

    A task is taken from `space`, else from the space of `base` and `method`, as far as they are given, that has it.
    Several, joined by `+`, are blended (`compare.blend`), in the space of the first.

    Raises
    ------
    UnknownName
        When the zoo has no such task, or not in such a space.
    FormatError
        When an adapter cannot be read, or the method's updates do not add up.
    SpaceMismatch
        When what is to be blended is of different spaces.
    """
    if "+" not in written or Path(written).exists() or zoo.registry.called(written) is not None:
        return _find_one(zoo, written, method=method, space=space, base=base)
    names = [name.strip() for name in written.split("+")]
    if "" in names:
        raise UnknownName(f"{written!r} names nothing before or after a '+'.", hint="write a blend as sst2+imdb")
    sources: list[TaskEmbedding] = []
    for name in names:
        beside = sources[0].space if sources else None
        sources.append(_find_one(zoo, name, method=method, space=space, base=base, beside=beside))
    return blend(sources)


def _find_one(
    zoo: Zoo, written: str, *, method: str | None, space: str | None, base: str | None, beside: Space | None = None
) -> TaskEmbedding:
    """One source; a task that is to be blended comes from the space of the first, `beside`, if it is there."""
    try:
        task = zoo.registry.task(written).name
    except UnknownName:
        if not any(mark in written for mark in "/\\.") and not Path(written).exists():
            raise
        try:
            return read_query(written, base)
        except FormatError as error:
            hint = error.hint or "give a task (tupate-hub list), or the folder or file of an adapter or embedding"
            raise FormatError(error.message, hint=hint) from error
    if space is None:
        known = zoo.registry.spaces
        having = [entry for entry in zoo.registry.entries if entry.task == task]
        wanted = [entry for entry in having if beside is not None and known[entry.space].space == beside] or [
            entry
            for entry in having
            if method in (None, known[entry.space].method) and base in (None, known[entry.space].base)
        ]
        spaces = [entry.space for entry in wanted]
        space = zoo.registry.default_space if zoo.registry.default_space in spaces or not spaces else spaces[0]
    return zoo.embedding(task, space)


def source_and_base(
    zoo: Zoo,
    written: str,
    *,
    method: str | None = None,
    space: str | None = None,
    base: str | None = None,
    kind: str | None = None,
) -> tuple[TaskEmbedding, BaseModel]:
    """What to start from, as `find_source`, and its base model: the one that is named, else the source's own.

    Raises
    ------
    SpaceMismatch
        When the source was tuned on another base model than the one that is named.
    TupateHubError
        As `find_source` and `find_base`.
    """
    spaces = zoo.registry.spaces.values()
    named = find_base(base, spaces, method=method, kind=kind) if base else None
    source = find_source(zoo, written, method=method, space=space, base=named.id if named else None)
    base_model = named or find_base(source.space.base, spaces, method=source.space.method, kind=kind)
    if base_model.id != source.space.base:
        raise SpaceMismatch(
            f"{written} was tuned on {source.space.base}, not on {base_model.id}.",
            hint="leave out `base`, or start from another",
        )
    return source, base_model


def method_of(source: TaskEmbedding) -> Method:
    """The method and the sizes that a source was tuned with, read from its blocks.

    Raises
    ------
    FormatError
        When its blocks differ in size, or stand where the method puts none.
    UnknownName
        When its method is not one that can be tuned here.
    """
    method = get_method(source.space.method)
    sizes = _SIZES.get(method.name)
    settings = sizes(source) if sizes else {}
    activation = source.facts.get("settings", {}).get("non_linearity")
    if activation not in (None, "relu") and _forms(source, "bottleneck"):
        raise FormatError(
            f"{source.task} was tuned with the activation {str(activation)[:40]!r}; runs here use relu.",
            hint="start from another: tupate-hub recommend DATA",
        )
    return get_method(method.name, **settings)


def starting_tensors(
    base: Path, data: TaskData, method: Method, init_seed: int, source: TaskEmbedding
) -> dict[str, Float32Array]:
    """What `Setup.start` has to be for a run to begin with the source's parameters.

    `method` has the source's sizes (`method_of`). Places that the source did not change start as they always do.

    Raises
    ------
    SpaceMismatch
        When the method is another.
    FormatError
        When ranks, lengths or places differ, in one sentence.
    """
    return Places.of_run(base, data, method, init_seed).filled_by(source)


@dataclass(frozen=True)
class Places:
    """Where a run has its method's parameters: for several sources of one target they are looked up once.

    `start` are a run's first tensors by name. `own` are its blocks, and `positions` the same blocks with positions in
    all of the run's numbers, one after the other, for values.
    """

    method: str
    start: Mapping[str, Float32Array]
    own: Mapping[str, Block]
    positions: Mapping[str, Block]

    @classmethod
    def of_run(cls, base: Path, data: TaskData, method: Method, init_seed: int) -> Places:
        """Those of a run of the method, whose first values the seed draws."""
        return cls.of_model(build_model(base, data, method, init_seed), method)

    @classmethod
    def of_model(cls, model: Any, method: Method) -> Places:
        """Those of a model that the method's parameters have been put into."""
        origin = tuned_state(model) if method.relative else {}
        fresh = {name: value.numpy() for name, value in tuned_state(model).items() if not is_head(name)}
        start = {name: np.zeros_like(array) if name in origin else array.copy() for name, array in fresh.items()}
        layout = Layout("", method.name, saved_config(model), architecture(model))
        positions = {block.name: block for block in read_tensors(_numbered(start), layout).blocks}
        own = {block.name: block for block in read_tensors(start, layout).blocks}
        return cls(method.name, start, own, positions)

    def filled_by(self, source: TaskEmbedding) -> dict[str, Float32Array]:
        """The run's first tensors with the source's values; errors as `starting_tensors`."""
        if source.space.method != self.method:
            raise SpaceMismatch(
                f"{source.task} was tuned by {source.space.method}, the run is by {self.method}.",
                hint=f"`method={source.space.method!r}`",
            )
        _check_places(source, self.own)
        flat = np.concatenate([array.ravel() for array in self.start.values()])
        for block in source.blocks:
            _fill(flat, block, self.positions[block.name], self.own[block.name], source.task)
        ends = np.cumsum([array.size for array in self.start.values()])[:-1]
        pieces = np.split(flat, ends)
        return {name: piece.reshape(self.start[name].shape) for name, piece in zip(self.start, pieces, strict=True)}


def _numbered(tensors: Mapping[str, Float32Array]) -> dict[str, Float32Array]:
    """The tensors with each number replaced by its position, from 2; float32 holds them up to 2^24.

    Zeros and ones are left to what a reader fills up: the parts of a fused weight (GPT-2's) that are not tuned.
    """
    total = sum(array.size for array in tensors.values())
    if total + _FIRST_POSITION >= 1 << 24:
        raise FormatError(f"{total} tuned parameters are too many to start from others.")
    numbers, at = {}, _FIRST_POSITION
    for name, array in tensors.items():
        numbers[name] = np.arange(at, at + array.size, dtype=np.float32).reshape(array.shape)
        at += array.size
    return numbers


def _check_places(source: TaskEmbedding, own: Mapping[str, Block]) -> None:
    absent = [block.name for block in source.blocks if block.name not in own]
    if absent:
        raise FormatError(
            f"{source.task} changes {absent[0]!r} ({len(absent)} such), where the run has no parameters.",
            hint=f"its places: tupate-hub show {source.task}",
        )
    rows = [name for name, block in own.items() if block.form == "rows" and name not in source.by_name]
    if rows:  # there is no prefix that changes nothing
        raise FormatError(f"{source.task} has no {rows[0]!r} ({len(rows)} such), which the run needs to start with.")


def _fill(flat: Float32Array, block: Block, places: Block, own: Block, task: str) -> None:
    """Put a source's block into the run's numbers; `places` is the run's block with positions for values."""
    if {name: part.shape for name, part in block.parts.items()} != {
        name: part.shape for name, part in own.parts.items()
    }:
        shapes = [", ".join(f"{name} {part.shape}" for name, part in each.parts.items()) for each in (block, own)]
        raise FormatError(
            f"{block.name!r} of {task} is {shapes[0]}; the run's is {shapes[1]}.",
            hint="leave out the method's sizes (`settings`, `budget`, `lora_on`): they are then the source's",
        )
    learned = places.scale != own.scale
    ratio = 1.0 if learned else block.scale / own.scale
    if learned:
        flat[round(places.scale) - _FIRST_POSITION] = block.scale
    for name, part in block.parts.items():
        positions = places.parts[name]
        index = positions.astype(np.int64) - _FIRST_POSITION
        if (index + _FIRST_POSITION != positions).any() or not (
            (index >= -_FIRST_POSITION) & (index < flat.size)
        ).all():
            raise FormatError(
                f"{task} cannot be put into a reparametrised {block.name!r}.", hint="leave out `reparametrise`"
            )
        fixed = index < 0
        if (part[fixed] != own.parts[name][fixed]).any():
            raise FormatError(f"{task} changes a part of {block.name!r} where the run has no parameters.")
        flat[index[~fixed]] = (part * np.float32(ratio) if name in _SCALED else part)[~fixed]


#: The parts that a block's scale multiplies.
_SCALED = frozenset({"B", "up", "up_bias"})


# --- sizes -----------------------------------------------------------------------------------------------------


def _forms(source: TaskEmbedding, form: str) -> list[Block]:
    return [block for block in source.blocks if block.form == form]


def _one(source: TaskEmbedding, what: str, values: Sequence[Any]) -> Any:
    """The value that all blocks share."""
    distinct = sorted(set(values))
    if len(distinct) != 1:
        listed = ", ".join(map(str, distinct[:5])) or "none"
        raise FormatError(f"{source.task} has no single {what} to start from: {listed}.")
    return distinct[0]


def _lora_sizes(source: TaskEmbedding) -> dict[str, Any]:
    blocks = _forms(source, "lowrank")
    of_each = {block.name: _targets_of(block) for block in blocks}
    ranks = [len(block.parts["A"]) // (len(of_each[block.name]) if _is_fused(block) else 1) for block in blocks]
    rank = _one(source, "rank", ranks)
    scale = _one(source, "scale", [block.scale for block in blocks])
    targets = {target for each in of_each.values() for target in each}
    if "" in targets:
        odd = next(name for name, each in of_each.items() if "" in each)
        raise FormatError(f"{source.task} adapts {odd!r}, where no run here can.", hint="tupate-hub recommend DATA")
    return {
        "r": rank,
        "alpha": whole(scale * rank),
        "targets": [name for name in _CALLED.values() if name in targets],
    }


def _is_fused(block: Block) -> bool:
    return kind_of(block.name) == FUSED


def _targets_of(block: Block) -> tuple[str, ...]:
    """LoRA's targets that a block is, several where the weight is fused; "" where no run here adapts it."""
    if not _is_fused(block):
        return (_TARGETS.get(kind_of(block.name), ""),)
    parts = fused_parts(block)
    return ("",) if parts is None else tuple(_CALLED[part] for part in parts[0])


def _bottleneck_sizes(source: TaskEmbedding) -> dict[str, Any]:
    return {"r": _one(source, "bottleneck", [len(block.parts["down"]) for block in _forms(source, "bottleneck")])}


def _parallel_sizes(source: TaskEmbedding) -> dict[str, Any]:
    inside = [BESIDE.get(kind_of(block.name)) == "mh_adapter" for block in source.blocks]
    on = "attention" if _one(source, "place", inside) else "ffn"
    return {**_bottleneck_sizes(source), "on": on}


def _scaling(source: TaskEmbedding) -> dict[str, Any]:
    scales = {block.scale for block in _forms(source, "bottleneck")}
    return {"scaling": scales.pop() if len(scales) == 1 else "learned"}


def _tokens(source: TaskEmbedding) -> dict[str, Any]:
    return {"tokens": _one(source, "length", [len(block.parts["rows"]) for block in _forms(source, "rows")])}


def _tokens_of_heads(source: TaskEmbedding) -> dict[str, Any]:
    return {"tokens": _one(source, "length", [len(block.parts["A"]) for block in source.blocks])}


_SIZES: Mapping[str, Callable[[TaskEmbedding], dict[str, Any]]] = {
    "lora": _lora_sizes,
    "adapter": _bottleneck_sizes,
    "adapter-houlsby": _bottleneck_sizes,
    "parallel": _parallel_sizes,
    "scaled-parallel": lambda source: {**_parallel_sizes(source), **_scaling(source)},
    "prefix": _tokens,
    "prompt": _tokens,
    "mam": lambda source: {**_tokens(source), **_bottleneck_sizes(source), **_scaling(source)},
    "multihead-parallel": _tokens_of_heads,
}
