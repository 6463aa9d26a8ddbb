"""Checkpoint: a state comes back as it was, to its own run alone, and the file is never half-written."""

import pytest
import torch

from tupate_hub.errors import FormatError, TupateHubError
from tupate_hub.training.checkpoint import Checkpoint

STATE = {
    "done": 3,
    "losses": [0.5, 0.25],
    "early": {"0.1": {"layer.A": torch.arange(4.0)}},
    "best": {"score": 0.5, "step": 2, "state": {"layer.A": torch.ones(2, 2)}},
    "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
}


def test_a_state_comes_back(tmp_path):
    Checkpoint(tmp_path / "run" / "checkpoint.pt", "mine").save(STATE)
    state = Checkpoint(tmp_path / "run" / "checkpoint.pt", "mine").load()
    assert state.pop("fingerprint") == "mine"
    assert state.keys() == STATE.keys()
    assert (state["done"], state["losses"]) == (3, [0.5, 0.25])
    torch.testing.assert_close(state["early"], STATE["early"], rtol=0, atol=0)
    torch.testing.assert_close(state["best"]["state"], STATE["best"]["state"], rtol=0, atol=0)
    assert state["optimizer"] == STATE["optimizer"]


def test_another_run_s_file_counts_as_none(tmp_path):
    path = tmp_path / "checkpoint.pt"
    Checkpoint(path, "mine").save(STATE)
    assert Checkpoint(path, "yours").load() is None
    assert Checkpoint(path, "mine").load() is not None


def test_no_file_counts_as_none(tmp_path):
    assert Checkpoint(tmp_path / "checkpoint.pt", "mine").load() is None


def test_the_last_state_wins_and_nothing_else_is_left(tmp_path):
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", "mine")
    for done in (1, 2):
        checkpoint.save({**STATE, "done": done})
    assert checkpoint.load()["done"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_without_a_path_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = Checkpoint(None, "mine")
    checkpoint.save(STATE)
    assert checkpoint.load() is None
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_is_forgotten_twice_without_harm(tmp_path):
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", "mine")
    checkpoint.save(STATE)
    checkpoint.remove()
    assert checkpoint.load() is None
    checkpoint.remove()


class Attack:
    """An object whose unpickling would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("content", [b"", b"precious notes", b"PK\x03\x04 torn", None])
def test_a_foreign_file_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content) if content is not None else torch.save([1, 2], path)
    before = path.read_bytes()
    with pytest.raises(FormatError, match="is not a checkpoint") as caught:
        Checkpoint(path, "mine").load()
    assert "another file" in caught.value.hint
    assert path.read_bytes() == before


def test_a_hostile_file_is_refused_before_it_runs(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"fingerprint": "mine", "x": Attack(tmp_path / "ran")}, path)
    with pytest.raises(FormatError):
        Checkpoint(path, "mine").load()
    assert not (tmp_path / "ran").exists()


def test_a_place_that_cannot_be_written_is_told_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TupateHubError, match="file"):
        Checkpoint(tmp_path / "file" / "checkpoint.pt", "mine").save(STATE)
