"""A task that a command does not find and `train` has just put into ./tupate-zoo; a task that is alone there."""

import shlex
import shutil

import pytest

from tupate_hub.storage.atomic import write_folder


@pytest.fixture
def beside(toy_zoo, tmp_path, monkeypatch):
    """A folder to work in, with the toy zoo where `train` would put it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(toy_zoo, tmp_path / "tupate-zoo")
    return tmp_path


@pytest.mark.parametrize("verb", ["similar", "show"])
def test_the_hint_is_the_command_that_finds_it(beside, invoke, monkeypatch, verb):
    assert invoke("init", "empty").code == 0
    monkeypatch.setenv("TUPATE_HUB_REGISTRY", str(beside / "empty"))
    result = invoke(verb, "imdb")
    assert result.code == 2
    hint = result.err.splitlines()[-1].strip()
    assert hint == f"it is in ./tupate-zoo: tupate-hub {verb} imdb --registry tupate-zoo"
    assert invoke(*shlex.split(hint.partition(": ")[2])[1:]).code == 0


@pytest.mark.parametrize("arguments", [("similar", "nowhere"), ("similar", "imdb", "--registry", "empty")])
def test_no_hint_where_it_would_not_help(beside, invoke, monkeypatch, arguments):
    assert invoke("init", "empty").code == 0
    monkeypatch.setenv("TUPATE_HUB_REGISTRY", str(beside / "empty"))
    result = invoke(*arguments)
    assert result.code == 2
    assert "it is in ./tupate-zoo" not in result.err


def test_a_damaged_folder_is_no_reason_to_fail_otherwise(beside, invoke):
    (beside / "tupate-zoo" / "registry.json").write_text("{")
    assert "Unknown task 'nowhere'" in invoke("similar", "nowhere").err


def test_a_task_that_is_alone_is_shown_the_way_to_the_bundled_zoo(beside, invoke, adapter):
    write_folder(beside / "mine", adapter)
    assert invoke("add", beside / "mine", "--task", "mine", "--registry", "alone").code == 0
    result = invoke("similar", "mine", "--registry", "alone")
    assert result.code == 0
    assert "there is nothing else here that it compares with" in result.err
    command = shlex.split(result.err.splitlines()[-1])
    assert command[:2] == ["tupate-hub", "similar"] and command[2].endswith("mine.safetensors")
