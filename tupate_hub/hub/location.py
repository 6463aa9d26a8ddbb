"""Location: a repository of the Hub as the user writes it, and the Hub's own address."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tupate_hub.errors import FormatError, NoRepository, NotAvailableOffline

DATASET, MODEL, SPACE = "dataset", "model", "space"
PUBLIC = "https://huggingface.co"

_SCHEME = "hf://"
#: What stands before a repository's id, by its kind.
_FOLDERS = {DATASET: "datasets/", SPACE: "spaces/", MODEL: ""}
_PART = r"[A-Za-z0-9](?:[\w.-]{0,94}\w)?"
_SHORT = re.compile(rf"({_PART}/{_PART})(?:@([\w./-]{{1,200}}))?", re.ASCII)
#: The name of a commit.
COMMIT = re.compile(r"[0-9a-f]{40}")
_TRUE = ("1", "ON", "YES", "TRUE")


@dataclass(frozen=True)
class Location:
    """A repository of the Hub: `kind` is `dataset`, `model` or `space`, `revision` a branch, tag or commit, or None."""

    kind: str
    id: str
    revision: str | None = None

    def __str__(self) -> str:
        """As the user may write it."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{_SCHEME}{_FOLDERS[self.kind]}{self.id}{revision}"

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which always stands for the same files."""
        return bool(self.revision and COMMIT.fullmatch(self.revision))

    def at(self, revision: str) -> Location:
        """The same repository at another revision."""
        return replace(self, revision=revision)

    @property
    def page(self) -> str:
        """Its page for people."""
        return f"{endpoint()}/{_FOLDERS[self.kind]}{self.id}"


def parse_location(written: str, kind: str) -> Location | None:
    """What `hf://datasets/OWNER/NAME[@REVISION]`, `hf://OWNER/NAME` or `OWNER/NAME` names; None for anything else.

    A Space is `hf://spaces/OWNER/NAME`. `kind` is what is wanted: `OWNER/NAME` is one of that kind.

    Raises
    ------
    FormatError
        For an `hf://` that names no repository, or one of the other kind.
    """
    explicit = written.startswith(_SCHEME)
    short = written.removeprefix(_SCHEME)
    found = MODEL if explicit else kind
    for other, folder in _FOLDERS.items():
        if explicit and folder and short.startswith(folder):
            short, found = short.removeprefix(folder), other
    match = _SHORT.fullmatch(short)
    if match is None or ".." in short or "--" in match[1]:
        if explicit:
            raise FormatError(
                f"{written!r} names no repository of the Hub.",
                hint=f"write it as {Location(kind, 'OWNER/NAME')}",
            )
        return None
    if found != kind:
        raise FormatError(
            f"{written} is a {found} repository; a {kind} repository is wanted here.",
            hint=f"write it as {Location(kind, 'OWNER/NAME')}",
        )
    return Location(kind, match[1], match[2])


def endpoint() -> str:
    """The Hub's address: HF_ENDPOINT, else the public one."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or PUBLIC


def offline() -> bool:
    """Whether the user wants no network: HF_HUB_OFFLINE."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE


@contextlib.contextmanager
def not_on_this_disk(written: str) -> Iterator[None]:
    """Say of `OWNER/NAME`, which may have been meant as a path, that there is no such path either.

    Not where a repository was plainly meant: with a revision, or because the Hub has it and something else is wrong.
    """
    try:
        yield
    except (NoRepository, NotAvailableOffline) as error:
        if written.startswith(_SCHEME) or "@" in written:
            raise
        raise type(error)(f"{written} does not exist on this disk. {error.message}", hint=error.hint) from error
