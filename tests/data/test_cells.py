"""Cells: lists and objects as JSON, Python and numpy write them, and nothing that a stranger's cell can do besides."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.data.cells import answers_of, parsed, words_of

AS_IS = "the cell itself"


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('["a", 1]', ["a", 1]),
        (' {"a": 1}', {"a": 1}),
        ("[a]", AS_IS),
        ("[" * 100_000, AS_IS),
        ("a", AS_IS),
        (3, AS_IS),
        (["a"], AS_IS),
        (None, AS_IS),
    ],
)
def test_cells_that_hold_json(cell, value):
    assert parsed(cell) == (cell if value is AS_IS else value)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("['O', 'B-x']", ["O", "B-x"]),
        ("['it\\'s', \"it's\", None, True]", ["it's", "it's", None, True]),
        ("{'text': ['a'], 'answer_start': [3]}", {"text": ["a"], "answer_start": [3]}),
        ("[('a', 1)]", [["a", 1]]),
        ("['\\d']", ["\\d"]),  # an escape that Python warns of
        ("['a' 'b'\n 'c']", ["a", "b", "c"]),  # numpy; to Python these are one text
        ("['it is' \"it's\" '[x]']", ["it is", "it's", "[x]"]),
        ("[0 7 -1]", [0, 7, -1]),
        ("['a']", ["a"]),
        (
            "{'text': array(['a [1]', 'b'], dtype=object), 'answer_start': array([3, 9], dtype=int32)}",
            {"text": ["a [1]", "b"], "answer_start": [3, 9]},
        ),
        (
            "{'text': array([], dtype=object), 'answer_start': array([], dtype='int64')}",
            {"text": [], "answer_start": []},
        ),
    ],
)
def test_cells_that_pandas_wrote(cell, value):
    assert parsed(cell) == value


@pytest.mark.parametrize(
    "cell",
    [
        "{'a', 'b'}",
        "[b'a']",
        "[1j]",
        "[...]",
        "[{1}]",
        "{(1, 2): 3}",
        "['a'",
        "['a'] * 999999999",
        "[__import__('os').system('true')]",
        "[nan]",
        "[" + "9" * 5000 + ",]",
        "[" + "-" * 50_000 + "1]",
        "['a'," + "[" * 90_000,
        "{'a':" * 10_000,
        "['a'" + " 'a'" * 20_000 + " x]",
        "['" + "a" * 90_000,
        "[" + "array(['" * 10_000,
    ],
)
def test_what_is_no_list_and_no_object_stays_as_it_is(cell):
    assert parsed(cell) == cell


def test_huge_literals_are_left_alone():
    assert parsed("[" + "'a', " * 30_000 + "]") == "[" + "'a', " * 30_000 + "]"
    assert parsed("[" + "'a', " * 15_000 + "]") == ["a"] * 15_000


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(value=st.lists(VALUES, max_size=5) | st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_what_python_writes_is_read(value):
    assert parsed(repr(value)) == value
    assert parsed(json.dumps(value)) == value


@given(cell=st.text("[]{}()'\",: \\\n01-arydtpeO.", max_size=60).map(lambda text: "[" + text))
def test_any_cell_is_read_as_what_json_can_write(cell):
    found = parsed(cell)
    assert found == cell or json.loads(json.dumps(found)) == found or math.isnan(sum(map(float, found)))


def test_words():
    assert words_of("in New York") == words_of("['in', 'New', 'York']") == ["in", "New", "York"]
    assert words_of(3) is None


@pytest.mark.parametrize(
    ("cell", "start", "answers"),
    [
        ("a", None, [("a", None)]),
        ("a", "3", [("a", 3)]),
        ("a", -1, [("a", None)]),
        ("", None, []),
        (None, 3, []),
        (["a", "b"], None, [("a", None), ("b", None)]),
        (["a", "b"], [1, 2], [("a", 1), ("b", 2)]),
        ({"text": ["a", "b"], "answer_start": [1]}, None, [("a", 1), ("b", None)]),
        ({"text": "a"}, 4, [("a", 4)]),
        ([{"text": "a", "answer_start": 1}, {"text": "b"}], None, [("a", 1), ("b", None)]),
        ([{"text": "", "answer_start": 1}, {"start": 3}], None, []),
        ("[{'text': 'a', 'answer_start': 1}]", None, [("a", 1)]),
    ],
)
def test_answers_and_their_places(cell, start, answers):
    found = answers_of(cell, start)
    assert [(text, int(place) if isinstance(place, str) else place) for text, place in found] == answers
