"""Extras: what is missing is told by name, with the command that installs it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tupate_hub.errors import TupateHubError
from tupate_hub.extras import EXTRAS, install_command, is_installed, require_extra

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_the_extras_are_those_of_the_project() -> None:
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    declared = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    imported = {"scikit-learn": "sklearn"}
    for extra, packages in EXTRAS.items():
        names = [requirement.partition(">")[0].partition("<")[0] for requirement in declared[extra]]
        assert [imported.get(name, name) for name in names] == list(packages)
    assert set(declared) - set(EXTRAS) == {"dev"}


def test_a_package_is_installed_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_installed("json") and is_installed("numpy")
    assert not is_installed("no_such_package")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert not is_installed("torch")
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))  # as a test puts one in, without a spec
    assert is_installed("torch")


def test_the_first_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in EXTRAS["train"]:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    require_extra("train")
    for name in ("adapters", "scipy"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TupateHubError) as caught:
        require_extra("train")
    assert caught.value.message == "This needs adapters, which is not installed."
    assert caught.value.hint == install_command("train")
    require_extra("train", "torch", "transformers")
