"""Frozen encoder: the base model with another task's parameters for each row of a batch.

A prompt goes in after the first token of the embedded text and is left out of what is pooled, as the zoo's `prompt`
does it; LoRA's update is added to the output of the weight that it changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tupate_hub.arrays import IndexArray
from tupate_hub.embedding import Block
from tupate_hub.errors import FormatError
from tupate_hub.training.device import attention
from tupate_hub.training.precision import half_precision
from tupate_hub.training.subspace.manytasks import Texts

#: The parameters of several tasks by block and part, each of shape (tasks, ...).
Parts = Mapping[str, Mapping[str, torch.Tensor]]

#: On a CPU what a forward pass needs has to stay in its cache.
_AT_ONCE = {"cpu": 24, "cuda": 512}


class FrozenEncoder:
    """A base model of BERT's shape that stands still, for tasks whose parameters have the form of `blocks`.

    Raises
    ------
    FormatError
        For a model of another shape, or a method other than prompts and LoRA.
    """

    def __init__(self, base: Path, blocks: Sequence[Block], device: torch.device, precision: str = "float32") -> None:
        from transformers import AutoModel

        model = AutoModel.from_pretrained(str(base), local_files_only=True, attn_implementation="sdpa")
        if not hasattr(model, "embeddings") or not hasattr(getattr(model, "encoder", None), "layer"):
            raise FormatError(f"{base} is not an encoder of BERT's shape.", hint="take another `base`")
        if not {block.form for block in blocks} <= {"rows", "lowrank"}:
            raise FormatError("The model can be run with prompts and with LoRA alone.", hint="`loss='reconstruction'`")
        self.model = model.eval().requires_grad_(False).to(device)
        self.blocks = blocks
        self.device = device
        self.half = precision == "bfloat16"
        if self.half:  # what autocast would do at every step, as these weights stand still
            for module in self.model.modules():
                if isinstance(module, torch.nn.Linear):
                    module.to(torch.bfloat16)
        self.rows: tuple[Parts, torch.Tensor] | None = None
        for block in blocks:
            if block.form == "lowrank":
                self.model.get_submodule(block.name).register_forward_hook(self._add_update(block))

    @property
    def parameters(self) -> int:
        """How many numbers a task has."""
        return sum(array.size for block in self.blocks for array in block.parts.values())

    def parts(self, flat: torch.Tensor) -> Parts:
        """Parameters of shape (tasks, P), flattened as `TaskEmbedding.vector` does it, by block and part."""
        found: dict[str, dict[str, torch.Tensor]] = {}
        at = 0
        for block in self.blocks:
            for part, array in block.parts.items():
                piece = flat[:, at : at + array.size]
                found.setdefault(block.name, {})[part] = piece.reshape(len(flat), *array.shape)
                at += array.size
        return found

    def vectors(self, texts: Texts, rows: IndexArray, flat: torch.Tensor | None) -> torch.Tensor:
        """Unit vectors, of shape (rows, width) in float32, of texts, each under the parameters of its own task.

        Without parameters it is the base model's own vectors. Texts of similar length share a forward pass, so that
        little is padding.
        """
        by_length = np.argsort(texts.lengths[rows], kind="stable")
        order, back = rows[by_length], np.argsort(by_length, kind="stable")
        parts = None if flat is None else self.parts(flat)
        found = []
        with attention(self.device), half_precision(self.device, self.half):
            for chunk in np.array_split(order, -(-len(order) // _AT_ONCE.get(self.device.type, 64))):
                found.append(self._pooled(texts, chunk, parts))
        return torch.cat(found)[torch.from_numpy(back).to(self.device)]

    def _pooled(self, texts: Texts, rows: IndexArray, parts: Parts | None) -> torch.Tensor:
        most = int(texts.lengths[rows].max())
        at = torch.from_numpy(rows).to(self.device)
        lengths = torch.from_numpy(texts.lengths[rows]).to(self.device)
        task = torch.from_numpy(texts.task[rows]).to(self.device)
        states = self.model.embeddings(input_ids=texts.ids[at, :most], token_type_ids=texts.types[at, :most])
        prompts = [part["rows"][task].to(states.dtype) for part in (parts or {}).values() if "rows" in part]
        count = sum(prompt.shape[1] for prompt in prompts)
        states = torch.cat([states[:, :1], *prompts, states[:, 1:]], dim=1)
        self.rows = None if parts is None else (parts, task)
        seen = torch.arange(most + count, device=self.device) < lengths[:, None] + count
        for layer in self.model.encoder.layer:
            output = layer(states, attention_mask=seen[:, None, None, :])
            states = output[0] if isinstance(output, tuple) else output
        states = torch.cat([states[:, :1], states[:, 1 + count :]], dim=1).float()
        mask = (torch.arange(most, device=self.device) < lengths[:, None])[..., None].float()
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)

    def _add_update(self, block: Block) -> Any:
        def hook(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            if self.rows is None:
                return output
            parts, task = self.rows
            a, b = (parts[block.name][part][task].to(output.dtype) for part in ("A", "B"))
            return output + block.scale * (inputs[0].to(output.dtype) @ a.transpose(1, 2)) @ b.transpose(1, 2)

        return hook
