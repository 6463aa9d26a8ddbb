"""The file that torch.save writes, read without torch: it can construct tensors and containers, and nothing else.

Format: torch/serialization.py (`_save`), since torch 1.6 a zip archive of stored members: `data.pkl`, a pickle of the
structure; `data/<key>`, the bytes of each storage; `byteorder`.

`archive` finds the members, `torchpickle` runs the pickle, `storages` turns bytes into arrays.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tupate_hub.arrays import Array
from tupate_hub.errors import FormatError
from tupate_hub.extras import install_command
from tupate_hub.readers.formats.archive import open_archive
from tupate_hub.readers.formats.storages import Storages
from tupate_hub.readers.formats.torchpickle import Machine

Tensors = dict[str, Array]

#: Ten thousand tensors take some 2.5 MB.
_MOST_PICKLE = 4_000_000
_LEGACY_MAGIC = b"\x80\x02\x8a\x0a"
_LFS_MAGIC = b"version https://git-lfs"

#: Tensors that share storages may repeat the file's bytes this often, and this many bytes are always free.
_MOST_REPEATS, _FREE_BYTES = 2, 1_000_000
#: Where AdapterHub's library saves one prefix again for every layer: these are counted once.
_POOL = re.compile(r"\.(?:layers?|block|h)\.\d+(?=\..*\.prefix_tuning\.pool\.)")

#: The keys under which training loops keep the state dict of a model, first come first served.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def parse_torch_file(data: bytes, where: str, legacy: Callable[[], Tensors | Array] | None = None) -> Tensors | Array:
    """Read a file of torch.save from memory: a dict of tensors, or one bare tensor.

    Arrays are read-only views of `data` with the shape and strides of the tensor, so a transposed one is not in C
    order; bfloat16 arrives as float32. Tensors that are the same view of one storage arrive as one array object. Values
    of a dict that are not tensors are left out; a checkpoint such as {"state_dict": {...}} is unwrapped once. A file
    from before torch 1.6, which only torch can read, is what `legacy` returns.

    Raises
    ------
    FormatError
        When the bytes are not such a file, are damaged, name a global that is not allowed, or hold no tensors; when a
        storage does not fit its member, or a tensor its storage.
    """
    if legacy is not None and data.startswith(_LEGACY_MAGIC):
        return legacy()
    _check_kind(data, where)
    archive = open_archive(data, where)
    roots = [name.removesuffix("/data.pkl") for name in archive.members if name.endswith("/data.pkl")]
    if len(roots) != 1 or "/" in roots[0]:
        raise FormatError(f"{where} is a zip archive, but not one that torch.save wrote: it has no data.pkl.")
    order = f"{roots[0]}/byteorder"
    if order in archive.members and bytes(archive.read(order)) != b"little":
        raise FormatError(f"{where} was written in a byte order that is not read; only little-endian files are.")
    pickle = archive.read(f"{roots[0]}/data.pkl")
    if len(pickle) > _MOST_PICKLE:
        raise FormatError(f"{where} has a pickle of {len(pickle)} bytes; at most {_MOST_PICKLE} are read.")
    tensors = _tensors(Machine(bytes(pickle), Storages(archive, roots[0]), where).run(), where)
    if isinstance(tensors, dict):
        _check_repeats(tensors, len(data), where)
    return tensors


def _check_kind(data: bytes, where: str) -> None:
    if data.startswith(b"PK\3\4"):
        return
    if data.startswith(_LEGACY_MAGIC):
        raise FormatError(
            f"{where} is in the format from before torch 1.6, which only torch can read.",
            hint=install_command("train"),
        )
    if data.startswith(_LFS_MAGIC):
        raise FormatError(f"{where} is a Git LFS pointer, not the weights themselves.", hint="git lfs pull")
    raise FormatError(f"{where} was not written by torch.save: it is {'not a zip archive' if data else 'empty'}.")


def _tensors(value: Any, where: str) -> Tensors | Array:
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, dict):
        raise FormatError(f"{where} holds neither a tensor nor a dict of tensors.")
    if not any(isinstance(item, np.ndarray) for item in value.values()):
        wrapped = (value[key] for key in _WRAPPERS if isinstance(value.get(key), dict))
        value = next(wrapped, value)
    tensors = {key: item for key, item in value.items() if isinstance(item, np.ndarray)}
    if not tensors:
        raise FormatError(f"{where} holds no tensors.")
    if not all(isinstance(key, str) for key in tensors):
        raise FormatError(f"{where} numbers its tensors instead of naming them.")
    return tensors


def _check_repeats(tensors: Tensors, size: int, where: str) -> None:
    """Refuse a small file whose tensors share storages so often that copies of them would fill the memory."""
    counted = {(_POOL.sub("", name, count=1), id(array)): array.nbytes for name, array in tensors.items()}
    if sum(counted.values()) > _MOST_REPEATS * size + _FREE_BYTES:
        raise FormatError(f"{where} has tensors that overlap so much that they exceed the file.")
