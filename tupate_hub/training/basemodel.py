"""Base model: the folder of the model that is tuned, and the id by which spaces know it. Torch-free."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tupate_hub.architectures import require_tunable
from tupate_hub.errors import FormatError, NotAvailableOffline
from tupate_hub.extras import BASE_MODELS, install_base_model
from tupate_hub.readers.names import is_head
from tupate_hub.registry import SpaceEntry
from tupate_hub.space import normalise_base
from tupate_hub.storage.safetensors import read_tensorfile

#: What the bundled zoo is tuned on.
DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
#: What other models call their sizes: DistilBERT, GPT-2, T5 and BART, whose encoder is meant.
_SIZES: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("dim", "n_embd", "d_model"),
    "num_hidden_layers": ("n_layers", "n_layer", "num_layers", "encoder_layers"),
    "num_attention_heads": ("n_heads", "n_head", "num_heads", "encoder_attention_heads"),
    "intermediate_size": ("hidden_dim", "n_inner", "d_ff", "encoder_ffn_dim"),
    "num_decoder_layers": ("decoder_layers",),
}
_CONFIG = "config.json"
_MOST_CONFIG = 4_000_000
_FILES = ("model.safetensors", "tokenizer_config.json")
_PERHAPS = (
    "tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "spm.model", "sentencepiece.bpe.model",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip


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


def base_sha256(base: Path) -> str:
    """sha256 of the base model's `model.safetensors`, as hexadecimal digits.

    Raises
    ------
    FormatError
        When the folder has no such file.
    """
    digest = hashlib.sha256()
    try:
        with (base / "model.safetensors").open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise FormatError(f"{base} has no model.safetensors.", hint="give the folder of a base model") from error
    return digest.hexdigest()


def find_base(
    written: str | None, spaces: Iterable[SpaceEntry] = (), *, method: str | None = None, kind: str | None = None
) -> BaseModel:
    """The base model that a user names, by folder or by id on the Hub; without a name, the bundled zoo's.

    A folder says by its weights which of the `spaces` it is the base model of; else its configuration, and at last its
    own name, says what it is called. An id is looked for among the installed packages, in transformers' cache and on
    the Hub. Where `method` and `kind` are known, a model that cannot be tuned so is refused by its configuration,
    before anything else of it is read or fetched.

    Raises
    ------
    FormatError
        When the folder holds no base model, there is no such model, or it cannot be tuned.
    NotAvailableOffline
        When it is not in the cache and there is no network.
    TupateHubError
        When the Hub refuses or fails.
    """
    name, model_id, folder = _locate(written)
    require_tunable(_remote_config(name) if folder is None else _config(folder), method, kind)
    if folder is None:
        folder = _fetch(name)
    return BaseModel(_id_of(folder, spaces) if model_id is None else model_id, folder)


def find_config(written: str | None) -> dict[str, Any]:
    """The `config.json` of a base model that is named as in `find_base`, without anything else of it; errors alike."""
    name, _, folder = _locate(written)
    return _remote_config(name) if folder is None else _config(folder)


def _locate(written: str | None) -> tuple[str, str | None, Path | None]:
    """What was named, its id where it was not a folder, and where it is on this computer."""
    name = written or DEFAULT
    folder = Path(name).expanduser()
    if folder.is_dir():
        return name, None, folder
    model_id = normalise_base(name)
    if model_id is None:
        raise FormatError(f"There is no folder {name}.", hint="give its folder or its id on the Hub: `base=MODEL`")
    return name, model_id, installed(model_id) or _cached(name)


def locate(written: str | None) -> Path | None:
    """Where the base model that is named as in `find_base` is on this computer, None where it would be fetched."""
    return _locate(written)[2]


def installed(model_id: str) -> Path | None:
    """The folder of the package that brings a base model, None where it is not installed."""
    brings = BASE_MODELS.get(model_id)
    if brings is None or find_spec(brings.module) is None:
        return None
    return Path(str(import_module(brings.module).get_model_path()))


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
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        return dict(config)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"{folder} has no readable {_CONFIG}.", hint="give the folder of a base model") from error


# --- of the Hub -------------------------------------------------------------------------------------------------


def _cached(name: str) -> Path | None:
    """The folder of the Hub's own cache that has the whole model; nothing is asked for."""
    from tupate_hub.hub.fetch_model import cached_folder

    return cached_folder(name, (_CONFIG, *_FILES))


def _remote_config(name: str) -> dict[str, Any]:
    """The configuration alone, by one request: without a network that is said at once."""
    from tupate_hub.hub import client
    from tupate_hub.hub.location import MODEL, Location

    with _said_of_a_base_model(name):
        answer = client.get_whole(Location(MODEL, name), _CONFIG, _MOST_CONFIG)
    try:
        return dict(json.loads(answer.data))
    except (ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"{name} has no readable {_CONFIG}.", hint="give another base model: `base=MODEL`") from error


def _fetch(name: str) -> Path:
    """The folder in the Hub's own cache, filled from the Hub."""
    from tupate_hub.hub.fetch_model import fetch_model
    from tupate_hub.hub.location import MODEL, Location

    with _said_of_a_base_model(name):
        return fetch_model(Location(MODEL, name), (_CONFIG, *_FILES), _PERHAPS)


@contextmanager
def _said_of_a_base_model(name: str) -> Iterator[None]:
    """What the Hub said, with what to do where it was a base model that was wanted."""
    try:
        yield
    except NotAvailableOffline as error:
        raise _not_here(name) from error
    except FormatError as error:
        raise FormatError(
            f"{name} is not a base model on the Hub: {error.message}", hint="give a folder or another id: `base=MODEL`"
        ) from error


def _not_here(name: str) -> NotAvailableOffline:
    """What to say where the model is nowhere, with the one command that mends it."""
    package = install_base_model(str(normalise_base(name)))
    return NotAvailableOffline(
        f"The base model {name} is not on this computer, and the Hub cannot be reached.",
        hint=package or "`base=FOLDER`, or go online once",
    )
