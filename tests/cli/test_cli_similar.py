"""`similar` and `explain`: what a person, a pipe and a program get."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import LORA, TASKS, lora, prompt

from tupate_hub import Zoo
from tupate_hub.compare.view import View
from tupate_hub.export import export

FIELDS = {
    "from_index",
    "approximation",
    "itself",
    "notes",
    "left_out",
    "noise",
    "query",
    "space",
    "similarity",
    "centred",
    "fused",
    "neighbors",
}
NEIGHBOR = {"rank", "task", "score", "percentile", "kind", "train_size", "notes", "shared"}
COLUMNS = ["rank", "task", "score", "percentile", "kind", "train size", "note"]


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(parents=True)
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def on_terminal(*arguments: str) -> str:
    """Run the command line with a pseudo-terminal as its stdout and stderr; returns what a person sees."""
    leader, follower = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "tupate_hub", *arguments], stdin=follower, stdout=follower, stderr=follower, text=False
    ) as process:
        os.close(follower)
        seen = b""
        try:
            while chunk := os.read(leader, 4096):
                seen += chunk
        except OSError:  # Linux reports the other end's closing as an error
            pass
        finally:
            os.close(leader)
        assert process.wait(60) == 0, seen
    return seen.decode().replace("\r\n", "\n")


# --- JSON ------------------------------------------------------------------------------------------------------


def test_json_has_exactly_the_documented_fields(toy_zoo: Path, invoke: Any) -> None:
    result = invoke("similar", "glue/sst2", "--registry", toy_zoo, "--json")
    found = result.json()
    assert (result.code, result.err) == (0, "")
    assert set(found) == FIELDS
    assert (found["query"], found["space"], found["similarity"], found["centred"]) == (
        "sst2",
        LORA.name,
        "update",
        False,
    )
    assert len(found["neighbors"]) == len(TASKS) - 1
    for rank, one in enumerate(found["neighbors"], start=1):
        assert set(one) == NEIGHBOR
        assert one["rank"] == rank
        assert -1 <= one["score"] <= 1
        assert 0 <= one["percentile"] <= 100
        assert isinstance(one["train_size"], int)
        assert isinstance(one["notes"], list)


def test_json_is_what_the_python_interface_gives(toy_zoo: Path, invoke: Any) -> None:
    found = invoke("similar", "imdb", "--registry", toy_zoo, "-k", 2, "--centre", "--json").json()
    ranking = Zoo.open(toy_zoo).similar("imdb", 2, view=View(centre=True))
    assert found["centred"] is True
    assert [(one["task"], one["score"]) for one in found["neighbors"]] == [(n.task, n.score) for n in ranking]


@pytest.mark.parametrize("more", [(), ("--centre",), ("--space", "tiny-bert/prompt", "--similarity", "tupate")])
def test_explained_contributions_add_up_to_the_score(more: tuple[str, ...], toy_zoo: Path, invoke: Any) -> None:
    found = invoke("similar", "imdb", "--registry", toy_zoo, "--json", "--explain", *more).json()
    for one in found["neighbors"]:
        assert set(one) == {*NEIGHBOR, "interval", "contributions"}
        assert sum(one["contributions"].values()) == pytest.approx(one["score"], abs=1e-5)


# --- tables ----------------------------------------------------------------------------------------------------


def test_piped_output_is_tab_separated_with_a_header(toy_zoo: Path, invoke: Any) -> None:
    result = invoke("similar", "imdb", "--registry", toy_zoo)
    rows = [line.split("\t") for line in result.out.splitlines()]
    assert rows[0] == COLUMNS
    assert [len(row) for row in rows] == [7] * len(TASKS)
    assert [row[0] for row in rows[1:]] == ["1", "2", "3", "4", "5"]
    assert all(re.fullmatch(r"-?\d\.\d{3}", row[2]) for row in rows[1:])
    assert result.err == "imdb in tiny-bert/lora: update\n"


def test_a_terminal_gets_aligned_columns(toy_zoo: Path) -> None:
    lines = on_terminal("similar", "imdb", "--registry", str(toy_zoo), "-k", "3").splitlines()
    assert "imdb in tiny-bert/lora: update" in lines[0]
    table = [re.sub(r"\x1b\[\d*m", "", line) for line in lines[1:]]
    assert len(table) == 4
    assert "\t" not in "".join(table)
    end = table[0].index("score") + len("score")
    assert all(re.search(r"-?\d\.\d{3}$", line[:end]) for line in table[1:])
    assert {line.index(line.split()[1]) for line in table} == {table[0].index("task")}


def test_explain_adds_a_column_of_blocks(toy_zoo: Path, invoke: Any) -> None:
    rows = [line.split("\t") for line in invoke("similar", "imdb", "--registry", toy_zoo, "--explain").out.splitlines()]
    assert rows[0] == [*COLUMNS, "interval", "blocks"]
    assert all(re.fullmatch(r"layer\.\d\.(query|value) [+-]\d\.\d{3}", row[8].split("; ")[0]) for row in rows[1:])


def test_notes_are_shown(toy_zoo: Path, invoke: Any) -> None:
    rows = {
        line.split("\t")[1]: line.split("\t")[6]
        for line in invoke("similar", "imdb", "--registry", toy_zoo).out.splitlines()
    }
    assert "same data" in rows["sst2"]
    assert "weak" in rows["rte"]


def test_k_must_be_positive(toy_zoo: Path, invoke: Any) -> None:
    result = invoke("similar", "imdb", "--registry", toy_zoo, "-k", 0)
    assert (result.code, result.out) == (2, "")
    assert "tupate-hub similar --help" in result.err


# --- queries from elsewhere ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["peft", "embedding"])
def test_a_pulled_folder_is_a_query(form: str, toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    folder = tmp_path / "pulled"
    assert invoke("pull", "rte", "--registry", toy_zoo, "--as", form, "--bare", "--to", folder).code == 0
    inside = invoke("similar", "rte", "--registry", toy_zoo, "--json").json()
    outside = invoke("similar", folder, "--registry", toy_zoo, "--json").json()
    assert outside["query"] == ("pulled" if form == "peft" else "rte")
    scores = {one["task"]: one["score"] for one in outside["neighbors"]}
    assert scores.pop("rte") == pytest.approx(1, abs=1e-5)
    assert scores == pytest.approx({one["task"]: one["score"] for one in inside["neighbors"]}, abs=1e-5)


def test_an_embedding_file_is_a_query(toy_zoo: Path, invoke: Any) -> None:
    file = toy_zoo / "zoo" / LORA.name / "rte.safetensors"
    found = invoke("similar", file, "--registry", toy_zoo, "--json").json()
    assert (found["query"], found["neighbors"][0]["task"]) == ("rte", "rte")


def test_a_name_from_a_file_cannot_talk_to_the_terminal(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "mine.safetensors").write_bytes(lora("\x1b[2Jrm\u202e", 9).to_bytes())
    result = invoke("similar", tmp_path / "mine.safetensors", "--registry", toy_zoo)
    assert result.code == 0
    assert not set(result.out + result.err) & set("\x1b\u202e")


def test_a_prompt_is_compared_in_its_own_space(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "mine.safetensors").write_bytes(prompt("mine", 9).to_bytes())
    found = invoke("similar", tmp_path / "mine.safetensors", "--registry", toy_zoo, "--json").json()
    assert (found["query"], found["space"]) == ("mine", "tiny-bert/prompt")


def test_a_peft_folder_scores_like_the_embedding_it_was_made_of(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    one = lora("mine", 77, 3)
    folder = folder_of(tmp_path / "mine", export(one, "peft", bare=True))
    found = invoke("similar", folder, "--registry", toy_zoo, "--json", "--centre").json()
    expected = Zoo.open(toy_zoo).similar(one, view=View(centre=True))
    assert [o["task"] for o in found["neighbors"]] == [n.task for n in expected]
    assert [o["score"] for o in found["neighbors"]] == pytest.approx([n.score for n in expected], abs=1e-5)


def test_a_strangers_adapter_against_the_bundled_zoo(shared: Path, invoke: Any) -> None:
    folder = shared / "adapters" / "souravt__product-search__peft_model"
    if not folder.is_dir():
        pytest.skip("needs that adapter in the folder `shared`")
    result = invoke("similar", folder, "--json")
    assert (result.code, result.err) == (0, "")
    assert result.json()["space"] == "all-MiniLM-L6-v2/lora"
    assert "sst2" in {one["task"] for one in invoke("similar", folder, "-k", 1000, "--json").json()["neighbors"]}


# --- explain ---------------------------------------------------------------------------------------------------


def test_explain_adds_up(toy_zoo: Path, invoke: Any) -> None:
    found = invoke("explain", "imdb", "glue/rte", "--registry", toy_zoo, "--json").json()
    assert set(found) == {"first", "second", "similarity", "score", "contributions"}
    assert sum(found["contributions"].values()) == pytest.approx(found["score"])
    ranking = invoke("similar", "imdb", "--registry", toy_zoo, "--json").json()
    assert found["score"] == pytest.approx({n["task"]: n["score"] for n in ranking["neighbors"]}["rte"], abs=1e-5)


def test_explain_prints_every_block_and_the_total(toy_zoo: Path, invoke: Any) -> None:
    rows = [line.split("\t") for line in invoke("explain", "imdb", "rte", "--registry", toy_zoo).out.splitlines()]
    assert [row[0] for row in rows] == [
        "block", "layer.0.query", "layer.0.value", "layer.1.query", "layer.1.value", "total",
    ]  # fmt: skip
    assert sum(float(row[1]) for row in rows[1:-1]) == pytest.approx(float(rows[-1][1]), abs=3e-4)


def test_explain_takes_paths(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    folder = folder_of(tmp_path / "mine", export(lora("mine", 77, 3), "peft", bare=True))
    assert invoke("explain", folder, folder, "--registry", toy_zoo, "--json").json()["score"] == pytest.approx(1)


def test_explain_refuses_two_spaces(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "mine.safetensors").write_bytes(prompt("mine", 9).to_bytes())
    result = invoke("explain", "imdb", tmp_path / "mine.safetensors", "--registry", toy_zoo)
    assert (result.code, result.out) == (2, "")
    assert "lora on acme/tiny-bert" in result.err
    assert "prompt on acme/tiny-bert" in result.err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_explain_prints_where_the_output_is_not_utf8(encoding: str, toy_zoo: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tupate_hub", "explain", "imdb", "rte", "--registry", str(toy_zoo)],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert b"layer.0.query\t" in done.stdout
