"""What the packages import is what pyproject.toml asks for."""

import ast
import importlib.metadata
import sys
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.source_code import CODE, FLOORS, ROOT, imported, nodes

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
OPTIONAL = {
    canonicalize_name(Requirement(line).name)
    for extra, lines in PROJECT["optional-dependencies"].items()
    if extra != "dev"
    for line in lines
}
BY_HAND = {"tensorrt"}
"""Modules of packages that no extra brings: they fit one GPU and its driver only
(export/targets/tensorrt.py)."""


@cache
def installed() -> tuple[Mapping[str, Sequence[str]], frozenset[str]]:
    """Module -> the distributions that hold it; and the names of the optional ones that are
    here."""
    here = {canonicalize_name(found.name) for found in importlib.metadata.distributions()}
    return importlib.metadata.packages_distributions(), frozenset(OPTIONAL & here)


def brought_by(module: str) -> set[str]:
    """The distributions that hold a module, the optional ones that bring one of these, its own name
    if none does."""
    holders, optional = installed()
    holding = {canonicalize_name(name) for name in holders.get(module, ())}
    for name in optional:
        asked = {
            canonicalize_name(Requirement(line).name)
            for line in importlib.metadata.requires(name) or ()
        }
        holding |= {name} if asked & holding else set()
    return holding or {canonicalize_name(module)}


def test_each_module_that_is_imported_comes_with_a_declared_package() -> None:
    modules = {name for path in CODE for name in imported(path)} - {
        *sys.stdlib_module_names,
        *FLOORS,
        *BY_HAND,
    }
    assert modules >= {"torch", "numpy", "PIL", "tyro", "google"}
    missing = {}
    for module in modules - {"google"}:
        if not brought_by(module) & (DECLARED | OPTIONAL):
            missing[module] = brought_by(module)
    assert missing == {}, "not in pyproject.toml"
    # google is shared by many packages: the full name tells which
    full = {
        node.module
        for path in CODE
        for node in nodes(path)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("google.")
    }
    assert {str(name).split(".")[1] for name in full} <= DECLARED


def test_each_declared_package_has_a_lowest_version() -> None:
    for line in map(Requirement, PROJECT["dependencies"]):
        bounds = [bound.operator for bound in line.specifier]
        assert bounds == [">="] or line.name.endswith("-pytorch-model"), (
            f"{line}: expected name>=version"
        )
