"""Examples: cells of every form that people write them in, and what is wrong with a row, kind by kind."""

import dataclasses
import math

import pytest

from tupate_hub.data.columns import guess_columns
from tupate_hub.data.examples import (
    Reader,
    count_choices,
    input_of,
    is_unlabelled,
    label_names,
    part_of,
    read_examples,
)
from tupate_hub.data.faults import Fault
from tupate_hub.data.table import Table


def table_of(rows, label_names=None):
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    return Table("a.csv", "line", columns, rows, range(2, len(rows) + 2), label_names or {})


def read(kind, rows, declared=None, named=None):
    """The examples of rows, their numbers and the faults as text."""
    table = table_of(rows, declared)
    guess = guess_columns(table, kind, named)
    names = label_names([table], guess)
    examples, numbers, faults = read_examples(Reader(table, guess, names, *count_choices([table], guess)))
    assert all(fault.where == "a.csv" for fault in faults)
    return examples, numbers, [str(fault) for fault in faults], names


def texts(*labels, text="a text"):
    return [{"text": f"{text} {n}", "label": label} for n, label in enumerate(labels)]


# ---- classification --------------------------------------------------------------------------------------------------


def test_classes_are_sorted_names():
    examples, numbers, faults, names = read("classification", texts("good", "bad", " good "))
    assert (names, faults, numbers) == (("bad", "good"), [], [2, 3, 4])
    assert [example["label"] for example in examples] == [1, 0, 1]
    assert examples[0] == {"text_a": "a text 0", "text_b": None, "label": 1}


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "9", "-1", "2"], ("-1", "2", "9", "10")),
        ([10, 9.0, "2", 2], ("2", "9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        ([True, False], ("false", "true")),
        (["1.5", "2"], ("1.5", "2")),
    ],
)
def test_names_of_classes(labels, names):
    examples, _, faults, found = read("classification", texts(*labels))
    assert (found, faults) == (names, [])
    assert {example["label"] for example in examples} == set(range(len(names)))


@pytest.mark.parametrize(
    "labels", [("True", "FALSE", "true", " False "), ("TRUE", False, True, "false"), ("True", "False", "True", "False")]
)
def test_truth_is_two_classes_however_it_is_written(labels):
    examples, _, faults, names = read("classification", texts(*labels))
    assert (names, faults) == (("false", "true"), [])
    assert [example["label"] for example in examples] == [int(str(label).strip().lower() == "true") for label in labels]


def test_truth_among_other_labels_is_a_label():
    assert read("classification", texts("True", "true", "maybe"))[3] == ("True", "maybe", "true")


def test_declared_names_keep_their_order():
    examples, _, faults, names = read("classification", texts(1, 0, "zero", 2), {"label": ("zero", "one", "two")})
    assert names == ("zero", "one", "two")
    assert [example["label"] for example in examples] == [1, 0, 0, 2]
    assert faults == []


@pytest.mark.parametrize("label", [3, -1, "three", True])
def test_what_is_no_declared_class(label):
    _, numbers, faults, _ = read("classification", texts(0, label, 1), {"label": ("zero", "one", "two")})
    assert numbers == [2, 4]
    assert faults == [f"a.csv, line 3: column 'label' is not a label, such as '{label}'"]


@pytest.mark.parametrize("label", ["", "  ", None])
def test_an_empty_label(label):
    _, numbers, faults, names = read("classification", texts("a", label, "b", label))
    assert (numbers, names) == ([2, 4], ("a", "b"))
    assert faults == ["a.csv, lines 3 and 5: column 'label' is empty"]


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("cell", ["NaN", "nan", "<NA>", math.nan])
def test_what_pandas_writes_for_nothing_is_missing(kind, cell):
    _, numbers, faults, names = read(kind, texts(1, cell, 2))
    assert (numbers, names) == ([2, 4], ("1", "2") if kind == "classification" else ())
    assert faults == [f"a.csv, line 3: column 'label' is missing: pandas writes '{cell}' for that"]
    rows = [{"text": cell, "label": 1}, {"text": "not nan", "label": 2}]
    assert read(kind, rows)[2] == [f"a.csv, line 2: column 'text' is missing: pandas writes '{cell}' for that"]


def test_a_label_that_is_no_plain_value():
    _, _, faults, names = read("classification", texts("a", ["b"], "b"))
    assert names == ("a", "b")
    assert faults == ["a.csv, line 3: column 'label' is not a label, such as \"['b']\""]


@pytest.mark.parametrize("text", ["", " \n", None])
def test_an_empty_text(text):
    rows = texts("a", "b", "a")
    rows[1]["text"] = text
    assert read("classification", rows)[1:3] == ([2, 4], ["a.csv, line 3: column 'text' is empty"])


def test_a_missing_field():
    rows = [*texts("a", "b"), {"label": "a"}, {"text": "x"}]
    assert read("classification", rows)[2] == [
        "a.csv, line 4: column 'text' is empty",
        "a.csv, line 5: column 'label' is empty",
    ]


def test_a_text_that_is_none():
    rows = [*texts("a", "b"), {"text": ["x"], "label": "a"}, {"text": 7, "label": "b"}]
    examples, _, faults, _ = read("classification", rows)
    assert faults == ["a.csv, line 4: column 'text' is not text, such as \"['x']\""]
    assert examples[-1]["text_a"] == "7"


def test_all_faults_of_a_row_are_told():
    rows = [*texts("a", "b"), {"text": "", "label": ""}]
    assert read("classification", rows)[2] == [
        "a.csv, line 4: column 'text' is empty",
        "a.csv, line 4: column 'label' is empty",
    ]


def test_two_texts():
    rows = [{"premise": "p", "hypothesis": h, "label": label} for h, label in (("h", "a"), ("", "b"))]
    examples, _, faults, _ = read("classification", rows)
    assert examples == [{"text_a": "p", "text_b": "h", "label": 0}]
    assert faults == ["a.csv, line 3: column 'hypothesis' is empty"]


def test_half_a_character_is_a_broken_encoding():
    rows = texts("a", "b", "a")
    rows[1]["text"] = "smile \ud83d"
    assert read("classification", rows)[2] == ["a.csv, line 3: the encoding is broken: it has half a character"]


def test_characters_that_were_lost_before_are_a_warning():
    rows = texts("a", "b", "a")
    rows[1]["text"] = "caf\ufffd"
    examples, _, faults, _ = read("classification", rows)
    assert len(examples) == 3
    assert faults == ["a.csv, line 3: has \ufffd where a character was lost"]


def test_a_warning_on_the_file_hides_no_lost_character():
    table = table_of([{"text": "caf\ufffd", "label": "a"}, {"text": "b", "label": "b"}])
    guess = guess_columns(table, "classification")
    for error in (True, False):
        told = dataclasses.replace(table, faults=(Fault("looks odd", "a.csv", error=error),))
        faults = read_examples(Reader(told, guess, ("a", "b")))[2]
        assert (
            [str(fault) for fault in faults] == []
            if error
            else ["a.csv, line 2: has \ufffd where a character was lost"]
        )


# ---- regression ------------------------------------------------------------------------------------------------------


def test_amounts():
    examples, _, faults, names = read("regression", texts("1.5", 2, -0.25, " 3e2 "))
    assert [example["label"] for example in examples] == [1.5, 2.0, -0.25, 300.0]
    assert {type(example["label"]) for example in examples} == {float}
    assert (faults, names) == ([], ())


@pytest.mark.parametrize("label", ["inf", "-Infinity", math.inf, "1,5", "many", True, [1], 10**400])
def test_what_is_no_amount(label):
    _, numbers, faults, _ = read("regression", texts(1.5, label, 2.5))
    assert numbers == [2, 4]
    assert faults[0].startswith("a.csv, line 3: column 'label' is not a number, such as ")


@pytest.mark.parametrize("label", ["", None, " "])
def test_an_empty_amount(label):
    assert read("regression", texts(1.5, label, 2.5))[2] == ["a.csv, line 3: column 'label' is empty"]


# ---- extractive question answering -----------------------------------------------------------------------------------


CONTEXT = "It rains in May. It rains in June."


def asked(**fields):
    return [{"context": CONTEXT, "question": "when?", **fields}]


@pytest.mark.parametrize(
    ("fields", "texts_", "starts"),
    [
        ({"answers": {"text": ["in May", "May"], "answer_start": [9, 12]}}, ["in May", "May"], [9, 12]),
        ({"answers": '{"text": ["May"], "answer_start": [12]}'}, ["May"], [12]),
        ({"answers": {"text": "May", "answer_start": 12}}, ["May"], [12]),
        ({"answers": {"text": ["rains"], "answer_start": [20]}}, ["rains"], [20]),
        ({"answer": "rains"}, ["rains"], [3]),
        ({"answer": "rains", "answer_start": "20"}, ["rains"], [20]),
        ({"answer": "rains", "answer_start": 20.0}, ["rains"], [20]),
        ({"answer": "rains", "answer_start": ""}, ["rains"], [3]),
        ({"answer": ["rains", "June"]}, ["rains", "June"], [3, 29]),
        ({"answer": ""}, [], []),
        ({"answer": None, "answer_start": -1}, [], []),
        ({"answers": {"text": [], "answer_start": []}}, [], []),
        ({"answers": []}, [], []),
        (
            {"answers": [{"text": "in May", "answer_start": 9}, {"text": "May", "answer_start": 12}]},
            ["in May", "May"],
            [9, 12],
        ),
        ({"answers": '[{"text": "May", "answer_start": 12}]'}, ["May"], [12]),
        ({"answers": [{"text": "May"}]}, ["May"], [12]),
        ({"answers": "{'text': ['May', 'June'], 'answer_start': [12, 29]}"}, ["May", "June"], [12, 29]),
        (
            {"answers": "{'text': array(['May'], dtype=object), 'answer_start': array([12], dtype=int32)}"},
            ["May"],
            [12],
        ),
        ({"answers": "{'text': [], 'answer_start': []}"}, [], []),
    ],
)
def test_answers(fields, texts_, starts):
    examples, _, faults, _ = read("extractive_qa", asked(**fields))
    assert faults == []
    assert examples[0] == {
        "context": CONTEXT, "question": "when?", "answers": {"text": texts_, "answer_start": starts}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"answer": "July"}, "in its context"),
        ({"answer": " "}, "in its context"),
        ({"answer": "rains", "answer_start": 4}, "at its answer_start"),
        ({"answer": "rains", "answer_start": 999}, "at its answer_start"),
        ({"answer": "June.", "answer_start": -5}, "at its answer_start"),
        ({"answer": "rains", "answer_start": "soon"}, "at its answer_start"),
        ({"answers": {"text": ["May", "July"], "answer_start": [12, 29]}}, "at its answer_start"),
        ({"answers": [{"text": "May", "answer_start": 13}]}, "at its answer_start"),
        ({"answers": [{"text": "July"}]}, "in its context"),
        ({"answers": "{'text': ['May'], 'answer_start': [12]"}, "in its context"),  # is not closed
    ],
)
def test_answers_that_do_not_stand_in_the_context(fields, where):
    column = "answers" if "answers" in fields else "answer"
    _, numbers, faults, _ = read("extractive_qa", [*asked(**{column: "May"}), *asked(**fields)])
    assert numbers == [2]
    assert faults[0].startswith(f"a.csv, line 3: column '{column}' does not stand {where}, such as ")


def test_an_answer_that_differs_in_case_only_is_told_as_such():
    _, _, faults, _ = read("extractive_qa", [*asked(answer="May"), *asked(answer="may")])
    said = "column 'answer' stands in its context only with other capitals and small letters, such as 'may'"
    assert faults == [f"a.csv, line 3: {said}"]


def test_an_empty_context_or_question():
    rows = [*asked(answer="May"), {"context": "", "question": "", "answer": ""}]
    assert read("extractive_qa", rows)[2] == [
        "a.csv, line 3: column 'context' is empty",
        "a.csv, line 3: column 'question' is empty",
    ]


# ---- multiple choice -------------------------------------------------------------------------------------------------


def chosen(*labels, **fields):
    return [
        {"question": f"which {n}?", "choices": ["red", "blue", "green"], "label": label, **fields}
        for n, label in enumerate(labels)
    ]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 1, 2], [0, 1, 2]),
        (["0", "2"], [0, 2]),
        ([1, 2, 3], [0, 1, 2]),  # 3 of three choices: they count from 1
        (["1", "3"], [0, 2]),
        ([1, 2], [1, 2]),  # no 3: from 0
        ([1.0, 0.0], [1, 0]),
        (["A", "c", "B"], [0, 2, 1]),
        (["blue", "green"], [1, 2]),
    ],
)
def test_which_choice_a_label_names(labels, expected):
    examples, _, faults, _ = read("multiple_choice", chosen(*labels))
    assert faults == []
    assert [example["label"] for example in examples] == expected
    assert examples[0] == {
        "context": "", "question": "which 0?", "choices": ["red", "blue", "green"], "label": expected[0]
    }  # fmt: skip


def test_choices_with_marks_of_their_own():
    """As in ARC and CommonsenseQA on the Hub."""
    rows = chosen("1", "3", choices={"text": ["red", "blue", "green"], "label": ["1", "2", "3"]})
    assert [example["label"] for example in read("multiple_choice", rows)[0]] == [0, 2]


def test_a_column_for_each_choice():
    rows = [{"question": "which?", "choice_a": "red", "choice_b": 7, "answer": answer} for answer in "ab"]
    examples, _, faults, _ = read("multiple_choice", rows)
    assert (examples[1]["choices"], examples[1]["label"], faults) == (["red", "7"], 1, [])


@pytest.mark.parametrize("label", [3, -1, "D", "yellow", "", None, 1.5])
def test_labels_that_name_no_choice(label):
    _, numbers, faults, _ = read("multiple_choice", chosen(0, label, 1))
    assert numbers == [2, 4]
    assert faults[0].startswith(f"a.csv, line 3: column 'label' {'names no choice' if label else 'is empty'}")


def test_rows_with_another_number_of_choices():
    rows = chosen(0, 1, 2, 0)
    rows[1] = {**rows[1], "choices": ["red", "blue"]}
    _, numbers, faults, _ = read("multiple_choice", rows)
    assert numbers == [2, 4, 5]
    assert faults == ["a.csv, line 3: has another number of choices than most rows, 3"]


@pytest.mark.parametrize("choices", ["red", None, [], ["red"], 3, '["red"]'])
def test_what_is_no_list_of_choices(choices):
    rows = [*chosen(0, 1, 2), *chosen(0, choices=choices)]
    assert "a.csv, line 5: column 'choices' is not a list of two or more choices" in read("multiple_choice", rows)[2]


def test_a_choice_that_is_no_text_and_one_that_is_empty():
    rows = [*chosen(0, 1), *chosen(0, choices=["red", {}, "green"]), *chosen(0, choices=["red", " ", "green"])]
    _, numbers, faults, _ = read("multiple_choice", rows)
    assert numbers == [2, 3, 5]  # an empty choice is odd, but can be learned
    assert faults == [
        "a.csv, line 4: column 'choices' has a choice that is not text",
        "a.csv, line 5: column 'choices' has an empty choice",
    ]


def test_neither_context_nor_question():
    rows = [*chosen(0, 1), *chosen(2, question="")]
    assert read("multiple_choice", rows)[2] == ["a.csv, line 4: has neither a context nor a question"]


# ---- tagged words ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "tags"),
    [
        (["in", "New", "York"], ["O", "B-place", "I-place"]),
        ("in New York", "O B-place I-place"),
        ('["in", "New", "York"]', '["O", "B-place", "I-place"]'),
        ("['in', 'New', 'York']", "['O', 'B-place', 'I-place']"),
        ("['in' 'New'\n 'York']", "['O' 'B-place' 'I-place']"),
    ],
)
def test_tagged_words(tokens, tags):
    examples, _, faults, names = read("token_classification", [{"tokens": tokens, "tags": tags}])
    assert names == ("O", "B-place", "I-place")
    assert examples == [{"tokens": ["in", "New", "York"], "tags": [0, 1, 2]}]
    assert faults == []


def test_numbers_for_tags_that_are_told_elsewhere():
    table = table_of([{"tokens": ["a", "b"], "tags": [0, 3]}, {"tokens": ["a"], "tags": []}])
    guess = guess_columns(table, "token_classification")
    _, _, faults = read_examples(Reader(table, guess, label_names([table], guess), tags_are_numbers=True))
    assert [str(fault) for fault in faults] == ["a.csv, line 3: has another number of tags than of tokens"]


def test_there_is_always_an_o():
    assert read("token_classification", [{"tokens": ["a"], "tags": ["B-x"]}])[3] == ("O", "B-x")


def test_declared_tags():
    rows = [{"tokens": ["a", "b"], "ner_tags": [2, 0]}]
    examples, _, faults, names = read("token_classification", rows, {"ner_tags": ("O", "B-x", "I-x")})
    assert (examples[0]["tags"], faults, names) == ([2, 0], [], ("O", "B-x", "I-x"))


@pytest.mark.parametrize("tag", [7, "x", "E-x", "B-", "", "O-x", None])
def test_what_is_no_tag(tag):
    _, numbers, faults, _ = read(
        "token_classification", [{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["a"], "tags": [tag]}]
    )
    assert numbers == [2]
    said = "a.csv, line 3: column 'tags' has a tag that is neither O nor B-... nor I-..."
    assert faults == [said if tag is None else f"{said}, such as '{tag}'"]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "has another number of tags than of tokens"),
        ({"tokens": [], "tags": []}, "column 'tokens' is empty or no list of words"),
        ({"tokens": None, "tags": []}, "column 'tokens' is empty or no list of words"),
        ({"tokens": [1], "tags": ["O"]}, "column 'tokens' has a word that is not text"),
        ({"tokens": ["a"], "tags": None}, "has another number of tags than of tokens"),
    ],
)
def test_sentences_that_are_none(row, fault):
    _, numbers, faults, _ = read("token_classification", [{"tokens": ["a"], "tags": ["O"]}, row])
    assert (numbers, faults) == ([2], [f"a.csv, line 3: {fault}"])


def test_an_empty_word_is_a_warning():
    _, numbers, faults, _ = read("token_classification", [{"tokens": ["a", " "], "tags": ["O", "O"]}])
    assert (numbers, faults) == ([2], ["a.csv, line 2: column 'tokens' has an empty word"])


# ---- between rows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [["", ""], [None, None], [-1, -1], ["-1"]])
def test_a_split_without_labels(cells):
    assert is_unlabelled(table_of(texts(*cells)), "label")
    assert not is_unlabelled(table_of(texts(*cells, 0)), "label")


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("classification", {"text_a": "A  b", "text_b": None}, {"text_a": " a B\n", "text_b": None}),
        ("extractive_qa", {"context": "A", "question": "Q"}, {"context": "a", "question": "q "}),
        (
            "multiple_choice",
            {"context": "", "question": "Q", "choices": ["A"]},
            {"context": " ", "question": "q", "choices": ["a"]},
        ),
        ("token_classification", {"tokens": ["A", "b"]}, {"tokens": ["a", "B"]}),
    ],
)
def test_inputs_that_differ_in_case_and_space_are_one(kind, one, other):
    assert input_of(kind, one) == input_of(kind, other)
    changed = {**other, next(iter(other)): ["else"] if "tokens" in other else "else"}
    assert input_of(kind, one) != input_of(kind, changed)


def test_parts_know_their_labels_by_name():
    table = table_of(texts("good", "bad"))
    rows = [{"text_a": "x", "text_b": None, "label": 1}]
    assert part_of(table, "classification", rows, [3], ("bad", "good")).labels == ["good"]
    assert part_of(table, "regression", [{**rows[0], "label": 2.5}], [3], ()).labels == ["2.5"]
    spans = [{"context": "a", "question": "b", "answers": {}}]
    part = part_of(table, "extractive_qa", spans, [3], ())
    assert (part.labels, part.where, list(part.numbers)) == (None, "a.csv", [3])
