"""A page whose card was written by somebody hostile: in Chromium, no other host hears of it, and
nothing is run."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.serve.browser_page import show, watched, write
from tests.serve.running import carded, running


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """(address of another host, the paths that it was asked for)."""
    hits: list[str] = []

    class Tracker(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Tracker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", hits
        server.shutdown()


def hostile_card(url: str) -> str:
    """Trackers and scripts in the ways that Markdown and HTML know."""
    script = "document.title = 'taken over'"
    return f"""---
license: x
---
# The card

![inline]({url}/1) ![spaces]( <{url}/2> "t") ![ref][tracker] ![tracker][] ![tracker] !\\[x]({url}/3)
[![x]({url}/4)]({url})

[tracker]: {url}/5 "t"

<img src="{url}/6"> <img srcset="{url}/7 2x">
<picture><source srcset="{url}/8"><img src="{url}/9"></picture>
<IMG SRC={url}/10><svg><image href="{url}/11"/><use href="{url}/12#x"/></svg>
<style>body{{background:url({url}/13)}}</style>
<div style="background:url({url}/14)">x</div>
<link rel="prefetch" href="{url}/15"><link rel=stylesheet href="{url}/16">
<iframe src="{url}/17"></iframe><video poster="{url}/18" src="{url}/19"></video>
<object data="{url}/20"></object>
<script src="{url}/21"></script><script>{script}</script><img src=x onerror="{script}">
<base href="{url}/">
<meta http-equiv=refresh content="0;url={url}/22">
<form action="{url}/23"><input type=image src="{url}/24"></form>
<<img src="{url}/25">img> &lt;img src="{url}/26"&gt; <a href="javascript:{script}">x</a>
[x](javascript:alert) <{url}/27>

```mermaid
graph TD; A[<img src='{url}/28'>]-->B; click A "{url}/29"; style A fill:url({url}/30)
```

$\\includegraphics{{{url}/31}}$ $$\\href{{{url}/32}}{{x}}$$

| a |
| --- |
| ![x]({url}/33) |

the end of the card
"""


def test_a_hostile_card_asks_no_other_host(
    browser: Browser, listener: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, hits = listener
    folder = carded(tmp_path / "run", hostile_card(url))
    with running(
        tmp_path / "log", folder, "--root-path", "/tools/pets", ZOOTUNE_TOKEN="t0ken"
    ) as service:
        page, complaints, foreign = watched(
            browser, service.url + "/", http_credentials={"username": "any", "password": "t0ken"}
        )
        page.get_by_role("tab", name="About").click()
        page.wait_for_selector("#about:has-text('the end of the card')")
        page.wait_for_timeout(1_000)
        assert hits == foreign == complaints == []
        assert page.title() != "taken over"
        assert page.locator("#about img, #about iframe, #about svg image").count() == 0
        # the policy holds by itself too, whatever gets into the page
        style = f"width: 9px; height: 9px; background: url({url}/b)"
        inserted = f'<img src="{url}/a"><div style="{style}">x</div>'
        page.evaluate("html => document.body.insertAdjacentHTML('beforeend', html)", inserted)
        page.evaluate(f"fetch('{url}/fetched').catch(() => null)")
        page.wait_for_timeout(500)
        assert hits == []
        page.get_by_role("tab", name="One picture").click()
        show(page, write(tmp_path, "x.png", (folder / "examples" / "red.png").read_bytes()))
        page.wait_for_selector("#answer [data-label=red]")
        page.context.close()
