"""Exchange: one request and its answer, held to a number of bytes and to a pace, with either client of the library.

The limits of time that requests and httpx know are for one call of the operating system: an answer that drips, in its
headers or its body, can take for ever, and what is compressed or has no end is read to the last byte. So a thread of
its own sends the request and reads the answer, and whoever waits for it stops when it is slower than `SLOWEST` on the
whole; the pieces are counted as they leave the decompressor.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from tupate_hub.errors import WorkFailed
from tupate_hub.hub.location import endpoint

T = TypeVar("T")

#: Bytes a second, of the request and of the answer, beside the seconds that are given for each exchange.
SLOWEST = 10_000
#: So many bytes beyond what was expected are still read: they tell whether it is the wrong file or the wrong size.
SPARE = 16_000_000
_PIECE = 64_000
#: Of what is compressed: it grows by at most 1032 times.
_COMPRESSED_PIECE = 8_000
_ENCODINGS = ("", "identity", "gzip", "deflate")

#: From here on an answer is large enough for its progress to be told.
_LARGE = 1_000_000

_LISTENERS: list[Callable[[int], object]] = []
_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


class Exchange:
    """A request of `size` bytes that may take `seconds`, and as long as it needs at the slowest pace; its answer."""

    def __init__(self, most: int, seconds: float, size: int) -> None:
        self._most, self._seconds, self._size = most, seconds, size
        self._began = time.monotonic()
        self._received = 0
        self._over = False
        #: The status of the last answer that began, 0 before the first.
        self.status = 0

    @property
    def left(self) -> float:
        """How many seconds are left, given what has arrived."""
        return self._began + self._seconds + (self._size + self._received) / SLOWEST - time.monotonic()

    def wait_for(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, in a thread of its own, which is left to itself when the time is over.

        Raises
        ------
        WorkFailed
            When it is.
        """
        outcome: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def run() -> None:
            _current.set(self)
            try:
                outcome.put((work(), None))
            except BaseException as error:  # whatever it is, it is raised where it is waited for
                outcome.put((None, error))

        threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True).start()
        while (left := self.left) > 0:
            try:
                value, error = outcome.get(timeout=left)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            return value  # type: ignore[return-value]
        self._over = True
        raise self._too_slow()

    def counted(
        self, pieces: Iterable[bytes], close: Callable[[], object], spare: int | None = None
    ) -> Iterator[bytes]:
        """The pieces of a body, as long as they are no more than was expected and someone waits for them.

        Raises
        ------
        WorkFailed
            When they are, or nobody does: the connection has been closed then.
        """
        most = self._most + (SPARE if spare is None else spare)
        for piece in pieces:
            self._received += len(piece)
            if self._received > most:
                close()
                raise WorkFailed(
                    f"{endpoint()} sent more than {self._received} bytes, where at most {self._most} were expected.",
                    hint="retry; if it happens again, look at HF_ENDPOINT",
                )
            if self._over:
                close()
                raise self._too_slow()
            self._tell(self._received)
            yield piece
        self._tell(0)

    def _tell(self, received: int) -> None:
        if self._received > _LARGE:
            for listener in _LISTENERS:
                listener(received)

    def awaited(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The same, each waited for no longer than there is time."""
        while (piece := self.wait_for(lambda: next(pieces, None))) is not None:
            yield piece

    def _too_slow(self) -> WorkFailed:
        seconds = time.monotonic() - self._began
        return WorkFailed(
            f"{endpoint()} was too slow: {self._received} bytes in {seconds:.0f} s.", hint="retry in a minute"
        )


@contextlib.contextmanager
def told_to(listener: Callable[[int], object]) -> Iterator[None]:
    """Inside, of each large answer, `listener` hears how many bytes have arrived, and 0 at its end; in any thread."""
    _LISTENERS.append(listener)
    try:
        yield
    finally:
        _LISTENERS.remove(listener)


def current() -> Exchange | None:
    """The exchange that this thread works for."""
    return _current.get()


def watch(response: Any, *_: Any, **__: Any) -> None:
    """Have the body of an answer that begins be counted: a hook of both clients, called before they read of it.

    Raises
    ------
    WorkFailed
        When it is compressed in a way that could grow without limit.
    """
    exchange = _current.get()
    if exchange is None:
        return
    exchange.status = int(response.status_code)
    encoding = str(response.headers.get("Content-Encoding") or "").strip().lower()
    if encoding not in _ENCODINGS:
        response.close()
        raise WorkFailed(
            f"{endpoint()} sent an answer in an encoding that was not asked for.", hint="look at HF_ENDPOINT"
        )
    piece = _COMPRESSED_PIECE if encoding else _PIECE
    name = "iter_bytes" if hasattr(response, "iter_bytes") else "iter_content"
    whole = getattr(response, name)

    def counted(chunk_size: int | None = None, *_: Any) -> Iterator[bytes]:
        pieces = whole(min(chunk_size or piece, piece))
        if _current.get() is exchange:
            return exchange.counted(pieces, response.close)
        # The library writes what it streams to a file, from whose end it goes on the next time.
        return exchange.awaited(exchange.counted(pieces, response.close, spare=0))

    setattr(response, name, counted)
