"""Task data: what is read from a data folder, how the held-out part is cut, and what is refused."""

import gzip
import hashlib
import json
import shutil

import pytest
from toys import TASKS, write_task

from tupate_hub.data.dataset import KINDS, load_task, task_facts
from tupate_hub.errors import FormatError, UnknownName


@pytest.fixture
def folder(data_folder, tmp_path):
    """A copy of the toy data that a test may damage."""
    return shutil.copytree(data_folder, tmp_path / "data")


def written(folder, name, part):
    lines = gzip.decompress((folder / "tasks" / name / f"{part}.jsonl.gz").read_bytes()).splitlines()
    return [json.loads(line) for line in lines]


def test_facts_are_listed_by_name(data_folder):
    facts = task_facts(data_folder)
    assert set(facts) == set(TASKS)
    assert facts["toy_spans"]["metric"] == "squad_f1"
    assert {fact["kind"] for fact in facts.values()} == set(KINDS) - {"multi_label"}


def test_every_example_is_read_once(data_folder):
    data = load_task(data_folder, "toy_classes")
    published = written(data_folder, "toy_classes", "train")
    key = json.dumps
    assert sorted(map(key, [*data.train, *data.held_out])) == sorted(map(key, published))
    assert list(data.validation) == written(data_folder, "toy_classes", "validation")


def test_the_digest_is_that_of_both_files(data_folder):
    place = data_folder / "tasks" / "toy_choices"
    raw = (place / "train.jsonl.gz").read_bytes() + (place / "validation.jsonl.gz").read_bytes()
    assert load_task(data_folder, "toy_choices").sha256 == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize(
    ("name", "kind", "labels"),
    [
        ("toy_classes", "classification", 2),
        ("toy_numbers", "regression", 1),
        ("toy_spans", "extractive_qa", 2),
        ("toy_choices", "multiple_choice", 3),
        ("toy_tags", "token_classification", 3),
    ],
)
def test_outputs_of_the_head_by_kind(load, name, kind, labels):
    data = load(name)
    assert (data.kind, data.num_labels) == (kind, labels)


def test_the_cut_is_the_same_every_time_and_differs_between_tasks(folder):
    shutil.copytree(folder / "tasks" / "toy_classes", folder / "tasks" / "twin")
    tasks = json.loads((folder / "tasks.json").read_text())["tasks"]
    tasks.append({**tasks[0], "name": "twin"})
    (folder / "tasks.json").write_text(json.dumps({"tasks": tasks}))
    once, again, twin = (load_task(folder, name) for name in ("toy_classes", "toy_classes", "twin"))
    assert (once.train, once.held_out) == (again.train, again.held_out)
    assert once.held_out != twin.held_out


@pytest.mark.parametrize(
    ("examples", "settings", "expected"),
    [
        (300, {}, 30),
        (300, {"held_out_share": 0.5}, 150),
        (300, {"held_out_share": 0.5, "held_out_most": 20}, 20),
        (4000, {}, 256),
        (5, {}, 1),
        (2, {}, 1),
    ],
)
def test_how_much_is_held_out(folder, examples, settings, expected):
    rows = [{"text_a": str(n), "text_b": None, "label": n % 2} for n in range(examples)]
    write_task(folder, "toy_classes", rows, rows[:1])
    data = load_task(folder, "toy_classes", **settings)
    held, kept = ({example["text_a"] for example in part} for part in (data.held_out, data.train))
    assert (len(held), len(kept)) == (expected, examples - expected)
    assert not held & kept


def test_an_unknown_task_lists_the_known_ones(data_folder):
    with pytest.raises(UnknownName, match="no task 'sst3'") as caught:
        load_task(data_folder, "sst3")
    assert all(name in caught.value.hint for name in TASKS)


@pytest.mark.parametrize(
    "text", [None, "{", "[]", "{}", '{"tasks": 3}', '{"tasks": [{"kind": "regression"}]}', "[1]", "\xff"]
)
def test_a_bad_index_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "tasks.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError, match=r"no readable tasks\.json") as caught:
        task_facts(tmp_path)
    assert "docs/data.md" in caught.value.hint


@pytest.mark.parametrize(
    "fields", [{"kind": "tagging", "metric": "accuracy"}, {"metric": "accuracy"}, {"kind": KINDS[0]}]
)
def test_an_unknown_kind_or_no_metric_is_refused(folder, fields):
    (folder / "tasks.json").write_text(json.dumps({"tasks": [{"name": "toy_classes", **fields}]}))
    with pytest.raises(FormatError, match="'toy_classes' no metric or no known kind") as caught:
        load_task(folder, "toy_classes")
    assert "multiple_choice" in caught.value.hint


GOOD = gzip.compress(b'{"text_a": "a", "text_b": null, "label": 0}\n' * 3, mtime=0)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b"no gzip",
        GOOD[:-9],
        GOOD[:20] + b"\0\0\0" + GOOD[23:],
        gzip.compress(b"{", mtime=0),
        gzip.compress(b"\xff\xfe", mtime=0),
    ],
)
@pytest.mark.parametrize("part", ["train", "validation"])
def test_examples_that_cannot_be_read_are_refused_by_their_file(folder, part, raw):
    path = folder / "tasks" / "toy_classes" / f"{part}.jsonl.gz"
    path.unlink()
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(FormatError) as caught:
        load_task(folder, "toy_classes")
    assert str(path) in caught.value.message


@pytest.mark.parametrize(("train", "validation", "file"), [(1, 1, "train"), (0, 1, "train"), (2, 0, "validation")])
def test_too_few_examples_are_refused(folder, train, validation, file):
    row = {"text_a": "a", "text_b": None, "label": 0}
    write_task(folder, "toy_classes", [row] * train, [row] * validation)
    with pytest.raises(FormatError, match=rf"{file}\.jsonl\.gz has \d examples"):
        load_task(folder, "toy_classes")


def test_text_with_exotic_line_separators_stays_one_example(folder):
    text = "one\u2028two\x0bthree\x85four"
    path = folder / "tasks" / "toy_classes" / "validation.jsonl.gz"
    row = {"text_a": text, "text_b": None, "label": 1}
    path.write_bytes(gzip.compress(json.dumps(row, ensure_ascii=False).encode() + b"\n", mtime=0))
    assert load_task(folder, "toy_classes").validation[0]["text_a"] == text
