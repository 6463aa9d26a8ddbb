"""Shards: rows in order of their keys, cut into files of some hundred each, of which one is read to find a row."""

from __future__ import annotations

import hashlib
import json
import zlib
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Generic, TypeVar, overload

from tupate_hub.storage.rows import PLACE, Check, Reader, parse_text

T = TypeVar("T")
#: What rows are in order of: the parts of a row's name, compared one after the other.
Key = tuple[str, ...]

#: A shard begins at one of so many rows, by a digest of the key: the same rows are cut in the same way, whatever was
#: written before, and the shard of any row has about a thousand.
ONE_IN = 512
#: A shard that claims more is not read, in bytes.
MOST_BYTES = 64_000_000
_MOST_ITEMS = 4_000_000
#: So many shards that were read are held.
_MOST_HELD = 16


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of row: its name, its key, and how it is read from an object, and written as one."""

    name: str
    parts: int
    key: Callable[[T], Key]
    read: Callable[[Check, int, Any], T]
    write: Callable[[T], dict[str, Any]]


@dataclass(frozen=True)
class Shard:
    """A run of rows in a file: its keys, how many rows, and where; `data` are the bytes of one that is not written."""

    first: Key
    last: Key
    count: int
    file: str
    size: int
    sha256: str
    data: bytes | None = field(default=None, compare=False, repr=False)

    @property
    def place(self) -> tuple[str, int, str]:
        """Its path, bytes and sha256."""
        return self.file, self.size, self.sha256


@dataclass(frozen=True)
class Shards(Generic[T]):
    """All rows of a kind, each key once. `read` reads a file of the registry and `where` is how messages name that."""

    kind: Kind[T] = field(compare=False)
    shards: tuple[Shard, ...] = ()
    read: Reader | None = field(default=None, compare=False, repr=False)
    where: str = field(default="", compare=False)
    _held: dict[str, tuple[T, ...]] = field(default_factory=dict, compare=False, repr=False)

    def get(self, key: Key) -> T | None:
        """The row of a key; one shard at most is read.

        Raises
        ------
        RegistryError, FormatError
            When the shard is damaged, or is not what its registry says.
        """
        at = bisect_left(self._lasts, key)
        if at == len(self.shards) or self.shards[at].first > key:
            return None
        rows = self.rows_of(self.shards[at])
        place = bisect_left(rows, key, key=self.kind.key)
        return rows[place] if place < len(rows) and self.kind.key(rows[place]) == key else None

    def near(self, key: Key) -> tuple[T, ...]:
        """The rows of the one shard in which a key would be; errors as `get`."""
        if not self.shards:
            return ()
        return self.rows_of(self.shards[min(bisect_left(self._lasts, key), len(self.shards) - 1)])

    def rows(self) -> Rows[T]:
        """All of them, in order."""
        return Rows(self, 0, self._ends[-1] if self.shards else 0)

    def beginning(self, prefix: Key) -> Rows[T]:
        """The rows whose keys begin with some parts; errors as `get`, since the first and the last one are looked for.

        How many there are is known without the shards in between.
        """
        return Rows(self, self._place(prefix, bisect_left), self._place(prefix, bisect_right))

    def _place(self, prefix: Key, side: Callable[..., int]) -> int:
        """How many rows come before those that begin with a prefix, or before those behind them."""
        size = len(prefix)
        at = side([shard.last[:size] for shard in self.shards], prefix)
        if at == len(self.shards):
            return self._ends[-1] if self.shards else 0
        before = self._ends[at] - self.shards[at].count
        if side((self.shards[at].first[:size],), prefix) == 0:
            return before
        return before + side(self.rows_of(self.shards[at]), prefix, key=lambda row: self.kind.key(row)[:size])

    def rows_of(self, shard: Shard) -> tuple[T, ...]:
        """The rows of a shard, checked; errors as `get`."""
        held = self._held.pop(shard.sha256, None)
        if held is None:
            held = self._parsed(shard)
            while len(self._held) >= _MOST_HELD:
                del self._held[next(iter(self._held))]
        self._held[shard.sha256] = held
        return held

    def _parsed(self, shard: Shard) -> tuple[T, ...]:
        check = Check(f"{self.where}{shard.file}")
        data = shard.data
        if data is None:
            check.that(self.read is not None, "the shard", "there is nothing to read it from")
            data = self.read(*shard.place) if self.read is not None else b""
        listed = parse_text(data, check.where, _MOST_ITEMS)
        check.that(isinstance(listed, list), "the shard", "must be a list")
        rows = tuple(self.kind.read(check, number, fields) for number, fields in enumerate(listed))
        keys = [self.kind.key(row) for row in rows]
        check.that(len(rows) == shard.count, "the shard", f"has {len(rows)} rows, the registry says {shard.count}")
        for one, other in pairwise(keys):
            check.that(one < other, "the shard", f"{_said(other)} comes behind {_said(one)}")
        inside = keys[0] == shard.first and keys[-1] == shard.last
        said = f"goes from {_said(keys[0])} to {_said(keys[-1])}"
        check.that(inside, "the shard", f"{said}, the registry says {_said(shard.first)} to {_said(shard.last)}")
        return rows

    # --- changing --------------------------------------------------------------------------------------------------

    def changed(self, put: Iterable[T], drop: Iterable[Key] = ()) -> Shards[T]:
        """These with some rows put in, in the place of those of the same key, and some taken out.

        The shards that the rows belong to are read and made anew, no others.
        """
        changes: defaultdict[int, dict[Key, T | None]] = defaultdict(dict)
        firsts = [shard.first for shard in self.shards]
        for key, row in [*((key, None) for key in drop), *((self.kind.key(row), row) for row in put)]:
            changes[max(0, bisect_right(firsts, key) - 1)][key] = row
        made: list[Shard] = []
        done = 0
        for at in sorted(changes):
            made += self.shards[done:at]
            old = self.rows_of(self.shards[at]) if self.shards else ()
            rows = {**{self.kind.key(row): row for row in old}, **changes[at]}
            made += _cut(self.kind, [row for _, row in sorted(rows.items()) if row is not None])
            done = at + 1
        return Shards(self.kind, (*made, *self.shards[done:]), self.read, self.where)

    def since(self, old: Shards[T]) -> tuple[list[T], set[Key]]:
        """The rows that others do not have, or have otherwise, and the keys that they alone have.

        Shards that both have are not read.
        """
        gone = (self.kind.key(row) for row in old.unlike(self))
        return list(self.unlike(old)), {key for key in gone if self.get(key) is None}

    def unlike(self, other: Shards[T]) -> Iterator[T]:
        """The rows that another has not, or has otherwise. Shards that both have are not read, of others few held."""
        same = {shard.sha256 for shard in other.shards}
        for shard in self.shards:
            if shard.sha256 not in same:
                yield from (row for row in self.rows_of(shard) if other.get(self.kind.key(row)) != row)

    # --- what the registry says ------------------------------------------------------------------------------------

    def manifest(self) -> list[dict[str, Any]]:
        """What `registry.json` says of them."""
        return [
            {
                "first": list(shard.first),
                "last": list(shard.last),
                "count": shard.count,
                "file": shard.file,
                "bytes": shard.size,
                "sha256": shard.sha256,
            }
            for shard in self.shards
        ]

    @cached_property
    def _lasts(self) -> list[Key]:
        return [shard.last for shard in self.shards]

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(shard.count for shard in self.shards))

    def at(self, number: int) -> tuple[int, int]:
        """In which shard the row of a number is, and at which place there."""
        shard = bisect_right(self._ends, number)
        return shard, number - self._ends[shard] + self.shards[shard].count


@dataclass(frozen=True)
class Rows(Sequence[T]):
    """A stretch of the rows of shards. Going through it holds a few shards in memory at a time."""

    shards: Shards[T]
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[T]:
        done = self.start
        while done < self.stop:
            shard, place = self.shards.at(done)
            rows = self.shards.rows_of(self.shards.shards[shard])[place : place + self.stop - done]
            yield from rows
            done += len(rows)

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[T]: ...
    def __getitem__(self, at: int | slice) -> T | Sequence[T]:
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            if step == 1:
                return Rows(self.shards, self.start + start, self.start + max(start, stop))
            return tuple(self[number] for number in range(start, stop, step))
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        shard, place = self.shards.at(self.start + at % len(self))
        return self.shards.rows_of(self.shards.shards[shard])[place]


def shards_of(kind: Kind[T], rows: Iterable[T]) -> Shards[T]:
    """Rows in shards that are not written yet; no two have one key."""
    return Shards(kind, tuple(_cut(kind, sorted(rows, key=kind.key))))


def read_manifest(check: Check, kind: Kind[T], listed: Sequence[Any], read: Reader | None, where: str) -> Shards[T]:
    """The shards that a registry lists, none of which is read yet.

    Raises
    ------
    RegistryError
        When their places are not such, or two of them overlap.
    """
    shards = tuple(_listed(check, f"shard {number} of {kind.name}", kind, one) for number, one in enumerate(listed))
    for number, (one, other) in enumerate(pairwise(shards), 1):
        check.that(one.last < other.first, f"shard {number} of {kind.name}", "it begins before the end of the last one")
    return Shards(kind, shards, read, where)


def _listed(check: Check, where: str, kind: Kind[T], data: Any) -> Shard:
    fields = check.fields(data, where, {**PLACE, "first": (list, None), "last": (list, None), "count": (int, None)})
    check.require_placed(where, fields)
    check.that(fields["bytes"] <= MOST_BYTES, where, f"it has {fields['bytes']} bytes; at most {MOST_BYTES} are read")
    for end in ("first", "last"):
        fields[end] = check.texts(where, end, fields[end])
        check.that(len(fields[end]) == kind.parts, where, f"field {end!r} must have {kind.parts} parts")
    check.that(fields["first"] <= fields["last"], where, "its first row comes behind its last")
    check.that(fields["count"] > 0, where, "field 'count' must be above 0")
    return Shard(size=fields.pop("bytes"), **fields)


def _cut(kind: Kind[T], rows: Sequence[T]) -> Iterator[Shard]:
    """Rows in order as shards, each of which begins at a key that says so."""
    start = 0
    for at in range(1, len(rows) + 1):
        if at == len(rows) or zlib.crc32("\0".join(kind.key(rows[at])).encode()) % ONE_IN == 0:
            yield _shard(kind, rows[start:at])
            start = at


def _shard(kind: Kind[T], rows: Sequence[T]) -> Shard:
    """A shard that is not written: a JSON list with a row a line, under a name with the digest of its bytes."""
    lines = (json.dumps(kind.write(row), sort_keys=True, ensure_ascii=False) for row in rows)
    data = ("[\n" + ",\n".join(lines) + "\n]\n").encode()
    digest = hashlib.sha256(data).hexdigest()
    file = f"zoo/{kind.name}/{digest[:16]}.json"
    return Shard(kind.key(rows[0]), kind.key(rows[-1]), len(rows), file, len(data), digest, data)


def _said(key: Key) -> str:
    return " in ".join(repr(part) for part in reversed(key))
