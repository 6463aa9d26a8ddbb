"""Session: the calls of huggingface_hub, held to limits.

The library sends most requests without a limit of time, does not retry a write that failed once, and from its version 1
on sleeps as long as a Hub asks, in silence; it also sends the token to whatever host a listing names as its next page
(`tests/hub/test_library.py`). Inside of `limited`, each of its requests has a limit of time and one of bytes
(`exchange`), is retried where a failure passes quickly, waits for the rate limit only as long as `waiting_allowed` lets
it, and takes the token to the endpoint alone. Outside of it nothing changes for whoever else uses the library in this
process.
"""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tupate_hub.errors import Unanswered, WorkFailed
from tupate_hub.hub import rate_limit
from tupate_hub.hub.errors import CUT_OFF, retry_after, translated
from tupate_hub.hub.exchange import Exchange, current, watch
from tupate_hub.hub.location import Location, endpoint, offline

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_PAUSES = (0.2, 0.5)
_LONGEST_WAIT = 20.0
_BLIND_WAIT = 10.0
_QUICK = 2.0
#: How long the operating system is waited for: a connection, the next bytes; the answer to what was sent.
_SECONDS = 10.0
_SECONDS_TO_WRITE = 60.0
#: What an exchange may take beyond that, whatever its size.
_GRACE = 10.0
_IN_CIRCLES = "it redirects in circles"
_PASSING = (429, 500, 502, 503, 504)
#: Of an answer in JSON: that about a repository of 100,000 files has some 30 MB.
_MOST_ANSWER = 64_000_000

_pages: ContextVar[_Pages | None] = ContextVar("pages", default=None)
_most_bytes: ContextVar[int] = ContextVar("most_bytes", default=_MOST_ANSWER)


@contextlib.contextmanager
def hub_api(
    location: Location, file: str = "", most_requests: int | None = None, most_bytes: int | None = None
) -> Iterator[HfApi]:
    """The library's client of the Hub, whose requests are limited; what they raise is translated on leaving.

    `location` and `file` are what the calls are about, for the messages. After `most_requests` of this thread, and when
    one of them comes a second time, the work is given up: the library follows a listing from page to page for ever. An
    answer has at most `most_bytes`, 64 MB unless given, and 16 MB that are read before it is refused.

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

    token = _pages.set(None if most_requests is None else _Pages(most_requests))
    try:
        with limited(most_bytes):
            yield HfApi(endpoint=endpoint(), library_name="tupate-hub", library_version=__version__)
    except Exception as error:
        meaning = translated(error, location, file, endpoint(), offline())
        if meaning is None:
            raise
        raise meaning from error
    finally:
        _pages.reset(token)


@contextlib.contextmanager
def limited(most_bytes: int | None = None) -> Iterator[None]:
    """Inside, requests of the library keep the limits, in all of its threads, and it makes no remarks of its own.

    A request that is given up raises `Unanswered`; one whose answer is larger or slower than it may be, `WorkFailed`.
    """
    token = _most_bytes.set(_MOST_ANSWER if most_bytes is None else most_bytes)
    try:
        with _GUARD.entered():
            yield
    finally:
        _most_bytes.reset(token)


class _Pages:
    """The pages of a listing that were asked for, each of which names the next."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._asked: set[str] = set()

    def turn(self, address: str) -> None:
        """Take note of the next one.

        Raises
        ------
        WorkFailed
            When it is one of those before, or there are too many.
        """
        if address in self._asked or len(self._asked) >= self._most:
            raise WorkFailed(f"{endpoint()} answers page after page without end.", hint="look at HF_ENDPOINT")
        self._asked.add(address)


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
        if hasattr(session, "event_hooks"):  # httpx
            session.event_hooks = {**session.event_hooks, "response": [*session.event_hooks["response"], watch]}
        else:
            session.hooks["response"].append(watch)
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
    _require_address(request)
    _keep_token_at_home(request)
    if current() is not None:  # where requests was redirected to, which is a part of the same exchange
        return type(session).send(session, request, **options)
    if offline():
        raise Unanswered
    if (pages := _pages.get()) is not None:
        pages.turn(str(request.url))
    _set_time_limit(request, options)
    request.headers["accept-encoding"] = _encodings(request.headers.get("accept-encoding"))
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
            if asked is not None and asked > _LONGEST_WAIT and _is_home(response.url):
                rate_limit.RATE_LIMIT.pause(asked)
            raise Unanswered(response)
        response.close()
        left -= wait
        if rate_limit.RATE_LIMIT.pause(wait):
            budget.tell(wait)


def _try(session: Any, request: Any, options: dict[str, Any]) -> Any:
    """Whatever the Hub answers. Failures that pass are tried again, three times in all and only where that is quick.

    A Hub that had begun to answer was there: that is what is told when the next try does not come so far.
    """
    said = ""
    for pause in (*_PAUSES, None):
        budget = rate_limit.wait_budget()
        rate_limit.RATE_LIMIT.wait(budget.over, max(budget.seconds, _LONGEST_WAIT))
        exchange = Exchange(_most_bytes.get(), _time_limit(request) + _GRACE, len(_body(request)))
        began = time.monotonic()
        try:
            response = exchange.wait_for(lambda: type(session).send(session, _again(request), **options))
        except Exception as error:  # each version of the library has its own
            why = _why(error, exchange.status)
            if not (why or _is_of_the_network(error)):
                raise
            said = said or why
            if pause is None or why == _IN_CIRCLES or time.monotonic() - began > _QUICK:
                raise Unanswered(why=said) from error
        else:
            pause = _worth_waiting(response, pause)
            if pause is None:
                return response
            response.close()
        time.sleep(pause)
    raise Unanswered  # not reached: the last round ends it


def _why(error: Exception, status: int) -> str:
    """What the Hub did instead of answering, where a request failed after an answer of that status had begun."""
    if isinstance(error, WorkFailed):
        return ""
    if type(error).__name__ == "TooManyRedirects":
        return _IN_CIRCLES
    if 300 <= status < 400 and (isinstance(error, ValueError) or _is_of_the_network(error)):
        return "it names another address, which does not answer"
    return CUT_OFF if status and _is_of_the_network(error) else ""


def _time_limit(request: Any) -> float:
    return _SECONDS if request.method in ("GET", "HEAD") else _SECONDS_TO_WRITE


def _set_time_limit(request: Any, options: dict[str, Any]) -> None:
    seconds = _time_limit(request)
    if hasattr(request, "extensions"):  # httpx
        given = request.extensions.get("timeout") or {}
        limits = {"connect": _SECONDS, "read": seconds, "write": _SECONDS, "pool": seconds}
        request.extensions["timeout"] = {name: given.get(name) or limit for name, limit in limits.items()}
    elif options.get("timeout") is None:
        options["timeout"] = (_SECONDS, seconds)


def _require_address(request: Any) -> None:
    if urlsplit(str(request.url)).scheme not in ("http", "https"):
        raise WorkFailed(f"{endpoint()} names an address that is none of the web's.", hint="look at HF_ENDPOINT")


def _keep_token_at_home(request: Any) -> None:
    if not _is_home(request.url):
        request.headers.pop("authorization", None)


def _is_home(url: Any) -> bool:
    """Whether an address is the Hub's own."""
    there, home = urlsplit(str(url)), urlsplit(endpoint())
    return (there.scheme, there.netloc) == (home.scheme, home.netloc)


def _encodings(asked: str | None) -> str:
    """The compression that is asked for: none that could grow without limit."""
    return "identity" if asked == "identity" else "gzip, deflate"


def _make_repeatable(request: Any) -> None:
    """Take into memory a body that could be read only once; the files that are sent together are small."""
    if hasattr(request, "extensions"):
        request.read()
    elif hasattr(request.body, "read"):
        request.body = request.body.read()


def _body(request: Any) -> bytes:
    body = request.content if hasattr(request, "extensions") else request.body
    return body.encode() if isinstance(body, str) else body or b""


def _again(request: Any) -> Any:
    """The request with its body at the start; requests sends a file in pieces, each with a limit of time of its own."""
    if not hasattr(request, "extensions") and isinstance(request.body, bytes):
        request = request.copy()
        request.body, request._body_position = io.BytesIO(request.body), 0  # to which it goes back for a redirection
    return request


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
