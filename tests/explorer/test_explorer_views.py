"""The page in a browser: search, follow, deep links, keys, themes, phones, print, and what axe says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from tupate_hub.cli.verbs import command_of

AXE = "axe.run({preload: false, resultTypes: ['violations']}).then(({violations}) => violations.map(({id, nodes}) => [id, nodes.slice(0, 3).map(one => one.html)]))"
VIEWS = ["#/", "#/task/sst2", "#/map", "#/heatmap", "#/list", "#/compare/sst2/imdb", "#/drop", "#/trust"]


def test_a_task_is_found_by_an_alias_as_one_types(open_page: Any, bundled_page: Path) -> None:
    page = open_page(bundled_page).go("#/")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("glue/sst-2")
    assert page.inner_text("#search-found [aria-selected=true] strong") == "sst2"
    page.keyboard.press("Enter")
    page.wait_for_selector("h1 bdi:text-is('sst2')")
    assert page.url.endswith("#/task/sst2")
    assert page.inner_text("h1") == "sst2"
    assert "sst2" in page.title()


def test_arrows_go_through_what_was_found_and_escape_closes_it(open_page: Any, bundled_page: Path) -> None:
    page = open_page(bundled_page).go("#/")
    page.fill("#home-search", "squadshifts")
    found = page.eval_on_selector_all("#home-search-found strong", "all => all.map(one => one.textContent)")
    assert len(found) == 3
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#home-search-found [aria-selected=true] strong") == found[1]
    page.keyboard.press("Escape")
    assert not page.is_visible("#home-search-found")
    page.fill("#home-search", "no such task at all")
    assert page.inner_text(".home .search [aria-live]") == "No task is called so."


def test_neighbours_are_followed_and_the_way_back_works(open_page: Any, bundled_page: Path) -> None:
    page = open_page(bundled_page).go("#/task/sst2")
    first = page.inner_text(".neighbours li .task")
    page.click(".neighbours li .task")
    page.wait_for_selector(f"h1 bdi:text-is('{first}')")
    page.go_back()
    page.wait_for_selector("h1 bdi:text-is('sst2')")
    page.click(".neighbours a.small")
    page.wait_for_selector(".versus")
    assert page.inner_text(".versus .big") == page.inner_text(".blocks tfoot .total:last-child")[1:6]


ADDRESSES = {
    "#/task/stanfordnlp%2Fsst2": "sst2",
    "#/task/glue/sst2": "sst2",
    "#/task/sst2?space=all-MiniLM-L6-v2%2Fprefix": "sst2",
    "#/task/nonsense": "No such task",
    "#/map?space=all-MiniLM-L6-v2%2Fbitfit": "Map of the tasks",
    "#/heatmap": "Heatmap of all pairs",
    "#/compare/sst2/imdb": "Compare two tasks",
    "#/list": "All embeddings",
    "#/trust": "How far to trust this",
    "#/drop": "Drop your adapter",
    "#/%E0%A4%A": "No such page",
    "#/somewhere": "No such page",
}


def test_every_view_has_an_address(open_page: Any, bundled_page: Path) -> None:
    opened = open_page(bundled_page)
    for address, heading in ADDRESSES.items():
        assert opened.go(address).inner_text("h1") == heading, address
    opened.page.reload()
    assert opened.page.inner_text("h1") == heading


def test_a_misspelt_task_gets_the_near_ones(open_page: Any, bundled_page: Path) -> None:
    page = open_page(bundled_page).go("#/task/squad_v3")
    assert "squad" in page.inner_text("main")
    page.click("main a")
    page.wait_for_selector(".neighbours")


def test_who_goes_through_a_choice_by_keys_stays_in_it(open_page: Any, bundled_page: Path) -> None:
    page = open_page(bundled_page).go("#/compare/sst2/imdb")
    page.focus("label:has-text('with') select")
    for _ in range(2):
        page.keyboard.press("ArrowDown")
        page.wait_for_selector(".versus")
    assert page.evaluate("document.activeElement.closest('label').firstChild.textContent") == "with"
    assert page.inner_text(".versus .card:last-child h2") == page.evaluate("document.activeElement.value") != "imdb"


def test_the_command_line_knows_every_command_of_the_page(open_page: Any, bundled_page: Path) -> None:
    opened = open_page(bundled_page)
    said = set()
    for view in ("#/task/sst2", "#/task/sst2?space=all-MiniLM-L6-v2%2Fmam", "#/compare/sst2/imdb", "#/drop"):
        said |= set(opened.go(view).locator(".command.line code").all_text_contents())
    assert len(said) >= 7
    for line in said:
        program, verb, *arguments = shlex.split(line)
        command = command_of(verb)
        assert program == "tupate-hub" and command is not None, line
        command.make_parser(click.Context(command)).parse_args(list(arguments))  # raises at an unknown option


def test_views_stay_in_the_space_that_was_chosen(open_page: Any, bundled_page: Path) -> None:
    page = open_page(bundled_page).go("#/map")
    page.select_option("main select", "all-MiniLM-L6-v2/prefix")
    page.wait_for_selector("h1")
    page.click("header nav >> text=Trust")
    assert page.input_value("main select") == "all-MiniLM-L6-v2/prefix"


def test_commands_are_copied_by_a_click(open_page: Any, bundled_page: Path) -> None:
    page = open_page(bundled_page, permissions=["clipboard-read", "clipboard-write"]).go(
        "#/task/sst2?space=all-MiniLM-L6-v2%2Fprefix"
    )
    page.click("[aria-label='Copy: start your own task from it']")
    page.wait_for_selector("text=Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "tupate-hub train DATA --start-from sst2 --space all-MiniLM-L6-v2/prefix"


def test_the_map_is_walked_by_keys_and_clicked(open_page: Any, bundled_page: Path) -> None:
    page = open_page(bundled_page).go("#/map")
    page.focus("canvas")
    page.keyboard.press("ArrowRight")
    first = page.inner_text(".plane [aria-live]")
    page.keyboard.press("ArrowRight")
    second = page.inner_text(".plane [aria-live]")
    assert first and second and first != second
    page.keyboard.press("+")
    page.keyboard.press("Enter")
    page.wait_for_selector(".taskpage")
    assert page.inner_text("h1") == second.partition(":")[0]


def test_kinds_are_left_out_of_the_map(open_page: Any, bundled_page: Path) -> None:
    page = open_page(bundled_page).go("#/map")
    for box in page.query_selector_all(".toggle input")[1:]:
        box.uncheck()
    page.focus("canvas")
    seen = set()
    for key in ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"] * 2:
        page.keyboard.press(key)
        seen.add(page.inner_text(".tip .quiet").strip())
    assert seen == {"classification"}


def test_the_heatmap_is_walked_by_keys(open_page: Any, bundled_page: Path) -> None:
    page = open_page(bundled_page).go("#/heatmap")
    page.focus("canvas")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    told = page.inner_text(".tip")
    assert re.search(r"score -?0\.\d{3}, above [\d.]+ % of all pairs", told)
    page.keyboard.press("Enter")
    page.wait_for_selector(".versus")
    assert set(told.splitlines()[0].split(" × ")) == set(page.locator(".versus h2").all_inner_texts())


def test_the_list_sorts_and_filters(open_page: Any, bundled_page: Path) -> None:
    page = open_page(bundled_page).go("#/list")
    page.click("thead button >> text=score")
    scores = [float(one) for one in page.locator("tbody td:nth-child(5)").all_inner_texts() if one != "–"]
    assert scores == sorted(scores, reverse=True)
    page.select_option("label:has-text('Kind') select", "regression")
    assert page.inner_text("[role=status]") == "2 embeddings"
    page.fill("main input[type=search]", "sts-b")
    assert page.locator("tbody th a").all_inner_texts() == ["stsb"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_the_button(open_page: Any, bundled_page: Path, scheme: str) -> None:
    page = open_page(bundled_page, color_scheme=scheme).go("#/")
    paper = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    assert (page.evaluate(paper) < 60) == (scheme == "dark")
    for _ in range(1 if scheme == "dark" else 2):  # auto, light, dark
        page.click(".theme")
    assert (page.evaluate(paper) < 60) == (scheme == "light")


def test_a_phone_scrolls_down_and_not_sideways(open_page: Any, bundled_page: Path) -> None:
    opened = open_page(bundled_page, width=360, height=740, has_touch=True)
    for view in VIEWS:
        assert opened.go(view).evaluate("document.scrollingElement.scrollWidth <= window.innerWidth"), view


def test_in_print_there_are_no_controls(open_page: Any, bundled_page: Path) -> None:
    page = open_page(bundled_page).go("#/task/sst2")
    page.emulate_media(media="print")
    assert not page.is_visible("header.top") and not page.is_visible(".copy")
    assert page.is_visible(".neighbours") and page.is_visible(".command pre")


@pytest.mark.parametrize(("scheme", "views"), [("light", VIEWS), ("dark", VIEWS[1:2])])
def test_axe_finds_nothing(open_page: Any, bundled_page: Path, scheme: str, views: list[str]) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    source = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    opened = open_page(bundled_page, color_scheme=scheme)
    for view in views:
        page = opened.go(view)
        if page.evaluate("typeof axe") == "undefined":
            page.evaluate(source)
        violations = page.evaluate(AXE)
        assert violations == [], view
