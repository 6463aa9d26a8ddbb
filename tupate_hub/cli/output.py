"""The one place that prints: data to stdout, talk to stderr; tables for people, tab-separated when piped, JSON."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tupate_hub.cli.columns import display_width, fitting, padded, shortened, width

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

Cell = str | int | float | None

#: The progress bars that are on the terminal.
_BARS: list[str] = []


def json_option(function: F) -> F:
    """`--json`, the same on every verb that answers."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON; docs/cli.md lists the fields.")(function)


def registry_option(function: F) -> F:
    """`--registry`, the same on every verb that reads one."""
    return click.option(
        "--registry",
        metavar="WHERE",
        help="A registry's folder, or OWNER/NAME[@REVISION] on the Hub. "
        "[default: $TUPATE_HUB_REGISTRY, else the bundled zoo]",
    )(function)


def own_registry_option(function: F) -> F:
    """`--registry` of a verb that writes: the bundled zoo is none of its values."""
    return click.option(
        "--registry",
        metavar="DIR",
        help="The folder of a registry of yours, made if need be. [default: $TUPATE_HUB_REGISTRY]",
    )(function)


def opened(registry: str | None) -> Zoo:
    """The registry that the user named, on the Hub or not; says at which commit, and why it may not be the newest."""
    from tupate_hub.zoo import Zoo

    zoo = Zoo.open(registry)
    if zoo.remote is not None:
        note(zoo.remote.note or f"registry {zoo.remote.location}")
    return zoo


def document(value: Any) -> None:
    """Print a value as indented JSON."""
    import json

    text = json.dumps(value, indent=2, ensure_ascii=False)
    if not text.replace("\n", "").isprintable():  # control characters that JSON allows and a terminal would obey
        text = "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)
    click.echo(text)


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], right: Sequence[str] = ()) -> None:
    """Print rows: aligned on a terminal, `right` columns to the right; tab-separated with a header line elsewhere.

    On a terminal texts are shortened until a line fits; numbers never are.
    """
    texts = [[_cell(value) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for line in [list(columns), *texts]:
            click.echo("\t".join(line))
        return
    listed = [list(columns), *texts]
    widths = fitting(
        [max(map(display_width, cells)) for cells in zip(*listed, strict=True)],
        [name in right for name in columns],
        width(),
    )
    for number, line in enumerate(listed):
        cells = [
            padded(shortened(text, most), most, name in right)
            for text, most, name in zip(line, widths, columns, strict=True)
        ]
        whole = "  ".join(cells).rstrip()
        click.echo(whole if number else styled(whole, bold=True))


def on_terminal() -> bool:
    """Whether a person looks at the data as it is printed."""
    return sys.stdout.isatty()


def bar(share: float, columns: int = 10) -> str:
    """A share of 0 to 1 as a bar of eighths of a column."""
    eighths = round(8 * columns * min(1.0, max(0.0, share)))
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def styled(text: str, **style: Any) -> str:
    """Text in a style, where colours are wanted (https://no-color.org)."""
    return text if os.environ.get("NO_COLOR") else click.style(text, **style)


def lines(pairs: Iterable[tuple[str, Cell]]) -> None:
    """Print names and values, one pair a line."""
    listed = [(printable(name), _cell(value)) for name, value in pairs]
    width = max((len(name) for name, _ in listed), default=0)
    separator = "\t" if not sys.stdout.isatty() else "  "
    for name, value in listed:
        click.echo(f"{name if separator == chr(9) else name.ljust(width)}{separator}{value}")


#: What a reader left out, where it is one.
_ONE: Mapping[str, str] = MappingProxyType(
    {
        "aliases": "alias",
        "biases": "bias",
        "DoRA magnitudes": "DoRA magnitude",
        "full copies": "full copy",
        "gates": "gate",
        "heads": "head",
        "other tensors": "other tensor",
        "unchanged weights": "unchanged weight",
        "weights that the base model lacks": "weight that the base model lacks",
    }
)


def counted(count: int, things: str) -> str:
    """A number of things in words, of one of them too."""
    return f"{count} {_ONE.get(things, things) if count == 1 else things}"


def some(values: Iterable[object], most: int = 12) -> str:
    """Values with commas between them, the first ones of many: --json has all."""
    listed = [str(value) for value in values]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def command(*words: object) -> str:
    """A command of this program as a shell takes it: paths may hold blanks."""
    return shlex.join(["tupate-hub", *map(str, words)])


def text(value: str) -> None:
    """Print a line of data."""
    click.echo(value)


def note(sentence: str) -> None:
    """Say something beside the data, on stderr."""
    click.echo(printable(sentence), err=True)


def error(sentence: str, hint: str) -> None:
    """Say what is wrong, on one line or several, and what to type next, on stderr."""
    lines = "\n".join(map(printable, sentence.split("\n")))
    click.echo(styled("Error: ", fg="red") + lines, err=True)
    if hint:
        click.echo(f"  {printable(hint)}", err=True)


def printable(sentence: str) -> str:
    """Text from files without control characters, which a terminal would obey."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in sentence)


@contextmanager
def progress(items: Iterable[T], label: str, length: int | None = None) -> Iterator[Iterable[T]]:
    """A progress bar on stderr around an iteration; nothing where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield items
        return
    _BARS.append(label)
    try:
        with click.progressbar(items, label=label, length=length, file=sys.stderr) as bar:
            yield bar
    finally:
        _BARS.remove(label)


@contextmanager
def arrivals() -> Iterator[None]:
    """Inside, on a terminal, a line says how much of a large file has arrived from the Hub, and goes with its end."""
    if not sys.stderr.isatty():
        yield
        return
    from tupate_hub.hub.exchange import told_to

    shown = [0]

    def show(received: int) -> None:
        megabytes = received // 1_000_000
        if megabytes != shown[0] and not _BARS:
            shown[0] = megabytes
            click.echo(f"\r{megabytes} MB from the Hub" if megabytes else "\r\x1b[K", nl=False, err=True)

    with told_to(show):
        yield


@contextmanager
def resumable() -> Iterator[None]:
    """Around work that goes on where it stopped when the same command is given again: Ctrl-C says so."""
    try:
        yield
    except KeyboardInterrupt:
        note("the same command goes on from the last evaluation")
        raise


class Meter:
    """How far a run is: a bar with loss, metric, rate and time left on a terminal; a line now and then elsewhere."""

    def __init__(self, label: str, quiet: bool) -> None:
        self.label, self.quiet = label, quiet
        self.words = ""
        self.made, self.total, self.began = 0, 0, 0.0

    def over(self, steps: Iterable[T], total: int) -> Iterator[T]:
        """Wrap an iteration over the remaining of `total` steps."""
        self.made, self.total, self.began = 0, total, time.monotonic()
        if not sys.stderr.isatty():
            yield from steps
            return
        bar: Any = click.progressbar(
            length=total,
            label=self.label,
            file=sys.stderr,
            show_pos=True,
            show_eta=False,  # the library's counts the steps of an earlier process into the rate
            item_show_func=lambda item: self.words,
        )
        with bar:
            remaining = list(steps)
            bar.update(total - len(remaining))
            for step in remaining:
                yield step
                bar.update(1)

    def pulse(self, step: int, loss: float, held_out: float | None) -> None:
        """Take note of a step: its loss and the last score."""
        self.made += 1
        rate = self.made / max(1e-9, time.monotonic() - self.began)
        score = "" if held_out is None else f"held-out {held_out:.3f}, "
        left = max(0, round((self.total - step) / rate))
        self.words = f"loss {loss:.3f}, {score}{rate:.1f} steps/s, {duration(left)} left"

    def say(self, sentence: str) -> None:
        """A line, where there is no bar."""
        if not (self.quiet or sys.stderr.isatty()):
            note(sentence)


def duration(seconds: float) -> str:
    """A time in words.

    >>> duration(200)
    '3 min 20 s'
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _cell(value: Cell) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return printable(str(value))
