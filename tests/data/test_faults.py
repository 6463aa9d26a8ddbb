"""Faults: how they read, that all are told at once, and what shows only when all examples are seen together."""

import pytest

from tupate_hub.data.faults import Fault, Part, faults_of_parts, refuse_errors, shown
from tupate_hub.errors import FormatError


@pytest.mark.parametrize(
    ("unit", "numbers", "text"),
    [
        ("line", (3,), "a.csv, line 3: it is wrong"),
        ("line", (3, 17), "a.csv, lines 3 and 17: it is wrong"),
        ("row", (0, 4, 9), "a.csv, rows 0, 4 and 9: it is wrong"),
        ("line", tuple(range(1, 11)), "a.csv, lines 1, 2, 3, 4, 5, 6, 7, 8, 9 and 10: it is wrong"),
        ("line", tuple(range(1, 2001)), "a.csv, lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ... (2,000 in all): it is wrong"),
        ("line", (), "a.csv: it is wrong"),
    ],
)
def test_a_fault_names_its_rows(unit, numbers, text):
    assert str(Fault("it is wrong", "a.csv", unit, numbers)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "'a'"), (float("nan"), "'nan'"), ("\x1b[2J\n", r"'\x1b[2J\n'"), ("x" * 99, "'" + "x" * 37 + "...'")],
)
def test_values_are_shown_short_and_harmless(value, text):
    assert shown(value) == text


def test_all_faults_are_told_at_once_and_errors_first():
    faults = [
        Fault("looks odd", "a.csv", "line", (9,), error=False),
        Fault("is empty", "a.csv", "line", (2, 3)),
        Fault("is not UTF-8", "b.csv", "line", (4,), hint="iconv"),
        Fault("is worse", "b.csv", hint="later"),
    ]
    with pytest.raises(FormatError) as caught:
        refuse_errors("the data", faults)
    assert caught.value.message.split("\n") == [
        "the data cannot be trained on:",
        "  a.csv, lines 2 and 3: is empty",
        "  b.csv, line 4: is not UTF-8",
        "  b.csv: is worse",
        "  warning: a.csv, line 9: looks odd",
    ]
    assert caught.value.hint == "iconv"


def test_a_fault_without_a_hint_is_the_user_s_to_correct():
    with pytest.raises(FormatError) as caught:
        refuse_errors("the data", [Fault("is empty", "a.csv")])
    assert caught.value.hint == "correct the rows, then run the same command again"


def test_warnings_are_given_back():
    assert refuse_errors("the data", [Fault("looks odd", "a.csv", error=False)]) == ("a.csv: looks odd",)
    assert refuse_errors("the data", []) == ()


# ---- all examples together -------------------------------------------------------------------------------------------


def part(where, labels, inputs=None, start=2):
    count = len(labels)
    return Part(where, "line", range(start, start + count), inputs or [f"{where} {n}" for n in range(count)], labels)


def found(*parts, classes=True, names_declared=False):
    return faults_of_parts(parts, classes=classes, names_declared=names_declared)


MANY = ["a", "b"] * 30


def test_good_parts_have_no_fault():
    assert found(part("train.csv", MANY), part("dev.csv", ["a", "b"])) == []


@pytest.mark.parametrize(
    ("count", "text", "error"),
    [
        (0, "train.csv: has 0 good rows to train on, and 10 is the least", True),
        (9, "train.csv: has 9 good rows to train on, and 10 is the least", True),
        (10, "train.csv: has only 10 rows: its scores will be rough", False),
        (49, "train.csv: has only 49 rows: its scores will be rough", False),
    ],
)
def test_too_few_rows(count, text, error):
    (fault,) = [one for one in found(part("train.csv", (["a", "b"] * 30)[:count])) if "rows" in str(one)]
    assert (str(fault), fault.error) == (text, error)


@pytest.mark.parametrize("classes", [True, False])
def test_one_label_alone(classes):
    (fault,) = found(part("train.csv", ["a"] * 60), classes=classes)
    assert str(fault) == "train.csv: every row has the label 'a', so there is nothing to learn"
    assert fault.error


@pytest.mark.parametrize("declared", [True, False])
def test_a_label_seen_once_in_all_parts(declared):
    parts = part("train.csv", [*MANY, "typo", "c"]), part("dev.csv", ["a", "c"])
    (fault,) = found(*parts, names_declared=declared)
    assert str(fault) == "train.csv, line 62: a label seen once cannot be both learned and tested: 'typo'"
    assert fault.error is not declared


def test_labels_seen_once_are_listed_shortly():
    (fault,) = found(part("train.csv", [*MANY, *"tuvwxyz"]))
    assert str(fault).endswith("tested: 't', 'u', 'v', 'w', 'x', ... (7 labels)")
    assert fault.numbers == tuple(range(62, 69))


@pytest.mark.parametrize("declared", [True, False])
def test_a_label_that_is_not_trained_on(declared):
    (fault,) = found(part("train.csv", MANY), part("dev.csv", ["a", "c", "c"]), names_declared=declared)
    assert str(fault) == "dev.csv, lines 3 and 4: a label that no row of train.csv has: 'c'"
    assert fault.error is not declared


def test_the_same_text_with_different_labels():
    inputs = [f"text {n}" for n in range(58)] + ["text 0", "text 2"]
    (fault,) = found(part("train.csv", [*MANY[:58], "b", "a"], inputs))
    assert str(fault) == "train.csv, lines 2 and 60: the same text has different labels"
    assert not fault.error


def test_rows_in_two_splits():
    train = part("train.csv", MANY, [f"text {n}" for n in range(60)])
    dev = part("dev.csv", ["a", "b", "a"], ["text 4", "new", "text 8"])
    test = part("test.csv", ["b", "b"], ["new", "text 5"])
    told = found(train, dev, test)
    assert [str(fault) for fault in told] == [
        "dev.csv, lines 2 and 4: also in train.csv, so the score will flatter",
        "test.csv, line 2: also in dev.csv, so the score will flatter",
        "test.csv, line 3: also in train.csv, so the score will flatter",
    ]
    assert not any(fault.error for fault in told)


def test_copies_within_one_split_are_no_fault():
    assert found(part("train.csv", MANY, [f"text {n % 30}" for n in range(60)])) == []


def test_a_few_texts_many_times_are_too_few():
    said = "train.csv: has 60 good rows, but only 2 different texts, and 10 is the least"
    assert said in map(str, found(part("train.csv", MANY, ["same", "other"] * 30)))


def test_amounts_are_no_classes():
    amounts = [f"{n / 7:g}" for n in range(60)]
    assert found(part("train.csv", amounts), part("dev.csv", ["99.5"]), classes=False) == []


def test_parts_without_labels():
    parts = (
        Part("train.csv", "line", range(60), [str(n) for n in range(60)], None),
        Part("d.csv", "line", [1], ["0"], None),
    )
    assert [str(fault) for fault in found(*parts, classes=False)] == [
        "d.csv, line 1: also in train.csv, so the score will flatter"
    ]
