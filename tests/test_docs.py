"""What the documents promise is there: verbs, options, JSON fields, and the commands that they and the hints name."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from builders import LORA

import tupate_hub
from tupate_hub.cli import VERBS, app

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
CLI_PAGE = ROOT / "docs" / "cli.md"


def command(verb: str) -> click.Command:
    found = app.get_command(click.Context(app), verb)
    assert found is not None
    return found


def section(verb: str) -> str:
    """The part of docs/cli.md about a verb."""
    parts = re.split(r"^## ", CLI_PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (found,) = [one for one in parts if one.splitlines()[0].split()[0].strip("`") == verb]
    return found


def commands_in(text: str) -> list[list[str]]:
    """Every `tupate-hub ...` of a text's code blocks and inline code, as arguments."""
    blocks = re.findall(r"```.*?\n(.*?)```", text, flags=re.DOTALL)
    inline = re.findall(r"`(tupate-hub [^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()] + inline
    found = [re.split(r"\s#\s|\s[|>]\s| {3,}", line)[0] for line in lines if re.match(r"tupate-hub\s", line)]
    return [shlex.split(one)[1:] for one in found]


def all_parameters(verb: str) -> list[click.Parameter]:
    """Those of a verb, and of the verbs under it."""
    whole = command(verb)
    under = whole.commands.values() if isinstance(whole, click.Group) else ()
    return [parameter for one in (whole, *under) for parameter in one.params]


# --- help ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_the_sentence_of_the_table_is_the_first_of_the_help(verb: str) -> None:
    assert (command(verb).help or "").splitlines()[0] == VERBS[verb][1]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example_in_its_help(verb: str, invoke: Any) -> None:
    result = invoke(verb, "--help")
    assert result.code == 0
    assert f"\n    tupate-hub {verb}" in result.out


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_a_help_text(verb: str) -> None:
    for parameter in all_parameters(verb):
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


# --- docs/cli.md -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_the_page_documents_every_verb_and_option(verb: str) -> None:
    text = section(verb)
    for parameter in all_parameters(verb):
        if isinstance(parameter, click.Option):
            assert f"`{max(parameter.opts, key=len)}" in text, parameter.opts


def test_the_page_documents_no_verb_that_is_not_there() -> None:
    headings = re.findall(r"^## `([\w-]+)`", CLI_PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings == list(VERBS)


def fields(value: Any) -> set[str]:
    """The names of the fields that the command line itself chooses: those of objects, two levels deep."""
    rows = value if isinstance(value, list) else [value]
    named = {name for row in rows for name in row}
    deeper = [
        one for row in rows for item in row.values() if isinstance(item, list) for one in item if isinstance(one, dict)
    ]
    return named | {name for one in deeper for name in one}


@pytest.mark.parametrize(
    "arguments",
    [
        ("similar", "imdb", "--explain"),
        ("explain", "imdb", "rte"),
        ("pull", "imdb"),
        ("verify",),
        ("list",),
        ("show", "imdb"),
        ("spaces",),
        ("card",),
        ("inspect", "FOLDER"),
        ("check", "FOLDER"),
        ("add", "FOLDER", "--task", "mine"),
        ("add", "FOLDER", "--all", "--force"),
        ("merge-check", "imdb", "mnli", "--explain", "--bare", "--write", "OUT"),
    ],
)
def test_the_page_documents_every_json_field(
    arguments: tuple[str, ...], toy_zoo: Path, tmp_path: Path, invoke: Any
) -> None:
    folder = tmp_path / "adapter"
    assert invoke("pull", "rte", "--as", "peft", "--bare", "--to", folder, "--registry", toy_zoo).code == 0
    named = {"FOLDER": str(folder), "OUT": str(tmp_path / "out")}
    given = [named.get(one, one) for one in arguments]
    registry = [] if given[0] in ("inspect", "check") else ["--registry", str(toy_zoo)]
    found = fields(invoke(*given, *registry, "--json").json())
    assert found
    undocumented = {name for name in found if f"`{name}`" not in section(given[0])}
    assert not undocumented


def test_the_page_documents_every_json_field_of_subspaces(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    where = ("--registry", str(toy_zoo), "--json")
    fit = ("fit", "--space", "prompt", "--dim", "2", "--loss", "reconstruction", "--to", str(toy_zoo))
    decode = ("decode", "1,2", "--to", str(tmp_path / "decoded"))
    for arguments in (fit, ("list",), ("encode", "imdb"), decode, ("pull", "--to", str(tmp_path / "x.safetensors"))):
        result = invoke("subspace", *arguments, *where)
        assert result.code == 0, result.err
        undocumented = {name for name in fields(result.json()) if f"`{name}`" not in section("subspace")}
        assert not undocumented, arguments


# --- paths -----------------------------------------------------------------------------------------------------


def paths_in(text: str) -> list[str]:
    """Every file or folder of the project that a text names, and the targets of its links within the project."""
    named = re.findall(r"(?<![\w/.-])(?:scripts|tupate_hub|docs|tests|\.github)/[\w./*-]*[\w/*]", text)
    linked = [target for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in target]
    return named + linked


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "Makefile"], ids=lambda page: page.name
)
def test_every_path_of_the_documents_is_there(page: Path) -> None:
    for path in paths_in(page.read_text(encoding="utf-8")):
        assert any(list(folder.glob(path)) for folder in (ROOT, page.parent)), path


def test_the_pages_hold_paths() -> None:
    assert paths_in("`scripts/zoo/build_zoo.py --check`, [x](docs/a.md#b), see tests/test_*.py.") == [
        "scripts/zoo/build_zoo.py",
        "docs/a.md",
        "tests/test_*.py",
        "docs/a.md",
    ]
    assert paths_in("https://x.org/docs/a.md and my/docs/a.md") == []


# --- targets of make -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_target_of_the_documents_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (targets,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    for command in re.findall(r"(?:`|\$ )make ([a-z][a-z -]*)", page.read_text(encoding="utf-8")):
        assert set(command.split()) <= set(targets.split()), command


# --- commands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_the_documents_exists(page: Path) -> None:
    for arguments in commands_in(page.read_text(encoding="utf-8")):
        if arguments[0].startswith("-"):
            assert arguments[0] in ("--help", "--version")
            continue
        known = {
            name for parameter in all_parameters(arguments[0]) for name in (*parameter.opts, *parameter.secondary_opts)
        }
        options = [one.partition("=")[0] for one in arguments[1:] if re.match(r"--?[a-z]", one)]
        assert set(options) <= {*known, "--help"}, arguments


def test_the_pages_hold_commands() -> None:
    assert ["pull", "sst2"] in commands_in(CLI_PAGE.read_text(encoding="utf-8"))
    assert commands_in("text `tupate-hub list` and\n```\n$ tupate-hub similar x   # why\n```") == [
        ["similar", "x"],
        ["list"],
    ]


def test_every_command_of_a_hint_exists() -> None:
    seen = set()
    for path in sorted(Path(tupate_hub.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "hint":
                for verb in re.findall(r"tupate-hub ([a-z]+(?:-[a-z]+)*)\b", ast.unparse(node.value)):
                    assert verb in VERBS, f"{path.name}:{node.value.lineno} names {verb}"
                    seen.add(verb)
    assert "verify" in seen


def test_the_three_lines_of_the_python_interface(toy_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUPATE_HUB_REGISTRY", str(toy_zoo))
    from tupate_hub import Zoo

    ranking = Zoo.open().similar("squad", k=5)
    assert (ranking.query, ranking.space, len(ranking)) == ("squad", LORA.name, 5)
