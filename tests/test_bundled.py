"""The zoo that comes with the package: sound, complete, really trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tupate_hub import Zoo
from tupate_hub.compare.kernel import kernel, pack
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.publish.table import CLEARLY, margin
from tupate_hub.storage.registry_json import parse_registry

SCRIPTS = Path(__file__).parents[1] / "scripts" / "zoo"


@pytest.fixture(scope="module")
def bundled() -> Zoo:
    return Zoo.open()


def test_every_file_fits_its_entry(bundled: Zoo) -> None:
    assert bundled.verify() == []


def test_every_file_of_the_zoo_is_in_the_registry(bundled: Zoo) -> None:
    listed = {file for file, _, _ in bundled.registry.files()}
    there = (bundled.root / "zoo").rglob("*.safetensors")
    assert {path.relative_to(bundled.root).as_posix() for path in there} == listed


def settings_of(one: TaskEmbedding) -> dict[str, Any]:
    """A run's settings without its seed; runs of an earlier version do not say that no layer is left out."""
    return {"leave_out": [], **one.facts["settings"], "init_seed": 0}


def test_repeats_are_runs_of_their_task_with_other_seeds(bundled: Zoo) -> None:
    for entry in bundled.registry.entries:
        main, *others = [bundled.load(run) for run in entry.runs()]
        seeds = [(one.facts["training"]["seed"], one.facts["training"]["init_seed"]) for one in (main, *others)]
        assert seeds == [(0, 0), *((one.seed, one.init_seed) for one in entry.repeats)]
        assert len(set(seeds)) == len(seeds)
        for other in others:
            assert other.vector().shape == main.vector().shape
            assert (other.vector() != main.vector()).any()
            assert other.facts["data"]["sha256"] == main.facts["data"]["sha256"]
            assert settings_of(other) == settings_of(main)


def test_a_lora_run_that_is_not_clearly_learned_has_a_reason(bundled: Zoo) -> None:
    reasons = json.loads((SCRIPTS / "weak_runs.json").read_text(encoding="utf-8"))
    for entry in bundled.registry.in_space(bundled.registry.default_space):
        assert margin(entry) > CLEARLY or entry.task in reasons, entry.task


def test_the_zoo_is_small_enough_to_bundle(bundled: Zoo) -> None:
    assert sum(path.stat().st_size for path in (bundled.root / "zoo").rglob("*") if path.is_file()) <= 34_000_000


def test_the_registry_is_written_as_the_code_writes_it(bundled: Zoo) -> None:
    text = (bundled.root / "registry.json").read_text(encoding="utf-8")
    assert parse_registry(text, "registry.json").to_json() == text


def test_sst2_has_all_its_names(bundled: Zoo) -> None:
    for name in ("sst2", "sst-2", "SST-2", "glue/sst2", "stanfordnlp/sst2"):
        assert bundled.registry.task(name).name == "sst2"
    assert bundled.registry.task("sst2").train_size == 67349


def test_every_embedding_tells_where_it_came_from(bundled: Zoo) -> None:
    for entry in bundled.registry.entries:
        facts = bundled.load(entry).facts
        space = bundled.registry.space(entry.space)
        assert {"settings", "data", "training", "scores", "software", "source", "licence", "base_sha256"} <= set(facts)
        assert facts["base_sha256"] == space.base_sha256
        assert facts["data"]["sha256"] == entry.source["data_sha256"]
        assert facts["scores"]["primary"] == pytest.approx(entry.scores["primary"], abs=1e-3)
        assert {"primary", "baseline", "metric"} <= set(entry.scores)


def test_a_task_that_does_not_beat_its_baseline_is_weak(bundled: Zoo) -> None:
    for entry in bundled.registry.entries:
        if entry.scores["primary"] <= entry.scores["baseline"]:
            assert "weak" in entry.flags, entry.task


def test_every_task_is_described(bundled: Zoo) -> None:
    kinds = {"classification", "regression", "extractive_qa", "multiple_choice", "token_classification"}
    for task in bundled.tasks.values():
        assert task.title
        assert task.kind in kinds
        assert task.metric


def test_embeddings_of_a_space_have_one_shape_and_differ(bundled: Zoo) -> None:
    for space in bundled.registry.spaces:
        vectors = [bundled.load(entry).vector() for entry in bundled.registry.in_space(space)]
        assert len({vector.shape for vector in vectors}) == 1
        assert len({vector.tobytes() for vector in vectors}) == len(vectors)
        assert all(np.linalg.norm(vector) > 0 for vector in vectors)


@pytest.mark.parametrize("similarity", ["update", "tupate"])
def test_the_stored_index_is_the_kernel_of_the_files(similarity: str, bundled: Zoo) -> None:
    for space in bundled.registry.spaces.values():
        entries = bundled.registry.in_space(space.name)
        packed = pack([bundled.load(entry) for entry in entries], similarity)
        stored = bundled.pair_index(space.name, similarity)
        assert similarity in space.index
        np.testing.assert_allclose(stored.scores(), kernel(packed, packed).scores(), atol=1e-5)


def test_registry_json_is_one_field_a_line(bundled: Zoo) -> None:
    text = (bundled.root / "registry.json").read_text(encoding="utf-8")
    assert json.loads(text)["schema"] == 1
    assert max(map(len, text.splitlines())) < 400
