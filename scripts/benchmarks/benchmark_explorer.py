"""How fast the explorer is, measured in the browser: the first answer on the bundled zoo, and a map of 10,000 points.

    python scripts/benchmarks/benchmark_explorer.py --chromium /usr/bin/chromium

Prints, for the bundled zoo, how long a browser takes from the address of a task to its neighbours, and how long a drop
takes with the space's embeddings; for a made-up space of 10,000 tasks, how many frames of the map are drawn each second
while it is moved and zoomed, all points in sight, and the longest of them. Needs playwright and Chromium.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tupate_hub.export import export
from tupate_hub.publish.card import BUNDLED
from tupate_hub.publish.site import site_files, write_site
from tupate_hub.publish.site_data import DATA
from tupate_hub.publish.site_space import NEAREST, packed_numbers
from tupate_hub.zoo import Zoo, bundled_root

TASKS = 10_000
#: Moves and zooms the map at every frame for some seconds, as a hand would; gives the times of the frames.
DRIVE = """seconds => new Promise(done => {
  const canvas = document.querySelector("canvas.map");
  const box = canvas.getBoundingClientRect();
  const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
  const times = [];
  const start = performance.now();
  const step = now => {
    times.push(now);
    const at = times.length;
    const both = {clientY: y, bubbles: true, cancelable: true};
    canvas.dispatchEvent(new WheelEvent("wheel", {...both, clientX: x, deltaY: 6 * Math.sin(at / 30)}));
    canvas.dispatchEvent(new PointerEvent("pointermove", {...both, clientX: x + 80 * Math.sin(at / 20), pointerId: 1}));
    if (now - start < 1000 * seconds) requestAnimationFrame(step);
    else done(times);
  };
  requestAnimationFrame(step);
})"""


def large_page(folder: Path) -> Path:
    """A page of one space of TASKS tasks in groups, with random scores."""
    files = site_files(Zoo.open(bundled_root()), BUNDLED)
    text = files[DATA].decode().removeprefix('"use strict";\nconst TUPATE_HUB_DATA = ').removesuffix(";\n")
    data = json.loads(text)
    space = next(one for one in data["spaces"] if one["name"] == data["defaultSpace"])
    rng = np.random.default_rng(0)
    groups = rng.uniform(-1, 1, (200, 2))
    places = groups[rng.integers(200, size=TASKS)] + rng.normal(0, 0.04, (TASKS, 2))
    rows = (np.arange(TASKS)[:, None] + rng.integers(1, TASKS, (TASKS, NEAREST))) % TASKS
    scores = -np.sort(-rng.uniform(0, 0.9, (TASKS, NEAREST)), axis=1)
    names, kinds = [f"task_{at:05}" for at in range(TASKS)], ["classification", "regression", "extractive_qa", ""]
    template, task = space["entries"][0], next(iter(data["tasks"].values()))
    data["tasks"] = {name: {**task, "kind": kinds[at % 4], "aliases": [f"alias {at}"]} for at, name in enumerate(names)}
    near = {"count": NEAREST, "rows": packed_numbers(rows.astype("<u4"))}
    near |= {
        "scores": packed_numbers(scores.astype("<f4")),
        "percentiles": packed_numbers((100 * scores).astype("<f4")),
    }
    absent = dict.fromkeys(("pairs", "order", "squares", "changes", "parts"))
    space |= {"entries": [{**template, "task": name} for name in names], "compared": names, "factors": [], **absent}
    space |= {"near": near, "map": packed_numbers(places.clip(-1, 1).astype("<f4"))}
    data["spaces"] = [space]
    files = {name: content for name, content in files.items() if "/" not in name}
    files[DATA] = f"const TUPATE_HUB_DATA = {json.dumps(data)};\n".encode()
    write_site(folder, files)
    print(f"data.js of {TASKS} tasks: {len(files[DATA]) / 1e6:.1f} MB")
    return folder


def frames(page: Any, address: str) -> Iterator[tuple[str, float]]:
    """Frames a second of a map that is moved, and the longest frame in milliseconds."""
    page.goto(address)
    page.wait_for_selector("canvas.map")
    page.focus("canvas.map")
    page.wait_for_timeout(1000)
    times = np.array(page.evaluate(DRIVE, 5))
    gaps = np.diff(times)
    yield "frames a second", 1000 * len(gaps) / (times[-1] - times[0])
    yield "longest frame, ms", float(gaps.max())
    yield "95 % of frames within, ms", float(np.quantile(gaps, 0.95))


def answers(browser: Any, root: str, adapter: Path) -> Iterator[tuple[str, float]]:
    """Seconds to the neighbours of a task from a cold context, and of a dropped adapter."""
    for number in range(3):
        page = browser.new_page()
        start = time.perf_counter()
        page.goto(f"{root}#/task/sst2")
        page.wait_for_selector(".neighbours li")
        yield f"neighbours of a task, run {number + 1}, s", time.perf_counter() - start
        page.close()
    page = browser.new_page()
    page.goto(f"{root}#/drop")
    for said in ("first", "second"):
        page.evaluate("document.querySelector('.result').replaceChildren()")
        start = time.perf_counter()
        page.set_input_files("#adapter-files", [str(file) for file in adapter.iterdir()])
        page.wait_for_selector(".neighbours li")
        yield f"neighbours of a dropped LoRA, {said} time, s", time.perf_counter() - start
    page.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    path = parser.parse_args().chromium
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        folder = Path(scratch)
        adapter = folder / "adapter"
        adapter.mkdir()
        for name, data in export(Zoo.open(bundled_root()).embedding("sst2"), "peft", bare=True).items():
            (adapter / name).write_bytes(data)
        write_site(folder / "zoo", site_files(Zoo.open(bundled_root()), BUNDLED))
        large = large_page(folder / "large")
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, value in answers(browser, (folder / "zoo" / "index.html").as_uri(), adapter):
            print(f"{name}: {value:.2f}")
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        for name, value in frames(page, f"{(large / 'index.html').as_uri()}#/map"):
            print(f"map of {TASKS} points, {name}: {value:.1f}")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
