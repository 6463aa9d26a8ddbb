"""Pickles: what one would import and call, read off its opcodes; nothing in it is ever run.

Opcodes: the standard library's `pickletools`. What pickles may do: https://docs.python.org/3/library/pickle.html
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Iterator

from tupate_hub.errors import FormatError
from tupate_hub.readers.formats.archive import open_archive

_MOST_STEPS = 200_000
_MOST_BYTES = 8_000_000
#: A file of torch before 1.6 holds five, one after the other.
_MOST_PICKLES = 5
_MOST_NAMES = 50
_LONGEST = 100

_REMEMBERS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_RECALLS = frozenset({"GET", "BINGET", "LONG_BINGET"})


def foreign_names(data: bytes) -> tuple[str, ...]:
    """What the pickles of a file name beyond the constructors of tensors: `posix.system`.

    An archive's pickles are its members called `*.pkl`. Nothing for what is no pickle, or is too damaged to be read.
    """
    found: dict[str, None] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escape sequences in texts
        for pickle in _pickles(data):
            for module, name in _globals(pickle):
                if not _builds_tensors(module, name):
                    found.setdefault(f"{module}.{name}"[:_LONGEST])
                if len(found) >= _MOST_NAMES:
                    return tuple(found)
    return tuple(found)


def _pickles(data: bytes) -> Iterator[bytes]:
    if not data.startswith(b"PK\3\4"):
        yield data[:_MOST_BYTES]
        return
    try:
        members = open_archive(data, "").members
    except FormatError:
        return
    for name, member in members.items():
        if name.endswith(".pkl"):
            yield bytes(member.data[:_MOST_BYTES])


def _globals(pickle: bytes) -> Iterator[tuple[str, str]]:
    """Module and name of every global, of at most five pickles one after the other."""
    at = 0
    for _ in range(_MOST_PICKLES):
        if at >= len(pickle):
            return
        texts, end = _Texts(), at
        try:
            for step, (opcode, argument, position) in enumerate(pickletools.genops(pickle[at:])):
                if step > _MOST_STEPS:
                    return
                if opcode.name in ("GLOBAL", "INST"):
                    module, _, name = str(argument).partition(" ")
                    yield module, name
                elif opcode.name == "STACK_GLOBAL":
                    yield texts.last_two()
                texts.follow(opcode, argument)
                end = at + (position or 0) + 1
        except (ValueError, IndexError, KeyError, OverflowError, AttributeError):
            return  # damaged from here on
        at = end


class _Texts:
    """The texts that a pickle has pushed, of which a STACK_GLOBAL takes the last two; anything else counts as "?"."""

    def __init__(self) -> None:
        self.pushed: list[str] = []
        self.memo: dict[object, str] = {}

    def follow(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        """Take note of an opcode."""
        top = self.pushed[-1] if self.pushed else "?"
        if opcode.name == "MEMOIZE":
            self.memo[len(self.memo)] = top
        elif opcode.name in _REMEMBERS:
            self.memo[argument] = top
        elif opcode.name in _RECALLS:
            self.pushed.append(self.memo.get(argument, "?"))
        elif opcode.stack_after:
            self.pushed.append(argument if isinstance(argument, str) else "?")

    def last_two(self) -> tuple[str, str]:
        """Module and name."""
        texts = ["?", "?", *self.pushed]
        return texts[-2], texts[-1]


def _builds_tensors(module: str, name: str) -> bool:
    """Whether torch.save writes this name into every state dict."""
    if module == "torch":
        return name.endswith("Storage") or name == "Size"
    return (module == "torch._utils" and name.startswith("_rebuild_")) or (module, name) == (
        "collections",
        "OrderedDict",
    )
