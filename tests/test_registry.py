"""The registry: read what is right, refuse what is wrong by entry and field, write the same bytes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from builders import BASE, LORA
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.errors import RegistryError, UnknownName
from tupate_hub.registry import FILENAME, SHARDED, Entry, Registry, Repeat, SpaceEntry, Task
from tupate_hub.storage.registry_json import parse_registry

DIGEST = "0123456789abcdef" * 4
VALID: dict[str, Any] = {
    "schema": 1,
    "default_space": "tiny/lora",
    "tasks": {
        "sst2": {
            "title": "SST-2",
            "aliases": ["sst-2", "glue/sst2", "stanfordnlp/sst2"],
            "kind": "classification",
            "task_class": "sentiment",
            "train_size": 67349,
            "metric": "accuracy",
            "dataset": "stanfordnlp/sst2",
            "licence": "unknown",
        },
        "mnli": {"title": "MNLI"},
    },
    "spaces": {
        "tiny/lora": {
            "base": BASE,
            "method": "lora",
            "base_sha256": DIGEST,
            "settings": {"r": 8},
            "index": {"update": {"file": "zoo/tiny/lora/index-update.safetensors", "bytes": 9, "sha256": DIGEST}},
        },
        "tiny/prompt": {"base": BASE, "method": "prompt"},
    },
    "embeddings": [
        {
            "task": "sst2",
            "space": "tiny/lora",
            "file": "zoo/tiny/lora/sst2.safetensors",
            "bytes": 100,
            "sha256": DIGEST,
            "source": {"kind": "trained"},
            "scores": {"accuracy": 0.9},
            "flags": ["weak"],
            "repeats": [
                {
                    "file": "zoo/tiny/lora/repeats/sst2-s1-i0.safetensors",
                    "bytes": 101,
                    "sha256": DIGEST[::-1],
                    "seed": 1,
                    "init_seed": 0,
                    "scores": {"accuracy": 0.8},
                },
                {"file": "b.safetensors", "bytes": 2, "sha256": DIGEST, "seed": 2, "init_seed": 2},
            ],
        },
        {"task": "mnli", "space": "tiny/lora", "file": "zoo/tiny/lora/mnli.safetensors", "bytes": 0, "sha256": DIGEST},
        {"task": "mnli", "space": "tiny/prompt", "file": "a.safetensors", "bytes": 1, "sha256": DIGEST},
    ],
}

TASK = ("tasks", "sst2")
SPACE = ("spaces", "tiny/lora")
INDEX = (*SPACE, "index", "update")
ENTRY = ("embeddings", 0)
REPEAT = (*ENTRY, "repeats", 0)
MISSING = object()


def valid() -> dict[str, Any]:
    return copy.deepcopy(VALID)


def parse(data: Any) -> Registry:
    return parse_registry(json.dumps(data), "here/registry.json")


def changed(place: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """The valid registry with one field set, or removed where `value` is MISSING."""
    data = valid()
    at: Any = data
    for step in place[:-1]:
        at = at[step]
    if value is MISSING:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    return data


# --- reading ---------------------------------------------------------------------------------------------------


def test_every_field_is_read() -> None:
    registry = parse(valid())
    assert registry.tasks["sst2"] == Task(
        name="sst2",
        title="SST-2",
        aliases=("sst-2", "glue/sst2", "stanfordnlp/sst2"),
        kind="classification",
        task_class="sentiment",
        train_size=67349,
        metric="accuracy",
        dataset="stanfordnlp/sst2",
        licence="unknown",
    )
    place = {"file": "zoo/tiny/lora/index-update.safetensors", "bytes": 9, "sha256": DIGEST}
    assert registry.spaces["tiny/lora"] == SpaceEntry("tiny/lora", BASE, "lora", DIGEST, {"r": 8}, {"update": place})
    assert registry.spaces["tiny/lora"].space == LORA
    assert registry.entry("sst2", "tiny/lora") == Entry(
        "sst2",
        "tiny/lora",
        "zoo/tiny/lora/sst2.safetensors",
        100,
        DIGEST,
        {"kind": "trained"},
        {"accuracy": 0.9},
        ("weak",),
        (
            Repeat("zoo/tiny/lora/repeats/sst2-s1-i0.safetensors", 101, DIGEST[::-1], 1, 0, {"accuracy": 0.8}),
            Repeat("b.safetensors", 2, DIGEST, 2, 2),
        ),
    )
    assert registry.default_space == "tiny/lora"


def test_what_may_be_left_out_has_a_default() -> None:
    registry = parse(valid())
    assert registry.tasks["mnli"] == Task("mnli", "MNLI", (), "", "", None, "", "", "")
    assert registry.spaces["tiny/prompt"] == SpaceEntry("tiny/prompt", BASE, "prompt", "", {}, {})
    assert registry.entry("mnli", "tiny/prompt").flags == ()
    assert registry.entry("mnli", "tiny/prompt").repeats == ()


def test_unknown_fields_are_left_alone() -> None:
    data = changed((*TASK, "invented_later"), 1)
    data["invented_later"] = {}
    assert parse(data) == parse(valid())


def test_null_says_that_the_train_size_is_not_known() -> None:
    assert parse(changed((*TASK, "train_size"), None)).tasks["sst2"].train_size is None


def test_entries_come_in_order_of_space_and_task() -> None:
    keys = [(entry.space, entry.task) for entry in parse(valid()).entries]
    assert keys == [("tiny/lora", "mnli"), ("tiny/lora", "sst2"), ("tiny/prompt", "mnli")]
    assert [entry.task for entry in parse(valid()).in_space("tiny/lora")] == ["mnli", "sst2"]


def test_an_empty_registry_is_valid() -> None:
    registry = parse({"schema": 1, "default_space": "", "tasks": {}, "spaces": {}, "embeddings": []})
    assert registry == Registry()
    with pytest.raises(UnknownName) as caught:
        registry.space()
    assert caught.value.hint == "known: none, the registry is empty"


# --- refusing --------------------------------------------------------------------------------------------------

REQUIRED = [
    (("schema",), "the top level"),
    (("default_space",), "the top level"),
    (("tasks",), "the top level"),
    (("spaces",), "the top level"),
    (("embeddings",), "the top level"),
    ((*TASK, "title"), "task 'sst2'"),
    ((*SPACE, "base"), "space 'tiny/lora'"),
    ((*SPACE, "method"), "space 'tiny/lora'"),
    ((*INDEX, "file"), "space 'tiny/lora', index 'update'"),
    ((*INDEX, "bytes"), "space 'tiny/lora', index 'update'"),
    ((*INDEX, "sha256"), "space 'tiny/lora', index 'update'"),
    ((*ENTRY, "task"), "embedding 0"),
    ((*ENTRY, "space"), "embedding 0 (sst2)"),
    ((*ENTRY, "file"), "embedding 0 (sst2)"),
    ((*ENTRY, "bytes"), "embedding 0 (sst2)"),
    ((*ENTRY, "sha256"), "embedding 0 (sst2)"),
]


@pytest.mark.parametrize("value", [MISSING, None], ids=["missing", "null"])
@pytest.mark.parametrize(("place", "entry"), REQUIRED)
def test_a_missing_field_is_named_with_its_entry(place: tuple[str | int, ...], entry: str, value: Any) -> None:
    with pytest.raises(RegistryError) as caught:
        parse(changed(place, value))
    assert caught.value.message == f"here/registry.json: {entry}: field {place[-1]!r} is missing."
    assert caught.value.hint == "docs/registry.md lists the fields"


WRONG = [
    (("schema",), "1", "a whole number, not str"),
    (("schema",), True, "a whole number, not bool"),
    (("schema",), 1.0, "a whole number, not float"),
    (("default_space",), 3, "text, not int"),
    (("tasks",), [], "an object, not list"),
    (("spaces",), "x", "an object, not str"),
    (("embeddings",), {}, "a list, not dict"),
    ((*TASK, "title"), 1, "text, not int"),
    ((*TASK, "aliases"), "sst-2", "a list, not str"),
    ((*TASK, "aliases"), [1], "a list of text"),
    ((*TASK, "kind"), [], "text, not list"),
    ((*TASK, "task_class"), 0.5, "text, not float"),
    ((*TASK, "train_size"), "many", "a whole number, not str"),
    ((*TASK, "train_size"), 1.5, "a whole number, not float"),
    ((*TASK, "metric"), {}, "text, not dict"),
    ((*TASK, "dataset"), 1, "text, not int"),
    ((*TASK, "licence"), False, "text, not bool"),
    ((*SPACE, "base"), 1, "text, not int"),
    ((*SPACE, "method"), [], "text, not list"),
    ((*SPACE, "base_sha256"), 1, "text, not int"),
    ((*SPACE, "settings"), [], "an object, not list"),
    ((*SPACE, "index"), [], "an object, not list"),
    ((*INDEX, "bytes"), "9", "a whole number, not str"),
    ((*ENTRY, "task"), 1, "text, not int"),
    ((*ENTRY, "space"), 1, "text, not int"),
    ((*ENTRY, "file"), ["a"], "text, not list"),
    ((*ENTRY, "bytes"), 1.5, "a whole number, not float"),
    ((*ENTRY, "bytes"), True, "a whole number, not bool"),
    ((*ENTRY, "sha256"), 5, "text, not int"),
    ((*ENTRY, "source"), "me", "an object, not str"),
    ((*ENTRY, "scores"), [1], "an object, not list"),
    ((*ENTRY, "flags"), "weak", "a list, not str"),
    ((*ENTRY, "flags"), [None], "a list of text"),
]


@pytest.mark.parametrize(("place", "value", "expected"), WRONG)
def test_a_field_of_the_wrong_type_is_named_with_its_entry(
    place: tuple[str | int, ...], value: Any, expected: str
) -> None:
    with pytest.raises(RegistryError) as caught:
        parse(changed(place, value))
    assert f"field {place[-1]!r} must be {expected}." in caught.value.message
    entry = {"tasks": "task 'sst2'", "spaces": "space 'tiny/lora'", "embeddings": "embedding 0"}.get(str(place[0]))
    assert (entry if entry and len(place) > 1 else "the top level") in caught.value.message


@pytest.mark.parametrize("place", [TASK, SPACE, INDEX, ENTRY])
@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_an_entry_that_is_no_object_is_named(place: tuple[str | int, ...], value: Any) -> None:
    with pytest.raises(RegistryError, match="must be an object"):
        parse(changed(place, value))


@pytest.mark.parametrize("value", [[], "text", 3, None, True])
def test_a_registry_that_is_no_object(value: Any) -> None:
    with pytest.raises(RegistryError, match="the top level: must be an object"):
        parse(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{]",
        b"\xff\xfe\x00",
        "[" * 100_000,
        '{"schema": 1, "schema": 1}',
        '{"schema": NaN}',
        '{"a": "\\ud800"}',
    ],
    ids=["empty", "open", "mixed", "bytes", "deep", "twice", "nan", "half a character"],
)
def test_text_that_is_not_json(text: str | bytes) -> None:
    with pytest.raises(RegistryError, match=r"^here/registry.json is not JSON"):
        parse_registry(text, "here/registry.json")


def test_a_task_that_stands_twice_is_named() -> None:
    text = json.dumps(valid()).replace('"mnli": {', '"mnli": {"title": "other"}, "mnli": {', 1)
    with pytest.raises(RegistryError, match="'mnli' stands twice"):
        parse_registry(text, "here")


def test_a_newer_schema_says_what_to_type() -> None:
    with pytest.raises(RegistryError, match=f"schema {SHARDED + 1}; .* up to {SHARDED}") as caught:
        parse({"schema": SHARDED + 1, "whatever": "came later"})
    assert caught.value.hint == "pip install --upgrade tupate-hub"


@pytest.mark.parametrize("schema", [0, -1])
def test_a_schema_that_never_was(schema: int) -> None:
    with pytest.raises(RegistryError, match=f"schema {schema}"):
        parse(changed(("schema",), schema))


LEAVING = [
    "",
    ".",
    "..",
    "../x.safetensors",
    "zoo/../../x.safetensors",
    "zoo/..",
    "/etc/passwd",
    "//server/share/x",
    "C:/x.safetensors",
    "C:x.safetensors",
    "zoo\\x.safetensors",
    "..\\x.safetensors",
    "\\\\server\\share",
    "~/x",
    "zoo/x\0.safetensors",
    "zoo/x\n.safetensors",
    "zoo/ ",
    "file:x",
]


@pytest.mark.parametrize("place", [ENTRY, INDEX], ids=["embedding", "index"])
@pytest.mark.parametrize("path", LEAVING)
def test_a_path_that_leaves_the_zoo_is_refused(place: tuple[str | int, ...], path: str) -> None:
    with pytest.raises(RegistryError) as caught:
        parse(changed((*place, "file"), path))
    assert f"its file {path!r} leaves the zoo" in caught.value.message
    assert ("embedding 0 (sst2)" if place == ENTRY else "index 'update'") in caught.value.message


@given(st.text(alphabet="./\\:~ab\0", max_size=12))
def test_an_accepted_path_stays_inside(path: str) -> None:
    try:
        file = parse(changed((*ENTRY, "file"), path)).entry("sst2", "tiny/lora").file
    except RegistryError:
        return
    root = Path("/root/of/zoo")
    assert (root / file).resolve().is_relative_to(root)
    assert (root / file).resolve() != root


@pytest.mark.parametrize("digest", ["", DIGEST[:-1], DIGEST + "0", DIGEST.upper(), "g" * 64, " " + DIGEST[1:]])
def test_a_digest_is_64_lower_hexadecimal_digits(digest: str) -> None:
    with pytest.raises(RegistryError, match=r"embedding 0 \(sst2\): field 'sha256' must be 64"):
        parse(changed((*ENTRY, "sha256"), digest))


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(RegistryError, match=r"embedding 0 \(sst2\): field 'bytes' is negative"):
        parse(changed((*ENTRY, "bytes"), -1))


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        ((*ENTRY, "task"), "cola", "embedding 0 (cola): its task 'cola' is not among the tasks"),
        ((*ENTRY, "space"), "tiny/ia3", "embedding 0 (sst2): its space 'tiny/ia3' is not among the spaces"),
        (("default_space",), "tiny/ia3", "the top level: default_space 'tiny/ia3' is not among its spaces"),
        (("embeddings", 1), VALID["embeddings"][0], "embeddings: two of them have the same task and space"),
    ],
)
def test_references_are_checked(place: tuple[str | int, ...], value: Any, complaint: str) -> None:
    with pytest.raises(RegistryError) as caught:
        parse(changed(place, value))
    assert caught.value.message == f"here/registry.json: {complaint}."


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "a\n", "a\x1b[31m", "a:b", "a\\b"])
def test_a_task_has_a_plain_name(name: str) -> None:
    with pytest.raises(RegistryError, match="its name must be plain"):
        parse(changed(("tasks", name), {"title": "x"}))


@pytest.mark.parametrize("name", ["", "..", "../lora", "tiny/", "/lora", "tiny//lora", "tiny\\lora", "tiny/\x1b"])
def test_a_space_has_a_plain_name(name: str) -> None:
    with pytest.raises(RegistryError, match="its name must be plain"):
        parse(changed(("spaces", name), {"base": BASE, "method": "lora"}))


@pytest.mark.parametrize("alias", ["sst2", "SST_2", "glue/sst2", "Glue/SST-2"])
def test_an_alias_of_two_tasks_is_refused_with_both_names(alias: str) -> None:
    with pytest.raises(RegistryError) as caught:
        parse(changed(("tasks", "mnli", "aliases"), [alias]))
    assert "here/registry.json: task 'mnli'" in caught.value.message
    assert "of task 'sst2'" in caught.value.message
    assert repr(alias) in caught.value.message
    assert caught.value.hint == "give each alias to one task"


def test_two_task_names_that_read_alike_are_refused() -> None:
    with pytest.raises(RegistryError, match=r"'SST_2'.*'sst2'"):
        parse(changed(("tasks", "SST_2"), {"title": "x"}))


def test_a_task_may_repeat_its_own_name_among_its_aliases() -> None:
    assert parse(changed((*TASK, "aliases"), ["SST-2", "sst2", "sst_2"])).task("sst-2").name == "sst2"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = [place for place, _ in REQUIRED] + [TASK, SPACE, INDEX, ENTRY, (*TASK, "aliases"), (*SPACE, "index")]


@given(st.sampled_from(PLACES), json_values)
def test_whatever_stands_in_a_field_the_registry_is_read_or_refused(place: tuple[str | int, ...], value: Any) -> None:
    try:
        registry = parse(changed(place, value))
    except RegistryError as error:
        assert error.message.startswith("here/registry.json")
    else:
        assert parse_registry(registry.to_json(), "again") == registry


# --- writing ---------------------------------------------------------------------------------------------------


def test_a_registry_survives_its_own_text() -> None:
    registry = parse(valid())
    assert parse_registry(registry.to_json(), "again") == registry
    assert parse_registry(registry.to_json().encode(), "again") == registry


def test_the_text_does_not_depend_on_the_order_of_anything() -> None:
    data = valid()
    data["embeddings"].reverse()
    data["tasks"] = dict(reversed(data["tasks"].items()))
    data["spaces"] = dict(reversed(data["spaces"].items()))
    data["spaces"]["tiny/lora"] = dict(reversed(data["spaces"]["tiny/lora"].items()))
    shuffled = json.dumps(dict(reversed(data.items())))
    assert parse_registry(shuffled, "here").to_json() == parse(valid()).to_json()


def test_the_text_is_sorted_one_field_a_line_and_ends_in_a_line_feed() -> None:
    text = parse(valid()).to_json()
    assert text.endswith("}\n")
    assert text.startswith('{\n "default_space": "tiny/lora",\n "embeddings": [\n')
    data = json.loads(text)
    assert list(data) == sorted(data)
    assert list(data["tasks"]) == ["mnli", "sst2"]
    assert [(row["space"], row["task"]) for row in data["embeddings"]] == sorted(
        (row["space"], row["task"]) for row in data["embeddings"]
    )
    assert "name" not in data["tasks"]["mnli"]


def test_titles_keep_their_letters() -> None:
    text = parse(changed((*TASK, "title"), "Émotions 感情")).to_json()
    assert "Émotions 感情" in text


def test_the_toy_zoo_is_written_as_it_is_read(toy_zoo: Path) -> None:
    text = (toy_zoo / FILENAME).read_text(encoding="utf-8")
    assert parse_registry(text, "toy").to_json() == text


# --- looking up ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sst2", "SST-2", "sst_2", "SsT 2", "glue/sst2", "GLUE/SST-2", "stanfordnlp/sst2"])
def test_a_task_answers_to_its_aliases(name: str) -> None:
    assert parse(valid()).task(name).name == "sst2"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("sst3", "did you mean sst2?"),
        ("stt2", "did you mean sst2?"),
        ("MNLI-m", "did you mean mnli?"),
        ("glue/sst", "did you mean sst2?"),
        ("quora", "tupate-hub list"),
        ("", "tupate-hub list"),
    ],
)
def test_an_unknown_task_gets_the_nearest_name(typed: str, hint: str) -> None:
    with pytest.raises(UnknownName) as caught:
        parse(valid()).task(typed)
    assert caught.value.message == f"Unknown task {typed!r}."
    assert caught.value.hint == hint


def test_an_unknown_space_gets_the_known_ones() -> None:
    registry = parse(valid())
    assert registry.space().name == "tiny/lora"
    assert registry.space("tiny/prompt").method == "prompt"
    with pytest.raises(UnknownName, match="Unknown space 'bitfit'") as caught:
        registry.space("bitfit")
    assert caught.value.hint == "known: tiny/lora, tiny/prompt"


def test_a_task_that_a_space_lacks_says_where_it_is() -> None:
    with pytest.raises(UnknownName, match="'sst2' has no embedding in space 'tiny/prompt'") as caught:
        parse(valid()).entry("sst2", "tiny/prompt")
    assert caught.value.hint == "it is elsewhere: `space='tiny/lora'`"


def test_a_task_without_any_embedding_points_to_the_list() -> None:
    registry = parse(changed(("tasks", "cola"), {"title": "CoLA"}))
    with pytest.raises(UnknownName) as caught:
        registry.entry("cola", "tiny/lora")
    assert caught.value.hint == "tupate-hub list"


# --- adding ----------------------------------------------------------------------------------------------------

COLA = Task("cola", "CoLA", aliases=("glue/cola",))
ADDED = Entry("cola", "tiny/lora", "zoo/tiny/lora/cola.safetensors", 7, DIGEST)


def test_adding_keeps_the_order_and_leaves_the_old_registry_alone() -> None:
    old = parse(valid())
    new = old.with_entry(ADDED, COLA, old.spaces["tiny/lora"])
    assert [entry.task for entry in new.in_space("tiny/lora")] == ["cola", "mnli", "sst2"]
    assert new.task("glue/cola") == COLA
    assert old == parse(valid())
    assert parse_registry(new.to_json(), "again") == new


def test_adding_replaces_the_entry_of_that_task_and_space() -> None:
    old = parse(valid())
    newer = replace(old.entry("mnli", "tiny/lora"), bytes=123)
    new = old.with_entry(newer, old.tasks["mnli"], old.spaces["tiny/lora"])
    assert new.entry("mnli", "tiny/lora").bytes == 123
    assert new.entry("mnli", "tiny/prompt") == old.entry("mnli", "tiny/prompt")
    assert len(new.entries) == len(old.entries)


def test_the_first_entry_of_an_empty_registry_sets_the_default_space() -> None:
    space = SpaceEntry("tiny/lora", BASE, "lora")
    new = Registry().with_entry(ADDED, COLA, space)
    assert new.default_space == "tiny/lora"
    assert parse_registry(new.to_json(), "again") == new


def test_adding_a_task_with_the_name_of_another_is_refused() -> None:
    old = parse(valid())
    with pytest.raises(RegistryError, match=r"Cannot add 'cola'.*'sst-2'.*'sst2'"):
        old.with_entry(ADDED, replace(COLA, aliases=("sst-2",)), old.spaces["tiny/lora"])


@pytest.mark.parametrize("look", [lambda r: r, lambda r: r.task("sst2"), lambda r: r.space(), lambda r: r.entries[0]])
def test_what_is_found_cannot_be_changed(look: Callable[[Registry], Any]) -> None:
    with pytest.raises(FrozenInstanceError):
        look(parse(valid())).licence = "mine"


# --- repeats and files -----------------------------------------------------------------------------------------


def test_a_registry_without_repeats_does_not_mention_them() -> None:
    data = changed((*ENTRY, "repeats"), MISSING)
    assert "repeats" not in parse(data).to_json()
    assert parse(data).to_json() == parse(changed((*ENTRY, "repeats"), [])).to_json()


def test_the_runs_of_an_entry_are_itself_and_its_repeats() -> None:
    entry = parse(valid()).entry("sst2", "tiny/lora")
    runs = entry.runs()
    assert [(run.file, run.bytes, run.scores) for run in runs] == [
        (entry.file, 100, {"accuracy": 0.9}),
        ("zoo/tiny/lora/repeats/sst2-s1-i0.safetensors", 101, {"accuracy": 0.8}),
        ("b.safetensors", 2, {}),
    ]
    assert {(run.task, run.space, run.repeats) for run in runs} == {("sst2", "tiny/lora", ())}


def test_every_named_file_is_listed_once() -> None:
    data = changed((*SPACE, "moments"), {"file": "zoo/tiny/lora/moments.safetensors", "bytes": 7, "sha256": DIGEST})
    data["embeddings"].append({**data["embeddings"][2], "task": "sst2"})  # the same file for a second task
    assert sorted(parse(data).files()) == [
        ("a.safetensors", 1, DIGEST),
        ("b.safetensors", 2, DIGEST),
        ("zoo/tiny/lora/index-update.safetensors", 9, DIGEST),
        ("zoo/tiny/lora/mnli.safetensors", 0, DIGEST),
        ("zoo/tiny/lora/moments.safetensors", 7, DIGEST),
        ("zoo/tiny/lora/repeats/sst2-s1-i0.safetensors", 101, DIGEST[::-1]),
        ("zoo/tiny/lora/sst2.safetensors", 100, DIGEST),
    ]


def test_a_path_with_two_contents_is_listed_with_each() -> None:
    data = changed((*REPEAT, "file"), "zoo/tiny/lora/sst2.safetensors")
    found = [size for file, size, _ in parse(data).files() if file == "zoo/tiny/lora/sst2.safetensors"]
    assert found == [100, 101]


@pytest.mark.parametrize("name", ["file", "bytes", "sha256", "seed", "init_seed"])
@pytest.mark.parametrize("value", [MISSING, [], True])
def test_a_repeat_s_fields_are_checked(name: str, value: Any) -> None:
    with pytest.raises(RegistryError) as caught:
        parse(changed((*REPEAT, name), value))
    assert caught.value.message.startswith(f"here/registry.json: embedding 0 (sst2), repeat 0: field {name!r} ")


@pytest.mark.parametrize("value", [{}, "x", 1])
def test_repeats_are_a_list_of_objects(value: Any) -> None:
    with pytest.raises(RegistryError, match=r"embedding 0 \(sst2\): field 'repeats' must be a list"):
        parse(changed((*ENTRY, "repeats"), value))
    with pytest.raises(RegistryError, match=r"embedding 0 \(sst2\), repeat 0: must be an object"):
        parse(changed((*ENTRY, "repeats"), [[value]]))


def test_a_repeat_stays_inside_the_zoo() -> None:
    with pytest.raises(RegistryError, match=r"repeat 0: its file '\.\./x' leaves the zoo"):
        parse(changed((*REPEAT, "file"), "../x"))


def test_a_space_s_last_part_is_enough_where_one_space_alone_ends_so():
    entry = SpaceEntry("a/lora", "acme/a", "lora")
    other, prefix = replace(entry, name="b/lora", base="acme/b"), replace(entry, name="b/prefix", method="prefix")
    registry = Registry(spaces={one.name: one for one in (entry, other, prefix)}, default_space="a/lora")
    assert registry.space("prefix") is prefix
    assert registry.space("b/lora") is other
    assert registry.space("a") is entry
    for unknown in ("lora", "refix", "b"):
        with pytest.raises(UnknownName, match="Unknown space"):
            registry.space(unknown)


def two_bases() -> Registry:
    spaces = {name: SpaceEntry(name, f"acme/{name.partition('/')[0]}", name.rpartition("/")[2])
              for name in ("tiny/lora", "tiny/prefix", "gpt2/lora")}  # fmt: skip
    listed = (("mnli", "tiny/lora"), ("sst2", "tiny/lora"), ("sst2", "gpt2/lora"), ("rte", "gpt2/lora"),
              ("cola", "gpt2/lora"), ("cola", "tiny/prefix"))  # fmt: skip
    entries = tuple(Entry(task, space, f"{space}/{task}", 1, DIGEST) for task, space in listed)
    return Registry({task: Task(task, task) for task, _ in listed}, spaces, entries, "tiny/lora")


def test_a_base_model_is_enough_where_it_has_one_space() -> None:
    assert two_bases().space("gpt2").name == "gpt2/lora"
    for name in ("tiny", "lora"):
        with pytest.raises(UnknownName, match=f"Unknown space '{name}'"):
            two_bases().space(name)


def test_a_task_is_found_in_the_default_space_or_where_it_alone_is() -> None:
    registry = two_bases()
    assert registry.find("sst2").space == "tiny/lora"
    assert registry.find("RTE").space == "gpt2/lora"
    assert registry.find("sst2", "gpt2").space == "gpt2/lora"
    with pytest.raises(UnknownName, match="'cola' has no embedding in space 'tiny/lora'") as caught:
        registry.find("cola")  # two have it
    assert caught.value.hint == "it is elsewhere: `space='gpt2/lora'`, or `space='tiny/prefix'`"
    with pytest.raises(UnknownName, match="'rte' has no embedding in space 'tiny/lora'"):
        registry.find("rte", "tiny/lora")
