"""Train: options become a plan, a plan becomes an embedding in a registry; from Python as on the command line."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
from toys import LAYERS, WIDTH

from tupate_hub import Zoo
from tupate_hub.collect.add import open_or_start
from tupate_hub.data.dataset import DataOptions, load_data
from tupate_hub.embedding import read_embedding
from tupate_hub.errors import FormatError, SpaceMismatch, TargetExists, UnknownName
from tupate_hub.registry import Registry
from tupate_hub.runrecord import Regime
from tupate_hub.training.methods import get_method
from tupate_hub.training.train import TrainOptions, plan_training, regime_of, train

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
QUICK = {"steps": 5, "learning_rate": 0.01, "batch_size": 16}


@pytest.fixture
def empty():
    """A zoo that holds nothing."""
    return Zoo(Path("nowhere"), Registry())


@pytest.fixture
def plan(empty, base):
    """`plan(method="prefix")` is what options for the toy base model come to."""
    return lambda **options: plan_training(empty, TrainOptions(**{"base": str(base), **options}))


@pytest.fixture
def trained(tmp_path, plan, load):
    """`trained("toy_classes")` tunes a toy task for a few steps into the registry of the test."""

    def run(task, **options):
        return train(plan(**QUICK, **options), load(task), open_or_start(tmp_path / "zoo"))

    return run


# ---- the example of docs/api.md --------------------------------------------------------------------------------------


def test_the_example_of_the_page(tmp_path, monkeypatch, base, data_folder, capsys):
    (example,) = re.findall(r"```python\n(from .*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    examples = load_data(data_folder, DataOptions(task="toy_classes")).data.train
    lines = [f"{row['text_a']},{('bad', 'good')[row['label']]}\n" for row in examples]
    (tmp_path / "reviews.csv").write_text("review,verdict\n" + "".join(lines))
    (tmp_path / "my-model").symlink_to(base, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example, names)
    assert names["recommendation"].ranking.neighbors[0].task == "reviews"
    assert Zoo.open("tuned").embedding("reviews").blocks[0].parts["A"].shape == (4, WIDTH)
    assert "reviews: step 10/10" in capsys.readouterr().out


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["steps", "epochs", "batch_size"])
@pytest.mark.parametrize("number", [0, -1])
def test_numbers_below_one_are_refused(name, number):
    with pytest.raises(FormatError, match=f"{number} .* is too few") as caught:
        TrainOptions(**{name: number})
    assert f"`{name}=" in caught.value.hint


@pytest.mark.parametrize("rate", [0.0, -1e-3, math.nan, math.inf])
def test_what_is_no_learning_rate_is_refused(rate):
    with pytest.raises(FormatError, match="is not a learning rate"):
        TrainOptions(learning_rate=rate)


@pytest.mark.parametrize("given", [{"precision": "float16"}, {"head": "tuned"}], ids=str)
def test_an_unknown_word_lists_the_known_ones(given):
    (value,) = given.values()
    with pytest.raises(UnknownName, match=repr(value)) as caught:
        TrainOptions(**given)
    assert caught.value.hint in ("known: bfloat16, float32", "known: trained, labels")


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainOptions().steps = 3


# ---- plans -----------------------------------------------------------------------------------------------------------


def test_without_options_it_is_lora_as_it_comes(plan, base):
    found = plan()
    assert (found.method, found.source, found.budget) == (get_method("lora"), None, None)
    assert (found.base.folder, found.space.method) == (base, "lora")
    assert found.space.base == found.base.id


def test_settings_are_the_method_s(plan):
    found = plan(method="prefix", settings={"tokens": 3})
    assert (found.method.name, found.method.settings["tokens"]) == ("prefix", 3)
    with pytest.raises(UnknownName, match="prefix has no setting 'r'"):
        plan(method="prefix", settings={"r": 3})
    with pytest.raises(FormatError, match="wider than the base model"):
        plan(settings={"r": WIDTH + 1})


def test_a_budget_is_told_with_the_plan(plan):
    found = plan(budget="2%")
    assert found.method.settings["r"] == found.budget.settings["r"]
    assert found.budget.parameters == 2 * found.method.settings["r"] * WIDTH * 2 * LAYERS
    assert 0.01 < found.budget.share <= 0.02
    with pytest.raises(FormatError, match="is not a budget") as caught:
        plan(budget="much")
    assert caught.value.hint == "`budget='0.5%'`"
    with pytest.raises(FormatError, match="is not a budget"):
        plan(budget="")


def test_a_source_gives_its_base_its_method_and_its_sizes(trained, base):
    delivery = trained("toy_classes", settings={"r": 3, "alpha": 6})
    source = str(delivery.file)
    found = plan_training(delivery.zoo, TrainOptions(start_from=source, base=str(base)))
    assert (found.source.task, found.method.settings["r"], found.method.settings["alpha"]) == ("toy_classes", 3, 6)
    asked = plan_training(delivery.zoo, TrainOptions(start_from="toy_classes", base=str(base), settings={"r": 2}))
    assert (asked.source.task, asked.method.settings["r"]) == ("toy_classes", 2)
    other = plan_training(delivery.zoo, TrainOptions(start_from=source, base=str(base), method="bitfit"))
    assert (other.source.space.method, other.method.name) == ("lora", "bitfit")


def test_a_source_on_another_base_model_is_refused(base):
    with pytest.raises(SpaceMismatch, match=r"sst2 was tuned on sentence-transformers/.*, not on") as caught:
        plan_training(Zoo.open(), TrainOptions(start_from="sst2", base=str(base), space="all-MiniLM-L6-v2/lora"))
    assert caught.value.hint == "leave out `base`, or start from another"


# ---- regimes ---------------------------------------------------------------------------------------------------------


def test_the_regime_is_the_zoo_s_but_for_what_is_asked(plan):
    usual = Regime(precision="bfloat16", most_epochs=10**6, max_length=64, early=(0.05, 0.1, 0.25, 0.5, 1.0))
    assert regime_of(plan(), "classification") == usual
    asked = {"batch_size": 8, "learning_rate": 0.1, "seed": 7, "precision": "float32"}
    assert regime_of(plan(**asked), "classification") == dataclasses.replace(usual, **asked)
    assert regime_of(plan(batch_size=5), "extractive_qa").batch_size == 5
    assert regime_of(plan(max_length=50, init_seed=3), "extractive_qa").max_length == 50
    assert regime_of(plan(patience=2), "classification").evaluations == 20
    assert regime_of(plan(method="ia3"), "classification").steps == 200


@pytest.mark.parametrize(
    ("asked", "steps", "passes"),
    [({"steps": 7}, 7, 10**6), ({"epochs": 2}, 10**9, 2), ({"steps": 7, "epochs": 2}, 7, 2), ({}, 400, 10**6)],
    ids=str,
)
def test_steps_and_passes(plan, asked, steps, passes):
    regime = regime_of(plan(**asked), "classification")
    assert (regime.steps, regime.most_epochs) == (steps, passes)


def test_more_tokens_than_the_base_model_reads_are_refused(plan):
    with pytest.raises(FormatError, match="reads 64 tokens at most, not 65") as caught:
        regime_of(plan(max_length=65), "classification")
    assert caught.value.hint == "`max_length=64`"


# ---- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_is_delivered_and_its_checkpoint_removed(trained, tmp_path, load):
    delivery = trained("toy_classes")
    assert delivery.embedding.facts["data"]["sha256"] == load("toy_classes").sha256
    assert delivery.embedding.facts["source"] == {
        "kind": "trained", "by": "tupate-hub train", "data_sha256": load("toy_classes").sha256,
    }  # fmt: skip
    assert delivery.record.steps == 5
    assert not list(tmp_path.rglob("checkpoint.pt"))


def test_it_is_told_on_the_way(tmp_path, plan, load):
    lines, pulses, totals = [], [], []

    def progress(steps, total):
        totals.append(total)
        return steps

    target = open_or_start(tmp_path / "zoo")
    train(
        plan(**QUICK),
        load("toy_classes"),
        target,
        progress=progress,
        report=lines.append,
        pulse=lambda step, loss, held_out: pulses.append(step),
    )
    assert (totals, pulses) == ([5], [1, 2, 3, 4, 5])
    assert "toy_classes: step 5/5" in "\n".join(lines)


def test_a_taken_task_is_refused_before_any_work(trained):
    trained("toy_classes")
    with pytest.raises(TargetExists, match="'toy_classes' is in space"):
        trained("toy_classes")
    assert trained("toy_classes", force=True).embedding.task == "toy_classes"


def test_it_starts_from_the_source(trained, tmp_path, base, load):
    """One step of Adam moves a number by its learning rate at most."""
    first = trained("toy_classes")
    options = TrainOptions(start_from="toy_classes", base=str(base), steps=1, learning_rate=1e-4)
    delivery = train(plan_training(first.zoo, options), load("toy_numbers"), open_or_start(tmp_path / "mine"))
    assert delivery.embedding.facts["source"]["start_from"] == "toy_classes"
    source = read_embedding(first.file)
    for block in read_embedding(delivery.file).blocks:
        for part in ("A", "B"):
            np.testing.assert_allclose(block.parts[part], source.by_name[block.name].parts[part], atol=2e-3)
