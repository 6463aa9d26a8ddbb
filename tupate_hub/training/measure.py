"""Measure: the covariance of a base model's inputs over a probe text, for the similarity `effect`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from tupate_hub.compare.input_covariance import InputCovariance
from tupate_hub.errors import FormatError
from tupate_hub.storage.safetensors import read_tensorfile
from tupate_hub.training.model import base_sha256, load_tokenizer

_BATCH, _MOST_TOKENS = 16, 128
Progress = Callable[[Sequence[list[str]]], Iterable[list[str]]]


def probe_text() -> list[str]:
    """The project's own probe text: sentences and questions of many kinds, one a line."""
    text = files("tupate_hub.training").joinpath("probe.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


def measure_input_covariance(
    folder: Path,
    base: str,
    blocks: Sequence[str],
    text: Sequence[str] | None = None,
    *,
    progress: Progress = lambda batches: batches,
) -> InputCovariance:
    """Run a base model over a text and average x xᵀ over the tokens at the inputs of the named blocks.

    Parameters
    ----------
    folder : Path
        The base model's folder; its id on the Hub is `base`.
    blocks : sequence of str
        Weights by their module's path inside the encoder. Blocks that read one input share its covariance.
    text : sequence of str, optional
        One passage each; the project's probe text by default.
    progress : callable, optional
        Wraps the iteration over the batches.

    Raises
    ------
    FormatError
        When the model cannot be loaded or has none of the blocks, or the text no words.
    """
    from transformers.pytorch_utils import Conv1D

    digest = base_sha256(folder)
    tokenizer, model = _load(folder)
    modules = dict(model.named_modules())
    known = [name for name in blocks if isinstance(modules.get(name), (torch.nn.Linear, Conv1D))]
    if not known:
        raise FormatError(f"{folder} has none of the space's weights: {', '.join(list(blocks)[:3])}, ...")
    passages = [passage for passage in (probe_text() if text is None else text) if passage.strip()]
    if not passages:
        raise FormatError("The text to measure on is empty.", hint="leave out `text` for the project's own")
    batches = [passages[start : start + _BATCH] for start in range(0, len(passages), _BATCH)]
    sums: dict[str, torch.Tensor] = {}
    counts: Counter[str] = Counter()
    place: dict[str, str] = {}
    tokens = 0
    with torch.inference_mode():
        for batch in progress(batches):
            encoded = tokenizer(batch, padding=True, truncation=True, return_tensors="pt")
            mask = encoded["attention_mask"].bool()
            tokens += int(mask.sum())
            with _Watch(modules, known) as seen:
                model(**encoded)
            for name, source in _distinct(seen):
                place[name] = source
            for name in dict.fromkeys(place.values()):
                inputs = _vectors(seen[name], mask)
                sums[name] = sums.get(name, 0) + inputs.T @ inputs
                counts[name] += len(inputs)
    inputs_by_name = {name: (total / counts[name]).float().numpy() for name, total in sums.items()}
    return InputCovariance(base, digest, tokens, inputs_by_name, place)


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModel

    read_tensorfile(folder / "model.safetensors")  # told in a sentence where it is damaged
    try:
        tokenizer, model = load_tokenizer(folder), AutoModel.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(f"{folder} is not a base model with a tokenizer that transformers loads.") from error
    if model.config.is_encoder_decoder:
        raise FormatError(f"{folder} is an encoder and a decoder; only models of one stack are measured.")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # what is padded is masked, whatever its token
    positions = getattr(model.config, "max_position_embeddings", _MOST_TOKENS)
    tokenizer.model_max_length = min(_MOST_TOKENS, tokenizer.model_max_length, positions)
    return tokenizer, model.eval()


def _vectors(inputs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The vectors that were read, without padding: one a token, or one a passage where a pooler reads."""
    return (inputs[mask] if inputs.shape[:2] == mask.shape else inputs).double()


class _Watch:
    """Records the input of each named module during a forward pass."""

    def __init__(self, modules: dict[str, Any], names: Iterable[str]) -> None:
        self.modules, self.names = modules, names
        self.seen: dict[str, torch.Tensor] = {}
        self.hooks: list[Any] = []

    def __enter__(self) -> dict[str, torch.Tensor]:
        for name in self.names:

            def record(module: Any, arguments: tuple[torch.Tensor, ...], name: str = name) -> None:
                self.seen[name] = arguments[0]

            self.hooks.append(self.modules[name].register_forward_pre_hook(record))
        return self.seen

    def __exit__(self, *exception: object) -> None:
        for hook in self.hooks:
            hook.remove()


def _distinct(seen: dict[str, torch.Tensor]) -> Iterator[tuple[str, str]]:
    """Each module with the first module that read the very same tensor."""
    first: dict[tuple[int, torch.Size], str] = {}
    for name, tensor in seen.items():
        yield name, first.setdefault((tensor.data_ptr(), tensor.shape), name)
