"""Naming: one name for one adapter, from its card, its folder, and the folder around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import peft

from tupate_hub import Zoo
from tupate_hub.collect.naming import dataset_of, default_name


def card(folder: Path, front: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(f"---\n{front}\n---\n# A model\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ("datasets:\n- stanfordnlp/imdb", "stanfordnlp/imdb"),
        ("license: mit\ndatasets:\n  - stanfordnlp/imdb\ntags:\n- lora", "stanfordnlp/imdb"),
        ("datasets: stanfordnlp/imdb", "stanfordnlp/imdb"),
        ("datasets: [stanfordnlp/imdb]", "stanfordnlp/imdb"),
        ('datasets:\n- "stanfordnlp/imdb"', "stanfordnlp/imdb"),
        ("datasets:\n- stanfordnlp/imdb\n- glue", ""),
        ("datasets:\n- glue", ""),
        ("datasets:", ""),
        ("tags:\n- imdb", ""),
    ],
)
def test_one_dataset_on_the_card_is_the_task(front: str, expected: str, tmp_path: Path) -> None:
    folder = card(tmp_path / "my-run", front)
    assert dataset_of(folder) == expected
    assert default_name(folder) == ("imdb" if expected else "my-run")


@pytest.mark.parametrize(
    "text", ["", "datasets:\n- imdb\n", "---\ndatasets:\n- imdb\n", "---\n" * 40_000, "\x00\xff---"]
)
def test_a_card_without_front_matter_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(text, encoding="latin-1")
    assert dataset_of(tmp_path) == ""
    assert dataset_of(tmp_path / "nowhere") == ""


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("spam", "spam"),
        ("spam/adapter", "spam"),
        ("spam/best_model", "spam"),
        ("spam/checkpoint-500", "spam"),
        ("spam/lora/checkpoint-2400", "spam"),
        ("spam/fine_tuned_model", "spam"),
        ("spam/peft_model", "spam"),
        ("runs/my-lora", "my-lora"),
        ("spam/outputs/models/sst2", "sst2"),
    ],
)
def test_a_folder_without_a_name_of_its_own_is_called_after_the_one_around_it(
    way: str, expected: str, tmp_path: Path
) -> None:
    folder = tmp_path / way
    folder.mkdir(parents=True)
    assert default_name(folder) == expected
    assert default_name(folder / "adapter_config.json") == expected


def test_a_file_is_called_after_itself(tmp_path: Path) -> None:
    card(tmp_path, "datasets:\n- stanfordnlp/imdb")
    (tmp_path / "squad.npy").write_bytes(b"")
    assert default_name(tmp_path / "squad.npy") == "squad"


def test_every_command_gives_one_name_and_keeps_what_the_card_says(tmp_path: Path, invoke: Any) -> None:
    folder = peft(tmp_path / "downloads" / "run" / "checkpoint-3", task_type="SEQ_CLS")
    card(folder, "datasets:\n- stanfordnlp/imdb")
    invoke("add", folder, "--registry", tmp_path / "one")
    invoke("add", "--all", tmp_path / "downloads", "--registry", tmp_path / "two")
    for place in ("one", "two"):
        (task,) = Zoo.open(tmp_path / place).tasks.values()
        assert (task.name, task.kind, task.dataset) == ("imdb", "classification", "stanfordnlp/imdb")
