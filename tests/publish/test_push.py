"""Pushing: the real client writes to a Hub on this machine; what arrives, what is left alone, and what is never lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import LORA, PROMPT, TASKS, lora, prompt, zoo_of
from damage import change, put, snapshot
from loopback import LoopbackHub, User
from loopback.store import Repository

from tupate_hub.compare.pair_index import parse_pair_index
from tupate_hub.errors import (
    BranchMoved,
    FormatError,
    NotAvailableOffline,
    RegistryError,
    TupateHubError,
    UnknownName,
    WorkFailed,
)
from tupate_hub.hub import rate_limit
from tupate_hub.hub.cache import cache_root
from tupate_hub.hub.location import DATASET, Location
from tupate_hub.publish.browse import FILE
from tupate_hub.publish.bundle import README
from tupate_hub.publish.card import CARD, card_of
from tupate_hub.publish.frontmatter import About, read_about
from tupate_hub.publish.push import Change, Pushed, push
from tupate_hub.registry import FILENAME, Registry
from tupate_hub.zoo import Zoo

NAME = "acme/zoo"
TARGET = Location(DATASET, NAME)
TOKEN = "hf_secretsecretsecret"
API = f"/api/datasets/{NAME}"
INDEX = f"zoo/{LORA.name}/index-update.safetensors"
PICTURES = {f"zoo/{LORA.name}/{kind}.svg" for kind in ("heatmap", "map")}
ABOUT = {FILENAME, README, FILE}


@pytest.fixture(autouse=True)
def signed_in(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.store.users.update({TOKEN: User("acme"), "hf_read": User("acme", "read"), "hf_other": User("other")})
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture
def small(tmp_path: Path) -> Zoo:
    return zoo_of(tmp_path / "small", lora("imdb", 1), lora("sst2", 2), lora("rte", 3))


@pytest.fixture
def other(tmp_path: Path) -> Zoo:
    """Someone else's: a task in common, and one of their own."""
    return zoo_of(tmp_path / "other", lora("sst2", 2), lora("squad", 4))


def there(hub: LoopbackHub, name: str = NAME) -> Repository:
    return hub.store.repository("datasets", name)


def files(hub: LoopbackHub, branch: str = "main") -> dict[str, bytes]:
    return {file: blob.data for file, blob in there(hub).commit(branch).files.items()}


def writes(hub: LoopbackHub) -> list[str]:
    """The requests that send something."""
    return [one for one in hub.requests() if not one.startswith(("GET", "HEAD"))]


def sent(hub: LoopbackHub) -> list[str]:
    """The digests of what was uploaded apart from a commit, in full."""
    return [one.path.rpartition("/")[2] for one in hub.seen if one.path.startswith("/uploads/") and one.status == 200]


def forget(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str = "elsewhere") -> None:
    """As on another machine: an empty cache."""
    monkeypatch.setenv("TUPATE_HUB_CACHE", str(tmp_path / name))


def names(changes: tuple[Change, ...]) -> set[str]:
    return {one.file for one in changes}


def whole(name: str = f"{NAME}@main") -> Zoo:
    """The registry on the Hub, as a reader gets it, every file of it checked."""
    zoo = Zoo.open(name)
    assert zoo.verify() == []
    return zoo


def meanwhile(act: Callable[[], object], times: int = 1) -> Callable[[str, list[Any]], Iterator[Any]]:
    """A watch that lets something happen between a push's look at the Hub and its commit."""
    left = [times]

    def watch(label: str, items: list[Any]) -> Iterator[Any]:
        if label == "push" and left[0]:
            left[0] -= 1
            act()
        yield from items

    return watch


# --- the round trip --------------------------------------------------------------------------------------------


def test_the_bundled_zoo_makes_the_round_trip(hub: LoopbackHub, invoke: Any) -> None:
    zoo = Zoo.open()
    pushed = push(zoo, TARGET)
    remote = whole(str(pushed.location))
    assert remote.registry == zoo.registry
    named = {file for file, _, _ in zoo.registry.files()}
    assert names(pushed.added) == set(files(hub)) >= {FILENAME, README, FILE, *named}
    assert {file: files(hub)[file] for file in named} == {file: (zoo.root / file).read_bytes() for file in named}
    for question in (("list",), ("similar", "squad"), ("similar", "sst2", "--similarity", "tupate", "--explain")):
        local, far = (invoke(*question, "--json", *where) for where in ((), ("--registry", NAME)))
        assert (far.code, far.out) == (0, local.out)


def test_a_push_is_one_commit(hub: LoopbackHub, toy_zoo: Path) -> None:
    pushed = push(Zoo.open(toy_zoo), TARGET)
    assert len(there(hub).commits) == 2  # the Hub makes the first
    head = there(hub).commit("main")
    assert (head.oid, head.author) == (pushed.location.revision, "acme")
    assert head.title == f"tupate-hub push: {len(head.files)} added, 0 changed, 0 removed"
    assert pushed == Pushed(
        TARGET.at(head.oid),
        "repository",
        tuple(Change(file, len(blob.data)) for file, blob in head.files.items()),
        (),
        (),
        (),
        (),
    )
    assert [one for one in hub.requests() if "/commit/" in one] == [f"POST {API}/commit/main"]
    assert whole().registry == Zoo.open(toy_zoo).registry


def test_the_card_lies_at_the_root_and_names_the_repository(hub: LoopbackHub, toy_zoo: Path) -> None:
    push(Zoo.open(toy_zoo), TARGET)
    wanted = card_of(Zoo.open(toy_zoo), About(location=NAME), README)
    assert {file: files(hub)[file] for file in wanted} == wanted
    text = files(hub)[README].decode()
    assert f"--registry {NAME}\n" in text
    assert f"    path: {FILE}\n" in text
    assert f"]({sorted(PICTURES)[0]})" in text


def test_title_and_languages_are_those_of_the_zoos_own_card_else_the_hubs(
    hub: LoopbackHub, toy_zoo: Path, small: Zoo, invoke: Any
) -> None:
    given = ["--title", 'Ours: "the" zoo', "--language", "en", "--language", "de"]
    assert invoke("card", "--registry", toy_zoo, *given).code == 0
    push(Zoo.open(toy_zoo), TARGET)
    about = About('Ours: "the" zoo', languages=("en", "de"))
    assert read_about(files(hub)[README].decode()) == about
    assert CARD not in files(hub)
    push(small, TARGET, prefer="theirs")  # has no card
    assert read_about(files(hub)[README].decode()) == about


@pytest.mark.parametrize("line", ["language: en", "language: [en]", "language:\n    - 'en'"])
def test_metadata_that_someone_wrote_into_the_card_is_published(hub: LoopbackHub, toy_zoo: Path, line: str) -> None:
    (toy_zoo / CARD).write_text(f"---\npretty_name: 'It''s ours'  # a comment\n{line}\n---\n", encoding="utf-8")
    push(Zoo.open(toy_zoo), TARGET)
    facts = yaml.safe_load(files(hub)[README].decode().split("---\n")[1])
    assert (facts["pretty_name"], facts["language"]) == ("It's ours", ["en"])


def test_a_card_that_cannot_be_read_stops_a_push(hub: LoopbackHub, toy_zoo: Path) -> None:
    (toy_zoo / CARD).write_text("---\nlanguage: [en\n---\n", encoding="utf-8")
    with pytest.raises(FormatError, match=r"The front matter of .*zoo/README\.md is not valid"):
        push(Zoo.open(toy_zoo), TARGET)
    assert ("datasets", NAME) not in hub.store._repositories


def test_an_empty_registry_can_be_pushed_and_filled(hub: LoopbackHub, tmp_path: Path, small: Zoo) -> None:
    assert names(push(zoo_of(tmp_path / "empty"), TARGET).added) == ABOUT
    assert whole().registry == Registry()
    push(small, TARGET)
    assert whole().registry.entries == small.registry.entries


def test_from_one_repository_to_another(hub: LoopbackHub, toy_zoo: Path) -> None:
    push(Zoo.open(toy_zoo), TARGET)
    push(Zoo.open(NAME), Location(DATASET, "acme/copy"))
    assert whole("acme/copy@main").registry == Zoo.open(toy_zoo).registry
    assert "--registry acme/copy\n" in there(hub, "acme/copy").commit("main").files[README].data.decode()


# --- what has not changed --------------------------------------------------------------------------------------


def test_an_unchanged_registry_sends_nothing(hub: LoopbackHub, toy_zoo: Path) -> None:
    first = push(Zoo.open(toy_zoo), TARGET)
    hub.seen.clear()
    again = push(Zoo.open(toy_zoo), TARGET)
    assert again == Pushed(first.location, "", (), (), (), (), ())
    assert again.unchanged
    readme = f"GET /datasets/{NAME}/resolve/{first.location.revision}/{README}"  # for its title
    assert hub.requests() == [f"GET {API}/revision/main", readme]
    assert len(there(hub).commits) == 2


def test_an_unchanged_registry_sends_nothing_from_another_machine(
    hub: LoopbackHub, small: Zoo, toy_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(small, TARGET)
    forget(monkeypatch, tmp_path)
    hub.seen.clear()
    assert push(small, TARGET).unchanged  # `small` has no index of its own: the Hub's is taken for it
    assert writes(hub) == []
    assert not [one for one in hub.requests() if "imdb" in one]


def test_only_what_changed_is_sent(hub: LoopbackHub, toy_zoo: Path, small: Zoo) -> None:
    push(Zoo.open(toy_zoo), TARGET)
    before = files(hub)
    hub.seen.clear()
    pushed = push(small, TARGET, prefer="ours")
    assert pushed.resolved == tuple(f"{task} in {LORA.name}" for task in ("imdb", "rte", "sst2"))
    embeddings = {f"zoo/{LORA.name}/{task}.safetensors" for task in ("imdb", "rte", "sst2")}
    assert (pushed.added, pushed.removed) == ((), ())
    table = f"zoo/{LORA.name}/embeddings.jsonl"
    assert names(pushed.changed) == {FILENAME, README, FILE, table, INDEX, *embeddings, *PICTURES}
    assert len(sent(hub)) == 4
    after = files(hub)
    assert {file for file in after if after[file] != before[file]} == names(pushed.changed)


def test_a_space_without_an_index_gets_one_and_readers_need_nothing_else(
    hub: LoopbackHub, small: Zoo, invoke: Any
) -> None:
    before = snapshot(small.root)
    push(small, TARGET)
    assert snapshot(small.root) == before
    hub.seen.clear()
    remote = invoke("similar", "sst2", "--registry", NAME)
    assert (remote.code, remote.out) == (0, invoke("similar", "sst2", "--registry", small.root).out)
    assert [one.rpartition("/")[2] for one in hub.requests()] == ["index-update.safetensors"]


def test_an_index_that_the_hub_had_is_made_anew_for_more_tasks(hub: LoopbackHub, toy_zoo: Path, tmp_path: Path) -> None:
    push(Zoo.open(toy_zoo), TARGET)
    push(zoo_of(tmp_path / "more", lora("boolq", 9)), TARGET)
    zoo = whole()
    assert len(zoo.pair_index(LORA.name, "update").tasks) == len(TASKS) + 1
    assert set(zoo.registry.spaces[LORA.name].index) == {"update"}


def test_similar_reads_what_was_just_pushed(hub: LoopbackHub, small: Zoo, tmp_path: Path, invoke: Any) -> None:
    push(small, TARGET)
    assert invoke("similar", "imdb", "--registry", NAME).code == 0
    push(zoo_of(tmp_path / "more", lora("boolq", 9)), TARGET)
    assert "boolq" in invoke("similar", "imdb", "--registry", NAME).out


# --- what others have there ------------------------------------------------------------------------------------


def test_what_only_the_hub_has_stays(hub: LoopbackHub, small: Zoo, other: Zoo) -> None:
    push(other, TARGET)
    pushed = push(small, TARGET)
    assert pushed.merged == (f"squad in {LORA.name}",)
    assert [entry.task for entry in whole().registry.entries] == ["imdb", "rte", "squad", "sst2"]
    assert files(hub)[f"zoo/{LORA.name}/squad.safetensors"] == lora("squad", 4).to_bytes()


def test_a_part_of_what_the_hub_has_changes_nothing(hub: LoopbackHub, toy_zoo: Path, tmp_path: Path) -> None:
    push(Zoo.open(toy_zoo), TARGET)
    part = Zoo.open(toy_zoo).registry
    part = replace(
        part,
        entries=part.in_space(PROMPT.name)[:2],
        spaces={PROMPT.name: replace(part.spaces[PROMPT.name], index={})},
        default_space=PROMPT.name,
    )
    hub.seen.clear()
    pushed = push(Zoo(toy_zoo, part), TARGET, dry_run=True)
    assert pushed.unchanged  # the default space too
    assert len(pushed.merged) == 2 * len(TASKS) - 2
    assert writes(hub) == []


def test_the_hub_s_default_space_stays_unless_another_is_wanted(hub: LoopbackHub, small: Zoo, tmp_path: Path) -> None:
    push(small, TARGET)
    mine = zoo_of(tmp_path / "mine", prompt("trec", 1), prompt("boolq", 2), prompt("squad", 3), prompt("rte", 4))
    assert mine.registry.default_space == PROMPT.name
    push(mine, TARGET)
    assert whole().registry.default_space == LORA.name
    push(mine, TARGET, default_space="prompt")
    assert whole().registry.default_space == PROMPT.name
    with pytest.raises(UnknownName, match="Unknown space 'nowhere'"):
        push(mine, TARGET, default_space="nowhere")


def test_a_push_fetches_only_what_the_merge_needs(hub: LoopbackHub, small: Zoo, tmp_path: Path, isolated: Path) -> None:
    """One adapter of another space: no embedding of the Hub's is fetched, only the index that the card shows."""
    push(small, TARGET)
    shutil.rmtree(isolated / "cache")
    hub.seen.clear()
    push(zoo_of(tmp_path / "mine", prompt("trec", 1)), TARGET)
    fetched = {one.path.rpartition("/")[2] for one in hub.seen if one.method == "GET" and "/resolve/" in one.path}
    assert fetched <= {FILENAME, README, "index-update.safetensors"}
    assert whole().verify() == []
    assert len(whole().registry.entries) == 4


def test_a_registry_whose_index_is_forged_is_not_pushed(hub: LoopbackHub, toy_zoo: Path) -> None:
    file = f"zoo/{LORA.name}/index-update.safetensors"
    right = parse_pair_index((toy_zoo / file).read_bytes(), file)
    put(toy_zoo, file, replace(right, pairs=right.pairs.clip(max=0)).to_bytes())
    with pytest.raises(FormatError, match=r"Nothing was pushed.* says that .* their embeddings score"):
        push(Zoo.open(toy_zoo), TARGET)
    assert writes(hub) == []


def test_different_content_is_refused_by_name_and_nothing_sent(hub: LoopbackHub, small: Zoo, tmp_path: Path) -> None:
    push(small, TARGET)
    before = files(hub)
    hub.seen.clear()
    with pytest.raises(RegistryError, match=f"with another content: imdb in {LORA.name}, sst2 in ") as caught:
        push(zoo_of(tmp_path / "mine", lora("imdb", 77), lora("sst2", 78), lora("squad", 1)), TARGET)
    assert "prefer='ours'" in caught.value.hint
    assert "prefer='theirs'" in caught.value.hint
    assert (files(hub), writes(hub)) == (before, [])


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_different_content_by_the_users_choice(side: Any, hub: LoopbackHub, small: Zoo, tmp_path: Path) -> None:
    push(small, TARGET)
    mine = zoo_of(tmp_path / "mine", lora("imdb", 77), lora("squad", 4))
    pushed = push(mine, TARGET, prefer=side)
    assert pushed.resolved == (f"imdb in {LORA.name}",)
    zoo = whole()
    assert [entry.task for entry in zoo.registry.entries] == ["imdb", "rte", "squad", "sst2"]
    assert zoo.registry.entry("imdb", LORA.name).sha256 == (
        mine if side == "ours" else small
    ).registry.entry("imdb", LORA.name).sha256  # fmt: skip


def test_a_file_that_is_named_no_more_goes_and_others_stay(hub: LoopbackHub, small: Zoo, tmp_path: Path) -> None:
    push(small, TARGET)
    strangers = {"LICENSE": b"mine", "zoo/notes.txt": b"mine", f"zoo/{LORA.name}/draft.safetensors": b"mine"}
    hub.store.put("datasets", NAME, strangers)
    moved = zoo_of(tmp_path / "moved", lora("imdb", 77))
    change(moved.root, lambda data: data["embeddings"][0].update(file="zoo/moved/imdb.safetensors"))
    (moved.root / "zoo" / "moved").mkdir()
    (moved.root / "zoo" / LORA.name / "imdb.safetensors").rename(moved.root / "zoo" / "moved" / "imdb.safetensors")
    pushed = push(Zoo.open(moved.root), TARGET, prefer="ours")
    assert names(pushed.removed) == {f"zoo/{LORA.name}/imdb.safetensors"}
    assert "zoo/moved/imdb.safetensors" in names(pushed.added)
    assert pushed.removed[0].file not in files(hub)
    assert files(hub).items() >= strangers.items()
    whole()


def test_a_repository_that_is_no_registry_is_left_alone(hub: LoopbackHub, small: Zoo) -> None:
    hub.store.put("datasets", NAME, {"train.csv": b"a,b\n", README: b"# Mine\n"})
    with pytest.raises(TupateHubError, match="is not a registry") as caught:
        push(small, TARGET)
    assert caught.value.hint == "take another name"
    assert set(files(hub)) == {"train.csv", README}
    assert writes(hub) == []


def test_a_repository_that_was_made_on_the_web_is_taken(hub: LoopbackHub, small: Zoo) -> None:
    hub.store.put("datasets", NAME, {".gitattributes": b"*.bin lfs\n", README: b"---\nlicense: mit\n---\n"})
    pushed = push(small, TARGET)
    assert (pushed.created, names(pushed.changed)) == ("", {README})
    assert files(hub)[".gitattributes"] == b"*.bin lfs\n"
    whole()


def test_a_registry_on_the_hub_that_cannot_be_read_is_not_replaced(hub: LoopbackHub, small: Zoo) -> None:
    for text, said in ((b"{", "is not JSON"), (b'{"schema": 99}', "reads up to")):
        hub.store.put("datasets", NAME, {FILENAME: text})
        with pytest.raises(RegistryError, match=said):
            push(small, TARGET)
        assert files(hub) == {FILENAME: text}


def test_a_file_that_rotted_on_the_hub_is_mended(hub: LoopbackHub, toy_zoo: Path) -> None:
    push(Zoo.open(toy_zoo), TARGET)
    file = f"zoo/{LORA.name}/imdb.safetensors"
    right = files(hub)[file]
    hub.store.replace_blob(there(hub), file, bytes(len(right)))
    assert names(push(Zoo.open(toy_zoo), TARGET).changed) == {file}
    assert files(hub)[file] == right


def test_others_files_are_checked_before_they_are_merged(hub: LoopbackHub, small: Zoo, other: Zoo) -> None:
    push(other, TARGET)
    file = f"zoo/{LORA.name}/squad.safetensors"
    hub.store.replace_blob(there(hub), file, bytes(len(files(hub)[file])))
    before = files(hub)
    hub.seen.clear()
    with pytest.raises(FormatError, match=r"squad\.safetensors does not have the announced content"):
        push(small, TARGET)
    assert (files(hub), writes(hub)) == (before, [])


# --- a branch that moves ---------------------------------------------------------------------------------------


def test_a_branch_that_moved_is_read_again_and_merged(hub: LoopbackHub, small: Zoo, other: Zoo) -> None:
    push(other, TARGET)
    more = zoo_of(small.root.parent / "more", lora("boolq", 9))
    pushed = push(small, TARGET, watch=meanwhile(lambda: push(more, TARGET)))
    assert pushed.merged == (f"boolq in {LORA.name}", f"squad in {LORA.name}")
    assert [entry.task for entry in whole().registry.entries] == ["boolq", "imdb", "rte", "squad", "sst2"]
    assert [one.status for one in hub.seen if "/commit/" in one.path] == [200, 200, 412, 200]
    assert len(sent(hub)) == len(set(sent(hub)))


def test_someone_elses_commit_beside_the_registry_stays(hub: LoopbackHub, small: Zoo) -> None:
    push(zoo_of(small.root.parent / "empty"), TARGET)
    push(small, TARGET, watch=meanwhile(lambda: hub.store.put("datasets", NAME, {"LICENSE": b"theirs"})))
    assert files(hub)["LICENSE"] == b"theirs"
    assert whole().registry.entries == small.registry.entries


@pytest.mark.parametrize("side", [None, "ours", "theirs"])
def test_a_branch_that_moved_with_different_content(side: Any, hub: LoopbackHub, small: Zoo) -> None:
    push(zoo_of(small.root.parent / "empty"), TARGET)
    rival = zoo_of(small.root.parent / "rival", lora("imdb", 77))
    watch = meanwhile(lambda: push(rival, TARGET))
    if side is None:
        with pytest.raises(RegistryError, match=f"with another content: imdb in {LORA.name}"):
            push(small, TARGET, watch=watch)
        assert whole().registry.entries == rival.registry.entries
        return
    assert push(small, TARGET, prefer=side, watch=watch).resolved == (f"imdb in {LORA.name}",)
    wanted = (small if side == "ours" else rival).registry.entry("imdb", LORA.name)
    assert whole().registry.entry("imdb", LORA.name).sha256 == wanted.sha256
    assert len(whole().registry.entries) == 3


def test_a_branch_that_moves_for_ever_ends_in_one_sentence(
    hub: LoopbackHub, small: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tupate_hub.publish.push._PAUSES", (0.0, 0.0))
    push(zoo_of(small.root.parent / "empty"), TARGET)
    counter = iter(range(100))
    watch = meanwhile(lambda: hub.store.put("datasets", NAME, {"count": b"%d" % next(counter)}), times=100)
    with pytest.raises(BranchMoved, match="was changed by someone else meanwhile") as caught:
        push(small, TARGET, watch=watch)
    assert (caught.value.exit_code, caught.value.hint) == (1, "retry")
    assert next(counter) == 3
    assert Zoo.open(f"{NAME}@main").registry == Registry()


def test_a_repository_that_someone_else_makes_and_fills_meanwhile(hub: LoopbackHub, small: Zoo, other: Zoo) -> None:
    """Between the look that finds none and the making of it."""
    made = []

    def watch(label: str, items: list[Any]) -> list[Any]:
        if label == "check" and not made:
            made.append(label)
            hub.fault(
                "status", f"GET {API}/revision/main", times=1, status=404, headers={"X-Error-Code": "RepoNotFound"}
            )
            push(other, TARGET.at("main"), watch=lambda label, items: items)
            hub.fault(
                "status", f"GET {API}/revision/main", times=1, status=404, headers={"X-Error-Code": "RepoNotFound"}
            )
        return items

    push(small, TARGET, watch=watch)
    assert [entry.task for entry in whole().registry.entries] == ["imdb", "rte", "squad", "sst2"]


# --- several processes -----------------------------------------------------------------------------------------


def program(zoo: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "tupate_hub", "push", NAME, "--registry", str(zoo), *options]


def started(arguments: list[str], cache: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TUPATE_HUB_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip


@pytest.mark.parametrize("new", [True, False])
def test_two_processes_at_once_lose_nothing(
    new: bool, hub: LoopbackHub, small: Zoo, other: Zoo, tmp_path: Path
) -> None:
    if not new:
        push(zoo_of(tmp_path / "empty"), TARGET)
    hub.fault("meet", "/preupload/", times=2)  # both look before either commits
    both = [started(program(zoo.root), tmp_path / zoo.root.name / "cache") for zoo in (small, other)]
    for one in both:
        out, err = one.communicate(timeout=250)
        assert one.returncode == 0, err
        assert out.startswith(f"hf://datasets/{NAME}@")
    assert [entry.task for entry in whole().registry.entries] == ["imdb", "rte", "squad", "sst2"]


def test_a_reader_sees_the_old_registry_or_the_new_one(
    hub: LoopbackHub, small: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(small, TARGET)
    grown = [lora("imdb", 77), lora("sst2", 78), lora("rte", 79), *(lora(f"t{number}", number) for number in range(6))]
    new = zoo_of(tmp_path / "new", *grown)
    hub.fault("slow", "PUT /uploads/", seconds=0.1)
    pushing = threading.Thread(target=push, args=(new, TARGET), kwargs={"prefer": "ours"})
    seen = []
    pushing.start()
    while pushing.is_alive() or len(seen) < 2:
        forget(monkeypatch, tmp_path, f"cache-{len(seen)}")
        seen.append([entry.sha256 for entry in whole().registry.entries])
    pushing.join()
    seen.append([entry.sha256 for entry in whole().registry.entries])
    old, wanted = ([entry.sha256 for entry in zoo.registry.entries] for zoo in (small, new))
    assert (seen[0], seen[-1]) == (old, wanted)
    assert all(one in (old, wanted) for one in seen)


def test_killed_while_pushing_and_again(hub: LoopbackHub, small: Zoo, tmp_path: Path) -> None:
    push(small, TARGET)
    before = there(hub).commit("main")
    grown = zoo_of(tmp_path / "grown", *(lora(f"t{number}", number) for number in range(12)))
    hub.seen.clear()
    hub.fault("slow", "PUT /uploads/", times=2, seconds=0)
    hub.fault("slow", "PUT /uploads/", seconds=250)
    first = started(program(grown.root), tmp_path / "cache")
    _until(lambda: len(sent(hub)) >= 2)
    first.kill()
    first.communicate()
    hub.faults.clear()
    _until(lambda: len(sent(hub)) == len(hub.store.uploads) - 4)  # what was under way when it was killed has arrived
    early = set(sent(hub))
    assert 2 <= len(early) < 13
    assert there(hub).commit("main") == before
    assert whole().registry.entries == small.registry.entries
    hub.seen.clear()
    again = started(program(grown.root), tmp_path / "cache")
    _, err = again.communicate(timeout=250)
    assert again.returncode == 0, err
    assert not early & set(sent(hub))
    assert len(whole().registry.entries) == 15


def _until(holds: Callable[[], bool]) -> None:
    for _ in range(5000):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within 250 s")


# --- private, branches -----------------------------------------------------------------------------------------


def test_a_private_repository(hub: LoopbackHub, small: Zoo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    push(small, TARGET, private=True)
    assert there(hub).private
    assert push(small, TARGET, private=True).unchanged
    assert whole().registry.entries == small.registry.entries
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    forget(monkeypatch, tmp_path)
    with pytest.raises(FormatError, match="or it is private"):
        Zoo.open(NAME)
    with pytest.raises(TupateHubError, match="does not allow writing"):
        push(small, TARGET)


def test_private_is_refused_for_what_is_public(hub: LoopbackHub, small: Zoo) -> None:
    push(small, TARGET)
    assert not there(hub).private
    hub.seen.clear()
    with pytest.raises(TupateHubError, match="there already and public"):
        push(small, TARGET, private=True)
    assert writes(hub) == []


@pytest.mark.parametrize("branch", ["next", "team/next"])
def test_a_branch_is_made_from_main(branch: str, hub: LoopbackHub, small: Zoo, other: Zoo) -> None:
    push(small, TARGET)
    main = there(hub).commit("main")
    first = push(other, TARGET.at(branch))
    assert (first.created, first.merged) == ("branch", (f"imdb in {LORA.name}", f"rte in {LORA.name}"))
    assert there(hub).commit("main") == main
    assert there(hub).commit(branch).parent == main.oid
    assert [entry.task for entry in whole(f"{NAME}@{branch}").registry.entries] == ["imdb", "rte", "squad", "sst2"]
    assert f"--registry {NAME}@{branch}\n" in files(hub, branch)[README].decode()
    assert push(other, TARGET.at(branch)).unchanged


def test_a_branch_of_a_repository_that_is_not_there(hub: LoopbackHub, small: Zoo) -> None:
    pushed = push(small, TARGET.at("next"))
    assert pushed.created == "repository"
    assert whole(f"{NAME}@next").registry.entries == small.registry.entries
    assert FILENAME not in files(hub)


def test_a_commit_is_no_branch(hub: LoopbackHub, small: Zoo) -> None:
    with pytest.raises(TupateHubError, match="is a commit") as caught:
        push(small, TARGET.at("a" * 40))
    assert caught.value.hint == "name a branch: `revision=BRANCH`"
    assert hub.requests() == []


# --- a dry run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["nothing", "older", "same"])
def test_a_dry_run_says_what_the_push_then_does_and_sends_nothing(
    state: str, hub: LoopbackHub, small: Zoo, other: Zoo
) -> None:
    if state != "nothing":
        push(small if state == "same" else other, TARGET)
    history = dict(there(hub).commits) if state != "nothing" else {}
    hub.seen.clear()
    dry = push(small, TARGET, dry_run=True)
    assert writes(hub) == []
    assert not history or there(hub).commits == history
    done = push(small, TARGET)
    assert replace(done, location=dry.location) == dry
    assert dry.location == TARGET.at("main")
    sizes = {one.file: one.bytes for one in (*dry.added, *dry.changed)}
    assert sizes == {file: len(files(hub)[file]) for file in sizes}


def test_a_dry_run_needs_no_token(hub: LoopbackHub, small: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert push(small, TARGET, dry_run=True).created == "repository"
    with pytest.raises(TupateHubError, match="signed in") as caught:
        push(small, TARGET)
    assert caught.value.hint == "hf auth login"
    assert writes(hub) == []


# --- what is not sent ------------------------------------------------------------------------------------------


def test_a_damaged_registry_makes_no_request(hub: LoopbackHub, toy_zoo: Path) -> None:
    for task in ("imdb", "rte"):
        path = toy_zoo / "zoo" / LORA.name / f"{task}.safetensors"
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(
        FormatError, match=r"Nothing was pushed.*imdb.safetensors has another content.*\(1 more\)"
    ) as it:
        push(Zoo.open(toy_zoo), TARGET)
    assert it.value.hint == "see all of them: tupate-hub verify"
    assert hub.requests() == []


@pytest.mark.parametrize("file", [README, FILE, ".gitattributes", "zoo/.git/hooks", ".cache/x", sorted(PICTURES)[0]])
def test_a_registry_that_names_what_is_not_its_own(file: str, hub: LoopbackHub, toy_zoo: Path) -> None:
    path = toy_zoo / file
    path.parent.mkdir(parents=True, exist_ok=True)
    (toy_zoo / "zoo" / LORA.name / "imdb.safetensors").rename(path)
    change(toy_zoo, lambda data: data["embeddings"][0].update(file=file))
    with pytest.raises(FormatError, match="where another file of the repository lies"):
        push(Zoo.open(toy_zoo), TARGET)
    assert writes(hub) == []


# --- who may ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "message", "hint"),
    [
        ("hf_read", f"does not allow writing to hf://datasets/{NAME}@main", "a token that may write"),
        ("hf_other", f"does not allow writing to hf://datasets/{NAME}@main", "a name of your own"),
        ("hf_gone", "does not know your token", "hf auth login, or unset HF_TOKEN"),
    ],
)
@pytest.mark.parametrize("new", [True, False])
def test_a_token_that_may_not(
    new: bool, token: str, message: str, hint: str, hub: LoopbackHub, small: Zoo, other: Zoo, monkeypatch: Any
) -> None:
    if not new:
        push(other, TARGET)
    hub.seen.clear()
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(TupateHubError, match=message) as caught:
        push(small, TARGET)
    assert caught.value.exit_code == 2
    assert hint in caught.value.hint
    assert sent(hub) == []


def test_a_gated_repository_of_someone_else(hub: LoopbackHub, small: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.store.put("datasets", NAME, snapshot(small.root), gated=True)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(TupateHubError, match="is gated") as caught:
        push(small, TARGET)
    assert "accept its terms on" in caught.value.hint


@pytest.mark.parametrize("fault", [None, "/commit/", "PUT /uploads", "/repos/create"])
def test_the_token_goes_to_the_hub_alone(fault: str | None, hub: LoopbackHub, small: Zoo, invoke: Any) -> None:
    if fault:
        hub.fault("status", fault, status=400)
    result = invoke("push", NAME, "--registry", small.root)
    assert result.code == (1 if fault else 0)
    assert TOKEN not in result.out + result.err
    assert {one.token for one in hub.seen if "/uploads/" in one.path} <= {""}
    assert TOKEN in {one.token for one in hub.seen}
    assert all(
        TOKEN.encode() not in data for data in [*snapshot(cache_root()).values(), *snapshot(small.root).values()]
    )
    if not fault:
        assert all(TOKEN.encode() not in data for data in files(hub).values())


# --- a Hub that fails ------------------------------------------------------------------------------------------


WRITING = ["/api/repos/create", "/preupload/", "/info/lfs/objects/batch", "/commit/"]


@pytest.mark.parametrize("where", [*WRITING, "PUT /uploads/", f"GET {API}/revision"])
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 503},
        {"kind": "close"},
    ],
    ids=["500", "503", "close"],
)
def test_what_fails_once_is_tried_again(where: str, fault: dict[str, Any], hub: LoopbackHub, small: Zoo) -> None:
    hub.fault(where=where, times=1, **fault)
    push(small, TARGET)
    assert whole().registry.entries == small.registry.entries
    assert len(there(hub).commits) == 2


@pytest.mark.parametrize("where", WRITING)
def test_a_hub_that_asks_for_a_pause_gets_it(where: str, hub: LoopbackHub, small: Zoo) -> None:
    hub.fault("status", where, times=1, status=429, headers={"Retry-After": "1"})
    push(small, TARGET)
    assert whole().registry.entries == small.registry.entries


@pytest.mark.parametrize("where", WRITING)
@pytest.mark.parametrize(
    ("status", "headers", "message", "hint"),
    [
        (429, {"Retry-After": "600"}, "asks for fewer requests", "retry in 600 s"),
        (503, {}, "failed with status 503", "retry in a minute"),
        (400, {"X-Error-Message": "No."}, "with status 400: No", "look at "),
    ],
)
def test_what_keeps_failing_leaves_the_hub_as_it_was(
    where: str,
    status: int,
    headers: dict[str, str],
    message: str,
    hint: str,
    hub: LoopbackHub,
    small: Zoo,
    other: Zoo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if where != WRITING[0]:
        push(other, TARGET)
    before = files(hub) if where != WRITING[0] else None
    hub.fault("status", where, status=status, headers=headers)
    began = time.monotonic()
    with pytest.raises(WorkFailed, match=message) as caught:
        push(small, TARGET)
    assert time.monotonic() - began < 10
    assert hint in caught.value.hint
    assert caught.value.exit_code == 1
    hub.faults.clear()
    monkeypatch.setattr(rate_limit, "RATE_LIMIT", rate_limit.RateLimit())
    assert before is None or files(hub) == before
    push(small, TARGET)
    assert {"imdb", "rte", "sst2"} <= {entry.task for entry in whole().registry.entries}


def test_an_upload_that_the_storage_refuses(hub: LoopbackHub, small: Zoo) -> None:
    hub.fault("status", "PUT /uploads/", status=403)
    with pytest.raises(WorkFailed, match="storage failed with status 403") as caught:
        push(small, TARGET)
    assert "not sent twice" in caught.value.hint
    assert FILENAME not in files(hub)


def test_a_commit_that_came_through_though_its_answer_did_not(hub: LoopbackHub, small: Zoo) -> None:
    hub.fault("cut", "/commit/", times=1)
    push(small, TARGET)
    assert len(there(hub).commits) == 2
    assert whole().registry.entries == small.registry.entries


@pytest.mark.parametrize("kind", ["lost", "cut"])
def test_a_commit_whose_answer_was_lost_is_found_done(kind: str, hub: LoopbackHub, small: Zoo) -> None:
    """The request is sent again then, and the Hub says that the branch has moved."""
    hub.fault(kind, "/commit/", times=1)
    pushed = push(small, TARGET)
    assert len(there(hub).commits) == 2
    assert FILENAME in {change.file for change in pushed.added}
    assert pushed.location.revision == there(hub).branches["main"]
    assert sum("/commit/" in one for one in hub.requests()) == 2


def test_a_commit_whose_answers_are_all_lost_is_found_done(hub: LoopbackHub, small: Zoo, pauses: list[float]) -> None:
    hub.fault("lost", "/commit/")
    pushed = push(small, TARGET)
    assert (len(there(hub).commits), pushed.unchanged) == (2, False)


def test_a_commit_that_meets_another_one_is_tried_again(hub: LoopbackHub, small: Zoo) -> None:
    hub.fault("status", "/commit/", times=1, status=409)
    push(small, TARGET)
    assert whole().registry.entries == small.registry.entries


def test_answers_that_make_no_sense(hub: LoopbackHub, small: Zoo) -> None:
    for where in ("/preupload/", "/info/lfs/objects/batch"):
        hub.fault("wrong", where)
        with pytest.raises((WorkFailed, NotAvailableOffline)) as caught:
            push(small, TARGET)
        assert caught.value.hint
        hub.faults.clear()
    assert FILENAME not in files(hub)


def test_offline_and_without_a_network(
    hub: LoopbackHub, small: Zoo, monkeypatch: pytest.MonkeyPatch, invoke: Any
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = invoke("push", NAME, "--registry", small.root)
    assert (result.code, result.out) == (3, "")
    assert "HF_HUB_OFFLINE forbids that" in result.err
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = invoke("push", NAME, "--registry", small.root)
    assert (result.code, result.out) == (3, "")
    assert "http://127.0.0.1:9 cannot be reached" in result.err
    assert len(result.err.splitlines()) == 2


def test_a_network_that_breaks_while_sending(hub: LoopbackHub, small: Zoo) -> None:
    push(zoo_of(small.root.parent / "empty"), TARGET)
    hub.fault("close", "/commit/")
    with pytest.raises(NotAvailableOffline, match="cannot be reached") as caught:
        push(small, TARGET)
    assert "not sent twice" in caught.value.hint
    assert Zoo.open(f"{NAME}@main").registry == Registry()


def test_the_clients_own_remarks_are_left_out(hub: LoopbackHub, small: Zoo, invoke: Any) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

    enable_progress_bars()
    result = invoke("push", NAME, "--registry", small.root)
    assert result.code == 0
    assert [line.split(":")[0] for line in result.err.splitlines()] == ["the repository was made", "files", "http"]
    assert not are_progress_bars_disabled()
    whole()


def test_spaces_of_several_methods_travel(hub: LoopbackHub, tmp_path: Path) -> None:
    push(zoo_of(tmp_path / "one", lora("imdb", 1), prompt("imdb", 2)), TARGET)
    push(zoo_of(tmp_path / "two", prompt("squad", 3)), TARGET)
    assert [(entry.space, entry.task) for entry in whole().registry.entries] == [
        (LORA.name, "imdb"),
        (PROMPT.name, "imdb"),
        (PROMPT.name, "squad"),
    ]
