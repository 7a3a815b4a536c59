"""How a test says that another project no longer has what is borrowed from its insides."""

import contextlib
import importlib.metadata
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def borrowed(project: str, inside: str, *, file: str) -> Iterator[None]:
    """A block that works only as long as `project` has `inside`, which `file` borrows."""
    try:
        yield
    except (AssertionError, AttributeError, ImportError, LookupError, TypeError) as error:
        lacking(project, f"{inside} ({type(error).__name__}: {error})", file=file)


def lacking(project: str, inside: str, *, file: str) -> None:
    """Fail with the project's installed version and the file to mend."""
    version = importlib.metadata.version(project)
    pytest.fail(f"{project} {version} no longer has {inside}: see {file}", pytrace=False)
