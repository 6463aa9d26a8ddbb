"""Outages: the Hub, the network or the disk fails while many files are gone through, and nothing is wrong with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tupate_hub.errors import NotAvailableOffline, RateLimited, TupateHubError, WorkFailed

#: What is nobody's damage.
OUTAGE = (WorkFailed, NotAvailableOffline)
MOST_IN_A_ROW = 3


class Outages:
    """Those of one piece of work, which ends with the third in a row: the other files would take as long, and fail."""

    def __init__(self) -> None:
        self.errors: list[TupateHubError] = []
        self._in_a_row = 0

    def note(self, error: TupateHubError) -> bool:
        """Take note of one; returns whether it ends the work, as a Hub that asks to be left alone does at once."""
        self.errors.append(error)
        self._in_a_row += 1
        return self._in_a_row >= MOST_IN_A_ROW or isinstance(error, (NotAvailableOffline, RateLimited))

    def over(self) -> None:
        """Take note that something else was reached."""
        self._in_a_row = 0

    @contextlib.contextmanager
    def beside(self, problems: list[str]) -> Iterator[None]:
        """Add what is raised inside to the problems of a check, unless it is an outage.

        Raises
        ------
        TupateHubError
            As `require_none`, when an outage ends the check.
        """
        try:
            yield
        except OUTAGE as error:
            if self.note(error):
                self.require_none(problems)
        except TupateHubError as error:
            self.over()
            problems.append(error.message)
        else:
            self.over()

    def require_none(self, problems: list[str]) -> None:
        """Refuse to call a check done.

        Raises
        ------
        WorkFailed, NotAvailableOffline
            When there was an outage, of the same kind as the last.
        """
        if self.errors:
            last = self.errors[-1]
            found = f"{len(problems)} problem{'s' * (len(problems) != 1)}"
            raise type(last)(
                f"Not everything could be checked, and {found} had been found until then: {last.message}",
                hint=last.hint or "retry",
            ) from last
