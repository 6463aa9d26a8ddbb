"""Scoring: every metric on cases small enough to work out by hand, and the scores that need no learning."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.data.dataset import TaskData
from tupate_hub.errors import UnknownName
from tupate_hub.training.scoring import gold_labels, score, trivial_baseline

GOLD, GUESS = [1, 1, 1, 0, 0], [1, 1, 0, 0, 1]  # 2 true positives, 1 false positive, 1 false negative, 1 true negative
F1_ONE, F1_ZERO = 2 * 2 / (2 * 2 + 1 + 1), 2 * 1 / (2 * 1 + 1 + 1)
MATTHEWS = (2 * 1 - 1 * 1) / math.sqrt((2 + 1) * (2 + 1) * (1 + 1) * (1 + 1))


@pytest.mark.parametrize(
    ("metric", "figures"),
    [
        ("accuracy", {"accuracy": 3 / 5}),
        ("accuracy_and_f1", {"accuracy": 3 / 5, "f1": F1_ONE}),
        ("accuracy_and_macro_f1", {"accuracy": 3 / 5, "macro_f1": (F1_ONE + F1_ZERO) / 2}),
        ("matthews_correlation", {"matthews": MATTHEWS}),
        ("macro_f1", {"macro_f1": (F1_ONE + F1_ZERO) / 2}),
        ("macro_recall", {"macro_recall": (2 / 3 + 1 / 2) / 2}),
        ("f1_answer", {"f1": F1_ONE}),
    ],
)
def test_metrics_of_classes(metric, figures):
    expected = {"primary": sum(figures.values()) / len(figures), **figures}
    assert score(metric, GOLD, GUESS) == pytest.approx(expected)


def test_macro_figures_weigh_classes_alike():
    gold, guess = [0, 0, 0, 0, 1, 2], [0, 0, 0, 0, 1, 1]
    assert score("macro_recall", gold, guess)["primary"] == pytest.approx((1 + 1 + 0) / 3)
    assert score("macro_f1", gold, guess)["primary"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_correlations():
    gold, guess = [0.0, 1.0, 2.0, 5.0], [1.0, 3.0, 2.0, 9.0]
    x, y = np.array(gold) - np.mean(gold), np.array(guess) - np.mean(guess)
    pearson = x @ y / math.sqrt(x @ x * (y @ y))
    spearman = 1 - 6 * 2 / (4 * 15)  # two neighbouring ranks are swapped
    scores = score("pearson_and_spearman", gold, guess)
    expected = {"primary": (pearson + spearman) / 2, "pearson": pearson, "spearman": spearman}
    assert scores == pytest.approx(expected)


def test_spearman_shares_the_ranks_of_ties():
    scores = score("pearson_and_spearman", [1.0, 2.0, 2.0, 4.0], [10.0, 30.0, 30.0, 40.0])
    assert scores["spearman"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("gold", "guess"), [([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]), ([2.0, 2.0], [1.0, 3.0]), ([2.0], [1.0])]
)
def test_a_constant_has_no_correlation(gold, guess):
    assert score("pearson_and_spearman", gold, guess) == {"primary": 0, "pearson": 0, "spearman": 0}


@pytest.mark.parametrize("metric", ["matthews_correlation", "f1_answer", "macro_f1", "macro_recall", "accuracy_and_f1"])
@pytest.mark.parametrize("guess", [[0, 0, 0], [1, 1, 1]])
def test_a_constant_guess_gives_a_finite_score(metric, guess):
    scores = score(metric, [0, 1, 0], guess)
    assert all(0 <= value <= 1 for value in scores.values())


@pytest.mark.parametrize("metric", ["matthews_correlation", "f1_answer", "macro_f1", "accuracy_and_f1"])
def test_gold_of_one_class_gives_a_finite_score(metric):
    assert all(math.isfinite(value) for value in score(metric, [0, 0], [0, 0]).values())


@pytest.mark.parametrize(
    ("gold", "guess", "f1", "exact"),
    [
        (["Denver Broncos"], "Denver Broncos", 1, 1),
        (["The Denver Broncos"], "denver broncos!", 1, 1),  # case, articles and punctuation do not count
        (["a cat"], "an cat", 1, 1),
        (["Denver Broncos"], "Denver", 2 * 1 * 0.5 / 1.5, 0),
        (["the cat sat"], "cat cat sat", 2 * (2 / 3) * 1 / (2 / 3 + 1), 0),  # a repeated word counts once
        (["1989", "in 1989"], "in 1989", 1, 1),  # the best of several gold answers
        (["red", "dark blue sky"], "blue sky", 2 * 1 * (2 / 3) / (1 + 2 / 3), 0),
        (["Denver"], "Broncos", 0, 0),
        (["Denver"], "", 0, 0),
        ([], "", 1, 1),  # unanswerable
        ([], "Denver", 0, 0),
    ],
)
@pytest.mark.parametrize("metric", ["squad_f1", "squad_v2_f1"])
def test_spans_follow_the_squad_scripts(metric, gold, guess, f1, exact):
    assert score(metric, [gold], [guess]) == pytest.approx({"primary": f1, "f1": f1, "exact_match": exact})


def test_spans_are_averaged_over_questions():
    scores = score("squad_f1", [["one two"], ["three"]], ["one", "three"])
    assert scores == pytest.approx({"primary": (2 / 3 + 1) / 2, "f1": (2 / 3 + 1) / 2, "exact_match": 0.5})


def test_the_f1_of_spans_counts_over_all_sentences():
    gold = ["B-x I-x O B-y".split(), "O B-x".split(), "O O".split()]
    guess = ["B-x I-x O B-x".split(), "O B-x".split(), "B-y O".split()]  # right: 2 of 4 found, of 3 wanted
    expected = {"primary": 4 / 7, "f1": 4 / 7, "precision": 1 / 2, "recall": 2 / 3}
    assert score("span_f1", gold, guess) == pytest.approx(expected)


def test_half_a_span_is_no_span():
    assert score("span_f1", [["B-x", "I-x"]], [["B-x", "O"]])["f1"] == 0


@pytest.mark.parametrize("guess", [["O", "O"], ["B-x", "O"]])
def test_spans_that_are_not_there_score_nothing(guess):
    assert score("span_f1", [["O", "O"]], [guess]) == {"primary": 0, "f1": 0, "precision": 0, "recall": 0}


@given(
    rows=st.lists(
        st.lists(st.tuples(*[st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y"])] * 2), min_size=1, max_size=8),
        min_size=1,
        max_size=6,
    )
)
def test_span_scores_are_those_of_seqeval(rows):
    metrics = pytest.importorskip("seqeval.metrics", reason="needs seqeval")
    gold, guess = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a sample without spans
        expected = metrics.f1_score(gold, guess)
    assert score("span_f1", gold, guess)["f1"] == pytest.approx(expected)


def test_an_unknown_metric_lists_the_known_ones():
    with pytest.raises(UnknownName, match="'bleu'") as caught:
        score("bleu", [0], [0])
    assert "accuracy_and_f1" in caught.value.hint
    assert "squad_v2_f1" in caught.value.hint


def task(kind, metric, validation, label_names=()):
    return TaskData("toy", kind, metric, label_names, validation, (), validation, {}, "")


def sentences(*rows):
    return [{"tokens": words.split(), "tags": [int(tag) for tag in tags]} for words, tags in rows]


TAGS = ("O", "B-x", "I-x")


def test_the_baseline_of_tags_is_what_was_seen_most():
    train = sentences(("the red river", "012"), ("red river", "12"), ("red sea", "00"), ("sea", "1"))
    validation = sentences(("red river boat", "120"), ("the sea", "00"))
    data = TaskData("toy", "token_classification", "span_f1", TAGS, train, (), validation, {}, "")
    # "red river" is right, "boat" unseen, and of the tie at "sea" O comes first
    assert trivial_baseline(data) == ("most frequent tag of each word", 1.0)


def test_the_baseline_of_tags_is_no_better_than_nothing_at_all():
    train, validation = sentences(("red", "1")), sentences(("blue", "1"))
    data = TaskData("toy", "token_classification", "span_f1", TAGS, train, (), validation, {}, "")
    assert trivial_baseline(data) == ("no span", 0.0)


def test_gold_tags_are_names():
    data = TaskData("toy", "token_classification", "span_f1", TAGS, (), (), sentences(("a b c", "012")), {}, "")
    assert gold_labels(data, data.validation) == [["O", "B-x", "I-x"]]


def labelled(*labels):
    return [{"text_a": "", "text_b": None, "label": label} for label in labels]


@pytest.mark.parametrize(
    ("metric", "labels", "rule", "value"),
    [
        ("accuracy", (0, 2, 2, 1), "always c", 1 / 2),
        ("matthews_correlation", (0, 0, 1), "always a", 0),
        ("f1_answer", (0, 0, 1), "always b", 2 * 1 / (2 * 1 + 2)),
        ("accuracy_and_f1", (0, 1, 1), "always b", (2 / 3 + 4 / 5) / 2),
        ("macro_recall", (0, 0, 1), "always a", 1 / 2),
    ],
)
def test_the_baseline_of_classes_is_the_best_constant(metric, labels, rule, value):
    names = tuple("abc"[: max(labels) + 1])
    assert trivial_baseline(task("classification", metric, labelled(*labels), names)) == (rule, pytest.approx(value))


def test_the_baseline_of_choices_is_the_best_position():
    rows = [{"context": "", "question": "", "choices": ["a", "b", "c"], "label": label} for label in (1, 1, 0)]
    assert trivial_baseline(task("multiple_choice", "accuracy", rows)) == ("always 1", pytest.approx(2 / 3))


def test_the_baseline_of_regression_is_no_correlation():
    assert trivial_baseline(task("regression", "pearson_and_spearman", labelled(1.0, 2.0))) == ("constant", 0.0)


def question(context, text, *answers):
    starts = [context.index(answer) for answer in answers]
    return {"context": context, "question": text, "answers": {"text": list(answers), "answer_start": starts}}


def test_the_baseline_of_spans_is_the_sentence_that_shares_most_words():
    row = question("It rains. The river rises in May! Who knows?", "When does the RIVER rise?", "in May")
    rule, value = trivial_baseline(task("extractive_qa", "squad_f1", [row]))
    assert rule == "sentence with most question words"
    assert value == pytest.approx(2 * (2 / 4) * 1 / (2 / 4 + 1))  # "river rises in May" against "in May"


def test_the_baseline_of_spans_is_silence_where_that_is_better():
    rows = [question("It rains.", "why?"), question("It rains.", "when?"), question("It rains.", "what?", "rains")]
    assert trivial_baseline(task("extractive_qa", "squad_v2_f1", rows)) == ("no answer", pytest.approx(2 / 3))


def test_gold_is_what_the_metric_wants(load):
    spans, numbers = load("toy_spans"), load("toy_numbers")
    assert gold_labels(spans, spans.validation[:2]) == [row["answers"]["text"] for row in spans.validation[:2]]
    assert gold_labels(numbers, numbers.validation[:3]) == [row["label"] for row in numbers.validation[:3]]


def test_several_labels_at_once():
    gold, guess = [[1, 0, 0], [1, 1, 0], [0, 0, 0]], [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert score("micro_f1", gold, guess)["primary"] == pytest.approx(2 * 2 / (3 + 3))
    assert score("macro_f1", gold, guess)["primary"] == pytest.approx((2 * 1 / (2 + 1) + 2 * 1 / (1 + 2)) / 2)


def test_the_best_constant_of_several_labels():
    rows = [[1, 0, 0], [1, 1, 0], [1, 1, 0], [0, 0, 1]]
    examples = [{"label": row} for row in rows]
    data = TaskData("a", "multi_label", "micro_f1", ("x", "y", "z"), examples, examples, examples, {}, "0")
    assert trivial_baseline(data) == ("always x, y", pytest.approx(2 * 5 / (6 + 8)))


def test_tags_that_are_no_spans_count_word_by_word():
    gold, guess = [["DET", "NOUN"], ["VERB"]], [["DET", "VERB"], ["VERB"]]
    assert score("accuracy", gold, guess) == pytest.approx({"primary": 2 / 3, "accuracy": 2 / 3})
    rows = [{"tokens": ["the", "dog"], "tags": [0, 1]}, {"tokens": ["a", "cat"], "tags": [1, 1]}]
    unseen = [{"tokens": ["the", "bird"], "tags": [0, 1]}]
    data = TaskData("a", "token_classification", "accuracy", ("DET", "NOUN"), rows, rows, unseen, {}, "0")
    assert trivial_baseline(data) == ("most frequent tag of each word", 1.0)
