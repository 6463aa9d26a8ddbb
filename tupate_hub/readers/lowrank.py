"""LoRA in its many spellings: scales from configurations, grouped factors expanded, factors made into blocks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tupate_hub.arrays import Array, Float32Array
from tupate_hub.errors import FormatError
from tupate_hub.readers.source import Source, short_list

_LITERAL = re.compile(r"\^?(?:\.\*\\?\.?)?[\w-]+(?:\\?\.[\w-]+)*\$?")
_NUMBERED = re.compile(r"\^?(?:\.\*\\?\.?)?[\w-]+(?:\\?\.(?:[\w-]+|\\d\+|\[0-9\]\+))*\$?")
_MOST_PATTERNS = 64
_MOST_GROUPS = 4


@dataclass(frozen=True)
class Patterns:
    r"""Numbers by module, as PEFT's `alpha_pattern` gives them: the first pattern that matches a module's end counts.

    PEFT (peft/utils/other.py, get_pattern_key, 0.21) matches regular expressions. A stranger's expression may take
    exponential time, so only names, numbers (`\d+`) and a leading `.*` are read, and every other one is refused.
    """

    literal: Mapping[str, tuple[int, float]]
    below: Mapping[str, tuple[int, float]]
    anchored: Mapping[str, tuple[int, float]]
    numbered: Sequence[tuple[re.Pattern[str], int, float]]

    def get(self, module: str, default: float) -> float:
        """The number for a module, named as in the model (without `base_model.model.`)."""
        matches = [self.anchored[module]] if module in self.anchored else []
        pieces = module.split(".")
        for start in range(len(pieces)):
            end = ".".join(pieces[start:])
            if end in self.literal:
                matches.append(self.literal[end])
            if start and end in self.below:
                matches.append(self.below[end])
        matches += [(order, value) for pattern, order, value in self.numbered if pattern.search(module)]
        return min(matches)[1] if matches else default


def parse_patterns(source: Source, key: str) -> Patterns:
    """The configuration's `alpha_pattern`.

    Raises
    ------
    FormatError
        For an expression beyond those that `Patterns` reads, or a value that is not a number.
    """
    literal: dict[str, tuple[int, float]] = {}
    below: dict[str, tuple[int, float]] = {}
    anchored: dict[str, tuple[int, float]] = {}
    numbered: list[tuple[re.Pattern[str], int, float]] = []
    written = source.mapping(key)
    for order, pattern in enumerate(written):
        value = source.number(pattern, 0.0, written)
        if len(pattern) > 300 or not (_LITERAL.fullmatch(pattern) or _NUMBERED.fullmatch(pattern)):
            raise source.refuse(f"has a {key} whose expression {pattern[:80]!r} is not read.")
        start, free, name = pattern.startswith("^"), ".*" in pattern, re.sub(r"^\^?(\.\*)?(\\?\.)?|\$$", "", pattern)
        dotted = re.match(r"\^?\.\*\\?\.", pattern) is not None
        if _LITERAL.fullmatch(pattern) and free == dotted:
            kind = below if free else anchored if start else literal
            kind.setdefault(name.replace("\\.", "."), (order, value))
            continue
        boundary = r"\." if dotted else "" if free else "^" if start else r"(?:^|\.)"
        escaped = re.sub(r"(?<!\\)\.", r"\\.", name)
        numbered.append((re.compile(f"{boundary}{escaped}$"), order, value))
    if len(numbered) > _MOST_PATTERNS:
        raise source.refuse(f"has a {key} of more than {_MOST_PATTERNS} expressions.")
    return Patterns(literal, below, anchored, numbered)


def scale_of(alpha: float, rank: int, rank_stabilised: bool = False) -> float:
    """What multiplies B·A: alpha / r (Hu et al. 2021, section 4.1), or alpha / sqrt(r) (rsLoRA, Kalajdzievski 2023)."""
    return alpha / (math.sqrt(rank) if rank_stabilised else rank) if rank else 0.0


def pair(source: Source, module: str, factors: Mapping[str, Array]) -> tuple[Float32Array, Float32Array]:
    """A of shape (r, in) and B of shape (out, r), with convolutions of one group flattened.

    Raises
    ------
    FormatError
        For a missing half, rank 0, or shapes that do not fit together.
    """
    for half, other in (("A", "B"), ("B", "A")):
        if half not in factors:
            raise source.refuse(f"holds a lora_{other} without its lora_{half}: {module!r}.")
    a, b = factors["A"], factors["B"]
    if a.ndim == b.ndim and a.ndim in (3, 4, 5) and math.prod(b.shape[2:]) == 1:
        a, b = a.reshape(len(a), -1) if len(a) else a, b.reshape(b.shape[:2])
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise source.refuse(f"holds LoRA factors that do not fit together: {module!r} has A {a.shape}, B {b.shape}.")
    if 0 in a.shape or 0 in b.shape:
        raise source.refuse(f"holds LoRA factors of rank or width 0: {module!r}.")
    return a, b


def expand_groups(
    source: Source, module: str, factors: Mapping[str, Array], enabled: Sequence[bool]
) -> tuple[Float32Array, Float32Array]:
    """One ordinary pair equal to a grouped one over a fused projection (loralib's MergedLinear, `enable_lora`).

    A stacks the groups' factors, (groups * r, in); B holds those of the enabled parts only, (groups * width, r), or as
    a convolution's weight with a last axis of 1. The result's B has shape (len(enabled) * width, groups * r): zero
    where a part is not enabled and outside each group's columns.

    Raises
    ------
    FormatError
        When the shapes do not divide into the groups.
    """
    for half in "AB":
        if half not in factors:
            raise source.refuse(f"holds a fused LoRA without its lora_{half}: {module!r}.")
    a, b = factors["A"], factors["B"]
    if b.ndim == 3 and b.shape[2] == 1:
        b = b[:, :, 0]
    groups = sum(enabled)
    if not 0 < groups <= len(enabled) <= _MOST_GROUPS or a.ndim != 2 or b.ndim != 2:
        raise source.refuse(f"holds a fused LoRA of {groups} groups that is not understood: {module!r}.")
    rank = b.shape[1]
    if not rank or len(a) != groups * rank or not len(b) or len(b) % groups:
        raise source.refuse(f"holds a fused LoRA whose shapes do not fit: {module!r} has A {a.shape}, B {b.shape}.")
    width = len(b) // groups
    expanded = np.zeros((len(enabled) * width, groups * rank), dtype=np.float32)
    slots = [slot for slot, on in enumerate(enabled) if on]
    for group, slot in enumerate(slots):
        rows, columns = slice(slot * width, (slot + 1) * width), slice(group * rank, (group + 1) * rank)
        expanded[rows, columns] = b[group * width : (group + 1) * width]
    return a, expanded


def enabled_parts(source: Source, config: Mapping[str, Any]) -> tuple[bool, ...]:
    """The configuration's `enable_lora`, () where there is none.

    Raises
    ------
    FormatError
        When it is not a short list of true and false.
    """
    written = config.get("enable_lora")
    if written is None or written is False:
        return ()
    if not isinstance(written, list) or len(written) > _MOST_GROUPS or not all(type(flag) is bool for flag in written):
        raise source.refuse("has a configuration whose 'enable_lora' is not a list of at most four truth values.")
    return tuple(written)


def one_or_all(ranks: set[int]) -> int | list[int]:
    """The rank of an adapter's blocks where they have one, else every rank that occurs."""
    return min(ranks) if len(ranks) == 1 else sorted(ranks)


def one_adapter_only(source: Source, names: set[str]) -> None:
    """Refuse a file that holds several adapters, by the names in its keys.

    Raises
    ------
    FormatError
        Naming them.
    """
    if len(names) > 1:
        raise FormatError(f"{source.where} holds {len(names)} adapters: {short_list(sorted(names))}.")
