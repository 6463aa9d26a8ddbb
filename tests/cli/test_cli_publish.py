"""init, merge and card at the command line: what they write, what they print, what they refuse."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from builders import LORA, PROMPT, TASKS
from damage import change

from tupate_hub import zoo as zoo_module
from tupate_hub.publish.browse import FILE
from tupate_hub.publish.card import BUNDLED, CARD, card_of
from tupate_hub.registry import FILENAME, Registry
from tupate_hub.zoo import Zoo


def snapshot(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def refused(result: Any, *said: str) -> None:
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("Error: ")
    assert len(result.err.splitlines()) == 2
    assert "Traceback" not in result.err
    for words in said:
        assert words in result.err


# --- init ------------------------------------------------------------------------------------------------------


def test_init_makes_a_registry_that_add_fills(tmp_path: Path, toy_zoo: Path, invoke: Any) -> None:
    folder = tmp_path / "new" / "zoo"
    result = invoke("init", folder)
    assert (result.code, result.out) == (0, "")
    assert Zoo.open(folder).registry == Registry()
    assert invoke("list", "--registry", folder).code == 0
    assert invoke("verify", "--registry", folder).code == 0
    assert invoke("pull", "rte", "--as", "peft", "--bare", "--to", tmp_path / "rte", "--registry", toy_zoo).code == 0
    assert invoke("add", tmp_path / "rte", "--task", "mine", "--registry", folder).code == 0
    assert [entry.task for entry in Zoo.open(folder).registry.entries] == ["mine"]


def test_init_in_a_folder_with_other_files_keeps_them(tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert invoke("init", tmp_path, "--json").json() == {"folder": str(tmp_path)}
    assert set(snapshot(tmp_path)) == {"notes.txt", FILENAME}


def test_init_refuses_a_registry_that_is_there(toy_zoo: Path, invoke: Any) -> None:
    before = snapshot(toy_zoo)
    refused(invoke("init", toy_zoo), "holds a registry already", f"tupate-hub list --registry {toy_zoo}")
    assert snapshot(toy_zoo) == before


def test_init_refuses_a_place_that_is_no_folder(tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "file").write_text("mine")
    refused(invoke("init", tmp_path / "file"), "cannot be written")
    assert (tmp_path / "file").read_text() == "mine"


# --- merge -----------------------------------------------------------------------------------------------------


@pytest.fixture
def changed(toy_zoo: Path, tmp_path: Path, invoke: Any) -> Path:
    """A copy of the toy zoo with another rte and one more task."""
    folder = Path(shutil.copytree(toy_zoo, tmp_path / "changed"))
    for task, source in (("rte", "snli"), ("boolq", "imdb")):
        adapter = tmp_path / task
        pulled = invoke("pull", source, "--as", "peft", "--bare", "--to", adapter, "--registry", folder)
        assert pulled.code == 0
        assert invoke("add", adapter, "--task", task, "--force", "--registry", folder).code == 0
    return folder


def test_merge_refuses_what_differs_and_names_it(toy_zoo: Path, changed: Path, tmp_path: Path, invoke: Any) -> None:
    target = tmp_path / "both"
    refused(invoke("merge", toy_zoo, changed, "--to", target), f"rte in {LORA.name}.", "--ours", "--theirs")
    assert not target.exists()


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_merge_takes_the_side_that_is_said(
    side: str, toy_zoo: Path, changed: Path, tmp_path: Path, invoke: Any
) -> None:
    target = tmp_path / "both"
    result = invoke("merge", toy_zoo, changed, "--to", target, f"--{side}", "--json")
    assert result.json() == {
        "folder": str(target),
        "embeddings": 2 * len(TASKS) + 1,
        "ours": 0,
        "theirs": 1,
        "both": 2 * len(TASKS),
        "resolved": [f"rte in {LORA.name}"],
    }
    assert invoke("verify", "--registry", target).code == 0
    chosen = Zoo.open(toy_zoo if side == "ours" else changed).registry.entry("rte", LORA.name)
    assert Zoo.open(target).registry.entry("rte", LORA.name).sha256 == chosen.sha256
    assert invoke("similar", "boolq", "--registry", target).code == 0


def test_merge_says_what_it_did_on_stderr(toy_zoo: Path, changed: Path, tmp_path: Path, invoke: Any) -> None:
    result = invoke("merge", toy_zoo, changed, "--to", tmp_path / "both", "--theirs")
    assert (result.code, result.out) == (0, "")
    assert f"rte in {LORA.name}: taken from {changed}" in result.err
    assert f"13 embeddings in {tmp_path / 'both'}: 0 from {toy_zoo}, 1 from {changed}, 12 in both" in result.err


def test_merge_refuses_both_sides_at_once(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    refused(invoke("merge", toy_zoo, toy_zoo, "--to", tmp_path / "x", "--ours", "--theirs"), "exclude each other")


def test_merge_refuses_a_target_with_a_registry(toy_zoo: Path, changed: Path, invoke: Any) -> None:
    before = snapshot(changed)
    refused(invoke("merge", toy_zoo, changed, "--ours", "--to", changed), "holds a registry already", "--to")
    assert snapshot(changed) == before


def test_merge_refuses_a_registry_that_is_not_there(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    refused(invoke("merge", toy_zoo, tmp_path / "nowhere", "--to", tmp_path / "x"), "nowhere")
    result = invoke("merge", toy_zoo, toy_zoo)
    assert result.code == 2
    assert "--to" in result.err


# --- card ------------------------------------------------------------------------------------------------------


def test_card_writes_the_card_and_prints_where_it_is(toy_zoo: Path, invoke: Any) -> None:
    result = invoke("card", "--registry", toy_zoo)
    assert result.code == 0
    assert Path(result.out.strip()) == toy_zoo / CARD
    text = (toy_zoo / CARD).read_text(encoding="utf-8")
    assert text.startswith("---\npretty_name: ")
    for link in (f"{space.name}/{kind}.svg" for space in (LORA, PROMPT) for kind in ("heatmap", "map")):
        assert f"]({link})" in text
        assert (toy_zoo / "zoo" / link).is_file()
    assert len((toy_zoo / FILE).read_text(encoding="utf-8").splitlines()) == 2 * len(TASKS)


def test_a_second_run_changes_nothing(toy_zoo: Path, invoke: Any) -> None:
    first = invoke("card", "--registry", toy_zoo, "--json").json()
    assert first["folder"] == str(toy_zoo)
    assert first["changed"] == first["files"]
    before = {path: path.stat().st_mtime_ns for path in toy_zoo.rglob("*")}
    again = invoke("card", "--registry", toy_zoo, "--json").json()
    assert again == {**first, "changed": []}
    assert {path: path.stat().st_mtime_ns for path in toy_zoo.rglob("*")} == before


def test_only_what_changed_is_written(toy_zoo: Path, invoke: Any) -> None:
    assert invoke("card", "--registry", toy_zoo).code == 0
    given = ["--title", "Mine: <b>", "--location", "me/zoo", "--language", "en", "--language", "de"]
    assert invoke("card", "--registry", toy_zoo, *given, "--json").json()["changed"] == [CARD]
    text = (toy_zoo / CARD).read_text(encoding="utf-8")
    assert "pretty_name: 'Mine: <b>'\n" in text
    assert "# Mine: &lt;b&gt;\n" in text
    assert "language:\n- en\n- de\n" in text
    assert "--registry me/zoo\n" in text


def test_the_card_changes_no_other_file(toy_zoo: Path, invoke: Any) -> None:
    before = snapshot(toy_zoo)
    made = invoke("card", "--registry", toy_zoo, "--json").json()["files"]
    after = snapshot(toy_zoo)
    assert set(after) == {*before, *made}
    assert {name: after[name] for name in before} == before
    assert invoke("verify", "--registry", toy_zoo).code == 0


def test_the_bundled_zoo_s_card_is_its_own(toy_zoo: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo_module, "bundled_root", lambda: toy_zoo)
    assert invoke("card").code == 0
    assert (toy_zoo / CARD).read_bytes() == card_of(Zoo.open(toy_zoo), BUNDLED)[CARD]
    assert "--registry" not in (toy_zoo / CARD).read_text(encoding="utf-8")


def test_card_of_an_empty_registry(tmp_path: Path, invoke: Any) -> None:
    assert invoke("init", tmp_path).code == 0
    assert invoke("card", "--registry", tmp_path, "--json").json()["files"] == [FILE, CARD]
    assert "The registry is empty" in (tmp_path / CARD).read_text(encoding="utf-8")


def test_card_refuses_a_damaged_registry(toy_zoo: Path, invoke: Any) -> None:
    data = json.loads((toy_zoo / FILENAME).read_text(encoding="utf-8"))
    place = data["spaces"][LORA.name]["index"]["update"]["file"]
    (toy_zoo / place).write_bytes(b"x" * (toy_zoo / place).stat().st_size)
    before = snapshot(toy_zoo)
    refused(invoke("card", "--registry", toy_zoo), "another content", "tupate-hub verify")
    assert snapshot(toy_zoo) == before


def test_card_refuses_a_registry_of_the_hub(toy_zoo: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = replace(Zoo.open(toy_zoo), remote=cast(Any, "a snapshot"))
    before = snapshot(toy_zoo)
    monkeypatch.setattr(Zoo, "open", staticmethod(lambda location: remote))
    refused(invoke("card", "--registry", "me/zoo"), "on the Hub", "tupate-hub card --registry DIR")
    assert snapshot(toy_zoo) == before


def test_card_refuses_a_folder_without_a_registry(tmp_path: Path, invoke: Any) -> None:
    refused(invoke("card", "--registry", tmp_path), "There is no registry")


def test_a_picture_s_place_that_is_taken_by_a_folder_is_one_sentence(toy_zoo: Path, invoke: Any) -> None:
    (toy_zoo / "zoo" / LORA.name / "heatmap.svg").mkdir()
    result = invoke("card", "--registry", toy_zoo)
    assert result.code in (1, 2)
    assert "heatmap.svg" in result.err
    assert "Traceback" not in result.err


def test_more_embeddings_than_the_memory_holds_the_pairs_of(
    toy_zoo: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """50,000 would ask for 20 GB."""
    monkeypatch.setattr("tupate_hub.compare.kernel.MOST_BYTES", 100)
    change(toy_zoo, lambda data: data["spaces"]["tiny-bert/lora"].update(index={}))
    result = invoke("card", "--registry", toy_zoo)
    assert (result.code, result.out) == (1, "")
    assert "To compare 6 embeddings with 6 takes" in result.err
    assert "make registries of fewer embeddings" in result.err
