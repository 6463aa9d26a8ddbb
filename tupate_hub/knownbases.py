"""Known base models: their ids on the Hub, how wide they are, and the copies that other people keep of them.

Widths are `hidden_size` (`d_model`, `n_embd`) of each model's config.json. A copy is told by its owner and its name:
of a stranger's repository the name alone says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

WIDTHS: Mapping[str, int] = MappingProxyType(
    {
        "albert-base-v2": 768,
        "bert-base-cased": 768,
        "bert-base-multilingual-cased": 768,
        "bert-base-uncased": 768,
        "bert-large-cased": 1024,
        "bert-large-uncased": 1024,
        "distilbert-base-cased": 768,
        "distilbert-base-uncased": 768,
        "distilgpt2": 768,
        "distilroberta-base": 768,
        "facebook/bart-base": 768,
        "facebook/bart-large": 1024,
        "facebook/opt-125m": 768,
        "google/flan-t5-base": 768,
        "google/flan-t5-large": 1024,
        "google/flan-t5-small": 512,
        "google/flan-t5-xl": 2048,
        "google/flan-t5-xxl": 4096,
        "google/gemma-2b": 2048,
        "google/gemma-7b": 3072,
        "google/gemma-2-2b": 2304,
        "google/gemma-2-9b": 3584,
        "google/gemma-3-270m": 640,
        "google/gemma-3-270m-it": 640,
        "google/gemma-3-1b-it": 1152,
        "gpt2": 768,
        "gpt2-large": 1280,
        "gpt2-medium": 1024,
        "gpt2-xl": 1600,
        "meta-llama/Llama-2-7b-hf": 4096,
        "meta-llama/Llama-2-7b-chat-hf": 4096,
        "meta-llama/Llama-2-13b-hf": 5120,
        "meta-llama/Llama-3.1-8B": 4096,
        "meta-llama/Llama-3.1-8B-Instruct": 4096,
        "meta-llama/Llama-3.2-1B": 2048,
        "meta-llama/Llama-3.2-1B-Instruct": 2048,
        "meta-llama/Llama-3.2-3B": 3072,
        "meta-llama/Llama-3.2-3B-Instruct": 3072,
        "meta-llama/Meta-Llama-3-8B": 4096,
        "meta-llama/Meta-Llama-3-8B-Instruct": 4096,
        "microsoft/deberta-v3-base": 768,
        "microsoft/deberta-v3-large": 1024,
        "microsoft/phi-2": 2560,
        "microsoft/Phi-3-mini-4k-instruct": 3072,
        "mistralai/Mistral-7B-Instruct-v0.2": 4096,
        "mistralai/Mistral-7B-Instruct-v0.3": 4096,
        "mistralai/Mistral-7B-v0.1": 4096,
        "mistralai/Mistral-7B-v0.3": 4096,
        "Qwen/Qwen2.5-0.5B": 896,
        "Qwen/Qwen2.5-0.5B-Instruct": 896,
        "Qwen/Qwen2.5-1.5B": 1536,
        "Qwen/Qwen2.5-1.5B-Instruct": 1536,
        "Qwen/Qwen2.5-3B": 2048,
        "Qwen/Qwen2.5-7B": 3584,
        "Qwen/Qwen2.5-7B-Instruct": 3584,
        "roberta-base": 768,
        "roberta-large": 1024,
        "sentence-transformers/all-MiniLM-L6-v2": 384,
        "sentence-transformers/all-mpnet-base-v2": 768,
        "t5-base": 768,
        "t5-large": 1024,
        "t5-small": 512,
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 2048,
        "xlm-roberta-base": 768,
        "xlm-roberta-large": 1024,
    }
)
#: Owners who keep copies of other people's models under the models' own names: quantised ones, and plain mirrors.
MIRRORS = frozenset({"unsloth", "mlx-community", "NousResearch", "TheBloke", "hugging-quants"})
#: What such a copy's name has behind the model's own.
QUANTISED = re.compile(r"[-_](?:unsloth[-_])?(?:bnb[-_])?(?:4|8)bit$|[-_](?:bf16|fp16|GPTQ|AWQ|GGUF)$", re.IGNORECASE)
#: Names of copies that leave out what the model's own name has.
_SHORTER: Mapping[str, str] = MappingProxyType({"mistral7b": "mistralai/Mistral-7B-v0.1"})


def _folded(name: str) -> str:
    """A model's name without what people leave out of it: case, signs, the maker's name before it, `hf` behind it."""
    return re.sub(r"^meta|hf$", "", re.sub(r"[^a-z0-9]", "", name.lower()))


#: Known models by their folded names without owners.
BY_NAME: Mapping[str, str] = MappingProxyType(
    {**{_folded(known.rpartition("/")[2]): known for known in WIDTHS}, **_SHORTER}
)


def original(base: str) -> str:
    """The model that a base model's id, or its name without an owner, is a copy of; the id itself where none is known.

    >>> original("unsloth/llama-3-8b-bnb-4bit"), original("gemma3-270m-it"), original("acme/gpt2")
    ('meta-llama/Meta-Llama-3-8B', 'google/gemma-3-270m-it', 'acme/gpt2')
    """
    owner, _, name = base.rpartition("/")
    if base in WIDTHS or (owner and owner not in MIRRORS):
        return base
    return BY_NAME.get(_folded(QUANTISED.sub("", name)), base)


def is_local_name(base: str) -> bool:
    """Whether a base model is called by a name that is no id of the Hub: one without an owner that nobody knows."""
    return "/" not in base and base not in WIDTHS
