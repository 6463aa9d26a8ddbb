"""Reading: an adapter on disk as an embedding: its name, its base model, where it came from, and what has none."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from builders import BASE, LORA, lora, peft, prompt
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.collect.read_adapter import plain_name, read_for_registry
from tupate_hub.errors import FormatError
from tupate_hub.space import Space
from tupate_hub.storage.rows import is_plain_name

# --- read_for_registry -----------------------------------------------------------------------------------------


def test_an_adapter_becomes_an_embedding_with_its_origin(tmp_path: Path) -> None:
    folder = peft(tmp_path / "my-adapter")
    one = read_for_registry(folder)
    assert (one.task, one.space) == ("my-adapter", LORA)
    assert [block.name for block in one.blocks] == [block.name for block in lora("exported", 7).blocks]
    np.testing.assert_allclose(one.vector(), lora("exported", 7).vector(), atol=1e-6)
    source = one.facts["source"]
    assert (source["kind"], source["file"], source["layout"]) == ("file", "adapter_model.safetensors", "peft")
    assert source["sha256"] == hashlib.sha256((folder / source["file"]).read_bytes()).hexdigest()
    assert (source["left_out"], source["notes"]) == ({}, [])
    assert one.facts["settings"]["r"] == 2
    json.dumps(one.facts)


def test_what_the_user_says_comes_first(tmp_path: Path) -> None:
    one = read_for_registry(peft(tmp_path / "folder"), base="acme/other", task="Mine, at last")
    assert (one.task, one.space) == ("Mine-at-last", Space("acme/other", "lora"))


@pytest.mark.parametrize(
    ("named", "base", "fallback", "expected"),
    [
        (BASE, None, None, BASE),
        (BASE, None, "acme/fallback", BASE),
        (BASE, "acme/said", "acme/fallback", "acme/said"),
        (None, None, "acme/fallback", "acme/fallback"),
        ("/content/checkpoint", None, "acme/fallback", "acme/fallback"),
        (None, "google-bert/bert-base-cased", None, "bert-base-cased"),
        (None, None, "FacebookAI/roberta-base", "roberta-base"),
    ],
)
def test_which_base_model(
    named: str | None, base: str | None, fallback: str | None, expected: str, tmp_path: Path
) -> None:
    folder = peft(tmp_path / "folder", base_model_name_or_path=named)
    assert read_for_registry(folder, base=base, fallback_base=fallback).space.base == expected


@pytest.mark.parametrize("named", [None, "/content/checkpoint", "..\\model"])
def test_no_base_model_asks_for_it(named: str | None, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="base model") as caught:
        read_for_registry(peft(tmp_path / "folder", base_model_name_or_path=named))
    assert "`base=MODEL_ID`" in caught.value.hint


def test_a_bare_prompt_is_called_like_its_file_or_what_is_said(tmp_path: Path) -> None:
    np.save(tmp_path / "reviews.v1.npy", prompt("x", 0).blocks[0].parts["rows"])
    one = read_for_registry(tmp_path / "reviews.v1.npy", base=BASE)
    assert (one.task, one.space.method, one.blocks[0].form) == ("reviews.v1", "prompt", "rows")
    assert read_for_registry(tmp_path / "reviews.v1.npy", base=BASE, task="mine").task == "mine"


def test_the_folder_one_stands_in_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(peft(tmp_path / "reviews"))
    assert read_for_registry(Path()).task == "reviews"
    assert read_for_registry(Path("..") / "reviews").task == "reviews"


def test_an_adapter_that_was_never_trained_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="'idle' is all zero: it was never trained"):
        read_for_registry(peft(tmp_path / "idle", lora_alpha=0))


def test_an_adapter_that_diverged_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="'wild' is too large to measure"):
        read_for_registry(peft(tmp_path / "wild", lora_alpha=1e25))


def test_a_folder_without_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="holds no adapter"):
        read_for_registry(tmp_path)


# --- plain_name ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("sst2", "sst2"),
        ("glue/sst2", "glue-sst2"),
        ("my task (final) ", "my-task-final"),
        ("../../etc/passwd", "etc-passwd"),
        (".hidden", "hidden"),
        ("a\0b\nc", "a-b-c"),
        ("\x1b[2Jrm", "2Jrm"),
        ("Überprüfung", "Überprüfung"),
        ("v1.0+x@y_z", "v1.0+x@y_z"),
        ("indexes", "indexes"),
    ],
)
def test_a_name_is_made_plain(written: str, plain: str) -> None:
    assert plain_name(written) == plain


@pytest.mark.parametrize("written", ["", ".", "..", "///", "- -", "\u202e"])
def test_nothing_left_of_a_name(written: str) -> None:
    with pytest.raises(FormatError, match="cannot be made a task name") as caught:
        plain_name(written)
    assert caught.value.hint == "name it: `task=NAME`"


@pytest.mark.parametrize("written", ["x" * 201, "ü" * 101])
def test_a_name_longer_than_a_files_may_be(written: str) -> None:
    with pytest.raises(FormatError, match="too long"):
        plain_name(written)
    assert plain_name(written[: len(written) // 2])


@pytest.mark.parametrize("written", ["moments", "Moments", "index-update", "INDEX-x", "/moments/"])
def test_a_name_of_the_registrys_own_files(written: str) -> None:
    with pytest.raises(FormatError, match="the registry's own") as caught:
        plain_name(written)
    assert "`task=" in caught.value.hint


@given(st.text())
def test_every_plain_name_is_one_that_a_registry_takes(written: str) -> None:
    try:
        name = plain_name(written)
    except FormatError:
        return
    assert is_plain_name(name)
    assert plain_name(name) == name
