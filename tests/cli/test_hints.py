"""Hints: the library advises in its own words, the command line in the options that the verb really has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tupate_hub
from tupate_hub.cli import VERBS
from tupate_hub.cli.hints import OPTIONS, PARAMETER, for_command, for_verb, options_of

PACKAGE = Path(tupate_hub.__file__).parent
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
INSTALL = re.compile(r"^pip install .*")
#: Rooms whose hints still name options of the command line.
NOT_YET: tuple[str, ...] = ()
#: What writes a page that lists commands.
PAGES = ("publish/card", "publish/trust", "publish/run_report")  # the last has properties of CSS, written as options


def strings(module: Path) -> Iterator[tuple[int, str]]:
    """The texts of a module with their lines, its docstrings left out; what an f-string puts in is written as X."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))]
    skipped = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(value) for value in node.values}
            yield node.lineno, "".join(v.value if isinstance(v, ast.Constant) else "X" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.lineno, node.value


def library() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] != "cli"]


def named(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


# --- what the sources say --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [path for path in library() if named(path) not in PAGES and named(path).split("/")[0] not in NOT_YET],
    ids=named,
)
def test_the_library_names_no_option_of_the_command_line(path: Path) -> None:
    assert not [(line, text) for line, text in strings(path) if FLAG.search(INSTALL.sub("", text))]


@pytest.mark.parametrize("path", library(), ids=named)
def test_every_parameter_of_a_hint_is_an_option_of_some_verb(path: Path) -> None:
    options = frozenset().union(*map(options_of, VERBS))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "hint":
            for match in PARAMETER.finditer(ast.unparse(node.value)):
                option = OPTIONS.get(f"{match['name']}={match['value']}") or OPTIONS.get(match["name"])
                option = option or f"--{match['name'].replace('_', '-')}"
                assert option.partition(" ")[0] in options, match[0]


@pytest.mark.parametrize("option", sorted(set(OPTIONS.values())))
def test_every_option_of_the_table_exists(option: str) -> None:
    assert any(option.partition(" ")[0] in options_of(verb) for verb in VERBS)


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=named)
def test_every_option_that_the_command_line_names_exists(path: Path) -> None:
    here = [verb for verb, (module, _) in VERBS.items() if module == path.stem] or list(VERBS)
    for line, text in strings(path):
        for piece in re.split(r"(?=tupate-hub )", text):
            verb = re.match(r"tupate-hub ([a-z]+)", piece)
            verbs = [verb[1]] if verb and verb[1] in VERBS else VERBS if text.startswith("--") else here
            known = {"--help", "--version"}.union(*map(options_of, verbs))
            assert set(FLAG.findall(piece)) <= known, f"line {line}: {piece}"


def test_the_texts_that_are_looked_through_are_those_of_the_errors(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""Of --a."""\ndef f():\n    """Of --b."""\n    raise E(f"x {1} --c", hint="try" " --d")\n')
    assert {text for _, text in strings(module) if FLAG.search(text)} == {"x X --c", "try --d"}


# --- what is typed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "verb", "typed"),
    [
        ("say which model it was tuned on: `base=MODEL_ID`", "add", "say which model it was tuned on: --base MODEL_ID"),
        ("take another form: `form='peft'` `bare=True`", "pull", "take another form: --as peft --bare"),
        ("it is elsewhere: `space='a/b'`, or `space='c d'`", "show", "it is elsewhere: --space a/b, or --space 'c d'"),
        ("leave out `location` (and more) for another", "list", "leave out --registry (and more) for another"),
        ("`base_weights=FOLDER`", "inspect", "--base-weights FOLDER"),
        ("`columns={'text': 'my review', 'label': 'y'}`", "train", "--column 'text=my review' --column label=y"),
        ("say whose: `prefer='ours'`, or `prefer='theirs'`", "merge", "say whose: --ours, or --theirs"),
        ("name one, or take them all: `add_all`", "add", "name one, or take them all: --all"),
        ("name one, or take them all: `add_all`", "inspect", "name one"),
        ("`limit=100`", "train", "--limit 100"),
        ("`learning_rate=5e-4`", "train", "--lr 5e-4"),
        ("`budget='0.5%'`", "train", "--budget 0.5%"),
        ("give it more time: `most_seconds=300`", "recommend", "give it more time: --minutes 5"),
        ("`similarity='update'`", "card", "tupate-hub card --help"),
        ("`similarity='update'`", "", "`similarity='update'`"),
        ("no parameter, or nothing", "card", "no parameter, or nothing"),
        ("rename `Its Key`, which is none", "card", "rename `Its Key`, which is none"),
    ],
)
def test_parameters_become_the_options_that_the_verb_has(hint: str, verb: str, typed: str) -> None:
    assert for_verb(hint, verb) == typed


@pytest.mark.parametrize(
    ("hint", "given", "typed"),
    [
        ("tupate-hub verify", ["pull", "x", "--registry", "a b"], "tupate-hub verify --registry 'a b'"),
        ("tupate-hub verify", ["pull", "x", "--registry=z"], "tupate-hub verify --registry z"),
        ("tupate-hub verify", ["pull", "x"], "tupate-hub verify"),
        ("tupate-hub list --registry b", ["pull", "--registry", "a"], "tupate-hub list --registry b"),
        ("tupate-hub inspect PATH", ["pull", "--registry", "a"], "tupate-hub inspect PATH"),
        ("tupate-hub nonsense", ["pull", "--registry", "a"], "tupate-hub nonsense"),
        ("a task (tupate-hub list), or a path", ["pull", "--registry", "a"], "a task (tupate-hub list), or a path"),
        (
            "`similarity='update'`, or measure them: tupate-hub stats BASE",
            ["similar", "x", "--registry", "a"],
            "--similarity update, or measure them: tupate-hub stats BASE --registry a",
        ),
        ("pip install --upgrade tupate-hub", ["list", "--registry", "a"], "pip install --upgrade tupate-hub"),
    ],
)
def test_a_command_is_about_the_same_registry(hint: str, given: list[str], typed: str) -> None:
    assert for_command(hint, given) == typed
