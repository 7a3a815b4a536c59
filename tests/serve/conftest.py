"""One service with everything, shared by the tests that leave it as it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_server import TOKEN
from tests.serve.running import Running, running, served_bundle


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a bundle and examples; not to be changed."""
    return served_bundle(tmp_path_factory.mktemp("served") / "colours")


@pytest.fixture(scope="session")
def feedback(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the shared service keeps corrections."""
    return tmp_path_factory.mktemp("feedback")


@pytest.fixture(scope="session")
def service(served: Path, feedback: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Page and API of it."""
    with running(tmp_path_factory.mktemp("log") / "log", served, "--feedback", feedback, "--max-body-mb", "20",
                 HF_TOKEN=TOKEN) as it:
        yield it
