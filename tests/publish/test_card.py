"""The dataset card: what the Hub reads, what people read, nothing that a stranger's text could add to it."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from builders import BASE, LORA, PROMPT, TASKS

from tupate_hub.cli import app
from tupate_hub.publish import card, card_text, provenance
from tupate_hub.publish.browse import FILE
from tupate_hub.publish.card import BUNDLED, CARD, card_files, card_of
from tupate_hub.publish.card_text import escaped
from tupate_hub.publish.frontmatter import About, front_matter
from tupate_hub.registry import Entry, Registry, Repeat, SpaceEntry, Task
from tupate_hub.search.by_gain import read_forecasts
from tupate_hub.storage.registry_json import parse_registry
from tupate_hub.zoo import Zoo

NASTY = (
    "<img src=x onerror=alert(1)>",
    "a | b | c",
    "a\\|b",
    "a\n\n# Heading\n\n- item",
    "[click](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "`code` *bold* _it_ ~~gone~~ $x^2$ @all",
    "\x1b[31mred\u202etxt",
    "&lt;b&gt; & <!-- comment",
    "z" * 5000,
    "---\nlicense: mit\n---",
)


@pytest.fixture
def zoo(toy_zoo: Path) -> Zoo:
    return Zoo.open(toy_zoo)


def text_of(zoo: Zoo, about: About | None = None, at: str = CARD) -> str:
    return card_of(zoo, about or About(), at)[at].decode()


def head(text: str) -> Any:
    before, matter, _ = text.split("---\n", 2)
    assert before == ""
    return yaml.safe_load(matter)


def tables(text: str) -> list[list[list[str]]]:
    """Every table of a card as rows of cells, headings included."""
    found: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("| "):
            if not inside:
                found.append([])
            found[-1].append([cell.strip() for cell in re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]])
        inside = line.startswith("| ")
    return found


def nasty(zoo: Zoo, words: str) -> Zoo:
    """A zoo whose every free text is `words`."""
    registry = zoo.registry
    tasks = {
        name: replace(task, title=words, kind=words, metric=words, dataset=words, licence=words, task_class=words)
        for name, task in registry.tasks.items()
    }
    spaces = {
        name: replace(space, settings={words: words}, base_sha256=words, base=BASE)
        for name, space in registry.spaces.items()
    }
    entries = tuple(
        replace(one, source={"kind": words, "licence": words, "by": [words], words: words}, scores={"primary": words})
        for one in registry.entries
    )
    return replace(zoo, registry=replace(registry, tasks=tasks, spaces=spaces, entries=entries))


# --- files -----------------------------------------------------------------------------------------------------


def test_the_card_the_pictures_and_the_table_are_made(zoo: Zoo) -> None:
    pictures = {f"zoo/{space.name}/{kind}.svg" for space in (LORA, PROMPT) for kind in ("heatmap", "map")}
    files = card_of(zoo, About())
    parts = {f"zoo/{space.name}/embeddings.jsonl" for space in (LORA, PROMPT)}
    assert set(files) == {CARD, FILE, *pictures, *parts}
    assert all(files[name].startswith(b"<svg ") for name in pictures)
    assert len(files[FILE].splitlines()) == len(zoo.registry.entries)


def test_the_same_bytes_twice_and_whatever_order_the_spaces_come_in(zoo: Zoo) -> None:
    once = card_of(zoo, About())
    assert card_of(Zoo.open(zoo.root), About()) == once
    indexes = {space: {"update": zoo.pair_index(space, "update")} for space in reversed(list(zoo.registry.spaces))}
    assert card_files(zoo.registry, indexes, About()) == once


@pytest.mark.parametrize("at", [CARD, "README.md"])
def test_links_start_where_the_card_lies(at: str, zoo: Zoo) -> None:
    files = card_of(zoo, About(), at)
    text = files[at].decode()
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    here = Path(at).parent
    assert len(links) == 4
    assert all((here / link).as_posix() in files for link in links)
    whole, parts = head(text)["configs"]
    assert (here / whole["data_files"][0]["path"]).as_posix() == FILE
    splits = {one["split"]: (here / one["path"]).as_posix() for one in parts["data_files"]}
    assert splits == {
        "tiny_bert_lora": "zoo/tiny-bert/lora/embeddings.jsonl",
        "tiny_bert_prompt": "zoo/tiny-bert/prompt/embeddings.jsonl",
    }
    assert b"".join(files[file] for file in splits.values()) == files[FILE]


def test_the_default_space_comes_first_then_the_largest(zoo: Zoo) -> None:
    text = text_of(part(zoo, LORA.name, len(TASKS) - 1))  # fewer than prompts, and the default all the same
    assert text.index("## How far to trust it") < text.index("## Spaces") < text.index(f"\n## {LORA.name}\n")
    assert text.index(f"\n## {LORA.name}\n") < text.index(f"\n## {PROMPT.name}\n")
    other = replace(zoo, registry=replace(zoo.registry, default_space=PROMPT.name))
    text = text_of(other)
    assert text.index(f"\n## {PROMPT.name}\n") < text.index(f"\n## {LORA.name}\n")


def test_measured_transfer_is_told_on_top() -> None:
    text = card_of(Zoo.open(), About())[CARD].decode()
    lines = [line for line in text.splitlines() if line.startswith("- In `all-MiniLM-L6-v2/lora`, on ")]
    forecasts = read_forecasts(Zoo.open().registry.space(None))
    assert forecasts
    for line, forecast in zip(lines, forecasts, strict=True):
        assert f"on {forecast.targets} targets with {forecast.examples} examples" in line
        assert f"by {forecast.gained:+.1f} points on average" in line
    assert "holds no measured transfer" not in text


def test_an_index_that_no_longer_fits_is_computed_anew(zoo: Zoo) -> None:
    once = card_of(zoo, About())
    spaces = {name: replace(space, index={}) for name, space in zoo.registry.spaces.items()}
    bare = replace(zoo, registry=replace(zoo.registry, spaces=spaces))
    assert card_of(bare, About())[f"zoo/{LORA.name}/heatmap.svg"] == once[f"zoo/{LORA.name}/heatmap.svg"]


# --- front matter ----------------------------------------------------------------------------------------------


def test_the_hub_reads_the_front_matter(zoo: Zoo) -> None:
    found = head(text_of(zoo, About("My zoo: tasks", "me/zoo", ("en", "no"))))
    assert found == {
        "pretty_name": "My zoo: tasks",
        "license": ["unknown"],
        "language": ["en", "no"],
        "tags": ["tupate", "task-embeddings", "adapters", "peft"],
        "size_categories": ["n<1K"],
        "configs": [
            {
                "config_name": "embeddings",
                "data_files": [{"split": "train", "path": "embeddings.jsonl"}],
                "default": True,
            },
            {
                "config_name": "by_space",
                "data_files": [
                    {"split": "tiny_bert_lora", "path": "tiny-bert/lora/embeddings.jsonl"},
                    {"split": "tiny_bert_prompt", "path": "tiny-bert/prompt/embeddings.jsonl"},
                ],
            },
        ],
    }


def listed(*licences: str) -> Registry:
    entries = tuple(
        Entry(f"t{at}", "s", f"{at}", 1, "0" * 64, {"licence": licence} if licence else {})
        for at, licence in enumerate(licences)
    )
    return Registry({e.task: Task(e.task, e.task) for e in entries}, {"s": SpaceEntry("s", "b", "lora")}, entries, "s")


@pytest.mark.parametrize(
    ("licences", "found"),
    [
        (["Apache-2.0", "apache-2.0"], ["apache-2.0"]),
        (["MIT", "CC-BY-4.0"], ["cc-by-4.0", "mit"]),
        (["MIT", ""], ["mit", "unknown"]),
        (["my own terms"], ["other"]),
        ([], ["unknown"]),
    ],
)
def test_licences_are_those_of_the_parameters_by_the_hub_s_names(licences: list[str], found: list[str]) -> None:
    assert head(front_matter(listed(*licences), About(), CARD))["license"] == found


@pytest.mark.parametrize(("count", "size"), [(999, "n<1K"), (1000, "1K<n<10K"), (10_000, "10K<n<100K")])
def test_the_size_category_is_that_of_the_number_of_rows(count: int, size: str) -> None:
    assert head(front_matter(listed(*["MIT"] * count), About(), CARD))["size_categories"] == [size]


@pytest.mark.parametrize("words", [*NASTY, "no", "null", "1e5", "'", '"', "a: b", "- a", "{}", "\u2028\ufeff", "é 🙂"])
def test_any_title_and_language_is_text_of_the_yaml(words: str) -> None:
    found = head(front_matter(Registry(), About(words, "", (words,)), CARD))
    shown = "".join(char if char.isprintable() else " " for char in words)
    assert found["pretty_name"] == shown
    assert found["language"] == [shown]
    assert set(found) == {"pretty_name", "license", "language", "tags", "size_categories"}


# --- what people read ------------------------------------------------------------------------------------------


def test_the_card_has_every_task_with_its_metric_and_its_nearest(zoo: Zoo) -> None:
    (rows,) = [one for one in tables(text_of(zoo)) if one[0][1] == "what it asks" and "0.550" in str(one)][:1]
    columns, _, *body = rows
    assert columns[0] == "task"
    assert [row[0] for row in body] == [f"`{name}`" for name, *_ in TASKS]
    (rte,) = [row for row in body if row[0] == "`rte`"]
    best = zoo.similar("rte", 1).neighbors[0]
    assert rte[4:9] == ["0.600", "0.500", "3,000", f"`{best.task}` {best.score:.2f}", "weak"]


def test_the_card_has_every_space(zoo: Zoo) -> None:
    (rows,) = [one[2:] for one in tables(text_of(zoo)) if one[0][1] == "base model"]
    assert [row[0] for row in rows] == [f"`{LORA.name}` (default)", f"`{PROMPT.name}`"]
    assert [row[1:4] for row in rows] == [["acme/tiny-bert", "lora", "6"], ["acme/tiny-bert", "prompt", "6"]]


def test_the_evaluation_is_what_the_commands_beside_it_say(zoo: Zoo) -> None:
    text = text_of(zoo)
    (scored,) = [one for one in tables(text) if one[0][1] == "tasks with scores"]
    entries = zoo.registry.in_space(LORA.name)
    better = sum(entry.scores["primary"] > entry.scores["baseline"] for entry in entries)
    assert scored[2][:4] == [f"`{LORA.name}`", "6", str(better), "1"]
    (grouped,) = [one for one in tables(text) if one[0][2] == "grouped by"]
    kinds = {name: task.kind for name, task in zoo.registry.tasks.items()}
    same = sum(kinds[zoo.similar(name, 1).neighbors[0].task] == kind for name, kind in kinds.items())
    assert grouped[2][1:5] == ["update", "class", f"{same} of 6 ({same / 6:.0%})", f"{20 / 30:.0%}"]


def test_a_registry_without_scores_or_kinds_shows_no_empty_tables(zoo: Zoo) -> None:
    tasks = {name: Task(name, name) for name in zoo.registry.tasks}
    entries = tuple(replace(entry, scores={}, source={}) for entry in zoo.registry.entries)
    bare = replace(zoo, registry=replace(zoo.registry, tasks=tasks, entries=entries))
    headings = [one[0][1] for one in tables(text_of(bare))]
    assert "tasks with scores" not in headings
    assert "similarity" not in headings
    assert "what it asks" in headings


def test_provenance_says_who_made_it_of_what(zoo: Zoo) -> None:
    (rows,) = [one for one in tables(text_of(zoo)) if one[0][2] == "made by"]
    entry = zoo.registry.entries[0]
    assert len(rows) == 2 + len(zoo.registry.entries)
    assert rows[2] == [
        f"`{entry.task}`",
        f"`{entry.space}`",
        "trained",
        "10",
        "not said",
        "acme/reviews",
        "cc-by-4.0",
        f"`{entry.sha256[:12]}`",
    ]


def commands(text: str) -> list[list[str]]:
    blocks = "".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)).splitlines()
    inline = re.findall(r"`(tupate-hub [^`]+)`", text)
    return [shlex.split(line)[1:] for line in [*blocks, *inline] if line.startswith("tupate-hub ")]


@pytest.mark.parametrize("about", [About(), BUNDLED, About("x", "me/zoo")])
def test_the_commands_of_the_card_exist(about: About, zoo: Zoo) -> None:
    found = commands(text_of(zoo, about))
    assert {line[0] for line in found} >= {"similar", "pull", "list", "evaluate"}
    for verb, *arguments in found:
        command = app.get_command(click.Context(app), verb)
        assert command is not None
        known = {name for parameter in command.params for name in parameter.opts}
        assert {one for one in arguments if re.match(r"--?[a-z]", one)} <= known
        if "--registry" in arguments:
            assert arguments[arguments.index("--registry") + 1] == about.location
    assert any("--registry" in line for line in found) == bool(about.location)


def test_use_takes_three_lines_that_run(zoo: Zoo, invoke: Any, tmp_path: Path) -> None:
    text = text_of(zoo, About(location=str(zoo.root)))
    (block,) = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = block.splitlines()
    assert len(lines) == 3
    assert lines[0] == "pip install tupate-hub"
    for line in lines[1:]:
        more = ["--bare", "--to", str(tmp_path / "pulled")] if " pull " in line else []
        assert invoke(*shlex.split(line)[1:], *more).code == 0, line


def test_an_empty_registry_has_a_card_that_says_how_to_fill_it() -> None:
    files = card_files(Registry(), {}, About())
    text = files[CARD].decode()
    assert set(files) == {CARD, FILE}
    assert "configs" not in head(text)
    assert "tupate-hub add" in text
    assert tables(text) == []


def test_long_tables_are_cut_and_say_so(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (card, card_text, provenance):
        monkeypatch.setattr(module, "MOST_ROWS", 4)
    text = text_of(zoo)
    assert text.count("2 more are in the table of the viewer.") == 2
    assert "8 more are in the table of the viewer." in text


# --- strangers' text -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", NASTY)
def test_a_stranger_s_text_adds_nothing_to_the_card(words: str, zoo: Zoo) -> None:
    plain, text = text_of(nasty(zoo, "plain")), text_of(nasty(zoo, words), About(words))
    assert [[len(row) for row in rows] for rows in tables(text)] == [
        [len(row) for row in rows] for rows in tables(plain)
    ]
    body = text.split("---\n", 2)[2]
    assert "<" not in body.replace("n<1K", "")
    assert len(re.findall(r"^#+ ", body, flags=re.MULTILINE)) == len(
        re.findall(r"^#+ ", plain.split("---\n", 2)[2], flags=re.MULTILINE)
    )
    assert len(re.findall(r"(?<!\\)\]\(", body)) == 4  # the pictures
    assert len(text) < 2 * len(plain) + 20 * 12 * 170
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert head(text)["tags"] == ["tupate", "task-embeddings", "adapters", "peft"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("plain text, with 1-2 (marks).", "plain text, with 1-2 (marks)."),
        ("a_b", r"a\_b"),
        ("<b>", "&lt;b&gt;"),
        ("&amp;", "&amp;amp;"),
        ("a\tb\nc", "a b c"),
        ("[x](y)", r"\[x\](y)"),
        ("back\\slash", r"back\\slash"),
        ("http://x", r"http\://x"),
        ("x" * 160, "x" * 160),
        ("x" * 161, "x" * 159 + "…"),
    ],
)
def test_escaped_text_is_shown_as_it_is(words: str, shown: str) -> None:
    assert escaped(words) == shown


def test_source_that_is_no_text_is_shown(zoo: Zoo) -> None:
    first, *others = zoo.registry.entries
    odd = replace(first, source={"kind": 3, "by": {"a": [1]}, "steps": "many", "licence": 4}, flags=("we|ak",))
    registry = replace(zoo.registry, entries=(odd, *others))
    text = text_of(replace(zoo, registry=registry))
    assert "| 3, {'a': \\[1\\]} |".replace("{", "\\{").replace("}", "\\}") in text
    assert head(text)["license"] == ["unknown"]


def test_a_registry_written_and_read_again_has_the_same_card(zoo: Zoo) -> None:
    again = parse_registry(zoo.registry.to_json(), "registry.json")
    assert card_of(replace(zoo, registry=again), About()) == card_of(zoo, About())
    assert json.loads(zoo.registry.to_json())["default_space"] == LORA.name


# --- many spaces -----------------------------------------------------------------------------------------------


def part(zoo: Zoo, space: str, tasks: int) -> Zoo:
    """The zoo with only some tasks of one of its spaces."""
    others = tuple(entry for entry in zoo.registry.entries if entry.space != space)
    kept = zoo.registry.in_space(space)[:tasks]
    return replace(zoo, registry=replace(zoo.registry, entries=(*others, *kept)))


def section(text: str, space: str) -> str:
    return text.partition(f"## {escaped(space)}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(("tasks", "shown"), [(card.FEWEST_SHOWN - 1, False), (card.FEWEST_SHOWN, True)])
def test_a_space_of_few_tasks_has_a_table_and_no_picture(tasks: int, shown: bool, zoo: Zoo) -> None:
    files = card_of(part(zoo, PROMPT.name, tasks), About())
    inside = section(files[CARD].decode(), PROMPT.name if shown else "Small spaces")
    assert len(tables(inside)[0]) == tasks + 2  # with the heading and its rule
    assert tables(inside)[0][0][0] == ("task" if shown else "space")
    for kind in ("heatmap", "map"):
        assert (f"zoo/{PROMPT.name}/{kind}.svg" in files) == shown
        assert (f"{kind}.svg" in inside) == shown
        assert f"zoo/{LORA.name}/{kind}.svg" in files
    grouped = [row for table in tables(files[CARD].decode()) for row in table if row[0] == f"`{PROMPT.name}`"]
    assert any(row[1] == "update" for row in grouped) == shown  # a share of four neighbours says nothing


def test_a_space_does_not_describe_again_what_the_default_space_has(zoo: Zoo) -> None:
    text = text_of(zoo)
    first, second = (tables(section(text, space))[0] for space in (LORA.name, PROMPT.name))
    assert first[0] == ["task", "what it asks", "kind", "metric", "score", "baseline", "train size", "nearest", "note"]
    assert second[0] == ["task", "metric", "score", "baseline", "nearest", "note"]
    assert [row[0] for row in second[2:]] == [row[0] for row in first[2:]] == [f"`{name}`" for name, *_ in TASKS]


def test_a_task_that_only_another_space_has_is_described_there(zoo: Zoo) -> None:
    text = text_of(part(zoo, LORA.name, len(TASKS) - 1))
    assert "what it asks" in tables(section(text, PROMPT.name))[0][0]


def test_repeats_are_explained_where_there_are_any(zoo: Zoo) -> None:
    assert "repeats" not in text_of(zoo)
    entry = zoo.registry.entries[0]
    again = replace(entry, repeats=(Repeat("zoo/again.safetensors", 1, "0" * 64, 1, 0),))
    entries = (again, *zoo.registry.entries[1:])
    assert "Files in `repeats/` are other runs" in text_of(
        replace(zoo, registry=replace(zoo.registry, entries=entries))
    )
