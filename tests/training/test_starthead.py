"""Start head: a run begins as the source left off, labels in whatever order; what does not fit is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import REGIME, WIDTH

from tupate_hub import Zoo
from tupate_hub.collect.add import open_or_start
from tupate_hub.errors import FormatError
from tupate_hub.head import make_head
from tupate_hub.training.delivery import deliver
from tupate_hub.training.methods import get_method
from tupate_hub.training.options import TrainOptions
from tupate_hub.training.run import Run
from tupate_hub.training.starthead import source_head, starting_head
from tupate_hub.training.train import plan_training, regime_of, setup_of
from tupate_hub.training.tuner import tune


@pytest.fixture(scope="module")
def left(base: Path, load: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    zoo = open_or_start(tmp_path_factory.mktemp("left"))
    for name in ("toy_classes", "toy_numbers"):
        zoo = deliver(zoo, tune(base, load(name), get_method("lora"), replace(REGIME, early=())), base.name, {}).zoo
    return zoo


def before_the_first_step(zoo: Zoo, base: Path, data: Any, start: str) -> float:
    plan = plan_training(zoo, TrainOptions(base=str(base), start_from=start, start_head=True, max_length=32))
    regime = regime_of(plan, data.kind)
    run = Run(plan.base.folder, data, plan.method, regime, setup_of(plan, data, regime), None)
    return float(run.validate()["primary"])


def test_before_its_first_step_a_run_scores_what_the_source_does(left: Zoo, base: Path, load: Any) -> None:
    recorded = {entry.task: entry.scores["primary"] for entry in left.registry.entries}
    data = load("toy_classes")
    turned = replace(
        data,
        label_names=data.label_names[::-1],
        validation=[{**one, "label": 1 - one["label"]} for one in data.validation],
    )
    for one in (data, turned):
        assert before_the_first_step(left, base, one, "toy_classes") == pytest.approx(recorded["toy_classes"], abs=2e-3)
    numbers = load("toy_numbers")
    assert before_the_first_step(left, base, numbers, "toy_numbers") == pytest.approx(recorded["toy_numbers"], abs=2e-3)


def test_an_adapter_s_folder_gives_its_head(left: Zoo, base: Path, load: Any) -> None:
    (folder,) = left.folder.glob("runs/*/lora/toy_classes/adapter")
    found = before_the_first_step(left, base, load("toy_classes"), str(folder))
    assert found == pytest.approx(left.registry.find("toy_classes").scores["primary"], abs=2e-3)


def test_what_does_not_fit_is_said(left: Zoo, load: Any) -> None:
    data = load("toy_classes")
    head = make_head("x", "classification", ("bad", "good"), [(np.ones((2, WIDTH)), np.ones(2))])
    with pytest.raises(FormatError, match="has other labels"):
        starting_head(replace(head, label_names=("no", "yes")), data, WIDTH)
    with pytest.raises(FormatError, match="the data is regression"):
        starting_head(head, load("toy_numbers"), WIDTH)
    with pytest.raises(FormatError, match="another form"):
        starting_head(head, data, WIDTH + 1)
    with pytest.raises(FormatError, match="another form"):
        starting_head(replace(head, pooled=True), data, WIDTH)
    bare = replace(
        left, registry=replace(left.registry, entries=tuple(replace(e, head={}) for e in left.registry.entries))
    )
    source = left.embedding("toy_classes")
    with pytest.raises(FormatError, match="No head is kept with toy_classes"):
        source_head(bare, "toy_classes", source)
    with pytest.raises(FormatError, match="is a blend"):
        source_head(left, "a+b", replace(source, facts={**source.facts, "blend": {}}))
    with pytest.raises(FormatError, match="no head to start from"):
        TrainOptions(start_head=True)


def test_the_hints_name_the_option(left: Zoo, base: Path, invoke: Any, tmp_path: Path) -> None:
    table = tmp_path / "x.csv"
    table.write_text("text,label\n" + "".join(f"word{n} a b,{'xy'[n % 2]}\n" for n in range(60)), encoding="utf-8")
    result = invoke("train", table, "--base", base, "--start-from", "toy_classes", "--start-head", "--steps", "2",
                    "--registry", left.folder, "--to", tmp_path / "zoo")  # fmt: skip
    assert result.code == 2
    assert "has other labels (bad, good) than the data (x, y)" in result.err
    assert "leave out --start-head" in result.err
