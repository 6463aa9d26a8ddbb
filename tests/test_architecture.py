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

#: Low to high. A room (a package, or a module that stands by itself) imports from lower floors and from its own.
FLOORS = (
    {"errors", "arrays", "extras", "architectures", "fan_out", "knownbases", "notebook", "tasknames"},
    {"space", "embedding", "head", "runrecord", "entry", "task", "registry", "storage"},
    {"compare", "readers", "export", "subspace"},
    {"hub"},
    {"zoo"},
    {"check", "collect", "data", "search", "evaluation"},
    {"training"},
    {"publish", "diagnosis"},
    {"cli", "__main__"},
)
#: What climbs all the same, each inside a function: a convenience of the API, the door to files that only torch reads,
#: the public names, which are imported when they are asked for.
CLIMBS = {
    ("zoo", "search"),
    ("collect/read_adapter", "training"),
}
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}

#: Where each package from outside may be imported; the others nowhere.
HOMES = {
    "numpy": {"anywhere"},
    "click": {"cli"},
    "filelock": {"storage"},
    "huggingface_hub": {"hub", "publish"},  # in `publish` its dataset cards
    "yaml": {"publish"},
    "safetensors": {"storage"},
    "torch": {"training"},
    "transformers": {"training"},
    "adapters": {"training"},
    "peft": {"training"},
    "datasets": {"data"},
    "pyarrow": {"data"},
    "sklearn": {"training"},
    "scipy": {"training"},
    "ray": {"fan_out"},
    "usearch": {"compare"},
}
PATHLESS = "compare"
GATHERS = "readers/source.Findings"  # filled while a reader goes through the keys, then closed
MOST_LINES = 380  # "about 300"
MOST_FUNCTION_LINES = 60  # "about 40", with signature and docstring


def modules() -> list[str]:
    return sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


def part(module: str) -> str:
    """The room of a module: itself, or the package that it is in."""
    return module.partition("/")[0]


def imports(module: str) -> Iterator[str]:
    """Dotted names of everything that a module imports: when it runs, lazily, for types alone or by its name."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            name = node.module or ""
            yield from (f"{name}.{alias.name}" for alias in node.names) if name.startswith("tupate_hub") else [name]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            texts = (one.value for one in ast.walk(node) if isinstance(one, ast.Constant))
            yield from (text.strip(".") for text in texts if isinstance(text, str) and text.startswith("tupate_hub"))


@cache
def neighbours(module: str) -> frozenset[str]:
    """The modules of this package that a module imports, packages' own included."""
    known, found = set(modules()), set()
    for name in imports(module):
        path = name.removeprefix("tupate_hub.").replace(".", "/") if name.startswith("tupate_hub.") else ""
        while path:
            for one in (path, f"{path}/__init__"):
                if one in known and one != module:
                    found.add(one)
            if found & {path, f"{path}/__init__"}:
                break
            path = path.rpartition("/")[0]
    return frozenset(found)


def test_every_room_has_a_floor() -> None:
    assert {part(module) for module in modules()} - {"__init__"} <= set(LEVEL)
    assert len(LEVEL) == sum(map(len, FLOORS))


def climbs() -> set[tuple[str, str]]:
    """Each module with a room above it that it imports from."""
    found = set()
    for module in modules():
        for other in neighbours(module) - {"__init__"}:
            if module != "__init__" and LEVEL[part(other)] > LEVEL[part(module)]:
                found.add((module, part(other)))
    return found


def test_nothing_imports_upward() -> None:
    assert climbs() == CLIMBS


def test_the_package_itself_imports_nothing_eagerly() -> None:
    for node in tree("__init__").body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            assert not ast.unparse(node).partition("import")[0].startswith("from tupate_hub"), ast.unparse(node)


def test_no_circle() -> None:
    left = {module: set(neighbours(module)) for module in modules()}
    for module, other in CLIMBS:
        left[module] = {one for one in left[module] if part(one) != other}
    left["__init__"] = set()  # its names are imported when they are asked for
    while free := [module for module, others in left.items() if not others & set(left)]:
        for module in free:
            del left[module]
    assert not left, f"these import one another: {sorted(left)}"


@pytest.mark.parametrize("module", modules())
def test_packages_from_outside_stay_in_their_place(module: str) -> None:
    for name in imports(module):
        root = name.partition(".")[0]
        if root != "tupate_hub" and root not in sys.stdlib_module_names:
            assert HOMES.get(root, set()) & {"anywhere", part(module)}, f"{module} imports {root}"


def test_no_module_is_imported_before_it_is_needed() -> None:
    """huggingface_hub and, outside of the training package, everything heavy is imported inside functions."""
    for module in modules():
        for node in tree(module).body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
                roots = {name.partition(".")[0] for name in names}
                assert not roots & {"huggingface_hub", "filelock", "yaml"}, module
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


@pytest.mark.parametrize("module", [module for module in modules() if part(module) == PATHLESS])
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
            allowed = {"Protocol", "NamedTuple", "TypedDict", "Generic[T]", "click.Group"}
            allowed |= {"nn.Module", "TorchFunctionMode"}  # how torch is told
            allowed |= {"Sequence[T]", "Mapping[str, Task]"}  # what a large registry has in the place of a tuple
            assert bases <= allowed, f"{module}.{node.name} derives from {bases}"


@pytest.mark.parametrize("module", modules())
def test_dataclasses_are_frozen(module: str) -> None:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ClassDef):
            decorators = [ast.unparse(one) for one in node.decorator_list if "dataclass" in ast.unparse(one)]
            name = f"{module}.{node.name}"
            assert name == GATHERS or all("frozen=True" in one for one in decorators), name


def names_of(path: Path) -> set[str]:
    """The names that a module has when it has been imported."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def test_what_scripts_import_is_there() -> None:
    """Within functions, too: scripts that run for hours are in no suite."""
    scripts = PACKAGE.parent / "scripts"
    if not scripts.is_dir():
        pytest.skip("no scripts beside the package")
    missing = []
    for path in sorted(scripts.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not f"{node.module}.".startswith("tupate_hub."):
                continue
            place = PACKAGE.parent / str(node.module).replace(".", "/")
            file = place.with_suffix(".py") if place.with_suffix(".py").exists() else place / "__init__.py"
            there = names_of(file) if file.exists() else set()
            there |= {one.stem for one in place.iterdir()} if place.is_dir() else set()
            there |= set(tupate_hub.__all__) if place == PACKAGE else set()
            missing += [f"{path.name}: {node.module}.{one.name}" for one in node.names if one.name not in there]
    assert not missing


def test_every_public_name_is_there() -> None:
    assert all(getattr(tupate_hub, name) for name in tupate_hub.__all__)
    assert set(tupate_hub.__all__) <= set(dir(tupate_hub))
    assert not hasattr(tupate_hub, "nonsense")
