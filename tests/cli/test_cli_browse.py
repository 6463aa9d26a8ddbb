"""`list`, `show`, `spaces` and the group itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import BASE, LORA, TASKS, lora
from damage import change, put

from tupate_hub import Zoo, __version__
from tupate_hub.cli import VERBS


def test_list_has_a_row_for_every_embedding(toy_zoo: Path, invoke: Any) -> None:
    rows = [line.split("\t") for line in invoke("list", "--registry", toy_zoo).out.splitlines()]
    assert rows[0] == ["task", "space", "kind", "train size", "metric", "score", "baseline", "note"]
    assert len(rows) == 1 + 2 * len(TASKS)
    assert ["rte", "tiny-bert/lora", "classification", "3000", "accuracy", "0.600", "0.500", "weak"] in rows


def test_list_of_one_space_and_kind(toy_zoo: Path, invoke: Any) -> None:
    found = invoke("list", "--registry", toy_zoo, "--space", LORA.name, "--kind", "qa", "--json").json()
    assert [(one["task"], one["space"], one["kind"]) for one in found] == [("squad", LORA.name, "qa")]


def test_list_json_has_the_documented_fields(toy_zoo: Path, invoke: Any) -> None:
    (first, *_) = invoke("list", "--registry", toy_zoo, "--json").json()
    assert set(first) == {
        "task",
        "space",
        "file",
        "bytes",
        "sha256",
        "source",
        "scores",
        "flags",
        "repeats",
        "strength",
        "head",
        "kept",
        "kind",
    }


@pytest.mark.parametrize("options", [[], ["--space", "lora"], ["--kind", "classification"]])
def test_the_pages_of_a_list_are_the_list(options: list[str], toy_zoo: Path, sharded: Zoo, invoke: Any) -> None:
    for root in (toy_zoo, sharded.root):
        whole = invoke("list", *options, "--json", "--registry", root).json()
        pages = []
        while page := invoke(
            "list", *options, "--limit", 5, "--page", len(pages) + 1, "--json", "--registry", root
        ).json():
            pages.append(page)
        assert [row for page in pages for row in page] == whole
        assert all(len(page) == 5 for page in pages[:-1])


def test_a_page_says_whether_there_are_more(toy_zoo: Path, invoke: Any) -> None:
    first = invoke("list", "--limit", 5, "--registry", toy_zoo)
    assert (first.code, "there are more: --limit 5 --page 2" in first.err) == (0, True)
    assert "there are more" not in invoke("list", "--limit", 6, "--page", 2, "--registry", toy_zoo).err
    assert "there are more" in invoke("list", "--limit", 4, "--kind", "classification", "--registry", toy_zoo).err
    assert "there are more" not in invoke("list", "--limit", 10, "--kind", "classification", "--registry", toy_zoo).err


def test_a_page_has_a_length(toy_zoo: Path, invoke: Any) -> None:
    result = invoke("list", "--page", 2, "--registry", toy_zoo)
    assert (result.code, "add --limit N" in result.err) == (2, True)


def test_list_of_an_unknown_space(toy_zoo: Path, invoke: Any) -> None:
    result = invoke("list", "--registry", toy_zoo, "--space", "gpt9/lora")
    assert (result.code, result.out) == (2, "")
    assert "known: tiny-bert/lora, tiny-bert/prompt" in result.err


def test_show_prints_names_and_values(toy_zoo: Path, invoke: Any) -> None:
    rows = dict(line.split("\t") for line in invoke("show", "SST-2", "--registry", toy_zoo).out.splitlines())
    assert rows["task"] == "sst2: SST2"
    assert rows["aliases"] == "sst-2, glue/sst2"
    assert rows["space"] == f"tiny-bert/lora: lora on {BASE}"
    assert rows["parameters"] == "44 in 4 blocks"
    assert rows["data.sha256"] == f"{5:064x}"
    assert len(rows["sha256"]) == 64


def test_show_json_has_the_documented_fields(toy_zoo: Path, invoke: Any) -> None:
    found = invoke("show", "sst2", "--registry", toy_zoo, "--space", "tiny-bert/prompt", "--json").json()
    sizes = {"norm", "norm_by_layer", "output_change", "effective_rank", "diverged"}
    assert set(found) == {"task", "entry", "facts", "parameters", "blocks"} | sizes
    assert (found["output_change"], found["effective_rank"], found["diverged"]) == (None, None, False)
    assert found["blocks"] == [{"name": "prompt", "form": "rows", "scale": 1.0, "shapes": {"rows": [4, 6]}}]
    assert found["parameters"] == 24
    assert found["entry"]["space"] == "tiny-bert/prompt"


def test_show_prints_no_control_characters_of_a_file(toy_zoo: Path, invoke: Any) -> None:
    evil = "\x1b]0;owned\x07\n\tx\u202e"
    put(toy_zoo, f"zoo/{LORA.name}/imdb.safetensors", lora("imdb", 0, licence=evil, nested={evil: [evil]}).to_bytes())
    change(toy_zoo, lambda data: data["tasks"]["imdb"].update(title=evil))
    result = invoke("show", "imdb", "--registry", toy_zoo)
    assert result.code == 0
    assert not set(result.out) & set("\x1b\x07\u202e\r")
    assert all(line.count("\t") == 1 for line in result.out.splitlines())


def test_spaces_marks_the_default(toy_zoo: Path, invoke: Any) -> None:
    rows = [line.split("\t") for line in invoke("spaces", "--registry", toy_zoo).out.splitlines()]
    assert rows == [
        ["space", "base", "method", "embeddings", "note"],
        ["tiny-bert/lora", BASE, "lora", "6", "default"],
        ["tiny-bert/prompt", BASE, "prompt", "6", ""],
    ]


def test_spaces_json_has_the_documented_fields(toy_zoo: Path, invoke: Any) -> None:
    found = invoke("spaces", "--registry", toy_zoo, "--json").json()
    assert [one["default"] for one in found] == [True, False]
    assert all(set(one) == {"space", "base", "method", "embeddings", "default"} for one in found)


def test_the_registry_of_the_environment_is_used(toy_zoo: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUPATE_HUB_REGISTRY", str(toy_zoo))
    assert "tiny-bert/lora" in invoke("spaces").out


def test_version(invoke: Any) -> None:
    result = invoke("--version")
    assert (result.code, result.out) == (0, f"tupate-hub, version {__version__}\n")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_every_verb(arguments: tuple[str, ...], invoke: Any) -> None:
    result = invoke(*arguments)
    assert result.code == 0
    assert all(f"\n  {verb} " in result.out for verb in VERBS)


def test_a_mistyped_verb(invoke: Any) -> None:
    result = invoke("simlar", "sst2")
    assert (result.code, result.out) == (2, "")
    assert "There is no command 'simlar'." in result.err
    assert "did you mean: tupate-hub similar" in result.err


@pytest.mark.parametrize("arguments", [("--nonsense",), ("similar",), ("similar", "a", "b"), ("list", "--spaec", "x")])
def test_a_wrong_call_says_where_the_help_is(arguments: tuple[str, ...], invoke: Any) -> None:
    result = invoke(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[0].startswith("Error: ")
    assert result.err.rstrip().endswith("--help")


def test_a_closed_pipe_is_no_error(toy_zoo: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tupate_hub", "list", "--registry", str(toy_zoo), "--json"],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.stderr == b""


def test_bundled_list_shows_sst2(invoke: Any) -> None:
    result = invoke("list", "--json")
    assert result.code == 0
    assert "sst2" in {one["task"] for one in json.loads(result.out)}
