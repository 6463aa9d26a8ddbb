"""Among: adapters on disk as a registry for the length of one question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tupate_hub.collect.add import Additions, open_or_start
from tupate_hub.collect.add_all import add_all
from tupate_hub.collect.naming import default_name
from tupate_hub.errors import FormatError
from tupate_hub.readers import find_adapters
from tupate_hub.zoo import Zoo


def adapters_below(folder: Path) -> list[Path]:
    """As `find_adapters`, of which there has to be one.

    Raises
    ------
    FormatError
        When there is none, or it is not a folder.
    """
    paths = find_adapters(folder)
    if not paths:
        raise FormatError(f"There is no adapter below {folder}.", hint="tupate-hub inspect PATH")
    return paths


@contextmanager
def gathered(places: Sequence[Path], base: str | None = None) -> Iterator[tuple[Zoo, Additions]]:
    """A registry of all adapters below some folders, which is gone afterwards, and what became of each.

    Raises
    ------
    FormatError
        When a place does not exist, or none of them holds an adapter that can be read.
    """
    paths = [path for place in places for path in ([place] if place.is_file() else find_adapters(place))]
    with TemporaryDirectory(prefix="tupate-hub-") as folder:
        zoo, became = add_all(open_or_start(folder), paths, unique_names(paths), base=base)
        if not became.added:
            why = f": {became.rejected[0].reason}" if became.rejected else "."
            raise FormatError(f"There is no adapter to compare with{why}", hint="tupate-hub inspect PATH")
        yield zoo, became


def unique_names(paths: Sequence[Path], above: Path | None = None) -> list[str]:
    """A name for each path: its `default_name` where no other has that, else its whole way, below `above`."""
    usual = [default_name(path) for path in paths]
    count = Counter(usual)

    def way(path: Path) -> str:
        parts = path.parts if above is None else path.relative_to(above).parts
        return "__".join(part for part in parts if part not in ("/", ".", "..")) or path.resolve().name

    return [name if count[name] == 1 else way(path) for name, path in zip(usual, paths, strict=True)]
