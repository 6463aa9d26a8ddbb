"""Cut: the parts are disjoint, of the right sizes and shares, keep copies together, and follow the seed alone."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.data.splits import cut, cut_splits, limited


def classes(*labels):
    return [{"text_a": f"text {n}", "text_b": None, "label": label} for n, label in enumerate(labels)]


def flat(parts):
    return sorted(index for part in parts for index in part)


@given(labels=st.lists(st.integers(0, 4), min_size=20, max_size=120), size=st.integers(1, 6), seed=st.integers(0, 3))
def test_each_example_is_in_one_part(labels, size, seed):
    examples = classes(*labels)
    parts = cut("classification", examples, (size, size), seed)
    assert flat(parts) == list(range(len(examples)))
    assert [len(part) for part in parts[1:]] == [size, size]
    assert all(part == sorted(part) for part in parts)
    assert parts == cut("classification", examples, (size, size), seed)


def test_seeds_differ():
    examples = classes(*[0, 1] * 50)
    first, second = (cut("classification", examples, (10, 10), seed) for seed in (0, 1))
    assert first[1] != second[1]


def test_every_part_has_each_class_s_share():
    examples = classes(*[0] * 600 + [1] * 300 + [2] * 100)
    for part in cut("classification", examples, (100, 100), 0):
        shares = Counter(examples[index]["label"] for index in part)
        assert [round(10 * shares[label] / len(part)) for label in range(3)] == [6, 3, 1]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_rare_class_is_trained_on(count):
    examples = classes(*[0] * 60 + [1] * count)
    train = cut("classification", examples, (6, 6), 0)[0]
    assert sum(index >= 60 for index in train) >= max(count - 1, 1)


def test_copies_go_to_one_part():
    examples = classes(*[0, 1] * 60)
    for index, example in enumerate(examples):
        example["text_a"] = f"  Text {index // 3} " if index % 3 else f"text {index // 3}"
    parts = cut("classification", examples, (12, 12), 0)
    places = {index: place for place, part in enumerate(parts) for index in part}
    assert all(places[index] == places[index - index % 3] for index in range(120))
    assert flat(parts) == list(range(120))


def test_a_text_that_comes_too_often_is_trained_on():
    examples = classes(*[0, 1] * 50)
    for example in examples[:60]:
        example["text_a"] = "the same"
    parts = cut("classification", examples, (10, 10), 0)
    assert set(range(60)) <= set(parts[0])
    assert [len(part) for part in parts] == [80, 10, 10]


def question(context, asked, answered=True):
    answers = {"text": ["x"], "answer_start": [0]} if answered else {"text": [], "answer_start": []}
    return {"context": context, "question": asked, "answers": answers}


def test_questions_on_one_context_stay_together():
    examples = [question(f"context {n // 4}", f"q {n}") for n in range(80)]
    parts = cut("extractive_qa", examples, (8, 8), 0)
    contexts = [{examples[index]["context"] for index in part} for part in parts]
    assert not (contexts[0] & contexts[1] or contexts[0] & contexts[2] or contexts[1] & contexts[2])
    assert [len(part) for part in parts] == [64, 8, 8]


def test_questions_on_a_single_context_are_cut_all_the_same():
    examples = [question("context", f"q {n}") for n in range(40)]
    assert [len(part) for part in cut("extractive_qa", examples, (4, 4), 0)] == [32, 4, 4]


def test_unanswerable_questions_have_their_share():
    examples = [question(f"context {n}", "q", answered=n % 4 > 0) for n in range(200)]
    for part in cut("extractive_qa", examples, (20, 20), 0):
        silent = sum(not examples[index]["answers"]["text"] for index in part)
        assert abs(silent / len(part) - 0.25) < 0.06


def test_numbers_and_tags_are_cut_as_one_stratum():
    numbers = [{"text_a": str(n), "text_b": None, "label": n / 7} for n in range(40)]
    tags = [{"tokens": [str(n)], "tags": [0]} for n in range(40)]
    for kind, examples in (("regression", numbers), ("token_classification", tags)):
        assert [len(part) for part in cut(kind, examples, (4, 4), 0)] == [32, 4, 4]


# ---- splits ----------------------------------------------------------------------------------------------------------


def sizes(splits, seed=0):
    return [len(part) for part in cut_splits("classification", splits, seed)]


def rows(count, start=0):
    return [{"text_a": str(start + n), "text_b": None, "label": n % 2} for n in range(count)]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"train": 100}, [80, 10, 10]),
        ({"train": 10}, [6, 2, 2]),
        ({"train": 30}, [20, 5, 5]),
        ({"train": 20_000}, [18_000, 1000, 1000]),
        ({"train": 100, "validation": 30}, [90, 10, 30]),
        ({"train": 100, "test": 30}, [90, 10, 30]),
        ({"train": 100, "validation": 20, "test": 30}, [100, 20, 30]),
        ({"train": 100, "validation": 1200, "test": 1100}, [100, 1000, 1100]),
    ],
)
def test_which_split_does_what(counts, expected):
    assert sizes({split: rows(count) for split, count in counts.items()}) == expected


def test_test_is_scored_on_and_validation_chooses():
    splits = {"train": rows(50), "validation": rows(5, 100), "test": rows(7, 200)}
    train, held_out, scored = cut_splits("classification", splits, 0)
    assert (train, held_out, scored) == (splits["train"], splits["validation"], splits["test"])


# ---- limit -----------------------------------------------------------------------------------------------------------


def test_a_limit_keeps_each_class_s_share():
    examples = classes(*[0] * 600 + [1] * 300 + [2] * 100)
    chosen = limited("classification", examples, 100, 0)
    assert chosen == sorted(set(chosen))
    assert Counter(examples[index]["label"] for index in chosen) == {0: 60, 1: 30, 2: 10}


def test_a_limit_follows_its_seed():
    examples = classes(*[0, 1] * 50)
    assert limited("classification", examples, 10, 0) == limited("classification", examples, 10, 0)
    assert limited("classification", examples, 10, 0) != limited("classification", examples, 10, 1)


@pytest.mark.parametrize("most", [5, 6, 100])
def test_a_limit_that_is_not_reached_changes_nothing(most):
    assert limited("classification", classes(0, 1, 0, 1, 0), most, 0) == [0, 1, 2, 3, 4]
