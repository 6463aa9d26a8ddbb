"""Labels head: the score of a class is the cosine to its name, encoded with the parameters of the moment."""

import dataclasses

import numpy as np
import pytest
import torch
from toys import REGIME

from tupate_hub.errors import FormatError
from tupate_hub.training.batches import collate
from tupate_hub.training.features import encode
from tupate_hub.training.labels import SCALE, LabelScorer, readable
from tupate_hub.training.methods import METHODS, get_method
from tupate_hub.training.model import build_model, predict, tuned_state
from tupate_hub.training.regime import Setup
from tupate_hub.training.tuner import tune

LABELS = Setup(head="labels")


@pytest.fixture
def data(load):
    return load("toy_classes")


@pytest.fixture
def scorer(base, data, tokenizer):
    return LabelScorer(build_model(base, data, get_method("lora"), 0), tokenizer, data)


@pytest.fixture
def batch(data, tokenizer):
    return collate(encode(tokenizer, data.kind, data.train[:6], 32), tokenizer.pad_token_id)


def mean_state(base, tokenizer, text):
    """A text's unit vector from the plain base model, alone and without padding."""
    from transformers import BertModel

    encoded = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        states = BertModel.from_pretrained(str(base)).eval()(**encoded).last_hidden_state[0]
    vector = states.mean(0)
    return (vector / vector.norm()).numpy()


def test_scores_are_scaled_cosines_between_text_and_name(scorer, base, data, tokenizer, batch):
    with torch.no_grad():
        logits = scorer(**batch).logits.numpy()
    names = np.stack([mean_state(base, tokenizer, name) for name in data.label_names])
    texts = np.stack([mean_state(base, tokenizer, example["text_a"]) for example in data.train[:6]])
    np.testing.assert_allclose(logits, SCALE * texts @ names.T, atol=2e-4)


def test_the_loss_is_that_of_the_labels(scorer, batch):
    output = scorer(**batch)
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(output.logits, batch["labels"]))
    assert scorer(**{name: value for name, value in batch.items() if name != "labels"}).loss is None


def test_no_head_is_trained(scorer):
    assert scorer.model.active_head is None
    assert not any(name.startswith("heads.") for name in tuned_state(scorer.model))


def test_the_gradient_goes_through_the_names_as_well(scorer, data, tokenizer):
    """With the texts taken off the graph, only the names can move the parameters."""
    scorer.train()
    names = scorer._names()
    names.sum().backward()
    moved = [value.grad for value in scorer.model.parameters() if value.grad is not None]
    assert any(torch.count_nonzero(gradient) for gradient in moved)


def test_names_are_encoded_once_while_nothing_moves_and_anew_afterwards(scorer, batch):
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    scorer.eval()
    with torch.no_grad():
        scorer(**inputs)
        kept = scorer.encoded
        scorer(**inputs)
        assert scorer.encoded is kept
        for value in scorer.model.parameters():
            if value.requires_grad:
                value += 0.3
        scorer.train()
        scorer.eval()
        scorer(**inputs)
    assert not torch.allclose(scorer.encoded, kept)
    scorer.train()
    assert scorer.encoded is None


def test_a_prediction_depends_on_its_example_alone(scorer, data, tokenizer):
    features = encode(tokenizer, data.kind, data.train[:70], 32)
    together = predict(scorer, data, data.train[:70], features, tokenizer.pad_token_id)
    alone = [
        predict(scorer, data, [row], encode(tokenizer, data.kind, [row], 32), tokenizer.pad_token_id)[0]
        for row in data.train[:10]
    ]
    assert together[:10] == alone


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_method_learns_with_it(base, data, method):
    result = tune(base, data, method, dataclasses.replace(REGIME, steps=6, evaluations=1), setup=LABELS)
    assert result.head == {} and result.head_config == {}
    assert any(np.abs(array).max() > 0 for array in result.tensors.values())
    assert (result.record.head, result.record.steps) == ("labels", 6)


def test_it_learns_a_task_whose_labels_have_words(base, data):
    result = tune(base, data, get_method("lora"), REGIME, setup=LABELS)
    assert result.record.scores["primary"] > result.record.baseline + 0.3
    assert result.record.zero_shot < result.record.scores["primary"]


def test_zero_shot_is_the_score_before_the_first_step(base, data, scorer, tokenizer):
    from tupate_hub.training.scoring import gold_labels, score

    features = encode(tokenizer, data.kind, data.validation, REGIME.max_length)
    guesses = predict(scorer, data, data.validation, features, tokenizer.pad_token_id)
    expected = score(data.metric, gold_labels(data, data.validation), guesses)["primary"]
    short = dataclasses.replace(REGIME, steps=1, evaluations=1)
    assert tune(base, data, get_method("lora"), short, setup=LABELS).record.zero_shot == expected
    assert tune(base, data, get_method("lora"), short).record.zero_shot is None


class Stop(Exception):
    pass


def test_a_killed_run_goes_on_with_the_score_that_it_began_with(base, data, tmp_path):
    path = tmp_path / "checkpoint.pt"

    def until_25(steps, total):
        for step in steps:
            if step == 25:
                raise Stop
            yield step

    with pytest.raises(Stop):
        tune(base, data, get_method("lora"), REGIME, setup=LABELS, checkpoint=path, progress=until_25)
    resumed = tune(base, data, get_method("lora"), REGIME, setup=LABELS, checkpoint=path)
    whole = tune(base, data, get_method("lora"), REGIME, setup=LABELS)
    for name, array in whole.tensors.items():
        np.testing.assert_array_equal(resumed.tensors[name], array)
    assert resumed.record.zero_shot == whole.record.zero_shot


@pytest.mark.parametrize("name", ["toy_numbers", "toy_spans", "toy_choices"])
def test_what_has_no_classes_is_refused(base, load, name):
    with pytest.raises(FormatError, match="only the names of classes") as caught:
        tune(base, load(name), get_method("lora"), REGIME, setup=LABELS)
    assert "`head='labels'`" in caught.value.hint


@pytest.mark.parametrize(
    "names", [("good", "GOOD"), ("good", "--"), ("a_b", "a b"), ("0", "1"), ("\U0001f44d", "\U0001f44e")]
)
def test_names_that_do_not_differ_are_refused(base, data, tokenizer, names):
    model = build_model(base, data, get_method("lora"), 0)
    with pytest.raises(FormatError, match="not words that the model can tell apart"):
        LabelScorer(model, tokenizer, dataclasses.replace(data, label_names=names))


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("not_entailment", "not entailment"),
        ("notEntailment", "not entailment"),
        ("Sci/Tech", "sci tech"),
        ("HUM:ind", "hum ind"),
        ("  two  words ", "two words"),
        ("5", "5"),
        ("___", ""),
    ],
)
def test_labels_are_read_as_words(label, text):
    assert readable(label) == text
