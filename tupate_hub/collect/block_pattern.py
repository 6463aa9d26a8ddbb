"""BlockPattern: which of an adapter's tensors are wanted, as a user writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tupate_hub.errors import TupateHubError

_NUMBER = re.compile(r"(?:^|[._])(\d+)(?=[._]|$)")
_MOST_EVERY = 1000


@dataclass(frozen=True)
class BlockPattern:
    """Those with `part` in their names, `*` and `?` allowed, in every so manieth layer, counted from layer 0.

    >>> BlockPattern.parse("value/4").fits("encoder.layer.8.attention.self.value.lora_A.weight")
    True
    >>> BlockPattern.parse("value/4").fits("encoder.layer.9.attention.self.value.lora_A.weight")
    False
    """

    part: str
    every: int = 1

    @staticmethod
    def parse(written: str) -> BlockPattern:
        """`PART`, or `PART/N` for every Nth layer.

        Raises
        ------
        TupateHubError
            When it is neither.
        """
        part, _, every = written.partition("/")
        if not part or ("/" in written and not (every.isascii() and every.isdigit() and 0 < int(every) < _MOST_EVERY)):
            raise TupateHubError(
                f"{written!r} does not say which blocks.",
                hint="a part of their names: `blocks='value'`, or with every how manieth layer: `blocks='value/4'`",
            )
        return BlockPattern(part, int(every or 1))

    def __str__(self) -> str:
        """As it is written."""
        return self.part if self.every == 1 else f"{self.part}/{self.every}"

    def fits(self, name: str) -> bool:
        """Whether a tensor or a block of that name is wanted; one that is in no layer is in none of some layers."""
        if not fnmatchcase(name, f"*{self.part}*"):
            return False
        layer = _NUMBER.search(name)
        return self.every == 1 or (layer is not None and int(layer[1][:9]) % self.every == 0)
