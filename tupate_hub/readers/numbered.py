"""Numbered pairs: LoRA that image segmenters save as `w_a_000`, `w_b_000`, ..., with no configuration and no places.

Written by hand in many repositories after SAMed (Zhang and Liu 2023); MathieuNlp/Sam_LoRA, src/lora.py, numbers the
query and the value of each block of the image encoder in turn, others may number otherwise. So the number is all that
is known of a place, and B·A is the update (no scale is saved, and none is used there).
"""

from __future__ import annotations

import re

from tupate_hub.arrays import Array
from tupate_hub.embedding import Adapter, make_block
from tupate_hub.readers import lowrank
from tupate_hub.readers.source import Findings, Source, floats

_KEY = re.compile(r"w_(?P<half>[ab])_(?P<number>\d{1,6})")


def is_numbered(keys: tuple[str, ...]) -> bool:
    """Whether the keys of a file are those of numbered pairs."""
    return "w_a_000" in keys and "w_b_000" in keys


def read_numbered(source: Source) -> Adapter:
    """The pairs as blocks `pair.0`, `pair.1`, ...; comparable with files of the same code and base model only.

    Raises
    ------
    FormatError
        For a missing half, or shapes that do not fit.
    """
    findings = Findings()
    pairs: dict[int, dict[str, Array]] = {}
    for key, array in source.tensors.items():
        match = _KEY.fullmatch(key)
        if match is None:
            findings.left_out["other tensors"] += 1
        else:
            pairs.setdefault(int(match["number"]), {})[match["half"].upper()] = floats(source, key, array)
    ranks = set()
    for number, factors in pairs.items():
        a, b = lowrank.pair(source, f"pair {number}", factors)
        ranks.add(len(a))
        findings.blocks.append(make_block(f"pair.{number}", {"A": a, "B": b}, 1.0, source.where))
    findings.settings["r"] = lowrank.one_or_all(ranks)
    findings.notes.append(
        "The file numbers its pairs and names neither places nor a scale: it compares with files of the same code only."
    )
    return findings.adapter(source, "lora")
