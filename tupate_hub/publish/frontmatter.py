"""The YAML at the head of a dataset card, which the Hub reads: licence, languages, tags, size, the viewer's table."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tupate_hub.errors import FormatError
from tupate_hub.hub.location import DATASET, SPACE, parse_location
from tupate_hub.publish.browse import FILE, space_files
from tupate_hub.publish.total import Total, embeddings_in
from tupate_hub.registry import Entry, Registry

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
#: The Hub's identifiers of licences that parameters are commonly under; what is not among them is `other`.
_LICENCES = frozenset(
    "apache-2.0 mit bsd-2-clause bsd-3-clause cc0-1.0 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-4.0 "
    "cc-by-nc-sa-4.0 cc-by-nc-nd-4.0 cc-by-nd-4.0 gpl-3.0 agpl-3.0 lgpl-3.0 mpl-2.0 openrail gemma llama2 llama3 "
    "llama3.1 odc-by pddl unlicense".split()
)
#: How commands of a card call a registry that lies in a folder, wherever that is.
FOLDER = "DIR"
#: No more of a card is parsed, in characters: reading YAML takes long.
_MOST_HEAD = 64_000


@dataclass(frozen=True)
class About:
    """What a registry does not say of itself.

    `location` is how commands call it (`OWNER/NAME`, a folder), empty for the bundled zoo, which they find by
    themselves; `languages` are codes such as `en`; `explorer` is the Space of its page, `OWNER/NAME`, where it has one.
    """

    title: str = "A registry of task embeddings"
    location: str = FOLDER
    languages: tuple[str, ...] = ()
    explorer: str = ""


def front_matter(registry: Registry, about: About, at: str, totals: Mapping[str, Total] = MappingProxyType({})) -> str:
    """The lines between `---` for a card at the path `at`, relative to the registry.

    `totals` are of spaces of which the registry has a sample.

    Fields: https://huggingface.co/docs/hub/datasets-cards. `license` is that of the parameters, as their sources say.
    """
    from huggingface_hub import DatasetCardData

    size = next((name for most, name in _SIZES if embeddings_in(registry, totals) < most), "n>1M")
    licences = {hub_licence(entry) for entry in registry.entries}.union(*(one.licences for one in totals.values()))
    here = posixpath.dirname(at) or "."
    viewer: list[dict[str, Any]] = [
        {"config_name": "embeddings", "data_files": [{"split": "train", "path": posixpath.relpath(FILE, here)}]}
    ]
    if tables := space_files(registry):
        viewer[0]["default"] = True
        parts = [{"split": split, "path": posixpath.relpath(file, here)} for split, file in tables.items()]
        viewer.append({"config_name": "by_space", "data_files": parts})
    fields = {
        "pretty_name": _printable(about.title),
        "license": sorted(licences) or ["unknown"],
        "language": [_printable(code) for code in about.languages] or None,
        "tags": ["tupate", "task-embeddings", "adapters", "peft"],
        "size_categories": [size],
        "configs": viewer if registry.entries else None,  # the viewer takes no empty table
        **({"explorer": about.explorer} if about.explorer else {}),
    }
    return f"---\n{DatasetCardData(**fields).to_yaml(original_order=list(fields))}\n---\n"


def read_about(card: str, where: str = "the card") -> About:
    """Title, languages and explorer as the front matter of a card says them, with the defaults for what it does not.

    Raises
    ------
    FormatError
        When the front matter is not YAML, or has a text or a list where the Hub expects something else.
    """
    head = card[:_MOST_HEAD]
    if not head.lstrip().startswith("---"):
        return About()
    import yaml
    from huggingface_hub import DatasetCard

    try:
        data = DatasetCard(head, ignore_metadata_errors=True).data
        title, languages = getattr(data, "pretty_name", None), getattr(data, "language", None)
        explorer = getattr(data, "explorer", None)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise FormatError(
            f"The front matter of {where} is not valid.", hint="correct the YAML between the --- lines at its start"
        ) from error
    codes = languages if isinstance(languages, list) else [languages]
    known = ("no" if code is False else code for code in codes)  # YAML reads an unquoted Norwegian as false
    named = str(title).rstrip("\n") if isinstance(title, (str, int, float)) else About().title
    page = parse_location(explorer, SPACE) if isinstance(explorer, str) and not explorer.startswith("hf:") else None
    return About(
        named, languages=tuple(code for code in known if isinstance(code, str)), explorer=page.id if page else ""
    )


def space_front_matter(about: About) -> str:
    """The lines between `---` of the README of a Space that shows a registry's page.

    Fields: https://huggingface.co/docs/hub/spaces-config-reference.
    """
    from huggingface_hub import SpaceCardData

    dataset = about.location.partition("@")[0]
    fields = {
        "title": _printable(about.title),
        "sdk": "static",
        "app_file": "index.html",
        "datasets": [dataset] if parse_location(dataset, DATASET) else None,
        "tags": ["tupate", "task-embeddings", "adapters", "peft"],
    }
    return f"---\n{SpaceCardData(**fields).to_yaml(original_order=list(fields))}\n---\n"


def _printable(words: str) -> str:
    """Text on one line, without control characters."""
    return "".join(char if char.isprintable() else " " for char in words)


def hub_licence(entry: Entry) -> str:
    """The licence of an embedding's parameters as the Hub calls it."""
    said = entry.source.get("licence")
    if not isinstance(said, str) or not said:
        return "unknown"
    return said.lower() if said.lower() in _LICENCES else "other"
