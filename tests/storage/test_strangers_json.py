"""JSON of strangers: the standard library's values, neither deep nor endless, and no RecursionError anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import LORA, lora
from damage import change, put
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.errors import FormatError
from tupate_hub.readers import read_adapter
from tupate_hub.storage.strangers_json import MOST_DEPTH, parse_json

FIRST = f"zoo/{LORA.name}/imdb.safetensors"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('[]{}"\\,:a\n\u00e9'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('[]{}"\\a'), inner),
)


def nested(depth: int, kind: str = "mixed") -> str:
    """A JSON text that is so deep."""
    opened = {"lists": ["["], "objects": ['{"a":'], "mixed": ["[", '{"[\\"{":']}[kind]
    starts = [opened[number % len(opened)] for number in range(depth)]
    return "".join(starts) + "1" + "".join("]" if start == "[" else "}" for start in reversed(starts))


@given(VALUES)
def test_values_are_those_of_the_standard_library(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert parse_json(text, 10_000) == value


@pytest.mark.parametrize("kind", ["lists", "objects", "mixed"])
def test_how_deep(kind: str) -> None:
    beside = "[" + ",".join(["[]", '"]]]}}}"'] * 100) + ","
    assert parse_json(beside + nested(MOST_DEPTH - 1, kind) + "]", 10_000)
    for depth in (MOST_DEPTH, 500, 900, 100_000):
        with pytest.raises(ValueError, match="deep"):
            parse_json(beside + nested(depth, kind) + "]", 10_000_000)


def test_how_many() -> None:
    assert len(parse_json(json.dumps([1] * 100), 100)) == 100
    with pytest.raises(ValueError, match="more than 99 values"):
        parse_json(json.dumps([1] * 100), 99)


@pytest.mark.parametrize("text", ["", "[", "]", "[[]", "{]" * 100, "[" * 100 + "}" * 100, '"' + "[" * 100, "NaN,"])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text, 10_000)


@pytest.mark.parametrize("depth", [500, 900])
@pytest.mark.parametrize(
    "question",
    [("list", "--json"), ("show", "imdb"), ("show", "imdb", "--json"), ("verify",), ("add",), ("merge",), ("card",)],
)
def test_a_registry_that_is_deep(
    question: tuple[str, ...], depth: int, toy_zoo: Path, tmp_path: Path, invoke: Any
) -> None:
    change(toy_zoo, lambda data: data["embeddings"][0].update(source={"x": json.loads(nested(depth))}))
    into = ("--registry", toy_zoo)
    if question == ("add",):
        (tmp_path / "new.safetensors").write_bytes(lora("imdb", 5).to_bytes())
        question = ("add", str(tmp_path / "new.safetensors"))
    if question == ("merge",):
        question, into = ("merge", str(toy_zoo), str(toy_zoo)), ("--to", tmp_path / "both")
    result = invoke(*question, *into)
    assert (result.code, result.out) == (2, "")
    assert f"nested more than {MOST_DEPTH} deep" in result.err


@pytest.mark.parametrize("depth", [500, 900])
def test_the_facts_of_an_embedding_that_are_deep(depth: int, toy_zoo: Path, invoke: Any) -> None:
    put(toy_zoo, FIRST, lora("imdb", 1, notes=json.loads(nested(depth, "objects"))).to_bytes())
    for question in (("show", "imdb"), ("show", "imdb", "--json"), ("pull", "imdb")):
        result = invoke(*question, "--registry", toy_zoo)
        assert (result.code, result.out) == (2, "")
        assert "facts are not JSON, or have too much in them" in result.err


@pytest.mark.parametrize("depth", [500, 900])
def test_a_configuration_that_is_deep(depth: int, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "x": ' + nested(depth) + "}")
    (tmp_path / "adapter_model.safetensors").write_bytes(bytes(100))
    with pytest.raises(FormatError, match="is not JSON, or has too much in it"):
        read_adapter(tmp_path)
