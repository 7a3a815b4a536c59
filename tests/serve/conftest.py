"""One service with everything, shared by the tests that leave it as it is."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.chromium import ARGUMENTS, CHROMIUM
from tests.hub_server import TOKEN
from tests.one_certificate import one_certificate
from tests.serve.running import Running, running, served_bundle
from zoo.bases import registry
from zoo.hub import pulled_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session", autouse=True)
def few_certificates() -> Iterator[None]:
    """The clients of these tests, and those in the services, are made in a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", one_certificate())
        yield


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a bundle and examples; not to be changed."""
    return served_bundle(tmp_path_factory.mktemp("served") / "colours")


@pytest.fixture(scope="session")
def feedback(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the shared service keeps corrections."""
    return tmp_path_factory.mktemp("feedback")


@pytest.fixture(scope="session")
def service(
    served: Path, feedback: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Page and API of it."""
    with running(
        tmp_path_factory.mktemp("log") / "log",
        served,
        "--feedback",
        feedback,
        "--max-body-mb",
        "20",
        HF_TOKEN=TOKEN,
    ) as it:
        yield it


@pytest.fixture
def pulled_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], list[str]]:
    """An empty working directory, where the alias `mine` means `hf-hub:user/name`. Called with the
    folder that every pull gives, it gives the list to which the names that were pulled are
    added."""
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    registry.add("mine", "hf-hub:user/name")

    def pulled(folder: Path) -> list[str]:
        names: list[str] = []

        def pull_run(name: str) -> pulled_run.PulledRun:
            names.append(name)
            return pulled_run.PulledRun(folder, "c0ffee", None)

        monkeypatch.setattr(pulled_run, "pull_run", pull_run)
        return names

    return pulled


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()
