"""Keys of PEFT's files: each tensor's module and part, and what does not belong to the method, counted."""

from __future__ import annotations

from collections.abc import Mapping

from tupate_hub.arrays import Array
from tupate_hub.readers import lowrank
from tupate_hub.readers.names import is_head, is_task_head
from tupate_hub.readers.products import LOHA, LOKR
from tupate_hub.readers.source import Findings, Source

Modules = dict[str, dict[str, Array]]

#: The module under which PEFT saves what all layers share.
SHARED = "base_model"

_PARTS = {
    "lora_A": "A",
    "lora_B": "B",
    "lora_E": "E",
    "lora_embedding_A": "A",
    "lora_embedding_B": "B",
    "lora_magnitude_vector": "magnitude",
    "ia3_l": "scaling",
    "ln_tuning_layers": "norm",
    "beft_bias": "beft",
    **{name: name for name in (*LOHA, *LOKR)},
    **{name: name for name in ("vera_lambda_b", "vera_lambda_d", "vera_A", "vera_B")},
    **{f"vblora_logits_{half}{end}": half + end for half in "AB" for end in ("", "_topk_indices", "_topk_weights")},
    "vblora_vector_bank": "bank",
    "delora_A": "A",
    "delora_B": "B",
    "delora_lambda": "lambda",
    "delora_w_norm": "norms",
}

_MOST_COPIES = 1000
_TOKENS = "Trained rows of the embedding are left out: they name tokens and not a place in the model."


def sort_keys(source: Source, findings: Findings) -> tuple[Modules, dict[str, Array]]:
    """The method's tensors by module and part, and the plain biases; all else is counted as left out."""
    modules: Modules = {}
    biases: dict[str, Array] = {}
    adapters: set[str] = set()
    full_copies = _names_of(source.config.get("modules_to_save"))
    if len(full_copies) > _MOST_COPIES:
        raise source.refuse(f"has a configuration that saves {len(full_copies)} modules in full.")
    for key, array in source.tensors.items():
        pieces = key.split(".")
        at = next((index for index, piece in enumerate(pieces) if piece in _PARTS), None)
        if at is not None and is_task_head(key):
            findings.left_out["heads"] += 1  # an adapter of a head: its shape differs from task to task
            continue
        if at is None:
            _leave_out(findings, biases, key, array, full_copies)
            continue
        module, part, rest = ".".join(pieces[:at]), _PARTS[pieces[at]], pieces[at + 1 :]
        kind = rest.pop() if rest and rest[-1] in ("weight", "bias") else ""
        adapters.update([".".join(rest)] if rest else [])
        findings.note_encoder(module)
        if part == "norm":
            part = kind
        elif kind == "bias":
            part += "_bias"
        parts = modules.setdefault(module, {})
        if part in parts:
            raise source.refuse(f"holds two tensors for one place: {key!r}.")
        parts[part] = array
    lowrank.one_adapter_only(source, adapters)
    return modules, biases


def _leave_out(
    findings: Findings, biases: dict[str, Array], key: str, array: Array, full_copies: frozenset[str]
) -> None:
    pieces = key.split(".")
    if pieces[-1] == "trainable_tokens_delta":
        findings.left_out["trained tokens"] += len(array) if array.ndim else 0
        if _TOKENS not in findings.notes:
            findings.notes.append(_TOKENS)
    elif is_head(key):
        findings.left_out["heads"] += 1
    elif "modules_to_save" in pieces or any(f".{name}." in f".{key}" for name in full_copies):
        findings.left_out["full copies"] += 1
    elif pieces[-1] == "bias":
        biases[key] = array
    elif pieces[-1] == "weight":
        findings.left_out["full copies"] += 1
    else:
        findings.left_out["other tensors"] += 1


def _names_of(written: object) -> frozenset[str]:
    if isinstance(written, str):
        return frozenset({written})
    return frozenset(name for name in written if isinstance(name, str)) if isinstance(written, list) else frozenset()


def count_biases(findings: Findings, biases: Mapping[str, Array]) -> None:
    """Count the plain biases that stand beside a method."""
    if biases:
        findings.left_out["biases"] += len(biases)
        findings.notes.append(f"{len(biases)} tuned biases beside the method are left out.")
