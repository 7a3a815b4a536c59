"""What tests of borrowed insides share: a failure names the project, its version and what is
gone."""

import contextlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def borrowed(project: str, inside: str) -> Iterator[None]:
    """A block that works only as long as `project` has `inside`."""
    try:
        yield
    except (AssertionError, AttributeError, ImportError, LookupError, TypeError) as error:
        lacking(project, f"{inside} ({type(error).__name__}: {error})")


def lacking(project: str, inside: str) -> None:
    """Fail, because `project` no longer has `inside`."""
    [package] = set(importlib.metadata.packages_distributions()[project])
    version = importlib.metadata.version(package)
    files = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(f"*/*/of_{project}.py"))
    assert files
    pytest.fail(
        f"{project} {version} no longer has {inside}: see {' or '.join(files)}", pytrace=False
    )
