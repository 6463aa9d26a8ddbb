"""Sketches of a space that is too large to go with the page, which then estimates scores from 2 KB an embedding."""

from __future__ import annotations

import base64
import json
from itertools import islice
from typing import Any

from tupate_hub.compare.sketch import Sketches
from tupate_hub.publish.sample import Sample
from tupate_hub.publish.site_factors import FOLDER
from tupate_hub.publish.site_space import SHOWN, ShownSpace

#: Of a larger space the page has no sketches either: they would be 55 MB.
MOST_SKETCHED = 20_000
_A_SCRIPT = 500


def sketch_scripts(sample: Sample, space: ShownSpace, number: int) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The scripts of a space by their paths, and what `data.js` says of them, as `factor_scripts`.

    Each row has `row`, the task's in the index, and `sketch`, its bits in base64 (docs/sketch.md).
    """
    tasks = space.index.tasks
    if len(tasks) > MOST_SKETCHED:
        return {}, []
    held = sample.bits(space.entry.name)
    if held is None:
        by_task = {entry.task: entry for entry in sample.registry.in_space(space.entry.name)}
        held = Sketches.of((sample.zoo.load(by_task[task]) for task in tasks), SHOWN).bits
    rows = ({"row": row, "sketch": base64.b64encode(bits.tobytes()).decode()} for row, bits in enumerate(held))
    scripts: dict[str, bytes] = {}
    listed: list[dict[str, Any]] = []
    while part := list(islice(rows, _A_SCRIPT)):
        file = f"{FOLDER}/{number}-{len(listed)}.js"
        scripts[file] = f'tupateFactors("{file}",{json.dumps(part, separators=(",", ":"))});\n'.encode()
        listed.append({"file": file, "bytes": len(scripts[file])})
    return scripts, listed
