"""What the product borrows from the insides of other projects, and who has to be told when it is
gone."""

import contextlib
import importlib.metadata
from collections.abc import Iterator

import pytest

FILES = {
    "gradio": "serve/insides/of_gradio.py",
    "starlette": "serve/insides/of_starlette.py",
    "timm": "zoo/bases/of_timm.py",
    "torch": "zoo/network/of_torch.py",
    "uvicorn": "serve/insides/of_uvicorn.py",
}
"""Project -> the file that borrows."""


@contextlib.contextmanager
def borrowed(project: str, inside: str) -> Iterator[None]:
    """A block that works only as long as `project` has `inside`."""
    try:
        yield
    except (AssertionError, AttributeError, ImportError, LookupError, TypeError) as error:
        lacking(project, f"{inside} ({type(error).__name__}: {error})")


def lacking(project: str, inside: str) -> None:
    version = importlib.metadata.version(project)
    pytest.fail(f"{project} {version} no longer has {inside}: see {FILES[project]}", pytrace=False)
