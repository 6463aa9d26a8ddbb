"""The table of architectures: what is refused by a configuration, and the page that shows the table."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tupate_hub.architectures import ARCHITECTURES, DECODER, ENCODER, ENCODER_DECODER, form_of, require_tunable
from tupate_hub.data.kinds import KINDS
from tupate_hub.errors import FormatError
from tupate_hub.export.origin import BACKBONES

PAGE = Path(__file__).parent.parent / "docs" / "own-zoo.md"
METHODS = (
    "lora prefix bitfit prompt adapter adapter-houlsby parallel scaled-parallel multihead-parallel mam ia3"
).split()


def can(kind: str, method: str | None = None, task: str | None = None, head: str = "trained") -> bool:
    try:
        require_tunable({"model_type": kind}, method, task, head)
    except FormatError as error:
        assert kind in error.message and error.hint
        return False
    return True


def test_every_form_takes_what_it_takes() -> None:
    assert {architecture.form for architecture in ARCHITECTURES.values()} == {ENCODER, DECODER, ENCODER_DECODER}
    assert all(can(kind, task="classification") and can(kind, "adapter") for kind in ARCHITECTURES)
    assert all(can("bert", method, task) for method in METHODS for task in KINDS)
    assert can("bert", head="labels") and not can("gpt2", head="labels") and not can("t5", head="labels")
    assert (form_of("gpt2"), form_of("bart"), form_of("who-knows")) == (DECODER, ENCODER_DECODER, ENCODER)
    assert BACKBONES["gpt2"] == "transformer" and set(BACKBONES) == set(ARCHITECTURES)


def test_methods_that_cannot_be_put_are_methods() -> None:
    for architecture in ARCHITECTURES.values():
        assert set(architecture.without) | architecture.eager <= set(METHODS)


@pytest.mark.parametrize("config", [{}, {"model_type": None}, {"model_type": 3}, {"model_type": {"bert": 1}}])
def test_odd_configurations_are_refused(config: dict[str, object]) -> None:
    with pytest.raises(FormatError, match="A base model of type"):
        require_tunable(config)


def test_the_page_shows_the_table() -> None:
    rows = {
        cells[0].strip("`"): cells[1:]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if re.match(r"\| `[a-z0-9-]+` \| (encoder|decoder)", line)
        for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
    }
    assert list(rows) == list(ARCHITECTURES)
    for kind, (form, heads, methods) in rows.items():
        assert form == ARCHITECTURES[kind].form
        assert {task for task in KINDS if not can(kind, task=task)} == set(re.findall(r"\w+", heads))
        assert {method for method in METHODS if not can(kind, method)} == set(re.findall(r"`([^`]+)`", methods))


def test_the_table_needs_nothing_heavy() -> None:
    program = "import sys, tupate_hub.architectures; print(*{'torch', 'numpy', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == ""
