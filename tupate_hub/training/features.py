"""Features: examples of a task as token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tupate_hub.data.dataset import Example
from tupate_hub.errors import FormatError

_CONTEXT_STRIDE = 128
_AT_ONCE = 1000  # what a tokenizer gives of a text takes far more memory than a feature
#: A text is cut beforehand where it has more letters than a read token has anywhere, and then has so many to spare.
_LETTERS_A_TOKEN, _MORE_TOKENS = 32, 32
#: The label of a token that has none: what torch's cross-entropy leaves out.
NO_LABEL = -100


@dataclass(frozen=True)
class Feature:
    """One row of a batch: token ids, of shape (length,) or (choices, length), its labels and where it came from.

    `example` is the index of its example; a long context gives several features. `offsets` are the character spans of
    context tokens, None elsewhere (spans only). `words` has the position of each word's first piece, None where the
    word has none: cut off, or nothing that the tokenizer knows (tags only).
    """

    ids: tuple[tuple[int, ...], ...]
    types: tuple[tuple[int, ...], ...]
    labels: Mapping[str, Any]
    example: int
    offsets: tuple[tuple[int, int] | None, ...] = ()
    words: tuple[int | None, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of its longest sequence."""
        return max(len(ids) for ids in self.ids)


def encode(tokenizer: Any, kind: str, examples: Sequence[Example], max_length: int) -> list[Feature]:
    """Tokenise the examples of a task; shapes and truncation follow the task's kind.

    A text pair loses tokens from its longer side, a multiple-choice row from its context, and a long question-answering
    context is cut into windows that overlap by 128 tokens, at most a third of `max_length`. A sentence of tagged words
    loses its end; a word's tag goes to its first piece.

    Raises
    ------
    FormatError
        When words or spans are to be found in the text and the tokenizer is not a fast one.
    """
    features: list[Feature] = []
    for begin in range(0, len(examples), _AT_ONCE):
        some = _encode_some(tokenizer, kind, examples[begin : begin + _AT_ONCE], max_length)
        features += [replace(one, example=begin + one.example) for one in some] if begin else some
    return features


def encode_windows(tokenizer: Any, examples: Sequence[Example], max_length: int) -> list[Feature]:
    """Single texts to their end, each as so many features of at most `max_length` tokens as it takes.

    Raises
    ------
    FormatError
        When the tokenizer is not a fast one.
    """
    if not tokenizer.is_fast:
        raise FormatError("The base model's tokenizer cannot cut a text into windows.", hint="leave out `windows`")
    features = []
    for begin in range(0, len(examples), _AT_ONCE):
        some = examples[begin : begin + _AT_ONCE]
        texts = [_with_something(tokenizer, _without_end(tokenizer, example["text_a"])) for example in some]
        cut = tokenizer(texts, truncation=True, max_length=max_length, return_overflowing_tokens=True)
        for row, index in enumerate(cut["overflow_to_sample_mapping"]):
            features.append(Feature((tuple(cut["input_ids"][row]),), (_types(cut, row),), {}, begin + index))
    return features


def _encode_some(tokenizer: Any, kind: str, examples: Sequence[Example], max_length: int) -> list[Feature]:
    if kind in ("extractive_qa", "token_classification") and not tokenizer.is_fast:
        raise FormatError(
            "The base model's tokenizer cannot say which word a token is part of.",
            hint="give a base model that has a tokenizer.json",
        )
    if kind == "extractive_qa":
        return _encode_spans(tokenizer, examples, max_length)
    if kind == "token_classification":
        return _encode_tags(tokenizer, examples, max_length)
    if kind == "multiple_choice":
        return _encode_choices(tokenizer, examples, max_length)
    label_of = _LABELS.get(kind, int)
    texts = [_shown(tokenizer, example["text_a"], max_length) for example in examples]
    seconds = None
    if examples[0]["text_b"] is None:
        texts = [_with_something(tokenizer, text) for text in texts]
    else:
        seconds = [_shown(tokenizer, example["text_b"], max_length) for example in examples]
        texts = [text + "\n" for text in texts] if _joins(tokenizer) else texts
    encoded = tokenizer(texts, seconds, truncation=True, max_length=max_length)
    return [
        Feature((tuple(ids),), (_types(encoded, index),), {"labels": label_of(example["label"])}, index)
        for index, (ids, example) in enumerate(zip(encoded["input_ids"], examples, strict=True))
    ]


def _shown(tokenizer: Any, text: str, max_length: int) -> str:
    """The part of a text that is in sight."""
    return _without_end(tokenizer, _in_sight(tokenizer, text, max_length))


def _without_end(tokenizer: Any, text: str) -> str:
    """A text without the mark of a text's end: decoders' heads find their token by it."""
    end = tokenizer.eos_token
    return text.replace(end, f"{end[0]} {end[1:]}") if end and end in text else text


def _with_something(tokenizer: Any, text: str) -> str:
    """A text that gives at least one token: where no mark stands around it, an empty one is a new line."""
    return "\n" if not text and _joins(tokenizer) else text


def _joins(tokenizer: Any) -> bool:
    """Whether nothing stands between the two texts of a pair, as with GPT-2: a new line has to."""
    return int(tokenizer.num_special_tokens_to_add(pair=True)) == int(tokenizer.num_special_tokens_to_add(pair=False))


def _several(label: Sequence[int]) -> tuple[float, ...]:
    return tuple(map(float, label))


#: An example's label as the model's loss wants it, by kind; that of others is a whole number.
_LABELS: Mapping[str, Any] = {"regression": float, "multi_label": _several}


def _encode_choices(tokenizer: Any, examples: Sequence[Example], max_length: int) -> list[Feature]:
    features = []
    for index, example in enumerate(examples):
        first = example["context"] or example["question"]
        lead = example["question"] + " " if example["context"] and example["question"] else ""
        choices = [lead + choice for choice in example["choices"]]
        encoded = tokenizer([first] * len(choices), choices, truncation=True, max_length=max_length)
        ids = tuple(tuple(row) for row in encoded["input_ids"])
        types = tuple(_types(encoded, row) for row in range(len(ids)))
        features.append(Feature(ids, types, {"labels": example["label"]}, index))
    return features


def _encode_tags(tokenizer: Any, examples: Sequence[Example], max_length: int) -> list[Feature]:
    encoded = _of_words(tokenizer)(
        [list(example["tokens"]) for example in examples],
        is_split_into_words=True,
        truncation=True,
        max_length=max_length,
    )
    features = []
    for index, example in enumerate(examples):
        ids = tuple(encoded["input_ids"][index])
        first: dict[int, int] = {}
        for position, word in enumerate(encoded.word_ids(index)):
            if word is not None:
                first.setdefault(word, position)
        labels = [NO_LABEL] * len(ids)
        for word, position in first.items():
            labels[position] = example["tags"][word]
        words = tuple(first.get(word) for word in range(len(example["tokens"])))
        features.append(Feature((ids,), (_types(encoded, index),), {"labels": tuple(labels)}, index, words=words))
    return features


def _of_words(tokenizer: Any) -> Any:
    """The tokenizer as it reads separate words: byte-level ones have to put the blank before each that a text has."""
    if getattr(tokenizer, "add_prefix_space", None) is not False:
        return tokenizer
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer.name_or_path, local_files_only=True, add_prefix_space=True)


def _types(encoded: Any, row: int) -> tuple[int, ...]:
    """Token types of a row; all 0 for a tokenizer that knows none, such as RoBERTa's."""
    if "token_type_ids" in encoded:
        return tuple(encoded["token_type_ids"][row])
    return (0,) * len(encoded["input_ids"][row])


def _encode_spans(tokenizer: Any, examples: Sequence[Example], max_length: int) -> list[Feature]:
    stride = min(_CONTEXT_STRIDE, max_length // 3)
    room = max_length - stride - 4  # [CLS], two [SEP] or a new line, and a window that is longer than the stride
    join = "\n" if _joins(tokenizer) else ""
    encoded = tokenizer(
        [_beginning(tokenizer, example["question"].strip(), room) + join for example in examples],
        [example["context"] for example in examples],
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    features = []
    for row, index in enumerate(encoded["overflow_to_sample_mapping"]):
        in_context = [part == 1 for part in encoded.sequence_ids(row)]
        pairs = zip(encoded["offset_mapping"][row], in_context, strict=True)
        offsets = tuple(tuple(span) if inside else None for span, inside in pairs)
        start, end = _token_span(offsets, examples[index]["answers"])
        labels = {"start_positions": start, "end_positions": end}
        ids, types = tuple(encoded["input_ids"][row]), _types(encoded, row)
        features.append(Feature((ids,), (types,), labels, index, offsets))
    return features


def _beginning(tokenizer: Any, text: str, most: int) -> str:
    """The text's first `most` tokens."""
    if len(text) <= most:  # no token is empty
        return text
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return text if len(spans) <= most else text[: spans[most - 1][1]]


def _in_sight(tokenizer: Any, text: str, max_length: int) -> str:
    """The beginning of a very long text, with the tokens that are read and some more: the rest only takes time."""
    size, enough = _LETTERS_A_TOKEN * max_length, max_length + _MORE_TOKENS
    while size < len(text):
        beginning = text[:size]
        read = tokenizer(beginning, add_special_tokens=False, truncation=True, max_length=enough)
        if len(read["input_ids"]) == enough:
            return beginning
        size *= 4
    return text


def _token_span(offsets: Sequence[tuple[int, int] | None], answers: Mapping[str, Any]) -> tuple[int, int]:
    """First and last token of the first answer; (0, 0), the [CLS] token, where the window does not hold it."""
    if not answers["text"]:
        return 0, 0
    begin = answers["answer_start"][0]
    end = begin + len(answers["text"][0])
    inside = [token for token, span in enumerate(offsets) if span and span[0] < end and span[1] > begin]
    if not inside:
        return 0, 0
    first, last = offsets[inside[0]], offsets[inside[-1]]
    whole = first is not None and last is not None and first[0] <= begin and last[1] >= end
    return (inside[0], inside[-1]) if whole else (0, 0)


def thin_empty_windows(features: Sequence[Feature], examples: Sequence[Example]) -> list[Feature]:
    """Drop all but the first answerless window of each answerable question, so that answers are not drowned."""
    kept, seen = [], set()
    for feature in features:
        empty = feature.labels.get("end_positions") == 0 and examples[feature.example]["answers"]["text"]
        if not empty or feature.example not in seen:
            kept.append(feature)
        if empty:
            seen.add(feature.example)
    return kept


def with_scaled_labels(features: Sequence[Feature], center: float, spread: float) -> list[Feature]:
    """The features of a regression with its targets less `center`, in units of `spread`."""
    return [replace(feature, labels={"labels": (feature.labels["labels"] - center) / spread}) for feature in features]
