"""The YAML at the head of a dataset card, which the Hub reads: licence, languages, tags, size, the viewer's table."""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass

from tupate_hub.publish.browse import FILE
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


@dataclass(frozen=True)
class About:
    """What a registry does not say of itself.

    `location` is how commands call it (`OWNER/NAME`, a folder), empty for the bundled zoo, which they find by
    themselves; `languages` are codes such as `en`.
    """

    title: str = "A registry of task embeddings"
    location: str = FOLDER
    languages: tuple[str, ...] = ()


def front_matter(registry: Registry, about: About, at: str) -> str:
    """The lines between `---` for a card at the path `at`, relative to the registry.

    Fields: https://huggingface.co/docs/hub/datasets-cards. `license` is that of the parameters, as their sources say.
    """
    licences = sorted({_hub_licence(entry) for entry in registry.entries})
    fields = [
        ("license", licences or ["unknown"]),
        ("language", list(about.languages)),
        ("tags", ["tupate", "task-embeddings", "adapters", "peft"]),
        ("size_categories", [next((name for most, name in _SIZES if len(registry.entries) < most), "n>1M")]),
    ]
    lines = ["---", f"pretty_name: {_quoted(about.title)}"]
    for name, values in fields:
        if values:
            lines += [f"{name}:", *(f"- {_quoted(value)}" for value in values)]
    if registry.entries:  # the viewer takes no empty table
        table = posixpath.relpath(FILE, posixpath.dirname(at) or ".")
        lines += ["configs:", "- config_name: embeddings", "  data_files:", "  - split: train", f"    path: {table}"]
    return "\n".join([*lines, "---", ""])


def read_about(card: str) -> About:
    """Title and languages as the front matter of a card says them, with the defaults for what it does not say."""
    title, languages, name = About().title, [], ""
    head, *lines = card.splitlines() or [""]
    for line in lines if head == "---" else ():
        if line == "---":
            break
        if line.startswith("- ") and name == "language":
            languages.append(_unquoted(line[2:]))
        elif not line.startswith("- "):
            name, _, value = line.partition(":")
            title = _unquoted(value.strip()) if name == "pretty_name" else title
    return About(title, languages=tuple(languages))


def _unquoted(words: str) -> str:
    try:
        return str(json.loads(words)) if words.startswith('"') else words
    except ValueError:
        return words


def _quoted(words: str) -> str:
    """Text as YAML: as it is where it is plain, else as a JSON string."""
    plain = words.replace("-", "").replace(".", "").isalnum() and words[:1].isalpha() and words.isascii()
    reserved = words.casefold() in ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
    printable = "".join(char if char.isprintable() else " " for char in words)
    return words if plain and not reserved else json.dumps(printable, ensure_ascii=False)


def _hub_licence(entry: Entry) -> str:
    said = entry.source.get("licence")
    if not isinstance(said, str) or not said:
        return "unknown"
    return said.lower() if said.lower() in _LICENCES else "other"
