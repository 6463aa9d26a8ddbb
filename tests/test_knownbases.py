"""Known base models: copies are told by owner and name, and nothing else is taken for one."""

from __future__ import annotations

import pytest

from tupate_hub.knownbases import WIDTHS, is_local_name, original
from tupate_hub.space import normalise_base


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("unsloth/llama-3-8b-bnb-4bit", "meta-llama/Meta-Llama-3-8B"),
        ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", "meta-llama/Llama-3.1-8B-Instruct"),
        ("unsloth/Llama-3.2-1B-Instruct-unsloth-bnb-4bit", "meta-llama/Llama-3.2-1B-Instruct"),
        ("unsloth/mistral-7b-bnb-4bit", "mistralai/Mistral-7B-v0.1"),
        ("unsloth/mistral-7b-instruct-v0.3-bnb-4bit", "mistralai/Mistral-7B-Instruct-v0.3"),
        ("unsloth/gemma-2-2b", "google/gemma-2-2b"),
        ("unsloth/Qwen2.5-7B-Instruct-bnb-4bit", "Qwen/Qwen2.5-7B-Instruct"),
        ("NousResearch/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf"),
        ("mlx-community/Qwen2.5-0.5B-Instruct-4bit", "Qwen/Qwen2.5-0.5B-Instruct"),
        ("gemma3-270m-it", "google/gemma-3-270m-it"),
        ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("google-bert/bert-base-uncased", "bert-base-uncased"),
    ],
)
def test_a_copy_counts_as_the_model(written: str, expected: str) -> None:
    assert normalise_base(written) == expected


@pytest.mark.parametrize(
    "written",
    [
        "acme/gpt2",
        "acme/llama-3-8b-bnb-4bit",
        "unsloth/llama-3-8b-mine-bnb-4bit",
        "mymodel",
        "unsloth/",
        "xlnet-base-cased",
    ],
)
def test_nothing_else_does(written: str) -> None:
    assert original(written) == written


def test_known_models_are_themselves() -> None:
    assert [original(base) for base in WIDTHS] == list(WIDTHS)
    assert all(width % 64 == 0 for width in WIDTHS.values())


def test_a_name_without_an_owner_is_local_unless_it_is_known() -> None:
    assert is_local_name("mymodel")
    assert not is_local_name("gpt2")
    assert not is_local_name("acme/mymodel")
