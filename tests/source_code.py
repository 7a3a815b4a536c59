"""The project's own source, parsed, for the laws that it has to keep."""

import ast
import functools
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLOORS = ("zoo", "finetune", "export", "serve")
CODE = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


def law_of_each_file(breaches: Callable[[Path], Iterator[str]]) -> Callable[[], None]:
    """One test that no file breaks a law: `breaches` gives what a file does against it. One test
    for all files, since a thousand of a millisecond each cost more to collect and report than to
    run."""

    @functools.wraps(breaches)
    def test() -> None:
        broken = [f"{name_of(path)}: {breach}" for path in CODE for breach in breaches(path)]
        assert broken == [], "\n".join(["", *broken])

    del test.__wrapped__  # type: ignore[attr-defined]  # pytest would ask it for a fixture `path`
    return test


def name_of(path: Path) -> str:
    """`zoo/host/errors.py`, on every system."""
    return path.relative_to(ROOT).as_posix()


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imported(path: Path) -> Iterator[str]:
    """The first part of every imported name, wherever in the file the import stands."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (
                path.relative_to(ROOT).parts[0] if node.level else (node.module or "").split(".")[0]
            )
