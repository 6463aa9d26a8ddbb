"""Zoo: the registry it opens, the bytes it trusts, the questions it answers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import BASE, LORA, PROMPT, TASKS, dense, lora, place, prompt
from damage import change, put

from tupate_hub import Zoo
from tupate_hub.collect.keep import keep_pair_index
from tupate_hub.compare.pair_index import PairIndex, build_pair_index, parse_pair_index
from tupate_hub.compare.view import View
from tupate_hub.embedding import TaskEmbedding, read_embedding
from tupate_hub.errors import FormatError, RegistryError, SpaceMismatch, UnknownName
from tupate_hub.publish.card import CARD, card_of
from tupate_hub.publish.frontmatter import About
from tupate_hub.registry import Repeat
from tupate_hub.search.similar import explain_pair, pair_scores
from tupate_hub.space import Space
from tupate_hub.storage.folder import Folder

FIRST = f"zoo/{LORA.name}/imdb.safetensors"


def cosine(one: TaskEmbedding, other: TaskEmbedding) -> float:
    """The `update` score by its definition, from the full updates."""
    first, second = dense(one), dense(other)
    inner = sum(float((first[name] * second[name]).sum()) for name in first.keys() & second.keys())
    squares = [sum(float((update**2).sum()) for update in side.values()) for side in (first, second)]
    return inner / float(np.sqrt(squares[0] * squares[1]))


# --- open ------------------------------------------------------------------------------------------------------


def test_open_takes_the_given_folder_before_the_environment(toy_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUPATE_HUB_REGISTRY", str(toy_zoo / "nowhere"))
    assert set(Zoo.open(toy_zoo).tasks) == {name for name, *_ in TASKS}


def test_open_takes_the_environment_before_the_bundled_zoo(toy_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUPATE_HUB_REGISTRY", str(toy_zoo))
    assert Zoo.open().root == toy_zoo


def test_open_takes_the_bundled_zoo_by_default() -> None:
    assert Zoo.open().registry.default_space == "all-MiniLM-L6-v2/lora"


def test_open_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"no registry in .*registry\.json does not exist") as caught:
        Zoo.open(tmp_path)
    assert "`location`" in caught.value.hint


def test_open_says_that_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "registry.json").mkdir()
    with pytest.raises(RegistryError, match="cannot be opened"):
        Zoo.open(tmp_path)


# --- bytes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sst2", "SST-2", "glue/sst2", "Sst 2"])
def test_embedding_by_name_or_alias(name: str, toy_zoo: Path) -> None:
    one = Zoo.open(toy_zoo).embedding(name)
    assert (one.task, one.space) == ("sst2", LORA)
    np.testing.assert_array_equal(
        one.vector(), read_embedding(toy_zoo / "zoo" / LORA.name / "sst2.safetensors").vector()
    )


def test_embedding_of_another_space(toy_zoo: Path) -> None:
    assert Zoo.open(toy_zoo).embedding("sst2", "tiny-bert/prompt").blocks[0].form == "rows"


def test_embedding_that_a_space_has_not(toy_zoo: Path) -> None:
    change(toy_zoo, lambda data: data["embeddings"].remove(data["embeddings"][0]))
    with pytest.raises(UnknownName, match="'imdb' has no embedding in space 'tiny-bert/lora'") as caught:
        Zoo.open(toy_zoo).embedding("imdb", "lora")
    assert caught.value.hint == "it is elsewhere: `space='tiny-bert/prompt'`"
    assert Zoo.open(toy_zoo).embedding("imdb").space == PROMPT  # nowhere else
    assert Zoo.open(toy_zoo).similar("imdb").space == PROMPT.name


def test_a_missing_file(toy_zoo: Path) -> None:
    (toy_zoo / FIRST).unlink()
    with pytest.raises(FormatError, match="does not exist"):
        Zoo.open(toy_zoo).embedding("imdb")


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_truncated_file(length: int, toy_zoo: Path) -> None:
    path = toy_zoo / FIRST
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FormatError, match=r"has \d+ bytes, the registry says \d+"):
        Zoo.open(toy_zoo).embedding("imdb")


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_truncated_file_that_the_registry_agrees_with(length: int, toy_zoo: Path) -> None:
    put(toy_zoo, FIRST, (toy_zoo / FIRST).read_bytes()[:length])
    with pytest.raises(FormatError, match=r"truncated|not a safetensors file"):
        Zoo.open(toy_zoo).embedding("imdb")


def test_one_changed_bit(toy_zoo: Path) -> None:
    data = bytearray((toy_zoo / FIRST).read_bytes())
    data[-1] ^= 1
    (toy_zoo / FIRST).write_bytes(bytes(data))
    with pytest.raises(FormatError, match="another content"):
        Zoo.open(toy_zoo).embedding("imdb")


def test_a_link_that_leads_out(toy_zoo: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret.safetensors"
    (toy_zoo / FIRST).rename(outside)
    (toy_zoo / FIRST).symlink_to(outside)
    with pytest.raises(FormatError, match="leads out of the zoo"):
        Zoo.open(toy_zoo).embedding("imdb")


def test_a_link_that_leads_out_beside_what_was_read(toy_zoo: Path, tmp_path: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    first, second = (zoo.registry.find(task, None) for task in ("imdb", "rte"))
    zoo.load(first)
    outside = tmp_path / "secret.safetensors"
    (toy_zoo / second.file).rename(outside)
    (toy_zoo / second.file).symlink_to(outside)
    with pytest.raises(FormatError, match="leads out of the zoo"):
        zoo.load(second)


@pytest.mark.parametrize("file", ["../secret", "zoo/../../secret"])
def test_a_name_that_leads_out_never_does(toy_zoo: Path, file: str) -> None:
    data = b"not yours"
    (toy_zoo.parent / "secret").write_bytes(data)
    folder = Folder(toy_zoo)
    for _ in range(2):
        with pytest.raises(FormatError, match="leads out of the zoo"):
            folder.read(file, len(data), hashlib.sha256(data).hexdigest())


def test_a_linked_folder_that_leads_out(toy_zoo: Path, tmp_path: Path) -> None:
    (toy_zoo / "zoo").rename(tmp_path / "elsewhere")
    (toy_zoo / "zoo").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(FormatError, match="leads out of the zoo"):
        Zoo.open(toy_zoo).embedding("imdb")


def test_a_link_inside_the_zoo_is_followed(toy_zoo: Path) -> None:
    (toy_zoo / FIRST).rename(toy_zoo / "moved")
    (toy_zoo / FIRST).symlink_to(toy_zoo / "moved")
    assert Zoo.open(toy_zoo).embedding("imdb").task == "imdb"


def test_a_zoo_behind_a_link_is_opened(toy_zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(toy_zoo, target_is_directory=True)
    assert Zoo.open(tmp_path / "link").embedding("imdb").task == "imdb"


def test_a_link_to_itself(toy_zoo: Path) -> None:
    (toy_zoo / FIRST).unlink()
    (toy_zoo / FIRST).symlink_to(toy_zoo / FIRST)
    with pytest.raises(FormatError, match="cannot be"):
        Zoo.open(toy_zoo).embedding("imdb")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.timeout(10)
def test_a_pipe_is_not_waited_for(toy_zoo: Path) -> None:
    (toy_zoo / FIRST).unlink()
    os.mkfifo(toy_zoo / FIRST)
    change(toy_zoo, lambda data: data["embeddings"][0].update(bytes=0))
    with pytest.raises(FormatError, match="is not a file"):
        Zoo.open(toy_zoo).embedding("imdb")


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(number: float, toy_zoo: Path) -> None:
    data = bytearray((toy_zoo / FIRST).read_bytes())
    data[-2:] = np.float16(number).tobytes()
    put(toy_zoo, FIRST, bytes(data))
    with pytest.raises(FormatError, match="holds NaN or infinity"):
        Zoo.open(toy_zoo).embedding("imdb")


def test_a_header_of_another_space(toy_zoo: Path) -> None:
    put(toy_zoo, FIRST, prompt("imdb", 0).to_bytes())
    with pytest.raises(SpaceMismatch, match=f"holds prompt on {BASE}; the registry says lora on {BASE}"):
        Zoo.open(toy_zoo).embedding("imdb")


def test_a_header_of_another_task(toy_zoo: Path) -> None:
    put(toy_zoo, FIRST, lora("mnli", 0).to_bytes())
    with pytest.raises(FormatError, match="holds task 'mnli'; the registry says 'imdb'"):
        Zoo.open(toy_zoo).embedding("imdb")


# --- verify ----------------------------------------------------------------------------------------------------


def test_verify_finds_nothing_in_a_sound_zoo(toy_zoo: Path) -> None:
    assert Zoo.open(toy_zoo).verify() == []


def test_verify_says_everything_that_is_wrong(toy_zoo: Path) -> None:
    (toy_zoo / FIRST).unlink()
    put(toy_zoo, f"zoo/{LORA.name}/mnli.safetensors", lora("other", 0).to_bytes())
    (toy_zoo / "zoo/tiny-bert/prompt/rte.safetensors").write_bytes(b"short")
    problems = Zoo.open(toy_zoo).verify()
    assert len(problems) == 4
    for problem, words in zip(problems, ("does not exist", "'other'", "has 5 bytes", "other embeddings"), strict=True):
        assert words in problem


def test_verify_reads_the_repeats(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    for task, held in (("sst2", "sst2"), ("rte", "mnli")):
        entry = zoo.registry.entry(task, LORA.name)
        kept = place(toy_zoo, f"zoo/{LORA.name}/repeats/{task}-s1-i0.safetensors", lora(held, 50).to_bytes())
        entry = replace(entry, repeats=(Repeat(**kept, seed=1, init_seed=0),))
        zoo = replace(zoo, registry=zoo.registry.with_entry(entry, zoo.registry.tasks[task], zoo.registry.space()))
    (problem,) = zoo.verify()
    assert f"repeats{os.sep}rte-s1-i0.safetensors holds task 'mnli'; the registry says 'rte'" in problem
    (toy_zoo / f"zoo/{LORA.name}/repeats/sst2-s1-i0.safetensors").unlink()
    assert any("sst2-s1-i0.safetensors cannot be read: it does not exist" in one for one in zoo.verify())


def test_verify_shows_every_entry_to_the_progress_bar(toy_zoo: Path) -> None:
    seen = []

    def watched(entries: Any) -> Any:
        for entry in entries:
            seen.append(entry.task)
            yield entry

    Zoo.open(toy_zoo).verify(watched)
    assert sorted(seen) == sorted(2 * [name for name, *_ in TASKS])


# --- index -----------------------------------------------------------------------------------------------------


def test_the_stored_index_is_used(toy_zoo: Path) -> None:
    for file in (toy_zoo / "zoo" / LORA.name).iterdir():
        if not file.name.startswith("index"):
            file.unlink()
    assert len(Zoo.open(toy_zoo).similar("imdb")) == len(TASKS) - 1


@pytest.mark.parametrize("how", ["digests", "tasks", "space", "similarity"])
def test_an_index_that_does_not_fit_is_computed_anew(how: str, toy_zoo: Path) -> None:
    file = f"zoo/{LORA.name}/index-update.safetensors"
    right = parse_pair_index((toy_zoo / file).read_bytes(), file)
    wrong = {
        "digests": right.digests[::-1],
        "tasks": right.tasks[::-1],
        "space": "tiny-bert/prompt",
        "similarity": "tupate",
    }
    stored = {**vars(right), how: wrong[how], "pairs": right.pairs * 0}
    put(toy_zoo, file, type(right)(**stored).to_bytes())
    np.testing.assert_allclose(Zoo.open(toy_zoo).pair_index(LORA.name, "update").pairs, right.pairs, atol=1e-6)


def test_without_an_index_the_scores_are_the_same(toy_zoo: Path) -> None:
    stored = list(Zoo.open(toy_zoo).similar("rte"))
    change(toy_zoo, lambda data: data["spaces"][LORA.name].update(index={}))
    for one, other in zip(stored, Zoo.open(toy_zoo).similar("rte"), strict=True):
        assert one.task == other.task
        assert one.score == pytest.approx(other.score, abs=1e-6)


def forged(root: Path, how: Callable[[PairIndex], PairIndex]) -> str:
    """Put another index in the place of one, under its right digest; returns its file."""
    file = f"zoo/{LORA.name}/index-update.safetensors"
    right = parse_pair_index((root / file).read_bytes(), file)
    put(root, file, how(right).to_bytes())
    return file


def with_pair(index: PairIndex, first: str, second: str, score: float) -> PairIndex:
    row, column = sorted(index.tasks.index(task) for task in (first, second))
    scores = index.scores()
    scores[row, column] = score
    return replace(index, pairs=scores[np.triu_indices(len(index.tasks), 1)].astype(np.float32))


def test_a_forged_score_is_found(toy_zoo: Path) -> None:
    file = forged(toy_zoo, lambda index: with_pair(index, "imdb", "snli", 0.99))
    (problem,) = Zoo.open(toy_zoo).verify()
    assert problem.startswith(f"{file} says that imdb and snli score 0.9900; their embeddings score ")


def test_a_forged_norm_is_found(toy_zoo: Path) -> None:
    forged(toy_zoo, lambda index: replace(index, norms=index.norms * np.linspace(1, 1.01, len(index.norms))))
    (problem,) = Zoo.open(toy_zoo).verify()
    assert "says that the norm of " in problem


def test_rounding_is_no_forgery(toy_zoo: Path) -> None:
    forged(toy_zoo, lambda index: replace(index, pairs=index.pairs + np.float32(1e-6)))
    assert Zoo.open(toy_zoo).verify() == []


def test_an_index_that_leaves_out_a_good_embedding_is_not_used(toy_zoo: Path) -> None:
    def without_first(index: PairIndex) -> PairIndex:
        pairs = index.scores()[1:, 1:][np.triu_indices(len(index.tasks) - 1, 1)].astype(np.float32)
        tasks, digests, norms = index.tasks[1:], index.digests[1:], index.norms[1:]
        return replace(index, tasks=tasks, digests=digests, norms=norms, pairs=pairs, sizes=None)

    file = forged(toy_zoo, without_first)
    zoo = Zoo.open(toy_zoo)
    assert zoo.verify() == [f"{file} was made from other embeddings than the registry lists."]
    assert len(zoo.similar("rte")) == 5


def test_a_ranking_says_whether_it_was_read_or_computed(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    assert zoo.similar("rte").from_index
    assert not zoo.similar("rte", explain=True).from_index
    assert not zoo.similar(zoo.embedding("rte")).from_index
    change(toy_zoo, lambda data: data["spaces"][LORA.name].update(index={}))
    assert not Zoo.open(toy_zoo).similar("rte").from_index


BAD: Mapping[str, tuple[Callable[[], TaskEmbedding], str]] = {
    "zero": (lambda: lora("imdb", 0, 4, scale=0.0), "its update is all zero: it was never trained"),
    "huge": (lambda: lora("imdb", 0, 4, scale=1e38), "its update is too large to measure: it diverged"),
    "another shape": (lambda: wider(lora("imdb", 0, 4)), "takes 7 inputs to 5 outputs, not 6 to 5"),
}


def wider(embedding: TaskEmbedding) -> TaskEmbedding:
    """With one input more in each block."""
    blocks = [replace(b, parts={**b.parts, "A": np.pad(b.parts["A"], ((0, 0), (0, 1)))}) for b in embedding.blocks]
    return replace(embedding, blocks=tuple(blocks))


@pytest.mark.parametrize("indexed", [False, True], ids=["no index", "index"])
@pytest.mark.parametrize("kind", BAD)
def test_one_bad_embedding_leaves_the_others_alone(kind: str, indexed: bool, toy_zoo: Path) -> None:
    make, why = BAD[kind]
    whole = Zoo.open(toy_zoo)
    expected = {one.task: one.score for one in whole.similar("rte")}
    put(toy_zoo, FIRST, make().to_bytes("float32"))
    change(toy_zoo, lambda data: data["spaces"][LORA.name].update(index={}))
    zoo = keep_pair_index(Zoo.open(toy_zoo), LORA.name) if indexed else Zoo.open(toy_zoo)
    for query in ("rte", whole.embedding("rte")):
        for explain in (False, True):
            found = zoo.similar(query, space=LORA.name if query == "rte" else None, explain=explain)
            assert list(found.left_out) == ["imdb"] and why in found.left_out["imdb"]
            scores = {one.task: one.score for one in found if one.task != "rte"}
            assert scores == {
                task: pytest.approx(score, abs=1e-6) for task, score in expected.items() if task != "imdb"
            }
    (problem,) = zoo.verify()
    assert problem.startswith(f"imdb in {LORA.name} compares with no other: ") and why in problem
    assert "does not compare" in card_of(zoo, About())[CARD].decode()
    assert np.isnan(pair_scores(zoo, LORA.name, View())).sum() == 2 * len(TASKS) - 1


def test_an_index_without_a_direction_is_refused(toy_zoo: Path) -> None:
    file = f"zoo/{LORA.name}/index-update.safetensors"
    right = parse_pair_index((toy_zoo / file).read_bytes(), file)
    put(toy_zoo, file, type(right)(**{**vars(right), "norms": right.norms * 0}).to_bytes())
    with pytest.raises(FormatError, match="is damaged"):
        Zoo.open(toy_zoo).similar("imdb")


# --- similar ---------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_full_updates_in_order(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    query = zoo.embedding("rte")
    found = list(zoo.similar("rte"))
    expected = {name: cosine(query, zoo.embedding(name)) for name, *_ in TASKS if name != "rte"}
    assert [one.task for one in found] == sorted(expected, key=lambda name: -expected[name])
    assert [one.rank for one in found] == [1, 2, 3, 4, 5]
    for one in found:
        assert one.score == pytest.approx(expected[one.task], abs=1e-5)


def test_an_embedding_from_elsewhere_scores_like_the_same_in_the_zoo(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    for centre in (False, True):
        inside = {one.task: one for one in zoo.similar("rte", view=View(centre=centre))}
        outside = {one.task: one for one in zoo.similar(zoo.embedding("rte"), view=View(centre=centre))}
        assert outside.pop("rte").score == pytest.approx(1, abs=1e-5)
        assert outside.keys() == inside.keys()
        for name, one in inside.items():
            assert one.score == pytest.approx(outside[name].score, abs=1e-5)


@pytest.mark.parametrize("similarity", ["update", "tupate"])
@pytest.mark.parametrize("space", ["tiny-bert/lora", "tiny-bert/prompt"])
@pytest.mark.parametrize("centre", [False, True])
def test_contributions_add_up_to_the_score(similarity: str, space: str, centre: bool, toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    for query in ("imdb", zoo.embedding("imdb", space)):
        where = space if query == "imdb" else None
        ranking = zoo.similar(query, space=where, explain=True, view=View(similarity, centre=centre))
        assert len(ranking) + len(ranking.left_out) >= 5
        assert bool(ranking.left_out) == ((similarity, space) == ("tupate", "tiny-bert/lora"))
        for one in ranking:
            assert sum(one.contributions.values()) == pytest.approx(one.score, abs=1e-5)


def test_percentile_is_the_share_of_pairs_below(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    kernel = zoo.pair_index(LORA.name, "update")
    pairs = kernel.scores()[np.triu_indices(len(TASKS), 1)]
    for one in zoo.similar("mnli"):
        below, equal = (pairs < one.score - 1e-9).sum(), (abs(pairs - one.score) <= 1e-9).sum()
        assert one.percentile == pytest.approx(100 * (below + equal / 2) / len(pairs))


def test_notes_name_the_same_data_and_weak_tasks(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    notes = {one.task: one.notes for one in zoo.similar("imdb")}
    assert "same data" in notes["sst2"]
    assert "weak" in notes["rte"]
    assert not notes["squad"]


def test_a_query_from_elsewhere_is_told_by_its_data(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    one = lora("mine", 99, 4, data={"sha256": f"{3:064x}"})
    assert [n.task for n in zoo.similar(one) if "same data" in n.notes] == ["snli"]
    for odd in ("text", ["sha256"], {"sha256": None}, None):
        assert not [n.task for n in zoo.similar(lora("mine", 99, 4, data=odd)) if "same data" in n.notes]


def test_equal_scores_are_ties_in_order_of_names(toy_zoo: Path) -> None:
    same = lora("mnli", 7).blocks
    put(toy_zoo, f"zoo/{LORA.name}/mnli.safetensors", TaskEmbedding("mnli", LORA, same).to_bytes())
    put(toy_zoo, f"zoo/{LORA.name}/snli.safetensors", TaskEmbedding("snli", LORA, same).to_bytes())
    tied = [one.task for one in Zoo.open(toy_zoo).similar("imdb") if "tie" in one.notes]
    assert tied == ["mnli", "snli"]


def test_k_gives_the_first_ones(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    assert list(zoo.similar("imdb", k=2)) == list(zoo.similar("imdb"))[:2]
    assert len(zoo.similar("imdb", k=100)) == 5


def test_a_task_hides_a_folder_of_its_name(toy_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sst2").mkdir()
    assert Zoo.open(toy_zoo).similar("sst2", k=1).query == "sst2"


@pytest.mark.parametrize("query", ["a" * 300, "no\0name", "sst"])
def test_a_query_that_is_neither_task_nor_path(query: str, toy_zoo: Path) -> None:
    with pytest.raises(UnknownName, match="Unknown task"):
        Zoo.open(toy_zoo).similar(query)


@pytest.mark.parametrize("query", ["./nowhere", "../" + "a" * 300, "no/\0name"])
def test_a_path_that_does_not_exist(query: str, toy_zoo: Path) -> None:
    with pytest.raises(FormatError, match="does not exist"):
        Zoo.open(toy_zoo).similar(query)


def test_an_embedding_that_was_never_trained(toy_zoo: Path) -> None:
    zero = lora("mine", 0, scale=0.0)
    with pytest.raises(FormatError, match="'mine' is all zero"):
        Zoo.open(toy_zoo).similar(zero)


@pytest.mark.parametrize("space", [Space("acme/other", "lora"), Space(BASE, "ia3")])
def test_a_query_of_another_space_names_both(space: Space, toy_zoo: Path) -> None:
    with pytest.raises(SpaceMismatch, match=f"query is {space.method} on {space.base}; the zoo holds lora on {BASE}"):
        Zoo.open(toy_zoo).similar(TaskEmbedding("mine", space, lora("mine", 0).blocks))


def test_a_query_of_another_space_than_the_one_asked_for(toy_zoo: Path) -> None:
    with pytest.raises(SpaceMismatch, match="not 'tiny-bert/prompt'") as caught:
        Zoo.open(toy_zoo).similar(lora("mine", 0), space="tiny-bert/prompt")
    assert caught.value.hint == "`space='tiny-bert/lora'`"


def test_a_query_whose_weights_have_another_width(toy_zoo: Path) -> None:
    rng = np.random.default_rng(0)
    wide = TaskEmbedding("mine", LORA, tuple(
        type(block)(block.name, {"A": rng.standard_normal((2, 9)).astype(np.float32), "B": block.parts["B"]}, 1.0)
        for block in lora("mine", 0).blocks
    ))  # fmt: skip
    with pytest.raises(SpaceMismatch, match="another shape"):
        Zoo.open(toy_zoo).similar(wide)


def test_a_zoo_of_one_task_answers(toy_zoo: Path) -> None:
    change(toy_zoo, lambda data: data.update(embeddings=data["embeddings"][:1]))
    zoo = Zoo.open(toy_zoo)
    assert len(zoo.similar("imdb")) == 0
    for centre in (False, True):
        (only,) = zoo.similar(lora("mine", 50), explain=True, view=View(centre=centre))
        assert only.percentile is None
        assert sum(only.contributions.values()) == pytest.approx(only.score, abs=1e-5)


def test_explain_pair_is_symmetric_and_adds_up(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    score, parts = explain_pair(zoo, "rte", "sst2")
    back, others = explain_pair(zoo, "sst2", "rte")
    assert score == pytest.approx(back) == pytest.approx(cosine(zoo.embedding("rte"), zoo.embedding("sst2")), abs=1e-5)
    assert sum(parts.values()) == pytest.approx(score)
    assert parts == pytest.approx(others)


def test_the_index_is_that_of_the_embeddings(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    entries = zoo.registry.in_space(LORA.name)
    built = build_pair_index(LORA.name, "update", [zoo.load(entry) for entry in entries], [e.sha256 for e in entries])
    stored = zoo.pair_index(LORA.name, "update")
    np.testing.assert_allclose(stored.norms, built.norms, rtol=1e-5)
    np.testing.assert_allclose(stored.pairs, built.pairs, atol=1e-5)
