"""What a registry is on the Hub: its files, the card, the indexes that it lacked."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from builders import LORA, PROMPT, lora, prompt, zoo_of

from tupate_hub.errors import FormatError
from tupate_hub.publish.browse import FILE
from tupate_hub.publish.bundle import README, publication
from tupate_hub.publish.card import card_of
from tupate_hub.publish.frontmatter import About
from tupate_hub.registry import FILENAME
from tupate_hub.storage.registry_json import parse_registry
from tupate_hub.zoo import Zoo

ABOUT = About("Mine", "me/zoo", ("en",))
INDEX = f"zoo/{LORA.name}/index-update.safetensors"


@pytest.fixture
def bare(tmp_path: Path) -> Zoo:
    """A zoo without indexes."""
    return zoo_of(tmp_path / "bare", lora("imdb", 1), lora("sst2", 2), prompt("imdb", 3))


def test_a_publication_is_the_registry_its_files_and_its_card(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    made = publication(zoo, ABOUT, {})
    assert made.registry == zoo.registry
    named = {file: (zoo.root / file).read_bytes() for file, _, _ in zoo.registry.files()}
    wanted = {**named, **card_of(zoo, ABOUT, README), FILENAME: zoo.registry.to_json().encode()}
    assert {file: one.read() for file, one in made.files.items()} == wanted


def test_sizes_and_digests_are_those_of_the_bytes(bare: Zoo) -> None:
    for file, one in publication(bare, ABOUT, {}).files.items():
        data = one.read()
        assert (one.size, one.sha256) == (len(data), hashlib.sha256(data).hexdigest()), file


def test_the_same_zoo_gives_the_same_bytes(bare: Zoo) -> None:
    first, second = ({file: one.read() for file, one in publication(bare, ABOUT, {}).files.items()} for _ in range(2))
    assert first == second


def test_a_published_registry_published_again_is_the_same(tmp_path: Path) -> None:
    """The card shows the numbers of the index as they are stored, which are rounded."""
    many = zoo_of(tmp_path / "many", *(lora(f"t{number}", number, layers=1) for number in range(300)))
    made = {file: one.read() for file, one in publication(many, ABOUT, {}).files.items()}
    for file, data in made.items():
        (tmp_path / "copy" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / file).write_bytes(data)
    again = publication(Zoo.open(tmp_path / "copy"), ABOUT, {})
    assert {file for file, one in again.files.items() if one.read() != made[file]} == set()


def test_an_index_is_made_where_there_is_none(bare: Zoo) -> None:
    made = publication(bare, ABOUT, {})
    assert {name: set(space.index) for name, space in made.registry.spaces.items()} == {
        LORA.name: {"update"},
        PROMPT.name: {"update"},
    }
    assert made.files[INDEX].read() == bare.pair_index(LORA.name, "update").to_bytes()
    assert parse_registry(made.files[FILENAME].read(), FILENAME) == made.registry
    assert not (bare.root / INDEX).exists()


def test_indexes_of_other_similarities_are_made_where_they_are_wanted_and_allowed(bare: Zoo) -> None:
    made = publication(bare, ABOUT, {LORA.name: {"tupate", "effect", "nonsense"}})
    assert set(made.registry.spaces[LORA.name].index) == {"update", "tupate"}  # effect needs statistics
    assert set(made.registry.spaces[PROMPT.name].index) == {"update"}


def test_a_new_index_takes_no_other_files_place(tmp_path: Path) -> None:
    zoo = zoo_of(tmp_path / "odd", lora("imdb", 1), lora("sst2", 2))
    (entry, other) = zoo.registry.entries
    (zoo.root / entry.file).rename(zoo.root / INDEX)
    odd = Zoo(zoo.root, replace(zoo.registry, entries=(replace(entry, file=INDEX), other)))
    made = publication(odd, ABOUT, {})
    place = made.registry.spaces[LORA.name].index["update"]["file"]
    assert place != INDEX
    assert made.files[INDEX].sha256 == entry.sha256
    assert made.files[place].read() == odd.pair_index(LORA.name, "update").to_bytes()


@pytest.mark.parametrize("file", [README, FILE, FILENAME, ".gitattributes", "zoo/.git/config", ".cache/x.safetensors"])
def test_a_file_in_the_place_of_another_is_refused(file: str, bare: Zoo) -> None:
    entries = (replace(bare.registry.entries[0], file=file), *bare.registry.entries[1:])
    (bare.root / file).parent.mkdir(parents=True, exist_ok=True)
    (bare.root / file).write_bytes((bare.root / bare.registry.entries[0].file).read_bytes())
    with pytest.raises(FormatError, match="where another file of the repository lies") as caught:
        publication(Zoo(bare.root, replace(bare.registry, entries=entries)), ABOUT, {})
    assert "registry.json" in caught.value.hint


def test_embeddings_are_read_when_it_is_their_turn(toy_zoo: Path) -> None:
    made = publication(Zoo.open(toy_zoo), ABOUT, {})
    path = toy_zoo / "zoo" / LORA.name / "imdb.safetensors"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(FormatError, match="another content"):
        made.files[path.relative_to(toy_zoo).as_posix()].read()
