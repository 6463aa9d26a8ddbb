"""Bad input: one clear sentence on stderr, a hint, the right exit code, nothing on stdout and nothing written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import BASE, LORA, lora, prompt
from damage import change, put, snapshot

import tupate_hub
from tupate_hub.cli.hints import options_of
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.space import Space

FIRST = f"zoo/{LORA.name}/imdb.safetensors"
Refused = Callable[..., str]


@pytest.fixture
def refused(toy_zoo: Path, tmp_path: Path, isolated: Path, invoke: Any) -> Refused:
    """Runs a command on the toy zoo, checks how it refuses, and returns its sentence and hint as one text."""

    def run(*arguments: str | Path, code: int = 2, registry: Path | None = toy_zoo) -> str:
        before = snapshot(tmp_path), snapshot(isolated)
        given = ["--registry", registry] if registry else []
        result = invoke(*arguments, *given)
        assert (result.code, result.out) == (code, "")
        sentence, *hints = result.err.splitlines()
        assert sentence.startswith("Error: ")
        assert sentence.endswith((".", "!"))
        assert len(hints) == 1
        assert hints[0].startswith("  ")
        assert hints[0].strip()
        named = re.search(r"tupate-hub ([a-z]+)", hints[0])
        assert set(re.findall(r"(?<!\S)--[a-z-]+", re.sub("pip install.*", "", hints[0]))) <= {
            "--help",
            *options_of(named[1] if named else arguments[0]),
        }
        assert "Traceback" not in result.err
        assert (snapshot(tmp_path), snapshot(isolated)) == before
        return str(result.err)

    return run


# --- names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [("similar",), ("pull",), ("show",), ("explain", "imdb")])
def test_unknown_task(verb: tuple[str, ...], refused: Refused) -> None:
    said = refused(*verb, "snlii")
    assert "Unknown task 'snlii'." in said
    assert "did you mean snli" in said


@pytest.mark.parametrize("verb", [("similar",), ("pull",), ("show",)])
def test_a_task_like_no_other_points_to_the_list_of_the_same_registry(
    verb: tuple[str, ...], refused: Refused, toy_zoo: Path, invoke: Any
) -> None:
    assert refused(*verb, "qqqqqqqqqq").endswith(f"\n  tupate-hub list --registry {toy_zoo}\n")
    joined = invoke(*verb, "qqqqqqqqqq", f"--registry={toy_zoo}")
    assert joined.err.endswith(f"\n  tupate-hub list --registry {toy_zoo}\n")
    assert invoke(*verb, "qqqqqqqqqq").err.endswith("\n  tupate-hub list\n")


@pytest.mark.parametrize(
    "verb", [("similar", "imdb"), ("pull", "imdb"), ("show", "imdb"), ("list",), ("explain", "imdb", "rte")]
)
def test_unknown_space(verb: tuple[str, ...], refused: Refused) -> None:
    said = refused(*verb, "--space", "gpt9/lora")
    assert "Unknown space 'gpt9/lora'." in said
    assert "known: tiny-bert/lora, tiny-bert/prompt" in said


@pytest.mark.parametrize("verb", [("similar", "imdb"), ("explain", "imdb", "rte")])
def test_unknown_similarity(verb: tuple[str, ...], refused: Refused) -> None:
    said = refused(*verb, "--similarity", "cosine")
    assert "Unknown similarity 'cosine'." in said
    assert "known: update, tupate" in said


def test_unknown_form(refused: Refused) -> None:
    said = refused("pull", "imdb", "--as", "gguf")
    assert "Unknown form 'gguf'." in said
    assert "known: embedding, peft, adapters" in said


# --- the registry ----------------------------------------------------------------------------------------------


def test_a_folder_without_a_registry(tmp_path: Path, refused: Refused) -> None:
    said = refused("list", registry=tmp_path)
    assert f"no registry in {tmp_path}" in said


def test_a_registry_of_the_environment_that_is_not_there(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUPATE_HUB_REGISTRY", str(tmp_path / "nowhere"))
    assert "TUPATE_HUB_REGISTRY" in refused("list", registry=None)


@pytest.mark.parametrize("text", [b"", b"{", b"not json", b"\xff\xfe\x00", b"[" * 100_000, b"nul"])
def test_a_registry_that_is_not_json(text: bytes, toy_zoo: Path, refused: Refused) -> None:
    (toy_zoo / "registry.json").write_bytes(text)
    assert "registry.json is not JSON" in refused("list")


def test_a_registry_of_a_newer_schema(toy_zoo: Path, refused: Refused) -> None:
    change(toy_zoo, lambda data: data.update(schema=99))
    said = refused("similar", "imdb")
    assert "schema 99" in said
    assert "pip install --upgrade" in said


@pytest.mark.parametrize(
    ("entry", "field", "value"),
    [
        ("embedding 0 (imdb)", "sha256", None),
        ("embedding 0 (imdb)", "sha256", "zz"),
        ("embedding 0 (imdb)", "bytes", "12"),
        ("embedding 0 (imdb)", "bytes", True),
        ("embedding 0 (imdb)", "bytes", -1),
        ("embedding 0 (imdb)", "file", 7),
        ("embedding 0 (imdb)", "space", "elsewhere"),
        ("task 'imdb'", "title", None),
        ("task 'imdb'", "aliases", "imdb"),
        ("task 'imdb'", "train_size", "many"),
        ("space 'tiny-bert/lora'", "base", None),
        ("space 'tiny-bert/lora'", "index", []),
    ],
)
def test_a_missing_or_wrong_field_is_named(
    entry: str, field: str, value: object, toy_zoo: Path, refused: Refused
) -> None:
    def damage(data: dict[str, Any]) -> None:
        place = {"e": data["embeddings"][0], "t": data["tasks"]["imdb"], "s": data["spaces"]["tiny-bert/lora"]}[
            entry[0]
        ]
        if entry.startswith("space"):
            place = data["spaces"]["tiny-bert/lora"]
        if value is None:
            del place[field]
        else:
            place[field] = value

    change(toy_zoo, damage)
    said = refused("similar", "imdb")
    assert entry in said
    assert field in said


@pytest.mark.parametrize(
    "file",
    [
        "../secret",
        "zoo/../../secret",
        "/etc/hostname",
        "..",
        "",
        "zoo\\..\\secret",
        "C:/secret",
        "zoo/\x1b[2J",
        "~/x y",
    ],
)
@pytest.mark.parametrize("verb", [("pull", "imdb"), ("similar", "imdb")])
def test_a_path_that_leaves_the_zoo(verb: tuple[str, ...], file: str, toy_zoo: Path, refused: Refused) -> None:
    (toy_zoo.parent / "secret").write_bytes(lora("imdb", 0).to_bytes())
    change(toy_zoo, lambda data: data["embeddings"][0].update(file=file))
    said = refused(*verb)
    assert "embedding 0 (imdb)" in said
    assert "leaves the zoo" in said
    assert "\x1b[2J" not in said


def test_a_link_that_leaves_the_zoo(toy_zoo: Path, tmp_path: Path, refused: Refused) -> None:
    (toy_zoo / FIRST).rename(tmp_path / "secret")
    (toy_zoo / FIRST).symlink_to(tmp_path / "secret")
    assert "leads out of the zoo" in refused("pull", "imdb")


# --- the embedding ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["pull", "show"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("missing", "does not exist"),
        ("short", "the registry says"),
        ("changed", "another content"),
    ],
)
def test_a_damaged_file(damage: str, words: str, verb: str, toy_zoo: Path, refused: Refused) -> None:
    path = toy_zoo / FIRST
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(data[:-1] if damage == "short" else data[:-1] + bytes([data[-1] ^ 1]))
    said = refused(verb, "imdb")
    assert words in said
    assert "tupate-hub verify" in said


def not_finite(number: float) -> bytes:
    return lora("imdb", 0, 4).to_bytes()[:-2] + np.float16(number).tobytes()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a safetensors file"),
        (lora("imdb", 0).to_bytes()[:-1], "truncated"),
        (lora("imdb", 0).to_bytes()[:50], "truncated"),
        (not_finite(np.nan), "NaN or infinity"),
        (not_finite(np.inf), "NaN or infinity"),
        (prompt("imdb", 0).to_bytes(), "holds prompt on acme/tiny-bert; the registry says lora on acme/tiny-bert"),
        (TaskEmbedding("imdb", Space("acme/big", "lora"), lora("x", 0).blocks).to_bytes(), "holds lora on acme/big"),
        (lora("rte", 0).to_bytes(), "holds task 'rte'; the registry says 'imdb'"),
        (lora("imdb", 0).to_bytes().replace(b"embedding/1", b"embedding/9"), "is not a tupate-hub-embedding/1"),
        (lora("imdb", 0, x="deep").to_bytes().replace(b'\\"deep\\"', b"nonsense"), "not JSON"),
    ],
)
def test_a_wrong_file_with_the_right_hash(data: bytes, words: str, toy_zoo: Path, invoke: Any, tmp_path: Path) -> None:
    put(toy_zoo, FIRST, data)
    result = invoke("pull", "imdb", "--registry", toy_zoo, "--to", tmp_path / "out")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Error: ")
    assert words in result.err
    assert not (tmp_path / "out").exists()
    verified = invoke("verify", "--registry", toy_zoo)
    assert verified.code == 2
    assert words in verified.out


@pytest.mark.parametrize("scale", [10**400, -(10**400), "2", None, True, [1]])
def test_a_scale_that_is_no_number(scale: object, toy_zoo: Path, invoke: Any) -> None:
    text = json.dumps({"layer.0.query": scale})
    good = lora("imdb", 0).to_bytes()
    length = int.from_bytes(good[:8], "little")
    header = json.loads(good[8 : 8 + length])
    header["__metadata__"]["scales"] = text
    new = json.dumps(header).encode()
    put(toy_zoo, FIRST, len(new).to_bytes(8, "little") + new + good[8 + length :])
    result = invoke("show", "imdb", "--registry", toy_zoo)
    assert (result.code, result.out) == (2, "")
    assert "scale" in result.err


def test_an_update_that_is_all_zero_as_the_query(tmp_path: Path, toy_zoo: Path, invoke: Any) -> None:
    (tmp_path / "zero.safetensors").write_bytes(lora("zero", 0, scale=0.0).to_bytes())
    result = invoke("similar", tmp_path / "zero.safetensors", "--registry", toy_zoo)
    assert (result.code, result.out) == (2, "")
    assert "'zero' is all zero" in result.err


def test_an_update_that_is_all_zero_in_the_zoo(toy_zoo: Path, invoke: Any) -> None:
    put(toy_zoo, FIRST, lora("imdb", 0, 4, scale=0.0).to_bytes())
    result = invoke("similar", "rte", "--registry", toy_zoo)
    assert result.code == 0
    assert "imdb is left out: its update is all zero" in result.err
    assert "imdb" not in result.out
    found = invoke("similar", "rte", "--registry", toy_zoo, "--json").json()
    assert (list(found["left_out"]), len(found["neighbors"])) == (["imdb"], 4)
    asked = invoke("similar", "imdb", "--registry", toy_zoo)
    assert (asked.code, "'imdb' is all zero" in asked.err) == (2, True)
    assert "imdb in tiny-bert/lora compares with no other" in invoke("verify", "--registry", toy_zoo).out


@pytest.mark.parametrize("space", [Space("acme/big", "lora"), Space(BASE, "ia3")])
def test_a_query_of_another_space_names_both(space: Space, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "mine.safetensors").write_bytes(TaskEmbedding("mine", space, lora("mine", 0).blocks).to_bytes())
    said = refused("similar", tmp_path / "mine.safetensors")
    assert f"{space.method} on {space.base}" in said
    assert f"lora on {BASE}; prompt on {BASE}" in said


@pytest.mark.parametrize("name", ["./nowhere", "no/where/at all", "../nowhere.safetensors"])
def test_a_path_that_does_not_exist(name: str, refused: Refused) -> None:
    assert "does not exist" in refused("similar", name)


@pytest.mark.parametrize("content", [None, b"", b"hello", b"\x80\x04."])
def test_a_path_that_is_no_adapter(content: bytes | None, tmp_path: Path, toy_zoo: Path, invoke: Any) -> None:
    path = tmp_path / "thing.safetensors"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    result = invoke("similar", path, "--registry", toy_zoo)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"Error: {path}")


# --- the process -----------------------------------------------------------------------------------------------


def test_the_process_leaves_with_the_same_code_and_words(toy_zoo: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tupate_hub", "pull", "imbd", "--registry", str(toy_zoo)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: Unknown task 'imbd'.\n  did you mean imdb?\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [("list",), ("show", "imdb", "--json"), ("similar", "imdb")])
def test_output_that_does_not_fit_the_disk(arguments: tuple[str, ...], toy_zoo: Path) -> None:
    program = [sys.executable, "-m", "tupate_hub", *arguments, "--registry", str(toy_zoo)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("Error: The disk is full: not all of the output was written.\n  free some space\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["numpy", "click", "json", "tempfile"])
def test_a_file_of_the_current_folder_is_not_imported(name: str, toy_zoo: Path, tmp_path: Path) -> None:
    """What lies beside a download is a stranger's."""
    (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    program = [sys.executable, "-m", "tupate_hub", "similar", "imdb", "--json", "--registry", str(toy_zoo)]
    package = str(Path(tupate_hub.__file__).parents[1])
    done = subprocess.run(
        program, cwd=tmp_path, env={**os.environ, "PYTHONPATH": package}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


def test_many_names_are_cut(toy_zoo: Path, invoke: Any) -> None:
    many = [f"alias{number}" for number in range(100_000)]
    change(toy_zoo, lambda data: data["tasks"]["imdb"].update(aliases=many))
    change(toy_zoo, lambda data: data["embeddings"][0].update(flags=many))
    for arguments in (("show", "imdb"), ("list",)):
        result = invoke(*arguments, "--registry", toy_zoo)
        assert result.code == 0
        assert max(map(len, result.out.splitlines())) < 1000
        assert "alias11 and 99988 more" in result.out
    assert len(invoke("show", "imdb", "--json", "--registry", toy_zoo).json()["task"]["aliases"]) == 100_000


def test_commands_to_type_quote_what_has_blanks(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    place = tmp_path / "my zoo"
    assert f"  tupate-hub add PATH --registry '{place}'\n" in invoke("init", place).err
    assert f"  tupate-hub list --registry '{place}'\n" in invoke("init", place).err
    source = tmp_path / "an adapter"
    assert invoke("pull", "imdb", "--as", "peft", "--bare", "--to", source, "--registry", toy_zoo).code == 0
    assert f"tupate-hub add '{source}' --registry DIR" in invoke("add", source).err
    assert f"--registry '{place}'\n" in invoke("add", source, "--task", "x", "--registry", place).err
