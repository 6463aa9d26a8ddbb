"""The script that measures merges, on toy tasks: heads on frozen models, resumed where it was cut off."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from tupate_hub.collect.add import add_embeddings, open_or_start
from tupate_hub.embedding import make_block
from tupate_hub.errors import FormatError
from tupate_hub.evaluation.merge_rows import BASE, read_merge_rows
from tupate_hub.training.probe import cut, fit_head, look, score_head
from tupate_hub.training.record import to_embedding

NAMES = ("toy_classes", "toy_copy", "toy_noise")
PAIRS = ("toy_classes+toy_copy", "toy_classes+toy_noise")


@pytest.fixture(scope="module")
def places(tmp_path_factory, base, data_folder, tuned):
    """Three tasks of the same examples, and a zoo of the tuned adapter, a copy of it, and large noise."""
    root = tmp_path_factory.mktemp("merges")
    data = shutil.copytree(data_folder, root / "data")
    index = json.loads((data / "tasks.json").read_text())
    (known,) = [one for one in index["tasks"] if one["name"] == NAMES[0]]
    for name in NAMES[1:]:
        index["tasks"].append({**known, "name": name})
        shutil.copytree(data / "tasks" / NAMES[0], data / "tasks" / name)
    (data / "tasks.json").write_text(json.dumps(index))
    one = to_embedding(tuned(NAMES[0]), "acme/toy-bert")
    rng = np.random.default_rng(0)

    def noisy(block):
        parts = {name: rng.standard_normal(part.shape) for name, part in block.parts.items()}
        return make_block(block.name, parts, block.scale)

    noise = replace(one, task=NAMES[2], blocks=tuple(map(noisy, one.blocks)))
    made = [one, replace(one, task=NAMES[1]), noise]
    add_embeddings(open_or_start(root / "zoo"), [(root, each) for each in made])
    return {"--base": base, "--data": data, "--zoo": root / "zoo"}


@pytest.fixture
def run(load_script, places, monkeypatch, tmp_path):
    script = load_script("measure_merge")
    table = tmp_path / "rows.csv"

    def go(*options):
        given = [str(part) for pair in {**places, "--out": table}.items() for part in pair]
        monkeypatch.setattr(sys, "argv", ["measure_merge", *given, "--space", "toy-bert/lora", "--merges", *options])
        assert script.main() == 0
        return {(row.merge, row.weights, row.task): row for row in read_merge_rows(table)}

    go.table = table
    return go


def test_copies_lose_nothing_and_noise_costs(run):
    rows = run(*PAIRS)
    assert len(rows) == 2 * 3 + 2 * 2 * 2  # each task alone and on the base model; both weights, both tasks
    alone = rows[NAMES[0], "", NAMES[0]]
    assert alone.score == alone.kept_head > rows[BASE, "", NAMES[0]].score
    assert rows[BASE, "", NAMES[0]].kept_head is None
    for weights in ("mean", "whole"):
        copied, drowned = (rows[pair, weights, NAMES[0]] for pair in PAIRS)
        assert (copied.score, copied.kept_head) == pytest.approx((alone.score, alone.score), abs=0.03)
        assert (copied.cosine, copied.survives, copied.opposite) == pytest.approx((1, 1, 0), abs=1e-3)
        assert drowned.kept_head < alone.kept_head - 0.1
        assert drowned.disturbed > 1


def test_it_goes_on_where_it_was_cut_off(run):
    assert run(*PAIRS[:1], "--seconds", "0") == {}
    rows = run(*PAIRS[:1])
    lines = run.table.read_text().splitlines(keepends=True)
    run.table.write_text("".join(lines[:-2]))
    again = run(*PAIRS[:1])
    assert set(again) == set(rows)
    assert run.table.read_text().splitlines(keepends=True)[: len(lines) - 2] == lines[:-2]
    written = run.table.read_bytes()
    run(*PAIRS[:1])
    assert run.table.read_bytes() == written


def test_a_head_that_is_fitted_serves_better_than_a_constant(base, load, tuned):
    data = cut(load(NAMES[0]), 60, 30, 50)
    assert (len(data.train), len(data.held_out), len(data.validation)) == (60, 30, 50)
    seen = look(base, data, to_embedding(tuned(NAMES[0]), "acme/toy-bert"))
    assert seen.train.shape == (60, 32)
    assert score_head(data, fit_head(data, seen), seen) > 0.8


def test_only_classes_are_probed(load):
    with pytest.raises(FormatError, match="toy_spans is extractive_qa: only classifications are probed"):
        cut(load("toy_spans"), 10, 10, 10)
