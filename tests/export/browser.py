"""A served bundle for web in a real Chromium: what tests and measurements ask of its page."""

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chromium import ARGUMENTS, CHROMIUM

LISTEN = """const Real = Worker; window.said = [];
window.Worker = class extends Real { constructor(...how) { super(...how);
  this.addEventListener("message", ({data}) => "id" in data && window.said.push(
    {...data, seen: null, heatmap: null,
     probabilities: Array.from(data.probabilities ?? [])})); } };"""
"""Keeps what the network says, unrounded."""


@dataclass
class Site:
    """A page of the served bundle, and what its browser asked for and complained about."""

    page: Any
    address: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def ask(self, *pictures: tuple[str, bytes]) -> list[dict[str, Any]]:
        """Choose files in the page; gives what the network said of each, in their order."""
        self.page.evaluate("window.said = []")
        self.page.set_input_files(
            "#files",
            [
                {"name": name, "mimeType": "image/png", "buffer": content}
                for name, content in pictures
            ],
        )
        self.until(f"window.said.length === {len(pictures)}")
        said: list[dict[str, Any]] = self.page.evaluate("window.said")
        return said[::-1]  # the last is asked first, so that the first ends up on top

    def until(self, condition: str) -> None:
        """Wait for an expression of JavaScript; playwright's own way is what the page's policy
        forbids: eval."""
        self.page.evaluate(
            f"async () => {{ while (!({condition})) await new Promise((go) => setTimeout(go, 10)); "
            f"}}"
        )

    def cards(self) -> list[str]:
        texts: list[str] = self.page.locator("article").all_inner_texts()
        return texts


class Quiet(http.server.SimpleHTTPRequestHandler):
    """`python -m http.server` without its log."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def open_site(folder: Path) -> Iterator[Site]:
    """Serve the bundle, open its page and wait until it can answer; expects playwright and
    Chromium."""
    from playwright.sync_api import sync_playwright

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 900, "height": 900})
            seen = Site(page, f"http://127.0.0.1:{server.server_port}/")
            seen.page.on("request", lambda request: seen.requests.append(request.url))
            seen.page.on("console", lambda message: seen.complaints.append(message.text))
            seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
            seen.page.add_init_script(LISTEN)
            seen.page.goto(seen.address)
            seen.page.wait_for_selector("#ask:not([hidden])")
            yield seen
            browser.close()
        server.shutdown()
