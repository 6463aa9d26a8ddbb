"""BitFit: tuned biases, as a file of nothing else, or as a whole checkpoint of which only the biases are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tupate_hub.arrays import Array
from tupate_hub.embedding import Adapter, Block, make_block
from tupate_hub.errors import FormatError
from tupate_hub.readers.names import block_name, is_head
from tupate_hub.readers.source import Findings, Source, check_weights, floats, read_weights
from tupate_hub.storage.safetensors import read_file_header, read_pieces, read_tensors

_PROBE = 4096


def bias_blocks(source: Source, tuned: Mapping[str, Array], findings: Findings) -> list[Block]:
    """Blocks of form `bias`: the difference from the base model's tensors where those are given, else as they are.

    Raises
    ------
    FormatError
        When a tensor is not a vector, or the base model lacks one or has it in another shape.
    """
    names = {block_name(key): key for key in tuned}
    if len(names) < len(tuned):
        raise source.refuse("holds two biases of one name.")
    base: Mapping[str, Array] = {}
    if source.base_weights is not None:
        base = read_named(source.base_weights, set(names))
    else:
        findings.notes.append("The biases are raw: give the base model's weights to have the difference from them.")
    findings.settings["delta"] = source.base_weights is not None
    blocks = []
    for name, key in names.items():
        value = floats(source, key, tuned[key])
        if source.base_weights is not None:
            if name not in base or base[name].shape != value.shape:
                raise source.refuse(f"holds {name!r} of shape {value.shape}, which {source.base_weights} lacks.")
            value = value - floats(source, key, base[name])
        blocks.append(make_block(name, {"bias": value}, 1.0, source.where))
    return blocks


def read_biases(source: Source) -> Adapter:
    """A file whose tensors are all called `*.bias`.

    Raises
    ------
    FormatError
        When there is no bias beside the heads', or a tensor is something else.
    """
    findings, tuned = Findings(), {}
    for key, array in source.tensors.items():
        if is_head(key):
            findings.left_out["heads"] += 1
        else:
            tuned[key] = array
    findings.blocks += bias_blocks(source, tuned, findings)
    return findings.adapter(source, "bitfit")


def read_checkpoint(source: Source) -> Adapter:
    """A whole model's checkpoint against its base model: only the biases are read, and a little of every weight.

    Raises
    ------
    FormatError
        Without the base model's weights, or when a weight other than a bias differs: it is not BitFit.
    """
    if source.base_weights is None:
        raise source.refuse(
            "is a whole model, not an adapter; its biases are read only against those of its base model.",
            hint="give the base model's weights: `base_weights=FOLDER`, or add all that was tuned: `minus=FOLDER`",
        )
    findings, tuned = Findings(), {}
    ours = {block_name(key): (key, start) for key, start in _beginnings(source.weights)}
    theirs = {block_name(key): start for file in _files(source.base_weights) for key, start in _beginnings(file)}
    for name, (key, start) in ours.items():
        if is_head(key):
            findings.left_out["heads"] += 1
        elif name.endswith("bias"):
            tuned[name] = key
        elif name in theirs and theirs[name] != start:
            raise source.refuse(
                f"differs from its base model in {name!r}, which is not a bias, so this is not BitFit.",
                hint="add all that was tuned, as a low-rank update: `minus=FOLDER`",
            )
        else:
            findings.left_out["unchanged weights" if name in theirs else "weights that the base model lacks"] += 1
    kept = read_named(source.weights, set(tuned))
    findings.blocks += bias_blocks(source, {tuned[name]: array for name, array in kept.items()}, findings)
    return findings.adapter(source, "bitfit", source.config.get("_name_or_path"))


def read_named(path: Path, names: set[str]) -> dict[str, Array]:
    """The tensors of those canonical names, of a safetensors file or of a folder of them; nothing else is read.

    Raises
    ------
    FormatError
        When there is no safetensors file, or one is malformed.
    """
    named: dict[str, Array] = {}
    for file in _files(path):
        if file.suffix == ".safetensors":
            check_weights(file)
            tensors: Mapping[str, Array] = read_tensors(file, lambda key: block_name(key) in names)
        else:
            tensors = read_weights(file)
        named |= {block_name(key): array for key, array in tensors.items() if block_name(key) in names}
    return named


def _beginnings(path: Path) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Each tensor's key with its dtype, shape and first bytes."""
    _require_safetensors(path)
    for key, entry, data in read_pieces(path, most=_PROBE):
        yield key, (str(entry.get("dtype")), str(entry.get("shape")), data)


def _require_safetensors(path: Path) -> None:
    check_weights(path)
    if path.suffix != ".safetensors":
        raise FormatError(f"{path} is not a safetensors file, the only kind whose tensors are read one by one.")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.safetensors")) or sorted(path.glob("pytorch_model*.bin"))
    if not files:
        raise FormatError(f"{path} holds no model weights.")
    return files


def header_keys(path: Path) -> tuple[str, ...]:
    """The keys of a safetensors file, from its header alone.

    Raises
    ------
    FormatError
        When it is not a safetensors file.
    """
    _require_safetensors(path)
    header, _ = read_file_header(path)
    header.pop("__metadata__", None)
    return tuple(header)
