"""The benchmark of large registries on a few hundred adapters, and the page that is made of its rows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "benchmarks"


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    """The modules of the folder, which are not installed."""
    sys.path.insert(0, str(SCRIPTS))
    import benchmark_scale
    import generated
    import growth_picture
    import scale_page

    yield {one.__name__: one for one in (benchmark_scale, generated, growth_picture, scale_page)}
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def made(scripts: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return scripts["benchmark_scale"].Made([400, 500], tmp_path_factory.mktemp("scale"))


def test_families_are_alike_wherever_they_are_made(scripts: Any) -> None:
    generated = scripts["generated"]
    one, other = (generated.Generated(SCRIPTS.parents[1]) for _ in range(2))
    first = list(one.first(25))
    assert len({embedding.task for embedding in first}) == 25
    np.testing.assert_array_equal(first[22].vector(), other.family(1)[2].vector())
    whole = first[3].blocks[0].parts["A"]
    source = next(found for found in one.sources if first[3].task.endswith(found.task)).blocks[0].parts["A"]
    assert 0.5 < whole.std() / source.std() < 1.3


def test_questions_find_what_comparing_everything_finds(scripts: Any, made: Any) -> None:
    rows = scripts["benchmark_scale"].warm(made)
    recall = {row.embeddings: row.value for row in rows if row.work.startswith("recall")}
    assert recall.keys() == {400, 500}
    assert min(recall.values()) >= 0.95
    assert all(row.value > 0 for row in rows)


def test_bytes_are_those_of_the_files(scripts: Any, made: Any) -> None:
    rows = {(row.work, row.embeddings): row.value for row in scripts["benchmark_scale"].files(made)}
    needed = [rows["file of nearest embeddings", count] for count in (400, 500)]
    assert 0.1 < needed[0] < needed[1] < 0.3
    assert rows["files of whole sketches, used on the same disk", 500] > 500 * 2048 / 1e6


def test_principal_directions_stand_beside_the_beginning_of_the_sketch(scripts: Any, made: Any) -> None:
    first, learned = scripts["benchmark_scale"].directions(made)
    assert first.work.endswith("the first 2,048 bits")
    assert learned.work.endswith("256 principal directions")
    assert first.value > 0.9
    assert 0.5 < learned.value <= 1


def test_rows_know_their_limits(scripts: Any) -> None:
    row = scripts["benchmark_scale"].Row
    assert [row("x", 1, value, "s", 2.0).kept for value in (1.0, 2.0, 3.0)] == [True, True, False]
    assert [row("x", 1, value, "", at_least=2.0).kept for value in (1.0, 2.0)] == [False, True]
    assert scripts["benchmark_scale"].told(row("x", 1000, 3.0, "s", 2.0)) == "MISSED x, 1,000: 3 s (at most 2.0)"


def test_the_picture_and_the_page_are_those_of_the_rows(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = scripts["scale_page"]
    monkeypatch.setattr(page, "DOCS", tmp_path)
    monkeypatch.setattr(page, "PAGE", tmp_path / "scale.md")
    (tmp_path / "scale.md").write_text("# x\n<!-- table: scale -->\n<!-- end -->\n")
    rows = [
        {"work": "cold `similar NAME`, processor", "embeddings": count, "value": value, "unit": "s", "at_most": None,
         "at_least": None}
        for count, value in ((1000, 0.2), (100_000, 0.4))
    ]  # fmt: skip
    rows.append({**rows[0], "work": "recall", "unit": "", "value": 0.99, "at_least": 0.98})
    made = page.files(rows)
    text = made[tmp_path / "scale.md"].decode()
    assert "| work | 1,000 | 100,000 | limit |" in text
    assert "| cold `similar NAME`, processor | 0.2 s | 0.4 s |  |" in text
    assert "| recall | 0.99 |  | at least 0.98 at 1,000 |" in text
    drawn = made[tmp_path / "growth-seconds.svg"].decode()
    assert drawn.count("<circle") == 2
    assert "100,000" in drawn
    assert tmp_path / "growth-bytes.svg" not in made
