"""Checking: what is wrong with a whole column: tags without names, numbers for texts, labels that are nearly equal."""

import json
import subprocess

import pytest

from tupate_hub.data.checking import check
from tupate_hub.data.columns import guess_columns
from tupate_hub.data.files import read_table
from tupate_hub.data.table import Table


def table_of(rows, where="a.csv", label_names=None):
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    return Table(where, "line", columns, rows, range(2, len(rows) + 2), label_names or {})


def told(*tables, kind=None, named=None):
    """The faults of splits as (text, whether it is an error), and the names of classes."""
    splits = dict(zip(("train", "validation", "test"), tables, strict=False))
    checked = check(splits, guess_columns(tables[0], kind, named))
    return [(str(fault), fault.error) for fault in checked.faults], checked.label_names


def reviews(*labels, count=60, text="a text {}"):
    return [{"text": text.format(n), "label": labels[n % len(labels)]} for n in range(count)]


# ---- texts that are numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["{}"], "holds only numbers"),
        (["1{}.5"], "holds only numbers"),
        (["{}"] * 59 + ["so good"], "holds almost only numbers"),
    ],
)
def test_a_text_that_holds_numbers_is_a_warning(texts, said):
    rows = [{"text": texts[n % len(texts)].format(n), "label": "ab"[n % 2]} for n in range(60)]
    assert told(table_of(rows))[0] == [(f"a.csv: column 'text' {said}", False)]


def test_the_second_text_is_looked_at_too():
    rows = [{"sentence1": f"a text {n}", "sentence2": n, "label": "ab"[n % 2]} for n in range(60)]
    assert told(table_of(rows))[0] == [("a.csv: column 'sentence2' holds only numbers", False)]


def test_some_numbers_among_texts_are_none_of_it():
    rows = [{"text": f"{n}" if n % 3 else f"no {n}", "label": "ab"[n % 2]} for n in range(60)]
    assert told(table_of(rows))[0] == []


# ---- labels that are nearly equal ------------------------------------------------------------------------------------


def test_labels_that_differ_in_case_are_a_warning():
    rows = [*reviews("good", "bad"), *reviews("Good", "bad", count=4, text="other {}")]
    faults, names = told(table_of(rows))
    said = "labels that differ only in case are different classes: 'good' and 'Good'"
    assert faults == [(f"a.csv, lines 62 and 64: {said}", False)]
    assert names == ("Good", "bad", "good")


def test_labels_that_differ_in_blanks_are_one_class_and_a_warning():
    rows = [*reviews("good", "bad"), *reviews(" good", "bad\t", count=2, text="other {}")]
    faults, names = told(table_of(rows))
    said = "labels that differ only in blanks around them count as one: 'good' and ' good'; 'bad' and 'bad\\t'"
    assert faults == [(f"a.csv, lines 62 and 63: {said}", False)]
    assert names == ("bad", "good")


def test_a_blank_before_every_label_is_none_of_it():
    assert told(table_of(reviews(" good", " bad")))[0] == []


def test_each_split_is_told_of_its_own_rows():
    train, dev = table_of(reviews("good", "bad")), table_of(reviews("GOOD", "bad", count=4, text="dev {}"), "dev.csv")
    (first, *_), _ = told(train, dev)
    assert first[0].startswith("dev.csv, lines 2 and 4: a label that no row of a.csv has: 'GOOD'")
    said = "dev.csv, lines 2 and 4: labels that differ only in case are different classes: 'good' and 'GOOD'"
    assert told(train, dev)[0][-1] == (said, False)


def test_many_pairs_are_listed_shortly():
    labels = [f"{word}{end}" for word in "abcdefg" for end in "xX"]
    (fault,) = [text for text, _ in told(table_of(reviews(*labels)))[0] if "case" in text]
    assert fault.endswith("'ex' and 'eX'; ... (7 labels)")


@pytest.mark.parametrize("labels", [("True", "FALSE", "TRUE", "false"), ("True", "False")])
def test_truth_in_several_spellings_is_no_fault(labels):
    assert told(table_of(reviews(*labels))) == ([], ("false", "true"))


def test_truth_beside_another_label_is_told():
    faults, _ = told(table_of(reviews("True", "true", "maybe")))
    assert "'True' and 'true'" in faults[0][0]


def test_labels_that_the_source_names_are_not_compared():
    assert told(table_of(reviews(0, 1), label_names={"label": ("good", "Good")}))[0] == []


# ---- tags without names ----------------------------------------------------------------------------------------------


def tagged(tags, where="a.jsonl", **fields):
    rows = [{"tokens": ["in", f"Town{n}"], "ner_tags": tags, **fields} for n in range(60)]
    return table_of(rows, where)


def test_numbers_for_tags_are_one_fault():
    table = tagged([0, 12])
    checked = check({"train": table}, guess_columns(table))
    (fault,) = checked.faults
    said = "a.jsonl: column 'ner_tags' holds the numbers 0 to 12, and tags must be names: O, B-place, I-place, ..."
    assert (str(fault), fault.error) == (said, True)
    assert fault.hint.startswith('put the 13 names, in their order, into: python3 -c "import json; names =')
    assert fault.hint.endswith("> named-a.jsonl")


def test_the_hint_is_a_command_that_works(tmp_path):
    table = tagged([0, 1])
    (fault,) = check({"train": table}, guess_columns(table)).faults
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.rows))
    command = fault.hint.partition("into: ")[2]
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, timeout=60)
    named = read_table(tmp_path / "named-a.jsonl")
    assert named.rows[3] == {"tokens": ["in", "Town3"], "ner_tags": ["O", "B-place"]}
    assert check({"train": named}, guess_columns(named)).faults == ()


def test_a_column_that_has_the_names_is_the_hint():
    table = tagged([0, 1], ner_names=["O", "B-place"])
    assert check({"train": table}, guess_columns(table)).faults[0].hint == "`columns={'tags': 'ner_names'}`"


@pytest.mark.parametrize(
    ("where", "tags"), [("a.csv", "0 1"), ("a.csv", "[0, 1]"), ("a.parquet", [0, 1]), ("a b.jsonl", [0, 1])]
)
def test_where_no_command_is_known_the_hint_says_what_to_do(where, tags):
    table = tagged(tags, where)
    (fault,) = check({"train": table}, guess_columns(table)).faults
    assert fault.hint.startswith("write the names in place of the numbers, or give the dataset")


def test_what_else_is_wrong_is_told_as_well():
    table = tagged([0, 1])
    table.rows[5]["ner_tags"] = [0]
    faults, _ = told(table)
    assert faults[1:] == [("a.jsonl, line 7: has another number of tags than of tokens", True)]


def test_one_number_among_names_is_the_row_s_fault():
    table = tagged(["O", "B-place"])
    table.rows[5]["ner_tags"] = ["O", 7]
    assert told(table)[0] == [
        ("a.jsonl, line 7: column 'ner_tags' has a tag that is neither O nor B-... nor I-..., such as '7'", True)
    ]
