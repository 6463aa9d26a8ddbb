"""Tables of a registry as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tupate_hub.errors import FormatError
from tupate_hub.evaluation.metrics import standard_errors_above
from tupate_hub.registry import Entry, Registry, SpaceEntry

#: A run that is not so many standard errors above its baseline is not called learned.
CLEARLY = 2.0

_FULL = (
    "task", "kind", "metric", "score", "with head", "baseline", "baseline rule", "examples", "steps", "batch", "tokens",
    "rate", "seconds", "note",
)  # fmt: skip
_SHORT = ("task", "metric", "score", "baseline", "steps", "rate", "seconds", "note")


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells are escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def fill_tables(page: str, tables: Mapping[str, str]) -> str:
    """A page with tables between its markers, `<!-- table: NAME -->` and `<!-- end -->`.

    Raises
    ------
    FormatError
        When the page lacks a table's markers.
    """
    for name, text in tables.items():
        start, end = _place(page, name)
        page = page[:start] + text + page[end:]
    return page


def rows_on(page: str, name: str) -> list[list[str]]:
    """The rows of a table between its markers, as `markdown_table` was given them.

    Raises
    ------
    FormatError
        When the page lacks the table's markers.
    """
    start, end = _place(page, name)
    lines = page[start:end].splitlines()[2:]
    return [[cell.strip().replace("\\|", "|") for cell in _BETWEEN_CELLS.split(line)[1:-1]] for line in lines]


_BETWEEN_CELLS = re.compile(r"(?<!\\)\|")


def _place(page: str, name: str) -> tuple[int, int]:
    """Where the text between a table's markers starts and ends."""
    found = re.search(rf"<!-- table: {re.escape(name)} -->\n(.*?)<!-- end -->", page, re.DOTALL)
    if found is None:
        raise FormatError(f"The page has no markers of table {name!r}.", hint=f"<!-- table: {name} --> <!-- end -->")
    return found.span(1)


def margin(entry: Entry) -> float:
    """How far the score of an entry of the bundled zoo lies above its baseline, in standard errors."""
    scores, examples = entry.scores, entry.source["validation_examples"]
    return standard_errors_above(scores["primary"], scores["baseline"], examples, scores.get("metric", ""))


def zoo_page(registry: Registry, reasons: Mapping[str, str]) -> str:
    """The page `docs/zoo.md`: each space with its tasks, their scores, baselines, steps and seconds.

    The default space comes first and with all columns. `reasons` says why a task is not learned.
    """
    ordered = sorted(registry.spaces.values(), key=lambda space: space.name != registry.default_space)
    spaces = [_space(registry, space) for space in ordered]
    parts = [_introduction(registry), *spaces, _heads(registry), _unlearned(registry, reasons)]
    return "\n".join(part for part in parts if part)


def _introduction(registry: Registry) -> str:
    tasks = len({entry.task for entry in registry.entries})
    repeats = sum(len(entry.repeats) for entry in registry.entries)
    return (
        "# The bundled zoo\n\nGenerated from `registry.json` by `python scripts/zoo/build_zoo.py`.\n\n"
        f"{len(registry.entries)} embeddings of {tasks} tasks in {len(registry.spaces)} spaces, and {repeats} repeats "
        "with other seeds, which are measured (docs/evaluation.md) but not ranked.\n\n"
        "Columns: training examples, optimizer steps, examples per step, maximum tokens of an example, learning rate, "
        "seconds on one busy CPU core. The checkpoint with the best held-out score was kept. Tasks that do not beat "
        "their trivial baseline by more than one standard error are flagged `weak`.\n"
    )


def _space(registry: Registry, space: SpaceEntry) -> str:
    entries = registry.in_space(space.name)
    settings = ", ".join(f"{name} {value}" for name, value in sorted(space.settings.items()))
    weak = sum("weak" in entry.flags for entry in entries)
    repeated = [entry.task for entry in entries if entry.repeats]
    columns = _FULL if space.name == registry.default_space else _SHORT
    rows = [[_cells(registry, entry)[column] for column in columns] for entry in entries]
    return (
        f"## {space.name}\n\n{len(entries)} tasks on `{space.base}` by {space.method}"
        + (f" ({settings})" if settings else "")
        + f", {sum(run.bytes for entry in entries for run in entry.runs()) / 1e6:.1f} MB, {weak} weak."
        + (f" Repeated with other seeds: {', '.join(repeated)}." if repeated else "")
        + f"\n\n{markdown_table(columns, rows)}"
    )


def _cells(registry: Registry, entry: Entry) -> dict[str, str]:
    task, scores, source = registry.tasks[entry.task], entry.scores, entry.source
    return {
        "task": entry.task,
        "kind": task.kind,
        "metric": task.metric,
        "score": f"{scores['primary']:.3f}",
        "with head": f"{entry.head['scores']['primary']:.3f}" if entry.head.get("scores") else "",
        "baseline": f"{scores['baseline']:.3f}",
        "baseline rule": str(scores["baseline_rule"]),
        "examples": str(source["train_examples"]),
        "steps": str(source["steps"]),
        "batch": str(source.get("batch_size", "-")),
        "tokens": str(source.get("max_length", "-")),
        "rate": str(source.get("learning_rate", "-")),
        "seconds": f"{source['seconds']:.0f}",
        "note": ", ".join(entry.flags),
    }


def _heads(registry: Registry) -> str:
    """How far the heads that were fitted again come from the scores of the runs, and which fall short."""
    headed = [entry for entry in registry.entries if entry.head.get("fitted")]
    if not headed:
        return ""
    gaps = [entry.head["scores"]["primary"] - entry.scores["primary"] for entry in headed]
    short = [entry for entry in headed if _margin_of_head(entry) < -CLEARLY]
    worst = min(range(len(gaps)), key=lambda at: gaps[at])
    columns = ("task", "space", "run", "head", "difference", "in standard errors")
    rows = [
        [
            entry.task,
            entry.space,
            f"{entry.scores['primary']:.3f}",
            f"{entry.head['scores']['primary']:.3f}",
            f"{entry.head['scores']['primary'] - entry.scores['primary']:+.3f}",
            f"{_margin_of_head(entry):+.1f}",
        ]
        for entry in short
    ]
    return (
        "## Heads\n\nWhere a run was made before heads were kept, its head was fitted again, to the run's own training "
        "examples, with the stored parameters standing still (`python scripts/zoo/fit_heads.py`), and scored on the "
        "validation examples that the run was scored on. "
        f"Of {len(headed)} such heads, the score differs from the run's by {sum(gaps) / len(gaps):+.3f} on "
        f"average, by {sorted(map(abs, gaps))[len(gaps) // 2]:.3f} in the middle of the absolute differences, and by "
        f"{gaps[worst]:+.3f} at worst ({headed[worst].task}).\n\n"
        + (
            f"More than {CLEARLY:g} standard errors of the score below the run:\n\n{markdown_table(columns, rows)}"
            if short
            else f"None is more than {CLEARLY:g} standard errors of the score below its run.\n"
        )
    )


def _margin_of_head(entry: Entry) -> float:
    """How far the score with the kept head lies above the run's, in standard errors of the latter."""
    scores, examples = entry.scores, entry.source["validation_examples"]
    with_head = entry.head["scores"]["primary"]
    return standard_errors_above(with_head, scores["primary"], examples, scores.get("metric", ""))


def _unlearned(registry: Registry, reasons: Mapping[str, str]) -> str:
    """The runs that do not clearly beat their baselines, those of a task beside each other, and why."""
    rows = list(_unlearned_rows(registry, reasons))
    if not rows:
        return ""
    return (
        f"## Not clearly learned\n\nThe runs that beat their baseline by no more than {CLEARLY:g} standard errors (of "
        f"a proportion as large as the baseline, or of a correlation of 0): {len(rows)} of {len(registry.entries)}. "
        "The reason given is that of the task.\n\n"
        + markdown_table(["task", "method", "score", "baseline", "standard errors above", "reason"], rows)
    )  # fmt: skip


def _unlearned_rows(registry: Registry, reasons: Mapping[str, str]) -> Iterator[list[str]]:
    said: set[str] = set()
    for entry in sorted(
        registry.entries, key=lambda entry: (entry.task, entry.space != registry.default_space, entry.space)
    ):
        above = margin(entry)
        if above > CLEARLY:
            continue
        cells = _cells(registry, entry)
        reason = "as above" if entry.task in said else reasons.get(entry.task, "not looked into")
        said.add(entry.task)
        method = registry.spaces[entry.space].method
        yield [entry.task, method, cells["score"], cells["baseline"], f"{above:.1f}", reason]
