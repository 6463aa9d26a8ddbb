"""Provenance: the section of a card that says by whom embeddings were made, of what, and under which licence."""

from __future__ import annotations

from tupate_hub.publish.browse import number
from tupate_hub.publish.card_text import MOST_ROWS, escaped, more
from tupate_hub.publish.table import markdown_table
from tupate_hub.registry import Registry


def provenance_section(registry: Registry) -> str:
    """A row for each embedding, of the first ones."""
    rows = []
    for entry in registry.entries[:MOST_ROWS]:
        task, source = registry.tasks[entry.task], entry.source
        made = ", ".join(str(source[name]) for name in ("kind", "by", "layout", "file") if source.get(name))
        steps = number(source.get("steps"))
        rows.append(
            [
                f"`{entry.task}`",
                f"`{entry.space}`",
                escaped(made) or "not said",
                "" if steps is None else f"{steps:.0f}",
                escaped(str(source.get("licence") or "")) or "not said",
                escaped(task.dataset),
                escaped(task.licence) or "not said",
                f"`{entry.sha256[:12]}`",
            ]
        )
    columns = ["task", "space", "made by", "steps", "licence", "data", "licence of the data", "sha256"]
    return (
        "## Provenance and licences\n\n"
        "The data themselves are not here. Whether parameters inherit the licence of their data is not settled: "
        "look at both columns before you build on an embedding.\n\n"
        + markdown_table(columns, rows)
        + more(len(registry.entries))
    )  # fmt: skip
