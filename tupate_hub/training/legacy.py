"""Legacy: files that torch.save wrote before torch 1.6, which only torch can read."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch

from tupate_hub.arrays import Array
from tupate_hub.errors import FormatError


def load_legacy(path: Path) -> dict[str, Array] | Array:
    """Read a pre-zip file through torch's own allow-list (`torch.load(weights_only=True)`).

    Shapes and names as `tupate_hub.readers.formats.torchfile.parse_torch_file`: a dict of arrays or one
    array, bfloat16 as float32. Give it to `read_torch_file` as `legacy`.

    Raises
    ------
    FormatError
        When torch refuses the file, or it holds no tensors.
    """
    try:
        value = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError, IndexError) as error:
        raise FormatError(f"{path} is refused by torch: it is damaged, or holds more than tensors.") from error
    if isinstance(value, torch.Tensor):
        return _array(value)
    tensors = value.items() if isinstance(value, dict) else ()
    arrays = {key: _array(item) for key, item in tensors if isinstance(key, str) and isinstance(item, torch.Tensor)}
    if not arrays:
        raise FormatError(f"{path} holds no tensors.")
    return arrays


def _array(tensor: torch.Tensor) -> Array:
    plain = tensor.detach()
    return np.asarray((plain.float() if plain.dtype == torch.bfloat16 else plain).contiguous().numpy())
