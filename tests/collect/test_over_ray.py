"""Over a cluster: two workers read what this machine writes, and one that is killed loses nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from builders import BASE, lora
from loopback import LoopbackHub
from orchards import peft_files, plant, written

from tupate_hub import Zoo
from tupate_hub.collect.add import open_or_start
from tupate_hub.collect.add_all import add_all
from tupate_hub.collect.among import unique_names
from tupate_hub.collect.fetching import Budget
from tupate_hub.collect.import_hub import import_adapters
from tupate_hub.collect.streaming import Wish
from tupate_hub.errors import TupateHubError
from tupate_hub.export import export
from tupate_hub.readers import find_adapters

pytestmark = pytest.mark.timeout(300)  # a cluster starts
COUNT = 30


def orchard(hub: LoopbackHub) -> None:
    for number in range(COUNT):
        plant(
            hub, f"o{number}/task{number}-lora", peft_files(number, f"acme/task{number % 20}"), downloads=100 - number
        )
    plant(hub, "b/zero", peft_files(1, "zero", scale=0.0), downloads=50)


@pytest.fixture
def killed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a worker makes which is then killed, once, in the middle of the seventh adapter."""
    from tupate_hub.collect import fetching, reading

    seen = tmp_path / "seen"

    def dying(work: Any, name: str) -> Any:
        def run(one: Any, *arguments: Any, **named: Any) -> Any:
            if "task7" in str(getattr(one, "id", getattr(one, "path", ""))) and not seen.exists():
                seen.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return work(one, *arguments, **named)

        return run

    monkeypatch.setattr(fetching, "_take_there", dying(fetching._take_there, "id"))
    monkeypatch.setattr(reading, "_read_there", dying(reading._read_there, "path"))
    return seen


@pytest.mark.parametrize("keep", ["sketch", "embedding"])
def test_an_import_over_two_workers_is_that_of_one_process(
    keep: str, hub: LoopbackHub, ray_cluster: str, killed_once: Path, tmp_path: Path
) -> None:
    orchard(hub)
    over = import_adapters(open_or_start(tmp_path / "over"), Wish(BASE, keep, ray=ray_cluster), library="peft")
    assert killed_once.exists()
    here = import_adapters(open_or_start(tmp_path / "here"), Wish(BASE, keep), library="peft")
    assert (len(over.added), over.failed, over.stopped) == (COUNT, (), None)
    assert over.rejected == here.rejected and [one.repository for one in over.rejected] == ["b/zero"]
    assert [(one.task, one.space) for one in over.added] == [(one.task, one.space) for one in here.added]
    assert {one.kept for one in over.added} == {keep}
    if keep != "embedding":  # whose files say whence in more words
        assert over.added == here.added
    assert Zoo.open(tmp_path / "over").registry.tasks == Zoo.open(tmp_path / "here").registry.tasks


def test_a_folder_over_two_workers(ray_cluster: str, killed_once: Path, tmp_path: Path) -> None:
    for number in range(12):
        folder = tmp_path / "downloads" / f"task{number}"
        folder.mkdir(parents=True)
        for name, data in export(lora(f"task{number}", number), "peft", bare=True).items():
            (folder / name).write_bytes(data)
    (tmp_path / "downloads" / "task3" / "adapter_model.safetensors").write_bytes(b"\xff" * 100)
    (tmp_path / "downloads" / "task4" / "adapter_model.safetensors").unlink()
    (tmp_path / "downloads" / "alone.safetensors").write_bytes(lora("alone", 77).to_bytes())
    paths = find_adapters(tmp_path / "downloads")
    both = {}
    for way in (None, ray_cluster):
        zoo = open_or_start(tmp_path / ("here" if way is None else "over"))
        _, both[way] = add_all(zoo, paths, unique_names(paths), base=BASE, ray=way)
    assert killed_once.exists()
    assert both[None] == both[ray_cluster]
    assert len(both[None].added) == 11 and len(both[None].rejected) == 2
    assert written(tmp_path / "here") == written(tmp_path / "over")
    assert Zoo.open(tmp_path / "over").verify() == []


def test_a_budget_ends_it(hub: LoopbackHub, ray_cluster: str, tmp_path: Path) -> None:
    orchard(hub)
    zoo = open_or_start(tmp_path / "mine")
    wish, budget = Wish(BASE, "sketch", ray=ray_cluster), Budget(most_repositories=5)
    result = import_adapters(zoo, wish, library="peft", budget=budget)
    assert (len(result.added), result.left) == (5, COUNT + 1 - 5)


def test_base_weights_do_not_travel(ray_cluster: str, tmp_path: Path) -> None:
    with pytest.raises(TupateHubError, match="do not have the base model's weights"):
        add_all(open_or_start(tmp_path), [tmp_path], ["x"], base_weights=tmp_path, ray=ray_cluster)
