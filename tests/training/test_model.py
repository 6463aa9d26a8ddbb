"""Model: what is added to the base model, what of it is tuned, where it starts, and what it predicts."""

import hashlib

import numpy as np
import pytest
import torch
from toys import LAYERS, TASKS, WIDTH

from tupate_hub.errors import FormatError
from tupate_hub.training.batches import collate
from tupate_hub.training.features import encode
from tupate_hub.training.methods import get_method
from tupate_hub.training.model import (
    architecture,
    base_sha256,
    build_model,
    is_head,
    load_tokenizer,
    predict,
    round_to_float16,
    tuned_state,
)

LORA = get_method("lora")
RANK = LORA.settings["r"]
HEADS = {"toy_classes": 2, "toy_numbers": 1, "toy_spans": 2, "toy_spans_v2": 2, "toy_choices": 1, "toy_tags": 3}


@pytest.fixture
def build(base, load):
    """`build("toy_classes")` is a fresh model for that task."""
    return lambda name, init_seed=0: build_model(base, load(name), LORA, init_seed)


def shake(model, seed=1):
    """Move every tuned parameter away from where it starts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value += 0.3 * torch.randn(value.shape, generator=generator)


@pytest.mark.parametrize("name", TASKS)
def test_what_is_tuned_is_the_head_and_the_factors(build, name):
    model = build(name)
    head = (WIDTH + 1) * HEADS[name]
    assert (
        sum(value.numel() for value in model.parameters() if value.requires_grad)
        == head + 2 * LAYERS * 2 * RANK * WIDTH
    )
    state = tuned_state(model)
    assert sum(value.numel() for key, value in state.items() if is_head(key)) == head
    assert all(".loras.task." in key for key in state if not is_head(key))


def test_every_task_starts_from_the_same_factors(build):
    states = [tuned_state(build(name)) for name in TASKS]
    factors = [{key: value for key, value in state.items() if not is_head(key)} for state in states]
    for other in factors[1:]:
        torch.testing.assert_close(other, factors[0], rtol=0, atol=0)
    starts = [value for key, value in factors[0].items() if key.endswith("lora_A")]
    assert len(starts) == 2 * LAYERS
    assert all(torch.count_nonzero(value) for value in starts)
    assert not any(torch.equal(first, second) for first in starts for second in starts if first is not second)


def test_the_start_depends_on_its_seed_and_on_no_other(build):
    torch.manual_seed(99)
    first = tuned_state(build("toy_classes"))
    torch.manual_seed(5)
    again, other = tuned_state(build("toy_classes")), tuned_state(build("toy_classes", 1))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not any(torch.equal(first[key], other[key]) for key in first if key.endswith("lora_A"))


def test_a_fresh_model_computes_what_the_base_model_computes(base, build, load, tokenizer):
    from transformers import BertModel

    model = build("toy_classes")
    data = load("toy_classes")
    batch = collate(encode(tokenizer, data.kind, data.train[:4], 16), 0)
    inputs = {
        name: values for name, values in batch.items() if name in ("input_ids", "token_type_ids", "attention_mask")
    }
    with torch.inference_mode():
        plain = BertModel.from_pretrained(str(base)).eval()(**inputs).last_hidden_state
        torch.testing.assert_close(model.eval().bert(**inputs).last_hidden_state, plain)
        shake(model)
        assert not torch.allclose(model.bert(**inputs).last_hidden_state, plain, atol=1e-3)


def test_the_base_model_is_frozen(base, build):
    from safetensors.torch import load_file

    stored = load_file(base / "model.safetensors")
    frozen = {name: value for name, value in build("toy_classes").named_parameters() if not value.requires_grad}
    for name, value in stored.items():
        key = f"bert.{name}"
        if key in frozen:
            torch.testing.assert_close(frozen[key].data, value, rtol=0, atol=0)
    assert len(frozen) >= 16 * LAYERS


@pytest.mark.parametrize("name", ["toy_classes", "toy_spans", "toy_choices"])
def test_nothing_is_random_while_it_is_tuned(build, load, tokenizer, name):
    model = build(name).train()
    data = load(name)
    batch = collate(encode(tokenizer, data.kind, data.train[:6], 32), 0)
    torch.manual_seed(1)
    first = model(**batch).loss
    torch.manual_seed(2)
    assert torch.equal(model(**batch).loss, first)


def test_the_loss_is_that_of_the_labels(build, load, tokenizer):
    data = load("toy_classes")
    model = build("toy_classes")
    batch = collate(encode(tokenizer, data.kind, data.train[:8], 32), 0)
    output = model(**batch)
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(output.logits, batch["labels"]))


@pytest.mark.parametrize("name", TASKS)
def test_a_prediction_depends_on_its_example_alone(build, load, tuned, tokenizer, name):
    data = load(name)
    model = build(name)
    state = {**tuned(name).tensors, **tuned(name).head}
    model.load_state_dict({key: torch.tensor(value) for key, value in state.items()}, strict=False)
    examples = data.train[:70]  # more than one batch
    together = predict(model, data, examples, encode(tokenizer, data.kind, examples, 32), tokenizer.pad_token_id)
    alone = [
        predict(model, data, [row], encode(tokenizer, data.kind, [row], 32), tokenizer.pad_token_id)[0]
        for row in examples[:12]
    ]
    assert len(together) == 70
    if data.kind == "regression":
        np.testing.assert_allclose(together[:12], alone, atol=1e-5)
        assert np.std(together) > 0
    else:
        assert together[:12] == alone
        assert len(set(map(str, together))) > 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [("toy_classes", int), ("toy_numbers", float), ("toy_spans", str), ("toy_choices", int), ("toy_tags", list)],
)
def test_predictions_are_plain_values(build, load, tokenizer, name, kind):
    data = load(name)
    model = build(name)
    values = predict(model, data, data.held_out[:3], encode(tokenizer, data.kind, data.held_out[:3], 32), 0)
    assert [type(value) for value in values] == [kind] * 3
    assert model.training


def test_only_squad_2_may_stay_silent(build, load, tokenizer):
    with_silence, without = load("toy_spans_v2"), load("toy_spans")
    model = build("toy_spans")
    examples = without.validation[:10]
    features = encode(tokenizer, "extractive_qa", examples, 32)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if is_head(name) and value.ndim == 2:
                cls = model.eval().bert(**cls_batch(features)).last_hidden_state[:, 0].mean(0)
                value.copy_(torch.stack([cls, cls]))  # both edges like [CLS] best
    assert predict(model, with_silence, examples, features, 0).count("") > 5
    assert predict(model, without, examples, features, 0).count("") == 0


def cls_batch(features):
    batch = collate(features, 0)
    return {name: values for name, values in batch.items() if name in ("input_ids", "token_type_ids", "attention_mask")}


def test_the_state_is_a_copy(build):
    model = build("toy_classes")
    before = tuned_state(model)
    kept = {name: value.clone() for name, value in before.items()}
    shake(model)
    torch.testing.assert_close(before, kept, rtol=0, atol=0)
    assert not any(torch.equal(before[name], value) for name, value in tuned_state(model).items())


def test_rounding_is_to_the_nearest_half():
    rounded = round_to_float16({"x": torch.tensor([1 / 3, 1.0, 1e-9])})["x"]
    assert rounded.dtype == torch.float32
    assert rounded.tolist() == np.array([1 / 3, 1.0, 1e-9], np.float16).astype(np.float32).tolist()


def test_the_head_is_told_from_the_method():
    assert is_head("heads.task.1.weight")
    assert not is_head("bert.encoder.layer.0.attention.self.query.loras.task.lora_A")


def test_the_architecture_is_what_an_exporter_needs(build):
    expected = {
        "model_type": "bert",
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 48,
    }
    assert architecture(build("toy_classes")) == expected


def test_the_digest_of_the_base_model(base):
    assert base_sha256(base) == hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"has no model\.safetensors") as caught:
        base_sha256(tmp_path)
    assert "folder of a base model" in caught.value.hint


def test_the_tokenizer_is_the_base_model_s(base):
    tokenizer = load_tokenizer(base)
    assert tokenizer.tokenize("The rivers, seven") == ["the", "river", "##s", ",", "seven"]
