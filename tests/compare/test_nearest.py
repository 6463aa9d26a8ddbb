"""Nearest: what its file says is what went in, and a file that says something else is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builders import lora
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.compare.nearest import Nearest, Row, Spread, Texts, nearest_of, origin
from tupate_hub.compare.noise import NoiseLevel
from tupate_hub.compare.sketch import Sketcher
from tupate_hub.compare.sketch_part import SketchPart, sketch_part_of
from tupate_hub.errors import FormatError
from tupate_hub.storage.safetensors import TensorFile, parse_tensorfile

SPACE = "tiny-bert/lora"
ROWS = [
    Row("a", f"zoo/{SPACE}/a.safetensors", 10, "ab" * 32, "qa", 5, True, (origin("x"), 0, origin("d"))),
    Row("b-é", "elsewhere/b.safetensors", 2**40, "cd" * 32, "", None, False, (0, 0, 0)),
    Row("c", "", 0, "ef" * 32, "qa", 0, False, (origin("x"), origin("y"), 0)),
]


@pytest.fixture(scope="module")
def held() -> Nearest:
    sketches = Sketcher().sketches(lora(row.task, at) for at, row in enumerate(ROWS))
    spread = Spread(np.array([-0.5, 0, 1], dtype=np.float32), 3, 3, True, 3, NoiseLevel(0.1, 0.2, 30))
    return Nearest.of(SPACE, "update", ROWS, sketches, [2, 0, 1], spread)


def test_a_file_says_what_went_in(held: Nearest) -> None:
    read = nearest_of(parse_tensorfile(held.to_bytes(), "x"), "x")
    assert [read.row(at) for at in range(3)] == ROWS
    assert (read.space, read.similarity, len(read)) == (SPACE, "update", 3)
    np.testing.assert_array_equal(read.fine(np.arange(3)), held.fine(np.arange(3)))
    assert read.places_of(np.arange(3)).tolist() == [2, 0, 1]
    assert read.spread is not None and held.spread is not None
    assert (read.spread.noise, read.spread.pairs) == (held.spread.noise, 3)
    assert [read.tasks.find(row.task) for row in ROWS] == [0, 1, 2]
    assert [read.tasks.find(name) for name in ("", "aa", "d")] == [None] * 3
    assert read.to_bytes() == held.to_bytes()


def test_rows_have_the_beginning_of_their_sketches(held: Nearest) -> None:
    sketch = Sketcher().sketch(lora("c", 2))
    np.testing.assert_array_equal(held.fine(np.array([2]))[0], sketch.bits[:256])
    assert held.candidates(sketch.bits, 1).tolist() == [2]
    assert held.norms[2] == pytest.approx(sketch.norm)


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"])), max_size=8))
def test_texts_are_found_by_bisection(texts: list[str]) -> None:
    ordered = sorted(set(texts))
    held = Texts.of(ordered)
    assert [held[row] for row in range(len(held))] == ordered
    assert [held.find(text) for text in ordered] == list(range(len(ordered)))


DAMAGE: dict[str, Any] = {
    "schema": lambda t, m: m.update(schema="tupate-hub-nearest/2"),
    "no space": lambda t, m: m.pop("space"),
    "kinds": lambda t, m: m.update(kinds='["qa"]'),
    "kinds that are no text": lambda t, m: m.update(kinds="[1, 2]"),
    "kinds that are no list": lambda t, m: m.update(kinds="3"),
    "fewer bits": lambda t, m: t.update(coarse=t["coarse"][:2]),
    "bits of another kind": lambda t, m: t.update(rest=t["rest"].astype(np.int32)),
    "a column less": lambda t, m: t.pop("digests"),
    "a column of another length": lambda t, m: t.update(sizes=t["sizes"][:1]),
    "texts that end elsewhere": lambda t, m: t.update(task_ends=t["task_ends"] + np.int32(1)),
    "texts that go back": lambda t, m: t.update(task_ends=t["task_ends"][::-1].copy()),
    "quantiles": lambda t, m: t.update(quantiles=np.array([np.nan], dtype=np.float32)),
    "spread": lambda t, m: m.update(spread="{}"),
    "spread that is no JSON": lambda t, m: m.update(spread="{"),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_what_is_no_such_file_is_refused(change: Any, held: Nearest) -> None:
    file = parse_tensorfile(held.to_bytes(), "x")
    tensors, metadata = dict(file.tensors), dict(file.metadata)
    change(tensors, metadata)
    with pytest.raises(FormatError, match="there is not a file of nearest embeddings"):
        nearest_of(TensorFile(tensors, metadata), "there")


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/../b", "\x1b[2J", "a b"])
def test_names_that_are_not_plain_are_refused(name: str) -> None:
    sketch = Sketcher().sketch(lora("x", 0))
    for row in (Row(name, "", 0, "ab" * 32), Row("x", name, 1, "ab" * 32)):
        with pytest.raises(FormatError, match="not plain"):
            Nearest.of(SPACE, "update", [row], [sketch], [0]).row(0)


def test_parts_say_what_went_in() -> None:
    sketches = list(Sketcher().sketches(lora(f"t{n}", n) for n in range(3)))
    digests = [f"{n}{n}" * 32 for n in range(3)]
    part = SketchPart.of(SPACE, "update", digests, sketches)
    read = sketch_part_of(parse_tensorfile(part.to_bytes(), "x"), "x")
    assert [read.digest(row) for row in range(3)] == digests
    for row, sketch in enumerate(sketches):
        found = read.sketch(row, sketch.task)
        np.testing.assert_array_equal(found.bits, sketch.bits)
        assert (found.task, found.norm, found.change) == (sketch.task, sketch.norm, sketch.change)
    assert len(sketch_part_of(parse_tensorfile(SketchPart.of(SPACE, "update", [], []).to_bytes(), "x"), "x")) == 0


@pytest.mark.parametrize("name", ["bits", "changes", "digests", "norms", "schema"])
def test_what_is_no_part_is_refused(name: str) -> None:
    part = SketchPart.of(SPACE, "update", ["ab" * 32], [Sketcher().sketch(lora("x", 0))])
    file = parse_tensorfile(part.to_bytes(), "x")
    tensors = {called: array[:0] if called == name else array for called, array in file.tensors.items()}
    metadata = {called: text for called, text in file.metadata.items() if called != name}
    with pytest.raises(FormatError, match="there is not a file of sketches"):
        sketch_part_of(TensorFile(tensors, metadata), "there")


def test_an_origin_is_a_number_of_the_text() -> None:
    assert [origin(None), origin(""), origin(3)] == [0, 0, 0]
    assert origin("x") == origin("x") != origin("y") != 0
