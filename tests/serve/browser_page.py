"""The page in a real browser, which tells what other hosts it asks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.chromium import ARGUMENTS, CHROMIUM


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def watched(browser: Browser, url: str, **how: Any) -> tuple[Page, list[str], list[str]]:
    """(the page once it is there, complaints of its console, requests to other hosts)."""
    page = browser.new_context(accept_downloads=True, **how).new_page()
    complaints: list[str] = []
    foreign: list[str] = []
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: (
            foreign.append(request.url)
            if not request.url.startswith((url, "data:", "blob:"))
            else None
        ),
    )
    page.goto(url)
    page.wait_for_selector("#picture input[type=file]", state="attached")
    return page, complaints, foreign


def show(page: Page, path: Path) -> None:
    """Upload a picture, once the page has settled."""
    page.wait_for_timeout(400)
    page.set_input_files("#picture input[type=file]", path)
