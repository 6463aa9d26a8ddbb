"""Features: tokens and labels by kind, padding, the order of batches, and answers from logits."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.errors import FormatError
from tupate_hub.training import features as features_module
from tupate_hub.training.batches import collate, grouped_batches
from tupate_hub.training.features import Feature, encode, thin_empty_windows
from tupate_hub.training.outputs import predict_spans, predict_tags


def question(context, *answers, text="how many ?"):
    """A question; each answer is a text, or a pair of a text and where it starts."""
    pairs = [answer if isinstance(answer, tuple) else (answer, context.index(answer)) for answer in answers]
    return {
        "context": context,
        "question": text,
        "answers": {"text": [pair[0] for pair in pairs], "answer_start": [pair[1] for pair in pairs]},
    }


def pair(first, second=None, label=0):
    return {"text_a": first, "text_b": second, "label": label}


def words(tokenizer, ids):
    return tokenizer.convert_ids_to_tokens(list(ids))


# ---- classification and regression -----------------------------------------------------------------------------------


def test_one_text(tokenizer):
    (feature,) = encode(tokenizer, "classification", [pair("the good river", label=1)], 16)
    assert words(tokenizer, feature.ids[0]) == ["[CLS]", "the", "good", "river", "[SEP]"]
    assert feature.types == ((0,) * 5,)
    assert (feature.labels, feature.example, feature.length) == ({"labels": 1}, 0, 5)


def test_two_texts_have_two_types(tokenizer):
    (feature,) = encode(tokenizer, "regression", [pair("the river", "it is good", 2.5)], 16)
    assert words(tokenizer, feature.ids[0]) == ["[CLS]", "the", "river", "[SEP]", "it", "is", "good", "[SEP]"]
    assert feature.types[0] == (0, 0, 0, 0, 1, 1, 1, 1)
    assert feature.labels == {"labels": 2.5}


def test_a_long_pair_loses_tokens_from_its_longer_side(tokenizer):
    (feature,) = encode(tokenizer, "classification", [pair("river " * 20, "it is good")], 10)
    assert feature.length == 10
    assert words(tokenizer, feature.ids[0])[-4:] == ["it", "is", "good", "[SEP]"]


def test_every_example_has_its_feature_in_order(tokenizer, load):
    data = load("toy_classes")
    features = encode(tokenizer, data.kind, data.train, 32)
    assert [feature.example for feature in features] == list(range(len(data.train)))
    assert [feature.labels["labels"] for feature in features] == [row["label"] for row in data.train]


@pytest.mark.parametrize("kind", ["classification", "regression", "extractive_qa", "multiple_choice"])
def test_no_examples_have_no_features(tokenizer, kind):
    assert encode(tokenizer, kind, [], 16) == []


# ---- multiple choice -------------------------------------------------------------------------------------------------


def choice(context, asked, *choices, label=0):
    return {"context": context, "question": asked, "choices": list(choices), "label": label}


@pytest.mark.parametrize(
    ("context", "asked", "first", "second"),
    [
        ("the river", "how is it ?", ["the", "river"], ["how", "is", "it", "?", "good"]),
        ("the river", "", ["the", "river"], ["good"]),
        ("", "how is it ?", ["how", "is", "it", "?"], ["good"]),
        (None, "how is it ?", ["how", "is", "it", "?"], ["good"]),
    ],
)
def test_a_choice_is_paired_with_what_leads_to_it(tokenizer, context, asked, first, second):
    (feature,) = encode(tokenizer, "multiple_choice", [choice(context, asked, "good", "bad")], 16)
    assert words(tokenizer, feature.ids[0]) == ["[CLS]", *first, "[SEP]", *second, "[SEP]"]
    assert words(tokenizer, feature.ids[1])[-2] == "bad"


def test_choices_are_padded_to_one_block(tokenizer):
    rows = [choice("the river", "", "good", "bad", label=1), choice("the", "", "a good winter road", "bad")]
    batch = collate(encode(tokenizer, "multiple_choice", rows, 16), tokenizer.pad_token_id)
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "input_ids": (2, 2, 8),
        "token_type_ids": (2, 2, 8),
        "attention_mask": (2, 2, 8),
        "labels": (2,),
    }
    assert batch["attention_mask"].sum(-1).tolist() == [[6, 6], [8, 5]]
    assert batch["labels"].tolist() == [1, 0]


def test_a_long_context_leaves_the_choices_whole(tokenizer):
    (feature,) = encode(tokenizer, "multiple_choice", [choice("river " * 40, "how is it ?", "good", "bad")], 16)
    assert [len(ids) for ids in feature.ids] == [16, 16]
    assert words(tokenizer, feature.ids[0])[-6:-1] == ["how", "is", "it", "?", "good"]


# ---- spans -----------------------------------------------------------------------------------------------------------


def answer_of(feature, context):
    start, end = feature.labels["start_positions"], feature.labels["end_positions"]
    return None if end == 0 else context[feature.offsets[start][0] : feature.offsets[end][1]]


@pytest.mark.parametrize(
    "answer", ["seven", "The", "road.", "road", "town", "town, a cloud", "unknownword", "'s stone"]
)
def test_an_answer_comes_back_from_its_tokens(tokenizer, answer):
    context = "The  river is by seven town, a cloud unknownword it's stone and road."
    (feature,) = encode(tokenizer, "extractive_qa", [question(context, answer)], 64)
    assert answer_of(feature, context) == answer


def test_an_answer_inside_a_word_takes_the_pieces_that_it_touches(tokenizer):
    context = "the abcdef river"
    (feature,) = encode(tokenizer, "extractive_qa", [question(context, "cd")], 32)
    assert answer_of(feature, context) == "cd"
    (feature,) = encode(tokenizer, "extractive_qa", [question(context, "rive")], 32)
    assert answer_of(feature, context) == "river"


def test_question_and_padding_are_no_place_for_an_answer(tokenizer):
    (feature,) = encode(tokenizer, "extractive_qa", [question("it is seven", "seven", text="  how many ? ")], 32)
    assert words(tokenizer, feature.ids[0])[:5] == ["[CLS]", "how", "many", "?", "[SEP]"]
    assert [span is not None for span in feature.offsets] == [False] * 5 + [True] * 3 + [False]


def test_an_unanswerable_question_points_at_cls(tokenizer):
    (feature,) = encode(tokenizer, "extractive_qa", [question("it is green")], 32)
    assert feature.labels == {"start_positions": 0, "end_positions": 0}


def test_the_first_of_several_answers_is_the_label(tokenizer):
    context = "seven green cloud nine"
    (feature,) = encode(tokenizer, "extractive_qa", [question(context, "nine", "seven")], 32)
    assert answer_of(feature, context) == "nine"


@given(
    length=st.integers(1, 90),
    start=st.integers(0, 89),
    size=st.integers(1, 6),
    limit=st.integers(20, 60),
)
def test_windows_cover_the_context_and_hold_the_answer_or_nothing(tokenizer, length, start, size, limit):
    vocabulary = ["river", "the", "stone", "seven", "it's", "abc", "cloud", ","]
    spans, context = [], ""
    for number in range(length):
        word = vocabulary[number % len(vocabulary)]
        spans.append((len(context), len(context) + len(word)))
        context += word + " "
    first, last = min(start, length - 1), min(start + size, length) - 1
    last = max(first, last)
    begin, end = spans[first][0], spans[last][1]
    rows = [question("it is nine", "nine"), question(context, (context[begin:end], begin))]
    features = [one for one in encode(tokenizer, "extractive_qa", rows, limit) if one.example == 1]
    covered = set()
    for feature in features:
        assert feature.length <= limit
        held = [span for span in feature.offsets if span]
        covered |= set(held)
        answer = answer_of(feature, context)
        whole = held[0][0] <= begin and held[-1][1] >= end
        assert answer == (context[begin:end] if whole else None)
    assert {index for low, high in covered for index in range(low, high)} == {
        index for low, high in spans for index in range(low, high)
    }


def test_neighbouring_windows_share_a_third_of_the_tokens(tokenizer):
    features = encode(tokenizer, "extractive_qa", [question("river " * 100, ("river", 0))], 30)
    held = [[span for span in feature.offsets if span] for feature in features]
    assert len(features) > 2
    assert all(first[-10:] == second[:10] for first, second in itertools.pairwise(held))


def test_windows_of_the_usual_length_share_128_tokens(tokenizer):
    features = encode(tokenizer, "extractive_qa", [question("river " * 900, ("river", 0))], 384)
    held = [[span for span in feature.offsets if span] for feature in features]
    assert all(first[-128:] == second[:128] for first, second in itertools.pairwise(held))
    assert held[0][128:] != held[1][:-128]


@pytest.mark.parametrize("asked", ["how " * 500, "x" * 500, "how many ?"])
def test_a_question_longer_than_a_window_is_cut(tokenizer, asked):
    context = "it is seven " + "river " * 50
    features = encode(tokenizer, "extractive_qa", [question(context, "seven", text=asked)], 48)
    assert all(feature.length <= 48 for feature in features)
    assert answer_of(features[0], context) == "seven"


def test_an_answer_on_a_window_s_border(tokenizer):
    context = "river " * 40
    probe = encode(tokenizer, "extractive_qa", [question(context)], 30)
    low, high = probe[0].offsets[-2]  # the last word of the first window
    rows = [question(context, (context[low:high], low)), question(context, (context[low : high + 6], low))]
    last, across = ([one for one in encode(tokenizer, "extractive_qa", rows, 30) if one.example == n] for n in (0, 1))
    assert last[0].labels["end_positions"] == len(probe[0].offsets) - 2
    assert across[0].labels["end_positions"] == 0
    assert answer_of(across[1], context) == "river river"


def test_all_but_the_first_empty_window_of_an_answerable_question_go(tokenizer):
    rows = [
        question("river " * 60 + "seven", "seven"),
        question("river " * 60),
        question("it is seven", "seven"),
    ]
    features = encode(tokenizer, "extractive_qa", rows, 30)
    counts = Counter(feature.example for feature in features)
    kept = thin_empty_windows(features, rows)
    answered = [feature for feature in features if feature.example == 0 and feature.labels["end_positions"]]
    assert [one for one in kept if one.example == 0] == [features[0], *answered]
    assert Counter(one.example for one in kept) == {0: 1 + len(answered), 1: counts[1], 2: 1}
    assert counts[0] > 1 + len(answered) and counts[1] > 1


# ---- tags ------------------------------------------------------------------------------------------------------------


def tagged(text, *tags):
    return {"tokens": text.split(" "), "tags": list(tags)}


def test_a_tag_goes_to_the_first_piece_of_its_word(tokenizer):
    (feature,) = encode(tokenizer, "token_classification", [tagged("the rivers is good", 0, 1, 2, 3)], 16)
    assert words(tokenizer, feature.ids[0]) == ["[CLS]", "the", "river", "##s", "is", "good", "[SEP]"]
    assert feature.labels == {"labels": (-100, 0, 1, -100, 2, 3, -100)}
    assert feature.words == (1, 2, 4, 5)
    assert feature.types == ((0,) * 7,)


def test_words_that_are_cut_off_have_no_tag(tokenizer):
    (feature,) = encode(tokenizer, "token_classification", [tagged("the rivers is good", 4, 1, 2, 3)], 5)
    assert words(tokenizer, feature.ids[0]) == ["[CLS]", "the", "river", "##s", "[SEP]"]
    assert feature.labels == {"labels": (-100, 4, 1, -100, -100)}
    assert feature.words == (1, 2, None, None)


def test_words_without_a_piece_have_no_tag(tokenizer):
    (feature,) = encode(tokenizer, "token_classification", [tagged("the \u200b good", 1, 2, 3)], 16)
    assert feature.words == (1, None, 2)
    assert feature.labels == {"labels": (-100, 1, 3, -100)}


def test_a_word_is_split_no_further_than_by_the_tokenizer(tokenizer):
    """Punctuation inside a word makes pieces of the same word."""
    (feature,) = encode(tokenizer, "token_classification", [tagged("river,town good", 1, 2)], 16)
    assert words(tokenizer, feature.ids[0]) == ["[CLS]", "river", ",", "town", "good", "[SEP]"]
    assert feature.labels == {"labels": (-100, 1, -100, -100, 2, -100)}


@given(sentence=st.lists(st.sampled_from(["river", "it's", "abc", "\u200b", "s,t", "good"]), min_size=1, max_size=30))
def test_every_word_that_fits_keeps_its_tag(tokenizer, sentence):
    example = {"tokens": sentence, "tags": [position % 7 for position in range(len(sentence))]}
    (feature,) = encode(tokenizer, "token_classification", [example], 24)
    assert feature.length <= 24
    labels = feature.labels["labels"]
    kept = [(labels[at], tag) for at, tag in zip(feature.words, example["tags"], strict=True) if at is not None]
    assert all(label == tag for label, tag in kept)
    assert len(kept) == sum(label != -100 for label in labels)


def test_tags_are_padded_with_what_the_loss_leaves_out(tokenizer):
    rows = [tagged("the good", 1, 2), tagged("rivers is it the", 3, 0, 1, 2)]
    batch = collate(encode(tokenizer, "token_classification", rows, 16), 0)
    none = -100
    assert batch["labels"].tolist() == [[none, 1, 2, none, none, none, none], [none, 3, none, 0, 1, 2, none]]
    assert batch["labels"].dtype == torch.int64
    assert batch["labels"].shape == batch["input_ids"].shape


def test_each_word_gets_the_best_tag_of_its_first_piece(tokenizer):
    rows = [tagged("the rivers is good", 0, 0, 0, 0), tagged("good", 0)]
    features = encode(tokenizer, "token_classification", rows, 6)  # cuts off "good" of the first
    first = np.array([[9, 0, 0], [0, 1, 0], [0, 0, 1], [9, 0, 0], [2, 1, 1], [0, 9, 0]], np.float32)
    second = np.array([[0, 0, 0], [0, 0, 1], [0, 9, 0], [0, 9, 0]], np.float32)  # the last row is padding
    tags = predict_tags(features, [first, second], ("O", "B-x", "I-x"))
    assert tags == [["B-x", "I-x", "O", "O"], ["I-x"]]


class _Slow:
    """A tokenizer in Python, which cannot say where a token comes from."""

    is_fast = False


@pytest.mark.parametrize("kind", ["token_classification", "extractive_qa"])
def test_a_slow_tokenizer_is_refused_where_words_are_to_be_found(kind):
    with pytest.raises(FormatError, match="which word a token is part of") as caught:
        encode(_Slow(), kind, [tagged("a", 0)], 16)
    assert "tokenizer.json" in caught.value.hint


def test_a_tokenizer_without_token_types_gives_zeros(base):
    """As RoBERTa's."""
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(str(base), model_input_names=["input_ids", "attention_mask"])
    rows = {
        "classification": [pair("the river", "it is good")],
        "extractive_qa": [question("it is seven", "seven")],
        "token_classification": [tagged("the river", 0, 1)],
        "multiple_choice": [{"context": "", "question": "how ?", "choices": ["good", "bad"], "label": 0}],
    }
    for kind, examples in rows.items():
        (feature,) = encode(plain, kind, examples, 24)
        assert feature.types == tuple((0,) * len(ids) for ids in feature.ids)


# ---- batches ---------------------------------------------------------------------------------------------------------


def feature(length, label=0, index=0):
    return Feature((tuple(range(1, length + 1)),), ((0,) * length,), {"labels": label}, index)


def test_rows_are_padded_to_the_longest():
    batch = collate([feature(2, 1), feature(4, 0)], 9)
    assert batch["input_ids"].tolist() == [[1, 2, 9, 9], [1, 2, 3, 4]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert "token_type_ids" not in batch  # all 0, as a model takes them to be
    assert batch["labels"].tolist() == [1, 0]
    assert {value.dtype for value in batch.values()} == {torch.int64}


def test_numbers_stay_numbers(tokenizer):
    rows = [pair("a", label=2), pair("b", label=2.5)]  # a writer of JSON may drop the point
    batch = collate(encode(tokenizer, "regression", rows, 8), 0)
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [2, 2.5]


def test_span_labels_are_collated(tokenizer):
    rows = [question("it is seven", "seven"), question("it is green")]
    batch = collate(encode(tokenizer, "extractive_qa", rows, 32), 0)
    assert (batch["start_positions"].tolist(), batch["end_positions"].tolist()) == ([7, 0], [7, 0])


def take(features, size, seed, count, skip=0):
    batches = itertools.islice(grouped_batches(features, size, seed), skip, skip + count)
    return [[one.example for one in batch] for batch in batches]


def lengths(count, seed=0):
    drawn = np.random.default_rng(seed).integers(1, 60, count)
    return [feature(int(length), index=index) for index, length in enumerate(drawn)]


@given(count=st.integers(1, 70), size=st.integers(1, 9), seed=st.integers(0, 5))
def test_each_epoch_sees_every_example_once(count, size, seed):
    features = lengths(count)
    an_epoch = -(-count // size)
    batches = take(features, size, seed, 3 * an_epoch)
    for epoch in range(3):
        seen = [index for batch in batches[epoch * an_epoch : (epoch + 1) * an_epoch] for index in batch]
        assert sorted(seen) == list(range(count))
    assert all(1 <= len(batch) <= size for batch in batches)


@given(skip=st.integers(0, 40))
def test_the_seed_alone_decides_the_order(skip):
    features = lengths(50)
    assert take(features, 4, 1, 50)[skip:] == take(features, 4, 1, 50 - skip, skip)


def test_seeds_and_epochs_differ():
    features = lengths(50)
    first, second, other = take(features, 5, 0, 10), take(features, 5, 0, 10, 10), take(features, 5, 1, 10)
    assert first != second
    assert first != other


def test_a_batch_holds_similar_lengths_and_batches_come_in_no_order():
    features = lengths(400)
    batches = take(features, 8, 0, 50)
    spread = [np.ptp([features[index].length for index in batch]) for batch in batches]
    assert np.mean(spread) < 4  # of 60; a random batch of eight spreads over about 46
    means = [np.mean([features[index].length for index in batch]) for batch in batches]
    assert means != sorted(means)


@pytest.mark.parametrize(("count", "one_pool"), [(100, True), (200, False)])
def test_fifty_batches_are_sorted_at_a_time(count, one_pool):
    features = [feature(length, index=length - 1) for length in range(1, count + 1)]
    batches = take(features, 2, 0, count // 2)
    assert all(abs(first - second) == 1 for first, second in batches) is one_pool


# ---- answers from logits ---------------------------------------------------------------------------------------------

CONTEXT = " ".join(f"w{number}" for number in range(60))
SPANS = [(match, match + len(word)) for word in CONTEXT.split() for match in [f" {CONTEXT} ".index(f" {word} ")]]


def window(first, last, example=0):
    """A window of words first..last - 1 after [CLS], a question token and [SEP], before [SEP]."""
    offsets = (None, None, None, *SPANS[first:last], None)
    return Feature((tuple(range(len(offsets))),), ((),), {}, example, offsets)


def logits(size, starts=(), ends=()):
    start, end = np.zeros(size, np.float32), np.zeros(size, np.float32)
    for array, given_values in ((start, starts), (end, ends)):
        for token, value in dict(given_values).items():
            array[token] = value
    return start, end


def answer(features, values, no_answer=False, examples=1):
    return predict_spans(features, values, [{"context": CONTEXT}] * examples, no_answer=no_answer)


def test_the_best_start_and_end_make_the_answer():
    assert answer([window(0, 10)], [logits(14, {5: 3}, {7: 3})]) == ["w2 w3 w4"]


def test_an_end_before_its_start_does_not_count():
    values = logits(14, {8: 5, 4: 3}, {5: 5, 9: 1})
    assert answer([window(0, 10)], [values]) == ["w1 w2"]  # 3 + 5 beats 5 + 1


@pytest.mark.parametrize(("end", "expected"), [(32, 30), (33, None)])
def test_an_answer_has_at_most_thirty_tokens(end, expected):
    start, stop = np.full(64, -9, np.float32), np.full(64, -9, np.float32)
    start[3], stop[end] = 5, 5
    text = answer([window(0, 60)], [(start, stop)])[0]
    assert (len(text.split()) == expected) if expected else (len(text.split()) < 30)


def test_tokens_of_the_question_are_no_answer():
    values = logits(14, {0: 9, 1: 9, 2: 9, 4: 1}, {0: 9, 1: 9, 2: 9, 13: 9, 5: 1})
    assert answer([window(0, 10)], [values]) == ["w1 w2"]


def test_the_best_window_wins():
    features = [window(0, 10), window(8, 20)]
    values = [logits(14, {3: 2}, {3: 2}), logits(16, {5: 3}, {6: 3})]
    assert answer(features, values) == ["w10 w11"]
    assert answer(features[::-1], values[::-1]) == ["w10 w11"]


def test_silence_wins_where_cls_beats_every_span():
    values = [logits(14, {0: 3, 4: 2}, {0: 3, 4: 2})]
    assert answer([window(0, 10)], values, no_answer=True) == [""]
    assert answer([window(0, 10)], values, no_answer=False) == ["w1"]


def test_a_tie_with_silence_is_an_answer():
    assert answer([window(0, 10)], [logits(14, {0: 2, 4: 2}, {0: 2, 4: 2})], no_answer=True) == ["w1"]


def test_silence_needs_every_window():
    features = [window(0, 10), window(10, 20)]
    loud = logits(14, {0: 9, 4: 3}, {0: 9, 4: 3})
    assert answer(features, [loud, logits(14, {0: 1}, {0: 1})], no_answer=True) == ["w1"]
    assert answer(features, [loud, loud], no_answer=True) == [""]


def test_each_example_has_its_own_answer():
    features = [window(0, 10, 0), window(0, 10, 2), window(10, 20, 1)]
    values = [logits(14, {n: 2}, {n: 2}) for n in (3, 4, 5)]
    assert answer(features, values, examples=3) == ["w0", "w12", "w1"]


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_window_without_a_usable_span_has_no_answer(value):
    broken = (np.full(14, value, np.float32), np.full(14, value, np.float32))
    assert answer([window(0, 10)], [broken]) == [""]


def test_a_window_without_context_has_no_answer():
    empty = Feature(((1, 2),), ((0, 0),), {}, 0, (None, None))
    assert answer([empty, window(0, 10)], [logits(2, {0: 9}, {0: 9}), logits(14, {4: 1}, {4: 1})]) == ["w1"]


def test_logits_made_of_the_labels_give_the_gold_answers(tokenizer, load):
    data = load("toy_spans_v2")
    features = encode(tokenizer, data.kind, data.train, 16)
    assert len(features) > len(data.train)  # some contexts take several windows
    values = [
        logits(one.length, {one.labels["start_positions"]: 9}, {one.labels["end_positions"]: 9}) for one in features
    ]
    texts = predict_spans(features, values, data.train, no_answer=True)
    assert texts == [(row["answers"]["text"] or [""])[0] for row in data.train]


def test_a_very_long_text_is_read_as_far_as_it_goes(tokenizer, monkeypatch):
    """The same tokens as the library's truncation gives, and only a beginning is given to it."""
    text = "the river " * 300  # the library itself takes memory by the square of the length
    rows = [{"text_a": text, "text_b": second, "label": 0} for second in ("town", text)]
    seen = []
    call = type(tokenizer).__call__

    def noting(self, texts, *others, **how):
        seen.append(max(map(len, [texts] if isinstance(texts, str) else texts)))
        return call(self, texts, *others, **how)

    expected = tokenizer([text, text], ["town", text], truncation=True, max_length=16)["input_ids"]
    monkeypatch.setattr(type(tokenizer), "__call__", noting)
    assert [list(one.ids[0]) for one in encode(tokenizer, "classification", rows, 16)] == expected
    assert max(seen) < len(text)


def test_many_examples_are_encoded_in_parts_and_keep_their_numbers(tokenizer, monkeypatch):
    rows = [{"text_a": f"the {word}", "text_b": None, "label": 0} for word in ("river", "town", "music") * 3]
    whole = encode(tokenizer, "classification", rows, 16)
    monkeypatch.setattr(features_module, "_AT_ONCE", 4)
    assert encode(tokenizer, "classification", rows, 16) == whole
    assert [one.example for one in whole] == list(range(9))
