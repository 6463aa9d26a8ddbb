"""Session: the calls of huggingface_hub, held to limits.

The library sends most requests without a limit of time, does not retry a write that failed once, and from its version 1
on sleeps as long as a Hub asks, in silence; it also sends the token to whatever host a listing names as its next page
(`tests/hub/test_library.py`). Inside of `limited`, each of its requests has a limit of time, is retried where a failure
passes quickly, waits for the rate limit only as long as `waiting_allowed` lets it, and takes the token to the endpoint
alone. Outside of it nothing changes for whoever else uses the library in this process.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tupate_hub.errors import Unanswered, WorkFailed
from tupate_hub.hub import rate_limit
from tupate_hub.hub.errors import retry_after, translated
from tupate_hub.hub.location import Location, endpoint, offline

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_PAUSES = (0.2, 0.5)
_LONGEST_WAIT = 20.0
_BLIND_WAIT = 10.0
_QUICK = 2.0
_SECONDS = 10.0
_SECONDS_TO_WRITE = 120.0
_PASSING = (429, 500, 502, 503, 504)

_requests_left: ContextVar[Iterator[int] | None] = ContextVar("requests_left", default=None)


@contextlib.contextmanager
def hub_api(location: Location, file: str = "", most_requests: int | None = None) -> Iterator[HfApi]:
    """The library's client of the Hub, whose requests are limited; what they raise is translated on leaving.

    `location` and `file` are what the calls are about, for the messages. After `most_requests` of this thread the work
    is given up: the library follows a listing from page to page for ever.

    Raises
    ------
    BranchMoved
        When what is to be written is no longer as it was.
    FormatError
        When there is no such repository, revision or file.
    NotAvailableOffline
        When there is no network.
    TupateHubError
        When the caller may not.
    WorkFailed
        When the Hub fails, asks to be left alone, or answers as no Hub does.
    """
    from huggingface_hub import HfApi

    from tupate_hub import __version__

    requests_left = None if most_requests is None else count(most_requests, -1)
    token = _requests_left.set(requests_left)
    try:
        with limited():
            yield HfApi(endpoint=endpoint(), library_name="tupate-hub", library_version=__version__)
    except Exception as error:
        meaning = translated(error, location, file, endpoint(), offline())
        if meaning is None:
            raise
        raise meaning from error
    finally:
        _requests_left.reset(token)


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Inside, requests of the library keep the limits, in all of its threads, and it makes no remarks of its own.

    A request that is given up raises `Unanswered`.
    """
    with _GUARD.entered():
        yield


# --- the library's state, which is one for the process --------------------------------------------------------


class _Guard:
    """How many are inside of `limited`, and what the library was like before the first of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._restore = contextlib.ExitStack()

    @property
    def active(self) -> bool:
        return self._inside > 0

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        with self._lock:
            _install()
            if not self._inside:
                self._restore.enter_context(_silence())
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._restore.close()


_GUARD = _Guard()


@dataclass(frozen=True)
class _LimitedFactory:
    """What the library makes its sessions by: those of `factory`, which may be the user's own, kept to the limits."""

    factory: Callable[[], Any]

    def __call__(self) -> Any:
        session = self.factory()
        session.send = lambda request, **options: _send(session, request, options)
        return session


def _install() -> None:
    """Have the library make its sessions by a `_LimitedFactory`, unless it does."""
    from huggingface_hub.utils import _http

    of_httpx = hasattr(_http, "set_client_factory")  # from version 1 on
    factory = getattr(_http, "_GLOBAL_CLIENT_FACTORY" if of_httpx else "_GLOBAL_BACKEND_FACTORY")
    if not isinstance(factory, _LimitedFactory):
        configure = _http.set_client_factory if of_httpx else _http.configure_http_backend
        configure(_LimitedFactory(factory))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without the library's progress bars and log lines: what matters is told by the errors."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity, set_verbosity_error

    bars, level = not are_progress_bars_disabled(), get_verbosity()
    disable_progress_bars()
    set_verbosity_error()
    try:
        yield
    finally:
        set_verbosity(level)
        if bars:
            enable_progress_bars()


# --- requests --------------------------------------------------------------------------------------------------


def _send(session: Any, request: Any, options: dict[str, Any]) -> Any:
    """A request of requests (0.x) or httpx (from 1), sent by the session's own `send`."""
    if not _GUARD.active:
        return type(session).send(session, request, **options)
    if offline():
        raise Unanswered
    requests_left = _requests_left.get()
    if requests_left is not None and next(requests_left) <= 0:
        raise WorkFailed(f"{endpoint()} answers page after page without end.", hint="look at HF_ENDPOINT")
    _set_time_limit(request, options)
    _keep_token_at_home(request)
    _make_repeatable(request)
    budget = rate_limit.wait_budget()
    left = budget.seconds
    while True:
        response = _try(session, request, options)
        if response.status_code not in _PASSING:
            return response
        asked = retry_after(response)
        wait = _BLIND_WAIT if asked is None else max(asked, _PAUSES[0])
        if response.status_code != 429 or wait > left:
            raise Unanswered(response)
        response.close()
        left -= wait
        if rate_limit.RATE_LIMIT.pause(wait):
            budget.tell(wait)


def _try(session: Any, request: Any, options: dict[str, Any]) -> Any:
    """Whatever the Hub answers. Failures that pass are tried again, three times in all and only where that is quick."""
    for pause in (*_PAUSES, None):
        rate_limit.RATE_LIMIT.wait(rate_limit.wait_budget().over)
        began = time.monotonic()
        try:
            response = type(session).send(session, request, **options)
        except Exception as error:  # each version of the library has its own
            if not _is_of_the_network(error):
                raise
            if pause is None or time.monotonic() - began > _QUICK:
                raise Unanswered from error
        else:
            pause = _worth_waiting(response, pause)
            if pause is None:
                return response
            response.close()
        time.sleep(pause)
    raise Unanswered  # not reached: the last round ends it


def _set_time_limit(request: Any, options: dict[str, Any]) -> None:
    seconds = _SECONDS if request.method in ("GET", "HEAD") else _SECONDS_TO_WRITE
    if hasattr(request, "extensions"):  # httpx
        given = request.extensions.get("timeout") or {}
        names = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {name: given.get(name) or seconds for name in names}
    elif options.get("timeout") is None:
        options["timeout"] = seconds


def _keep_token_at_home(request: Any) -> None:
    if urlsplit(str(request.url)).netloc != urlsplit(endpoint()).netloc:
        request.headers.pop("authorization", None)


def _make_repeatable(request: Any) -> None:
    """Take into memory a body that could be read only once; the files that are sent together are small."""
    if hasattr(request, "extensions"):
        request.read()
    elif hasattr(request.body, "read"):
        request.body = request.body.read()


def _is_of_the_network(error: Exception) -> bool:
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore")


def _worth_waiting(response: Any, pause: float | None) -> float | None:
    """How long to wait before the next try; None where there shall be none."""
    if pause is None or response.status_code not in _PASSING:
        return None
    if response.status_code == 429 and rate_limit.wait_budget().seconds:
        return None  # all threads wait, not this one alone
    after = retry_after(response)
    return pause if after is None else after if after <= _LONGEST_WAIT else None
