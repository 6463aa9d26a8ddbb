"""Repository: what the Hub says of a repository at a commit, and the making of repositories and branches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tupate_hub.errors import WorkFailed
from tupate_hub.hub.location import COMMIT, SPACE, Location
from tupate_hub.hub.session import hub_api


@dataclass(frozen=True)
class Repository:
    """A repository at a commit: the tags of its card, whether it is private, and its files.

    `files` gives each file's size in bytes and its digest: the sha256 of one in LFS, git's name of any other, "" where
    the Hub says neither.
    """

    commit: str
    tags: tuple[str, ...]
    private: bool
    files: Mapping[str, tuple[int, str]]


def look_up(location: Location) -> Repository:
    """The repository as it is at a revision, `main` where the location names none. One request.

    Raises
    ------
    NoRepository, NoRevision
        When there is none.
    TupateHubError, NotAvailableOffline, WorkFailed
        As `hub_api`.
    """
    with hub_api(location) as api:
        told = api.repo_info(
            location.id, revision=location.revision, repo_type=location.kind, files_metadata=True, timeout=None
        )
        if not COMMIT.fullmatch(str(told.sha)):
            raise WorkFailed(f"The Hub's answer about {location} does not name a commit.", hint="retry")
        files = {}
        for sibling in told.siblings or ():
            digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
            if type(sibling.size) is int and isinstance(sibling.rfilename, str):
                files[sibling.rfilename] = (sibling.size, str(digest or ""))
        tags = tuple(tag for tag in told.tags or () if isinstance(tag, str))
        return Repository(str(told.sha), tags, told.private is True, files)


def create_repository(location: Location, private: bool) -> None:
    """Make a repository, a Space as one of static pages; one that is there already is left as it is.

    Errors as `hub_api`.
    """
    sdk = {"space_sdk": "static"} if location.kind == SPACE else {}
    with hub_api(location) as api:
        api.create_repo(location.id, repo_type=location.kind, private=private or None, exist_ok=True, **sdk)


def create_branch(location: Location, commit: str) -> None:
    """Make the branch `location.revision` at a commit; one that is there is left as it is. Errors as `hub_api`."""
    with hub_api(location) as api:
        api.create_branch(
            location.id, branch=str(location.revision), revision=commit, repo_type=location.kind, exist_ok=True
        )


def signed_in() -> bool:
    """Whether a token is set, which is needed to write."""
    from huggingface_hub import get_token

    return get_token() is not None


def hub_cache() -> Path:
    """The folder in which the Hub's own library keeps what it has fetched."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
