"""Notebook: rows as a table of a Jupyter notebook, or as pandas' DataFrame where that is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tupate_hub.errors import TupateHubError
from tupate_hub.extras import is_installed

#: A notebook shows so many rows of a table.
MOST_ROWS = 60


def html_table(rows: Sequence[Mapping[str, Any]], caption: str) -> str:
    """Rows of the same fields as an HTML table; whatever texts hold, they stay text."""
    from html import escape  # its table of entities is no work for a cold start

    if not rows:
        return f"<p>{escape(caption)}</p>"
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join("<tr>" + "".join(_cell(value) for value in row.values()) + "</tr>" for row in rows[:MOST_ROWS])
    more = f"<p>{len(rows) - MOST_ROWS} more: to_pandas() has all</p>" if len(rows) > MOST_ROWS else ""
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
    )


def data_frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as a `pandas.DataFrame`.

    Raises
    ------
    TupateHubError
        Where pandas is not installed.
    """
    if not is_installed("pandas"):
        raise TupateHubError("This needs pandas, which is not installed.", hint="pip install pandas")
    from importlib import import_module

    return import_module("pandas").DataFrame(list(rows))


def _cell(value: Any) -> str:
    from html import escape

    if value is None:
        return "<td></td>"
    if isinstance(value, float):
        return f'<td style="text-align:right">{value:.3f}</td>'
    aligned = ' style="text-align:right"' if isinstance(value, int) and not isinstance(value, bool) else ""
    return f"<td{aligned}>{escape(str(value))}</td>"
