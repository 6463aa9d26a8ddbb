"""Task metrics, and the score of the best prediction that looks at no input.

Conventions: GLUE (Wang et al. 2019) for accuracy, F1, Matthews and Pearson/Spearman correlation; TweetEval (Barbieri et
al. 2020) for macro F1 and macro recall, but over all classes of every task; the SQuAD scripts (Rajpurkar et al. 2016,
2018) for token F1 and exact match; conlleval (Tjong Kim Sang and De Meulder 2003) for tagged spans. The other formulas
are scikit-learn's, scipy's and transformers'. All scores are in [0, 1], correlations in [-1, 1].
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, recall_score
from transformers.data.metrics.squad_metrics import compute_exact, compute_f1

from tupate_hub.arrays import Array
from tupate_hub.data.dataset import TaskData
from tupate_hub.errors import UnknownName
from tupate_hub.evaluation.spans import tagged_spans

Scores = dict[str, float]
Predictions = Sequence[Any] | Array


def _correlations(gold: Array, predicted: Array) -> Scores:
    if np.ptp(predicted) == 0 or np.ptp(gold) == 0:
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(pearsonr(gold, predicted).statistic),
        "spearman": float(spearmanr(gold, predicted).statistic),
    }


def _spans(gold: Sequence[Sequence[str]], predicted: Sequence[str]) -> Scores:
    f1, exact = [], []
    for answers, text in zip(gold, predicted, strict=True):
        f1.append(max((compute_f1(answer, text) for answer in answers), default=float(not text)))
        exact.append(max((compute_exact(answer, text) for answer in answers), default=int(not text)))
    return {"f1": float(np.mean(f1)), "exact_match": float(np.mean(exact))}


def _tag_spans(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Scores:
    guessed = wanted = right = 0
    for truth, guess in zip(gold, predicted, strict=True):
        true_spans, guessed_spans = tagged_spans(truth), tagged_spans(guess)
        guessed += len(guessed_spans)
        wanted += len(true_spans)
        right += len(true_spans & guessed_spans)
    return {
        "f1": 2 * right / (guessed + wanted) if guessed + wanted else 0.0,
        "precision": right / guessed if guessed else 0.0,
        "recall": right / wanted if wanted else 0.0,
    }


def _accuracy(gold: Predictions, predicted: Predictions) -> float:
    return float(accuracy_score(gold, predicted))


def _matthews(gold: Array, predicted: Array) -> float:
    if np.ptp(predicted) == 0 or np.ptp(gold) == 0:  # scikit-learn gives 0 as well, with a warning for one class
        return 0.0
    return float(matthews_corrcoef(gold, predicted))


def _macro_f1(gold: Predictions, predicted: Predictions) -> float:
    if np.ndim(gold) == 2:  # several labels: those that do not occur count as little as classes that do not
        occur = (np.asarray(gold) + np.asarray(predicted)).any(axis=0)
        gold, predicted = np.asarray(gold)[:, occur], np.asarray(predicted)[:, occur]
    return float(f1_score(gold, predicted, average="macro", zero_division=0))


def _positive_f1(gold: Predictions, predicted: Predictions) -> float:
    return float(f1_score(gold, predicted, zero_division=0))


_METRICS: Mapping[str, Callable[[Any, Any], Scores]] = {
    "accuracy": lambda g, p: {"accuracy": _accuracy(g, p)},
    "accuracy_and_f1": lambda g, p: {"accuracy": _accuracy(g, p), "f1": _positive_f1(g, p)},
    "accuracy_and_macro_f1": lambda g, p: {"accuracy": _accuracy(g, p), "macro_f1": _macro_f1(g, p)},
    "matthews_correlation": lambda g, p: {"matthews": _matthews(g, p)},
    "pearson_and_spearman": _correlations,
    "macro_f1": lambda g, p: {"macro_f1": _macro_f1(g, p)},
    "micro_f1": lambda g, p: {"micro_f1": float(f1_score(g, p, average="micro", zero_division=0))},
    "macro_recall": lambda g, p: {"macro_recall": float(recall_score(g, p, average="macro", zero_division=0))},
    "f1_answer": lambda g, p: {"f1": _positive_f1(g, p)},
    "squad_f1": _spans,
    "squad_v2_f1": _spans,
    "span_f1": _tag_spans,
}
_OF_SPANS = ("squad_f1", "squad_v2_f1", "span_f1")


def gold_labels(data: TaskData, examples: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What the examples' predictions are compared with: labels, lists of accepted answers, or the names of tags."""
    if data.kind == "extractive_qa":
        return [example["answers"]["text"] for example in examples]
    if data.kind == "token_classification":
        return [[data.label_names[tag] for tag in example["tags"]] for example in examples]
    return [example["label"] for example in examples]


def score(metric: str, gold: Sequence[Any], predicted: Predictions) -> Scores:
    """Every figure of a metric, and their convention's single number under `primary`.

    `primary` is the mean of the figures (GLUE's rule for metrics of two figures), except for spans, where it is F1.

    Raises
    ------
    UnknownName
        For a metric that is not in the table.
    """
    if metric not in _METRICS:
        raise UnknownName(f"Unknown metric {metric!r}.", hint="known: " + ", ".join(sorted(_METRICS)))
    spans = metric in _OF_SPANS
    if not spans and any(isinstance(tag, str) for tags in gold if isinstance(tags, list) for tag in tags):
        gold, predicted = _word_by_word(gold), _word_by_word(predicted)
    scores = _METRICS[metric](gold if spans else np.asarray(gold), predicted if spans else np.asarray(predicted))
    primary = scores["f1"] if spans else float(np.mean(list(scores.values())))
    return {"primary": primary, **scores}


def _word_by_word(tagged: Predictions) -> list[str]:
    """Tags that are no spans: each word is an example of its tag's class."""
    return [tag for tags in tagged for tag in tags]


def trivial_baseline(data: TaskData) -> tuple[str, float]:
    """The best score on the validation examples that needs no learning, and the rule that reaches it.

    Classes and choices: the best constant. Regression: a constant, whose correlation is 0. Spans: no answer at all, or
    the sentence that shares most words with the question (the idea of the sliding-window baseline of Richardson et
    al. 2013). Tags: no span at all, or the tag that each word has most often in training. Several labels: the most
    frequent ones, as many of them as is best.
    """
    gold = gold_labels(data, data.validation)
    if data.kind == "regression":
        return "constant", 0.0
    rules: dict[str, Predictions]
    if data.kind == "extractive_qa":
        rules = {
            "no answer": [""] * len(gold),
            "sentence with most question words": [_overlapping_sentence(example) for example in data.validation],
        }
    elif data.kind == "token_classification":
        rules = {"most frequent tag of each word": _tags_from_memory(data)}
        if data.metric == "span_f1":
            rules = {"no span": [["O"] * len(tags) for tags in gold], **rules}
    elif data.kind == "multi_label":
        rules = _most_frequent_labels(data)
    else:
        names = data.label_names if data.kind == "classification" else range(data.num_labels)
        rules = {f"always {name}": np.full(len(gold), label) for label, name in enumerate(names)}
    scores = {rule: score(data.metric, gold, predicted)["primary"] for rule, predicted in rules.items()}
    best = max(scores, key=lambda rule: scores[rule])
    return best, scores[best]


def _tags_from_memory(data: TaskData) -> list[list[str]]:
    """Each validation word's most frequent tag in training, the first in label order of several.

    An unseen word has "O", or the most frequent tag of all where tags are no spans.
    """
    counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for example in data.train:
        for word, tag in zip(example["tokens"], example["tags"], strict=True):
            counts[word][tag] += 1
    usual = {word: data.label_names[min(tags, key=lambda tag: (-tags[tag], tag))] for word, tags in counts.items()}
    every = Counter(tag for example in data.train for tag in example["tags"])
    other = "O" if data.metric == "span_f1" else data.label_names[every.most_common(1)[0][0]]
    return [[usual.get(word, other) for word in example["tokens"]] for example in data.validation]


def _most_frequent_labels(data: TaskData) -> dict[str, Predictions]:
    """The rules that always give the most frequent label of training, the two most frequent, and so on."""
    counts = np.sum([example["label"] for example in data.train], axis=0)
    order = np.argsort(-counts, kind="stable")
    rules: dict[str, Predictions] = {}
    for most in range(1, len(order) + 1):
        row = np.isin(np.arange(len(order)), order[:most]).astype(int)
        named = ", ".join(data.label_names[at] for at in order[:most][:5]) + (", ..." if most > 5 else "")
        rules[f"always {named}"] = np.tile(row, (len(data.validation), 1))
    return rules


def _overlapping_sentence(example: Mapping[str, Any]) -> str:
    words = set(re.findall(r"\w+", example["question"].lower()))
    sentences = re.split(r"(?<=[.!?])\s+", example["context"])
    return str(max(sentences, key=lambda sentence: len(words & set(re.findall(r"\w+", sentence.lower())))))
