"""A real browser, and the pages that it opens: that of the bundled zoo and that of a toy one, from a folder and by HTTP."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tupate_hub.publish.card import BUNDLED
from tupate_hub.publish.site import site_files, write_site
from tupate_hub.zoo import Zoo, bundled_root

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium of the system, as `CHROMIUM` or the path has it."""
    if os.environ.get("TUPATE_HUB_LIGHT") == "1":
        pytest.skip("in the first environment alone")
    driver = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with driver.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def bundled_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled zoo's page."""
    folder = tmp_path_factory.mktemp("page")
    write_site(folder, site_files(Zoo.open(bundled_root()), BUNDLED))
    return folder


@dataclass
class Opened:
    """A page in the browser, with all that it complained of and asked for."""

    page: Any
    root: str
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def go(self, address: str) -> Any:
        """Open a view by its address."""
        self.page.goto(self.root + address)
        self.page.wait_for_selector("main h1")
        return self.page

    def drop(self, *files: Path) -> str:
        """Choose files, or a folder, in a page that is open at `#/drop`; what it answers."""
        self.page.evaluate("document.querySelector('.result').replaceChildren()")
        chooser = "#adapter-folder" if files[0].is_dir() else "#adapter-files"
        self.page.set_input_files(chooser, [str(file) for file in files])
        self.page.wait_for_selector(".result h2, .result .refusal", timeout=20_000)
        return str(self.page.inner_text(".result"))

    def ranked(self) -> list[tuple[str, float, list[str]]]:
        """The neighbours that are shown: task, score in full and notes."""
        return [
            (task, float(score), notes)
            for task, score, notes in self.page.eval_on_selector_all(
                ".neighbours li",
                "rows => rows.map(row => [row.querySelector('.task').textContent, row.dataset.score,"
                " [...row.querySelectorAll('.notes .chip')].map(chip => chip.textContent)])",
            )
        ]

    def all_ranked(self) -> list[tuple[str, float, list[str]]]:
        """The same with all that can be unfolded."""
        more = self.page.locator("button.plain", has_text="Show more of")
        while more.is_visible():
            more.click()
        return self.ranked()


@pytest.fixture(scope="session")
def contexts(browser: Any) -> dict[str, Any]:
    """Contexts of the browser by their options: a new one for each test would take longer than the tests."""
    return {}


@pytest.fixture
def open_page(browser: Any, contexts: dict[str, Any]) -> Iterator[Any]:
    """`open_page(folder, width=390)` opens a page, which forgets at the end; none may complain, or ask others."""
    opened: list[Opened] = []

    def make(place: Path | str, width: int = 1280, height: int = 900, **options: Any) -> Opened:
        options = {"viewport": {"width": width, "height": height}, **options}
        context = contexts.get(str(options)) or browser.new_context(**options)
        contexts[str(options)] = context
        root = place if isinstance(place, str) else (place / "index.html").as_uri()
        found = Opened(context.new_page(), root)
        found.page.on("pageerror", lambda error: found.errors.append(str(error)))
        found.page.on(
            "console", lambda said: found.errors.append(said.text) if said.type in ("error", "warning") else None
        )
        found.page.on("request", lambda asked: found.requests.append(asked.url))
        opened.append(found)
        return found

    yield make
    for one in opened:
        inside = ("data:", "blob:", one.root.rpartition("/")[0])
        strangers = [url for url in one.requests if not url.startswith(inside)]
        assert (one.errors, strangers) == ([], [])
        one.page.evaluate("localStorage.clear()")
        one.page.close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def served() -> Iterator[Any]:
    """`served(folder)` serves a page by HTTP on this machine; its address."""
    servers = []

    def serve(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/index.html"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()
