"""A large space is searched by sketches: the same neighbours and notes as of comparing everything, or a word about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import LORA, lora, prompt

from tupate_hub import View, Zoo
from tupate_hub.collect import nearest as collecting
from tupate_hub.collect.add import add_embeddings, open_or_start
from tupate_hub.compare import bits
from tupate_hub.embedding import TaskEmbedding, make_block
from tupate_hub.errors import FormatError
from tupate_hub.search import approximate

COUNT = 120


def relative(seed: int, root: int, share: float) -> TaskEmbedding:
    """A LoRA some share of which is that of a root; every third lacks a layer, ranks differ."""
    rng = np.random.default_rng(seed)
    blocks = []
    for block in lora("x", 10_000 + root).blocks[: 2 if seed % 3 == 0 else 4]:
        a, b = block.parts["A"], block.parts["B"]
        own = 1 + seed % 2
        more_a, more_b = rng.standard_normal((own, a.shape[1])), rng.standard_normal((b.shape[0], own))
        blocks.append(make_block(block.name, {"A": np.concatenate([share * a, (1 - share) * more_a]),
                                              "B": np.concatenate([b, more_b], axis=1)}, 2.0))  # fmt: skip
    source = {"kind": "file", "sha256": f"{seed:064x}"} if seed else {"kind": "file"}
    data = {"sha256": f"{root:064x}"} if seed % 2 else {}
    facts = {"source": {**source, **({"data_sha256": data["sha256"]} if data else {})}, "data": data}
    return TaskEmbedding(f"t{seed:03d}", LORA, tuple(blocks), facts)


def many(count: int = COUNT, start: int = 0) -> Iterator[tuple[Path, TaskEmbedding]]:
    for seed in range(start, start + count):
        yield Path(f"{seed}"), relative(seed, seed % 12, 0.3 + 0.6 * ((seed * 7919) % 97) / 97)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry whose LoRA space is large, as it is told here, and whose other space is small."""
    root = tmp_path_factory.mktemp("large") / "zoo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collecting, "LEAST", 50)
        _, became = add_embeddings(open_or_start(root), [*many(), *((Path("p"), prompt(f"p{n}", n)) for n in (1, 2))])
    assert len(became.added) == COUNT + 2
    return root


def told(ranking: Any) -> list[tuple[Any, ...]]:
    return [(one.task, round(one.score, 5), one.kind, one.train_size, one.notes) for one in ranking]


def test_small_spaces_list_no_such_file(large: Path) -> None:
    spaces = Zoo.open(large).registry.spaces
    assert [bool(spaces[name].nearest) for name in (LORA.name, "tiny-bert/prompt")] == [True, False]
    assert spaces[LORA.name].nearest["update"]["tasks"] == COUNT
    assert Zoo.open(large).similar("p1", k=3, space="prompt").approximation is None


@pytest.mark.parametrize("name", ["t000", "t033", "t119"])
def test_the_nearest_are_those_of_comparing_everything(large: Path, name: str) -> None:
    zoo = Zoo.open(large)
    found, exact = zoo.similar(name, k=10), zoo.similar(name, k=10, exact=True)
    assert exact.approximation is None
    assert found.approximation is not None
    assert (found.approximation.embeddings, found.approximation.compared) == (COUNT, 16)
    assert len({one.task for one in found} & {one.task for one in exact}) >= 9
    known = {one.task: one for one in exact}
    for one in found:
        if one.task in known:
            assert one.score == pytest.approx(known[one.task].score, abs=1e-5)
            assert set(one.notes) - {"within noise", "tie"} == set(known[one.task].notes) - {"within noise", "tie"}
            assert one.shared == pytest.approx(known[one.task].shared)
            assert one.percentile == pytest.approx(known[one.task].percentile, abs=4)
    assert found.itself == name not in [one.task for one in found]


def test_an_embedding_from_elsewhere_is_no_neighbour_of_itself(large: Path) -> None:
    zoo = Zoo.open(large)
    mine = next(one for _, one in many(1, 33))
    by_name, outside = zoo.similar("t033", k=8), zoo.similar(mine, k=8)
    assert told(outside) == told(by_name)
    assert outside.itself == "t033"
    stranger = replace(mine, task="mine", facts={})
    assert zoo.similar(stranger, k=1).neighbors[0].task == "t033"
    assert "near-duplicate" in zoo.similar(stranger, k=1).neighbors[0].notes


def test_same_data_is_told_from_the_file(large: Path) -> None:
    zoo = Zoo.open(large)
    notes = {one.task: one.notes for one in zoo.similar("t033", k=20)}
    assert {name: "same data" in note for name, note in notes.items()} == {
        name: int(name[1:]) % 2 == 1 and int(name[1:]) % 12 == 33 % 12 for name in notes
    }


def test_explained_neighbours_have_the_parts_of_comparing_everything(large: Path) -> None:
    zoo = Zoo.open(large)
    found = zoo.similar("t040", k=5, explain=True)
    exact = {one.task: one for one in zoo.similar("t040", k=20, explain=True, exact=True)}
    for one in found:
        assert one.interval is not None
        assert one.contributions == pytest.approx(
            {name: exact[one.task].contributions[name] for name in one.contributions}, abs=1e-5
        )
        assert sum(one.contributions.values()) == pytest.approx(one.score, abs=1e-5)


@pytest.mark.parametrize(
    "ask",
    [
        {},
        {"k": 101},
        {"k": 5, "view": View(centre=True)},
        {"k": 5, "view": View(blocks="value")},
        {"k": 5, "view": View("tupate-flat", balance=True)},
        {"k": 5, "fuse": "layers"},
    ],
    ids=str,
)
def test_what_sketches_cannot_tell_is_compared_whole(large: Path, ask: dict[str, Any]) -> None:
    query = "t000" if ask.get("view", View()).similarity == "update" else "p1"
    assert Zoo.open(large).similar(query, **ask).approximation is None


def test_only_the_best_are_read(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = Zoo.open(large)
    read: list[str] = []
    load = Zoo.load
    monkeypatch.setattr(Zoo, "load", lambda self, entry: read.append(entry.task) or load(self, entry))
    monkeypatch.setattr(Zoo, "load_space", None)
    zoo.similar("t050", k=4)
    assert len(read) == 1 + approximate.EXACTLY


def test_without_weights_scores_are_estimates(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = Zoo.open(large)
    exact = {one.task: one.score for one in zoo.similar("t050", k=20, exact=True)}
    monkeypatch.setattr(approximate, "KEPT", 0)
    found = zoo.similar("t050", k=5)
    assert found.approximation is not None
    assert found.approximation.compared == 0
    assert all(one.shared is None for one in found)
    assert [one.score for one in found] == pytest.approx([exact[one.task] for one in found], abs=0.08)


def test_a_damaged_file_is_told(large: Path, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "zoo"
    shutil.copytree(large, root)
    place = Zoo.open(root).registry.spaces[LORA.name].nearest["update"]
    path = root / place["file"]
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(FormatError, match="another content than the registry says"):
        Zoo.open(root).similar("t000", k=3)
    path.write_bytes(bytes(data)[:-1])
    with pytest.raises(FormatError, match="bytes, the registry says"):
        Zoo.open(root).similar("t000", k=3)
    path.unlink()
    with pytest.raises(FormatError, match="cannot be read"):
        Zoo.open(root).similar("t000", k=3)


def test_the_command_says_how(large: Path, invoke: Any) -> None:
    result = invoke("similar", "t000", "-k", "3", "--registry", large)
    assert (
        "found by the sketches of 120 embeddings, the best 16 compared exactly: --exact compares them all" in result.err
    )
    document = invoke("similar", "t000", "-k", "3", "--registry", large, "--json").json()
    assert document["approximation"] == {"embeddings": COUNT, "compared": 16, "pairs": COUNT * (COUNT - 1) // 2}
    whole = invoke("similar", "t000", "-k", "3", "--registry", large, "--exact", "--json").json()
    assert whole["approximation"] is None
    assert "sketches" not in invoke("similar", "t000", "-k", "3", "--registry", large, "--exact").err


def test_a_search_of_another_kind_finds_the_same(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("usearch")
    zoo = Zoo.open(large)
    expected = told(zoo.similar("t007", k=6))
    monkeypatch.setattr(bits, "MANY", 10)
    assert told(zoo.similar("t007", k=6)) == expected
