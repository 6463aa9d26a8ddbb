"""Tuning methods: what each puts into the base model and where it starts, and that what it learns comes out again."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from toys import LAYERS, REGIME, WIDTH

from tupate_hub.compare.kernel import kernel, pack
from tupate_hub.compare.similarity import available
from tupate_hub.embedding import parse_embedding
from tupate_hub.errors import UnknownName
from tupate_hub.readers import read_adapter
from tupate_hub.training.batches import collate
from tupate_hub.training.features import encode
from tupate_hub.training.methods import METHODS, NAME, get_method
from tupate_hub.training.model import build_model, is_head, tuned_state
from tupate_hub.training.record import to_embedding
from tupate_hub.training.regime import Regime
from tupate_hub.training.tuner import tune

BASE_ID = "acme/toy-bert"
SHORT = Regime(steps=3, batch_size=8, learning_rate=1e-2, evaluations=1, max_length=32, early=(0.5,))
#: Kept in no library's format: the biases are the base model's, and the heads' adapters are this project's.
OWN = ("bitfit", "multihead-parallel")
VARIANTS = [
    *((name, {}) for name in METHODS),
    ("lora", {"r": 3, "alpha": 12, "targets": ["key", "value"]}),
    ("lora", {"r": 3, "alpha": 3, "targets": ["intermediate", "output"]}),
    ("prefix", {"tokens": 3, "reparametrise": True}),
    ("parallel", {"r": 4, "on": "attention"}),
    ("scaled-parallel", {"r": 4, "scaling": "learned"}),
    ("scaled-parallel", {"r": 4, "on": "attention", "scaling": 2.0}),
    ("mam", {"tokens": 2, "r": 4, "scaling": "learned"}),
]
IDS = [f"{name}-{'-'.join(map(str, settings.values()))}" for name, settings in VARIANTS]
BESIDE, AFTER = "output", "attention.output"
QUERY_VALUE = ("attention.self.query", "attention.self.value")
PREFIX = ("keys", "values")


@pytest.fixture(scope="module")
def run(base, load):
    """`run("prefix", tokens=3)` is a short run of a method on a toy task, made once."""

    @cache
    def make(name, written, task="toy_classes", seed=0):
        method = get_method(name, **json.loads(written))
        regime = Regime(**{**SHORT.__dict__, "init_seed": seed})
        return tune(base, load(task), method, regime)

    return lambda name, task="toy_classes", seed=0, **settings: make(name, json.dumps(settings), task, seed)


@pytest.fixture(scope="module")
def embedded(run):
    """The same, as an embedding."""

    def make(name, **given):
        result = run(name, **given)
        return to_embedding(result, BASE_ID)

    return make


def fresh(base, load, name, task="toy_classes", seed=0, **settings):
    return build_model(base, load(task), get_method(name, **settings), seed)


def of_method(model):
    return {name: value for name, value in tuned_state(model).items() if not is_head(name)}


def with_result(model, result, relative):
    """The model with a run's parameters."""
    given = {name: torch.tensor(value) for name, value in {**result.tensors, **result.head}.items()}
    origin = tuned_state(model) if relative else {}
    moved = {
        name: value + origin[name] if name in origin and not is_head(name) else value for name, value in given.items()
    }
    assert not model.load_state_dict(moved, strict=False).unexpected_keys
    return model.eval()


def batch_of(load, tokenizer, task="toy_classes", rows=6):
    data = load(task)
    return collate(encode(tokenizer, data.kind, data.train[:rows], 32), tokenizer.pad_token_id)


# --- the catalogue ----------------------------------------------------------------------------------------------


def test_the_methods_of_the_unified_view_are_there():
    assert set(METHODS) == {
        "prompt", "prefix", "bitfit", "lora", "adapter", "adapter-houlsby", "parallel", "scaled-parallel",
        "multihead-parallel", "mam", "ia3",
    }  # fmt: skip
    assert all(name == method.name for name, method in METHODS.items())


def test_lora_is_what_the_zoo_was_tuned_with():
    assert dict(get_method("lora").settings) == {"r": 8, "alpha": 16, "targets": ["query", "value"]}
    assert not get_method("lora").regime


def test_a_method_s_regime_has_fields_of_a_regime():
    for method in METHODS.values():
        assert set(method.regime) <= set(REGIME.__dict__)


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(UnknownName, match="'houlsby'") as caught:
        get_method("houlsby")
    assert all(name in caught.value.hint for name in METHODS)


def test_an_unknown_setting_lists_the_known_ones():
    with pytest.raises(UnknownName, match="adapter has no setting 'alpha'") as caught:
        get_method("adapter", alpha=3)
    assert caught.value.hint == "its settings: r"
    with pytest.raises(UnknownName) as caught:
        get_method("ia3", r=3)
    assert caught.value.hint == "its settings: none"


def test_settings_change_one_method_and_not_the_catalogue():
    changed = get_method("lora", r=3)
    assert dict(changed.settings) == {"r": 3, "alpha": 16, "targets": ["query", "value"]}
    assert METHODS["lora"].settings["r"] == 8
    assert changed.put is METHODS["lora"].put


# --- what is put into the model ---------------------------------------------------------------------------------

PLACES = {
    "lora-": QUERY_VALUE,
    "lora-3-12-['key', 'value']": ("attention.self.key", "attention.self.value"),
    "lora-3-3-['intermediate', 'output']": ("intermediate.dense", "output.dense"),
    "prefix-": PREFIX,
    "prefix-3-True": PREFIX,
    "adapter-": (BESIDE,),
    "adapter-houlsby-": (AFTER, BESIDE),
    "parallel-": (BESIDE,),
    "parallel-4-attention": (AFTER,),
    "scaled-parallel-": (BESIDE,),
    "scaled-parallel-4-learned": (BESIDE,),
    "scaled-parallel-4-attention-2.0": (AFTER,),
    "mam-": (*PREFIX, BESIDE),
    "mam-2-4-learned": (*PREFIX, BESIDE),
    "ia3-": ("attention.self.key", "attention.self.value", "intermediate.dense"),
    "multihead-parallel-": ("attention.self.head.0", "attention.self.head.1"),
    "bitfit-": (
        *(f"attention.self.{one}.bias" for one in ("query", "key", "value")),
        *(f"{one}.{part}.bias" for one in (AFTER, BESIDE) for part in ("dense", "LayerNorm")),
        "intermediate.dense.bias",
    ),
}
FORMS = {
    "lora": {"lowrank"},
    "multihead-parallel": {"lowrank"},
    "prefix": {"rows"},
    "prompt": {"rows"},
    "bitfit": {"bias"},
    "ia3": {"scaling"},
    "mam": {"rows", "bottleneck"},
}


@pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=IDS)
def test_only_the_method_and_the_head_are_tuned(base, load, name, settings):
    model = fresh(base, load, name, **settings)
    plain = {f"bert.{name}" for name, _ in plain_model(base).named_parameters()}
    tuned = set(of_method(model))
    if name == "bitfit":
        assert tuned == {one for one in plain if one.endswith(".bias") and ".pooler." not in one}
    else:
        assert not tuned & plain
    assert {one for one in tuned_state(model) if is_head(one)} == {"heads.task.1.weight", "heads.task.1.bias"}


def plain_model(base):
    from transformers import BertModel

    return BertModel.from_pretrained(str(base)).eval()


@pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=IDS)
def test_the_blocks_are_named_after_their_places(embedded, name, settings):
    embedding = embedded(name, **settings)
    names = {block.name for block in embedding.blocks}
    if name == "prompt":
        assert names == {"prompt"}
        return
    places = PLACES[f"{name}-{'-'.join(map(str, settings.values()))}"]
    expected = {f"{stem(place)}.{layer}.{place}" for layer in range(LAYERS) for place in places}
    assert names == (expected | {"embeddings.LayerNorm.bias"} if name == "bitfit" else expected)


def stem(place):
    return "layer" if place in PREFIX else "encoder.layer"


@pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=IDS)
def test_the_blocks_have_the_method_s_form(embedded, name, settings):
    embedding = embedded(name, **settings)
    assert embedding.space.method == name
    assert {block.form for block in embedding.blocks} == FORMS.get(name, {"bottleneck"})
    assert all(np.isfinite(part).all() for block in embedding.blocks for part in block.parts.values())


def test_sizes_are_the_settings_sizes(embedded):
    (prompt,) = embedded("prompt", tokens=3).blocks
    assert prompt.parts["rows"].shape == (3, WIDTH)
    assert {block.parts["rows"].shape for block in embedded("prefix", tokens=3, reparametrise=True).blocks} == {
        (3, WIDTH)
    }
    assert {block.parts["down"].shape for block in embedded("adapter", r=5).blocks} == {(5, WIDTH)}
    assert {block.parts["A"].shape for block in embedded("multihead-parallel", tokens=3).blocks} == {(3, WIDTH // 2)}


@pytest.mark.parametrize(
    ("name", "settings", "scales"),
    [
        ("lora", {}, {2.0}),
        ("lora", {"r": 3, "alpha": 12, "targets": ["key", "value"]}, {4.0}),
        ("parallel", {}, {1.0}),
        ("scaled-parallel", {}, {4.0}),
        ("mam", {}, {1.0, 4.0}),
    ],
)
def test_scales_come_along(embedded, name, settings, scales):
    assert {block.scale for block in embedded(name, **settings).blocks} == scales


def test_a_learned_scale_is_each_block_s_own(run, embedded):
    learned = {"r": 4, "scaling": "learned"}
    tensors = run("scaled-parallel", **learned).tensors
    written = sorted(float(value[0]) for name, value in tensors.items() if name.endswith(".scaling"))
    assert sorted(block.scale for block in embedded("scaled-parallel", **learned).blocks) == written
    assert len(written) == LAYERS
    assert any(value != 1.0 for value in written)


# --- where it starts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lora", "adapter", "adapter-houlsby", "parallel", "scaled-parallel", "ia3", *OWN])
def test_a_fresh_model_computes_what_the_base_model_computes(base, load, tokenizer, name):
    inputs = {key: value for key, value in batch_of(load, tokenizer).items() if key != "labels"}
    with torch.inference_mode():
        expected = plain_model(base)(**inputs).last_hidden_state
        given = fresh(base, load, name).eval().bert(**inputs).last_hidden_state
    torch.testing.assert_close(given, expected)


@pytest.mark.parametrize("name", ["prefix", "mam"])
def test_a_flat_prefix_starts_as_far_from_zero_as_its_settings_say(base, load, name):
    (start,) = [value for key, value in of_method(fresh(base, load, name)).items() if key.endswith("control_trans")]
    assert float(start.std()) == pytest.approx(METHODS[name].settings["init"], rel=0.25)


@pytest.mark.parametrize("name", METHODS)
def test_every_task_starts_alike_and_the_seed_decides(base, load, name):
    torch.manual_seed(99)
    first = of_method(fresh(base, load, name))
    torch.manual_seed(5)
    again = of_method(fresh(base, load, name, "toy_spans"))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    other = of_method(fresh(base, load, name, seed=1))
    differs = any(not torch.equal(value, other[key]) for key, value in first.items())
    assert differs == (name not in ("bitfit", "ia3"))  # these start from the base model itself


def test_the_upper_half_of_a_bottleneck_starts_at_zero(base, load):
    for name in ("adapter", "adapter-houlsby", "parallel", "scaled-parallel", "mam"):
        state = of_method(fresh(base, load, name))
        upper = [value for key, value in state.items() if ".adapter_up." in key]
        lower = [value for key, value in state.items() if key.endswith(".adapter_down.0.weight")]
        assert upper and not any(torch.count_nonzero(value) for value in upper)
        assert lower and all(torch.count_nonzero(value) for value in lower)


# --- what it learns ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=IDS)
def test_three_steps_move_it(base, load, run, name, settings):
    result = run(name, **settings)
    start = of_method(fresh(base, load, name, **settings))
    assert result.tensors.keys() == start.keys()
    moved = [
        key
        for key, value in result.tensors.items()
        if not np.array_equal(value, np.zeros_like(value) if name == "bitfit" else start[key].half().float().numpy())
    ]
    assert len(moved) >= len(start) / 2
    assert result.record.settings == {**get_method(name, **settings).settings, "init_seed": 0}
    assert np.isfinite(result.record.final_loss)


@pytest.mark.parametrize("name", METHODS)
def test_a_task_is_most_like_itself(embedded, name):
    for similarity in available(has_input_covariance=False):
        pair = pack([embedded(name), embedded(name, task="toy_numbers")], similarity)
        scores = kernel(pair, pair).scores()
        np.testing.assert_allclose(np.diag(scores), 1, atol=1e-5)
        assert abs(scores[0, 1]) < 1 - 1e-6


@pytest.mark.parametrize("name", METHODS)
def test_the_file_gives_the_embedding_back(embedded, name):
    embedding = embedded(name)
    again = parse_embedding(embedding.to_bytes(), name)
    assert_same(again.blocks, embedding.blocks)
    assert again.to_bytes() == embedding.to_bytes()
    json.dumps(embedding.facts, allow_nan=False)


def assert_same(blocks, others):
    assert [block.name for block in blocks] == [block.name for block in others]
    for one, other in zip(blocks, others, strict=True):
        assert one.scale == pytest.approx(other.scale, rel=1e-6)
        assert one.parts.keys() == other.parts.keys()
        for part, array in one.parts.items():
            np.testing.assert_allclose(array, other.parts[part], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", METHODS)
def test_early_checkpoints_are_embeddings_of_the_same_places(run, embedded, name):
    result = run(name)
    (share,) = result.early
    early = to_embedding(result, BASE_ID, share=share)
    assert [block.name for block in early.blocks] == [block.name for block in embedded(name).blocks]


@pytest.mark.parametrize(
    ("name", "settings"), [one for one in VARIANTS if one[0] not in OWN],
    ids=[one for one in IDS if not one.startswith(OWN)],
)  # fmt: skip
def test_what_the_library_saves_reads_as_the_same_embedding(base, load, run, embedded, tmp_path, name, settings):
    model = with_result(fresh(base, load, name, **settings), run(name, **settings), relative=False)
    model.save_adapter(str(tmp_path), NAME)
    adapter = read_adapter(tmp_path, base=BASE_ID)
    assert adapter.method == name
    embedding = embedded(name, **settings)
    assert_same(adapter.blocks, embedding.blocks)
    read = {key: value for key, value in adapter.settings.items() if key != "version"}
    assert read == {key: embedding.facts["settings"][key] for key in read}


@pytest.mark.parametrize("name", OWN)
def test_what_no_library_has_is_not_said_to_be_of_one(run, name):
    assert run(name).layout.saved_config == {}


def test_bitfit_s_blocks_are_differences_from_the_base_model(base, load, run, embedded):
    tuned = with_result(fresh(base, load, "bitfit"), run("bitfit"), relative=True).bert.state_dict()
    stored = plain_model(base).state_dict()
    for block in embedded("bitfit").blocks:
        np.testing.assert_allclose(
            stored[block.name].numpy() + block.parts["bias"], tuned[block.name].numpy(), atol=1e-6
        )
    weights = [name for name in stored if not name.endswith(".bias")]
    assert weights and all(torch.equal(stored[name], tuned[name]) for name in weights)


@pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=IDS)
def test_the_result_scores_as_it_was_scored(base, load, run, tokenizer, name, settings):
    """A model that starts from the result's tensors has the figure that the run reports."""
    from tupate_hub.training.model import predict
    from tupate_hub.training.scoring import gold_labels, score

    data, result = load("toy_classes"), run(name, **settings)
    model = with_result(fresh(base, load, name, **settings), result, relative=METHODS[name].relative)
    features = encode(tokenizer, data.kind, data.validation, SHORT.max_length)
    guesses = predict(model, data, data.validation, features, tokenizer.pad_token_id)
    assert score(data.metric, gold_labels(data, data.validation), guesses) == result.record.scores


# --- a prompt does not move the text ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["prompt", "prefix", "mam"])
def test_spans_stay_where_they_are(base, load, tokenizer, name):
    batch = batch_of(load, tokenizer, "toy_spans")
    model = fresh(base, load, name, "toy_spans").eval()
    with torch.inference_mode():
        output = model(**batch)
    assert output.start_logits.shape == batch["input_ids"].shape
    assert torch.isfinite(output.loss)


@pytest.mark.parametrize("name", ["prompt", "prefix"])
def test_padding_changes_nothing(base, load, tokenizer, name):
    inputs = {key: value for key, value in batch_of(load, tokenizer, rows=1).items() if key != "labels"}
    padded = {key: torch.nn.functional.pad(value, (0, 5)) for key, value in inputs.items()}
    model = fresh(base, load, name).eval()
    with torch.inference_mode():
        torch.testing.assert_close(model(**padded).logits, model(**inputs).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("task", ["toy_spans", "toy_choices"])
def test_every_method_tunes_every_kind(run, name, task):
    result = run(name, task=task)
    assert 0 <= result.record.scores["primary"] <= 1
    assert len(result.tensors) == len(run(name).tensors)
