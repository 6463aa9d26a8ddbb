"""Trust: what a registry itself can tell of how far its embeddings and its rankings are to be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tupate_hub.compare.pair_index import PairIndex
from tupate_hub.publish.browse import nearest, number
from tupate_hub.publish.table import markdown_table
from tupate_hub.registry import Registry
from tupate_hub.search.by_gain import read_forecasts

#: With fewer tasks a share of good neighbours would say nothing.
FEWEST_JUDGED = 5


def trust_section(registry: Registry, indexes: Mapping[str, Mapping[str, PairIndex]], where: str) -> str:
    """Measured transfer where there is any, scores beside baselines, and the nearest neighbours.

    `where` is the option by which commands find the registry, with a blank before it.
    """
    scored, classes = [], []
    for space, each in indexes.items():
        entries = registry.in_space(space)
        pairs = [(number(entry.scores.get("primary")), number(entry.scores.get("baseline"))) for entry in entries]
        known = [(score, base) for score, base in pairs if score is not None and base is not None]
        if known:
            better = sum(score > base for score, base in known)
            weak = sum("weak" in entry.flags for entry in entries)
            command = f"`tupate-hub list --space {space}{where}`"
            scored.append([f"`{space}`", str(len(known)), str(better), str(weak), command])
        for similarity, index in each.items():
            if agreement := _agreement(registry, index):
                command = f"`tupate-hub similar TASK -k 1 --space {space} --similarity {similarity}{where}`"
                classes.append([f"`{space}`", similarity, *agreement, command])
    forecasts = _forecasts(registry, where)
    parts = ["## How far to trust it\n", *forecasts]
    if scored:
        parts.append(markdown_table(["space", "tasks with scores", "above baseline", "weak", "command"], scored))
    if classes:
        columns = ["space", "similarity", "grouped by", "nearest neighbour of the same group", "by chance", "command"]
        parts.append(markdown_table(columns, classes))
    unmeasured = "" if forecasts else "The registry holds no measured transfer, and a"
    parts.append(
        f"{unmeasured or 'A'} neighbour of the same group is not yet a good start. "
        f"`tupate-hub evaluate{where} --truth FILE.csv` judges the rankings by transfer that was measured.\n"
    )
    return "\n".join(parts)


def _agreement(registry: Registry, index: PairIndex) -> list[str]:
    """How often the nearest neighbour is of the task's own class, beside how often chance does that; empty if unknown.

    Classes are `task_class` where every task has one, else `kind`.
    """
    tasks = [registry.tasks[task] for task in index.tasks]
    by_class = all(task.task_class for task in tasks)
    groups = [task.task_class if by_class else task.kind for task in tasks]
    sizes = Counter(groups)
    if len(tasks) < FEWEST_JUDGED or len(sizes) < 2 or "" in sizes:
        return []
    scores = index.scores()
    same = sum(groups[nearest(scores, row, index.tasks, 1)[0]] == group for row, group in enumerate(groups))
    chance = sum(sizes[group] - 1 for group in groups) / (len(groups) * (len(groups) - 1))
    return ["class" if by_class else "kind", f"{same} of {len(groups)} ({same / len(groups):.0%})", f"{chance:.0%}"]


def _forecasts(registry: Registry, where: str) -> list[str]:
    """A line for each regime in which transfers were measured: the ranking's first pick on targets left out."""
    lines = [
        f"- In `{space.name}`, on {one.targets} targets with {one.examples} examples, the first pick of "
        f"`tupate-hub similar TASK --space {space.name} --rank-by gain{where}` beat starting from nothing on "
        f"{one.helped:.0%} after {one.steps} steps, by {one.gained:+.1f} points on average ({one.gained_low:+.1f} to "
        f"{one.gained_high:+.1f}); trying the first three loses {one.regrets.get('3', 0.0):.1f} points against the "
        "best source." + (f" Against {one.converged.in_words}." if one.converged else "")
        for space in registry.spaces.values()
        for one in read_forecasts(space)
    ]
    said = "Transfers between its tasks were really run, and judged on targets that the forecast had not seen:"
    return [f"{said}\n", "\n".join(lines) + "\n"] if lines else []
