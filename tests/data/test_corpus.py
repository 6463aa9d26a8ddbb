"""Corpus: SQuAD's JSON and CoNLL's columns as rows, with the numbers of questions and lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.data.corpus import is_squad, read_conll, read_squad
from tupate_hub.errors import FormatError


def asked(question="When?", **fields):
    return {"id": "7", "question": question, **fields}


def document(*paragraphs):
    """An article for each paragraph."""
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": [one]} for one in paragraphs]}


def sentences(corpus):
    return [str(fault) for fault in corpus.faults]


# ---- SQuAD -----------------------------------------------------------------------------------------------------------

MAY = [{"text": "May", "answer_start": 12}]


def test_questions_are_numbered_through_the_file():
    corpus = read_squad(
        "a.json",
        document(
            {"context": "one", "qas": [asked("a", answers=MAY), asked("b", answers=[])]},
            {"context": "two", "qas": []},
            {"context": "three", "qas": [asked("c", answers=MAY)]},
        ),
    )
    assert corpus.rows == [
        {"context": "one", "question": "a", "answers": MAY},
        {"context": "one", "question": "b", "answers": []},
        {"context": "three", "question": "c", "answers": MAY},
    ]
    assert (corpus.unit, list(corpus.numbers), corpus.faults) == ("row", [1, 2, 3], ())


def test_a_question_that_cannot_be_answered_has_no_answers():
    fields = {"plausible_answers": MAY, "is_impossible": True}
    questions = [asked(answers=[], **fields), asked(answers=MAY, **fields), asked(**fields)]
    corpus = read_squad("a.json", document({"context": "c", "qas": questions}))
    assert [row["answers"] for row in corpus.rows] == [[], [], []]
    assert corpus.faults == ()


def test_questions_without_answers():
    corpus = read_squad("a.json", document({"context": "c", "qas": [asked(answers=MAY), asked(), asked()]}))
    assert sentences(corpus) == ["a.json, rows 2 and 3: has neither answers nor is_impossible"]


def test_a_split_whose_answers_are_kept_back_is_no_fault():
    corpus = read_squad("a.json", document({"context": "c", "qas": [asked(), asked()]}))
    assert [row["answers"] for row in corpus.rows] == [None, None]
    assert corpus.faults == ()


def test_what_is_no_paragraph_and_no_question():
    odd = document({"context": "c", "qas": ["when?", asked(answers=MAY), None]}, {"context": "c"}, "text")
    odd["data"] += [{"title": "none"}, 3]
    corpus = read_squad("a.json", odd)
    assert list(corpus.numbers) == [2]
    assert sentences(corpus) == [
        "a.json, paragraphs 2, 3, 4 and 5: has no list 'qas' of questions",
        "a.json, rows 1 and 3: this is not a JSON object with a question",
    ]


def test_a_paragraph_without_a_context_is_left_to_the_reader_of_rows():
    assert read_squad("a.json", document({"qas": [asked(answers=MAY)]})).rows[0]["context"] is None


@pytest.mark.parametrize(
    "other", [None, [], {}, {"data": 3}, {"data": [{"text": "a"}]}, {"data": [{"paragraphs": 3}]}, {"paragraphs": []}]
)
def test_other_documents(other):
    assert not is_squad(other)
    assert is_squad(document({}))


# ---- CoNLL -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("between", [" ", "\t", "   ", " \t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_word_and_its_tag_on_each_line(between, end):
    lines = [f"in{between}O", f"York{between}B-place", "", "", f"yes{between}O  ", " "]
    corpus = read_conll("a.conll", end.join(lines))
    assert corpus.rows == [{"tokens": ["in", "York"], "tags": ["O", "B-place"]}, {"tokens": ["yes"], "tags": ["O"]}]
    assert (corpus.unit, list(corpus.numbers), corpus.faults) == ("line", [1, 5], ())


def test_the_first_column_is_the_word_and_the_last_the_tag():
    text = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-org\nrejects VBZ B-VP O\n-DOCSTART- -X- O O\nPeter NNP B-NP B-per\n"
    corpus = read_conll("a.conll", text)
    assert corpus.rows == [
        {"tokens": ["EU", "rejects"], "tags": ["B-org", "O"]},
        {"tokens": ["Peter"], "tags": ["B-per"]},
    ]
    assert list(corpus.numbers) == [3, 6]


def test_words_with_blanks_where_tabs_stand_between():
    corpus = read_conll("a.conll", "# id = 1\nNew York\tB-place\n1\u00a0000\tO\n\n-DOCSTART- O\n\nyes\t\tO\n")
    assert [row["tokens"] for row in corpus.rows] == [["New York", "1\u00a0000"], ["yes"]]


def test_comments_stand_above_a_sentence_and_a_hash_may_be_a_word():
    corpus = read_conll("a.conll", "# id = 3 domain=en\n# O\n1 O\n\n# B-x\n# I-x\n")
    assert [row["tokens"] for row in corpus.rows] == [["#", "1"], ["#", "#"]]
    assert list(corpus.numbers) == [2, 5]


def test_lines_of_another_width_are_faults_and_their_sentences_are_left_out():
    corpus = read_conll("a.conll", "a O\nb O\n\nc\nd O\n\ne O O\n\nf\n\ng O\n")
    assert [row["tokens"] for row in corpus.rows] == [["a", "b"], ["g"]]
    assert sentences(corpus) == [
        "a.conll, lines 4 and 9: has 1 columns where most lines have 2",
        "a.conll, line 7: has 3 columns where most lines have 2",
    ]


def test_words_without_tags_are_refused():
    with pytest.raises(FormatError, match=r"a\.conll has one column") as caught:
        read_conll("a.conll", "in\nParis\n")
    assert "Paris B-place" in caught.value.hint


WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters=" #"), min_size=1, max_size=5)


@given(
    written=st.lists(
        st.lists(st.tuples(WORDS, st.sampled_from(["O", "B-x", "I-x"])), min_size=1, max_size=4), min_size=1, max_size=4
    ),
    between=st.sampled_from([" ", "\t"]),
)
def test_what_a_writer_writes_is_read(written, between):
    text = "\n\n".join("\n".join(f"{word}{between}{tag}" for word, tag in sentence) for sentence in written)
    rows = read_conll("a.conll", text).rows
    assert [list(zip(row["tokens"], row["tags"], strict=True)) for row in rows] == written
