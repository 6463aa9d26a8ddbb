"""Site: a registry as a static page that people open, search, and drop their adapter on. No server, no build step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tupate_hub.errors import TargetExists
from tupate_hub.publish.card import BUNDLED, CARD
from tupate_hub.publish.frontmatter import About, read_about
from tupate_hub.publish.site_data import site_data
from tupate_hub.publish.site_factors import FOLDER
from tupate_hub.publish.site_page import GENERATOR, page_files
from tupate_hub.storage.atomic import told_in_one_sentence, write_bytes
from tupate_hub.zoo import Zoo, bundled_root

INDEX = "index.html"


def about_site(zoo: Zoo, title: str | None = None, location: str | None = None) -> About:
    """Title and location for a site: what the caller says, else what the registry's card does, else where it is.

    Raises
    ------
    FormatError
        When the front matter of the registry's card is not valid.
    """
    if zoo.remote is None and zoo.root.resolve() == bundled_root().resolve():
        known = BUNDLED
    elif zoo.remote is not None:
        known = About(location=zoo.remote.location.id)
    else:
        card = zoo.root / CARD
        with told_in_one_sentence(card):
            text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
        known = read_about(text, str(card))
    return replace(known, title=title or known.title, location=location or known.location)


def site_files(zoo: Zoo, about: About, *, hub: bool = False) -> dict[str, bytes]:
    """The page and its data by their paths; `hub` says that it will lie on the Hub. Errors as `site_data`."""
    return {**site_data(zoo, about, hub=hub), **page_files(about.title, hub=hub)}


def write_site(target: Path, files: dict[str, bytes]) -> list[str]:
    """Write a site into a folder, made if need be; one that has a site already gets the new one.

    The page's frame comes last, and factors that the new site does not have are removed. Returns the names of those.

    Raises
    ------
    TargetExists
        When the folder holds files and no site of this program, or is no folder.
    """
    with told_in_one_sentence(target):
        if target.exists() and not target.is_dir():
            raise TargetExists(f"{target} is not a folder.", hint="give another folder")
        if target.is_dir() and any(target.iterdir()) and not _is_site(target):
            raise TargetExists(f"{target} holds files and no site of tupate-hub's.", hint="give a new folder")
    for name in sorted(files, key=lambda name: (name == INDEX, name)):
        write_bytes(target / name, files[name])
    with told_in_one_sentence(target):
        stale = [path for path in (target / FOLDER).glob("*-*.js") if f"{FOLDER}/{path.name}" not in files]
        for path in stale:
            path.unlink()
    return [path.name for path in stale]


def _is_site(folder: Path) -> bool:
    page = folder / INDEX
    return page.is_file() and GENERATOR in page.read_bytes()[:2000]
