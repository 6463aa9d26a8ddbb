"""Machine: runs the pickle inside a file of torch.save, which can construct tensors and containers and nothing else.

It is a loop of our own over the few opcodes that torch.save emits (protocols 2 to 5), not a subclass of
`pickle.Unpickler`. The subclass has to be kept from doing things (INST, OBJ, EXT, BUILD on anything, numbers and
buffers of any size); a loop does what is written here and no more, it counts its steps, so time and memory have a
bound, and it never hashes or walks a structure that a stranger nested. Opcodes: the standard library's `pickletools`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tupate_hub.arrays import Array
from tupate_hub.errors import FormatError
from tupate_hub.readers.formats.storages import Storage, Storages, StorageType

MOST_STEPS = 200_000
MOST_DIMENSIONS = 8
_LONGEST_NAME = 256


@dataclass(frozen=True)
class _Call:
    """A global that may be called, with the arguments that the pickle gives."""

    run: Callable[[Machine, tuple[Any, ...]], Any]


class Machine:
    """The stack machine of a pickle, reduced to what torch.save needs.

    Its values are None, bool, int, float, str, tuple, list, dict, arrays, and the three kinds of thing above.
    """

    def __init__(self, code: bytes, storages: Storages, where: str) -> None:
        self.code = code
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages = storages
        self.where = where

    def run(self) -> Any:
        """The value that the pickle leaves.

        Raises
        ------
        FormatError
            For anything that torch.save does not write.
        """
        code, most = self.code, len(self.code)
        for _ in range(MOST_STEPS):
            if self.at >= most:
                raise self.truncated()
            opcode = code[self.at]
            self.at += 1
            if opcode == _STOP:
                value = self.pop()
                if self.stack:
                    raise self.malformed()
                return value
            step = _STEPS.get(opcode)
            if step is None:
                raise self.refused_opcode(opcode)
            step(self)
        raise FormatError(f"{self.where} holds a pickle of more than {MOST_STEPS} steps, which is not read.")

    def take(self, count: int) -> bytes:
        """The next bytes of the pickle."""
        piece = self.code[self.at : self.at + count]
        if len(piece) != count:
            raise self.truncated()
        self.at += count
        return piece

    def number(self, layout: struct.Struct) -> Any:
        """The next number of the pickle."""
        return layout.unpack(self.take(layout.size))[0]

    def text(self, length: int) -> str:
        """The next `length` bytes as text."""
        try:
            return self.take(length).decode()
        except UnicodeDecodeError as error:
            raise self.malformed() from error

    def line(self) -> str:
        """The bytes up to the next newline as text."""
        end = self.code.find(b"\n", self.at, self.at + _LONGEST_NAME)
        if end < 0:
            raise self.malformed()
        text = self.text(end - self.at)
        self.at += 1
        return text

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def floor(self) -> int:
        """How many values lie below the last mark, out of reach."""
        return self.marks[-1] if self.marks else 0

    def pop(self) -> Any:
        """Take the top of the stack, which must not lie below the last mark."""
        if len(self.stack) <= self.floor():
            raise self.malformed()
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        """Take all values above the last mark, and the mark."""
        if not self.marks:
            raise self.malformed()
        at = self.marks.pop()
        values = self.stack[at:]
        del self.stack[at:]
        return values

    def top(self, kind: type) -> Any:
        """The top of the stack, which has to be of a kind."""
        if len(self.stack) <= self.floor() or type(self.stack[-1]) is not kind:
            raise self.malformed()
        return self.stack[-1]

    def truncated(self) -> FormatError:
        """The error for a pickle that ends too early."""
        return FormatError(f"{self.where} is damaged: its pickle is truncated.")

    def malformed(self) -> FormatError:
        """The error for a pickle that does not add up."""
        return FormatError(f"{self.where} is damaged: its pickle is malformed at byte {self.at}.")

    def refused_opcode(self, opcode: int) -> FormatError:
        """The error for an opcode that constructs more than tensors, or none at all."""
        import pickletools

        name = next((known.name for known in pickletools.opcodes if known.code == chr(opcode)), None)
        if name is None:
            return self.malformed()
        return FormatError(f"{self.where} is refused: its pickle uses {name}, and only tensors are constructed.")


def _find_global(machine: Machine, module: Any, name: Any) -> None:
    allowed = _GLOBALS.get((module, name)) if type(module) is type(name) is str else None
    if allowed is None:
        said = f"{module}.{name}"[:_LONGEST_NAME] if type(module) is type(name) is str else "something nameless"
        raise FormatError(f"{machine.where} is refused: it names {said!r}, and only tensors are constructed.")
    machine.push(allowed)


def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    _find_global(machine, module, name)


def _reduce(machine: Machine) -> None:
    arguments, called = machine.pop(), machine.pop()
    if type(called) is not _Call or type(arguments) is not tuple:
        raise FormatError(f"{machine.where} is refused: its pickle calls something that does not construct a tensor.")
    machine.push(called.run(machine, arguments))


def _build(machine: Machine) -> None:
    # State dicts carry `_metadata` as an attribute; its content is of no use here and is dropped.
    if type(machine.pop()) is not dict or type(machine.top(dict)) is not dict:
        raise machine.malformed()


def _set_items(machine: Machine, items: list[Any]) -> None:
    target = machine.top(dict)
    if len(items) % 2:
        raise machine.malformed()
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Other keys are refused: the hash of a nested tuple takes time exponential in the bytes that write it.
        if type(key) not in (str, int):
            raise FormatError(f"{machine.where} has a dict with keys that are neither text nor whole numbers.")
        target[key] = value


def _set_item(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine, [key, value])


def _append(machine: Machine) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _extend(machine: Machine) -> None:
    values = machine.pop_to_mark()
    machine.top(list).extend(values)


def _tuple_of(count: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        at = len(machine.stack) - count
        if at < machine.floor():
            raise machine.malformed()
        machine.stack[at:] = [tuple(machine.stack[at:])]

    return step


def _remember(machine: Machine, index: int) -> None:
    if len(machine.stack) <= machine.floor():
        raise machine.malformed()
    machine.memo[index] = machine.stack[-1]


def _recall(machine: Machine, index: int) -> None:
    if index not in machine.memo:
        raise machine.malformed()
    machine.push(machine.memo[index])


def _long(machine: Machine) -> None:
    length = machine.take(1)[0]
    if length > 8:
        raise FormatError(f"{machine.where} holds a number of {length} bytes, which no tensor needs.")
    machine.push(int.from_bytes(machine.take(length), "little", signed=True))


def _persistent(machine: Machine) -> None:
    name = machine.pop()
    if type(name) is not tuple or len(name) != 5:
        raise machine.malformed()
    tag, kind, key, _, length = name
    known = type(kind) is StorageType and type(key) is str and type(length) is int
    if type(tag) is not str or tag != "storage" or not known:
        raise machine.malformed()
    machine.push(machine.storages.open(kind, key, length))


def _rebuild_tensor(machine: Machine, arguments: tuple[Any, ...]) -> Array:
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])."""
    if len(arguments) not in (6, 7) or type(arguments[0]) is not Storage:
        raise machine.malformed()
    storage, offset, shape, strides = arguments[:4]
    if type(shape) is not tuple or type(strides) is not tuple or len(shape) != len(strides):
        raise machine.malformed()
    if len(shape) > MOST_DIMENSIONS:
        most = f"at most {MOST_DIMENSIONS} are read"
        raise FormatError(f"{machine.where} has a tensor of {len(shape)} dimensions; {most}.")
    if not all(type(number) is int and number >= 0 for number in (offset, *shape, *strides)):
        raise FormatError(f"{machine.where} has a tensor whose offset, size or stride is not a natural number.")
    # torch keeps the lazy negation and conjugation of a tensor here.
    if len(arguments) == 7 and arguments[6] is not None and (type(arguments[6]) is not dict or arguments[6]):
        raise FormatError(f"{machine.where} has a tensor with metadata, which is not read.")
    return machine.storages.view(storage, offset, shape, strides)


def _rebuild_parameter(machine: Machine, arguments: tuple[Any, ...]) -> Array:
    """torch._utils._rebuild_parameter(data, requires_grad, hooks)."""
    if len(arguments) != 3 or not isinstance(arguments[0], np.ndarray):
        raise machine.malformed()
    return arguments[0]


def _ordered_dict(machine: Machine, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    if arguments:
        raise machine.malformed()
    return {}


def _size(machine: Machine, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(arguments) != 1 or type(arguments[0]) is not tuple:
        raise machine.malformed()
    return arguments[0]


def _widen_bfloat16(array: Array) -> Array:
    wide = array.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


#: Everything that a pickle may name. Nothing is ever imported by name.
_GLOBALS: Mapping[tuple[str, str], _Call | StorageType] = {
    ("collections", "OrderedDict"): _Call(_ordered_dict),
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Call(_rebuild_parameter),
    ("torch", "Size"): _Call(_size),
    ("torch", "DoubleStorage"): StorageType(np.dtype("<f8")),
    ("torch", "FloatStorage"): StorageType(np.dtype("<f4")),
    ("torch", "HalfStorage"): StorageType(np.dtype("<f2")),
    ("torch", "BFloat16Storage"): StorageType(np.dtype("<u2"), _widen_bfloat16),
    ("torch", "LongStorage"): StorageType(np.dtype("<i8")),
    ("torch", "IntStorage"): StorageType(np.dtype("<i4")),
    ("torch", "ShortStorage"): StorageType(np.dtype("<i2")),
    ("torch", "CharStorage"): StorageType(np.dtype("i1")),
    ("torch", "ByteStorage"): StorageType(np.dtype("u1")),
    # A byte that is neither 0 nor 1 would make a bool that is neither.
    ("torch", "BoolStorage"): StorageType(np.dtype("u1"), lambda array: array != 0),
}

_U1, _U2, _I4, _U4, _U8, _F8 = (struct.Struct(layout) for layout in ("<B", "<H", "<i", "<I", "<Q", ">d"))
_STOP = ord(".")

_STEPS: Mapping[int, Callable[[Machine], None]] = {
    code[0]: step
    for code, step in {
        b"\x80": lambda m: m.take(1) and None,  # PROTO
        b"\x95": lambda m: m.take(8) and None,  # FRAME: a hint for readers of streams
        b"(": lambda m: m.marks.append(len(m.stack)),  # MARK
        b"N": lambda m: m.push(None),  # NONE
        b"\x88": lambda m: m.push(True),  # NEWTRUE
        b"\x89": lambda m: m.push(False),  # NEWFALSE
        b"K": lambda m: m.push(m.number(_U1)),  # BININT1
        b"M": lambda m: m.push(m.number(_U2)),  # BININT2
        b"J": lambda m: m.push(m.number(_I4)),  # BININT
        b"\x8a": _long,  # LONG1
        b"G": lambda m: m.push(m.number(_F8)),  # BINFLOAT
        b"\x8c": lambda m: m.push(m.text(m.number(_U1))),  # SHORT_BINUNICODE
        b"X": lambda m: m.push(m.text(m.number(_U4))),  # BINUNICODE
        b"\x8d": lambda m: m.push(m.text(m.number(_U8))),  # BINUNICODE8
        b")": lambda m: m.push(()),  # EMPTY_TUPLE
        b"\x85": _tuple_of(1),  # TUPLE1
        b"\x86": _tuple_of(2),  # TUPLE2
        b"\x87": _tuple_of(3),  # TUPLE3
        b"t": lambda m: m.push(tuple(m.pop_to_mark())),  # TUPLE
        b"]": lambda m: m.push([]),  # EMPTY_LIST
        b"a": _append,  # APPEND
        b"e": _extend,  # APPENDS
        b"}": lambda m: m.push({}),  # EMPTY_DICT
        b"s": _set_item,  # SETITEM
        b"u": lambda m: _set_items(m, m.pop_to_mark()),  # SETITEMS
        b"q": lambda m: _remember(m, m.number(_U1)),  # BINPUT
        b"r": lambda m: _remember(m, m.number(_U4)),  # LONG_BINPUT
        b"\x94": lambda m: _remember(m, len(m.memo)),  # MEMOIZE
        b"h": lambda m: _recall(m, m.number(_U1)),  # BINGET
        b"j": lambda m: _recall(m, m.number(_U4)),  # LONG_BINGET
        b"c": lambda m: _find_global(m, m.line(), m.line()),  # GLOBAL
        b"\x93": _stack_global,  # STACK_GLOBAL
        b"Q": _persistent,  # BINPERSID
        b"R": _reduce,  # REDUCE
        b"b": _build,  # BUILD
    }.items()
}
