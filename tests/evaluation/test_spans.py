"""Spans: what BIO tags mark, and which words of an answer count."""

from __future__ import annotations

import pytest

from tupate_hub.evaluation.spans import answer_f1, tagged_spans, words_of_answer


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O O", set()),
        ("B-x I-x O", {("x", 0, 2)}),
        ("B-x B-x", {("x", 0, 1), ("x", 1, 2)}),
        ("B-x I-x", {("x", 0, 2)}),  # open at the end
        ("O I-x I-x", {("x", 1, 3)}),  # an I- that goes on with nothing begins
        ("B-x I-y I-y", {("x", 0, 1), ("y", 1, 3)}),
        ("B-x O I-x", {("x", 0, 1), ("x", 2, 3)}),
        ("B-from.city_name I-from.city_name", {("from.city_name", 0, 2)}),
        ("B-a-b I-a-b I-a", {("a-b", 0, 2), ("a", 2, 3)}),
    ],
)
def test_tags_mark_spans_as_in_conlleval(tags, spans):
    assert tagged_spans(tags.split()) == spans


def test_no_words_have_no_spans():
    assert tagged_spans([]) == set()


def test_words_are_compared_without_case_punctuation_and_articles():
    assert words_of_answer("The  Queen's an-swer, a word.") == ["queens", "answer", "word"]


def test_the_nearest_accepted_answer_counts():
    assert answer_f1(["one two three", "three"], "two three") == pytest.approx(4 / 5)


def test_no_answer_is_right_where_none_is_accepted():
    assert (answer_f1([], ""), answer_f1([], "x"), answer_f1(["x"], "")) == (1, 0, 0)
