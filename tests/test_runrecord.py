"""Run record: every header of the bundled zoo is read into one and written back as it was."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tupate_hub.embedding import parse_embedding
from tupate_hub.errors import FormatError
from tupate_hub.runrecord import RunRecord

CHECKOUT = Path(__file__).parents[1]
FILES = sorted(
    path
    for pattern in ("zoo/*/*/*.safetensors", "zoo/*/*/repeats/*.safetensors")
    for path in CHECKOUT.glob(pattern)
    if not path.name.startswith(("index-", "moments", "subspace-"))
)


def read(path):
    return parse_embedding(path.read_bytes(), path.name)


@pytest.fixture(scope="module")
def embedding():
    return read(CHECKOUT / "zoo" / "all-MiniLM-L6-v2" / "lora" / "sst2.safetensors")


def record_of(embedding):
    return RunRecord.from_facts(embedding.facts, task=embedding.task, method=embedding.space.method)


def test_headers_of_the_bundled_zoo_come_back_as_they_are():
    assert len(FILES) > 100
    for path in FILES:
        stored = read(path)
        facts = {**stored.facts, **record_of(stored).to_facts()}
        assert replace(stored, facts=facts).to_bytes() == stored.to_bytes(), path
        groups = set(stored.facts) - {"source", "licence"}  # which are the embedding's own, not the run's
        assert set(record_of(stored).to_facts()) == groups


def test_figures_are_typed(embedding):
    record = record_of(embedding)
    assert (record.task, record.method, record.kind, record.metric) == ("sst2", "lora", "classification", "accuracy")
    assert record.scores.keys() == {"primary", "accuracy"}
    assert record.regime.early == (0.05, 0.1, 0.25, 0.5)
    assert record.regime.seed == record.settings["init_seed"] == 0
    assert record.data.task_class == "CR"
    assert record.device is record.head is record.zero_shot is None


def test_where_it_ran_is_written_where_it_is_known(embedding):
    record = replace(record_of(embedding), device="cuda", head="labels", zero_shot=0.5)
    facts = json.loads(json.dumps(record.to_facts()))
    assert facts["training"].items() >= {"device": "cuda", "head": "labels", "zero_shot": 0.5}.items()
    assert RunRecord.from_facts(facts, task="sst2", method="lora") == record


@pytest.mark.parametrize("group", ["scores", "training", "data", "task_kind"])
def test_a_header_without_a_group_is_refused(embedding, group):
    facts = {name: value for name, value in embedding.facts.items() if name != group}
    with pytest.raises(FormatError, match=f"'sst2' is not a finished run.*{group}"):
        RunRecord.from_facts(facts, task="sst2", method="lora")


@pytest.mark.parametrize("damaged", [{"training": 3}, {"training": {"steps": 1}}, {"scores": []}, {"data": ["x"]}])
def test_a_hostile_header_is_refused_in_a_sentence(embedding, damaged):
    with pytest.raises(FormatError, match="is not a finished run"):
        RunRecord.from_facts({**embedding.facts, **damaged}, task="sst2", method="lora")
