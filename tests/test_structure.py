"""The rules that hold the code together: who imports whom, what loads at the edge, how large the
parts are."""

import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slow_tests import SLOW, SLOW_FIXTURES
from tests.source_code import CODE, FLOORS, ROOT, imported, law_of_each_file, name_of, nodes

TOP_LEVEL = {
    *FLOORS,
    "tests",
    "model_cards",
    "pyproject.toml",
    "README.md",
    "SECURITY.md",
    "LICENSE",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    ".gitignore",
    ".ci",
}
ALL = [*CODE, *sorted((ROOT / "tests").rglob("*.py"))]
Function = ast.FunctionDef | ast.AsyncFunctionDef
ROOMS = {
    "zoo": (
        "host",
        "files",
        "picture",
        "contract",
        "answer",
        "bases",
        "hub",
        "network",
        "publish",
        "comparison",
        "",
    ),
    "finetune": (
        "machine",
        "recipe",
        "presets",
        "augment",
        "sources",
        "stored",
        "data",
        "evaluation",
        "run_folder",
        "prediction",
        "train",
        "checks",
        "figures",
        "report",
        "",
        "studies",
    ),
    "export": ("insides", "graph", "proof", "targets", ""),
    "serve": ("options.py", "insides", "limits", "engine", "http", "page", "deploy", ""),
}
"""The rooms of each package from the ground up: one imports itself and those before it. "" is the
package's root, the order of events; commands, which stand there as well, may import any room.
options.py is what the command line asks for."""
MOST_FILES = 15
"""Of a room."""
SAME_IN_EACH_PACKAGE = {
    "__init__": "Python's name of a package",
    "__main__": "the command that is called like its package",
    "options": "what the command line of a package asks for",
    "pipeline": "the order of events of a package",
    "predict": "answers pictures: by a bundle, without torch, and by a run",
    "rows": "the table that a new base or export target gets its row in",
}
"""Name of a module -> why several packages have one of this name. Besides, `of_*`: the private
parts of the library * that a package uses."""

SAME_IN_MANY_MODULES = {
    "main": "what `python -m` runs, and the process that decodes pictures",
    "make": "writes the files of an export target; its row in export/targets/rows.py names it",
    "check": "whether this machine can make an export target; its row names it",
    "start": "the order of events of a package, called by its command",
    "write_source": "writes a stored source as class folders; its row names it",
    "source_facts": "what tells a stored source from any other; its row names it",
}
"""Public function -> why more than two modules have one of this name: they are called in the same
way. Elsewhere the name says what is checked, read or written."""


def test_there_is_code_to_check() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in CODE} == set(FLOORS)
    assert len(CODE) > 30


@law_of_each_file
def test_floors_import_only_downwards(path: Path) -> Iterator[str]:
    floor = path.relative_to(ROOT).parts[0]
    yield from set(imported(path)) & {*FLOORS, "tests"} - {"zoo", floor}


def module_of(path: Path) -> str:
    """`zoo.host.errors` of zoo/host/errors.py, `zoo.host` of zoo/host/__init__.py."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in CODE}


def imported_modules(path: Path) -> Iterator[str]:
    """The full names of our modules that a file imports, wherever in it the import stands."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                name = name if name in MODULES else str(node.module)
                if name in MODULES and MODULES[name].name != "__init__.py":
                    yield name


def is_command(path: Path) -> bool:
    """Whether a file at the root of a package is run by name."""
    return len(
        path.relative_to(ROOT).parts
    ) == 2 and '\nif __name__ == "__main__":' in path.read_text(encoding="utf-8")


def room_of(path: Path) -> str:
    """The folder within the package, or what ROOMS names at its root; "" for the rest of that."""
    floor, name, *inside = path.relative_to(ROOT).parts
    return name if inside or name in ROOMS[floor] else ""


@law_of_each_file
def test_a_room_imports_only_rooms_below_it(path: Path) -> Iterator[str]:
    floor = path.relative_to(ROOT).parts[0]
    order = ROOMS[floor]
    if path.name == "__init__.py" or is_command(path):
        return
    for name in imported_modules(path):
        if name.split(".")[0] != floor:
            continue
        if order.index(room_of(MODULES[name])) > order.index(room_of(path)):
            yield name


def test_a_command_is_imported_by_no_module() -> None:
    commands = {name for name, path in MODULES.items() if is_command(path)}
    assert {
        "finetune.__main__",
        "finetune.decide",
        "export.__main__",
        "serve.__main__",
        "zoo.predictor",
    } <= commands
    assert [
        (path, name) for path in CODE for name in imported_modules(path) if name in commands
    ] == []


def test_one_noun_names_one_module() -> None:
    names = Counter(path.stem for path in CODE if not path.stem.startswith("of_"))
    assert set(SAME_IN_EACH_PACKAGE) == {name for name, modules in names.items() if modules > 1}


def test_one_noun_names_one_public_class() -> None:
    """Those of a module; a class within a function is nobody else's."""
    names = Counter(
        node.name
        for path in CODE
        for node in ast.iter_child_nodes(nodes(path)[0])
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, classes in names.items() if classes > 1] == []


def test_one_verb_names_one_public_function() -> None:
    """At most two modules have a function of the same name, so that a call says what it does."""
    names = Counter(
        node.name
        for path in CODE
        for node in ast.iter_child_nodes(nodes(path)[0])
        if isinstance(node, Function) and not node.name.startswith("_")
    )
    assert {name for name, modules in names.items() if modules > 2} == set(SAME_IN_MANY_MODULES)


@pytest.mark.parametrize("floor", FLOORS)
def test_a_room_can_be_seen_at_once(floor: str) -> None:
    files = [
        path
        for path in CODE
        if path.relative_to(ROOT).parts[0] == floor and path.name != "__init__.py"
    ]
    assert {room_of(path) for path in files} == set(ROOMS[floor])
    for room in ROOMS[floor]:
        assert len([path for path in files if room_of(path) == room]) <= MOST_FILES, room


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that are loaded after a statement in a fresh interpreter."""
    report = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    ran = subprocess.run(
        [sys.executable, "-c", report], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(ran.stdout.split())


def test_the_half_of_zoo_that_serving_needs_leaves_torch_unloaded() -> None:
    modules = loaded_by(
        "import zoo.bases.catalog, zoo.picture.decoding, zoo.picture.preprocess, "
        "zoo.contract.rundir, zoo.host.errors, zoo.contract.bundle, zoo.predictor"
    )
    assert {"zoo", "PIL", "numpy"} <= modules
    assert not modules & {"torch", "torchvision", "timm", "finetune"}


def test_serving_leaves_torch_unloaded_and_gradio_to_the_page() -> None:
    modules = loaded_by("import serve.start, serve.http.api, serve.space")
    assert {"serve", "fastapi"} <= modules
    assert not modules & {"torch", "torchvision", "timm", "finetune", "export", "gradio"}


def test_parsing_the_command_line_of_finetune_and_reading_pictures_leaves_torch_unloaded() -> None:
    modules = loaded_by("import finetune.__main__, finetune.data.reading")
    assert {"finetune", "tyro"} <= modules
    assert not modules & {
        "torch",
        "torchvision",
        "timm",
        "sklearn",
        "matplotlib",
        "huggingface_hub",
    }


def test_what_tests_share_stands_in_no_test() -> None:
    """To read one test file is enough to know what its tests rely on."""
    shared = [
        f"{name_of(path)} imports {node.module}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        # parsed only where it may matter: to parse all tests takes four seconds
        if re.search(r"from[\s\\]+[\w.]*test_", path.read_text(encoding="utf-8"))
        for node in nodes(path)
        if isinstance(node, ast.ImportFrom) and "test_" in str(node.module).split(".")[-1][:5]
    ]
    assert shared == []


@law_of_each_file
def test_no_difference_is_printed_as_minus_zero(path: Path) -> Iterator[str]:
    """The `z` of a format takes the sign of what rounds to zero, which `+` would show."""
    for node in nodes(path):
        if isinstance(node, ast.FormattedValue) and node.format_spec:
            words = ast.unparse(node.format_spec)
            if "+" in words and "z" not in words:
                yield f"line {node.lineno}"


@law_of_each_file
def test_no_blanket_except(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            yield f"line {node.lineno}"
            continue
        caught = {ast.unparse(name) for name in ast.walk(node.type) if isinstance(name, ast.expr)}
        if caught & {"Exception", "BaseException"}:
            yield f"line {node.lineno}"


@law_of_each_file
def test_all_output_goes_through_one_console(path: Path) -> Iterator[str]:
    """So that names from outside reach a terminal as text (zoo/host/console.py)."""
    name = name_of(path)
    called = {ast.unparse(node.func) for node in nodes(path) if isinstance(node, ast.Call)}
    if name not in ("zoo/host/console.py", "zoo/host/streams.py"):
        for call in called - {"gr.Progress"}:  # Gradio's own, in the browser
            if call.split(".")[-1] in ("print", "Console", "Progress"):
                yield call
        yield from called & {"sys.stdout.write", "sys.stderr.write"}
        yield from {"rich"} & set(imported(path))
    if name not in ("zoo/files/tables.py", "zoo/files/foreign_tables.py"):
        yield from called & {"csv.writer", "csv.reader", "csv.DictWriter", "csv.DictReader"}
    if name != "zoo/host/text.py":
        yield from called & {"shlex.quote", "shlex.join"}


def test_looking_at_the_command_line_leaves_rich_unloaded() -> None:
    modules = loaded_by(
        "import zoo.host.console, zoo.host.errors, zoo.host.text, serve.__main__, finetune.__main__"
    )
    assert "tyro" in modules
    assert "rich" not in modules


@pytest.mark.parametrize("name", ["utils", "util", "common", "helpers", "helper", "misc"])
def test_no_file_for_odds_and_ends(name: str) -> None:
    assert [path for path in ALL if name in (path.stem, path.parent.name)] == []


@law_of_each_file
def test_parts_are_small(path: Path) -> Iterator[str]:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if lines > 300:
        yield f"{lines} lines, at most 300"
    for node in nodes(path):
        if isinstance(node, Function) and (node.end_lineno or 0) - node.lineno + 1 > 80:
            yield f"{node.name} has more than 80 lines"


def test_the_slow_tests_are_there() -> None:
    """The list of the inner loop names tests and fixtures as they are called now."""
    for names in (SLOW, SLOW_FIXTURES):
        for file, slow in names.items():
            text = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert set(slow) <= set(re.findall(r"^(?:async )?def (\w+)", text, re.M)), file
            assert len(set(slow)) == len(slow), file


def test_readme_is_short() -> None:
    readme = ROOT / "README.md"
    if not readme.is_file():
        pytest.skip("there is no README.md")
    assert len(readme.read_text(encoding="utf-8").splitlines()) <= 200


def test_top_level_is_fixed() -> None:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    ran = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = ran.stdout.splitlines()
    assert {"zoo", "finetune", "tests"} <= {name.split("/")[0] for name in listed}
    assert {name.split("/")[0] for name in listed} - TOP_LEVEL == set()


def test_contributing_names_the_rooms_and_files_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 80
    for floor, order in ROOMS.items():
        row = re.search(rf"^\| `{floor}` \| (.*) \|$", text, re.M)
        assert row
        rooms = [room for room in order if not room.endswith(".py")]
        assert row[1].replace("`", "").replace("the root", "").split(", ") == (
            rooms if floor != "zoo" else rooms[:-1]
        )
    for name in re.findall(r"`([\w/]+\.(?:py|md))`", text):
        assert (ROOT / name).is_file(), name
