"""Photograph the page of the bundled zoo for the documents: docs/explorer.png and docs/explorer-task.png.

    python scripts/zoo/explorer_pictures.py --chromium /usr/bin/chromium

Needs playwright and Chromium. The fonts differ between machines, so nothing checks the bytes of the pictures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tupate_hub.publish.card import BUNDLED
from tupate_hub.publish.site import site_files, write_site
from tupate_hub.zoo import Zoo, bundled_root

DOCS = Path(__file__).resolve().parents[2] / "docs"
PICTURES = {"explorer.png": ("#/", "light"), "explorer-task.png": ("#/task/sst2", "dark")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    path = parser.parse_args().chromium
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        write_site(Path(folder), site_files(Zoo.open(bundled_root()), BUNDLED))
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, (address, scheme) in PICTURES.items():
            page = browser.new_page(viewport={"width": 1280, "height": 760}, color_scheme=scheme)
            page.goto(f"{(Path(folder) / 'index.html').as_uri()}{address}")
            page.wait_for_selector("main h1")
            page.wait_for_timeout(300)  # the map is drawn with the next frame
            page.screenshot(path=DOCS / name)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
