"""Push: a registry and its card, made one commit of a dataset repository. Nothing of others on it is lost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tupate_hub.collect.merge import Merged, merge, prefetch_rows
from tupate_hub.collect.named import Named
from tupate_hub.collect.origins import Side
from tupate_hub.errors import (
    BranchMoved,
    FormatError,
    NoRepository,
    NoRevision,
    NotAvailableOffline,
    RegistryError,
    TupateHubError,
)
from tupate_hub.hub import client
from tupate_hub.hub.cache import keep_snapshot, open_snapshot
from tupate_hub.hub.location import Location, endpoint, offline
from tupate_hub.hub.repository import create_branch, create_repository, look_up, signed_in
from tupate_hub.hub.upload import File, commit
from tupate_hub.publish.bundle import README, publication
from tupate_hub.publish.card import CARD
from tupate_hub.publish.frontmatter import About, read_about
from tupate_hub.publish.sides import united
from tupate_hub.registry import FILENAME, Registry
from tupate_hub.space import Space
from tupate_hub.storage.atomic import told_in_one_sentence
from tupate_hub.storage.registry_json import parse_registry
from tupate_hub.zoo import Zoo

#: What a push may wrap around its work, for a progress bar: a label and the items, which come back one after the other.
Watch = Callable[[str, list[Any]], Iterable[Any]]

#: How long to wait, in seconds, after someone else's commit came first.
_PAUSES = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
_MOST_CARD = 4_000_000
#: What a new repository may hold before it is a registry.
_GIVEN = frozenset({".gitattributes", README, "LICENSE"})


@dataclass(frozen=True)
class Change:
    """A file that a push adds, changes or removes, and its size in bytes: the new one, or that of what goes."""

    file: str
    bytes: int


@dataclass(frozen=True)
class Pushed:
    """What a push did, or would do.

    `location` is the branch, or its commit after a push; `created` says what there was none of: `repository`, `branch`
    or "". `merged` names the embeddings that only the Hub had, `resolved` those that both had with different content.
    """

    location: Location
    created: str
    added: tuple[Change, ...]
    changed: tuple[Change, ...]
    removed: tuple[Change, ...]
    merged: tuple[str, ...]
    resolved: tuple[str, ...]

    @property
    def unchanged(self) -> bool:
        """Whether the Hub had everything."""
        return not (self.added or self.changed or self.removed)


def push(
    zoo: Zoo,
    target: Location,
    *,
    private: bool = False,
    prefer: Side | None = None,
    default_space: str | None = None,
    explorer: str | None = None,
    dry_run: bool = False,
    watch: Watch = lambda label, items: items,
) -> Pushed:
    """Make a branch of a dataset repository hold a registry, its card and its table, in one commit.

    Embeddings that only the Hub has stay, and are listed in the registry that is sent. Repository and branch are made
    where they are missing, the branch from `main`. Files that the Hub's registry named and the new one does not are
    removed, others left alone. When someone else's commit comes first, the Hub is read again.

    Parameters
    ----------
    zoo : Zoo
        What to push. It is checked first, and not changed.
    target : Location
        The repository; its revision is a branch, `main` where there is none.
    private : bool
        Make a new repository private.
    prefer : {"ours", "theirs"}, optional
        Whose embedding is taken where `zoo` and the Hub have a task in a space with different content.
    default_space : str, optional
        The space that readers get who name none; by default the Hub's, or `zoo`'s where the Hub has none.
    explorer : str, optional
        The Space of its page, to which the card links; by default the one that the card names already.
    dry_run, watch : bool, Watch
        Only say what would be done. What wraps the work that takes time, for a progress bar.

    Raises
    ------
    FormatError
        When a file of the zoo is damaged, or may not lie where it does.
    RegistryError
        When both have a task in a space with different content and `prefer` is not given.
    UnknownName
        When there is no `default_space`.
    TupateHubError, NotAvailableOffline
        When there is no token that may write, or no network.
    WorkFailed
        When the Hub fails, or the branch moves each time. It is then as it was.
    """
    target = target.at(target.revision or "main")
    require_writable(target, dry_run)
    _require_whole(zoo, watch)

    def once() -> Pushed:
        found = _look(target)
        _require_private(found, private)
        plan = _plan(zoo, found, target, prefer, default_space, _about(zoo, found, target, explorer))
        return plan.pushed if dry_run else _send(plan, found, target, private, watch)

    with told_of_the_network():
        return when_the_branch_stands_still(once)


def when_the_branch_stands_still(once: Callable[[], Pushed]) -> Pushed:
    """Do it once, and again each time someone else's commit came first, after a pause."""
    for pause in _PAUSES:
        with contextlib.suppress(BranchMoved):
            return once()
        time.sleep(pause)  # the other one goes first
    return once()


@contextlib.contextmanager
def told_of_the_network() -> Iterator[None]:
    """Say of what is not available offline that a push has to ask the Hub."""
    try:
        yield
    except NotAvailableOffline as error:
        why = "HF_HUB_OFFLINE forbids that" if offline() else f"{endpoint()} cannot be reached"
        raise NotAvailableOffline(
            f"A push has to ask the Hub, and {why}.",
            hint="retry with a network; what has arrived is not sent twice",
        ) from error


# --- what is there ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """What the Hub has: the registry at a commit, and for each file its size and its digest (sha256, or git's sha1).

    `commit` is "" where there is no repository; `missing` says what there is none of, as `Pushed.created`.
    """

    zoo: Zoo
    commit: str = ""
    missing: str = "repository"
    private: bool = False
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)


def _look(target: Location) -> _Found:
    """The Hub as it is now; a branch that is missing starts where `main` is."""
    missing = ""
    try:
        there = look_up(target)
    except NoRepository:
        return _Found(Zoo(Path(), Registry()))
    except NoRevision:
        there, missing = look_up(target.at("main")), "branch"
    zoo = Zoo(Path(), Registry())
    if FILENAME in there.files:
        remote, text = open_snapshot(target.at(there.commit))
        zoo = Zoo(remote.folder, parse_registry(text, remote.where(FILENAME), remote.read), remote)
    elif set(there.files) - _GIVEN:
        raise TupateHubError(
            f"{target} holds {len(there.files)} files and no {FILENAME}: it is not a registry.",
            hint="take another name",
        )
    return _Found(zoo, there.commit, missing, there.private, there.files)


def require_writable(target: Location, dry_run: bool) -> None:
    """Refuse a commit in the place of a branch, and to write without a token."""
    if target.pinned:
        raise TupateHubError(f"{target} is a commit, which never changes.", hint="name a branch: `revision=BRANCH`")
    if not (dry_run or offline() or signed_in()):
        raise TupateHubError("You must be signed in to push.", hint="hf auth login")


def _require_private(found: _Found, private: bool) -> None:
    if private and found.commit and not found.private:
        raise TupateHubError(
            "The repository is there already and public.", hint="leave out `private`, or take another name"
        )


# --- what is to be there ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """The text of the new registry, the files to send and those to remove, and what to say of it."""

    text: bytes
    additions: list[tuple[str, File]]
    removals: list[str]
    pushed: Pushed


def _plan(
    zoo: Zoo, found: _Found, target: Location, prefer: Side | None, default_space: str | None, about: About
) -> _Plan:
    """What makes the Hub hold the zoo."""
    theirs = found.zoo.registry
    if theirs.entries != zoo.registry.entries:
        prefetch_rows(found.zoo)
    merged = _with_default(_merged(zoo.registry, theirs, target, prefer), theirs, default_space)
    both = united(zoo, found.zoo, merged, target)
    sides: dict[Side, Zoo] = {"ours": zoo, "theirs": found.zoo}
    made = publication(both, about, _similarities(both.registry, zoo.registry, theirs), sides, merged.behind)
    files, there = made.files, found.files
    added = sorted(files.keys() - there.keys())
    changed = [file for file in sorted(files.keys() & there.keys()) if not files[file].is_that(*there[file])]
    removed = sorted(Named(theirs).without(Named(made.registry)) & there.keys() - files.keys())
    additions = [(file, files[file]) for file in (*added, *changed)]
    pushed = Pushed(
        target,
        found.missing,
        added=tuple(Change(file, files[file].size) for file in added),
        changed=tuple(Change(file, files[file].size) for file in changed),
        removed=tuple(Change(file, there[file][0]) for file in removed),
        merged=_theirs_alone(zoo.registry, made.registry) if merged.counts["theirs"] else (),
        resolved=merged.conflicts,
    )
    return _Plan(files[FILENAME].read(), additions, removed, pushed)


def _merged(ours: Registry, theirs: Registry, target: Location, prefer: Side | None) -> Merged:
    merged = merge(ours, theirs, prefer or "ours")
    if merged.conflicts and prefer is None:
        more = f" and {len(merged.conflicts) - 5} more" if len(merged.conflicts) > 5 else ""
        raise RegistryError(
            f"{target} has, with another content: {', '.join(merged.conflicts[:5])}{more}.",
            hint="say whose to take: `prefer='ours'` (this registry's), or `prefer='theirs'` (the Hub's)",
        )
    return merged


def _with_default(merged: Merged, theirs: Registry, wanted: str | None) -> Merged:
    """With the Hub's default space unless another is wanted: a push changes nobody's answers by the way."""
    registry = merged.registry
    if wanted is not None:
        default = registry.space(wanted).name
    elif theirs.default_space in theirs.spaces:
        space = theirs.spaces[theirs.default_space].space
        default = next(name for name, entry in registry.spaces.items() if entry.space == space)
    else:
        return merged
    return replace(merged, registry=replace(registry, default_space=default))


def _similarities(registry: Registry, ours: Registry, theirs: Registry) -> dict[str, set[str]]:
    """Of which similarities either registry had indexes, by the merged names of the spaces."""
    had: dict[Space, set[str]] = {}
    for one in (*ours.spaces.values(), *theirs.spaces.values()):
        had.setdefault(one.space, set()).update(one.index)
    return {name: had.get(one.space, set()) for name, one in registry.spaces.items()}


def _about(zoo: Zoo, found: _Found, target: Location, explorer: str | None) -> About:
    """Title and languages by the card that lies with the zoo, else by that of the Hub; the commands name the target."""
    location = target.id if target.revision == "main" else f"{target.id}@{target.revision}"
    card, text, where = zoo.root / CARD, b"", ""
    if zoo.remote is None and card.is_file():
        with told_in_one_sentence(card):
            text, where = card.read_bytes(), str(card)
    elif README in found.files and FILENAME in found.files:
        text, where = client.get_whole(target.at(found.commit), README, _MOST_CARD).data, f"{README} of {target}"
    about = read_about(text.decode("utf-8", "replace"), where)
    return replace(about, location=location, explorer=explorer or about.explorer)


def _theirs_alone(ours: Registry, registry: Registry) -> tuple[str, ...]:
    names = {space.space: name for name, space in ours.spaces.items()}
    known = {name: names.get(space.space, "") for name, space in registry.spaces.items()}
    return tuple(
        f"{one.task} in {one.space}" for one in registry.entries if ours.get(one.task, known[one.space]) is None
    )


def _require_whole(zoo: Zoo, watch: Watch) -> None:
    if zoo.remote is not None:
        zoo.remote.prefetch(zoo.registry.files())
    problems = zoo.verify(lambda entries: iter(watch("check", list(entries))))
    if problems:
        more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
        raise FormatError(
            f"Nothing was pushed, because the registry is not whole: {problems[0]}{more}",
            hint="see all of them: tupate-hub verify",
        )


# --- sending ---------------------------------------------------------------------------------------------------


def _send(plan: _Plan, found: _Found, target: Location, private: bool, watch: Watch) -> Pushed:
    """Bring the Hub to the plan, and the cache with it.

    Raises
    ------
    BranchMoved
        When someone else was first.
    """
    if found.missing == "repository":
        create_repository(target, private)
        found = _look(target)
        _require_private(found, private)
        if FILENAME in found.files:
            raise BranchMoved(f"{target} was made by someone else meanwhile.", hint="retry")
    if found.missing == "branch":
        create_branch(target, found.commit)
    pushed, head = plan.pushed, found.commit
    if not pushed.unchanged:
        counts = f"{len(pushed.added)} added, {len(pushed.changed)} changed, {len(pushed.removed)} removed"
        head = commit(target, head, watch("push", plan.additions), plan.removals, f"tupate-hub push: {counts}")
    keep_snapshot(target, head, plan.text)
    return replace(pushed, location=target.at(head))
