"""README: the page of an exported folder, with the lines of Python that load it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tupate_hub.embedding import TaskEmbedding
from tupate_hub.export.origin import fact, is_eager, is_trained, library, saved_bare
from tupate_hub.head import Head

#: A task's kind in PEFT's words; it has none for multiple choice.
_TASK_TYPES: Mapping[str, str] = {
    "classification": "SEQ_CLS",
    "regression": "SEQ_CLS",
    "multi_label": "SEQ_CLS",
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
_INCLUDED = "The task head is included, with the labels' names."
#: What a task of a kind may be asked, where it is not a text.
_ASKED: Mapping[str, Any] = {
    "extractive_qa": {"question": "Who wrote it?", "context": "Ada wrote it."},
    "multiple_choice": {"question": "Who wrote it?", "choices": ["Ada", "Charles"]},
}
_IS_THIS_FOLDER = "PATH is this folder."
#: Language models, whose head is the base model's own.
_LANGUAGE = frozenset({"CAUSAL_LM", "SEQ_2_SEQ_LM"})


def task_type(embedding: TaskEmbedding) -> str:
    """PEFT's word for the task's kind, or nothing where it has none or the kind is not known."""
    kind = embedding.facts.get("task_kind")
    if kind is not None:
        return task_type_of(str(kind))
    word = str(fact(embedding, "settings", "task_type"))
    return word if word in _CLASSES else ""


def task_type_of(kind: str) -> str:
    """PEFT's word for a kind of task, or nothing where it has none."""
    return _TASK_TYPES.get(kind, "")


def language_task(embedding: TaskEmbedding) -> str | None:
    """`task_type` where it is a language model's, which has no head of its own to be missing; else None."""
    word = task_type(embedding)
    return word if word in _LANGUAGE else None


def readme_of_adapters(embedding: TaskEmbedding, head: Head | None = None) -> bytes:
    """How the `adapters` library loads the folder, and answers where the task's head is in it."""
    notes, how = [_INCLUDED if head else _HEAD], ""
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
    if head:
        code += answering(embedding, head)
        code[0:1] = [code[0], "from transformers import AutoTokenizer"]
    return _page(embedding, notes, code, head)


def readme_of_peft(embedding: TaskEmbedding, bare: bool, head: Head | None = None) -> bytes:
    """How PEFT loads a folder of LoRA or IA3, and answers where the task's head is in it."""
    if head:
        return _page(embedding, [_INCLUDED], _headed_peft(embedding, head), head)
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


def _headed_peft(embedding: TaskEmbedding, head: Head) -> list[str]:
    auto = class_of_kind(head.kind)
    how = [f"{_base(embedding)}"]
    if head.label_names:
        how.append(f"num_labels={len(head.label_names)}, id2label=dict(enumerate(labels))")
    if head.kind == "multi_label":
        how.append('problem_type="multi_label_classification"')
    if head.kind == "regression":
        how.append('num_labels=1, problem_type="regression"')
    return [
        "from peft import PeftModel",
        f"from transformers import {auto}, AutoTokenizer",
        "",
        *([f"labels = {_literal(head.label_names)}"] if head.label_names else []),
        f"model = {auto}.from_pretrained({', '.join(how)})",
        'model = PeftModel.from_pretrained(model, "PATH").eval()',
        *answering(embedding, head, named=True),
    ]


def answering(embedding: TaskEmbedding, head: Head, named: bool = False) -> list[str]:
    """The lines of Python that follow a `model` with its head, from text to answer; `named` where `labels` are."""
    length = head.facts.get("max_length")
    cut = f", truncation=True, max_length={length if type(length) is int else 128}"
    names = [] if named else [f"labels = {_literal(head.label_names)}"]
    tokenized = f'batch = tokenizer(TEXTS, return_tensors="pt"{cut})'
    by_kind: Mapping[str, list[str]] = {
        "classification": [
            tokenized.replace("TEXTS", '["A text."]') + "  # of a pair: [first], [second]",
            *names,
            "print([labels[number] for number in model(**batch).logits.argmax(-1)])",
        ],
        "multi_label": [
            tokenized.replace("TEXTS", '["A text."]'),
            *names,
            "print([[labels[number] for number in row.nonzero()[:, 0]] for row in model(**batch).logits > 0])",
        ],
        "regression": [tokenized.replace("TEXTS", '["A text."]'), "print(model(**batch).logits[:, 0].tolist())"],
        "token_classification": [
            tokenized.replace("TEXTS", '["A text of several words".split()], is_split_into_words=True'),
            *names,
            "tags = model(**batch).logits.argmax(-1)[0]  # a tag for each piece; a word has that of its first",
            "print([(batch.word_ids()[at], labels[tag]) for at, tag in enumerate(tags)])",
        ],
        "extractive_qa": [
            tokenized.replace("TEXTS", '"Who wrote it?", "Ada wrote it."'),
            "output = model(**batch)",
            "start, end = output.start_logits.argmax(), output.end_logits.argmax()",
            'print(tokenizer.decode(batch["input_ids"][0, start : end + 1]))',
        ],
        "multiple_choice": [
            tokenized.replace(
                "TEXTS", f'["A question?"] * {choices_of(head)}, {_literal(_some_choices(head))}'
            ).replace("return_tensors", "padding=True, return_tensors"),
            "print(model(**{name: value[None] for name, value in batch.items()}).logits.argmax(-1).item())",
        ],
    }
    return ["", f"tokenizer = AutoTokenizer.from_pretrained({_base(embedding)})", *by_kind.get(head.kind, [tokenized])]


def choices_of(head: Head) -> int:
    """How many choices each question has, 2 where nobody says it."""
    count = head.facts.get("choices")
    return count if type(count) is int and 1 < count <= 100 else 2


def _some_choices(head: Head) -> list[str]:
    return [f"Answer {number}." for number in range(1, choices_of(head) + 1)]


def _literal(values: Sequence[str]) -> str:
    """A list of a stranger's texts as Python reads it, inside a block of code."""
    return json.dumps(list(values)).replace("`", "\\u0060")


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


def readme_of_own(embedding: TaskEmbedding, head: Head) -> bytes:
    """How this project loads a folder of a method that no library has a file for."""
    asked = json.dumps(_ASKED.get(head.kind, "A text."))
    code = ["import tupate_hub", "", 'model = tupate_hub.load("PATH")', f"print(model.predict([{asked}]))"]
    return _page(embedding, [_INCLUDED], code, head)


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


def _page(embedding: TaskEmbedding, notes: Sequence[str], code: Sequence[str], head: Head | None = None) -> bytes:
    title = f"# {embedding.task}: {embedding.space}"
    page = [" ".join(title.split()), "", " ".join(["Exported by tupate-hub.", *_sum(embedding), *notes])]
    if code:
        page += ["", _IS_THIS_FOLDER, "", "```python", *code, "```"]
    if head:
        page += ["", "Or, without a line of code: `tupate-hub predict PATH`, with texts or a file of them behind it."]
    return ("\n".join(page) + "\n").encode()


def at_home(files: Mapping[str, bytes], folder: str) -> dict[str, bytes]:
    """The files of an exported folder, whose README names the folder that they are written to."""
    readme = files.get("README.md")
    if readme is None:
        return dict(files)
    text = readme.decode().replace(_IS_THIS_FOLDER, "The folder's path is the one that it was written to.")
    return {**files, "README.md": text.replace("PATH", json.dumps(folder)[1:-1]).encode()}
