"""Truth: what is read from a table of transfer results, and what is refused with the line named."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.errors import FormatError, UnknownName
from tupate_hub.evaluation.truth import BASELINE, Truth, align, read_truth

SHARED = Path(__file__).parents[3] / "shared"
HEADER = f"source,target,score,{BASELINE},regime,class,metric\n"
ROWS = "b,a,0.7,0.5,x,y,acc\nc,a,0.6,0.5,x,y,acc\na,b,0.3,,x,y,f1\nc,b,,,x,y,f1\na,a,0.9,0.5,x,y,acc\n"


@pytest.fixture
def table(tmp_path):
    def write(text):
        path = tmp_path / "truth.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_table_is_read(table):
    truth = read_truth(table(HEADER + ROWS))
    assert truth.targets == ("a", "b")
    assert truth.sources == ("a", "b", "c")
    np.testing.assert_array_equal(truth.scores, [[0.9, 0.7, 0.6], [0.3, np.nan, np.nan]])
    np.testing.assert_array_equal(truth.baseline, [0.5, np.nan])
    assert truth.metric == ("acc", "f1")
    assert truth.notes == ()


def test_a_target_is_never_its_own_source_and_absent_cells_are_no_candidates(table):
    truth = read_truth(table(HEADER + ROWS))
    assert truth.candidates().tolist() == [[False, True, True], [True, False, False]]


def test_three_columns_are_enough(table):
    truth = read_truth(table("score,target,source\n70,a,b\n60,a,c\n"))
    assert np.isnan(truth.baseline).all()
    assert truth.metric == ("",)


def test_a_byte_order_mark_spaces_and_windows_line_ends_are_read(table):
    truth = read_truth(table(("\ufeff" + HEADER + " b , a , 0.7 ,0.5,x,y,acc\n").replace("\n", "\r\n")))
    assert (truth.targets, truth.sources, truth.scores.tolist()) == (("a",), ("b",), [[0.7]])


@pytest.mark.parametrize(("scores", "unit"), [((0.5, 1.0), 1), ((50, 88.5), 100), ((-0.4, 0.2), 1), ((0, 1.5), 100)])
def test_the_unit_is_told_from_the_scores(table, scores, unit):
    truth = read_truth(table(f"source,target,score\nb,a,{scores[0]}\nc,a,{scores[1]}\n"))
    assert truth.unit == unit
    np.testing.assert_allclose(truth.fractions(), np.array([scores]) / unit)


def test_names_are_the_callers(table):
    names = {"SST-2": "sst2", "glue/sst2": "sst2"}
    text = "source,target,score\nSST-2,rte,0.6\nglue/sst2,rte,0.8\nmnli,rte,0.9\n"
    truth = read_truth(table(text), lambda name: names.get(name, name))
    assert truth.sources == ("mnli", "sst2")
    np.testing.assert_allclose(truth.scores, [[0.9, 0.7]])
    assert truth.notes == ("1 pairs of source and target have several rows: their mean counts.",)


def test_differing_baselines_are_noted(table):
    truth = read_truth(table(f"source,target,score,{BASELINE}\nb,a,0.6,0.4\nc,a,0.6,0.5\nb,d,0.1,0.2\nc,d,0.1,0.2\n"))
    np.testing.assert_allclose(truth.baseline, [0.45, 0.2])
    assert truth.notes == ("1 targets have several baselines without transfer: their mean counts.",)


def test_an_alias_that_is_refused_is_told_by_the_caller(table):
    def refuse(name):
        raise UnknownName(f"No task {name!r}.")

    with pytest.raises(UnknownName, match="No task 'b'"):
        read_truth(table(HEADER + ROWS), refuse)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no column source, target, score"),
        ("source,score\nb,0.5\n", "has no column target"),
        (HEADER, "holds no score"),
        ("source,target,score\nb,a,\n", "holds no score"),
        ("source,target,score\nb,a,0.5\nc,a,high\n", "line 3: score is 'high', which is not a score"),
        ("source,target,score\nb,a,nan\n", "line 2: score is 'nan'"),
        ("source,target,score\nb,a,inf\n", "line 2: score is 'inf'"),
        ("source,target,score\nb,a,1e300\n", "line 2: score is '1e300'"),
        (f"source,target,score,{BASELINE}\nb,a,1,?\n", f"line 2: {BASELINE} is '\\?'"),
        ("source,target,score\n,a,0.5\n", "line 2: the source is empty"),
        ("source,target,score\nb, ,0.5\n", "line 2: the target is empty"),
        ("source,target,score\nb,a\n", "line 2: not as many fields"),
        ("source,target,score\nb,a,0.5,0.6\n", "line 2: not as many fields"),
        (b"source,target,score\nb,a\xff,0.5\n", "is not UTF-8 text"),
        ('source,target,score\n"b"x,a,0.5\n', "is not a CSV file"),
        ("source,target,score\n" + "b" * 200_000 + ",a,0.5\n", "is not a CSV file"),
    ],
)
def test_what_is_no_table_is_refused_in_a_sentence(table, text, sentence):
    with pytest.raises(FormatError, match=sentence):
        read_truth(table(text))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(FormatError, match="cannot be read"):
            read_truth(path)


def test_a_table_too_wide_for_memory_is_refused(table, monkeypatch):
    monkeypatch.setattr("tupate_hub.evaluation.truth.LARGEST_TABLE", 8)
    rows = "".join(f"s{index},t{index},0.5\n" for index in range(3))
    with pytest.raises(FormatError, match="3 sources and 3 targets"):
        read_truth(table("source,target,score\n" + rows))


def test_a_file_too_large_is_refused(table, monkeypatch):
    monkeypatch.setattr("tupate_hub.evaluation.truth.LARGEST_FILE", 1 << 20)
    with pytest.raises(FormatError, match="larger than 1 MB"):
        read_truth(table(b" " * ((1 << 20) + 1)))


@given(st.binary(max_size=200))
def test_any_bytes_give_a_table_or_a_sentence(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("truth") / "t.csv"
    path.write_bytes(b"source,target,score\n" + data)
    try:
        truth = read_truth(path)
    except FormatError as error:
        assert str(path) in error.message
    else:
        assert truth.scores.shape == (len(truth.targets), len(truth.sources))
        assert np.isfinite(truth.scores).any()


def test_restricting_keeps_the_cells_of_the_tasks(table):
    truth = read_truth(table(HEADER + ROWS)).restricted_to(["a", "c", "unheard-of"])
    assert (truth.targets, truth.sources, truth.metric) == (("a",), ("a", "c"), ("acc",))
    np.testing.assert_array_equal(truth.scores, [[0.9, 0.6]])
    np.testing.assert_array_equal(truth.baseline, [0.5])


def test_nothing_in_common_is_refused(table):
    with pytest.raises(FormatError, match="no target and source in common with the 1 tasks"):
        read_truth(table(HEADER + ROWS)).restricted_to(["x"])


def test_a_zoos_scores_are_put_in_the_order_of_the_truth():
    truth = Truth(("b",), ("a", "c"), np.ones((1, 2)), np.ones(1), ("",))
    zoo = np.arange(9).reshape(3, 3)
    assert align(truth, ["c", "b", "a"], zoo).tolist() == [[5, 3]]


def test_a_task_that_the_zoo_lacks_is_named():
    truth = Truth(("b",), ("a", "c"), np.ones((1, 2)), np.ones(1), ("",))
    with pytest.raises(UnknownName, match="No scores for c of the truth"):
        align(truth, ["a", "b"], np.eye(2))


@pytest.mark.skipif(not (SHARED / "truth").is_dir(), reason="the published tables are not here")
def test_every_published_table_is_read():
    paths = [path for path in (SHARED / "truth").glob("*.csv") if "baselines_per_seed" not in path.name]
    shapes = {path.stem: read_truth(path).candidates().sum() for path in paths}
    assert shapes["su2022_prompt_roberta_base"] == 14 * 13
    assert shapes["su2022_prompt_t5_small"] == 17 * 16
    assert shapes["taskweb_roberta_finetune"] == 442
    assert all(shapes.values())
