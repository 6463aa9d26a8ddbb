"""StreamedAdapter: an adapter of a model repository as it passes through memory; nothing of its weights is kept.

Its configuration is one request. Its weights are one more, or two where they are large: the first tells their size
before the rest is asked for. Of a safetensors file some tensors alone can be fetched, by their ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tupate_hub.arrays import Array
from tupate_hub.errors import FormatError, WorkFailed
from tupate_hub.hub import client
from tupate_hub.hub.adapter_files import CONFIG, MOST_CONFIG, container_in, parse_config, weights_of
from tupate_hub.hub.cache import MOST_FILE, require_modest
from tupate_hub.hub.client import Answer
from tupate_hub.hub.digest import has_digest
from tupate_hub.hub.location import Location
from tupate_hub.storage.safetensors import header_length, read_header, tensor_of, tensor_spans

#: What is asked for first: of a file that is wanted whole, most often all of it, and of one of which a part is.
_START, _START_OF_PART = 8_000_000, 64_000
#: Ranges with less between them are fetched as one: a request costs as much.
_GAP = 64_000


@dataclass(frozen=True)
class StreamedAdapter:
    """An adapter whose configuration and the first bytes of whose weights have been fetched.

    `config` is None where there is none and has `config_size` bytes, `size` is that of the weights file.
    """

    location: Location
    config: Mapping[str, Any] | None
    file: str
    size: int
    config_size: int
    _first: Answer

    @property
    def begun(self) -> int:
        """How many bytes of the weights were fetched."""
        return len(self._first.data)

    @property
    def sha256(self) -> str:
        """That of the weights, as the Hub gives it and `read` has checked it; "" where it gives another digest."""
        return self._first.digest if len(self._first.digest) == 64 else ""

    @property
    def where(self) -> str:
        """How messages name the weights."""
        return f"{self.location}/{self.file}"

    def read(self) -> bytes:
        """The weights file, whose digest is that which the Hub gives.

        Raises
        ------
        WorkFailed
            When it arrived with another content.
        TupateHubError
            As `client.get`.
        """
        data = self._first.data
        if len(data) < self.size:
            rest = client.get_range(self.location, self.file, len(data), self.size)
            data = b"".join((data, rest.data))
        if self._first.digest and not has_digest(data, self._first.digest):
            raise WorkFailed(
                f"{self.where} does not have the announced content: it was not kept.",
                hint="retry; if it happens again, tell its publisher",
            )
        return data

    def outline(self) -> Outline:
        """The header of the weights file.

        Raises
        ------
        FormatError
            When it is no safetensors file, of which alone a part can be fetched, or is malformed.
        TupateHubError
            As `client.get`.
        """
        if not self.file.endswith(".safetensors"):
            raise FormatError(
                f"{self.where} is not in safetensors: it cannot be fetched in part.", hint="leave out `blocks`"
            )
        data = self._first.data
        wanted = 8 + header_length(data, self.where, self.size)
        if wanted > len(data):
            data = client.get(self.location, self.file, wanted - 1).data
        header, begin = read_header(data, self.where, self.size)
        metadata = header.pop("__metadata__", None)
        spans = tensor_spans(header, self.where, self.size - begin)
        placed = {name: (begin + start, begin + stop) for name, (start, stop) in spans.items()}
        return Outline(self, header, placed, metadata if isinstance(metadata, dict) else {})


@dataclass(frozen=True)
class Outline:
    """What a safetensors file holds: its header's entries, and where in the file the bytes of each tensor are."""

    adapter: StreamedAdapter
    entries: Mapping[str, Any]
    spans: Mapping[str, tuple[int, int]]
    metadata: Mapping[str, Any]

    def chosen(self, wanted: Callable[[str], bool]) -> dict[str, tuple[int, int]]:
        """The wanted tensors, in the order of the file, with where they are."""
        return dict(sorted((one for one in self.spans.items() if wanted(one[0])), key=lambda one: one[1]))

    def read(self, chosen: Mapping[str, tuple[int, int]]) -> dict[str, Array]:
        """Tensors by name, fetched by their ranges; the Hub gives no digest of a part.

        Raises
        ------
        FormatError
            When the file's header does not describe them.
        TupateHubError
            As `client.get`.
        """
        tensors = {}
        for names in _runs(chosen):
            start, stop = chosen[names[0]][0], chosen[names[-1]][1]
            data = self._bytes(start, stop)
            for name in names:
                begin, end = (at - start for at in chosen[name])
                tensors[name] = tensor_of(data[begin:end], name, self.entries[name], self.adapter.where)
        return tensors

    def fetched(self, chosen: Mapping[str, tuple[int, int]]) -> int:
        """How many bytes of the weights come over the network where these tensors are read, the header included."""
        spans = [(chosen[names[0]][0], chosen[names[-1]][1]) for names in _runs(chosen)]
        return self.adapter.begun + sum(stop - start for start, stop in spans if stop > self.adapter.begun)

    def _bytes(self, start: int, stop: int) -> memoryview:
        there = self.adapter._first.data
        if stop <= len(there):
            return memoryview(there)[start:stop]
        return memoryview(client.get_range(self.adapter.location, self.adapter.file, start, stop).data)


def open_streamed(
    at: Location, names: Collection[str], base: str, tagged: str | None, in_part: bool = False
) -> StreamedAdapter:
    """Begin with the adapter of a repository at a commit, which has files of these names.

    Parameters
    ----------
    base : str
        The base model that is wanted.
    tagged : str or None
        The one that the card names.
    in_part : bool
        Whether some tensors alone will be read: less is fetched at first.

    Raises
    ------
    FormatError
        When it holds no adapter of a known library, or one that is too large.
    SpaceMismatch
        When it is of another base model; said before weights are fetched.
    TupateHubError
        As `client.get`.
    """
    config, config_size = None, 0
    if CONFIG in names:
        answer = client.get_whole(at, CONFIG, MOST_CONFIG)
        require_modest(f"{at}/{CONFIG}", answer.size, MOST_CONFIG)
        config, config_size = parse_config(at, answer.data), answer.size
        file = weights_of(at, config, names, tagged, base)
    else:
        file = container_in(at, names, tagged, base)
    first = client.get(at, file, (_START_OF_PART if in_part else _START) - 1)
    require_modest(f"{at}/{file}", first.size, MOST_FILE)
    return StreamedAdapter(at, config, file, first.size, config_size, first)


def _runs(spans: Mapping[str, tuple[int, int]]) -> Iterator[Sequence[str]]:
    """Names of tensors that lie next to each other, or nearly so."""
    run: list[str] = []
    for name, (start, _) in spans.items():
        if run and start - spans[run[-1]][1] > _GAP:
            yield run
            run = []
        run.append(name)
    if run:
        yield run
