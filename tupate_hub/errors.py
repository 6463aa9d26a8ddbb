"""Errors that know how to present themselves: one sentence, the next command to type, an exit code."""

from __future__ import annotations


class TupateHubError(Exception):
    """A mistake of the user's, or work that failed, told in one sentence.

    Parameters
    ----------
    message : str
        What is wrong, as one clear sentence.
    hint : str, optional
        What to do next: a command without options, or the caller's parameters as Python writes them, between
        backticks: "say which model it was tuned on: `base=MODEL_ID`". Several pieces of advice are parted by ", or ".
        The command line puts its options in (`tupate_hub.cli.hints`); the library names none.
    """

    #: With which the command line leaves.
    exit_code: int = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UnknownName(TupateHubError):
    """A task, space, similarity or method that is not there; the message lists what is."""


class FormatError(TupateHubError):
    """A file or folder that is not what it should be: truncated, malformed, hostile or not understood."""


class RegistryError(FormatError):
    """A `registry.json` that cannot be used; the message names the entry and the field."""


class NoRepository(FormatError):
    """A repository that the Hub does not have, or does not show to the caller."""


class NoRevision(FormatError):
    """A branch, tag or commit that a repository does not have."""


class NotKept(TupateHubError):
    """The weights of an embedding of which the registry keeps a sketch, or facts, alone."""


class SpaceMismatch(TupateHubError):
    """Two embeddings of different base models or methods, which cannot be compared."""


class TargetExists(TupateHubError):
    """A file or folder that would have to be overwritten."""


class NotAvailableOffline(TupateHubError):
    """Something that only the Hub has, while there is no network."""

    exit_code = 3


class WorkFailed(TupateHubError):
    """The input was right and the work failed: a full disk, a training run that diverged."""

    exit_code = 1


class RateLimited(WorkFailed):
    """The Hub asks for fewer requests, for longer than may be waited."""


class BranchMoved(WorkFailed):
    """A commit that was refused because another one came first."""


class Unanswered(Exception):
    """A request to the Hub that was given up; `hub` makes one of the others of it.

    `response` is the Hub's last, None where it could not be reached; `why` is what the Hub did instead of answering, ""
    where nothing is known of it.
    """

    def __init__(self, response: object = None, why: str = "") -> None:
        super().__init__("a request to the Hub was given up")
        self.response = response
        self.why = why
