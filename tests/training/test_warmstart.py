"""Warm start: a run begins by computing what its source computes, and a source that does not fit is told in a sentence."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from toys import LAYERS, REGIME, WIDTH

from tupate_hub.collect.add import add_embeddings, open_or_start
from tupate_hub.embedding import TaskEmbedding, make_block, order_blocks
from tupate_hub.errors import FormatError, SpaceMismatch, TupateHubError, UnknownName
from tupate_hub.space import Space
from tupate_hub.training.batches import collate
from tupate_hub.training.features import encode
from tupate_hub.training.methods import METHODS, NAME, get_method
from tupate_hub.training.model import build_model
from tupate_hub.training.record import to_embedding
from tupate_hub.training.regime import Setup
from tupate_hub.training.tuner import trace, tune
from tupate_hub.training.warmstart import find_source, method_of, starting_tensors

BASE_ID = "acme/toy-bert"
SHORT = dataclasses.replace(REGIME, steps=8, evaluations=1)
QUERY = "encoder.layer.0.attention.self.query"
#: Sizes and places other than a method's own.
VARIANTS = [
    ("lora", {}),
    ("lora", {"r": 3, "alpha": 5, "targets": ["key", "value"]}),
    ("lora", {"r": 2, "targets": ["intermediate", "output"]}),
    ("prefix", {"tokens": 5}),
    ("bitfit", {}),
    ("prompt", {"tokens": 3}),
    ("adapter", {"r": 4}),
    ("adapter-houlsby", {"r": 3}),
    ("parallel", {"r": 5, "on": "attention"}),
    ("scaled-parallel", {"r": 4, "scaling": 2.0}),
    ("multihead-parallel", {"tokens": 4}),
    ("mam", {"tokens": 3, "r": 5}),
    ("ia3", {}),
]


@pytest.fixture(scope="session")
def source(base, load):
    """`source(method)` is a short run of toy_classes: its result and its embedding."""

    def make(method):
        result = tune(base, load("toy_classes"), method, SHORT)
        return result, to_embedding(result, BASE_ID)

    return make


def states(base, data, tokenizer, method, tensors):
    """What the encoder makes of a few texts with these tuned parameters."""
    model = build_model(base, data, method, 7)
    own = dict(model.named_parameters())
    state = {
        name: torch.tensor(array) + (own[name].detach() if method.relative else 0) for name, array in tensors.items()
    }
    assert not model.load_state_dict(state, strict=False).unexpected_keys
    model.delete_head(NAME)
    batch = collate(encode(tokenizer, "classification", data.train[:5], 32), tokenizer.pad_token_id)
    with torch.no_grad():
        return model.eval()(**{name: value for name, value in batch.items() if name != "labels"}).last_hidden_state


@pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=str)
def test_a_run_begins_with_what_its_source_computes(base, load, tokenizer, source, name, settings):
    result, embedding = source(get_method(name, **settings))
    method = method_of(embedding)
    assert {key: method.settings[key] for key in settings} == settings
    data = load("toy_numbers")
    start = starting_tensors(base, data, method, 7, embedding)
    ours = states(base, data, tokenizer, method, start)
    theirs = states(base, load("toy_classes"), tokenizer, get_method(name, **settings), result.tensors)
    texts = [row["text_a"] for row in data.train[:5]]
    assert texts != [row["text_a"] for row in load("toy_classes").train[:5]]
    again = states(base, dataclasses.replace(load("toy_classes"), train=data.train), tokenizer, method, result.tensors)
    torch.testing.assert_close(ours, again, rtol=0, atol=0)
    assert ours.shape != theirs.shape or not torch.equal(ours, theirs)  # the texts matter


def test_tuning_goes_on_from_there(base, load, source):
    result, embedding = source(get_method("lora"))
    data = load("toy_numbers")
    start = starting_tensors(base, data, get_method("lora"), 0, embedding)
    first = next(iter(trace(base, data, get_method("lora"), SHORT, [0.01], setup=Setup(start=start))))
    moved = max(np.abs(first.tensors[name] - array).max() for name, array in result.tensors.items())
    assert first.step == 1
    assert 0 < moved < 0.05  # one step of Adam moves a number by its learning rate at most


def test_a_better_start_is_worth_steps(base, load, tuned):
    """The same task again: what took 40 steps is there after a few."""
    embedding = to_embedding(tuned("toy_classes"), BASE_ID)
    data = load("toy_classes")
    start = starting_tensors(base, data, get_method("lora"), 0, embedding)
    few = dataclasses.replace(REGIME, steps=8, evaluations=1)
    warm = tune(base, data, get_method("lora"), few, setup=Setup(start=start)).record
    cold = tune(base, data, get_method("lora"), few).record
    assert warm.scores["primary"] >= cold.scores["primary"] + 0.1


def test_another_start_is_another_run(base, load, source, tmp_path):
    class Stop(Exception):
        pass

    def until_5(steps, total):
        for step in steps:
            if step == 5:
                raise Stop
            yield step

    data, path = load("toy_numbers"), tmp_path / "checkpoint.pt"
    plan = dataclasses.replace(REGIME, steps=8, evaluations=4)
    start = starting_tensors(base, data, get_method("lora"), 0, source(get_method("lora"))[1])
    with pytest.raises(Stop):
        tune(base, data, get_method("lora"), plan, setup=Setup(start=start), checkpoint=path, progress=until_5)
    begun = []

    def noting(steps, total):
        begun.append(steps.start)
        return steps

    tune(base, data, get_method("lora"), plan, checkpoint=path, progress=noting)
    assert begun == [0]
    with pytest.raises(Stop):
        tune(base, data, get_method("lora"), plan, setup=Setup(start=start), checkpoint=path, progress=until_5)
    resumed = tune(base, data, get_method("lora"), plan, setup=Setup(start=start), checkpoint=path, progress=noting)
    assert begun == [0, 4]
    whole = tune(base, data, get_method("lora"), plan, setup=Setup(start=start))
    for name, array in whole.tensors.items():
        np.testing.assert_array_equal(resumed.tensors[name], array)


# ---- adapters from elsewhere -----------------------------------------------------------------------------------------


def test_a_stranger_s_adapter_is_a_start(base, load, tokenizer, tmp_path):
    """Saved by PEFT itself, read from its folder: the run begins with what the PEFT model computes."""
    peft = pytest.importorskip("peft")
    from transformers import BertModel

    config = peft.LoraConfig(r=5, lora_alpha=20, target_modules=["key", "value"], init_lora_weights=False)
    torch.manual_seed(3)
    theirs = peft.get_peft_model(BertModel.from_pretrained(str(base)), config).eval()
    theirs.peft_config["default"].base_model_name_or_path = BASE_ID
    theirs.save_pretrained(str(tmp_path / "theirs"), save_embedding_layers=False)
    zoo = open_or_start(tmp_path / "zoo")
    source = find_source(zoo, str(tmp_path / "theirs"), method=None, space=None, base=None)
    method = method_of(source)
    assert dict(method.settings) == {"r": 5, "alpha": 20, "targets": ["key", "value"]}
    data = load("toy_numbers")
    ours = states(base, data, tokenizer, method, starting_tensors(base, data, method, 0, source))
    batch = collate(encode(tokenizer, "classification", data.train[:5], 32), tokenizer.pad_token_id)
    with torch.no_grad():
        expected = theirs(**{name: value for name, value in batch.items() if name != "labels"}).last_hidden_state
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_another_scale_is_put_into_the_numbers(base, load, tokenizer):
    """A source of one scale in a run of another: B takes the difference."""
    source = lora_source(scale=3.0)
    data = load("toy_numbers")
    own = starting_tensors(base, data, method_of(source), 0, source)
    other = get_method("lora", r=2, alpha=2, targets=["query"])
    ours = states(base, data, tokenizer, other, starting_tensors(base, data, other, 0, source))
    torch.testing.assert_close(ours, states(base, data, tokenizer, method_of(source), own), rtol=0, atol=1e-4)


def lora_source(rank=2, scale=2.0, names=None, width=WIDTH, **facts):
    rng = np.random.default_rng(5)
    names = names or [f"encoder.layer.{n}.attention.self.query" for n in range(LAYERS)]
    blocks = [
        make_block(name, {"A": rng.standard_normal((rank, width)), "B": rng.standard_normal((width, rank))}, scale)
        for name in names
    ]
    return TaskEmbedding("theirs", Space(BASE_ID, "lora"), order_blocks(blocks), facts)


def test_layers_that_a_source_left_alone_start_unchanged(base, load, tokenizer):
    source = lora_source(names=[QUERY])
    data, method = load("toy_numbers"), method_of(lora_source(names=[QUERY]))
    start = starting_tensors(base, data, method, 0, source)
    second = [array for name, array in start.items() if "layer.1." in name and name.endswith("lora_B")]
    assert second and not any(array.any() for array in second)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"r": 4}, r"'encoder.layer.0.attention.self.query' of theirs is A \(2, 32\).* the run's is A \(4, 32\)"),
        ({"targets": ["value"]}, r"theirs changes 'encoder.layer.0.attention.self.query' \(2 such\)"),
    ],
)
def test_sizes_that_do_not_fit_are_told_in_one_sentence(base, load, changes, says):
    source = lora_source()
    method = get_method("lora", **{"r": 2, "alpha": 4, "targets": ["query"], **changes})
    with pytest.raises(FormatError, match=says) as caught:
        starting_tensors(base, load("toy_numbers"), method, 0, source)
    assert "\n" not in caught.value.message and caught.value.hint


def test_another_width_is_another_model(base, load):
    with pytest.raises(FormatError, match=r"A \(2, 64\).* the run's is A \(2, 32\)"):
        source = lora_source(width=64)
        starting_tensors(base, load("toy_numbers"), method_of(source), 0, source)


def test_another_method_is_refused(base, load):
    with pytest.raises(SpaceMismatch, match="tuned by lora, the run is by prefix") as caught:
        starting_tensors(base, load("toy_numbers"), get_method("prefix"), 0, lora_source())
    assert caught.value.hint == "`method='lora'`"


def test_a_reparametrised_prefix_has_no_place_for_one(base, load, source):
    _, embedding = source(get_method("prefix", tokens=4))
    method = get_method("prefix", tokens=4, reparametrise=True)
    with pytest.raises(FormatError, match="reparametrised") as caught:
        starting_tensors(base, load("toy_numbers"), method, 0, embedding)
    assert caught.value.hint == "leave out `reparametrise`"


def test_a_reparametrised_source_starts_a_flat_prefix(base, load, tokenizer, source):
    _, embedding = source(get_method("prefix", tokens=4, reparametrise=True))
    method = method_of(embedding)
    assert method.settings["reparametrise"] is False
    start = starting_tensors(base, load("toy_numbers"), method, 0, embedding)
    assert sum(array.size for array in start.values()) == 4 * 2 * LAYERS * WIDTH


def test_a_prefix_without_a_layer_is_no_start(base, load, source):
    _, embedding = source(get_method("prefix", tokens=4))
    half = dataclasses.replace(embedding, blocks=embedding.blocks[:2])
    with pytest.raises(FormatError, match=r"has no 'layer\.1\.keys' \(2 such\)"):
        starting_tensors(base, load("toy_numbers"), get_method("prefix", tokens=4), 0, half)


@pytest.mark.parametrize(
    ("source_of", "says"),
    [
        (lambda: lora_source(names=[QUERY, "pooler.dense"]), "adapts 'pooler.dense', where no run here can"),
        (
            lambda: dataclasses.replace(lora_source(), space=Space(BASE_ID, "unipelt")),
            "Unknown tuning method 'unipelt'",
        ),
        (
            lambda: dataclasses.replace(lora_source(), blocks=(lora_source().blocks[0], lora_source(rank=3).blocks[1])),
            "no single rank to start from: 2, 3",
        ),
        (
            lambda: dataclasses.replace(
                lora_source(), blocks=(lora_source().blocks[0], lora_source(scale=1.0).blocks[1])
            ),
            "no single scale to start from: 1.0, 2.0",
        ),
    ],
)
def test_a_source_that_no_run_can_hold(source_of, says):
    with pytest.raises(TupateHubError, match=says):
        method_of(source_of())


def test_a_bottleneck_of_another_activation_is_refused(source):
    _, embedding = source(get_method("adapter", r=3))
    swish = {**embedding.facts, "settings": {**embedding.facts["settings"], "non_linearity": "swish"}}
    with pytest.raises(FormatError, match="activation 'swish'"):
        method_of(dataclasses.replace(embedding, facts=swish))
    assert method_of(embedding).settings["r"] == 3


# ---- where a source is found -----------------------------------------------------------------------------------------


@pytest.fixture
def zoo(tmp_path):
    """Two tasks by LoRA, one of them by prefix as well, and one task on another base model."""
    rng = np.random.default_rng(1)
    rows = order_blocks([make_block("layer.0.keys", {"rows": rng.standard_normal((3, 4))})])
    facts = {"source": {"kind": "file"}}
    embeddings = [dataclasses.replace(lora_source(**facts), task=task) for task in ("films", "books")]
    embeddings.append(TaskEmbedding("films", Space(BASE_ID, "prefix"), rows, facts))
    elsewhere = dataclasses.replace(lora_source(**facts), task="songs", space=Space("acme/other", "lora"))
    zoo = open_or_start(tmp_path / "zoo")
    return add_embeddings(zoo, [(tmp_path, one) for one in (*embeddings, elsewhere)])[0]


def test_a_task_is_found_by_any_spelling(zoo):
    found = find_source(zoo, "FILMS", method=None, space=None, base=None)
    assert (found.task, found.space) == ("films", Space(BASE_ID, "lora"))


@pytest.mark.parametrize(
    ("asked", "space"),
    [
        ({"method": "prefix"}, Space(BASE_ID, "prefix")),
        ({"space": "toy-bert/prefix"}, Space(BASE_ID, "prefix")),
        ({"base": BASE_ID, "method": "lora"}, Space(BASE_ID, "lora")),
    ],
)
def test_the_space_that_was_asked_for(zoo, asked, space):
    assert find_source(zoo, "films", **{"method": None, "space": None, "base": None, **asked}).space == space


def test_a_task_that_another_space_has_alone(zoo):
    assert find_source(zoo, "songs", method=None, space=None, base=None).space.base == "acme/other"


def test_an_unknown_task_gets_the_nearest(zoo):
    with pytest.raises(UnknownName, match="'fils'") as caught:
        find_source(zoo, "fils", method=None, space=None, base=None)
    assert "films" in caught.value.hint


def test_a_task_that_the_space_has_not(zoo):
    with pytest.raises(UnknownName, match="no embedding in space"):
        find_source(zoo, "songs", method=None, space="toy-bert/prefix", base=None)


def test_a_path_that_holds_nothing(zoo, tmp_path):
    with pytest.raises(FormatError, match="does not exist"):
        find_source(zoo, str(tmp_path / "nowhere"), method=None, space=None, base=None)


def test_an_embedding_file_is_a_source_too(zoo, tmp_path):
    (tmp_path / "mine.safetensors").write_bytes(lora_source().to_bytes("float32"))
    found = find_source(zoo, str(tmp_path / "mine.safetensors"), method=None, space=None, base=None)
    assert found.task == "theirs"
    shutil.rmtree(zoo.root)  # the zoo was not needed


def test_several_are_blended_in_the_space_of_the_first(zoo):
    found = find_source(zoo, "films+books", method=None, space=None, base=None)
    assert (found.task, found.space, found.facts["blend"]["of"]) == (
        "films+books", Space(BASE_ID, "lora"), ["films", "books"],
    )  # fmt: skip
    with pytest.raises(SpaceMismatch, match="songs is lora on acme/other: they do not blend"):
        find_source(zoo, "films+songs", method=None, space=None, base=None)
    with pytest.raises(FormatError, match="prefix has no average"):
        find_source(zoo, "films+films", method="prefix", space=None, base=None)


def test_an_adapter_that_names_its_base_keeps_it_in_a_blend(zoo, tmp_path):
    """The base model of the first is not put in the place of its own."""
    peft = pytest.importorskip("peft")
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, vocab_size=20))
    theirs = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["query"], init_lora_weights=False))
    theirs.peft_config["default"].base_model_name_or_path = "acme/third"
    theirs.save_pretrained(str(tmp_path / "theirs"), save_embedding_layers=False)
    with pytest.raises(SpaceMismatch, match="theirs is lora on acme/third: they do not blend"):
        find_source(zoo, f"films+{tmp_path / 'theirs'}", method=None, space=None, base=None)


def test_every_method_but_none_is_covered():
    assert {name for name, _ in VARIANTS} == set(METHODS)
