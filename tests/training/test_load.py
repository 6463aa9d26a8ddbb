"""Load: what a run leaves answers as the run did, whichever method it was tuned by, and from wherever it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loading import quiet_libraries
from toys import REGIME

import tupate_hub
from tupate_hub import Zoo
from tupate_hub.collect.add import open_or_start
from tupate_hub.errors import FormatError, UnknownName
from tupate_hub.export import export
from tupate_hub.storage.atomic import write_folder
from tupate_hub.storage.safetensors import parse_tensorfile
from tupate_hub.training.assess import assess
from tupate_hub.training.delivery import Delivery, deliver
from tupate_hub.training.features import encode
from tupate_hub.training.load import load
from tupate_hub.training.methods import METHODS, get_method
from tupate_hub.training.model import build_model, load_tokenizer, predict, tuned_state
from tupate_hub.training.regime import Setup
from tupate_hub.training.tuner import tune

__all__ = ["quiet_libraries"]

BASE_ID = "acme/toy-bert"
SHORT = replace(REGIME, steps=12, evaluations=2, early=())


@dataclass(frozen=True)
class Run:
    """A run that was delivered, and what its model said of the validation examples before it was written."""

    delivery: Delivery
    data: Any
    said: list[Any]


def several(data: Any) -> Any:
    """A task of classes as one of labels of which a text may have several."""
    parts = {
        part: [{**one, "label": [one["label"], 1 - one["label"]]} for one in getattr(data, part)]
        for part in ("train", "held_out", "validation")
    }
    return replace(data, name="several", kind="multi_label", metric="micro_f1", label_names=("kind", "harsh"), **parts)


@pytest.fixture(scope="module")
def delivered(base: Path, load: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`delivered("toy_classes", "bitfit")` is such a run in a registry of its own, made once."""

    @cache
    def make(name: str, method_name: str = "lora") -> Run:
        data, method = several(load("toy_classes")) if name == "several" else load(name), get_method(method_name)
        result = tune(base, data, method, SHORT)
        model = build_model(base, data, method, SHORT.init_seed)
        origin = tuned_state(model) if method.relative else {}
        state = {key: torch.tensor(value) for key, value in result.tensors.items()}
        model.load_state_dict(
            {key: value + origin[key] if key in origin else value for key, value in state.items()}
            | {key: torch.tensor(value) for key, value in result.head.items()},
            strict=False,
        )
        tokenizer = load_tokenizer(base)
        features = encode(tokenizer, data.kind, data.validation, SHORT.max_length)
        said = predict(model, data, data.validation, features, tokenizer.pad_token_id)
        zoo = open_or_start(tmp_path_factory.mktemp("zoo"))
        return Run(deliver(zoo, result, BASE_ID, {"by": "a test"}), data, said)

    return make


def answers(place: str | Path, run: Run, base: Path, **more: Any) -> list[Any]:
    return load(place, base=str(base), **more).answers(run.data.validation)


def assert_as_said(found: list[Any], run: Run) -> None:
    if run.data.kind == "regression":
        np.testing.assert_allclose(found, run.said, atol=1e-4)
    else:
        assert found == run.said


@pytest.mark.parametrize(
    "name", ["toy_classes", "several", "toy_numbers", "toy_spans", "toy_spans_v2", "toy_choices", "toy_tags"]
)
def test_a_run_s_folder_answers_as_the_run_did(name: str, delivered: Any, base: Path) -> None:
    run = delivered(name)
    assert_as_said(answers(run.delivery.run, run, base), run)
    assert_as_said(answers(run.delivery.adapter, run, base), run)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "lora"])
def test_every_method_answers_from_its_folder(method: str, delivered: Any, base: Path) -> None:
    run = delivered("toy_classes", method)
    assert_as_said(answers(run.delivery.run, run, base), run)


def test_a_task_of_the_registry_answers(delivered: Any, base: Path) -> None:
    run = delivered("toy_classes", "bitfit")
    root = run.delivery.zoo.root
    assert_as_said(answers("toy_classes", run, base, location=root), run)
    head = Zoo.open(root).head(run.delivery.entry)
    assert head is not None
    assert head.label_names == ("bad", "good")
    assert run.delivery.entry.head["scores"]["primary"] == pytest.approx(
        run.delivery.record.scores["primary"], abs=1e-4
    )
    assert Zoo.open(root).verify() == []


@pytest.mark.parametrize("form", ["embedding", "adapters", "peft"])
@pytest.mark.parametrize("name", ["toy_classes", "toy_tags", "several"])
def test_a_pulled_folder_answers(name: str, form: str, delivered: Any, base: Path, tmp_path: Path) -> None:
    run = delivered(name)
    files = export(run.delivery.embedding, form, head=run.delivery.head)
    write_folder(tmp_path / "pulled", files)
    assert_as_said(answers(tmp_path / "pulled", run, base), run)


def test_what_torch_wrote_before_1_6_answers(delivered: Any, base: Path, tmp_path: Path) -> None:
    run = delivered("toy_classes")
    files = export(run.delivery.embedding, "adapters", head=run.delivery.head)
    write_folder(tmp_path / "old", {name: data for name, data in files.items() if name.endswith(".json")})
    for name in ("adapter", "model_head"):
        found = parse_tensorfile(files[f"{name}.safetensors"], name).tensors
        tensors = {key: torch.from_numpy(array.copy()) for key, array in found.items()}
        torch.save(tensors, tmp_path / "old" / f"pytorch_{name}.bin", _use_new_zipfile_serialization=False)
    assert_as_said(answers(tmp_path / "old", run, base), run)


def test_predictions_in_words(delivered: Any, base: Path) -> None:
    said = load(delivered("toy_classes").delivery.run, base=str(base)).predict(
        ["good great fine the river", "bad awful"]
    )
    for one in said:
        assert one.answer in ("bad", "good")
        assert sum(one.probabilities.values()) == pytest.approx(1)
        assert one.probability == max(one.probabilities.values()) == one.probabilities[one.answer]
    numbers = load(delivered("toy_numbers").delivery.run, base=str(base)).predict([("good good", "how is it ?")])
    assert isinstance(numbers[0].answer, float)
    (spans,) = load(delivered("toy_spans").delivery.run, base=str(base)).predict(
        [{"question": "how many ?", "context": "the river nine stone"}]
    )
    assert spans.answer and spans.answer in "the river nine stone"
    (choice,) = load(delivered("toy_choices").delivery.run, base=str(base)).predict(
        [{"question": "how is it ?", "choices": ["bad bad", "good great", "awful poor", "poor"]}]
    )
    assert choice.answer == ["bad bad", "good great", "awful poor", "poor"][choice.choice]
    (tags,) = load(delivered("toy_tags").delivery.run, base=str(base)).predict(["the qabcd jefgh river"])
    assert len(tags.answer) == 4
    assert tags.to_json()["spans"] == [vars(span) for span in tags.spans]


def test_several_labels_in_words(delivered: Any, base: Path) -> None:
    tuned = load(delivered("several").delivery.run, base=str(base))
    for one in tuned.predict(["good great fine", "bad awful poor"]):
        assert set(one.probabilities) == {"kind", "harsh"}
        assert one.answer == [name for name, share in one.probabilities.items() if share > 0.5]
        assert set(one.to_json()) == {"answer", "probabilities"}
    found = assess(tuned, delivered("several").data)
    assert found.performance.primary == pytest.approx(delivered("several").delivery.record.scores["primary"], abs=1e-6)


def test_an_answer_does_not_depend_on_its_neighbours(delivered: Any, base: Path) -> None:
    """What is answered in one batch with longer texts is what is answered alone."""
    tuned = load(delivered("toy_classes").delivery.run, base=str(base))
    texts = ["good", "bad awful poor the river town music", "great the stone"]
    together = [one.probability for one in tuned.predict(texts)]
    assert together == pytest.approx([tuned.predict([text])[0].probability for text in texts], abs=1e-5)


def test_what_cannot_be_asked_is_said(delivered: Any, base: Path) -> None:
    classes = load(delivered("toy_classes").delivery.run, base=str(base))
    with pytest.raises(FormatError, match="input 2 has no text"):
        classes.predict(["good", "  "])
    with pytest.raises(FormatError, match="pairs of texts and others are not"):
        classes.predict(["good", ("a", "b")])
    with pytest.raises(FormatError, match="toy_numbers is about pairs of texts"):
        load(delivered("toy_numbers").delivery.run, base=str(base)).predict(["good"])
    spans = load(delivered("toy_spans").delivery.run, base=str(base))
    with pytest.raises(FormatError, match="input 1 has no context"):
        spans.predict(["how many ?"])
    choices = load(delivered("toy_choices").delivery.run, base=str(base))
    with pytest.raises(FormatError, match="two or more choices"):
        choices.predict([{"question": "x", "choices": ["one"]}])


def test_a_task_without_a_head_is_refused_with_what_to_do(
    base: Path, load: Callable[[str], Any], tmp_path: Path
) -> None:
    result = tune(base, load("toy_classes"), get_method("lora"), replace(SHORT, steps=2), setup=Setup(head="labels"))
    left = deliver(open_or_start(tmp_path / "zoo"), result, BASE_ID, {})
    for place in (left.run, left.adapter):
        with pytest.raises(FormatError, match="No head is kept") as caught:
            tupate_hub.load(place, base=str(base))
        assert "tupate-hub train" in caught.value.hint
    with pytest.raises(FormatError, match="No head is kept with toy_classes"):
        tupate_hub.load("toy_classes", location=left.zoo.root, base=str(base))
    with pytest.raises(UnknownName):
        tupate_hub.load("toy_clases", location=left.zoo.root)


def test_a_head_of_another_width_is_refused(delivered: Any, base: Path, tmp_path: Path) -> None:
    run = delivered("toy_classes")
    layer = run.delivery.head.layers[0]
    narrow = replace(run.delivery.head, layers=(replace(layer, weight=layer.weight[:, :5]),))
    write_folder(tmp_path / "x", {**export(run.delivery.embedding, "embedding"), "head.safetensors": narrow.to_bytes()})
    with pytest.raises(FormatError, match="reads 5 numbers"):
        load(tmp_path / "x", base=str(base))


def test_windows_read_a_text_to_its_end(delivered: Any, base: Path) -> None:
    """A short text answers as ever; a long one as the average, by tokens, of what its windows say."""
    folder = delivered("toy_classes", "lora").delivery.run
    plain, whole = (load(folder, base=str(base), windows=windows) for windows in (False, True))
    texts = [one["text_a"] for one in delivered("toy_classes", "lora").data.validation[:4]]
    assert [one.answer for one in whole.predict(texts)] == [one.answer for one in plain.predict(texts)]
    cut = replace(whole, max_length=6)
    example = {"text_a": " ".join(texts), "text_b": None, "label": 0}
    features = cut.features([example])
    assert len(features) > 2 and {one.example for one in features} == {0}
    rows = np.stack(cut.logits(features))
    said = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    mean = np.average(said, axis=0, weights=[one.length for one in features])
    (found,) = cut.predict([example["text_a"]])
    assert found.answer == cut.head.label_names[int(mean.argmax())]
    expected = np.exp(mean) / np.exp(mean).sum()
    assert list(found.probabilities.values()) == pytest.approx(list(expected), abs=1e-5)


def test_windows_are_of_single_texts(delivered: Any, base: Path) -> None:
    with pytest.raises(FormatError, match="no windows"):
        load(delivered("toy_tags", "lora").delivery.run, base=str(base), windows=True)
