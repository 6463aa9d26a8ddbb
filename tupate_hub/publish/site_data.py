"""The page's data: a registry as one script that defines one constant."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tupate_hub import __version__
from tupate_hub.errors import FormatError
from tupate_hub.evaluation.forecast import Forecast
from tupate_hub.export import export
from tupate_hub.publish.browse import number
from tupate_hub.publish.frontmatter import About
from tupate_hub.publish.sample import sample_of
from tupate_hub.publish.site_factors import factor_scripts, shipped_spaces
from tupate_hub.publish.site_reading import judging_tables, reading_tables
from tupate_hub.publish.site_sketches import sketch_scripts
from tupate_hub.publish.site_space import SHOWN, comparisons, shown_space
from tupate_hub.publish.site_trust import measured_trust
from tupate_hub.registry import Entry, Task

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo

SCHEMA = "tupate-hub-site/1"
DATA = "data.js"
_MOST_TEXT = 400


def site_data(zoo: Zoo, about: About, *, hub: bool) -> dict[str, bytes]:
    """`data.js`, and the scripts of the embeddings' factors that it names.

    Parameters
    ----------
    zoo : Zoo
        A registry of strangers' texts: here they become JSON in ASCII, and on the page text nodes, whatever they hold.
    about : About
        Title, and how commands call the registry.
    hub : bool
        Whether the page will lie on the Hub, and may ask it for adapters.

    Raises
    ------
    FormatError
        When a file of the zoo is damaged.
    """
    sample = sample_of(zoo)
    registry = sample.registry
    shipped = shipped_spaces(registry) - sample.totals.keys()
    used = {entry.task for entry in registry.entries}
    files: dict[str, bytes] = {}
    spaces = []
    for at, name in enumerate(sample.spaces()):
        entry = registry.spaces[name]
        space = shown_space(sample, entry, name in shipped)
        scripts, listed = factor_scripts(space, at) if space.embeddings else sketch_scripts(sample, space, at)
        files |= scripts
        spaces.append(
            {
                "name": name,
                "base": entry.base,
                "method": entry.method,
                "settings": _plain(entry.settings),
                "total": sample.total(name),
                "entries": [_entry(one) for one in registry.in_space(name)],
                "forms": _forms(zoo, next((one for one in registry.in_space(name) if one.has_file), None)),
                "gain": _gain(entry.gain),
                "trust": measured_trust(sample.zoo, space),
                "factors": listed,
                "sketched": not space.embeddings,
                **comparisons(sample, space),
            }
        )
    document = {
        "schema": SCHEMA,
        "version": __version__,
        "title": about.title,
        "location": about.location,
        "hub": hub,
        "similarity": SHOWN,
        "defaultSpace": registry.default_space,
        "tasks": {name: _task(task) for name, task in registry.tasks.items() if name in used},
        "spaces": spaces,
        "reading": reading_tables(),
        "judging": judging_tables(SHOWN),
    }
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return {DATA: f'"use strict";\nconst TUPATE_HUB_DATA = {text};\n'.encode(), **files}


def _forms(zoo: Zoo, entry: Entry | None) -> list[str]:
    """The libraries for which `pull --as` writes an embedding of a space, as its first one tells; without any, none."""
    if entry is None:
        return []
    embedding, forms = zoo.load(entry), []
    for form in ("peft", "adapters"):
        with contextlib.suppress(FormatError):
            export(embedding, form)
            forms.append(form)
    return forms


def _task(task: Task) -> dict[str, Any]:
    return {
        "title": _short(task.title),
        "aliases": [_short(alias) for alias in task.aliases],
        "kind": _short(task.kind),
        "taskClass": _short(task.task_class),
        "trainSize": number(task.train_size),
        "metric": _short(task.metric),
        "dataset": _short(task.dataset),
        "licence": _short(task.licence),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "task": entry.task,
        "file": entry.file,
        "bytes": number(entry.bytes),
        "sha256": entry.sha256,
        "score": number(entry.scores.get("primary")),
        "baseline": number(entry.scores.get("baseline")),
        "metric": _short(str(entry.scores.get("metric") or "")),
        "rule": _short(str(entry.scores.get("baseline_rule") or "")),
        "flags": [_short(flag) for flag in entry.flags],
        "repeats": len(entry.repeats),
        "strength": number(entry.strength.get("value")),
        "strengthError": number(entry.strength.get("error")),
        "strengthTargets": number(entry.strength.get("targets")),
        "source": _plain(entry.source),
    }


def _gain(gain: Mapping[str, Any]) -> dict[str, Any] | None:
    """What measured transfer says of a space, or None where that is not what the page can use."""
    weights = {name: number(gain.get(name)) for name in ("affinity", "strength", "targets")}
    rows, kinds = gain.get("forecasts"), gain.get("kinds", {})
    if None in weights.values() or not isinstance(rows, (list, tuple)) or not isinstance(kinds, dict):
        return None
    added = {
        _short(kind): {name: value for name, value in _plain(sources).items() if number(value) is not None}
        for kind, sources in kinds.items()
        if isinstance(sources, dict)
    }
    forecasts = [_forecast(row) for row in rows if isinstance(row, dict)]
    return {**weights, "kinds": added, "forecasts": [row for row in forecasts if row is not None]}


def _forecast(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A forecast's fields, or None where it cannot be read or has a number that is not finite."""
    try:
        forecast = Forecast.from_dict(row, "the registry")
    except FormatError:
        return None
    if not math.isfinite(sum(value for value in vars(forecast).values() if isinstance(value, float))):
        return None
    nested = {"regrets": _plain(forecast.regrets), "converged": forecast.converged and forecast.converged.as_dict()}
    return {**_plain(row), **nested}


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are short texts, finite numbers, truth values or lists of texts."""
    kept: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, str):
            kept[_short(name)] = _short(value)
        elif isinstance(value, bool) or (number(value) is not None):
            kept[_short(name)] = value
        elif isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value) and len(value) <= 16:
            kept[_short(name)] = [_short(one) for one in value]
    return kept


def _short(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"
