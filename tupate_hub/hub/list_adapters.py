"""List: which adapters the Hub has for a base model, and what it says of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING

from tupate_hub import tasknames
from tupate_hub.errors import FormatError, NotAvailableOffline, UnknownName
from tupate_hub.hub.location import MODEL, Location, offline, parse_location
from tupate_hub.hub.session import hub_api
from tupate_hub.space import normalise_base, spellings

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

#: Library -> the tag by which the Hub lists its adapters.
LIBRARIES: Mapping[str, str] = MappingProxyType({"adapters": "adapter-transformers", "peft": "peft"})

_MOST = 200_000
_MOST_PAGES = 2_000
#: Of one repository: what has more files at its top is no adapter.
_MOST_FILES = 1_000
#: What is read of tags.
_KINDS = ("adapterhub:", "base_model:", "dataset:", "license:")
_MOST_TAG = 200


@dataclass(frozen=True)
class ListedRepository:
    """A model repository as the Hub lists it: nothing of it is believed, or fit to be shown, before `location`.

    `bases` are the base models that its tags name; there may be none. `tags` are those that say something of the
    adapter, `files` the names of its files, those in folders left out; () where the Hub does not say.
    """

    id: str
    commit: str
    downloads: int
    bases: tuple[str, ...]
    tags: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def location(self) -> Location:
        """The repository at the commit that was listed.

        Raises
        ------
        FormatError
            When the Hub listed what is not the name of a repository, or not a commit.
        """
        location = parse_location(f"{self.id}@{self.commit}", MODEL)
        if location is None or not location.pinned:
            raise FormatError("The Hub lists it under an impossible name or commit.")
        return location


def list_adapters(
    base: str, author: str | None = None, library: str | None = None, limit: int | None = None
) -> list[ListedRepository]:
    """The repositories that may hold an adapter for a base model, the most downloaded first.

    Parameters
    ----------
    base : str
        The base model, as `normalise_base` writes it.
    author : str, optional
        A user or organisation of the Hub.
    library : str, optional
        One of `LIBRARIES`; all of them by default. Those of PEFT are listed by the base model that their cards name.
        Cards of AdapterHub name none, so that all of its adapters are listed, for whatever base model.
    limit : int, optional
        How many at most.

    Raises
    ------
    UnknownName
        For an unknown library.
    NotAvailableOffline
        When there is no network.
    TupateHubError
        As `client.get`.
    """
    if library is not None and library not in LIBRARIES:
        raise UnknownName(f"Unknown library {library!r}.", hint="known: " + ", ".join(LIBRARIES))
    found: dict[str, ListedRepository] = {}
    for filters in _filters(base, [library] if library else LIBRARIES):
        for one in _listed(filters, author, limit):
            found.setdefault(one.id, one)
    return sorted(found.values(), key=lambda one: (-one.downloads, one.id))[:limit]


def facts(location: Location, tags: object) -> dict[str, str | None]:
    """Task, base model, dataset and licence by the card's tags, the task by the repository's name where need be."""
    plain = _plain(tags)
    datasets, bases, licences = (_tagged(plain, kind) for kind in ("dataset", "base_model", "license"))
    subtasks = _tagged(plain, "adapterhub")
    task = tasknames.of_tag(subtasks[0]) if subtasks else None
    if task is None and len(datasets) == 1:
        task = tasknames.of_dataset(datasets[0])
    bases = _tagged(plain, "base_model:adapter") or [base for base in bases if ":" not in base]
    return {
        "task": task or tasknames.of_repository(location.id.partition("/")[2]),
        "base": bases[0] if bases else None,
        "dataset": ", ".join(datasets) or None,
        "licence": licences[0] if licences else None,
    }


def _filters(base: str, libraries: Iterable[str]) -> Iterator[list[str]]:
    for library in libraries:
        if library == "peft":
            yield from ([LIBRARIES[library], f"base_model:adapter:{name}"] for name in spellings(base))
        else:
            yield [LIBRARIES[library]]


def _listed(filters: list[str], author: str | None, limit: int | None) -> list[ListedRepository]:
    """What fits all the filters; the Hub sends the most downloaded first."""
    try:
        with hub_api(Location(MODEL, "models"), most_requests=_MOST_PAGES) as api:
            told = api.list_models(filter=filters, author=author, sort="downloads", limit=limit, full=True)
            return [_row(model) for model in islice(told, _MOST)]
    except NotAvailableOffline as error:
        hint = "unset HF_HUB_OFFLINE" if offline() else "check your network"
        raise NotAvailableOffline("Only the Hub can say what it lists.", f"{hint} and retry") from error


def _row(model: ModelInfo) -> ListedRepository:
    tags = _plain(model.tags)
    bases = (normalise_base(base) for kind in ("base_model:adapter", "base_model") for base in _tagged(tags, kind))
    named = tuple(dict.fromkeys(base for base in bases if base))
    count = model.downloads if isinstance(model.downloads, int) else 0
    told = tuple(tag for tag in tags if tag.startswith(_KINDS))
    return ListedRepository(str(model.id), str(model.sha), count, named, told, _files(model.siblings))


def _files(siblings: object) -> tuple[str, ...]:
    names = [getattr(one, "rfilename", None) for one in siblings] if isinstance(siblings, list) else []
    top = (name for name in names if isinstance(name, str) and "/" not in name and len(name) <= _MOST_TAG)
    return tuple(sorted(islice(top, _MOST_FILES)))


def _plain(tags: object) -> list[str]:
    """The tags that can be shown; no card of this library or of PEFT has others."""
    rows = tags if isinstance(tags, list) else []
    return [tag for tag in rows if isinstance(tag, str) and tag.isprintable() and len(tag) <= _MOST_TAG]


def _tagged(tags: Iterable[str], kind: str) -> list[str]:
    return [tag[len(kind) + 1 :] for tag in tags if tag.startswith(f"{kind}:")]
