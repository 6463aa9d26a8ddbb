"""The parts that predictors of transfer are made of, on the toy base model, and how sources are scored with them."""

import dataclasses

import numpy as np
import pytest
import torch
from toys import LAYERS, TASKS, WIDTH

from tupate_hub.embedding import make_block
from tupate_hub.errors import UnknownName
from tupate_hub.evaluation.transfer_rows import SCRATCH
from tupate_hub.training import run as running
from tupate_hub.training.batches import collate
from tupate_hub.training.features import encode
from tupate_hub.training.measure import probe_text
from tupate_hub.training.model import is_head
from tupate_hub.training.predictors import measured
from tupate_hub.training.predictors.catalogue import PREDICTORS, cosine, get_predictor, steepness
from tupate_hub.training.predictors.fisher import fisher, fisher_of
from tupate_hub.training.predictors.labelled import labelled_states
from tupate_hub.training.predictors.subject import (
    Subject,
    base_encoder,
    few_examples,
    states,
    text_of,
    tuned_model,
)
from tupate_hub.training.record import to_embedding

pytestmark = pytest.mark.xdist_group("transfer_predictors")  # what they share is made once


@pytest.fixture(scope="module")
def subject(base, load, tuned):
    """`subject("toy_classes")` is a toy task with the parameters of a run of it."""

    def make(name, *targets):
        result = tuned(name)
        embedding = to_embedding(result, "acme/toy-bert")
        return Subject(base, load(name), embedding, tuple(load(target) for target in targets))

    return make


def in_other_coordinates(embedding):
    """The same update with other factors: (B R, R⁻¹ A)."""
    rng = np.random.default_rng(0)
    blocks = []
    for block in embedding.blocks:
        a, b = (block.parts[name].astype(np.float64) for name in ("A", "B"))
        change = rng.standard_normal((len(a), len(a))) + 3 * np.eye(len(a))
        parts = {"A": np.linalg.solve(change, a).astype(np.float32), "B": (b @ change).astype(np.float32)}
        blocks.append(make_block(block.name, parts, block.scale))
    return dataclasses.replace(embedding, blocks=tuple(blocks))


# ---- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_a_text_says_nothing_of_the_label(load, task):
    data = load(task)
    example = dict(data.train[0])
    told = text_of(data.kind, example)
    for name in ("label", "tags", "answers"):
        example.pop(name, None)
    assert text_of(data.kind, example) == told
    assert "".join(told)


def test_the_vocabulary_is_the_set_of_tokens(subject, tokenizer):
    one = subject("toy_classes")
    there = np.unpackbits(measured.vocabulary(one)["bits"]).astype(bool)
    words = {word for example in one.data.train for word in example["text_a"].split()}
    assert {tokenizer.convert_ids_to_tokens(int(at)) for at in np.flatnonzero(there)} == words


def test_states_do_not_depend_on_what_else_is_in_the_batch(base, tokenizer, subject):
    model, texts = base_encoder(base), subject("toy_classes").texts[:40]
    together = states(model, texts, tokenizer.pad_token_id)
    for row, text in enumerate(texts):
        alone = states(model, [text], tokenizer.pad_token_id)
        np.testing.assert_allclose(together.cls[row], alone.cls[0], atol=0.1)  # bfloat16
        np.testing.assert_allclose(together.mean[row], alone.mean[0], atol=0.05)
    assert np.abs(together.cls - together.cls.mean(axis=0)).max() > 0.5


# ---- a target's labels -----------------------------------------------------------------------------------------------


def test_classes_are_one_hot_and_numbers_one_column(base, tokenizer, load):
    model = base_encoder(base)
    classes = labelled_states(model, tokenizer, load("toy_classes"))
    assert classes.states.cls.shape == (200, WIDTH)
    labels = [example["label"] for example in few_examples(load("toy_classes")).train]
    np.testing.assert_array_equal(classes.targets, np.eye(2)[labels])
    numbers = labelled_states(model, tokenizer, load("toy_numbers"))
    assert numbers.targets.shape == (200, 1) and set(np.unique(numbers.targets)) == {0.0, 1.0, 2.0, 3.0}


@pytest.mark.parametrize("task", ["toy_spans", "toy_spans_v2", "toy_tags"])
def test_spans_and_tags_have_no_log_evidence(base, tokenizer, load, subject, task):
    assert labelled_states(base_encoder(base), tokenizer, load(task)) is None
    assert measured.examples(subject(task)) == {}
    assert set(measured.evidence(subject("toy_classes", task, "toy_numbers"))) == {"toy_numbers"}


def test_choices_are_compared_with_each_other_alone(base, tokenizer, load):
    data = few_examples(load("toy_choices"))
    model = base_encoder(base)
    found = labelled_states(model, tokenizer, load("toy_choices"))
    assert found.states.cls.shape == (2 * len(data.train), WIDTH) and found.targets.shape == (2 * len(data.train), 1)
    rows = states(model, encode(tokenizer, data.kind, data.train, 64), tokenizer.pad_token_id).cls
    grouped = rows.reshape(len(data.train), 3, WIDTH).astype(np.float64)
    grouped -= grouped.mean(axis=1, keepdims=True)
    contrasts = found.states.cls.reshape(len(data.train), 2, WIDTH).astype(np.float64)
    np.testing.assert_allclose(  # orthonormal: inner products of what is centred stay
        np.einsum("ecw,ecv->ewv", contrasts, contrasts), np.einsum("ecw,ecv->ewv", grouped, grouped), atol=1e-3
    )


# ---- Fisher ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_fisher_has_a_part_a_layer_and_the_first_token(subject, task):
    found = fisher(subject(task))
    components = ["cls", *(f"layer.{n}" for n in range(LAYERS))]
    assert set(found) == {*components, *(f"example.{name}" for name in components)}
    for name, array in found.items():
        assert array.shape == (WIDTH,) and array.dtype == np.float32
        assert np.isfinite(array).all() and (array >= 0).all()
        assert (array.max() > 0) == (task != "toy_tags" or "cls" not in name)  # no tag is read from the first token


def test_the_fisher_is_that_of_the_function_not_of_its_coordinates(subject):
    one = subject("toy_classes")
    other = dataclasses.replace(one, source=in_other_coordinates(one.source))
    unlike = fisher(subject("toy_choices"))
    for name, array in fisher(one).items():
        same = cosine(array, fisher(other)[name])
        assert same > 0.95  # two runs in bfloat16
        assert same > cosine(array, unlike[name])


def test_the_fisher_of_the_first_token_is_the_gradient_by_hand(subject, tokenizer):
    one = subject("toy_classes")
    model = tuned_model(one.base, one.data, one.source)
    batch = collate(encode(tokenizer, "classification", one.data.train[:8], 32), tokenizer.pad_token_id)
    with torch.no_grad():
        chances = torch.softmax(model(**batch).logits, dim=1)
    (weight,) = (value.detach() for name, value in model.named_parameters() if is_head(name) and value.ndim == 2)
    expected = ((chances - torch.nn.functional.one_hot(batch["labels"], 2)) / 8) @ weight
    found = fisher_of(model, [batch])["cls"]
    np.testing.assert_allclose(found, expected.sum(0).numpy() ** 2, rtol=0.1, atol=1e-3 * found.max())


@pytest.mark.parametrize("task", ["toy_classes", "toy_choices"])
def test_an_example_is_a_batch_of_its_own(subject, tokenizer, task):
    one = subject(task)
    model = tuned_model(one.base, one.data, one.source)
    features = encode(tokenizer, one.data.kind, one.data.train[:6], 32)
    together = fisher_of(model, [collate(features, tokenizer.pad_token_id)])
    alone = fisher_of(model, [collate([feature], tokenizer.pad_token_id) for feature in features])
    for name in ("cls", *(f"layer.{n}" for n in range(LAYERS))):
        if task == "toy_classes":  # where there are choices, their tokens are counted apart
            np.testing.assert_allclose(alone[f"example.{name}"], alone[name], rtol=1e-5)
        one_by_one = alone[f"example.{name}"]
        assert cosine(together[f"example.{name}"], one_by_one) > 0.95
        assert together[f"example.{name}"].sum() == pytest.approx(one_by_one.sum(), rel=0.1)


def test_padding_is_no_part_of_the_fisher(subject, tokenizer):
    one = subject("toy_tags")
    model = tuned_model(one.base, one.data, one.source)
    batch = collate(encode(tokenizer, one.data.kind, one.data.train[:8], 32), tokenizer.pad_token_id)
    padded = {name: torch.nn.functional.pad(value, (0, 5)) for name, value in batch.items()}
    padded["labels"][:, -5:] = -100
    wider = fisher_of(model, [padded])
    for name, array in fisher_of(model, [batch]).items():
        assert cosine(array, wider[name]) > 0.95 or "cls" in name
        assert wider[name].sum() == pytest.approx(array.sum(), rel=0.1)


# ---- shift, map, curve -----------------------------------------------------------------------------------------------


def test_the_shift_is_the_mean_over_tokens(subject, tokenizer):
    one = subject("toy_classes")
    sums, count = 0, 0
    with torch.no_grad():
        for line in probe_text():
            inputs = tokenizer(line, truncation=True, max_length=64, return_tensors="pt")
            for model, sign in ((one.encoder, 1), (base_encoder(one.base), -1)):
                hidden = model(**inputs, output_hidden_states=True).hidden_states[1:]
                sums = sums + sign * torch.stack(hidden)[:, 0].sum(1)
            count += inputs["input_ids"].shape[1]
    found = measured.shift(one)["layers"]
    assert found.shape == (LAYERS, WIDTH)
    np.testing.assert_allclose(found, (sums / count).numpy(), atol=1e-4)
    assert np.abs(found).max() > 0.01


def test_the_map_takes_the_base_models_states_nearer_to_the_tuned_ones(subject):
    one = subject("toy_classes")
    found = measured.space_map(one)
    tuned_states = states(one.encoder, one.texts, one.tokenizer.pad_token_id)
    for name in ("cls", "mean"):
        before, after = getattr(one.base_states, name), getattr(tuned_states, name)
        mapped = before @ found[f"{name}.weight"].T + found[f"{name}.bias"]
        assert np.square(mapped - after).mean() < 0.5 * np.square(before - after).mean()


def test_the_curve_has_the_loss_of_each_step(subject):
    losses = measured.curve(subject("toy_classes"))["losses"]
    assert losses.shape == (40,) and np.isfinite(losses).all()
    assert losses[0] == pytest.approx(np.log(2), abs=0.2)  # a head that knows nothing yet
    assert losses[-5:].mean() < losses[:5].mean()
    assert running._LOSSES_SHOWN >= measured._CURVE_STEPS  # what the losses are computed back from


def test_a_falling_loss_is_steeper_than_a_flat_one_whatever_its_unit():
    falling = np.linspace(2.0, 1.0, 40)
    assert steepness(falling) == pytest.approx(steepness(7 * falling)) == pytest.approx(1 / 39 / falling[:5].mean())
    assert steepness(np.ones(40)) == pytest.approx(0, abs=1e-12) and steepness(falling[::-1]) < 0


# ---- scores ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(subject):
    """All parts of three tasks."""
    names = ("toy_classes", "toy_choices", "toy_numbers")
    return {name: {part: measure(subject(name, *names)) for part, measure in measured.PARTS.items()} for name in names}


@pytest.mark.parametrize("name", list(PREDICTORS))
def test_every_predictor_scores_every_source(parts, name):
    predictor = get_predictor(name)
    sources = {task: found for task, found in parts.items() if task != "toy_numbers"}
    scores = predictor.score("toy_numbers", parts["toy_numbers"], sources)
    base = {SCRATCH} if name.startswith("log-me") else set()  # the base model's own evidence
    assert set(scores) == {*sources, *base}
    assert np.isfinite(list(scores.values())).all() and len({scores[source] for source in sources}) == 2


@pytest.mark.parametrize("name", ["vocabulary", "text-emb", "delta-activations"])
def test_similarities_are_symmetric_and_1_with_themselves(parts, name):
    score = get_predictor(name).score
    one = score("toy_numbers", parts["toy_numbers"], parts)
    assert one["toy_numbers"] == pytest.approx(1)
    assert one["toy_classes"] == pytest.approx(score("toy_classes", parts["toy_classes"], parts)["toy_numbers"])
    assert one["toy_classes"] < 0.999


def test_a_task_itself_is_first_in_every_component_of_task_emb(parts):
    scores = get_predictor("task-emb").score("toy_numbers", parts["toy_numbers"], parts)
    assert scores["toy_numbers"] == pytest.approx((LAYERS + 1) / 61)
    assert scores["toy_numbers"] == max(scores.values())


def test_a_component_that_a_target_has_none_of_orders_nothing(parts):
    own = {"fisher": {**parts["toy_numbers"]["fisher"], "cls": np.zeros(WIDTH, np.float32)}}
    scores = get_predictor("task-emb").score("toy_numbers", own, parts)
    assert scores["toy_numbers"] == pytest.approx(LAYERS / 61)
    assert sum(scores.values()) == pytest.approx(LAYERS * (1 / 61 + 1 / 62 + 1 / 63))


def test_what_is_kept_is_counted(parts):
    kept = {name: predictor.kept_bytes(parts["toy_classes"]) for name, predictor in PREDICTORS.items()}
    assert kept["text-emb"] == 4 * WIDTH and kept["task-emb"] == 4 * WIDTH * (LAYERS + 1)
    assert kept["esm-log-me"] == kept["esm-log-me-mean"] == 4 * (WIDTH * WIDTH + WIDTH)
    assert kept["delta-activations"] == 4 * WIDTH * LAYERS and kept["curve-grad"] == 160 and kept["log-me"] == 0


def test_an_unknown_predictor_lists_the_known():
    with pytest.raises(UnknownName, match="task-em") as caught:
        get_predictor("task-em")
    assert "task-emb" in caught.value.hint
