"""Shelves: a registry in shards answers as one that is held as a whole, and says what is wrong with a shard."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import BASE, LORA, PROMPT, lora
from large import damage, grown, loras, shards

from tupate_hub import Zoo
from tupate_hub.errors import FormatError, RegistryError, UnknownName
from tupate_hub.registry import Entry, Registry, SpaceEntry, Task
from tupate_hub.storage.registry_json import parse_registry

pytestmark = pytest.mark.usefixtures("small_shards")


def together(zoo: Zoo) -> Registry:
    """The same registry, held as a whole."""
    held = zoo.registry
    return Registry(dict(held.tasks), held.spaces, tuple(held.entries), held.default_space)


def asked(answer: Callable[[], Any]) -> Any:
    """What is answered, or the error's sentence."""
    try:
        return answer()
    except UnknownName as error:
        return error.message


def test_it_is_in_shards_and_small_ones_are_not(sharded: Zoo, tmp_path: Path) -> None:
    assert sharded.registry.shelves is not None
    listed = json.loads((sharded.root / "registry.json").read_text())
    assert (listed["schema"], "embeddings" in listed, "tasks" in listed) == (2, False, False)
    assert len(shards(sharded.root, "entries")) > 2
    small = grown(tmp_path / "small", *loras(4))
    assert small.registry.shelves is None
    assert json.loads((small.root / "registry.json").read_text())["schema"] == 1


def test_every_question_has_the_same_answer(sharded: Zoo) -> None:
    held, whole = sharded.registry, together(sharded)
    assert list(held.entries) == list(whole.entries)
    assert dict(held.tasks) == dict(whole.tasks)
    assert held.rows() == whole.rows()
    assert set(held.files()) - set(held.shelves.files() if held.shelves else ()) == set(whole.files())
    for space in (LORA.name, PROMPT.name, "nowhere"):
        assert list(held.in_space(space)) == list(whole.in_space(space))
        assert len(held.in_space(space)) == len(whole.in_space(space))
    names = [*whole.tasks, "K_TASK 000", "acme/data1", "z-task-999", "", "r-task-001x"]
    for name in names:
        assert asked(lambda name=name: held.task(name)) == asked(lambda name=name: whole.task(name))
        for space in (None, LORA.name, "prompt", "nowhere"):
            assert asked(lambda n=name, s=space: held.find(n, s)) == asked(lambda n=name, s=space: whole.find(n, s))
            assert held.get(name, space or "") == whole.get(name, space or "")


def test_a_name_is_found_in_one_shard_of_names_and_one_of_embeddings(
    sharded: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    held = parse_registry((sharded.root / "registry.json").read_bytes(), "here", _noting(sharded, read))
    assert held.find("k_task 000").task == "k-task-000"
    assert sorted(file.split("/")[1] for file in read) == ["entries", "names"]
    read.clear()
    with pytest.raises(UnknownName, match="k-task-001") as caught:
        held.find("k-task-001")
    assert "did you mean" in caught.value.hint
    assert len(read) <= 1
    assert len(held.in_space(LORA.name)[:3]) == 3


def _noting(zoo: Zoo, read: list[str]) -> Callable[[str, int, str], bytes]:
    def reader(file: str, size: int, sha256: str) -> bytes:
        read.append(file)
        return zoo.read_file(file, size, sha256)

    return reader


def test_an_alias_leads_to_its_task(sharded: Zoo) -> None:
    task = Task("added", "Added", ("glue/Added", "added-too"))
    held = sharded.registry.with_entry(_entry("added"), task, SpaceEntry(LORA.name, BASE, "lora"))
    assert held.task("GLUE/added") == held.task("added_TOO") == task
    assert held.find("glue/added") == _entry("added")
    assert len(held.entries) == len(sharded.registry.entries) + 1
    renamed = held.with_entry(_entry("added"), replace(task, aliases=("another",)), held.spaces[LORA.name])
    assert renamed.called("another") == "added"
    assert renamed.called("added-too") is None
    assert sharded.registry.called("added") is None


@pytest.mark.parametrize("name", ["k-task-000", "K TASK_000"])
def test_an_alias_that_is_another_s_name_is_refused(sharded: Zoo, name: str) -> None:
    task = Task("added", "Added", (name,))
    with pytest.raises(RegistryError, match=r"Cannot add 'added'.*is also a name of task 'k-task-000'") as caught:
        sharded.registry.with_entry(_entry("added"), task, sharded.registry.spaces[LORA.name])
    assert caught.value.hint == "give each alias to one task"


def _entry(task: str) -> Entry:
    return Entry(task, LORA.name, f"zoo/{LORA.name}/{task}.safetensors", 1, "a" * 64)


def test_what_is_written_does_not_depend_on_the_order_of_additions(tmp_path: Path) -> None:
    one = grown(tmp_path / "one", *loras(12))
    for number, embedding in enumerate(reversed([*loras(12)])):
        grown(tmp_path / f"other{number // 12}", embedding)
    other = Zoo.open(tmp_path / "other0")
    assert one.registry.shelves is not None and other.registry.shelves is not None
    assert one.registry.shelves == other.registry.shelves
    assert one.registry.entries == other.registry.entries
    assert one.registry.tasks == other.registry.tasks


def test_an_addition_leaves_the_other_shards_alone(sharded: Zoo) -> None:
    before = {place["file"] for kind in ("entries", "names") for place in shards(sharded.root, kind)}
    added = grown(sharded.root, lora("k-task-0005", 50))
    after = {place["file"] for kind in ("entries", "names") for place in shards(sharded.root, kind)}
    assert 1 <= len(before - after) <= 2
    assert {file for file in before - after if (sharded.root / file).exists()} == set()
    assert after == {f"zoo/{path.parent.name}/{path.name}" for path in sharded.root.glob("zoo/*/*.json")}
    assert added.verify() == []


# --- damaged, and hostile --------------------------------------------------------------------------------------


def test_a_missing_shard_is_named(sharded: Zoo) -> None:
    file = shards(sharded.root, "names")[0]["file"]
    (sharded.root / file).unlink()
    with pytest.raises(FormatError, match=f"{file} cannot be read: it does not exist"):
        Zoo.open(sharded.root).registry.task("b-task-002")


def test_a_shard_of_other_bytes_is_refused(sharded: Zoo) -> None:
    place = shards(sharded.root, "names")[0]
    (sharded.root / place["file"]).write_bytes(b"x" * place["bytes"])
    with pytest.raises(FormatError, match="has another content than the registry says"):
        Zoo.open(sharded.root).registry.task("b-task-002")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda rows: rows[0].update(file="../../x"), "its file '../../x' leaves the zoo"),
        (lambda rows: rows[0].update(sha256="short"), "must be 64 hexadecimal digits"),
        (lambda rows: rows[0].update(bytes=-1), "'bytes' is negative"),
        (lambda rows: rows[0].update(space="elsewhere"), "its space 'elsewhere' is not among the spaces"),
        (lambda rows: rows[0].update(task="zzz"), "comes behind|the registry says"),
        (lambda rows: rows.append(rows[0]), "rows, the registry says"),
        (lambda rows: rows.__setitem__(0, 3), "must be an object"),
    ],
)
def test_a_hostile_shard_of_embeddings_is_refused(sharded: Zoo, how: Callable[[Any], object], said: str) -> None:
    damage(sharded.root, "entries", 0, how)
    with pytest.raises(RegistryError, match=said) as caught:
        list(Zoo.open(sharded.root).registry.entries)
    assert shards(sharded.root, "entries")[0]["file"] in caught.value.message


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda rows: rows[0].update(name="../x"), "its name must be plain"),
        (lambda rows: rows[0].update(name="zzz"), "comes behind|the registry says"),
        (lambda rows: rows[0].pop("title"), "'title' is missing"),
        (lambda rows: rows[0].pop("name"), "'name' is missing"),
        (lambda rows: rows[0].update(alias=3), "'alias' must be text"),
    ],
)
def test_a_hostile_shard_of_names_is_refused(sharded: Zoo, how: Callable[[Any], object], said: str) -> None:
    damage(sharded.root, "names", 0, how)
    with pytest.raises(RegistryError, match=said):
        list(Zoo.open(sharded.root).registry.tasks)


def test_one_name_cannot_stand_in_two_shards(sharded: Zoo) -> None:
    path = sharded.root / "registry.json"
    registry = json.loads(path.read_text())
    registry["shards"]["entries"][1] = registry["shards"]["entries"][0]
    path.write_text(json.dumps(registry))
    with pytest.raises(RegistryError, match="shard 1 of entries: it begins before the end of the last one"):
        Zoo.open(sharded.root)


def test_an_embedding_without_a_name_is_said_to_have_none(sharded: Zoo, invoke: Callable[..., Any]) -> None:
    """Where the names end before it does: the registry has the embedding, and verify finds what is wrong."""
    path = sharded.root / "registry.json"
    registry = json.loads(path.read_text())
    del registry["shards"]["names"][-1]
    path.write_text(json.dumps(registry))
    result = invoke("list", "--registry", sharded.root)
    assert (result.code, "is not among the names of the registry" in result.err) == (2, True)
    task = list(sharded.registry.tasks)[-1]
    assert any(repr(task) in problem for problem in Zoo.open(sharded.root).verify())


def test_an_alias_of_a_task_that_there_is_not(sharded: Zoo) -> None:
    def to_alias(rows: list[dict[str, Any]]) -> None:
        rows[0] = {"alias": rows[0]["name"].replace("-", ""), "task": "nobody"}

    damage(sharded.root, "names", 0, to_alias)
    held = Zoo.open(sharded.root).registry
    with pytest.raises(RegistryError, match="'nobody' is not among the names"):
        held.task("b-task-002")


@pytest.mark.parametrize("shards", [None, [], {"names": []}, {"names": {}, "entries": []}])
def test_shards_that_are_not_listed_as_they_should_be(sharded: Zoo, shards: Any) -> None:
    registry = {**json.loads((sharded.root / "registry.json").read_text()), "shards": shards}
    with pytest.raises(RegistryError, match=r"shards|names|entries"):
        parse_registry(json.dumps(registry), "here")
