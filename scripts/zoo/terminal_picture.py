"""The picture of a terminal in the README: what `tupate-hub similar squad` prints there, as SVG.

    python scripts/zoo/terminal_picture.py [--check]

The command is really run, in a pseudo-terminal. `--check` writes nothing and fails where the picture is not what it
prints.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from html import escape
from pathlib import Path

from tupate_hub.storage.atomic import write_bytes

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "terminal.svg"
COMMAND = ("similar", "squad", "-k", "6")
COLUMNS, ADVANCE, LINE, MARGIN = 92, 8.4, 20, 18
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace"
BARS, COLOURED = re.compile(r"([█▏▎▍▌▋▊▉]+)"), r'<tspan fill="#7ee0c4">\1</tspan>'
NO_BREAK = "\N{NO-BREAK SPACE}"


def printed() -> list[str]:
    """What a person at a terminal sees, both streams."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "NO_COLOR": "1", "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    environment.pop("TUPATE_HUB_REGISTRY", None)
    command = [sys.executable, "-m", "tupate_hub", *COMMAND]
    subprocess.run(command, stdout=theirs, stderr=theirs, env=environment, cwd=ROOT, check=True)
    os.close(theirs)
    text = os.read(ours, 100_000).decode()
    os.close(ours)
    return text.replace("\r\n", "\n").rstrip("\n").split("\n")


def drawn(lines: list[str]) -> str:
    shown = [f"$ tupate-hub {' '.join(COMMAND)}", *lines]
    width, height = round(COLUMNS * ADVANCE + 2 * MARGIN), len(shown) * LINE + 2 * MARGIN
    texts = []
    for number, line in enumerate(shown):
        colour = "#7ee0c4" if number == 0 else "#e8e6e1"
        weight = "bold" if line.startswith("rank") else "normal"
        text = BARS.sub(COLOURED, escape(line).replace(" ", NO_BREAK))
        texts.append(
            f'<text x="{MARGIN}" y="{MARGIN + 15 + number * LINE}" fill="{colour}" font-weight="{weight}">{text}</text>'
        )
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<title>{escape(shown[0][2:])}</title>",
            f'<rect width="{width}" height="{height}" rx="10" fill="#1d2521"/>',
            f'<g font-family="{FONTS}" font-size="14">',
            *texts,
            "</g>",
            "</svg>\n",
        ]
    )


def main() -> int:
    made = drawn(printed()).encode()
    if "--check" in sys.argv[1:]:
        if not PICTURE.exists() or PICTURE.read_bytes() != made:
            print("docs/terminal.svg is not what the command prints: make docs", file=sys.stderr)
            return 1
        return 0
    write_bytes(PICTURE, made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
