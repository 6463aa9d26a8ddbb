"""README: the page of an exported folder, with the lines of Python that load it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tupate_hub.embedding import TaskEmbedding
from tupate_hub.export.origin import fact, is_eager, is_trained, library, saved_bare

#: A task's kind in PEFT's words; it has none for multiple choice.
_TASK_TYPES: Mapping[str, str] = {
    "classification": "SEQ_CLS",
    "regression": "SEQ_CLS",
    "extractive_qa": "QUESTION_ANS",
    "token_classification": "TOKEN_CLS",
}
#: The model class with a head, by PEFT's word for the task's kind.
_CLASSES: Mapping[str, str] = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
}
_HEAD = "The task head is not included: it starts anew."
#: Language models, whose head is the base model's own.
_LANGUAGE = frozenset({"CAUSAL_LM", "SEQ_2_SEQ_LM"})


def task_type(embedding: TaskEmbedding) -> str:
    """PEFT's word for the task's kind, or nothing where it has none or the kind is not known."""
    kind = embedding.facts.get("task_kind")
    if kind is not None:
        return _TASK_TYPES.get(str(kind), "")
    word = str(fact(embedding, "settings", "task_type"))
    return word if word in _CLASSES else ""


def language_task(embedding: TaskEmbedding) -> str | None:
    """`task_type` where it is a language model's, which has no head of its own to be missing; else None."""
    word = task_type(embedding)
    return word if word in _LANGUAGE else None


def readme_of_adapters(embedding: TaskEmbedding, with_head: bool = False) -> bytes:
    """How the `adapters` library loads the folder, which has the task's head where it is said to."""
    notes, how = ["The task head, with the labels' names, is loaded too." if with_head else _HEAD], ""
    if is_trained(embedding) and "prompt" in embedding.by_name:
        how = ', attn_implementation="eager"'
        notes.append("The library's fused attention (1.3) would let the prompt see padding, as it never did in tuning.")
    elif is_eager(embedding):
        how = ', attn_implementation="eager"'
        notes.append("The library's fused attention (1.3) would let texts see padding beside such a prefix.")
    padding = _padding(embedding)
    notes += padding.values()
    how += "".join(padding)
    code = [
        "from adapters import AutoAdapterModel",
        "",
        f"model = AutoAdapterModel.from_pretrained({_base(embedding)}{how})",
        'model.load_adapter("PATH", use_safetensors=True, set_active=True)',
    ]
    rows = _prefix_length(embedding)
    if rows and library(embedding) == "peft":
        code += _shifted(rows, "[:-count] = positions[count:]")
        notes.append(f"It was tuned with PEFT, where the text's positions start at {rows}, behind the prefix.")
    return _page(embedding, notes, code)


def readme_of_peft(embedding: TaskEmbedding, bare: bool) -> bytes:
    """How PEFT loads a folder of LoRA or IA3."""
    bare = bare or (saved_bare(embedding) and not language_task(embedding))
    auto = "AutoModel" if bare else _auto_class(embedding)
    padding = {} if bare else _padding(embedding)
    code = [
        "from peft import PeftModel",
        f"from transformers import {auto}",
        "",
        f"model = {auto}.from_pretrained({_base(embedding)}{''.join(padding)})",
        'model = PeftModel.from_pretrained(model, "PATH")',
    ]
    return _page(embedding, [] if not bare and language_task(embedding) else [_HEAD, *padding.values()], code)


def readme_of_peft_prompt(embedding: TaskEmbedding, bare: bool) -> bytes:
    """How PEFT loads a folder of a prompt or a prefix."""
    auto = "AutoModel" if bare else _auto_class(embedding)
    base = f"{auto}.from_pretrained({_base(embedding)})"
    notes = [_HEAD]
    if bare:
        code = ["from peft import PeftModel", f"from transformers import {auto}", "", f"model = {base}"]
        wrap = ['model = PeftModel.from_pretrained(model, "PATH")']
    else:
        notes.append("`PeftModel.from_pretrained` would ask for the head's weights, so the prompt is put in by hand.")
        code = [
            "from peft import PeftConfig, get_peft_model",
            "from safetensors.torch import load_file",
            f"from transformers import {auto}",
            "",
            f"model = {base}",
        ]
        wrap = [
            'model = get_peft_model(model, PeftConfig.from_pretrained("PATH"))',
            'tuned = load_file("PATH/adapter_model.safetensors")["prompt_embeddings"]',
            'model.prompt_encoder["default"].embedding.weight.data = tuned',
        ]
    rows = _prefix_length(embedding)
    if bare:
        notes.append("PEFT passes no `token_type_ids` on to such a model.")
    if rows and library(embedding) == "adapters":
        code += _shifted(rows, "[count:] = positions[:-count]")
        notes.append(
            f"It was tuned with the adapters library, where the text's positions start at 0; PEFT's at {rows}."
        )
    return _page(embedding, notes, code + wrap)


def readme_of_biases(embedding: TaskEmbedding) -> bytes:
    """How tuned biases are put into the base model; without code where it is not known what they are relative to."""
    relative = fact(embedding, "settings", "delta")
    relative = True if relative is None and is_trained(embedding) else relative
    if not isinstance(relative, bool):
        return _page(
            embedding, ["Nothing says whether these are biases or their difference from the base model's."], []
        )
    code = [
        "import torch",
        "from safetensors.torch import load_file",
        "from transformers import AutoModel",
        "",
        f"model = AutoModel.from_pretrained({_base(embedding)})",
        "with torch.no_grad():",
        f"    for name, bias in load_file({json.dumps(f'PATH/{embedding.task}.safetensors')}).items():",
        f'        model.get_parameter(name.removesuffix(".bias")).{"add_" if relative else "copy_"}(bias)',
    ]
    return _page(embedding, [_HEAD], code)


def as_json(config: Mapping[str, Any]) -> bytes:
    """A configuration file, the same for the same configuration."""
    return (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()


def _base(embedding: TaskEmbedding) -> str:
    """The base model's name as a literal: it may be a stranger's text."""
    return json.dumps(embedding.space.base)


def _padding(embedding: TaskEmbedding) -> dict[str, str]:
    """What a decoder has to be told of its padding, as an argument, with the reason; nothing of other models."""
    pad = fact(embedding, "architecture", "pad_token_id")
    if type(pad) is not int:
        return {}
    return {f", pad_token_id={pad}": f"A head reads the last token before the padding, which is token {pad}."}


def _shifted(count: int, assignment: str) -> list[str]:
    return [
        f"count, positions = {count}, model.base_model.embeddings.position_embeddings.weight.data",
        f"positions{assignment}.clone()  # the positions that the prefix was tuned with",
    ]


def _prefix_length(embedding: TaskEmbedding) -> int:
    lengths = [len(block.parts["rows"]) for block in embedding.blocks if block.name.endswith((".keys", ".values"))]
    return max(lengths, default=0)


def class_of_kind(kind: str) -> str:
    """The model class with a head for a task's kind; the one for classes where the kind is not known."""
    if kind == "multiple_choice":
        return "AutoModelForMultipleChoice"
    return _CLASSES[_TASK_TYPES.get(kind, "SEQ_CLS")]


def _auto_class(embedding: TaskEmbedding) -> str:
    kind = embedding.facts.get("task_kind")
    return class_of_kind(str(kind)) if kind is not None else _CLASSES[task_type(embedding) or "SEQ_CLS"]


def _sum(embedding: TaskEmbedding) -> list[str]:
    """What a blend is the sum of, by the fact that `compare.blend` writes; nothing where it is no such fact."""
    of, weights, kept = (fact(embedding, "blend", name) for name in ("of", "weights", "kept"))
    if not (isinstance(of, list) and isinstance(weights, list) and isinstance(kept, float)):
        return []
    if len(of) != len(weights) or not all(isinstance(weight, float) for weight in weights):
        return []
    parts = [f"{weight:.4g} x {' '.join(str(name).split())[:80]}" for name, weight in zip(of, weights, strict=True)]
    return [f"The sum of the updates {', '.join(parts)}, with {kept:.2%} of its squared norm."]


def _page(embedding: TaskEmbedding, notes: Sequence[str], code: Sequence[str]) -> bytes:
    title = f"# {embedding.task}: {embedding.space}"
    page = [" ".join(title.split()), "", " ".join(["Exported by tupate-hub.", *_sum(embedding), *notes])]
    if code:
        page += ["", "PATH is this folder.", "", "```python", *code, "```"]
    return ("\n".join(page) + "\n").encode()
