"""Extras: packages that only some of the work needs, and the command that installs them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec

from tupate_hub.errors import TupateHubError

#: What each extra of pyproject.toml brings, by the names under which it is imported.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "train": ("torch", "transformers", "adapters", "sklearn", "scipy"),
    "data": ("datasets", "pyarrow"),
    "peft": ("peft", "torch"),
    "cluster": ("ray",),
    "scale": ("usearch",),
}


def is_installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return sys.modules.get(package) is not None or find_spec(package) is not None


def install_command(extra: str) -> str:
    """What to type to install an extra.

    >>> install_command("data")
    "pip install 'tupate-hub[data]'"
    """
    return f"pip install 'tupate-hub[{extra}]'"


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
