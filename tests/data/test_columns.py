"""Columns: what is guessed from names and contents, that explicit names win, and when the user is asked."""

import pytest

from tupate_hub.data.columns import ROLES, choice_columns, guess_columns, lacks_header
from tupate_hub.data.dataset import KINDS
from tupate_hub.data.table import Table
from tupate_hub.errors import FormatError


def table(label_names=None, count=20, **columns):
    """A table of so many rows; each column repeats its values."""
    rows = [{name: values[row % len(values)] for name, values in columns.items()} for row in range(count)]
    return Table("a.csv", "line", tuple(columns), rows, range(2, count + 2), label_names or {})


TEXTS = [f"a text of some words, number {n}" for n in range(20)]
CLASSES = ["good", "bad"]
AMOUNTS = ["0.5", "1.5", "2"]


def guessed(kind=None, named=None, **columns):
    return guess_columns(table(**columns), kind, named)


def test_every_kind_has_roles():
    assert tuple(ROLES) == KINDS


# ---- texts and labels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["text", "Sentence", "REVIEW", "Review Text", "tweet"])
@pytest.mark.parametrize("label", ["label", "Labels", "sentiment", "gold_label", "Category"])
def test_names_tell_text_and_label(text, label):
    guess = guessed(**{label: CLASSES, "other": TEXTS, text: TEXTS})
    assert (guess.kind, guess.columns) == ("classification", {"text": text, "label": label})
    assert guess.guessed == ("text", "label")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("sentence1", "sentence2"),
        ("Premise", "Hypothesis"),
        ("question1", "question2"),
        ("question", "sentence"),
        ("text_a", "text_b"),
    ],
)
def test_two_texts_that_belong_together(first, second):
    guess = guessed(**{"id": list(range(20)), second: TEXTS, first: TEXTS, "label": CLASSES})
    assert guess.columns == {"text": first, "label": "label", "text_b": second}


def test_contents_tell_text_and_label_where_names_do_not():
    guess = guessed(nr=[str(n) for n in range(20)], a=TEXTS, b=CLASSES)
    assert guess.columns == {"text": "a", "label": "b"}


def test_a_column_that_is_no_label_by_content():
    with pytest.raises(FormatError, match="seems to be the label") as caught:
        guessed("classification", a=TEXTS, b=[f"w{n}" for n in range(20)])
    assert caught.value.message == "No column of a.csv seems to be the label: it has 'a', 'b'."
    assert caught.value.hint == "`columns={'label': 'NAME'}`"


def test_two_candidates_are_not_chosen_from():
    with pytest.raises(FormatError, match="seems to be the label"):
        guessed("classification", text=TEXTS, b=CLASSES, c=["x", "y", "z"])
    with pytest.raises(FormatError, match="seems to be the text") as caught:
        guessed("classification", a=TEXTS, b=TEXTS, label=CLASSES)
    assert caught.value.hint == "`columns={'text': 'NAME'}`"


def test_explicit_names_win():
    columns = {"text": TEXTS, "summary": TEXTS, "label": CLASSES, "tone": CLASSES}
    guess = guessed(None, {"text": "summary", "label": "tone"}, **columns)
    assert guess.columns == {"text": "summary", "label": "tone"}
    assert guess.guessed == ()
    guess = guessed(None, {"label": "tone"}, **columns)
    assert guess.columns == {"text": "text", "label": "tone"}
    assert guess.guessed == ("text",)


def test_a_second_text_is_not_guessed_where_the_first_is_named():
    columns = {"sentence1": TEXTS, "sentence2": TEXTS, "label": CLASSES}
    assert guessed(None, {"text": "sentence1"}, **columns).get("text_b") is None
    assert guessed(None, {}, **columns).get("text_b") == "sentence2"
    both = guessed(None, {"text": "sentence2", "text_b": "sentence1"}, **columns)
    assert both.columns == {"text": "sentence2", "label": "label", "text_b": "sentence1"}


def test_a_named_label_is_no_text():
    guess = guessed(None, {"label": "sentence2"}, sentence1=TEXTS, sentence2=CLASSES)
    assert guess.columns == {"text": "sentence1", "label": "sentence2"}


# ---- kinds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (CLASSES, "classification"),
        ([True, False], "classification"),
        (["a", "b", "3"], "classification"),
        (AMOUNTS, "regression"),
        ([0.5, 1, 2.25], "regression"),
        (["0.5", "nan", "", "1.5"], "regression"),
        (["0", "1", "1.0"], "classification"),
        ([0, 1, None], "classification"),
    ],
)
def test_labels_tell_the_kind(labels, kind):
    assert guessed(text=TEXTS, label=labels).kind == kind


@pytest.mark.parametrize("labels", [["0", "1", "2"], [1, 2, 3, 4, 5], ["1", ""], [1.0, 2.0]])
def test_whole_numbers_may_be_either(labels):
    with pytest.raises(FormatError, match=r"'label' of a\.csv holds whole numbers") as caught:
        guessed(text=TEXTS, label=labels)
    assert caught.value.hint == "`kind='classification'`, or `kind='regression'`"
    assert guessed("regression", text=TEXTS, label=labels).kind == "regression"


def test_whole_numbers_that_the_source_names_are_classes():
    guess = guess_columns(table({"label": ("bad", "good")}, text=TEXTS, label=[0, 1]))
    assert guess.kind == "classification"


def test_without_a_label_the_kind_is_not_clear():
    with pytest.raises(FormatError, match=r"What kind of task a\.csv holds is not clear") as caught:
        guessed(text=TEXTS)
    assert "token_classification" in caught.value.hint


CONTEXTS = [f"in the year {n} it was so" for n in range(20)]


@pytest.mark.parametrize(
    "answers",
    [
        ["in the year", "it was so"],
        [{"text": ["x"], "answer_start": [3]}],
        ['{"text": ["x"], "answer_start": [3]}'],
        [["it was", "so"]],
        [[{"text": "x", "answer_start": 3}]],
        [[{"text": "it was"}]],
        ["{'text': ['x'], 'answer_start': [3]}"],
        [[{"text": "x", "answer_start": 3}], [], []],  # SQuAD 2: most have none
        ["in the year", "", ""],
    ],
)
def test_questions_on_a_context(answers):
    guess = guessed(context=CONTEXTS, question=["when ?"], answers=answers)
    assert guess.kind == "extractive_qa"
    assert guess.columns == {"context": "context", "question": "question", "answer": "answers"}


def test_where_an_answer_starts():
    guess = guessed(passage=CONTEXTS, query=["when ?"], answer=["it was"], answer_start=["3"])
    assert guess.columns == {
        "context": "passage", "question": "query", "answer": "answer", "answer_start": "answer_start"
    }  # fmt: skip


def test_answers_that_are_not_in_the_context_are_labels():
    """BoolQ."""
    guess = guessed(question=["is it so ?", "was it ?"], passage=CONTEXTS, answer=[True, False])
    assert (guess.kind, guess.columns) == (
        "classification",
        {"text": "question", "label": "answer", "text_b": "passage"},
    )


@pytest.mark.parametrize(
    "columns",
    [
        {"choices": [["a", "b"]]},
        {"endings": [["a", "b"]]},
        {"options": ['["a", "b"]']},
        {"choice1": ["a"], "choice2": ["b"]},
        {"Option A": ["a"], "Option B": ["b"], "Option C": ["c"]},
        {"A": ["a"], "B": ["b"]},
        {"sol1": ["a"], "sol2": ["b"]},
    ],
)
def test_choices_in_one_column_or_several(columns):
    wide = table(question=TEXTS, label=[0, 1], **columns)
    guess = guess_columns(wide)
    assert guess.kind == "multiple_choice"
    assert choice_columns(guess, wide) == tuple(columns)
    assert guess.columns["question"] == "question"
    assert guess.columns["label"] == "label"


def test_choices_are_in_the_order_of_their_names():
    wide = table(question=TEXTS, choice_c=["c"], choice_a=["a"], choice_b=["b"], answer=["a"])
    guess = guess_columns(wide, "multiple_choice")
    assert guess.columns["choices"] == "choice_a,choice_b,choice_c"


def test_named_choices():
    wide = table(question=TEXTS, left=["a"], right=["b"], label=[0])
    guess = guess_columns(wide, None, {"choices": "left,right"})
    assert (guess.kind, choice_columns(guess, wide)) == ("multiple_choice", ("left", "right"))


def test_one_column_of_one_choice_is_no_choice():
    assert guessed(text=TEXTS, choice1=TEXTS, label=CLASSES).kind == "classification"


@pytest.mark.parametrize(("tokens", "tags"), [("tokens", "ner_tags"), ("words", "tags"), ("Tokens", "slots")])
def test_tagged_words(tokens, tags):
    guess = guessed(**{"id": ["1"], tokens: [["a", "b"]], tags: [["O", "B-x"]]})
    assert (guess.kind, guess.columns) == ("token_classification", {"tokens": tokens, "tags": tags})


@pytest.mark.parametrize(
    ("named", "kind"),
    [
        ({"tokens": "a", "tags": "b"}, "token_classification"),
        ({"context": "a", "question": "b", "answer": "c"}, "extractive_qa"),
        ({"choices": "a,b", "label": "c"}, "multiple_choice"),
        ({"text": "a", "label": "c"}, "classification"),
    ],
)
def test_named_roles_tell_the_kind(named, kind):
    guess = guessed(None, named, a=TEXTS, b=TEXTS, c=CLASSES)
    assert guess.kind == kind
    assert guess.columns.items() >= named.items()


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_a_named_column_that_is_not_there():
    with pytest.raises(FormatError, match=r"a\.csv has no column 'reviews': it has 'review', 'label'") as caught:
        guessed(None, {"text": "reviews"}, review=TEXTS, label=CLASSES)
    assert caught.value.hint == "`columns={'text': 'review'}`"
    with pytest.raises(FormatError, match="no column 'zz'") as caught:
        guessed(None, {"choices": "review,zz"}, review=TEXTS, label=CLASSES)
    assert caught.value.hint == "`columns={'choices': 'NAME'}`"


def test_a_role_that_is_not_there():
    with pytest.raises(FormatError, match="Unknown role 'words'") as caught:
        guessed(None, {"words": "review"}, review=TEXTS, label=CLASSES)
    assert "text_b" in caught.value.hint


def test_a_role_of_another_kind():
    with pytest.raises(FormatError, match="kind regression has no role 'tokens'") as caught:
        guessed("regression", {"tokens": "text"}, text=TEXTS, label=AMOUNTS)
    assert caught.value.hint == "it has text, label, text_b"


def test_an_unknown_kind():
    with pytest.raises(FormatError, match="Unknown kind 'tagging'") as caught:
        guessed("tagging", text=TEXTS, label=CLASSES)
    assert "token_classification" in caught.value.hint


def test_many_columns_are_listed_shortly():
    with pytest.raises(FormatError) as caught:
        guessed("classification", {"text": "z"}, **{f"c{n}": CLASSES for n in range(500)})
    assert caught.value.message.endswith("'c19', ... (500 columns).")


def test_a_hostile_column_name_is_shown_without_its_escapes():
    with pytest.raises(FormatError) as caught:
        guessed("classification", **{"\x1b[31m" + "x" * 500: CLASSES})
    assert "\x1b" not in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(("where", "to"), [("a.tsv", "a.conll"), ("b.c.tsv.gz", "b.c.conll.gz")])
def test_one_word_a_line_is_no_table(where, to):
    rows = [{"Reminder": word, "O": tag} for word, tag in (("in", "O"), ("York", "B-place"))]
    words = Table(where, "line", ("Reminder", "O"), rows, (2, 3), {})
    with pytest.raises(FormatError, match="no header, but a word and its tag on each line") as caught:
        guess_columns(words)
    assert caught.value.hint == f"cp {where} {to}"


def test_a_column_of_that_name_is_no_tag():
    assert guessed(text=TEXTS, O=CLASSES).columns == {"text": "text", "label": "O"}


# ---- files without a header ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "columns",
    [
        {"a text of far too many letters for the name of a column": TEXTS, "praise": CLASSES},
        {"so good, it hurts": TEXTS, "praise": CLASSES},
        {"bad film": TEXTS, "good": CLASSES},  # a label that others have too
        {"bad film": TEXTS, "1": [" 1", "0"]},
    ],
)
def test_names_that_look_like_a_row(columns):
    assert lacks_header(table(**columns))


@pytest.mark.parametrize(
    "columns",
    [
        {"text": TEXTS, "label": CLASSES},
        {"Kundenkommentar": TEXTS, "Bewertung (1=gut)": CLASSES},
        {"comment": TEXTS, "How satisfied are you with our service, all in all?": CLASSES},
        {"id": TEXTS, "good": CLASSES},
        {"0": TEXTS, "1": ["0", "1"]},  # as pandas names columns that have no names
        {"": TEXTS, "what was said": TEXTS, "tone": ["", "x"]},
        {"why it was so": TEXTS, "A": ["A"], "B": ["B"]},
    ],
)
def test_names_that_look_like_names(columns):
    assert not lacks_header(table(**columns))
