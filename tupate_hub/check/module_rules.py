"""Whole modules beside the method: heads that are there or missing, copies, embeddings, rows of them."""

from __future__ import annotations

from collections.abc import Iterator

from tupate_hub.check.basemodel import is_embedding
from tupate_hub.check.evidence import Evidence
from tupate_hub.check.rule import ISSUES, Found, Rule
from tupate_hub.readers.names import block_name, is_task_head

_MOST_NAMES = 200
_WITH_HEAD = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")
_HEAD_CLASSES = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")


def head_missing(evidence: Evidence) -> Iterator[Found]:
    """A task that needs a head, and no head."""
    if not evidence.tensors or evidence.layout != "peft" or evidence.heads:
        return
    mapping = evidence.config.get("auto_mapping")
    of_class = mapping.get("base_model_class") if isinstance(mapping, dict) else None
    if evidence.config.get("task_type") in _WITH_HEAD:
        yield Found(f"task_type is {evidence.config['task_type']}")
    elif isinstance(of_class, str) and of_class.endswith(_HEAD_CLASSES):
        yield Found(f"it was tuned in a {of_class[:80]}")


def head_there(evidence: Evidence) -> Iterator[Found]:
    """A head, whose number of outputs has to be said when it is loaded."""
    heads = evidence.heads
    if heads:
        rows = [len(evidence.tensors[key]) for key in heads if key.endswith("weight") and evidence.tensors[key].ndim]
        yield Found(f"{min(rows)} outputs" if rows else "", heads)


def saved_nowhere(evidence: Evidence) -> Iterator[Found]:
    """Modules that were to be saved whole and are not there; of heads one is enough: PEFT lists several names."""
    names = evidence.words("modules_to_save")[:_MOST_NAMES]
    if not evidence.tensors or evidence.layout != "peft":
        return
    pieces = {piece for key in evidence.tensors for piece in key.split(".")}
    missing = [name for name in names if not set(name.split(".")) <= pieces]
    heads = {name for name in names if is_task_head(name)}
    if heads - set(missing):
        missing = [name for name in missing if name not in heads]
    if missing:
        yield Found("", tuple(missing))


def full_copies(evidence: Evidence) -> Iterator[Found]:
    """Whole modules beside the method, heads apart."""
    heads = frozenset(evidence.heads)
    whole = [
        key
        for key in evidence.tensors
        if evidence.layout == "peft"
        and evidence.adapter is not None
        and key.endswith(".weight")
        and "lora_" not in key
        and key not in heads
        and evidence.tensors[key].ndim == 2
    ]
    if whole:
        yield Found("", tuple(whole))


def trained_tokens(evidence: Evidence) -> Iterator[Found]:
    """Rows of the embedding that were trained one by one."""
    deltas = [key for key in evidence.tensors if key.endswith("trainable_tokens_delta")]
    if deltas:
        rows = sum(len(evidence.tensors[key]) for key in deltas if evidence.tensors[key].ndim)
        yield Found(f"{rows} rows", tuple(deltas))


def saved_embeddings(evidence: Evidence) -> dict[str, int]:
    """The embeddings and language heads that are saved whole, with their rows."""
    return {
        key: len(array)
        for key, array in evidence.tensors.items()
        if "lora_" not in key and array.ndim == 2 and is_embedding(block_name(key.replace(".base_layer", "")))
    }


MODULES: tuple[Rule, ...] = (
    Rule(
        "head-missing",
        "warning",
        "It was tuned for a task with a head, and the head is not in the file: a new one with random weights answers.",
        "Save it again with the head's name in modules_to_save, and task_type set.",
        f"{ISSUES}/huggingface/peft/issues/577",
        head_missing,
    ),
    Rule(
        "saved-module-missing",
        "warning",
        "modules_to_save names modules of which the file has nothing: those of the base model, or new ones, answer.",
        "Correct the names (print the model) and save again.",
        f"{ISSUES}/huggingface/peft/issues/577",
        saved_nowhere,
    ),
    Rule(
        "head-there",
        "note",
        "It brings a head: the model has to be loaded with the same number of outputs.",
        "Say num_labels when you load the base model.",
        f"{ISSUES}/huggingface/peft/issues/577",
        head_there,
    ),
    Rule(
        "full-copies",
        "note",
        "It replaces whole weights beside the method; vLLM refuses such adapters.",
        "Merge it into the base model to serve it, or train without modules_to_save.",
        f"{ISSUES}/vllm-project/vllm/issues/9280",
        full_copies,
    ),
    Rule(
        "trained-tokens",
        "note",
        "It brings rows of the embedding for single tokens, which are not measured here.",
        "Load it with the tokenizer that was saved beside it.",
        "https://huggingface.co/docs/peft/package_reference/trainable_tokens",
        trained_tokens,
    ),
)
