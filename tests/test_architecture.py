"""The rules of dependency, read from the sources: who may import whom, who may print, how long a module may be."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import tupate_hub

PACKAGE = Path(tupate_hub.__file__).parent

#: Low to high. A module imports from lower layers only, and a package from itself. What is imported for types alone
#: does not count: it is not there when the program runs.
LAYERS = (
    {"errors"},
    {"space", "tensorfile", "atomicfile", "lowrank", "metrics", "refusals", "gate", "location", "tasknames"},
    {"embedding", "truth", "moments", "hub"},
    {"registry", "readers", "similarity", "listing"},
    {"registryfile", "remote", "upload"},
    {"ranking", "index", "export", "view", "fetched"},
    {"reading"},
    {"query"},
    {"search"},
    {"zoo"},
    {"evaluation", "intake", "merge"},
    {"baselines", "subspace", "harvest"},
    {"training", "report"},
    {"publication"},
    {"push"},
    {"cli"},
    {"__main__"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

#: Where each package from outside may be imported; the others nowhere.
HOMES = {
    "numpy": "anywhere",
    "click": "cli",
    "huggingface_hub": "hub",
    "torch": "training",
    "transformers": "training",
    "adapters": "training",
    "peft": "training",
    "datasets": "training",
    "pyarrow": "training",
    "sklearn": "training",
    "scipy": "training",
}
PATHLESS = ("similarity", "lowrank", "metrics", "ranking", "view")
GATHERS = "readers/source.Findings"  # filled while a reader goes through the keys, then closed
MOST_LINES = 380  # "about 300"
MOST_FUNCTION_LINES = 60  # "about 40", with signature and docstring


def modules() -> list[str]:
    return sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


def part(module: str) -> str:
    """The name in LAYERS that a module belongs to: the module, or the package that it is in."""
    return module.partition("/")[0]


def running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from running_nodes(child)


def imports(module: str) -> Iterator[str]:
    """Dotted names of everything that a module imports while it runs, lazily or not."""
    for node in running_nodes(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            name = node.module or ""
            yield from (f"{name}.{alias.name}" for alias in node.names) if name == "tupate_hub" else [name]


def test_every_module_has_a_layer() -> None:
    assert {part(module) for module in modules()} - {"__init__"} <= set(LEVEL)
    assert len(LEVEL) == sum(map(len, LAYERS))


@pytest.mark.parametrize("module", modules())
def test_nothing_imports_upward(module: str) -> None:
    for name in imports(module):
        root, _, rest = name.partition(".")
        if root != "tupate_hub" or rest.startswith("__version__"):
            continue
        target = rest.partition(".")[0]
        if target != part(module):
            assert module != "__init__", f"the package imports {target} eagerly"
            assert LEVEL[target] < LEVEL[part(module)], f"{module} imports {target}, which is not below it"


@pytest.mark.parametrize("module", modules())
def test_packages_from_outside_stay_in_their_place(module: str) -> None:
    for name in imports(module):
        root = name.partition(".")[0]
        if root != "tupate_hub" and root not in sys.stdlib_module_names:
            assert HOMES.get(root) in ("anywhere", part(module)), f"{module} imports {root}"


def test_no_module_is_imported_before_it_is_needed() -> None:
    """huggingface_hub and, outside of the training package, everything heavy is imported inside functions."""
    for module in modules():
        for node in tree(module).body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
                roots = {name.partition(".")[0] for name in names}
                assert "huggingface_hub" not in roots, module
                if part(module) in ("cli", "__init__", "__main__", "zoo", "registry", "errors"):
                    assert not roots & {"numpy", "safetensors"}, module


@pytest.mark.parametrize("module", modules())
def test_only_one_module_prints(module: str) -> None:
    if module == "cli/output":
        return
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            printing = called in ("print", "click.echo", "click.secho", "echo") or called.startswith(
                ("sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer", "sys.stderr.buffer", "logging.", "pprint")
            )
            assert not printing, f"{module}:{node.lineno} calls {called}"


@pytest.mark.parametrize("module", PATHLESS)
def test_mathematics_knows_no_paths(module: str) -> None:
    assert not {name.partition(".")[0] for name in imports(module)} & {"pathlib", "os", "io", "shutil", "tempfile"}
    called = {ast.unparse(node.func) for node in ast.walk(tree(module)) if isinstance(node, ast.Call)}
    assert "open" not in called


def test_no_module_is_a_drawer() -> None:
    assert not {Path(module).name for module in modules()} & {"utils", "util", "helpers", "common", "misc"}


@pytest.mark.parametrize("module", modules())
def test_modules_and_functions_are_short(module: str) -> None:
    lines = len((PACKAGE / f"{module}.py").read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES
    for node in ast.walk(tree(module)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MOST_FUNCTION_LINES, f"{module}.{node.name} has {length} lines"


@pytest.mark.parametrize("module", modules())
def test_no_assert_no_bare_except_no_base_classes(module: str) -> None:
    for node in ast.walk(tree(module)):
        assert not isinstance(node, ast.Assert), f"{module}:{node.lineno} asserts"
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"{module}: a bare except"
        if isinstance(node, ast.ClassDef) and module != "errors":
            bases = {ast.unparse(base) for base in node.bases}
            allowed = {"Protocol", "NamedTuple", "TypedDict", "Generic[T]", "click.Group", "nn.Module"}
            assert bases <= allowed, f"{module}.{node.name} derives from {bases}"


@pytest.mark.parametrize("module", modules())
def test_dataclasses_are_frozen(module: str) -> None:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ClassDef):
            decorators = [ast.unparse(one) for one in node.decorator_list if "dataclass" in ast.unparse(one)]
            name = f"{module}.{node.name}"
            assert name == GATHERS or all("frozen=True" in one for one in decorators), name


def test_every_public_name_is_there() -> None:
    assert all(getattr(tupate_hub, name) for name in tupate_hub.__all__)
    assert set(tupate_hub.__all__) <= set(dir(tupate_hub))
    assert not hasattr(tupate_hub, "nonsense")
