"""Pictures: well-formed SVG that says what it shows, the same bytes twice, small, and deaf to what names contain."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.publish.pictures import MOST_POINTS, MOST_TASKS, Point, heatmap, task_map

SVG = "{http://www.w3.org/2000/svg}"
MOST_BYTES = 200_000


def cosines(tasks: int, seed: int = 0, width: int = 40) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((tasks, width))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def points(count: int, seed: int = 0, **more: object) -> list[Point]:
    places = np.random.default_rng(seed).standard_normal((count, 2))
    return [Point(f"task_{at}", float(x), float(y), **more) for at, (x, y) in enumerate(places)]


def parsed(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg.encode())
    assert root.tag == f"{SVG}svg"
    return root


def words(svg: str) -> list[str]:
    return [one.text or "" for one in parsed(svg).iter(f"{SVG}text")]


def box(svg: str) -> tuple[float, float]:
    _, _, width, height = map(float, parsed(svg).attrib["viewBox"].split())
    return width, height


def cells(svg: str) -> dict[tuple[int, int], str]:
    """The colour of each cell of a heatmap, by row and column."""
    found = {}
    for path in parsed(svg).iter(f"{SVG}path"):
        for x, y, wide in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\3z", path.attrib["d"]):
            for at in range(int(wide)):
                assert (int(y), int(x) + at) not in found, "two cells in one place"
                found[int(y), int(x) + at] = path.attrib["fill"]
    return found


def lightness(colour: str) -> float:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# --- heatmap ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 17, 78, 100, 140])
def test_a_heatmap_has_a_cell_for_each_pair_and_names_each_task_twice(tasks: int) -> None:
    names = [f"task_{at}" for at in range(tasks)]
    svg = heatmap("Similarity", names, cosines(tasks))
    shown = min(tasks, MOST_TASKS)
    assert set(cells(svg)) == {(y, x) for y in range(shown) for x in range(shown)}
    listed = [word for word in words(svg) if word in names]
    assert len(listed) == 2 * shown
    assert listed[:shown] == listed[shown:]
    assert len(svg.encode()) < MOST_BYTES


def test_darker_means_more_similar_and_the_diagonal_is_grey() -> None:
    names = [f"task_{at}" for at in range(12)]
    scores = cosines(12)
    svg = heatmap("Similarity", names, scores)
    order = [int(word.split("_")[1]) for word in words(svg) if word in names][:12]
    found = cells(svg)
    assert {found[at, at] for at in range(12)} == {"#d8d8d8"}
    pairs = [(scores[order[y], order[x]], lightness(found[y, x])) for y in range(12) for x in range(y)]
    ordered = [light for _, light in sorted(pairs)]
    assert all(later <= earlier + 1e-9 for earlier, later in zip(ordered, ordered[1:], strict=False))
    assert len({round(light) for light in ordered}) > 8
    assert all(found[y, x] == found[x, y] for y in range(12) for x in range(12))


def test_the_colour_bar_runs_from_the_lowest_pair_to_the_highest() -> None:
    scores = np.array([[1, 0.1, 0.3], [0.1, 1, 0.2], [0.3, 0.2, 1]])
    ticks = [float(word) for word in words(heatmap("x", ["a", "b", "c"], scores)) if re.fullmatch(r"-?\d\.\d\d", word)]
    assert ticks == pytest.approx([0.1, 0.15, 0.2, 0.25, 0.3])


def test_a_lone_pair_of_copies_does_not_wash_out_the_others() -> None:
    scores = cosines(30, width=400)
    scores[3, 7] = scores[7, 3] = 0.999
    svg = heatmap("x", [f"t{at}" for at in range(30)], scores)
    (top,) = [float(word[2:]) for word in words(svg) if word.startswith("≥ ")]
    assert top < 0.5
    assert len(set(cells(svg).values())) > 12


def test_equal_scores_have_one_colour_and_make_a_bar_that_can_be_read() -> None:
    svg = heatmap("x", ["a", "b", "c"], np.full((3, 3), 0.25) + 0.75 * np.eye(3))
    assert len(set(cells(svg).values())) == 2
    ticks = [word for word in words(svg) if re.fullmatch(r"\d\.\d\d", word)]
    assert len(set(ticks)) == 5


def test_of_many_tasks_those_with_the_nearest_neighbours_are_shown_and_the_picture_says_so() -> None:
    tasks = MOST_TASKS + 40
    scores = np.eye(tasks)
    scores[:MOST_TASKS, :MOST_TASKS] = 0.5 * np.eye(MOST_TASKS) + 0.5
    names = [f"task_{at}" for at in range(tasks)]
    svg = heatmap("x", names, scores)
    assert {word for word in words(svg) if word in names} == set(names[:MOST_TASKS])
    assert f"the {MOST_TASKS} of {tasks} tasks" in svg


# --- map -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 25, 78, 300, MOST_POINTS])
def test_a_map_has_a_mark_for_each_task_inside_the_frame(count: int) -> None:
    svg = task_map("Map", points(count), (0.5, 0.25))
    width, height = box(svg)
    circles = [one for one in parsed(svg).iter(f"{SVG}circle") if float(one.attrib["cy"]) > 76]
    assert len(circles) == count
    assert all(20 < float(one.attrib["cx"]) < width - 20 for one in circles)
    assert all(76 < float(one.attrib["cy"]) < height - 20 for one in circles)
    assert len(svg.encode()) < MOST_BYTES
    assert "50%" in svg
    assert "25%" in svg


def test_a_map_of_too_many_points_says_how_many_it_shows() -> None:
    svg = task_map("Map", points(MOST_POINTS + 1), (0.5, 0.25))
    assert f"{MOST_POINTS} of {MOST_POINTS + 1} tasks;" in svg
    assert len(svg.encode()) < MOST_BYTES


def test_a_map_keeps_the_shape_of_its_points() -> None:
    svg = task_map("Map", [Point("a", 0, 0), Point("b", 3, 0), Point("c", 0, 4)], (0.6, 0.4))
    a, b, c = [
        np.array([float(one.attrib["cx"]), -float(one.attrib["cy"])])
        for one in parsed(svg).iter(f"{SVG}circle")
        if float(one.attrib["cy"]) > 76
    ]
    assert np.linalg.norm(c - a) / np.linalg.norm(b - a) == pytest.approx(4 / 3, abs=0.01)
    assert (b - a)[0] > 0
    assert (c - a)[1] > 0


def test_names_do_not_cover_each_other() -> None:
    svg = task_map("Map", points(80), (0.5, 0.3))
    boxes = [
        (float(one.attrib["x"]), float(one.attrib["y"]), len(one.text or ""))
        for one in parsed(svg).iter(f"{SVG}text")
        if (one.text or "").startswith("task_")
    ]
    assert len(boxes) > 60
    for at, (x, y, letters) in enumerate(boxes):
        for other_x, other_y, _ in boxes[at + 1 :]:
            assert abs(y - other_y) >= 13.9 or other_x >= x + letters * 6.5 or x >= other_x + 40


def test_every_name_is_there_where_there_is_room() -> None:
    svg = task_map("Map", points(12), (0.5, 0.3))
    assert {f"task_{at}" for at in range(12)} <= set(words(svg))


def test_groups_differ_in_colour_and_shape_and_stand_in_the_legend() -> None:
    groups = ["classification", "extractive_qa", "multiple_choice", "regression"]
    svg = task_map("Map", [Point(f"t{at}", at, at % 3, group) for at, group in enumerate(groups)], (0.5, 0.3))
    assert {group.replace("_", " ") for group in groups} <= set(words(svg))
    fills = re.findall(r"fill='(#[0-9A-F]{6})' stroke='#ffffff'", svg)
    assert len(set(fills)) == 4
    assert fills.count("#0072B2") == 2  # in the legend and in the map


def test_weak_tasks_are_hollow_and_only_then_the_legend_says_so() -> None:
    strong = task_map("Map", points(4), (0.5, 0.3))
    weak = task_map("Map", points(4, weak=True), (0.5, 0.3))
    assert "weak" not in words(strong)
    assert "weak" in words(weak)
    assert len(re.findall(r"fill='#ffffff' stroke='#0072B2'", weak)) == 4


def test_more_groups_than_marks_share_the_last_one() -> None:
    svg = task_map("Map", [Point(f"t{at}", at, -at, f"group_{at:02}") for at in range(20)], (0.5, 0.3))
    assert "other" in words(svg)
    assert "group 19" not in words(svg)
    assert parsed(svg) is not None


@pytest.mark.parametrize("count", [1, 5, 6, 7, 20])
def test_a_legend_of_any_length_stays_inside_of_the_picture(count: int) -> None:
    groups = [f"{'long_name_of_a_kind'[: 12 + at % 7]}_{at:02}" for at in range(count)]
    svg = task_map("Map", [Point(f"t{at}", at, -at, group, weak=True) for at, group in enumerate(groups)], (0.5, 0.3))
    width, height = map(float, re.search(r"viewBox='0 0 (\d+) (\d+)'", svg).groups())  # type: ignore[union-attr]
    frame = float(re.search(r"<rect x='20' y='(\d+)'", svg)[1])  # type: ignore[index]
    legend = re.findall(r"<text x='([\d.]+)' y='([\d.]+)'[^>]*font-size='12' fill='#222222'>([^<]+)</text>", svg)
    assert {text for _, _, text in legend} >= {group.replace("_", " ") for group in sorted(groups)[:6]} | {"weak"}
    for x, y, text in legend:
        assert float(x) + 6.4 * len(text) <= width
        assert float(y) < frame
    assert frame + 584 < height


def test_a_colour_bar_has_no_minus_zero() -> None:
    scores = np.eye(6) - (1 - np.eye(6)) * np.linspace(0.001, 0.3, 36).reshape(6, 6)
    svg = heatmap("Heat", [f"t{at}" for at in range(6)], (scores + scores.T) / 2)
    assert not [text for text in words(svg) if "-0.00" in text]


def test_points_in_one_place_are_drawn() -> None:
    svg = task_map("Map", [Point("a", 0.0, 0.0), Point("b", 0.0, 0.0)], (0.0, 0.0))
    assert {"a", "b"} <= set(words(svg))
    assert "nan" not in svg


# --- both ------------------------------------------------------------------------------------------------------


def test_the_same_input_gives_the_same_text() -> None:
    names = [f"task_{at}" for at in range(30)]
    assert heatmap("x", names, cosines(30)) == heatmap("x", list(names), cosines(30).copy())
    assert task_map("x", points(30), (0.5, 0.3)) == task_map("x", points(30), (0.5, 0.3))


@given(st.lists(st.text(max_size=40), min_size=2, max_size=6))
def test_whatever_names_hold_stays_text(names: list[str]) -> None:
    plain = heatmap("x", ["a"] * len(names), cosines(len(names)))
    svg = heatmap(names[0], names, cosines(len(names)))
    assert len(list(parsed(svg).iter())) == len(list(parsed(plain).iter()))
    parsed(task_map(names[0], [Point(name, at, at, name) for at, name in enumerate(names)], (0.5, 0.3)))


@pytest.mark.parametrize("name", ["</text><script>x()</script>", "a' onload='x()", "&lol;", "a\x00\x1b[31m", "]]>"])
def test_markup_in_a_name_is_shown_and_not_obeyed(name: str) -> None:
    for svg in (heatmap(name, [name, "b"], cosines(2)), task_map(name, [Point(name, 0, 0, name)], (1.0, 0.0))):
        tags = {one.tag.removeprefix(SVG) for one in parsed(svg).iter()}
        assert tags <= {"svg", "title", "desc", "g", "rect", "path", "text", "circle"}
        assert not any(key.startswith("on") for one in parsed(svg).iter() for key in one.attrib)
        assert "\x1b" not in svg


def test_long_names_are_cut() -> None:
    svg = heatmap("x", ["n" * 500, "b"], cosines(2))
    assert "n" * 23 + "…" in words(svg)
    assert box(svg)[0] < 1000


def test_pictures_refer_to_nothing_outside_and_say_what_they_are() -> None:
    for svg in (heatmap("Similarity of x", ["a", "b"], cosines(2)), task_map("Map of x", points(3), (0.5, 0.3))):
        assert "href" not in svg
        assert "url(" not in svg
        root = parsed(svg)
        assert root.attrib["role"] == "img"
        assert (root.findtext(f"{SVG}title") or "").endswith(" of x")
        assert root.findtext(f"{SVG}desc")
