"""Upload: files sent to a repository of the Hub and shown by one commit.

The library sends them, to whichever storage the Hub asks for (LFS or xet); what is ours is that few of them are in
memory at a time, and that its requests have limits (`session`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tupate_hub.errors import NotAvailableOffline, RateLimited, TupateHubError, WorkFailed
from tupate_hub.hub.digest import git_name
from tupate_hub.hub.location import Location
from tupate_hub.hub.repository import look_up
from tupate_hub.hub.session import hub_api

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

_AT_ONCE = 8
_MOST_FILES = 64
_MOST_BYTES = 64_000_000


@dataclass(frozen=True)
class File:
    """A file to send: its size in bytes, its sha256, and what reads it when it is its turn."""

    size: int
    sha256: str
    read: Callable[[], bytes]

    def is_that(self, size: int, digest: str) -> bool:
        """Whether a file of this size and digest, a sha256 or git's name of it, has the same content."""
        if size != self.size or len(digest) == 64:
            return (size, digest) == (self.size, self.sha256)
        return digest == git_name(self.read())


def commit(
    location: Location, parent: str, files: Iterable[tuple[str, File]], removals: Sequence[str], title: str
) -> str:
    """Send files and move the branch `location.revision` by one commit, which shows all of them or none.

    Those for the Hub's storage go first, several at once; what it has from an interrupted run is not sent again. At
    most 64 MB of them, or one file, are in memory at a time.

    Parameters
    ----------
    location, parent : Location, str
        The branch, and the commit at which it must stand.
    files : iterable of (str, File)
        What is added or changed, by its path.
    removals : sequence of str
        Paths of files that go.
    title : str
        The commit's first line.

    Returns
    -------
    The new commit.

    Raises
    ------
    BranchMoved
        When the branch no longer stands at `parent`, by someone else's commit: nothing has changed.
    TupateHubError, NotAvailableOffline, WorkFailed
        As `hub_api`.
    """
    from huggingface_hub import CommitOperationDelete

    operations: list[CommitOperationAdd | CommitOperationDelete] = []
    where = {"repo_type": location.kind, "revision": location.revision}
    sent: dict[str, File] = {}
    for batch in _batches(_noted(files, sent)):
        with hub_api(location) as api:
            api.preupload_lfs_files(location.id, batch, num_threads=_AT_ONCE, **where)
        operations += batch
    operations += [CommitOperationDelete(path, is_folder=False) for path in removals]
    try:
        with hub_api(location) as api, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the Hub remarks on the card is not about this commit
            made = api.create_commit(location.id, operations, commit_message=title, parent_commit=parent, **where)
            return str(made.oid)
    except RateLimited:
        raise
    except (NotAvailableOffline, WorkFailed) as error:
        if (found := _found_done(location, parent, sent, removals, error)) is None:
            raise
        return found


def _noted(files: Iterable[tuple[str, File]], sent: dict[str, File]) -> Iterator[tuple[str, File]]:
    for path, file in files:
        sent[path] = file
        yield path, file


def _found_done(
    location: Location, parent: str, sent: Mapping[str, File], removals: Sequence[str], error: TupateHubError
) -> str | None:
    """The commit at which the branch stands, if that has all that was sent: the answer to it was lost, or came late.

    The request is sent again when its answer was lost, and the Hub then says that the branch has moved: by ourselves.

    Raises
    ------
    WorkFailed
        When the Hub does not say that either.
    """
    try:
        there = look_up(location)
    except (NotAvailableOffline, WorkFailed):
        raise WorkFailed(
            f"Whether {location} was changed is not known: {error.message}",
            hint="push again: what is there is not sent twice",
        ) from error
    held = all(path in there.files and file.is_that(*there.files[path]) for path, file in sent.items())
    return there.commit if held and there.commit != parent and there.files.keys().isdisjoint(removals) else None


def _batches(files: Iterable[tuple[str, File]]) -> Iterator[list[CommitOperationAdd]]:
    from huggingface_hub import CommitOperationAdd

    batch: list[CommitOperationAdd] = []
    held = 0
    for path, file in files:
        batch.append(CommitOperationAdd(path, file.read()))
        held += file.size
        if len(batch) == _MOST_FILES or held >= _MOST_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
