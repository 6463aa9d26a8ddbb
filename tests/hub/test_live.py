"""Against the real Hub, for whoever has a network: `TUPATE_HUB_LIVE=1 python -m pytest tests/hub/test_live.py`.

Pushing needs `TUPATE_HUB_LIVE_TOKEN`, which may write, and `TUPATE_HUB_LIVE_REPO`, an OWNER/NAME that the test may fill.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tupate_hub import Zoo

pytestmark = [
    pytest.mark.skipif(os.environ.get("TUPATE_HUB_LIVE") != "1", reason="asks the real Hub: set TUPATE_HUB_LIVE=1"),
    pytest.mark.timeout(600),
]

ADAPTERHUB = "AdapterHub/bert-base-uncased-pf-squad"
PEFT = os.environ.get("TUPATE_HUB_LIVE_PEFT", "ybelkada/opt-350m-lora")
BASE = "bert-base-uncased"


@pytest.fixture
def command(isolated: Path, tmp_path: Path) -> Any:
    """`command("similar", "squad")` runs it as a user does, who has a network and an empty cache; gives what it did."""

    def run(*arguments: str | Path, token: str = "") -> subprocess.CompletedProcess[str]:
        settings = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_TOKEN": token}
        program = [sys.executable, "-m", "tupate_hub", *map(str, arguments)]
        return subprocess.run(program, env=settings, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def answer(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_adapter_of_adapterhub(command: Any, tmp_path: Path) -> None:
    said = answer(command("inspect", ADAPTERHUB, "--json"))
    assert '"method": "bottleneck"' in said or '"bottleneck"' in said
    mine = tmp_path / "mine"
    answer(command("add", ADAPTERHUB, "--registry", mine))
    (entry,) = Zoo.open(mine).registry.entries
    assert entry.task == "squad"
    assert entry.source["repo"] == ADAPTERHUB
    assert len(str(entry.source["revision"])) == 40
    answer(command("add", ADAPTERHUB.replace("squad", "sst2"), "--registry", mine))
    assert "squad" in answer(command("similar", ADAPTERHUB, "--registry", mine)).splitlines()[1]


def test_an_adapter_of_peft(command: Any, tmp_path: Path) -> None:
    assert '"lora"' in answer(command("inspect", PEFT, "--json"))
    answer(command("add", PEFT, "--task", "mine", "--registry", tmp_path / "mine"))
    assert "mine" in answer(command("list", "--registry", tmp_path / "mine"))


def test_a_few_of_what_the_hub_lists(command: Any, tmp_path: Path) -> None:
    asked = ("import", "--author", "AdapterHub", "--base", BASE, "--limit", "5", "--registry", tmp_path / "zoo")
    answer(command(*asked))
    zoo = Zoo.open(tmp_path / "zoo")
    assert zoo.verify() == []
    assert zoo.registry.entries


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("list", "--registry", "hf://datasets/tupate-hub/there-is-no-such-thing"), "or it is private"),
        (("inspect", f"hf://{ADAPTERHUB}@there-is-no-such-revision"), "has no revision"),
        (("inspect", "hf://google-bert/bert-base-uncased"), "does not hold an adapter"),
        (("list", "--registry", "hf://datasets/stanfordnlp/sst2"), "has no registry.json"),
    ],
)
def test_what_is_not_there(asked: tuple[str, ...], words: str, command: Any) -> None:
    done = command(*asked)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_the_bundled_zoo_goes_up_and_comes_back(command: Any) -> None:
    token, name = (os.environ.get(f"TUPATE_HUB_LIVE_{one}", "") for one in ("TOKEN", "REPO"))
    if not (token and name):
        pytest.skip("pushes to the real Hub: set TUPATE_HUB_LIVE_TOKEN and TUPATE_HUB_LIVE_REPO")
    answer(command("push", name, "--private", token=token))
    again = answer(command("push", name, "--json", token=token))
    assert '"added": []' in again
    assert '"changed": []' in again
    assert answer(command("verify", "--registry", name, token=token)) == ""
    local, remote = (answer(command("similar", "sst2", *where, token=token)) for where in ((), ("--registry", name)))
    assert local == remote
