"""Sources: files, folders with a file for each split, and datasets of the Hub."""

import sys

import pytest

from tupate_hub.data import sources
from tupate_hub.data.sources import read_source, split_of
from tupate_hub.errors import FormatError, NotAvailableOffline
from tupate_hub.extras import install_command

ROWS = "text,label\na,1\nb,0\n"


@pytest.fixture
def folder(tmp_path):
    """`folder("train.csv", "dev.tsv")` has such files."""

    def made(*names):
        place = tmp_path / "reviews"
        place.mkdir()
        for name in names:
            (place / name).write_text(ROWS)
        return place

    return made


def test_a_file_is_one_split(tmp_path):
    path = tmp_path / "my.reviews.csv"
    path.write_text(ROWS)
    found = read_source(str(path))
    assert (found.name, found.origin, found.licence) == ("my.reviews", "my.reviews.csv", "unknown")
    assert list(found.tables) == ["train"]
    assert len(found.tables["train"].rows) == 2


def test_a_folder_has_a_file_for_each_split_and_train_comes_first(folder):
    place = folder("dev.csv", "test.csv", "train.csv", "notes.csv", "README.md", "train.txt")
    found = read_source(str(place))
    assert [(split, table.where) for split, table in found.tables.items()] == [
        ("train", "train.csv"),
        ("validation", "dev.csv"),
        ("test", "test.csv"),
    ]
    assert (found.name, found.origin) == ("reviews", "reviews")


def test_a_folder_with_train_alone(folder):
    assert list(read_source(str(folder("reviews_train.csv"))).tables) == ["train"]


@pytest.mark.parametrize("names", [(), ("dev.csv",), ("reviews.csv",), ("train.txt",)])
def test_a_folder_without_train_is_refused(folder, names):
    with pytest.raises(FormatError, match=r"no tasks\.json and no train\.csv") as caught:
        read_source(str(folder(*names)))
    assert "train, validation and test" in caught.value.hint


def test_two_files_for_one_split_are_refused(folder):
    with pytest.raises(FormatError, match=r"two files for validation: dev\.csv and val\.tsv"):
        read_source(str(folder("train.csv", "dev.csv", "val.tsv")))


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("reviews-train", "train"),
        ("Training", "train"),
        ("dev", "validation"),
        ("valid.1", "validation"),
        ("validation_matched", "validation"),
        ("train-00000-of-00001", "train"),
        ("test", "test"),
        ("trainer", None),
        ("devices", None),
        ("contest", None),
        ("train_test", None),
        ("unsupervised", None),
        ("", None),
    ],
)
def test_splits_by_name(name, split):
    assert split_of(name) == split


@pytest.mark.parametrize("source", ["none.csv", "./none", "acme/none.jsonl", "acme/x/y", "", "/no/where.csv.gz"])
def test_what_is_not_there_is_refused(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    if source == "":
        source = str(tmp_path / "nothing")
    with pytest.raises(FormatError, match="There is no file or folder") as caught:
        read_source(source)
    assert "OWNER/NAME" in caught.value.hint


def test_a_dataset_of_the_hub_needs_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(FormatError, match="hf://datasets/acme/reviews@main is a dataset of the Hub") as caught:
        read_source("acme/reviews@main")
    assert caught.value.hint == install_command("data")


# ---- first lines that are rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", '"a film of rare beauty, and long",good\nbad,bad\n'),
        ("a.tsv", "a film\tgood\nfine\tgood\nso so\tbad\n"),
    ],
)
def test_a_file_without_a_header_is_a_warning(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    (fault,) = read_source(str(tmp_path / name)).tables["train"].faults
    assert str(fault).startswith(
        f"{name}: the first line was taken for the names of columns, but looks like a row: 'a film"
    )
    assert not fault.error


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", ROWS), ("a.jsonl", '{"a film of rare beauty, and long": "x", "good": "good"}\n')]
)
def test_a_file_with_names_has_no_warning(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert read_source(str(tmp_path / name)).tables["train"].faults == ()


def test_each_split_s_header_is_looked_at(folder):
    place = folder("train.csv", "dev.csv")
    (place / "dev.csv").write_text('"a film of rare beauty, and long",good\nbad,bad\n')
    found = read_source(str(place)).tables
    assert (len(found["train"].faults), len(found["validation"].faults)) == (0, 1)


def test_a_folder_of_a_corpus(tmp_path):
    for name in ("train.conll", "dev.bio"):
        (tmp_path / name).write_text("Paris B-place\n")
    tables = read_source(str(tmp_path)).tables
    assert [(split, table.columns) for split, table in tables.items()] == [
        ("train", ("tokens", "tags")),
        ("validation", ("tokens", "tags")),
    ]


# ---- with the `datasets` library, which takes a folder of the same relative name for the Hub's dataset ----------------


@pytest.fixture
def datasets():
    return pytest.importorskip("datasets", reason="needs the extra 'data'")


@pytest.fixture
def hub_dataset(datasets, tmp_path, monkeypatch):
    """`hub_dataset(train=30, test=7)` makes acme/reviews with so many rows; gives what reads it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def made(**sizes):
        place = tmp_path / "acme" / "reviews"
        place.mkdir(parents=True)
        features = datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
        )
        for split, size in sizes.items():
            rows = [{"text": f"{split} {n}", "label": n % 2} for n in range(size)]
            datasets.Dataset.from_list(rows, features=features).to_parquet(place / f"{split}.parquet")
        return lambda configuration=None, most=100: sources._read_hub(
            sources.Location("dataset", "acme/reviews", None), configuration, most
        )

    return made


def test_a_dataset_of_the_hub(hub_dataset):
    found = hub_dataset(test=7, train=30)()
    assert list(found.tables) == ["train", "test"]
    table = found.tables["train"]
    assert (table.where, table.unit, table.columns) == ("train", "row", ("text", "label"))
    assert table.rows[3] == {"text": "train 3", "label": 1}
    assert list(table.numbers) == list(range(30))
    assert table.label_names == {"label": ("bad", "good")}
    assert (found.name, found.origin, found.licence) == ("reviews", "hf://datasets/acme/reviews", "unknown")


def test_a_huge_split_is_sampled(hub_dataset):
    table = hub_dataset(train=30)(most=10).tables["train"]
    assert table.drawn_from == 30
    assert len(table.rows) == len(set(table.numbers)) == 10
    assert [row["text"] for row in table.rows] == [f"train {n}" for n in table.numbers]
    assert [str(fault) for fault in table.faults] == [
        "train: 10 of its 30 rows are used, drawn by chance and always the same"
    ]
    assert not table.faults[0].error


def test_a_configuration_that_is_not_there_lists_those_that_are(hub_dataset):
    with pytest.raises(FormatError, match="has the configurations default") as caught:
        hub_dataset(train=30)("other")
    assert caught.value.hint == "`task='default'`"


def test_a_dataset_that_cannot_be_fetched(datasets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotAvailableOffline, match="hf://datasets/acme/nothing"):
        read_source("acme/nothing")
