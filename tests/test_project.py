"""The files around the code: one version, one address, workflows and hooks that name what is there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import tupate_hub

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")

ROOT = Path(__file__).parents[1]
HOME = "https://github.com/tupate-hub/tupate-hub"


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(read("pyproject.toml"))
    return found


def test_the_version_is_in_one_place(settings: dict[str, Any]) -> None:
    assert settings["project"]["dynamic"] == ["version"]
    assert settings["tool"]["hatch"]["version"]["path"] == "tupate_hub/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", tupate_hub.__version__)
    assert "version" not in yaml.safe_load(read("CITATION.cff"))
    newest = re.search(r"^## (\S+?),? ", read("CHANGELOG.md"), flags=re.MULTILINE)
    assert newest is not None
    assert newest[1] == tupate_hub.__version__


def test_the_project_has_one_address(settings: dict[str, Any]) -> None:
    assert all(url.startswith(HOME) for url in settings["project"]["urls"].values())
    assert yaml.safe_load(read("CITATION.cff"))["repository-code"] == HOME
    for page in ("SECURITY.md", "docs/release.md", ".github/ISSUE_TEMPLATE/config.yml"):
        assert f"{HOME}" in read(page)


def test_what_urls_say_of_the_checkout_is_true(settings: dict[str, Any]) -> None:
    for url in settings["project"]["urls"].values():
        if found := re.fullmatch(rf"{HOME}/(?:blob|tree)/main/(.+)", url):
            assert (ROOT / found[1]).exists(), url


def test_the_paper_is_cited() -> None:
    (paper,) = yaml.safe_load(read("CITATION.cff"))["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Zhou", "Xu", "McAuley"]
    assert "2210.11705" in paper["url"]


def test_every_version_of_python_is_tried_on_every_system(settings: dict[str, Any]) -> None:
    jobs = yaml.safe_load(read(".github/workflows/test.yml"))["jobs"]
    matrix = jobs["core"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert f">={matrix['python'][0]}" == settings["project"]["requires-python"]
    (lowest,) = [step["with"]["python-version"] for step in jobs["lowest"]["steps"] if "with" in step]
    assert lowest == matrix["python"][0]
    commands = [step.get("run", "") for step in jobs["lowest"]["steps"]]
    assert sum("--resolution lowest-direct" in one for one in commands) == 1


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_every_form_is_yaml(path: Path) -> None:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict) and len(found) >= 2


def test_the_hooks_need_no_torch_and_have_the_project_s_own_bounds(settings: dict[str, Any]) -> None:
    (own,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    hooks = {hook["id"]: hook for hook in own["hooks"]}
    assert set(hooks) == {"ruff", "ruff-format", "mypy", "large-files", "no-torch"}
    allowed = {*settings["project"]["dependencies"], *settings["project"]["optional-dependencies"]["dev"]}
    for name in ("ruff", "ruff-format", "mypy"):
        assert set(hooks[name]["additional_dependencies"]) <= allowed


def test_a_hook_finds_torch_outside_of_its_room() -> None:
    (own,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    (hook,) = [one for one in own["hooks"] if one["id"] == "no-torch"]
    assert re.search(hook["entry"], "    import torch\n", flags=re.MULTILINE)
    assert re.search(hook["entry"], "from transformers import AutoModel", flags=re.MULTILINE)
    assert not re.search(hook["entry"], "from tupate_hub.readers import torchfile", flags=re.MULTILINE)
    files = [
        path for path in ROOT.glob("tupate_hub/**/*.py") if re.search(hook["files"], path.relative_to(ROOT).as_posix())
    ]
    held = [path for path in files if not re.search(hook["exclude"], path.relative_to(ROOT).as_posix())]
    assert 50 < len(held) < len(files)
    for path in held:
        assert not re.search(hook["entry"], path.read_text(encoding="utf-8"), flags=re.MULTILINE), path
