"""Shards: whatever rows there are, they are found, counted and changed as those of a sorted list are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.errors import RegistryError
from tupate_hub.storage import shards as module
from tupate_hub.storage.rows import Check
from tupate_hub.storage.shards import Kind, Shards, read_manifest, shards_of

Pair = tuple[str, str]
KIND: Kind[list[str]] = Kind(
    "pairs", 2, lambda row: (row[0], row[1]), lambda check, number, data: list(data), lambda row: row  # type: ignore
)  # fmt: skip
KEYS = st.lists(st.tuples(st.sampled_from("abc"), st.text("xyz", min_size=1, max_size=4)), unique=True, max_size=40)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ONE_IN", 4)
    monkeypatch.setattr(module, "_MOST_HELD", 2)


def rows_of(keys: list[Pair], value: str = "") -> list[list[str]]:
    return [[*key, value] for key in keys]


def stored(made: Shards[list[str]]) -> tuple[Shards[list[str]], list[str]]:
    """The same shards as they are when they were written and listed; and the files that are read, as they are."""
    files = {shard.file: shard.data for shard in made.shards}
    read: list[str] = []

    def reader(file: str, size: int, sha256: str) -> bytes:
        read.append(file)
        data = files[file]
        assert data is not None and len(data) == size
        return data

    return read_manifest(Check("here"), KIND, made.manifest(), reader, "here/"), read


@given(KEYS)
def test_rows_are_those_of_a_sorted_list(keys: list[Pair]) -> None:
    held, _ = stored(shards_of(KIND, rows_of(keys)))
    expected = rows_of(sorted(keys))
    rows = held.rows()
    assert (list(rows), len(rows)) == (expected, len(expected))
    assert [rows[at] for at in range(-len(rows), len(rows))] == expected * 2
    for start, stop in ((0, 3), (2, 2), (3, 1), (-4, None), (1, 1000)):
        assert list(rows[start:stop]) == expected[start:stop]
    assert list(rows[1::3]) == expected[1::3]
    with pytest.raises(IndexError):
        rows[len(expected)]


@given(KEYS, st.tuples(st.sampled_from("abcd"), st.text("xyz", max_size=4)))
def test_a_row_is_found_in_one_shard(keys: list[Pair], other: Pair) -> None:
    for key in [*keys, other]:
        held, read = stored(shards_of(KIND, rows_of(keys)))
        assert held.get(key) == ([*key, ""] if key in keys else None)
        assert len(read) <= 1


@given(KEYS, st.sampled_from("abcd"))
def test_rows_that_begin_alike_are_counted_without_those_between(keys: list[Pair], first: str) -> None:
    held, read = stored(shards_of(KIND, rows_of(keys)))
    found = held.beginning((first,))
    assert len(found) == sum(key[0] == first for key in keys)
    assert len(read) <= 2
    assert list(found) == rows_of(sorted(key for key in keys if key[0] == first))


@given(KEYS, KEYS, st.randoms(use_true_random=False))
def test_what_is_changed_is_as_if_it_had_always_been_so(old: list[Pair], new: list[Pair], random: Any) -> None:
    """But where a row went with which a shard began: the one before is not looked at for that."""
    held, _ = stored(shards_of(KIND, rows_of(old)))
    put = rows_of(new, "new")
    changed = held.changed(put)
    expected = {key: "" for key in old} | {key: "new" for key in new}
    assert list(changed.rows()) == [[*key, value] for key, value in sorted(expected.items())]
    assert changed == shards_of(KIND, [[*key, value] for key, value in expected.items()])
    gone = random.sample(sorted(expected), len(expected) // 2)
    fewer = changed.changed([], gone)
    assert [row[:2] for row in fewer.rows()] == [list(key) for key in sorted(expected) if key not in gone]


def test_an_addition_makes_one_shard_anew() -> None:
    keys = [("a", f"{number:03}") for number in range(100)]
    held, read = stored(shards_of(KIND, rows_of(keys)))
    changed = held.changed([["a", "050x", ""]])
    assert len(read) == 1
    assert len({shard.sha256 for shard in held.shards} - {shard.sha256 for shard in changed.shards}) == 1
    assert sum(shard.data is not None for shard in changed.shards) in (1, 2)


def test_going_through_holds_a_few_in_memory() -> None:
    held, read = stored(shards_of(KIND, rows_of([("a", f"{number:03}") for number in range(100)])))
    assert len(list(held.rows())) == 100
    assert len(read) == len(held.shards) > 5
    assert len(held._held) <= 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"count": 0}, "'count' must be above 0"),
        ({"count": "3"}, "'count' must be a whole number"),
        ({"bytes": 10**9}, "1000000000 bytes; at most"),
        ({"bytes": -1}, "'bytes' is negative"),
        ({"sha256": "x"}, "64 hexadecimal digits"),
        ({"file": "../x.json"}, "leaves the zoo"),
        ({"file": "/etc/passwd"}, "leaves the zoo"),
        ({"first": ["a"]}, "'first' must have 2 parts"),
        ({"first": ["a", 3]}, "'first' must be a list of text"),
        ({"last": "a"}, "'last' must be a list"),
        ({"first": ["zz", "z"]}, "its first row comes behind its last"),
        ({"last": ["zz", "z"]}, "begins before the end of the last one"),
    ],
)
def test_what_a_registry_says_of_shards_is_checked(change: dict[str, Any], said: str) -> None:
    listed = shards_of(KIND, rows_of([("a", f"{number:03}") for number in range(30)])).manifest()
    listed[0].update(change)
    with pytest.raises(RegistryError, match=said) as caught:
        read_manifest(Check("here"), KIND, listed, None, "")
    assert "of pairs" in caught.value.message


@pytest.mark.parametrize("rows", [[3], "x", None])
def test_what_is_no_object_is_said_to_be_none(rows: Any) -> None:
    with pytest.raises(RegistryError, match="must be an object"):
        read_manifest(Check("here"), KIND, [rows], None, "")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('[["a", "1"], ["a", "2"], ["a", "3"]]', "has 3 rows, the registry says 2"),
        ('[["a", "2"], ["a", "1"]]', "'1' in 'a' comes behind '2' in 'a'"),
        ('[["a", "1"], ["a", "1"]]', "'1' in 'a' comes behind '1' in 'a'"),
        ('[["a", "1"], ["b", "1"]]', "goes from '1' in 'a' to '1' in 'b', the registry says '1' in 'a' to '2' in 'a'"),
        ('{"a": 1}', "must be a list"),
        ("[", "is not JSON"),
    ],
)
def test_a_shard_that_is_not_what_its_registry_says(data: str, said: str) -> None:
    made = shards_of(KIND, [["a", "1"], ["a", "2"]])
    listed = [{**made.manifest()[0], "count": 2, "first": ["a", "1"], "last": ["a", "2"]}]
    held = read_manifest(Check("here"), KIND, listed, lambda file, size, sha256: data.encode(), "here/")
    with pytest.raises(RegistryError, match=said) as caught:
        held.get(("a", "1"))
    assert caught.value.message.startswith("here/zoo/pairs/")


def test_without_a_reader_nothing_is_read() -> None:
    held = read_manifest(Check("here"), KIND, shards_of(KIND, [["a", "1"]]).manifest(), None, "")
    with pytest.raises(RegistryError, match="nothing to read it from"):
        held.get(("a", "1"))
