"""The page in a real browser, which tells what other hosts it asks."""

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


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
