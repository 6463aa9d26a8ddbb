"""The dataset card of a registry, with its pictures and its browsable table: made from the registry and its indexes."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from tupate_hub.compare.pair_index import PairIndex
from tupate_hub.compare.similarity import SIMILARITIES
from tupate_hub.hub.location import SPACE, Location
from tupate_hub.publish.browse import browse_tables, nearest
from tupate_hub.publish.card_text import MOST_ROWS, counted, escaped, figure, more
from tupate_hub.publish.frontmatter import FOLDER, About, front_matter
from tupate_hub.publish.layout import coordinates
from tupate_hub.publish.pictures import Point, heatmap, task_map
from tupate_hub.publish.provenance import provenance_section
from tupate_hub.publish.sample import sample_of
from tupate_hub.publish.subspaces import subspace_map, subspace_section
from tupate_hub.publish.table import markdown_table
from tupate_hub.publish.total import Total, embeddings_in
from tupate_hub.publish.trust import trust_section
from tupate_hub.registry import Entry, Registry

if TYPE_CHECKING:
    from tupate_hub.subspace.subspace import Subspace
    from tupate_hub.zoo import Zoo

#: Where the card of a folder lies; `push` sends it as README.md.
CARD = "zoo/README.md"
#: The similarity that the pictures and the table show.
SHOWN = "update"
#: With fewer tasks a space has no pictures and no share of good neighbours: they would say nothing.
FEWEST_SHOWN = 5

_COLUMNS = ("task", "what it asks", "kind", "metric", "score", "baseline", "train size", "nearest", "note")
#: Columns that describe a task; a space whose tasks the default space has does not repeat them.
_OF_THE_TASK = ("what it asks", "kind", "train size")
_OF_A_SAMPLE = ", of a large space for the best-scored ones and some others"
_AMONG = " among these, by scores estimated from sketches"
_SAMPLE_SAYS = (
    "Shown are {:,} of {:,} embeddings, the best-scored ones and others; scores are estimated from sketches.\n\n"
)
_COLUMNS_SAY = (
    "`score` is the metric on validation data, `baseline` the best that needs no input; `weak` tasks do not clearly "
    f"beat it. `nearest` is by the cosine of the `{SHOWN}` similarity.\n\n"
)
Indexes = Mapping[str, Mapping[str, PairIndex]]


BUNDLED = About("The bundled zoo of tupate-hub", "", ("en",))


def card_of(zoo: Zoo, about: About, at: str = CARD) -> dict[str, bytes]:
    """The card of a zoo and what it shows, from the indexes that are stored with it; see `card_files`.

    Raises
    ------
    FormatError
        When a file of the zoo is damaged. An index that no longer fits the registry is computed anew.
    """
    shown = sample_of(zoo)
    indexes: dict[str, dict[str, PairIndex]] = {}
    for space in shown.registry.spaces.values():
        if shown.registry.in_space(space.name):
            wanted = [name for name in SIMILARITIES if name == SHOWN or name in space.index]
            indexes[space.name] = {name: shown.index(space.name, name) for name in wanted}
    return card_files(shown.registry, indexes, about, at, smallest_subspaces(zoo), shown.totals)


def smallest_subspaces(zoo: Zoo) -> dict[str, Subspace]:
    """The subspace of fewest dimensions of each space that has any."""
    held = {space.name: space.subspaces for space in zoo.registry.spaces.values() if space.subspaces}
    names = {space: min(places, key=lambda name: int(places[name]["dim"])) for space, places in held.items()}
    return {space: zoo.subspace(space, name) for space, name in names.items()}


def card_files(
    registry: Registry,
    indexes: Indexes,
    about: About,
    at: str = CARD,
    subspaces: Mapping[str, Subspace] | None = None,
    totals: Mapping[str, Total] = MappingProxyType({}),
) -> dict[str, bytes]:
    """The card, pictures of each space, and the browsable table. The same input gives the same bytes.

    The pictures are a heatmap and a map, of spaces that have at least `FEWEST_SHOWN` tasks.

    Parameters
    ----------
    registry : Registry
        Texts in it are taken for a stranger's: whatever they hold, they stay text.
    indexes : mapping of str to mapping of str to PairIndex
        For each space that has embeddings the index of `update`, and of other similarities where they are known.
    about : About
        Title, location and languages.
    at : str
        Where the card lies, relative to the registry; its links start from there.
    subspaces : mapping of str to Subspace, optional
        The subspace of each space that is to be shown.
    totals : mapping of str to Total
        Of the spaces of which `registry` has a sample alone, all that they have (`publish.sample`).

    Returns
    -------
    The files by their paths relative to the registry.
    """
    indexes = {space: indexes[space] for space in _largest_first(registry) if space in indexes}
    tables = browse_tables(registry, {space: each[SHOWN] for space, each in indexes.items()})
    files = {name: text.encode() for name, text in tables.items()}
    for space, each in indexes.items():
        if len(each[SHOWN].tasks) >= FEWEST_SHOWN:
            for kind, text in _pictures(registry, space, each[SHOWN]).items():
                files[_picture(space, kind)] = text.encode()
    parts = [front_matter(registry, about, at, totals), _introduction(registry, indexes, about, totals)]
    if registry.entries:
        small = {space: each for space, each in indexes.items() if _is_small(registry, space)}
        parts += [trust_section(registry, indexes, _where(about)), _spaces(registry, totals)]
        parts += [
            _space(registry, space, each[SHOWN], at, totals.get(space))
            for space, each in indexes.items()
            if space not in small
        ]
        parts += [_small_spaces(registry, {space: each[SHOWN] for space, each in small.items()})] if small else []
        parts += [provenance_section(registry), _limits()]
    if subspaces:
        kinds = {task.name: task.kind for task in registry.tasks.values()}
        shown = {space: subspace_map(subspace, kinds).encode() for space, subspace in subspaces.items()}
        files |= {_picture(space, "subspace"): data for space, data in shown.items()}
        here = posixpath.dirname(at) or "."
        links = {space: posixpath.relpath(_picture(space, "subspace"), here) for space in shown}
        parts.append(subspace_section(subspaces, links))
    files[at] = "\n".join(parts).encode()
    return files


def _largest_first(registry: Registry) -> list[str]:
    """The spaces as people want to see them: the default one, then by how many embeddings they have."""
    return sorted(
        registry.spaces, key=lambda name: (name != registry.default_space, -len(registry.in_space(name)), name)
    )


def _is_small(registry: Registry, space: str) -> bool:
    """Whether a space shares a section with others: too few tasks for pictures, and not the default one."""
    return space != registry.default_space and len(registry.in_space(space)) < FEWEST_SHOWN


def _picture(space: str, kind: str) -> str:
    return f"zoo/{space}/{kind}.svg"


def _pictures(registry: Registry, space: str, index: PairIndex) -> dict[str, str]:
    scores = index.scores()
    points, shares = coordinates(scores, 2)
    places = [
        Point(entry.task, float(x), float(y), registry.tasks[entry.task].kind, "weak" in entry.flags)
        for entry, (x, y) in zip(_compared(registry, space, index), points, strict=True)
    ]
    return {
        "heatmap": heatmap(f"Similarity of tasks: {space}", index.tasks, scores),
        "map": task_map(f"Map of tasks: {space}", places, shares.tolist()),
    }


def _compared(registry: Registry, space: str, index: PairIndex) -> list[Entry]:
    """The entries that an index has, in its order."""
    by_task = {entry.task: entry for entry in registry.in_space(space)}
    return [by_task[task] for task in index.tasks]


# --- sections --------------------------------------------------------------------------------------------------


def _where(about: About) -> str:
    """The option by which the card's commands find the registry, with a blank before it."""
    return f" --registry {about.location}" if about.location else ""


def _introduction(registry: Registry, indexes: Indexes, about: About, totals: Mapping[str, Total]) -> str:
    held = counted(len({entry.task for entry in registry.entries}), "task")
    if totals:
        held = f"{embeddings_in(registry, totals):,} adapters"
    text = (
        f"# {escaped(about.title)}\n\n"
        f"Embeddings of {held} in {counted(len(registry.spaces), 'space')}, made of parameters that "
        "were tuned on them (LoRA, adapters, prompts and the like). Given a task or an adapter of yours, "
        "`tupate-hub` ranks them by similarity: which task, and which ready adapter, to start from. No model, no torch "
        "and no training is needed for that.\n\n"
        "`registry.json` lists every file with its size and sha256; the table in the viewer has a row for each "
        f"embedding{_OF_A_SAMPLE if totals else ''}, with its five nearest neighbours{_AMONG if totals else ''}.\n"
    )
    if about.explorer:
        text += f"\n[Search it, and drop an adapter on it]({Location(SPACE, about.explorer).page}).\n\n"
    if any(entry.repeats for entry in registry.entries):
        text += "Files in `repeats/` are other runs of the same tasks, to be measured and not to be ranked.\n"
    if registry.entries and not any(each[SHOWN].tasks for each in indexes.values()):
        return f"{text}\nNo weights are kept here: `tupate-hub list{_where(about)}` shows what is known.\n"
    shown = [space for space, each in indexes.items() if each[SHOWN].tasks]
    space = registry.default_space if registry.default_space in shown else next(iter(shown), "")
    if not space:
        return f"{text}\nThe registry is empty: `tupate-hub add PATH --registry DIR` adds an adapter.\n"
    task = _example(indexes[space][SHOWN])
    where = _where(about)
    at = "" if space == registry.default_space else f" --space {space}"
    form = " --as peft" if registry.spaces[space].method == "lora" else ""
    entry = registry.get(task, space)
    pull = f"tupate-hub pull {task}{at}{form}{where}\n" if entry is not None and entry.has_file else ""
    return f"{text}\n## Use\n\n```bash\npip install tupate-hub\ntupate-hub similar {task}{at}{where}\n{pull}```\n" + (
        "\n`DIR` is the folder that has `registry.json`.\n" if about.location == FOLDER else ""
    )


def _example(index: PairIndex) -> str:
    """A task with a near neighbour, so that its ranking shows something."""
    scores = index.scores()
    best = [max((round(float(scores[row, at]), 6) for at in nearest(scores, row, index.tasks, 1)), default=0.0)
            for row in range(len(index.tasks))]  # fmt: skip
    return index.tasks[best.index(max(best))]


def _spaces(registry: Registry, totals: Mapping[str, Total]) -> str:
    rows = []
    for space in (registry.spaces[name] for name in _largest_first(registry)):
        entries = registry.in_space(space.name)
        total = totals.get(space.name) or Total(len(entries), sum(entry.bytes for entry in entries))
        settings = ", ".join(f"{name} {space.settings[name]}" for name in sorted(space.settings))
        rows.append(
            [
                f"`{space.name}`" + (" (default)" if space.name == registry.default_space else ""),
                escaped(space.base),
                escaped(space.method),
                str(total.embeddings),
                f"{total.bytes / 1e6:.1f}",
                escaped(settings),
            ]
        )
    columns = ["space", "base model", "method", "embeddings", "MB", "settings"]
    return (
        "## Spaces\n\nA space is a base model and a method. Embeddings of one space compare; those of two do not.\n\n"
        + markdown_table(columns, rows)
    )


def _space(registry: Registry, space: str, index: PairIndex, at: str, total: Total | None) -> str:
    entries = registry.in_space(space)
    columns = list(_COLUMNS)
    if space != registry.default_space and {entry.task for entry in entries} <= _described(registry):
        columns = [column for column in columns if column not in _OF_THE_TASK]
    rows = [[cells[column] for column in columns] for cells in _rows(registry, space, index)]
    return (
        f"## {escaped(space)}\n\n"
        + (_SAMPLE_SAYS.format(len(entries), total.embeddings) if total else "")
        + (_shown(space, len(index.tasks), at) if len(index.tasks) >= FEWEST_SHOWN else "")
        + _COLUMNS_SAY
        + markdown_table(columns, rows)
        + more(len(entries))
    )


def _small_spaces(registry: Registry, indexes: Mapping[str, PairIndex]) -> str:
    """The spaces that are too small for a section, in one table."""
    tasks = {entry.task for space in indexes for entry in registry.in_space(space)}
    hidden = _OF_THE_TASK if tasks <= _described(registry) else ()
    columns = ["space", *(column for column in _COLUMNS if column not in hidden)]
    rows = [
        [{**cells, "space": f"`{space}`"}[column] for column in columns]
        for space, index in indexes.items()
        for cells in _rows(registry, space, index)
    ]
    return f"## Small spaces\n\n{_COLUMNS_SAY}" + markdown_table(columns, rows[:MOST_ROWS]) + more(len(rows))


def _rows(registry: Registry, space: str, index: PairIndex) -> Iterator[dict[str, str]]:
    """The cells of each embedding of a space by their columns, of the first `MOST_ROWS`."""
    scores, place = index.scores(), {task: row for row, task in enumerate(index.tasks)}
    for entry in registry.in_space(space)[:MOST_ROWS]:
        row = place.get(entry.task)
        near = [] if row is None else nearest(scores, row, index.tasks, 1)
        cells = _cells(registry, entry, f"`{index.tasks[near[0]]}` {scores[row, near[0]]:.2f}" if near else "")
        without = "does not compare" if entry.has_file else f"{entry.kept} alone"
        yield {**cells, "note": without} if row is None else cells


def _described(registry: Registry) -> set[str]:
    """The tasks that the table of the default space describes."""
    return {entry.task for entry in registry.in_space(registry.default_space)[:MOST_ROWS]}


def _shown(space: str, count: int, at: str) -> str:
    here = posixpath.dirname(at) or "."
    heat, plan = (posixpath.relpath(_picture(space, kind), here) for kind in ("heatmap", "map"))
    return (
        f"![Heatmap of the similarity of {count} tasks]({heat})\n\n"
        f"![Map of {count} tasks, near where similar]({plan})\n\n"
        f"Both pictures show the cosine of the `{SHOWN}` similarity. "
    )


def _cells(registry: Registry, entry: Entry, near: str) -> dict[str, str]:
    task = registry.tasks[entry.task]
    return {
        "task": f"`{task.name}`",
        "what it asks": escaped(task.title),
        "kind": escaped(task.kind.replace("_", " ")),
        "metric": escaped(task.metric.replace("_", " ")),
        "score": figure(entry.scores.get("primary")),
        "baseline": figure(entry.scores.get("baseline")),
        "train size": "" if task.train_size is None else f"{task.train_size:,}",
        "nearest": near,
        "note": escaped(", ".join(entry.flags)),
    }


def _limits() -> str:
    return (
        "## Limits\n\n"
        "- A score is a cosine of updates, not a promise of transfer. What counts as high differs between spaces, so "
        "look at the percentile that `tupate-hub similar` prints.\n"
        "- Embeddings of different base models or methods do not compare.\n"
        "- The map keeps two of many dimensions; its heading says how much of the distances they carry. The table's "
        "`vector` keeps eight, to look around in and not to rank by.\n"
        "- Metrics are of single runs on samples of the data, as far as they are known.\n"
        "\nMade by `tupate-hub card` from `registry.json` and its indexes alone.\n"
    )
