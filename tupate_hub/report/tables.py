"""Tables of a registry as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tupate_hub.registry import Entry, Registry


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; cells are escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def zoo_page(registry: Registry) -> str:
    """The page `docs/zoo.md`: each space with its tasks, their scores, baselines, steps and seconds."""
    parts = ["# The bundled zoo\n\nGenerated from `registry.json` by `python scripts/build_zoo.py`.\n"]
    for space in registry.spaces.values():
        entries = registry.in_space(space.name)
        weak = sum("weak" in entry.flags for entry in entries)
        settings = ", ".join(f"{name} {value}" for name, value in sorted(space.settings.items()))
        parts.append(
            f"\n## {space.name}\n\n{len(entries)} tasks on `{space.base}` by {space.method} ({settings}), "
            f"{sum(entry.bytes for entry in entries) / 1e6:.1f} MB. "
            f"Columns: training examples, optimizer steps, examples a step, most tokens of an example, learning rate, "
            f"seconds on one CPU core beside other work. The checkpoint with the best held-out score was kept. "
            f"{weak} do not beat their trivial baseline by more than a standard error and are flagged `weak`.\n\n"
        )
        parts.append(
            markdown_table(
                [
                    "task",
                    "kind",
                    "metric",
                    "score",
                    "baseline",
                    "baseline rule",
                    "examples",
                    "steps",
                    "batch",
                    "tokens",
                    "rate",
                    "seconds",
                    "note",
                ],
                [_row(registry, entry) for entry in entries],
            )
        )
    return "".join(parts)


def _row(registry: Registry, entry: Entry) -> list[str]:
    task, scores, source = registry.tasks[entry.task], entry.scores, entry.source
    return [
        entry.task,
        task.kind,
        task.metric,
        f"{scores['primary']:.3f}",
        f"{scores['baseline']:.3f}",
        str(scores["baseline_rule"]),
        str(source["train_examples"]),
        str(source["steps"]),
        *(str(source.get(name, "-")) for name in ("batch_size", "max_length", "learning_rate")),
        f"{source['seconds']:.0f}",
        ", ".join(entry.flags),
    ]
