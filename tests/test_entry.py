"""An entry says what the registry keeps of an embedding, and what needs more says that it is not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import LORA, lora
from large import grown

from tupate_hub import Zoo
from tupate_hub.collect.add import add_embeddings
from tupate_hub.entry import KEPT, Entry, Repeat
from tupate_hub.errors import NotKept, RegistryError
from tupate_hub.storage.rows import Check, read_entry

DIGEST = "0123456789abcdef" * 4
FILE = {"file": "zoo/a.safetensors", "bytes": 3, "sha256": DIGEST}
ROW: dict[str, Any] = {"task": "a", "space": "s"}
SOURCE = {"kind": "hub", "repo": "acme/a", "revision": "b" * 40}


@pytest.mark.parametrize(
    ("row", "kept", "digest"),
    [
        ({**ROW, **FILE}, "embedding", DIGEST),
        ({**ROW, **FILE, "kept": "embedding"}, "embedding", DIGEST),
        ({**ROW, "kept": "sketch", "sha256": DIGEST}, "sketch", DIGEST),
        ({**ROW, "kept": "sketch", "sha256": DIGEST, "file": "", "bytes": 0}, "sketch", DIGEST),
        ({**ROW, "kept": "facts"}, "facts", ""),
        ({**ROW, "kept": "facts", "sha256": DIGEST}, "facts", DIGEST),
    ],
)
def test_what_is_kept(row: dict[str, Any], kept: str, digest: str) -> None:
    entry = read_entry(Check("here"), 0, row)
    assert (entry.kept, entry.sha256, entry.has_file) == (kept, digest, kept == KEPT[0])
    assert read_entry(Check("here"), 0, json.loads(json.dumps(entry.to_fields()))) == entry
    assert len(entry.runs()) == entry.has_file
    assert ("kept" in entry.to_fields()) != entry.has_file


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (ROW, "'file' is missing"),
        ({**ROW, **FILE, "kept": "everything"}, "must be one of embedding, sketch, facts, not 'everything'"),
        ({**ROW, **FILE, "kept": 3}, "'kept' must be text"),
        ({**ROW, **FILE, "kept": "sketch"}, "it has a file, and 'sketch' alone is kept"),
        ({**ROW, "kept": "facts", "bytes": 3}, "it has a file, and 'facts' alone is kept"),
        ({**ROW, "kept": "sketch"}, "'sha256' must be 64 hexadecimal digits"),
        ({**ROW, "kept": "facts", "sha256": "x"}, "must be 64 hexadecimal digits, or be left out"),
        ({**ROW, "kept": "facts", "repeats": [{}]}, "it has repeats, and 'facts' alone is kept"),
    ],
)
def test_what_cannot_be(row: dict[str, Any], said: str) -> None:
    with pytest.raises(RegistryError, match=said) as caught:
        read_entry(Check("here"), 0, row)
    assert caught.value.message.startswith("here: embedding 0 (a)")


def test_each_run_is_an_entry_of_its_own() -> None:
    repeat = Repeat("b", 4, DIGEST[::-1], 1, 2, {"primary": 0.5})
    entry = Entry("a", "s", "a", 3, DIGEST, repeats=(repeat,))
    first, second = entry.runs()
    assert (first.file, first.repeats, second.file, second.bytes) == ("a", (), "b", 4)
    assert entry.to_fields()["repeats"] == [vars(repeat)]


def test_where_weights_are_that_are_not_here() -> None:
    entry = Entry("a", "s", "", 0, DIGEST, source=SOURCE, kept="sketch")
    with pytest.raises(
        NotKept, match="weights of 'a' are not in this registry, which keeps its sketch alone"
    ) as caught:
        entry.require_file()
    assert caught.value.hint == f"fetch them: tupate-hub add hf://acme/a@{'b' * 40}"
    with pytest.raises(NotKept) as caught:
        Entry("a", "s", "", 0, "", kept="facts").require_file()
    assert caught.value.hint == "add them from where they are"


@pytest.fixture
def sketches(tmp_path: Path) -> Zoo:
    """Four embeddings whose sketches alone are kept."""
    return grown(tmp_path / "zoo", *(lora(name, at, source=SOURCE) for at, name in enumerate("abcd")), keep="sketch")


@pytest.mark.parametrize("command", [["pull", "a"], ["explain", "a", "b"], ["similar", "a", "--exact"]])
def test_what_needs_weights_says_that_they_are_not_here(
    command: list[str], sketches: Zoo, invoke: Callable[..., Any]
) -> None:
    result = invoke(*command, "--registry", sketches.root)
    assert result.code == 2
    assert "The weights of 'a' are not in this registry, which keeps its sketch alone." in result.err
    assert "tupate-hub add hf://acme/a@" in result.err


def test_what_needs_none_works(sketches: Zoo, invoke: Callable[..., Any]) -> None:
    assert sketches.verify() == []
    assert len(sketches.similar("a", 10).neighbors) == 3
    shown = invoke("show", "a", "--registry", sketches.root, "--json").json()
    assert (shown["entry"]["kept"], shown["blocks"], shown["parameters"]) == ("sketch", [], None)
    told = invoke("show", "a", "--registry", sketches.root)
    assert (told.code, "its sketch alone" in told.out) == (0, True)
    (row, *_) = invoke("list", "--registry", sketches.root, "--json").json()
    assert (row["kept"], row["file"]) == ("sketch", "")


def test_weights_take_the_place_of_a_sketch_of_the_same(sketches: Zoo) -> None:
    zoo, became = add_embeddings(sketches, [(Path("a"), lora("a", 0, source=SOURCE))])
    assert [name for _, name, _ in became.added] == ["a"]
    assert [zoo.registry.entry(name, LORA.name).kept for name in "ab"] == ["embedding", "sketch"]
    assert zoo.verify() == []
    other = {**SOURCE, "revision": "c" * 40}
    _, became = add_embeddings(zoo, [(Path("b"), lora("b", 7, source=other))])
    assert [one.reason for one in became.rejected] == ["Task 'b' is in space 'tiny-bert/lora' already."]
