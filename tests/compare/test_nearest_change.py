"""Nearest embeddings that were changed are those that are made of all rows at once."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.compare.nearest import Nearest, Row, nearest_of
from tupate_hub.compare.nearest_change import changed
from tupate_hub.compare.sketch import ENTRIES, Sketch
from tupate_hub.storage.safetensors import parse_tensorfile

NAMES = st.sets(st.text("aZ0-_é", min_size=1, max_size=5), max_size=12)


def row(task: str, salt: int) -> Row:
    rng = np.random.default_rng([*task.encode(), salt])
    file = ["", f"elsewhere/{salt}.safetensors", f"zoo/s/{task}.safetensors"][int(rng.integers(3))]
    numbers = [int(one) for one in rng.integers(1, 1000, 5)]
    kind, trained = ["", "qa", "regression"][numbers[0] % 3], [None, numbers[1]][numbers[0] % 2]
    digest = rng.bytes(32).hex()
    return Row(task, file, numbers[2], digest, kind, trained, numbers[3] % 2 == 0, (numbers[3], 0, numbers[4]))


def sketch(task: str, salt: int) -> Sketch:
    rng = np.random.default_rng([*task.encode(), salt, 1])
    return Sketch(task, rng.integers(0, 256, ENTRIES // 8, dtype=np.uint8), float(rng.random()), float(rng.random()))


def of(salts: dict[str, int]) -> Nearest:
    tasks = sorted(salts)
    rows, sketches = ([make(task, salts[task]) for task in tasks] for make in (row, sketch))
    return Nearest.of("s", "update", rows, sketches, [salts[task] for task in tasks])


@given(NAMES, NAMES, NAMES)
def test_what_is_changed_is_what_is_made_at_once(old: set[str], put: set[str], gone: set[str]) -> None:
    start = nearest_of(parse_tensorfile(of(dict.fromkeys(old, 1)).to_bytes(), "start"), "start")
    tasks = sorted(put)
    rows, sketches = ([make(task, 2) for task in tasks] for make in (row, sketch))
    found = changed(start, rows, sketches, [2] * len(tasks), gone - put)
    expected = of({**dict.fromkeys(old - gone, 1), **dict.fromkeys(put, 2)})
    assert [found.row(at) for at in range(len(found))] == [expected.row(at) for at in range(len(expected))]
    again = nearest_of(parse_tensorfile(found.to_bytes(), "again"), "again")
    for name in (one.name for one in fields(Nearest)):
        mine, theirs = getattr(again, name), getattr(expected, name)
        if isinstance(theirs, np.ndarray) and name != "kinds_of":
            np.testing.assert_array_equal(mine, theirs)
