"""Search: what may be asked, by a task's name, a file, a folder or an embedding, and what comes back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import BASE, LORA, TASKS, dense, input_covariance, lora, lora_block, prompt
from damage import change, put
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub import Zoo
from tupate_hub.collect.keep import keep_input_covariance, keep_pair_index
from tupate_hub.compare.magnitude import DIVERGED
from tupate_hub.compare.ranking import reciprocal_rank_fusion
from tupate_hub.compare.view import View
from tupate_hub.embedding import TaskEmbedding, order_blocks
from tupate_hub.errors import FormatError, SpaceMismatch, TupateHubError, UnknownName
from tupate_hub.search.resolve import read_query
from tupate_hub.search.similar import explain_pair, pair_scores
from tupate_hub.space import Space
from tupate_hub.storage.safetensors import TensorFile

PROMPT_SPACE = "tiny-bert/prompt"


def names(zoo: Zoo, query: str | Path | TaskEmbedding, **how: object) -> list[str]:
    return [one.task for one in zoo.similar(query, **how)]


def peft_folder(folder: Path, one: TaskEmbedding, **config: object) -> Path:
    """A LoRA folder as PEFT writes it, of one rank for all blocks."""
    folder.mkdir()
    rank = len(one.blocks[0].parts["A"])
    known = {
        "peft_type": "LORA",
        "base_model_name_or_path": one.space.base,
        "r": rank,
        "lora_alpha": one.blocks[0].scale * rank,
        "target_modules": ["query", "value"],
        **config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(known))
    tensors = {
        f"base_model.model.{block.name}.lora_{part}.weight": array
        for block in one.blocks
        for part, array in block.parts.items()
    }
    (folder / "adapter_model.safetensors").write_bytes(TensorFile(tensors, {"format": "pt"}).to_bytes())
    return folder


# --- the query -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["sst2", "SST-2", "glue/sst2", "sst_2"])
def test_a_task_is_asked_by_any_of_its_names(toy_zoo: Path, query: str) -> None:
    ranking = Zoo.open(toy_zoo).similar(query)
    assert (ranking.query, ranking.space, ranking.similarity, ranking.centred) == ("sst2", LORA.name, "update", False)
    assert {one.task for one in ranking} == {name for name, *_ in TASKS} - {"sst2"}


@pytest.mark.parametrize("space", [None, LORA.name, PROMPT_SPACE])
def test_the_default_space_or_the_one_asked_for(toy_zoo: Path, space: str | None) -> None:
    ranking = Zoo.open(toy_zoo).similar("sst2", space=space)
    assert ranking.space == (space or LORA.name)
    assert len(ranking) == len(TASKS) - 1


def test_an_embedding_names_its_space_itself(toy_zoo: Path) -> None:
    ranking = Zoo.open(toy_zoo).similar(prompt("mine", 3))
    assert (ranking.query, ranking.space, len(ranking)) == ("mine", PROMPT_SPACE, len(TASKS))


def test_an_embedding_file_and_its_folder_are_asked_alike(toy_zoo: Path, tmp_path: Path) -> None:
    zoo, mine = Zoo.open(toy_zoo), lora("mine", 77)
    folder = tmp_path / "pulled"
    folder.mkdir()
    (folder / "mine.safetensors").write_bytes(mine.to_bytes("float32"))
    expected = [(one.task, one.score) for one in zoo.similar(mine)]
    for query in (folder, str(folder), folder / "mine.safetensors", str(folder / "mine.safetensors")):
        ranking = zoo.similar(query)
        assert ranking.query == "mine"
        assert [(one.task, one.score) for one in ranking] == expected


def test_a_strangers_lora_is_asked_as_it_lies(toy_zoo: Path, tmp_path: Path) -> None:
    zoo, mine = Zoo.open(toy_zoo), lora("mine", 77, rank=2, scale=1.5)
    ranking = zoo.similar(peft_folder(tmp_path / "stranger", mine))
    assert [one.task for one in ranking] == names(zoo, mine)
    for one, expected in zip(ranking, zoo.similar(mine), strict=True):
        assert one.score == pytest.approx(expected.score, abs=1e-6)


def test_a_task_comes_before_a_path_of_its_name(toy_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "glue").mkdir()
    peft_folder(tmp_path / "glue" / "sst2", lora("mine", 77))
    zoo = Zoo.open(toy_zoo)
    assert zoo.similar("glue/sst2").query == "sst2"
    assert names(zoo, "./glue/sst2") == names(zoo, lora("mine", 77))


def test_a_path_is_never_a_task(toy_zoo: Path) -> None:
    with pytest.raises(FormatError, match="sst2 does not exist"):
        Zoo.open(toy_zoo).similar(Path("sst2"))


def test_an_unknown_task_gets_the_nearest(toy_zoo: Path) -> None:
    with pytest.raises(UnknownName, match="Unknown task 'sst3'") as caught:
        Zoo.open(toy_zoo).similar("sst3")
    assert caught.value.hint == "did you mean sst2?"


def test_an_unknown_space_and_similarity_list_the_known_ones(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    with pytest.raises(UnknownName) as caught:
        zoo.similar("sst2", space="tiny-bert/ia3")
    assert caught.value.hint == f"known: {LORA.name}, {PROMPT_SPACE}"
    with pytest.raises(UnknownName) as caught:
        zoo.similar("sst2", view=View("cosine"))
    assert "update" in caught.value.hint
    assert "tupate" in caught.value.hint


def test_a_task_that_a_space_lacks_says_where_it_is(toy_zoo: Path) -> None:
    def drop(data: dict[str, list[dict[str, str]]]) -> None:
        kept = [one for one in data["embeddings"] if (one["task"], one["space"]) != ("sst2", PROMPT_SPACE)]
        data["embeddings"] = kept

    change(toy_zoo, drop)
    with pytest.raises(UnknownName, match="no embedding in space") as caught:
        Zoo.open(toy_zoo).similar("sst2", space=PROMPT_SPACE)
    assert caught.value.hint == f"it is elsewhere: `space={LORA.name!r}`"


@pytest.mark.parametrize("space", [Space("acme/large-bert", "lora"), Space(BASE, "ia3")])
def test_a_file_of_another_space_names_both(toy_zoo: Path, tmp_path: Path, space: Space) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(replace(lora("mine", 0), space=space).to_bytes())
    with pytest.raises(SpaceMismatch) as caught:
        Zoo.open(toy_zoo).similar(path)
    assert f"{space.method} on {space.base}" in caught.value.message
    assert f"lora on {BASE}" in caught.value.message


def test_a_damaged_embedding_is_told_as_such(toy_zoo: Path, tmp_path: Path) -> None:
    path, data = tmp_path / "mine.safetensors", lora("mine", 0).to_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(FormatError, match=r"mine\.safetensors is truncated"):
        Zoo.open(toy_zoo).similar(path)
    path.write_bytes(data.replace(b"tupate-hub-embedding/1", b"tupate-hub-embedding/9"))
    with pytest.raises(FormatError, match="tupate-hub-embedding/1"):
        Zoo.open(toy_zoo).similar(path)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", (2**63).to_bytes(8, "little") + b"{}"])
@pytest.mark.parametrize("name", ["x.safetensors", "x.bin", "x"])
def test_a_file_that_is_nothing_known_is_refused(toy_zoo: Path, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TupateHubError):
        Zoo.open(toy_zoo).similar(tmp_path / name)


def test_an_empty_folder_is_refused(toy_zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TupateHubError, match="empty"):
        Zoo.open(toy_zoo).similar(tmp_path / "empty")


def test_reading_a_query_keeps_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "named-otherwise.safetensors"
    path.write_bytes(lora("mine", 0, licence="mit").to_bytes("float32"))
    found = read_query(path)
    assert (found.task, found.space, found.facts) == ("mine", LORA, {"licence": "mit"})
    np.testing.assert_array_equal(found.vector(), lora("mine", 0).vector())


# --- the answer ------------------------------------------------------------------------------------------------


def test_what_is_known_of_a_task_stands_beside_its_score(toy_zoo: Path) -> None:
    found = {one.task: one for one in Zoo.open(toy_zoo).similar("imdb")}
    assert (found["squad"].kind, found["squad"].train_size) == ("qa", 5000)
    assert (found["mnli"].kind, found["mnli"].train_size) == ("classification", 2000)
    assert all(one.contributions == {} for one in found.values())


def test_an_answer_without_and_with_explanation_is_the_same(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    for query in ("imdb", lora("mine", 50)):
        for centre in (False, True):
            plain, explained = (
                zoo.similar(query, view=View(centre=centre)),
                zoo.similar(query, explain=True, view=View(centre=centre)),
            )
            assert [one.task for one in plain] == [one.task for one in explained]
            for one, other in zip(plain, explained, strict=True):
                assert one.score == pytest.approx(other.score, abs=1e-5)
                assert (one.notes, one.rank) == (other.notes, other.rank)


def test_centred_scores_and_contributions_are_those_of_centred_updates(toy_zoo: Path) -> None:
    zoo, mine = Zoo.open(toy_zoo), lora("mine", 50)

    def norm(one: dict[str, np.ndarray]) -> float:
        return float(np.sqrt(sum((update**2).sum() for update in one.values())))

    def of_length_one(embedding: TaskEmbedding) -> dict[str, np.ndarray]:
        whole = dense(embedding)
        return {block: update / norm(whole) for block, update in whole.items()}

    every = {name: of_length_one(zoo.embedding(name)) for name, *_ in TASKS}
    mean = {block: np.mean([one[block] for one in every.values()], axis=0) for block in dense(mine)}

    def moved(one: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {block: update - mean[block] for block, update in one.items()}

    query = moved(of_length_one(mine))
    for one in zoo.similar(mine, explain=True, view=View(centre=True)):
        other = moved(every[one.task])
        for block, part in one.contributions.items():
            assert part == pytest.approx((query[block] * other[block]).sum() / norm(query) / norm(other), abs=1e-5)
        assert one.score == pytest.approx(sum(one.contributions.values()), abs=1e-5)


def test_a_missing_block_contributes_nothing(toy_zoo: Path) -> None:
    zoo, mine = Zoo.open(toy_zoo), lora("mine", 50, layers=1)
    for one in zoo.similar(mine, explain=True):
        assert one.contributions["layer.0.query"] != 0
        assert one.contributions["layer.1.query"] == 0


def test_percentiles_follow_the_scores(toy_zoo: Path) -> None:
    shares = [one.percentile for one in Zoo.open(toy_zoo).similar("imdb")]
    assert shares == sorted(shares, reverse=True)
    assert all(0 <= share <= 100 for share in shares)


@pytest.mark.parametrize("k", [1, 3, 100])
def test_k_neighbours_are_the_first_k(toy_zoo: Path, k: int) -> None:
    zoo = Zoo.open(toy_zoo)
    for explain in (False, True):
        assert names(zoo, "imdb", k=k, explain=explain) == names(zoo, "imdb")[:k]


@pytest.mark.parametrize("k", [0, -1])
def test_no_neighbours_at_all_are_no_answer(toy_zoo: Path, k: int) -> None:
    with pytest.raises(TupateHubError, match=f"{k} neighbours"):
        Zoo.open(toy_zoo).similar("imdb", k=k)


def test_a_zoo_of_two_has_no_percentiles(toy_zoo: Path) -> None:
    change(toy_zoo, lambda data: data.update(embeddings=data["embeddings"][:2]))
    (only,) = Zoo.open(toy_zoo).similar("imdb")
    assert only.percentile is None


# --- two tasks -------------------------------------------------------------------------------------------------


def test_two_tasks_score_as_in_the_ranking(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    for one in zoo.similar("imdb", explain=True):
        score, parts = explain_pair(zoo, "imdb", one.task)
        assert score == pytest.approx(one.score, abs=1e-5)
        assert parts == pytest.approx(one.contributions, abs=1e-5)
        assert sum(parts.values()) == pytest.approx(score, abs=1e-9)


def test_a_task_and_a_file(toy_zoo: Path, tmp_path: Path) -> None:
    zoo, path = Zoo.open(toy_zoo), tmp_path / "mine.safetensors"
    path.write_bytes(lora("mine", 50).to_bytes("float32"))
    score, parts = explain_pair(zoo, str(path), "imdb")
    (expected,) = (one for one in zoo.similar(path) if one.task == "imdb")
    assert score == pytest.approx(expected.score, abs=1e-6)
    assert list(parts) == [block.name for block in lora("mine", 50).blocks]


def test_a_task_and_itself(toy_zoo: Path) -> None:
    assert explain_pair(Zoo.open(toy_zoo), "imdb", "imdb")[0] == pytest.approx(1, abs=1e-6)


def test_two_spaces_do_not_compare(toy_zoo: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(prompt("mine", 50).to_bytes())
    with pytest.raises(SpaceMismatch, match=f"imdb is lora on {BASE}, .*mine.* is prompt on {BASE}"):
        explain_pair(Zoo.open(toy_zoo), "imdb", str(path))


# --- views -----------------------------------------------------------------------------------------------------

VIEWS = [
    View(centre=centre, balance=balance, blocks=blocks)
    for centre in (False, True)
    for balance in (False, True)
    for blocks in (None, "value", "layer.1")
]


def seen_by(view: View, one: TaskEmbedding) -> dict[str, np.ndarray]:
    """What a view looks at: the chosen blocks' updates in full, of length one if balanced."""
    chosen = {name: w for name, w in dense(one).items() if view.blocks is None or view.blocks in name}
    return {name: w / np.linalg.norm(w) for name, w in chosen.items()} if view.balance else chosen


def all_pairs(view: View, embeddings: list[TaskEmbedding]) -> np.ndarray:
    """Cosines between all embeddings by their definition."""
    rows = np.array([np.concatenate([w.ravel() for w in seen_by(view, one).values()]) for one in embeddings])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows - rows.mean(axis=0) if view.centre else rows
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows @ rows.T)


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_every_view_of_a_zoo_is_that_of_the_full_updates(view: View, toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    expected = all_pairs(view, [zoo.embedding(name) for name, *_ in TASKS])
    np.testing.assert_allclose(pair_scores(zoo, LORA.name, view), expected, atol=1e-5)
    for row, (task, *_) in enumerate(TASKS):
        found = {one.task: one.score for one in zoo.similar(task, view=view)}
        assert found == pytest.approx(
            {name: expected[row, at] for at, (name, *_) in enumerate(TASKS) if at != row}, abs=1e-5
        )


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("inside", [False, True])
def test_contributions_add_up_in_every_view(view: View, inside: bool, toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    query = "imdb" if inside else lora("mine", 50, rank=3)
    explained, plain = zoo.similar(query, explain=True, view=view), zoo.similar(query, view=view)
    assert [one.task for one in explained] == [one.task for one in plain]
    for one, other in zip(explained, plain, strict=True):
        assert sum(one.contributions.values()) == pytest.approx(one.score, abs=1e-6)
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert one.percentile == pytest.approx(other.percentile)
        assert all(view.blocks is None or view.blocks in name for name in one.contributions)
        assert one.interval is not None and one.interval[0] <= one.interval[1]
        assert other.interval is None


@pytest.mark.parametrize(
    "view", [View(blocks="value"), View(balance=True), View(blocks="layer.0", balance=True)], ids=str
)
def test_a_pair_is_explained_as_in_the_ranking(view: View, toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    for one in zoo.similar("imdb", explain=True, view=view):
        score, parts = explain_pair(zoo, "imdb", one.task, view=view)
        assert score == pytest.approx(one.score, abs=1e-6)
        assert parts == pytest.approx(one.contributions, abs=1e-6)


def test_blocks_that_the_space_has_not_lists_the_kinds(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    for ask in (
        lambda: zoo.similar("imdb", view=View(blocks="output")),
        lambda: explain_pair(zoo, "imdb", "rte", view=View(blocks="output")),
        lambda: pair_scores(zoo, LORA.name, View(blocks="output")),
    ):
        with pytest.raises(UnknownName, match="'output'") as caught:
            ask()
        assert caught.value.hint == "known: query, value"


def test_a_task_that_has_none_of_the_blocks_scores_nothing(toy_zoo: Path) -> None:
    blocks = lora("squad", 4).blocks[:2]  # layer.0 alone
    put(toy_zoo, f"zoo/{LORA.name}/squad.safetensors", TaskEmbedding("squad", LORA, blocks).to_bytes())
    zoo = Zoo.open(toy_zoo)
    for centre, balance in ((False, False), (False, True), (True, False), (True, True)):
        found = {
            one.task: one for one in zoo.similar("imdb", view=View(centre=centre, balance=balance, blocks="layer.1"))
        }
        assert all(np.isfinite(one.score) and 0 <= one.percentile <= 100 for one in found.values())
        if not centre:
            assert found["squad"].score == 0
        assert np.isfinite(pair_scores(zoo, LORA.name, View(centre=centre, balance=balance, blocks="layer.1"))).all()


def test_pairs_of_an_unknown_space_or_similarity(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    with pytest.raises(UnknownName, match="Unknown space"):
        pair_scores(zoo, "x/lora", View())
    with pytest.raises(UnknownName, match="Unknown similarity"):
        pair_scores(zoo, LORA.name, View("cosine"))
    with pytest.raises(UnknownName, match="needs statistics"):
        pair_scores(zoo, LORA.name, View("effect"))


# --- intervals and shares --------------------------------------------------------------------------------------


def test_identical_embeddings_have_an_interval_of_one(toy_zoo: Path) -> None:
    for view in VIEWS:
        zoo = Zoo.open(toy_zoo)
        found = zoo.similar(zoo.embedding("rte"), explain=True, view=view)
        first = next(iter(found))
        assert first.task == "rte"
        assert first.interval == pytest.approx((1, 1), abs=1e-5)


def test_intervals_are_the_same_every_time(toy_zoo: Path) -> None:
    first, second = (list(Zoo.open(toy_zoo).similar("imdb", explain=True)) for _ in range(2))
    assert first == second
    assert all(one.interval[0] <= one.score + 0.05 and one.score - 0.05 <= one.interval[1] for one in first)


def test_how_much_of_each_side_lies_in_shared_blocks(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    rng = np.random.default_rng(0)
    mine = TaskEmbedding("mine", LORA, order_blocks(lora_block(rng, n) for n in ("layer.0.query", "layer.7.query")))

    def square(one: TaskEmbedding, *names: str) -> float:
        return sum(float((dense(one)[name] ** 2).sum()) for name in names or dense(one))

    for explain in (False, True):
        for one in zoo.similar(mine, explain=explain):
            theirs = zoo.embedding(one.task)
            assert one.shared == pytest.approx(
                (square(mine, "layer.0.query") / square(mine), square(theirs, "layer.0.query") / square(theirs)),
                abs=1e-5,
            )
            assert ("few shared blocks" in one.notes) == (min(one.shared) < 0.5)
    assert any("few shared blocks" in one.notes for one in zoo.similar(mine))


def test_a_whole_query_shares_everything(toy_zoo: Path) -> None:
    for one in Zoo.open(toy_zoo).similar(lora("mine", 50)):
        assert one.shared == pytest.approx((1, 1))
        assert "few shared blocks" not in one.notes


# --- notes -----------------------------------------------------------------------------------------------------


def louder(one: TaskEmbedding, factor: float) -> TaskEmbedding:
    return replace(one, blocks=tuple(replace(block, scale=block.scale * factor) for block in one.blocks))


@pytest.mark.parametrize("explain", [False, True])
def test_a_copy_is_a_near_duplicate(explain: bool, toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    found = {one.task: one.notes for one in zoo.similar(louder(zoo.embedding("mnli"), 3.0), explain=explain)}
    assert "near-duplicate" in found["mnli"]
    assert not any("near-duplicate" in notes for task, notes in found.items() if task != "mnli")


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize(("change", "diverged"), [(0.5 * DIVERGED, False), (2 * DIVERGED, True)])
def test_an_update_that_moves_outputs_too_far_diverged(
    change: float, diverged: bool, explain: bool, toy_zoo: Path
) -> None:
    zoo = Zoo.open(toy_zoo)
    changes = [np.linalg.norm(w) / np.sqrt(len(w)) for w in dense(zoo.embedding("snli")).values()]
    large = louder(zoo.embedding("snli"), change / np.median(changes))
    put(toy_zoo, f"zoo/{LORA.name}/snli.safetensors", large.to_bytes("float32"))
    found = {one.task: one.notes for one in Zoo.open(toy_zoo).similar("imdb", explain=explain)}
    assert ("diverged" in found["snli"]) == diverged
    assert not any("diverged" in notes for task, notes in found.items() if task != "snli")
    for query in ("snli", large):
        assert ("diverged" in Zoo.open(toy_zoo).similar(query, explain=explain).notes) == diverged


def test_an_index_notes_what_the_embeddings_do(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    whole = zoo.embedding("snli")
    loudest = max(whole.blocks, key=lambda block: float(np.linalg.norm(dense(whole)[block.name])))
    rest = replace(whole, blocks=tuple(block for block in whole.blocks if block is not loudest))
    put(toy_zoo, f"zoo/{LORA.name}/snli.safetensors", louder(rest, 1e3).to_bytes("float32"))
    zoo = keep_pair_index(Zoo.open(toy_zoo), LORA.name)
    assert zoo.stored_index(LORA.name, "update") is not None
    for name, *_ in TASKS:
        shown, explained = zoo.similar(name), zoo.similar(name, explain=True)
        assert shown.from_index
        assert not explained.from_index
        assert shown.notes == explained.notes
        assert {one.task: one.notes for one in shown} == {one.task: one.notes for one in explained}
        for first, second in zip(shown, explained, strict=True):
            assert first.shared == pytest.approx(second.shared)
    assert {"diverged"} <= {note for one in zoo.similar("imdb") for note in one.notes}


def test_a_large_update_does_not_move_the_centre_by_itself(toy_zoo: Path) -> None:
    centred, zoo = View(centre=True), Zoo.open(toy_zoo)
    before = {one.task: one.score for one in zoo.similar("imdb", view=centred)}
    put(toy_zoo, f"zoo/{LORA.name}/snli.safetensors", louder(zoo.embedding("snli"), 1e3).to_bytes("float32"))
    for query in ("imdb", zoo.embedding("imdb")):
        found = {one.task: one.score for one in Zoo.open(toy_zoo).similar(query, view=centred)}
        assert {task: found[task] for task in before} == pytest.approx(before, abs=1e-5)


# --- fusion ----------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(2, 8))
def test_fusion_does_not_depend_on_any_order(seed: int, rankings: int, items: int) -> None:
    rng = np.random.default_rng(seed)
    scores, names = rng.integers(0, 4, (rankings, items)).astype(float), [f"task{n}" for n in range(items)]
    fused = reciprocal_rank_fusion(scores, names)
    rows, columns = rng.permutation(rankings), rng.permutation(items)
    again = reciprocal_rank_fusion(scores[np.ix_(rows, columns)], [names[at] for at in columns])
    np.testing.assert_allclose(again, fused[columns], atol=1e-12)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("balance", [False, True])
def test_fusing_layers_is_ranking_by_each(inside: bool, balance: bool, toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    query = "imdb" if inside else lora("mine", 50)
    others = [name for name, *_ in TASKS if not inside or name != "imdb"]
    expected = dict.fromkeys(others, 0.0)
    for layer in ("layer.0", "layer.1"):
        for one in zoo.similar(query, view=View(blocks=layer, balance=balance)):
            expected[one.task] += 1 / (60 + one.rank)
    ranking = zoo.similar(query, fuse="layers", view=View(balance=balance))
    assert ranking.fused == "layers"
    assert {one.task: one.score for one in ranking} == pytest.approx(expected)
    assert [one.task for one in ranking] == sorted(others, key=lambda name: (-expected[name], name))
    assert all(one.percentile is None and one.shared is None for one in ranking)


def test_fusing_similarities_is_ranking_by_each(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    expected = dict.fromkeys((name for name, *_ in TASKS if name != "imdb"), 0.0)
    for similarity in ("update", "tupate"):
        for one in zoo.similar("imdb", space=PROMPT_SPACE, view=View(similarity)):
            expected[one.task] += 1 / (60 + one.rank)
    ranking = zoo.similar("imdb", space=PROMPT_SPACE, fuse="similarities")
    assert {one.task: one.score for one in ranking} == pytest.approx(expected)
    for one in ranking:
        assert not {"near-duplicate", "diverged"} & set(one.notes)


def test_fusing_similarities_takes_effect_where_it_is_known(toy_zoo: Path) -> None:
    for name, *_ in TASKS:  # of one rank, so that the flattened parameters compare as well
        data = lora(name, len(name), 2).to_bytes()
        put(toy_zoo, f"zoo/{LORA.name}/{name}.safetensors", data)
    zoo = keep_input_covariance(Zoo.open(toy_zoo), LORA.name, input_covariance())
    expected = dict.fromkeys((name for name, *_ in TASKS if name != "imdb"), 0.0)
    for similarity in ("update", "tupate", "effect"):
        for one in zoo.similar("imdb", view=View(similarity)):
            expected[one.task] += 1 / (60 + one.rank)
    assert {one.task: one.score for one in zoo.similar("imdb", fuse="similarities")} == pytest.approx(expected)


def test_fusing_similarities_leaves_out_what_one_of_them_cannot_compare(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    fused, plain = zoo.similar("imdb", fuse="similarities"), zoo.similar("imdb", view=View("tupate"))
    assert fused.left_out == plain.left_out
    assert all("equal ranks" in why for why in fused.left_out.values())
    assert {one.task for one in fused} == {one.task for one in plain}
    assert len(fused) + len(fused.left_out) == 5


def test_an_unknown_fusion_lists_the_known_ones(toy_zoo: Path) -> None:
    with pytest.raises(UnknownName, match="Unknown fusion 'heads'") as caught:
        Zoo.open(toy_zoo).similar("imdb", fuse="heads")
    assert caught.value.hint == "known: layers, similarities"


# --- effect ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_effect_in_a_zoo_is_that_of_the_full_updates(inside: bool, explain: bool, toy_zoo: Path) -> None:
    known = input_covariance()
    zoo = keep_input_covariance(Zoo.open(toy_zoo), LORA.name, known)
    query = zoo.embedding("imdb") if inside else lora("mine", 50)

    def full(one: TaskEmbedding) -> np.ndarray:
        return np.concatenate([(w @ known.root(name).astype(float)).ravel() for name, w in dense(one).items()])

    for one in zoo.similar("imdb" if inside else query, explain=explain, view=View("effect")):
        x, y = full(query), full(zoo.embedding(one.task))
        assert one.score == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-5)
    score, _ = explain_pair(zoo, "imdb", "rte", view=View("effect"))
    assert score == pytest.approx(pair_scores(zoo, LORA.name, View("effect"))[0, 2], abs=1e-5)


@pytest.mark.parametrize("explain", [False, True])
def test_effect_without_statistics_says_what_to_do(explain: bool, toy_zoo: Path) -> None:
    for query in ("imdb", lora("mine", 0)):
        with pytest.raises(UnknownName, match="needs statistics of the base model") as caught:
            Zoo.open(toy_zoo).similar(query, explain=explain, view=View("effect"))
        assert "tupate-hub stats" in caught.value.hint


def test_a_large_space_without_an_index_is_not_compared_with_itself(
    toy_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_index = Zoo.open(toy_zoo).similar("imdb")
    change(toy_zoo, lambda data: data["spaces"][LORA.name].update(index={}))
    monkeypatch.setattr("tupate_hub.search.comparison.MOST_PAIRED", 5)
    without = Zoo.open(toy_zoo).similar("imdb")
    assert [one.task for one in without] == [one.task for one in with_index]
    np.testing.assert_allclose([one.score for one in without], [one.score for one in with_index], atol=1e-6)
    assert {one.percentile for one in without} == {None}
    assert None not in {one.percentile for one in with_index}
