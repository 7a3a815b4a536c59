"""The page as people and Gradio's client use it: the API's numbers, nothing from elsewhere, no file
given away."""

import csv
import json
import re
import subprocess
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from PIL import Image
from playwright.sync_api import Browser, Page

from finetune.sources.class_folders import read_folders
from serve.engine.answer_queue import default_workers
from serve.page.answer_html import PictureRow, bar, note, percent, refusal, table
from serve.page.feedback import LOG
from serve.page.many_pictures import _caption
from tests.bad_pictures import BAD, ODD, encode, photo
from tests.serve.browser_page import show, watched, write
from tests.serve.running import Running, ask
from tests.zoo.made_bundle import LABELS
from zoo.answer.predict import Predictor

NAMES = (
    "16-bit.png",
    "colour-under-alpha.png",
    "cmyk.jpg",
    "animated.webp",
    "palette-alpha-bytes.png",
    "plain.jpg",
)
"""Those that Gradio's own preprocessing would change."""
LONG = "a picture with a long name and anunreasonablylongwordofmanyletters.png"


@pytest.fixture(scope="module")
def client(service: Running, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(
        service.url,
        analytics_enabled=False,
        verbose=False,
        download_files=str(tmp_path_factory.mktemp("got")),
    )


# --- Gradio's client


def test_page_api_client_and_predictor_give_the_same_numbers(
    service: Running, client: Client, served: Path, tmp_path: Path
) -> None:
    predictor = Predictor(served)
    for name in NAMES:
        path = write(tmp_path, name, ODD[name][0]())
        data, card, _ = client.predict(handle_file(path), api_name="/predict")
        told = ask(service.url, path.read_bytes()).json()["predictions"][0]
        assert data == told
        own = dict(zip(LABELS, map(float, predictor.predict(path).probabilities), strict=True))
        assert {row["label"]: row["probability"] for row in data["top"]} == own
        assert all(f'data-probability="{probability!r}"' in card for probability in own.values())


def test_a_bad_picture_is_told_why(client: Client, tmp_path: Path) -> None:
    for name in ("html.jpg", "svg.jpg", "eps.jpg", "half.png", "12000x12000.png", "empty.jpg"):
        data, card, heat = client.predict(
            handle_file(write(tmp_path, name, BAD[name][0]())), api_name="/predict"
        )
        assert data["error"].startswith("This picture cannot be read: ")
        assert "refused" in card
        assert not heat or not heat.get("visible", True)
        assert str(tmp_path) not in card


def test_no_file_of_this_machine_is_given_away(service: Running, tmp_path: Path) -> None:
    """What Gradio 6.31 does when mounted, unless it is told that it was launched."""
    secret = write(tmp_path, "secret.png", b"TOP-SECRET" + encode(photo(), "PNG"))
    with httpx.Client(base_url=service.url, timeout=30) as client:
        config = client.get("/config").json()
        names = [one["api_name"] for one in config["dependencies"] if one["inputs"]]
        assert {"predict", "predict_many", "correct"} <= set(names)
        for name in names:
            for path in (str(secret), "/etc/passwd", f"file://{secret}", f"../../..{secret}"):
                data = {"path": path, "meta": {"_type": "gradio.FileData"}}
                for body in ([data], [[data]], [data, "red"]):
                    began = client.post(f"/gradio_api/call/{name}", json={"data": body})
                    text = began.text
                    if began.status_code == 200:
                        text += client.get(
                            f"/gradio_api/call/{name}/{began.json()['event_id']}"
                        ).text
                    assert "complete" not in text or "Choose a picture" in text, (name, path)
                    assert "secret" not in text.replace("/etc/passwd", "")
                    assert "Traceback" not in text
        for path in (
            secret,
            "/etc/passwd",
            "..%2f..%2fetc/passwd",
            "serve/page/mount.py",
            ".git/config",
        ):
            answer = client.get(f"/gradio_api/file={path}")
            assert answer.status_code in (403, 404)
            assert b"TOP-SECRET" not in answer.content
        assert client.get("/monitoring/summary").status_code in (403, 404)
        assert (
            client.post("/gradio_api/upload", files=[("files", ("x.png", b"x"))] * 1001).status_code
            == 400
        )


def test_a_correction_becomes_training_data(client: Client, feedback: Path, tmp_path: Path) -> None:
    for place, label in enumerate(("red", "green", "green")):
        path = write(tmp_path, "../x.png".rpartition("/")[2], encode(photo(40 + place), "PNG"))
        assert f"kept as {label}" in client.predict(handle_file(path), label, api_name="/correct")
    again = client.predict(handle_file(path), "blue", api_name="/correct")  # the last word holds
    assert "kept as blue" in again
    tree = read_folders(feedback)
    assert tree.classes == ("blue", "green", "red")
    assert [len(rows) for rows in tree.files.values()] == [3]
    assert len((feedback / LOG).read_text(encoding="utf-8").splitlines()) == 4
    bad = write(tmp_path, "bad.png", b"<svg>")
    assert "cannot be read" in client.predict(handle_file(bad), "red", api_name="/correct")


def test_shares_are_never_called_none_or_all() -> None:
    assert [percent(share) for share in (0, 0.004, 0.01, 0.934, 0.994, 0.996, 1)] == [
        "< 1 %",
        "< 1 %",
        "1 %",
        "93 %",
        "99 %",
        "> 99 %",
        "> 99 %",
    ]


def test_no_name_hides_or_reorders_text() -> None:
    """Of classes and files, wherever the page shows them: tables, bars, chips and sentences."""
    name = "a\u202egpj.b\n\u200fc"
    rows = [
        PictureRow(name, name),
        PictureRow(name, name, unknown=True),
        PictureRow(name, error=name),
    ]
    shown = [table(rows), note(name), refusal(name), _caption(rows[0]), _caption(rows[1])]
    for text in [*shown, re.sub('data-name="[^"]*"', "", bar(name, 0.5))]:
        assert r"a\u202egpj.b\n\u200fc" in text
        assert not re.search("[\u202e\u200f\n]", text)


# --- Chromium


def test_the_page_in_a_browser(
    service: Running, browser: Browser, served: Path, tmp_path: Path
) -> None:
    """All that it does, in a wide window of a dark desktop."""
    page, complaints, foreign = watched(browser, service.url, color_scheme="dark")
    path = write(tmp_path, "picture.png", ODD["colour-under-alpha.png"][0]())
    show(page, path)
    page.wait_for_selector("#answer .bar")
    shown = page.eval_on_selector_all(
        "#answer .bar", "bars => bars.map(b => [b.dataset.name, b.dataset.probability])"
    )
    own = Predictor(served).predict(path)
    assert [(name, float(probability)) for name, probability in shown] == [*own.answer.top]
    page.wait_for_selector("#heat img")
    text, ground = _drawn(page)
    assert ground < 80 < 160 < text
    page.locator("#examples .gallery-item").nth(1).click()
    page.wait_for_selector("#answer [data-label=green]")
    show(page, write(tmp_path, "grey.png", encode(photo().convert("L"), "PNG")))
    page.wait_for_selector("#answer [data-label=unknown]")
    assert "further from the training pictures" in page.inner_text("#answer")
    show(page, write(tmp_path, "text.png", b"<html>"))
    page.wait_for_selector("#answer .refused")
    _many(page, tmp_path)
    page.get_by_role("tab", name="About").click()
    page.wait_for_selector("#about:has-text('Limits')")
    _about(page)
    assert complaints == []
    assert foreign == []
    page.context.close()


def _many(page: Page, tmp_path: Path) -> None:
    """The tab for many pictures: captions, a table, and what could not be read."""
    page.get_by_role("tab", name="Many pictures").click()
    red = write(tmp_path, "=red.png", encode(Image.new("RGB", (40, 30), "red"), "PNG"))
    page.set_input_files(
        "#files input[type=file]",
        [
            red,
            tmp_path / "grey.png",
            tmp_path / "text.png",
            write(tmp_path, LONG, encode(photo(), "PNG")),
        ],
    )
    page.wait_for_selector("#gallery img")
    page.wait_for_selector("#summary:has-text('3 of 4 pictures answered')")
    assert _fits(page)
    captions = page.locator("#gallery .caption-label")
    assert [text.strip() for text in captions.all_inner_texts()][1] == "unknown (nearest: red)"
    assert page.eval_on_selector_all(
        "#gallery .caption-label", "all => all.every(e => e.scrollWidth <= e.clientWidth)"
    )
    rows = page.locator("#summary tbody tr")
    assert [text.split() for text in rows.all_inner_texts()][1] == [
        "grey.png",
        "unknown",
        "(nearest:",
        "red)",
        "-",
    ]
    assert [rows.nth(place).get_attribute("class") for place in range(3)] == [
        None,
        "unknown",
        "refused",
    ]
    with page.expect_download() as download:
        page.click("#table")
    rows = list(csv.DictReader(download.value.path().read_text(encoding="utf-8").splitlines()))
    assert [row["file"] for row in rows] == ["'=red.png", "grey.png", "text.png", LONG]
    assert rows[1]["answer"].startswith("unknown (nearest: ")
    assert rows[2]["error"].startswith("an HTML page, not the picture: download")


def test_on_a_phone(service: Running, browser: Browser, tmp_path: Path) -> None:
    page, complaints, _ = watched(browser, service.url, viewport={"width": 390, "height": 844})
    show(page, write(tmp_path, "picture.png", encode(photo(), "PNG")))
    page.wait_for_selector("#answer .bar")
    text, ground = _drawn(page)
    assert text < 140 < 200 < ground
    page.get_by_role("tab", name="Many pictures").click()
    page.set_input_files("#files input[type=file]", [write(tmp_path, LONG, encode(photo(), "PNG"))])
    page.wait_for_selector("#summary tbody tr")
    assert _fits(page)
    _rename(page, "#summary tbody td:nth-child(2)")
    assert _fits(page)
    page.get_by_role("tab", name="About").click()
    _about(page)
    assert complaints == []
    page.context.close()


def _drawn(page: Page) -> tuple[float, float]:
    """Levels (0 to 255) of the answer's text and of its ground, in this order."""
    # transparent drawings, as the network sees them
    for shown in ("#picture img", "#examples .gallery-item img"):
        ground = page.evaluate(
            "shown => getComputedStyle(document.querySelector(shown)).backgroundColor", shown
        )
        assert ground == "rgb(255, 255, 255)"
    background = page.evaluate(
        "getComputedStyle(document.querySelector('#answer .card')).backgroundColor"
    )
    text = page.evaluate("getComputedStyle(document.querySelector('#answer .verdict b')).color")
    of_text, of_ground = (
        sum(map(float, colour[colour.index("(") + 1 : -1].split(",")[:3])) / 3
        for colour in (text, background)
    )
    return of_text, of_ground


def _fits(page: Page) -> bool:
    """Whether the table of many pictures is as wide as its place."""
    return bool(
        page.evaluate(
            "(e => e.scrollWidth <= e.clientWidth)(document.querySelector('#summary .table'))"
        )
    )


def _about(page: Page) -> None:
    """The card's tables break no words, and nothing is wider than the window."""
    page.wait_for_selector("#about td")
    broken = page.eval_on_selector_all(
        "#about th, #about td",
        "cells => cells.filter(cell => {"
        "const style = getComputedStyle(cell);"
        "return style.overflowWrap !== 'normal' || style.wordBreak !== 'normal' })",
    )
    assert broken == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.eval_on_selector(
        "#about td", "cell => cell.replaceChildren(document.createElement('code'))"
    )
    _rename(page, "#about td code")
    assert page.eval_on_selector("#about td code", "code => code.offsetWidth < innerWidth * 0.7")


def _rename(page: Page, element: str) -> None:
    """Show the longest name that a class can have in the first such element."""
    page.eval_on_selector(element, "element => element.textContent = 'L'.repeat(200)")


def test_nothing_is_left_open_at_the_end(service: Running) -> None:
    """Nothing besides the decoders, one for each worker."""
    children = subprocess.run(
        ["ps", "--ppid", str(service.process.pid), "-o", "args="], capture_output=True, text=True
    )
    assert [line.split()[-2:] for line in children.stdout.splitlines()] == [
        ["serve.engine.decoder", "25000000"]
    ] * default_workers()
    assert json.loads(httpx.get(f"{service.url}/healthz").text) == {"status": "ok"}
