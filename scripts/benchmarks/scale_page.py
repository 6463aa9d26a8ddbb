"""The page docs/scale.md and its pictures, from the rows of docs/scale.json that `benchmark_scale.py` measured.

    python scripts/benchmarks/scale_page.py [--check]

`--check` writes nothing and fails where the page is not what the rows say.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from growth_picture import picture

from tupate_hub.publish.table import fill_tables, markdown_table
from tupate_hub.storage.atomic import write_bytes

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROWS, PAGE = DOCS / "scale.json", DOCS / "scale.md"
#: Works that are drawn: the title, the measure, and each curve's name and work.
PICTURES: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "growth-seconds.svg": (
        "A question as a registry grows",
        "seconds of the processor",
        {"cold process": "cold `similar NAME`, processor", "open zoo": "warm question, Python, processor"},
    ),
    "growth-bytes.svg": (
        "What a question by name needs, as a registry grows",
        "megabytes",
        {"fetched from the Hub": "first `similar NAME` on the Hub: bytes", "memory": "cold `similar NAME`, memory"},
    ),
}


def shown(value: float, unit: str) -> str:
    """A figure with its unit, in three digits."""
    text = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
    return f"{text} {unit}".strip()


def limit(row: Mapping[str, Any]) -> str:
    """What a figure is to be, "" where it may be anything."""
    for way in ("most", "least"):
        if row[f"at_{way}"] is not None:
            return f"at {way} {shown(row[f'at_{way}'], row['unit'])}"
    return ""


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row for each work, a column for each size, and what the largest of them is to be that has a limit."""
    sizes = sorted({row["embeddings"] for row in rows})
    cells = []
    for work in dict.fromkeys(row["work"] for row in rows):
        found = {row["embeddings"]: row for row in rows if row["work"] == work}
        values = [shown(found[size]["value"], found[size]["unit"]) if size in found else "" for size in sizes]
        limits = [f"{limit(found[size])} at {size:,}" for size in sizes if size in found and limit(found[size])]
        cells.append([work, *values, limits[-1] if limits else ""])
    return markdown_table(["work", *(f"{size:,}" for size in sizes), "limit"], cells)


def files(rows: Sequence[Mapping[str, Any]]) -> dict[Path, bytes]:
    """The page and the pictures."""
    page = fill_tables(PAGE.read_text(encoding="utf-8"), {"scale": table(rows)})
    found = {PAGE: page.encode()}
    for name, (title, measure, works) in PICTURES.items():
        curves = {
            called: [
                (row["embeddings"], row["value"] / 1e3 if row["unit"] == "ms" else row["value"])
                for row in rows
                if row["work"] == work
            ]
            for called, work in works.items()
        }
        drawn = {called: points for called, points in curves.items() if points}
        if drawn:
            found[DOCS / name] = picture(title, "embeddings of the space", measure, drawn).encode()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    made = files(json.loads(ROWS.read_text(encoding="utf-8")))
    if options.check:
        stale = [path.name for path, data in made.items() if not path.exists() or path.read_bytes() != data]
        if stale:
            print(f"{', '.join(stale)} is not what docs/scale.json says: run this script", file=sys.stderr)
        return bool(stale)
    for path, data in made.items():
        write_bytes(path, data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
