"""Loading: a user's file, folder or data folder as a task, with everything that is wrong told before training."""

import csv
import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import TASKS

from tupate_hub.data import dataset
from tupate_hub.data.columns import ROLES
from tupate_hub.data.dataset import KINDS, DataOptions, load_data, load_task
from tupate_hub.errors import FormatError, UnknownName


@pytest.fixture
def write(tmp_path):
    """`write("a.csv", rows)` writes dictionaries as the suffix says and gives the path."""

    def written(name, rows):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if name.endswith("jsonl"):
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            with path.open("w", newline="") as stream:
                writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if name.endswith("tsv") else ",")
                writer.writeheader()
                writer.writerows(rows)
        return path

    return written


def reviews(count=60, start=0):
    return [
        {"review": f"a film, number {n}", "stars": ("good", "bad", "fine")[n % 3]} for n in range(start, start + count)
    ]


def parts(data):
    return data.train, data.held_out, data.validation


def content(data):
    return [list(part) for part in parts(data)]


# ---- one file --------------------------------------------------------------------------------------------------------


def test_a_file_of_reviews(write):
    loaded = load_data(write("my reviews.csv", reviews()))
    data = loaded.data
    assert (data.name, data.kind, data.metric) == ("my-reviews", "classification", "accuracy")
    assert data.label_names == ("bad", "fine", "good")
    assert loaded.columns == {"text": "review", "label": "stars"}
    assert loaded.warnings == ()
    assert [len(part) for part in parts(data)] == [48, 6, 6]
    every = sorted((row["text_a"], data.label_names[row["label"]]) for part in parts(data) for row in part)
    assert every == sorted((row["review"], row["stars"]) for row in reviews())
    assert {row["text_b"] for part in parts(data) for row in part} == {None}


def test_the_facts_are_what_a_record_wants(write):
    facts = load_data(write("reviews.csv", reviews())).data.facts
    assert {
        name: facts[name] for name in ("original_dataset", "class", "original_train_size", "licence", "source")
    } == {
        "original_dataset": "reviews",
        "class": "CR",
        "original_train_size": 54,
        "licence": "unknown",
        "source": "reviews.csv",
    }


def test_a_path_and_its_text_are_the_same(write):
    path = write("reviews.csv", reviews())
    assert load_data(path) == load_data(str(path))


@pytest.mark.parametrize("suffix", ["tsv", "jsonl"])
def test_the_form_of_the_file_does_not_matter(write, suffix):
    first, second = load_data(write("a.csv", reviews())).data, load_data(write(f"a.{suffix}", reviews())).data
    assert content(first) == content(second)
    assert first.sha256 == second.sha256


def test_the_seed_decides_the_cut_and_the_digest_tells(write):
    path = write("a.csv", reviews())
    first, again, other = (load_data(path, seed=seed).data for seed in (0, 0, 1))
    assert content(first) == content(again)
    assert first.sha256 == again.sha256
    assert content(first) != content(other)
    assert first.sha256 != other.sha256


def test_the_digest_is_that_of_the_content(write):
    rows = reviews()
    first = load_data(write("a.csv", rows)).data.sha256
    rows[7]["review"] += "!"
    assert load_data(write("b.csv", rows)).data.sha256 != first


def test_a_limit_cuts_the_training_examples_alone(write):
    path = write("a.csv", reviews(90))
    whole, cut = load_data(path).data, load_data(path, DataOptions(limit=30)).data
    assert [len(part) for part in parts(cut)] == [30, 9, 9]
    assert (cut.held_out, cut.validation) == (whole.held_out, whole.validation)
    assert all(row in whole.train for row in cut.train)
    assert cut.sha256 != whole.sha256
    assert load_data(path, DataOptions(limit=72)).data.sha256 == whole.sha256


@pytest.mark.parametrize("limit", [1, 0, -5])
def test_a_limit_too_small_is_refused(write, limit):
    with pytest.raises(FormatError, match="training examples are too few"):
        load_data(write("a.csv", reviews()), DataOptions(limit=limit))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"name": "mine"}, "mine"),
        ({"task": "mine"}, "mine"),
        ({"name": "a b/c", "task": "x"}, "a-b-c"),
        ({"name": "??"}, "task"),
    ],
)
def test_names(write, given, name):
    assert load_data(write("a.csv", reviews()), DataOptions(**given)).data.name == name


# ---- other kinds -----------------------------------------------------------------------------------------------------


def test_regression(write):
    rows = [{"sentence1": f"s {n}", "sentence2": f"t {n}", "score": n / 7} for n in range(50)]
    data = load_data(write("a.tsv", rows)).data
    assert (data.kind, data.metric, data.num_labels, data.label_names) == ("regression", "pearson_and_spearman", 1, ())
    assert {"text_a": "s 49", "text_b": "t 49", "label": 7.0} in [row for part in parts(data) for row in part]


def test_whole_numbers_need_a_kind(write):
    path = write("a.csv", [{"text": f"t {n}", "label": n % 3} for n in range(60)])
    with pytest.raises(FormatError, match="whole numbers") as caught:
        load_data(path)
    assert "`kind" in caught.value.hint
    assert load_data(path, DataOptions(kind="classification")).data.label_names == ("0", "1", "2")
    assert load_data(path, DataOptions(kind="regression")).data.metric == "pearson_and_spearman"


@pytest.mark.parametrize(("silent", "metric"), [(0, "squad_f1"), (1, "squad_v2_f1")])
def test_questions(write, silent, metric):
    rows = [
        {"context": f"{n} came in May {n}", "question": "when?", "answer": "" if n < silent else f"May {n}"}
        for n in range(50)
    ]
    data = load_data(write("a.csv", rows), DataOptions(kind="extractive_qa")).data
    assert (data.metric, data.facts["class"], data.num_labels) == (metric, "QA", 2)
    row = next(row for part in parts(data) for row in part if row["context"].startswith("7 "))
    assert row["answers"] == {"text": ["May 7"], "answer_start": [10]}


def test_choices(write):
    rows = [
        {"question": f"q {n}", "A": f"a {n}", "B": f"b {n}", "C": f"c {n}", "answer": "ABC"[n % 3]} for n in range(50)
    ]
    loaded = load_data(write("a.csv", rows))
    assert loaded.columns == {"choices": "A,B,C", "label": "answer", "question": "question"}
    assert (loaded.data.kind, loaded.data.metric, loaded.data.num_labels) == ("multiple_choice", "accuracy", 3)


def test_tags(write):
    rows = [{"tokens": ["in", f"Town{n}"], "ner_tags": ["O", "B-place"]} for n in range(50)]
    data = load_data(write("a.jsonl", rows)).data
    assert (data.kind, data.metric, data.facts["class"]) == ("token_classification", "span_f1", "SL")
    assert (data.label_names, data.num_labels) == (("O", "B-place"), 2)


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_with_splits(write):
    for name, start, count in (("train", 0, 60), ("dev", 100, 12), ("test", 200, 15)):
        folder = write(f"films/{name}.csv", reviews(count, start)).parent
    loaded = load_data(folder)
    assert (loaded.data.name, loaded.warnings) == ("films", ())
    assert [len(part) for part in parts(loaded.data)] == [60, 12, 15]
    assert loaded.data.validation[0]["text_a"] == "a film, number 200"


@pytest.mark.parametrize("drop", ["column", "values"])
def test_a_test_split_without_labels_is_left_out(write, drop):
    write("films/train.csv", reviews(60))
    write("films/dev.csv", reviews(12, 100))
    bare = [{"review": row["review"], **({} if drop == "column" else {"stars": ""})} for row in reviews(9, 200)]
    loaded = load_data(write("films/test.csv", bare).parent)
    assert loaded.warnings == ("test.csv: has no labels and is not used",)
    assert [len(part) for part in parts(loaded.data)] == [54, 6, 12]


def test_rows_in_two_splits_are_a_warning(write):
    write("films/train.csv", reviews(60))
    loaded = load_data(write("films/dev.csv", [*reviews(9, 100), *reviews(3)]).parent)
    assert loaded.warnings == ("dev.csv, lines 11, 12 and 13: also in train.csv, so the score will flatter",)


def test_a_split_without_the_column_is_refused(write):
    write("films/train.csv", reviews(60))
    with pytest.raises(FormatError, match=r"dev\.csv: has no column 'stars'"):
        load_data(write("films/dev.csv", [{"review": "x", "score": "good"}]).parent)


def test_labels_of_all_splits_are_known(write):
    write("films/train.csv", reviews(60))
    with pytest.raises(FormatError, match=r"dev\.csv, lines 2 and 3: a label that no row of train\.csv has: 'new'"):
        load_data(write("films/dev.csv", [{"review": f"x {n}", "stars": "new"} for n in range(2)]).parent)


# ---- bad data --------------------------------------------------------------------------------------------------------


def test_everything_that_is_wrong_is_told_at_once(tmp_path):
    lines = [f"film {n},{'good' if n % 2 else 'bad'}" for n in range(20)]
    bad = [",good", '"two\nlines",', "caf\xe9,bad", "x,good,more", "late,once"]
    path = tmp_path / "a.csv"
    path.write_bytes("\n".join(["text,label", *lines, *bad, ""]).encode("latin-1"))
    with pytest.raises(FormatError) as caught:
        load_data(path)
    assert caught.value.message.split("\n")[1:] == [
        "  a.csv, line 25: the encoding is broken: this is not UTF-8 text",
        "  a.csv, line 26: has 3 cells where the header has 2",
        "  a.csv, line 22: column 'text' is empty",
        "  a.csv, line 23: column 'label' is empty",
        "  a.csv, line 27: a label seen once cannot be both learned and tested: 'once'",
        "  warning: a.csv: has only 22 rows: its scores will be rough",
    ]
    assert "iconv" in caught.value.hint


def test_a_missing_column_is_told_with_the_rest(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,b\nc\n")
    with pytest.raises(FormatError) as caught:
        load_data(path, DataOptions(columns={"text": "txt"}))
    assert caught.value.message.split("\n") == [
        "a.csv has no column 'txt': it has 'text', 'label'.",
        "  a.csv, line 3: has 1 cells where the header has 2",
    ]
    assert caught.value.hint == "`columns={'text': 'text'}`"


def test_amounts_that_are_none(write):
    rows = [{"text": f"t {n}", "score": n / 7} for n in range(60)]
    rows[4]["score"], rows[9]["score"] = "nan", "many"
    with pytest.raises(FormatError, match=r"a\.csv, line 11: column 'score' is not a number, such as 'many'"):
        load_data(write("a.csv", rows))


def test_answers_outside_their_context(write):
    rows = [
        {"context": f"it was in May {n}", "question": "q", "answer": "May" if n != 5 else "July"} for n in range(60)
    ]
    with pytest.raises(
        FormatError, match=r"a\.csv, line 7: column 'answer' does not stand in its context, such as 'July'"
    ):
        load_data(write("a.csv", rows))


def test_no_good_row_at_all(write):
    with pytest.raises(FormatError, match="has 0 good rows"):
        load_data(
            write("a.csv", [{"text": "", "label": "x"}, {"text": "", "label": "y"}]), DataOptions(kind="classification")
        )


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 10**20)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["O", "B-x", "[", "{", '["a"]', '{"text": 3}', "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "answer_start", "label"]), inner)
    ),
    max_leaves=4,
)


@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_no_row_is_too_odd_to_be_told(tmp_path_factory, data, kind):
    """Whatever strangers put into the columns: a task, or one error with a hint."""
    needed, optional = ROLES[kind]
    rows = data.draw(
        st.lists(st.fixed_dictionaries({}, optional={role: VALUES for role in (*needed, *optional)}), max_size=12)
    )
    path = tmp_path_factory.mktemp("odd") / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, dict.fromkeys((*needed, *optional))]))
    try:
        loaded = load_data(path, DataOptions(kind=kind, columns={role: role for role in needed}))
    except FormatError as error:
        assert error.hint
    else:
        assert all(part for part in parts(loaded.data))


# ---- the project's own data folder -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_a_task_of_a_data_folder_is_what_the_zoo_trains_on(data_folder, name):
    loaded = load_data(data_folder, DataOptions(task=name))
    assert loaded.data == load_task(data_folder, name)
    assert not [
        warning for warning in loaded.warnings if "also in" not in warning and "different labels" not in warning
    ]


def test_columns_of_a_data_folder(data_folder):
    assert load_data(data_folder, DataOptions(task="toy_numbers")).columns == {
        "text": "text_a",
        "text_b": "text_b",
        "label": "label",
    }
    assert load_data(data_folder, DataOptions(task="toy_classes")).columns == {"text": "text_a", "label": "label"}


def test_a_limit_and_a_name_in_a_data_folder(data_folder):
    whole, cut = (load_data(data_folder, DataOptions(task="toy_tags", limit=n, name="mine")).data for n in (None, 50))
    assert (len(cut.train), cut.held_out, cut.validation) == (50, whole.held_out, whole.validation)
    assert (whole.name, cut.name) == ("mine", "mine")
    assert cut.sha256 != whole.sha256


def test_a_data_folder_needs_a_task(data_folder):
    with pytest.raises(FormatError, match=f"holds {len(TASKS)} tasks") as caught:
        load_data(data_folder)
    assert "`task" in caught.value.hint
    assert all(name in caught.value.hint for name in TASKS)
    with pytest.raises(UnknownName, match="toy_poems"):
        load_data(data_folder, DataOptions(task="toy_poems"))


@pytest.mark.parametrize("given", [{"kind": "regression"}, {"columns": {"text": "text_a"}}])
def test_the_columns_of_a_data_folder_are_its_own(data_folder, given):
    with pytest.raises(FormatError, match=r"those of .*tasks\.json: classification"):
        load_data(data_folder, DataOptions(task="toy_classes", **given))


@pytest.mark.parametrize(
    ("kind", "metric", "row", "fault"),
    [
        (
            "classification",
            "accuracy",
            {"text_a": "x", "text_b": None, "label": 2},
            "column 'label' is not a label, such as '2'",
        ),
        (
            "token_classification",
            "span_f1",
            {"tokens": ["a"], "tags": [0, 1]},
            "has another number of tags than of tokens",
        ),
    ],
)
def test_bad_rows_of_a_data_folder_are_told(tmp_path, kind, metric, row, fault):
    good = {
        "classification": [{"text_a": f"t {n}", "text_b": None, "label": n % 2} for n in range(60)],
        "token_classification": [{"tokens": [f"t{n}"], "tags": [n % 2]} for n in range(60)],
    }[kind]
    task = {"name": "only", "kind": kind, "metric": metric, "label_names": ["O", "B-x"]}
    (tmp_path / "tasks.json").write_text(json.dumps({"tasks": [task]}))
    place = tmp_path / "tasks" / "only"
    place.mkdir(parents=True)
    for split, rows in (("train", [*good, row]), ("validation", good[:4])):
        (place / f"{split}.jsonl.gz").write_bytes(
            gzip.compress("".join(json.dumps(one) + "\n" for one in rows).encode(), mtime=0)
        )
    with pytest.raises(FormatError) as caught:
        load_data(tmp_path)
    assert f"  train.jsonl.gz, line 61: {fault}" in caught.value.message.split("\n")


def test_the_real_tasks_have_no_errors(shared):
    for name in ("cb", "wnli", "arc_challenge", "wnut17_ner", "quoref", "copa"):
        data = load_data(shared / "data", DataOptions(task=name)).data
        assert data == load_task(shared / "data", name)


# ---- what a person leaves in a file ----------------------------------------------------------------------------------


def test_rows_without_a_label_are_refused_or_left_out(write):
    rows = reviews()
    for at in (3, 7, 8):
        rows[at]["stars"] = "" if at < 8 else "NaN"
    path = write("a.csv", rows)
    with pytest.raises(FormatError, match="lines 5 and 9: column 'stars' is empty") as caught:
        load_data(path)
    assert caught.value.hint == "correct the rows, or leave out those without a label: `skip_unlabelled=True`"
    loaded = load_data(path, DataOptions(skip_unlabelled=True))
    assert sum(len(part) for part in parts(loaded.data)) == 57
    assert loaded.warnings == ("a.csv: 3 rows without a label are left out",)


def test_questions_without_an_answer_are_no_rows_without_a_label(write):
    rows = [{"context": f"It is {n}.", "question": "What?", "answer": str(n) if n % 2 else ""} for n in range(40)]
    loaded = load_data(write("a.jsonl", rows), DataOptions(skip_unlabelled=True))
    assert sum(len(part) for part in parts(loaded.data)) == 40


@pytest.mark.parametrize("texts", [["yes", "no"], ["same"]])
def test_the_same_texts_over_and_over_are_refused(write, texts):
    rows = [{"text": texts[n % len(texts)], "label": "ab"[n % 2]} for n in range(200)]
    with pytest.raises(FormatError, match=f"only {len(texts)} (different texts|text), and 10 is the least"):
        load_data(write("a.csv", rows))


def test_a_score_of_hardly_any_examples_is_told(write):
    loaded = load_data(write("a.csv", reviews(12)))
    assert [len(part) for part in parts(loaded.data)] == [8, 2, 2]
    assert "only 2 examples are scored on: their score says next to nothing" in loaded.warnings


def test_a_rare_class_of_rows_that_are_drawn_from_more_is_a_warning(write, monkeypatch):
    monkeypatch.setattr(dataset, "MOST_ROWS", 60)
    rows = [{"text": f"t {n}", "label": "rare" if n == 5 else "ab"[n % 2]} for n in range(61)]
    path = write("a.csv", [rows[5], *rows[:5], *rows[6:]])
    told = load_data(path).warnings
    assert "a.csv: 60 of its 61 rows are used, drawn by chance and always the same" in told


# ---- several labels, and tags that are no spans ----------------------------------------------------------------------


def topics(count=60, mark="|"):
    labels = [["war"], ["sport", "money"], ["money"], ["war", "money"]]
    return [{"text": f"a text, number {n}", "topics": mark.join(labels[n % 4])} for n in range(count)]


@pytest.mark.parametrize("mark", ["|", ";", " | "])
def test_several_labels_in_a_cell_are_asked_about_and_read(write, mark):
    path = write("a.csv", topics(mark=mark))
    columns = {"label": "topics"}
    with pytest.raises(FormatError, match=r"seems to hold several labels a cell, such as 'sport.*money'") as caught:
        load_data(path, DataOptions(columns=columns))
    assert caught.value.hint.startswith("`kind='multi_label'`, or `kind='classification'`")
    data = load_data(path, DataOptions(kind="multi_label", columns=columns)).data
    assert (data.label_names, data.num_labels, data.metric) == (("money", "sport", "war"), 3, "micro_f1")
    rows = {row["text_a"]: row["label"] for part in parts(data) for row in part}
    assert [rows[f"a text, number {n}"] for n in range(4)] == [[0, 0, 1], [1, 1, 0], [1, 0, 0], [1, 0, 1]]
    whole = load_data(path, DataOptions(kind="classification", columns=columns)).data
    assert len(whole.label_names) == 4


def test_lists_of_labels_are_several_labels(write):
    rows = [{**row, "topics": row["topics"].split("|")} for row in topics()]
    loaded = load_data(write("a.jsonl", rows), DataOptions(kind="multi_label", columns={"label": "topics"}))
    assert loaded.data.label_names == ("money", "sport", "war")


def test_labels_with_a_bar_that_never_share_a_part_are_classes(write):
    rows = [{"text": f"text {n}", "label": ("1|2", "3|4")[n % 2]} for n in range(60)]
    assert load_data(write("a.csv", rows)).data.kind == "classification"


def test_tags_that_are_no_spans_are_classes_of_words(write):
    rows = [{"tokens": f"the dog barks {n}", "tags": "DET NOUN VERB NUM"} for n in range(60)]
    path = write("a.jsonl", rows)
    data = load_data(path).data
    assert (data.kind, data.metric, data.label_names) == (
        "token_classification",
        "accuracy",
        ("DET", "NOUN", "NUM", "VERB"),
    )
    assert data.train[0]["tags"] == [0, 1, 3, 2]
    assert load_data(path, DataOptions(metric="macro_f1")).data.metric == "macro_f1"
    with pytest.raises(UnknownName, match="is not scored by 'span_f1'") as caught:
        load_data(path, DataOptions(metric="span_f1"))
    assert caught.value.hint == "known: accuracy, macro_f1"


def test_metrics_of_two_classes_need_two(write):
    with pytest.raises(UnknownName, match="is not scored by 'f1_answer'"):
        load_data(write("a.csv", reviews()), DataOptions(metric="f1_answer"))
    assert load_data(write("a.csv", reviews()), DataOptions(metric="macro_f1")).data.metric == "macro_f1"
