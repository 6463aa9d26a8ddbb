"""Search: what may be asked, by a task's name, a file, a folder or an embedding, and what comes back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import BASE, LORA, TASKS, dense, lora, prompt
from damage import change

from tupate_hub import Zoo
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError, SpaceMismatch, TupateHubError, UnknownName
from tupate_hub.search import explain_pair, read_query
from tupate_hub.space import Space
from tupate_hub.tensorfile import TensorFile

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
        zoo.similar("sst2", similarity="cosine")
    assert "update" in caught.value.hint
    assert "tupate" in caught.value.hint


def test_a_task_that_a_space_lacks_says_where_it_is(toy_zoo: Path) -> None:
    def drop(data: dict[str, list[dict[str, str]]]) -> None:
        kept = [one for one in data["embeddings"] if (one["task"], one["space"]) != ("sst2", PROMPT_SPACE)]
        data["embeddings"] = kept

    change(toy_zoo, drop)
    with pytest.raises(UnknownName, match="no embedding in space") as caught:
        Zoo.open(toy_zoo).similar("sst2", space=PROMPT_SPACE)
    assert caught.value.hint == f"it is in: {LORA.name}"


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
            plain, explained = zoo.similar(query, centre=centre), zoo.similar(query, centre=centre, explain=True)
            assert [one.task for one in plain] == [one.task for one in explained]
            for one, other in zip(plain, explained, strict=True):
                assert one.score == pytest.approx(other.score, abs=1e-5)
                assert (one.notes, one.rank) == (other.notes, other.rank)


def test_centred_scores_and_contributions_are_those_of_centred_updates(toy_zoo: Path) -> None:
    zoo, mine = Zoo.open(toy_zoo), lora("mine", 50)
    every = {name: dense(zoo.embedding(name)) for name, *_ in TASKS}
    mean = {block: np.mean([one[block] for one in every.values()], axis=0) for block in dense(mine)}

    def moved(one: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {block: update - mean[block] for block, update in one.items()}

    def norm(one: dict[str, np.ndarray]) -> float:
        return float(np.sqrt(sum((update**2).sum() for update in one.values())))

    query = moved(dense(mine))
    for one in zoo.similar(mine, centre=True, explain=True):
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


@pytest.mark.parametrize("k", [0, 1, 3])
def test_k_neighbours_are_the_first_k(toy_zoo: Path, k: int) -> None:
    zoo = Zoo.open(toy_zoo)
    for explain in (False, True):
        assert names(zoo, "imdb", k=k, explain=explain) == names(zoo, "imdb")[:k]


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
