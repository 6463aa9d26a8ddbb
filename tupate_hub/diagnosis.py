"""Diagnosis: what this installation has, and what is missing for which command, with the command that mends it.

Nothing is fetched or written, and packages are told by their metadata alone: torch is imported only to ask for devices.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from tupate_hub import __version__
from tupate_hub.errors import TupateHubError
from tupate_hub.extras import install_base_model, install_command, is_checkout, is_installed

#: Packages by the extra that brings them, "" for the core: what pip calls each, and what Python does.
PACKAGES: tuple[tuple[str, str, str], ...] = (
    ("click", "click", ""),
    ("filelock", "filelock", ""),
    ("huggingface_hub", "huggingface_hub", ""),
    ("numpy", "numpy", ""),
    ("pyyaml", "yaml", ""),
    ("safetensors", "safetensors", ""),
    ("torch", "torch", "train"),
    ("transformers", "transformers", "train"),
    ("adapters", "adapters", "train"),
    ("scikit-learn", "sklearn", "train"),
    ("scipy", "scipy", "train"),
    ("datasets", "datasets", "data"),
    ("pyarrow", "pyarrow", "data"),
    ("peft", "peft", "peft"),
    ("ray", "ray", "cluster"),
    ("usearch", "usearch", "scale"),
)
#: What an extra is for; commands that the core does alone are not among them.
NEEDED_FOR = {
    "": "similar, explain, pull, check, push and all that tunes nothing",
    "train": "train, predict, score, recommend, transfer, stats, subspace tune",
    "data": "data in Parquet files and of the Hub",
    "peft": "loading adapters that pull writes for PEFT",
    "cluster": "making a zoo on a Ray cluster, import and add with one",
    "scale": "searching more than a million embeddings on all cores",
}
_TRAINING = "train"
#: On Linux pip takes the build with CUDA's libraries, some gigabytes of them.
_CPU_BUILD = "without a GPU, install torch's CPU build first, which is far smaller: pytorch.org says how"


@dataclass(frozen=True)
class Package:
    """An installed package, or one that is not: `version` is None then. `wrong` says what is wrong with its version."""

    name: str
    extra: str
    version: str | None
    wrong: str = ""

    @property
    def fits(self) -> bool:
        """Whether it is there in a version that works."""
        return self.version is not None and not self.wrong


@dataclass(frozen=True)
class Cache:
    """A folder where fetched files are kept, the number of its files and their bytes; 0 where it is not there."""

    name: str
    folder: Path
    files: int
    bytes: int


@dataclass(frozen=True)
class Lack:
    """Something that is missing, the commands that need it, what to type, and a word on that where there is one."""

    what: str
    needed_for: str
    command: str
    note: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What `doctor` tells.

    `base` says where the default base model would come from, `registry` which one is read; `checkout` whether the
    package runs from one. `broken` are reasons why the core itself cannot work.
    """

    python: str
    system: str
    packages: tuple[Package, ...]
    cores: int
    threads: str
    devices: tuple[str, ...]
    caches: tuple[Cache, ...]
    base: str
    registry: str
    checkout: bool
    lacks: tuple[Lack, ...]
    broken: tuple[str, ...]
    tupate_hub: str = __version__


def diagnose(registry: str | None = None) -> Diagnosis:
    """Look at this installation; `registry` is one to read, else the environment's or the bundled one."""
    packages = tuple(_packages())
    core = [package for package in packages if not package.extra and not package.fits]
    broken = [f"{one.name} is not installed" if one.version is None else one.wrong for one in core]
    base, registry_told = "unknown", "unknown"
    lacks = [*_missing_extras(packages)]
    unable = bool(broken)
    if not unable:
        base, nowhere = _base()
        lacks += nowhere
        try:
            registry_told = _registry(registry)
        except TupateHubError as error:
            registry_told = error.message
            broken.append(error.message)
    return Diagnosis(
        python=f"{platform.python_version()} ({sys.executable})",
        system=f"{platform.system()} {platform.machine()}",
        packages=packages,
        cores=os.cpu_count() or 1,
        threads=os.environ.get("OMP_NUM_THREADS", ""),
        devices=_devices(packages),
        caches=() if unable else tuple(_caches()),
        base=base,
        registry=registry_told,
        checkout=is_checkout(),
        lacks=tuple(lacks),
        broken=tuple(broken),
    )


# --- packages ---------------------------------------------------------------------------------------------------


def _packages() -> Iterator[Package]:
    wanted = _requirements()
    for name, module, extra in PACKAGES:
        found = None
        if is_installed(module):
            with suppress(PackageNotFoundError):
                found = version(name)
            found = found or "unknown"
        told = wanted.get(_folded(name), "")
        wrong = "" if found is None or _satisfies(found, told) else f"{name} {found} does not fit {name}{told}"
        yield Package(name, extra, found, wrong)


def _requirements() -> dict[str, str]:
    """What versions the installed tupate-hub asks for, by package; nothing where it was not installed by pip."""
    try:
        written = requires("tupate-hub") or []
    except PackageNotFoundError:
        return {}
    parted = (re.match(r"([A-Za-z0-9_.-]+)([^;]*)", one) for one in written)
    return {_folded(match[1]): match[2].strip() for match in parted if match and match[2].strip()}


def _folded(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _satisfies(found: str, wanted: str) -> bool:
    """Whether a version is within bounds such as `<5,>=4.57`; others than `<` and `>=` are not looked at."""
    have = _numbers(found)
    bounds = re.findall(r"(<|>=)(?!=)\s*([0-9][0-9.]*)", wanted)
    return not have or all((have < _numbers(than)) == (sign == "<") for sign, than in bounds)


def _numbers(written: str) -> tuple[int, ...]:
    match = re.match(r"[0-9]+(?:\.[0-9]+)*", written)
    return tuple(map(int, match[0].split("."))) if match else ()


def _missing_extras(packages: tuple[Package, ...]) -> Iterator[Lack]:
    for extra in dict.fromkeys(package.extra for package in packages):
        absent = [package for package in packages if package.extra == extra and not package.fits]
        if absent:
            what = ", ".join(one.wrong or one.name for one in absent)
            command = install_command(extra) if extra else "pip install --upgrade tupate-hub"
            heavy = platform.system() == "Linux" and any(one.name == "torch" and one.version is None for one in absent)
            yield Lack(what, NEEDED_FOR[extra], command, _CPU_BUILD if heavy else "")


# --- places -----------------------------------------------------------------------------------------------------


def _base() -> tuple[str, list[Lack]]:
    """Where the default base model would come from, and the lack of it."""
    from tupate_hub.hub.location import endpoint, offline
    from tupate_hub.training.basemodel import DEFAULT, locate

    folder = locate(DEFAULT)
    if folder is not None:
        return f"{DEFAULT}, in {folder}", []
    command = install_base_model(DEFAULT)
    lack = Lack(f"the base model {DEFAULT}", NEEDED_FOR[_TRAINING], command)
    if offline():
        return f"{DEFAULT}, nowhere: HF_HUB_OFFLINE forbids to fetch it", [lack]
    return f"{DEFAULT}, not on this computer: it would be fetched from {endpoint()}", [lack]


def _registry(written: str | None) -> str:
    from tupate_hub.zoo import ENVIRONMENT, Zoo

    zoo = Zoo.open(written)
    held = zoo.registry
    where = "named here" if written else f"${ENVIRONMENT}" if os.environ.get(ENVIRONMENT) else "the bundled one"
    counts = f"{len(held.entries)} embeddings of {len(held.tasks)} tasks in {len(held.spaces)} spaces"
    return f"{zoo.root} ({where}): {counts}"


def _caches() -> Iterator[Cache]:
    from tupate_hub.hub.cache import cache_root
    from tupate_hub.hub.repository import hub_cache

    for name, folder in (("tupate-hub", cache_root()), ("Hugging Face Hub", hub_cache())):
        yield Cache(name, folder, *_size_of(folder))


def _size_of(folder: Path) -> tuple[int, int]:
    """How many files there are below a folder, and their bytes; a link counts as none of its own."""
    files = size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                status = (Path(place) / name).lstat()
                files, size = files + 1, size + status.st_size
    return files, size


def _devices(packages: tuple[Package, ...]) -> tuple[str, ...]:
    if not any(package.name == "torch" and package.version for package in packages):
        return ()
    try:
        from tupate_hub.training.device import devices
    except (ImportError, OSError) as error:  # a library of another platform
        return (f"none: torch cannot be imported ({str(error)[:100]})",)
    return devices()


def as_facts(found: Diagnosis) -> dict[str, Any]:
    """The diagnosis as JSON has it: `docs/cli.md` lists the fields."""
    return {
        "tupate_hub": found.tupate_hub,
        "checkout": found.checkout,
        "python": found.python,
        "system": found.system,
        "packages": [
            {"package": one.name, "extra": one.extra or None, "version": one.version, "wrong": one.wrong or None}
            for one in found.packages
        ],
        "cores": found.cores,
        "threads": found.threads or None,
        "devices": list(found.devices),
        "caches": [
            {"cache": one.name, "folder": str(one.folder), "files": one.files, "bytes": one.bytes}
            for one in found.caches
        ],
        "base": found.base,
        "registry": found.registry,
        "missing": [
            {"missing": one.what, "needed_for": one.needed_for, "command": one.command, "note": one.note or None}
            for one in found.lacks
        ],
        "broken": list(found.broken),
    }
