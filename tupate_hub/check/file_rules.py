"""What the files show: pointers, pickles, what is missing, what cannot be read."""

from __future__ import annotations

from collections.abc import Iterator

from tupate_hub.check.config_rules import unconverted
from tupate_hub.check.evidence import PICKLES, WEIGHTS, Evidence
from tupate_hub.check.rule import ISSUES, Found, Rule
from tupate_hub.embedding import natural_key
from tupate_hub.readers.layouts import CONFIG

_PREFIX = "base_model.model."
_COMPILED = "_orig_mod."


def pointers(evidence: Evidence) -> Iterator[Found]:
    """Git LFS pointers in place of files."""
    if evidence.pointers:
        yield Found("", evidence.pointers)


def no_weights(evidence: Evidence) -> Iterator[Found]:
    """A configuration, and no file that could hold weights."""
    if evidence.config and not evidence.has_weights:
        yield Found()


def foreign_calls(evidence: Evidence) -> Iterator[Found]:
    """What a pickle would import and may call."""
    if evidence.foreign_names:
        yield Found(evidence.weights, evidence.foreign_names)


def pickled(evidence: Evidence) -> Iterator[Found]:
    """Weights in a pickle of nothing but tensors."""
    if evidence.is_pickled and not evidence.foreign_names and evidence.weights not in evidence.pointers:
        yield Found("", (evidence.weights,))


def pickles_beside(evidence: Evidence) -> Iterator[Found]:
    """Other pickles in the folder, which are never opened."""
    beside = [name for name in evidence.files if name.lower().endswith(PICKLES) and name != evidence.weights]
    if beside:
        yield Found("", tuple(beside))


def unrecognised(evidence: Evidence) -> Iterator[Found]:
    """Nothing that looks like an adapter, more than one, or a whole model."""
    if evidence.refusal is not None and evidence.layout in ("", "checkpoint") and not _told(evidence):
        yield Found(evidence.reason)


def unreadable(evidence: Evidence) -> Iterator[Found]:
    """No tensors could be taken out of the weights, for a reason that no other rule names."""
    known = evidence.layout not in ("", "checkpoint")
    if evidence.refusal is not None and known and not evidence.tensors and not _told(evidence):
        yield Found(evidence.reason)


def _told(evidence: Evidence) -> bool:
    """Whether another rule says why nothing could be read."""
    needed = [name for name in evidence.pointers if name == CONFIG or name.lower().endswith(WEIGHTS)]
    return bool(needed or evidence.foreign_names or (evidence.config and not evidence.has_weights))


def refused(evidence: Evidence) -> Iterator[Found]:
    """The tensors are there and their reader does not take them, for a reason that no other rule names."""
    others = (not_finite, unpaired, empty, unconverted)
    if evidence.refusal is not None and evidence.tensors and not any(any(rule(evidence)) for rule in others):
        yield Found(evidence.reason)


def empty(evidence: Evidence) -> Iterator[Found]:
    """Tensors without numbers."""
    names = [key for key, array in evidence.tensors.items() if not array.size]
    if names:
        yield Found(f"{len(names)} of {len(evidence.tensors)} tensors", _sorted(names))


def not_finite(evidence: Evidence) -> Iterator[Found]:
    """NaN or infinity."""
    if evidence.broken:
        yield Found(f"{len(evidence.broken)} of {len(evidence.tensors)} tensors", _sorted(evidence.broken))


def unpaired(evidence: Evidence) -> Iterator[Found]:
    """A factor without its other half, or two that do not fit together."""
    alone = [module for module, keys in evidence.halves.items() if len(keys) < 2]
    if alone:
        yield Found(f"{len(alone)} of {len(evidence.halves)} modules have one factor alone", _sorted(alone))
    shapes = {
        module: [evidence.tensors[keys[half]].shape for half in "AB"]
        for module, keys in evidence.halves.items()
        if len(keys) == 2
    }
    apart = [
        module
        for module, (a, b) in shapes.items()
        if len(a) == len(b) == 2 and a[0] != b[1] and 0 not in (*a, *b) and not evidence.config.get("enable_lora")
    ]
    if apart:
        yield Found(f"{len(apart)} of {len(evidence.halves)} modules have factors of two ranks", _sorted(apart))


def wrapped(evidence: Evidence) -> Iterator[Found]:
    """Keys that PEFT looks for under another name."""
    if evidence.layout != "peft" or not evidence.halves:
        return
    odd = [
        module
        for module in evidence.halves
        if not module.startswith(_PREFIX) or module.startswith(2 * _PREFIX) or _COMPILED in module
    ]
    if odd:
        yield Found(f"{len(odd)} of {len(evidence.halves)} modules", _sorted(odd))


def unknown_tensors(evidence: Evidence) -> Iterator[Found]:
    """Tensors that belong to nothing that is known."""
    count = evidence.adapter.left_out.get("other tensors", 0) if evidence.adapter else 0
    if count:
        yield Found(f"{count} of {len(evidence.tensors)} tensors")


def _sorted(names: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(names, key=natural_key))


FILES: tuple[Rule, ...] = (
    Rule(
        "lfs-pointer",
        "error",
        "A file is a Git LFS pointer of some 130 bytes, and not the file itself.",
        "Fetch it: git lfs pull; or download it from where it was published.",
        "https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md",
        pointers,
    ),
    Rule(
        "no-weights",
        "error",
        "There is a configuration and no file of weights beside it.",
        "Save the adapter again with save_pretrained, and look whether .gitignore or the upload left the weights out.",
        "https://huggingface.co/docs/peft/developer_guides/checkpoint",
        no_weights,
    ),
    Rule(
        "not-recognised",
        "error",
        "Nothing here is recognised as an adapter.",
        "Name the file of weights itself, or put the adapter_config.json that belongs to it beside it.",
        "docs/formats.md",
        unrecognised,
    ),
    Rule(
        "unreadable",
        "error",
        "The weights cannot be read.",
        "Fetch the file again; if it stays so, it has to be saved again by whoever made it.",
        "docs/formats.md",
        unreadable,
    ),
    Rule(
        "pickle-calls",
        "error",
        "The weights are a pickle that names more than tensors: whoever loads it may run code of its author's.",
        "Do not load it. Ask its author for safetensors.",
        "https://docs.python.org/3/library/pickle.html",
        foreign_calls,
    ),
    Rule(
        "pickle",
        "note",
        "The weights are a pickle; this one names nothing but tensors.",
        "Save it as safetensors: save_pretrained does so by default.",
        "https://huggingface.co/docs/hub/security-pickle",
        pickled,
    ),
    Rule(
        "pickles-beside",
        "note",
        "Other pickles lie beside the weights; they are never opened here.",
        "Load none of them; leave optimizer states and training arguments out of what you publish.",
        "https://huggingface.co/docs/hub/security-pickle",
        pickles_beside,
    ),
    Rule(
        "empty-tensors",
        "error",
        "Tensors have no numbers: DeepSpeed's ZeRO-3 keeps them elsewhere when it is not asked to gather them.",
        "Save again after gathering: stage3_gather_16bit_weights_on_model_save, or zero_to_fp32.py.",
        f"{ISSUES}/huggingface/peft/issues/2500",
        empty,
    ),
    Rule(
        "half-a-pair",
        "error",
        "LoRA's factors do not pair: B·A cannot be formed.",
        "Save the adapter again; check any script that renamed, cut or merged its keys.",
        "https://arxiv.org/abs/2106.09685",
        unpaired,
    ),
    Rule(
        "not-finite",
        "error",
        "Numbers are NaN or infinite, and so is everything that the model then says.",
        "Take an earlier checkpoint; train again in bfloat16, with a smaller learning rate.",
        "https://docs.pytorch.org/docs/stable/amp.html",
        not_finite,
    ),
    Rule(
        "wrapped-keys",
        "error",
        "PEFT looks for keys that begin with base_model.model. and the model's own names; of these it loads nothing, "
        "and only warns.",
        "Rename the keys, or save from the model inside of torch.compile or DataParallel.",
        f"{ISSUES}/huggingface/peft/issues/2957; peft 0.21.2, run",
        wrapped,
    ),
    Rule(
        "not-measured",
        "warning",
        "The tensors are there, but this method is not read here: nothing is known of its update.",
        "Load it with its own library and compare the model's output with and without it.",
        "docs/formats.md",
        refused,
    ),
    Rule(
        "unknown-tensors",
        "note",
        "Tensors belong to nothing that is known, and are left out here.",
        "Look at their names: tupate-hub inspect says what is read.",
        "docs/formats.md",
        unknown_tensors,
    ),
)
