"""Spaces, and the one spelling of a base model's id."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.errors import FormatError
from tupate_hub.space import Space, normalise_base, require_base, spellings


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("bert-base-uncased", "bert-base-uncased"),
        ("google-bert/bert-base-uncased", "bert-base-uncased"),
        ("FacebookAI/roberta-base", "roberta-base"),
        ("openai-community/gpt2", "gpt2"),
        ("distilbert/distilgpt2", "distilgpt2"),
        ("google-t5/t5-base", "t5-base"),
        ("albert/albert-base-v2", "albert-base-v2"),
        ("xlnet/xlnet-base-cased", "xlnet-base-cased"),
        ("almanach/camembert-base", "camembert-base"),
        ("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("google/flan-t5-base", "google/flan-t5-base"),
        ("microsoft/Phi-3.5_mini", "microsoft/Phi-3.5_mini"),
    ],
)
def test_a_model_has_one_spelling(written: str, expected: str) -> None:
    assert normalise_base(written) == expected
    assert normalise_base(expected) == expected
    assert require_base(written, "x") == expected


NO_MODEL = [
    None,
    "",
    "/content/checkpoint-12",
    "./model",
    "../model",
    ".",
    "~/model",
    "a/b/c",
    "C:\\models\\bert",
    "C:/models/bert",
    "models\\bert",
    "a b",
    "bert-base-uncased\n",
    "-bert",
    "acme/",
    "/acme",
    "acme/../x",
    "https://host/acme/x",
]


@pytest.mark.parametrize("written", [*NO_MODEL, 3, ["bert"], {"a": 1}, True])
def test_what_names_no_model_is_none(written: Any) -> None:
    assert normalise_base(written) is None


@pytest.mark.parametrize("written", NO_MODEL)
def test_what_names_no_model_is_asked_for(written: str | None) -> None:
    with pytest.raises(FormatError, match=r"^my\.file names ") as caught:
        require_base(written, "my.file")
    expected = f"names a local base model, {written!r}" if written else "names no base model"
    assert caught.value.message == f"my.file {expected}."
    likely = "bert-base-uncased" if (written or "").startswith("bert") else "MODEL_ID"
    assert f"`base={likely}`" in caught.value.hint


@given(st.text(max_size=20))
def test_a_spelling_is_stable(written: str) -> None:
    found = normalise_base(written)
    assert found is None or normalise_base(found) == found


def test_a_space_is_its_base_and_method() -> None:
    space = Space("sentence-transformers/all-MiniLM-L6-v2", "lora")
    assert space == Space("sentence-transformers/all-MiniLM-L6-v2", "lora")
    assert space != Space("all-MiniLM-L6-v2", "lora")
    assert space != Space("sentence-transformers/all-MiniLM-L6-v2", "prompt")
    assert len({space, Space("sentence-transformers/all-MiniLM-L6-v2", "lora")}) == 1


@pytest.mark.parametrize(
    ("base", "name"), [("acme/tiny-bert", "tiny-bert/lora"), ("bert-base-uncased", "bert-base-uncased/lora")]
)
def test_the_name_of_a_space_is_its_folder(base: str, name: str) -> None:
    assert Space(base, "lora").name == name


def test_spaces_have_an_order() -> None:
    spaces = [Space("b", "lora"), Space("a", "prompt"), Space("a", "lora")]
    assert sorted(spaces) == [Space("a", "lora"), Space("a", "prompt"), Space("b", "lora")]


@pytest.mark.parametrize(
    ("base", "home"),
    [
        ("bert-base-uncased", "google-bert"),
        ("roberta-base", "FacebookAI"),
        ("xlm-roberta-base", "FacebookAI"),
        ("gpt2", "openai-community"),
        ("distilgpt2", "distilbert"),
        ("distilbert-base-uncased", "distilbert"),
        ("t5-small", "google-t5"),
        ("albert-base-v2", "albert"),
        ("xlnet-base-cased", "xlnet"),
        ("camembert-base", "almanach"),
    ],
)
def test_a_model_that_moved_has_two_spellings_of_one_id(base: str, home: str) -> None:
    assert spellings(base) == (base, f"{home}/{base}")
    assert {normalise_base(one) for one in spellings(base)} == {base}


@pytest.mark.parametrize("base", ["acme/bert-tiny", "meta-llama/Llama-2-7b-hf", "unheard-of"])
def test_every_other_model_has_one(base: str) -> None:
    assert spellings(base) == (base,)


def test_a_space_in_words() -> None:
    assert str(Space("acme/tiny-bert", "lora")) == "lora on acme/tiny-bert"
