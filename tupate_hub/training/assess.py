"""Assessment: a tuned model judged on labelled examples, beside the best guess that looks at none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tupate_hub.data.dataset import Example, TaskData
from tupate_hub.errors import FormatError
from tupate_hub.evaluation.performance import Performance, performance
from tupate_hub.evaluation.spans import answer_f1, tagged_spans
from tupate_hub.head import NAMED, Head
from tupate_hub.training.predict import Prediction
from tupate_hub.training.scoring import gold_labels, trivial_baseline
from tupate_hub.training.tuned import Tuned

#: How many examples go through the model before the next progress is told.
AT_ONCE = 512


@dataclass(frozen=True)
class Mistake:
    """An example that was answered wrongly: what was right, and how wrong it was (1 is the most, amounts aside)."""

    example: Example
    right: Any
    prediction: Prediction
    error: float


@dataclass(frozen=True)
class Assessment:
    """How a tuned model does; `baseline` is the metric of the best guess that looks at no input, `rule` says which."""

    performance: Performance
    baseline: float
    rule: str
    worst: tuple[Mistake, ...]


def assess(
    tuned: Tuned,
    data: TaskData,
    *,
    worst: int = 5,
    watch: Callable[[Sequence[int]], Iterable[int]] = lambda starts: starts,
) -> Assessment:
    """Judge a tuned model on the validation examples of task data.

    Parameters
    ----------
    tuned : Tuned
        The model.
    data : TaskData
        Of the same kind; its labels are matched with the model's by name.
    worst : int
        How many of the worst mistakes are kept.
    watch : callable, optional
        May wrap the starts of the pieces in which the examples are answered, for a progress bar.

    Raises
    ------
    FormatError
        When the data is of another kind, or has labels that the model does not know.
    """
    data = _in_words_of(tuned.head, data)
    data = replace(data, metric=tuned.metric or data.metric)
    predictions: list[Prediction] = []
    labels: list[Any] = []
    for start in watch(range(0, len(data.validation), AT_ONCE)):
        examples = data.validation[start : start + AT_ONCE]
        said = tuned.answered(examples)
        predictions += [prediction for prediction, _ in said]
        labels += [label for _, label in said]
    gold = gold_labels(data, data.validation)
    measured = performance(data.kind, data.metric, data.label_names, gold, labels)
    rule, baseline = trivial_baseline(data)
    error = _ERRORS.get(data.kind, _of_classes)
    errors = [error(right, label, said) for right, label, said in zip(gold, labels, predictions, strict=True)]
    order = sorted((at for at, one in enumerate(errors) if one > 0), key=lambda at: -errors[at])[:worst]
    mistakes = tuple(
        Mistake(data.validation[at], _in_words(tuned.head, data, gold[at], at), predictions[at], errors[at])
        for at in order
    )
    return Assessment(measured, baseline, rule, mistakes)


def _in_words_of(head: Head, data: TaskData) -> TaskData:
    """The data with the model's names of labels."""
    if data.kind != head.kind:
        raise FormatError(f"{head.task} is {head.kind}; the data is {data.kind}.", hint=f"`kind={head.kind!r}`")
    if head.kind not in NAMED or tuple(data.label_names) == head.label_names:
        return data
    known = {name: number for number, name in enumerate(head.label_names)}
    strange = [name for name in data.label_names if name not in known]
    if strange:
        raise FormatError(
            f"The data has labels that {head.task} does not know: {', '.join(strange)[:80]}.",
            hint=f"it knows {', '.join(head.label_names)[:200]}",
        )
    numbers = [known[name] for name in data.label_names]
    train, validation = (
        [_renumbered(one, numbers, len(known)) for one in part] for part in (data.train, data.validation)
    )
    return replace(data, label_names=head.label_names, train=train, validation=validation)


def _renumbered(example: Example, numbers: Sequence[int], count: int) -> Example:
    if isinstance(example.get("label"), list | tuple):  # several labels, a 0 or 1 each
        row = [0] * count
        for number, is_so in zip(numbers, example["label"], strict=True):
            row[number] = is_so
        return {**example, "label": row}
    if "tags" in example:
        return {**example, "tags": [numbers[tag] for tag in example["tags"]]}
    return {**example, "label": numbers[example["label"]]}


def _in_words(head: Head, data: TaskData, right: Any, at: int) -> Any:
    if head.kind == "multi_label":
        return [name for name, is_so in zip(data.label_names, right, strict=True) if is_so]
    if head.kind == "classification":
        return data.label_names[right]
    return data.validation[at]["choices"][right] if head.kind == "multiple_choice" else right


# ---- how wrong an answer is ------------------------------------------------------------------------------------------


def _of_classes(right: Any, label: Any, said: Prediction) -> float:
    """The probability of a wrong answer, 0 of a right one."""
    return float(said.probability or 0) if label != right else 0.0


def _of_amounts(right: Any, label: Any, said: Prediction) -> float:
    return abs(float(label) - float(right))


def _of_answers(right: Any, label: Any, said: Prediction) -> float:
    return 1 - answer_f1(right, label)


def _of_labels(right: Any, label: Any, said: Prediction) -> float:
    shared = sum(one and other for one, other in zip(right, label, strict=True))
    return 1 - 2 * shared / (sum(right) + sum(label)) if sum(right) + sum(label) else 0.0


def _of_tags(right: Any, label: Any, said: Prediction) -> float:
    true, found = tagged_spans(right), tagged_spans(label)
    return 1 - 2 * len(true & found) / (len(true) + len(found)) if true or found else 0.0


_ERRORS: Mapping[str, Callable[[Any, Any, Prediction], float]] = {
    "regression": _of_amounts,
    "multi_label": _of_labels,
    "extractive_qa": _of_answers,
    "token_classification": _of_tags,
}
