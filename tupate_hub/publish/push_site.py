"""Push the page: a registry's site as a static Space of the Hub, in one commit. Other people's pages are left alone."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

from tupate_hub.collect.merge import merge
from tupate_hub.errors import NoRepository, TupateHubError
from tupate_hub.hub.location import Location
from tupate_hub.hub.repository import Repository, create_repository, look_up
from tupate_hub.hub.upload import File, commit
from tupate_hub.publish.bundle import README
from tupate_hub.publish.frontmatter import About, space_front_matter
from tupate_hub.publish.push import (
    Change,
    Pushed,
    Watch,
    require_writable,
    told_of_the_network,
    when_the_branch_stands_still,
)
from tupate_hub.publish.sides import united
from tupate_hub.publish.site import INDEX, site_files
from tupate_hub.publish.site_data import DATA
from tupate_hub.publish.site_factors import FOLDER
from tupate_hub.zoo import Zoo

#: What a new static Space holds before it has a page of ours.
_GIVEN = frozenset({".gitattributes", README, INDEX, "style.css"})
_FACTORS = re.compile(rf"{FOLDER}/\d+-\d+\.js")


def push_site(
    zoo: Zoo,
    target: Location,
    about: About,
    *,
    private: bool = False,
    dry_run: bool = False,
    watch: Watch = lambda label, items: items,
) -> Pushed:
    """Make a static Space show a registry.

    Parameters
    ----------
    zoo : Zoo
        The registry, as the Hub has it; see `as_on_the_hub`.
    target : Location
        The Space. It is made where there is none.
    about : About
        Title, and how the page's commands call the registry.
    private : bool
        Make a new Space private.
    dry_run : bool
        Only say what would be done.
    watch : Watch
        Wraps what takes time, for a progress bar.

    Raises
    ------
    TupateHubError
        When the Space is something else's, or there is no token that may write.
    FormatError, NotAvailableOffline, WorkFailed
        As `push`.
    """
    target = target.at(target.revision or "main")
    require_writable(target, dry_run)
    made = {**site_files(zoo, about, hub=True), README: _readme(about)}
    files = {name: _file(data) for name, data in made.items()}

    def once() -> Pushed:
        there = _look(target)
        pushed = _planned(target, there, files)
        if dry_run:
            return pushed
        if there is None:
            create_repository(target, private)
            there = _look(target)
        head = there.commit if there is not None else ""
        plan = _planned(target, there, files)
        if not plan.unchanged:
            sent = [(change.file, files[change.file]) for change in (*plan.added, *plan.changed)]
            counts = f"{len(plan.added)} added, {len(plan.changed)} changed, {len(plan.removed)} removed"
            gone = [change.file for change in plan.removed]
            head = commit(target, head, watch("page", sent), gone, f"tupate-hub push: {counts}")
        return replace(plan, created=pushed.created, location=target.at(head))

    with told_of_the_network():
        return when_the_branch_stands_still(once)


def as_on_the_hub(location: Location, ours: Zoo) -> Zoo:
    """The registry that a push has left at a commit; what this machine has of its files is read here, not fetched."""
    there = Zoo.open(str(location))
    if not there.registry.spaces:
        return there
    merged = merge(ours.registry, there.registry, "theirs")
    default = there.registry.space().space
    names = [name for name, entry in merged.registry.spaces.items() if entry.space == default]
    spaces = {
        **merged.registry.spaces,
        **{name: replace(merged.registry.spaces[name], nearest={}) for name in merged.behind},
    }
    registry = replace(merged.registry, spaces=spaces, default_space=names[0])
    return united(ours, there, replace(merged, registry=registry), location)


def _look(target: Location) -> Repository | None:
    """The Space as it is now, None where there is none."""
    try:
        there = look_up(target)
    except NoRepository:
        return None
    if DATA not in there.files and set(there.files) - _GIVEN:
        raise TupateHubError(
            f"{target} holds {len(there.files)} files and no page of a registry: it is something else's.",
            hint="take another name",
        )
    return there


def _planned(target: Location, there: Repository | None, files: dict[str, File]) -> Pushed:
    has = {} if there is None else there.files
    return Pushed(
        target,
        "repository" if there is None else "",
        added=tuple(Change(name, files[name].size) for name in sorted(files.keys() - has.keys())),
        changed=tuple(
            Change(name, files[name].size)
            for name in sorted(files.keys() & has.keys())
            if not files[name].is_that(*has[name])
        ),
        removed=tuple(
            Change(name, has[name][0]) for name in sorted(has.keys() - files.keys()) if _FACTORS.fullmatch(name)
        ),
        merged=(),
        resolved=(),
    )


def _file(data: bytes) -> File:
    return File(len(data), hashlib.sha256(data).hexdigest(), lambda: data)


def _readme(about: About) -> bytes:
    text = (
        "\nA page on which a registry of task embeddings is searched, and adapters are compared with it in the "
        "browser. `tupate-hub push` makes it anew: changes made here by hand are lost.\n"
    )
    return (space_front_matter(about) + text).encode()
