"""`--to web`: the page of a made run in a real Chromium, and what is said when onnxruntime-web
cannot be had."""

import base64
import io
import json
import shutil
import stat
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from export.order import Order
from export.pipeline import start
from export.proof import hard_pictures
from export.targets import web as web_target
from tests.chromium import CHROMIUM
from tests.export.browser import LISTEN, Site, open_site
from tests.export.made_export import CALIBRATED, LABELS, WITH_STAGE, Made, made_export, onnx_bundle
from zoo.answer.predict import Predictor
from zoo.contract import decision
from zoo.contract.bundle import open_bundle
from zoo.contract.decision import Decision, Sets, Unknown
from zoo.host.errors import UserError
from zoo.picture import jpeg_file
from zoo.picture.decoding import decode
from zoo.picture.preprocess import Preprocessing, resize_crop

FILES = {
    "model.onnx",
    "bundle.json",
    "parity.json",
    "parity.html",
    "FINISHED.json",
    "index.html",
    "page.css",
    "page.js",
    "worker.js",
    "decode.js",
    "answer.js",
    *(f"ort/{name}" for name in (*web_target.FILES, *web_target.LICENCES)),
    *(f"examples/{name}" for name in ("0.png", "1.png", "2.png", "expected.json")),
}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished bundle for web."""
    try:
        web_target.check()
    except UserError as error:
        pytest.skip(f"no onnxruntime-web: {error}")
    run = made_export(
        tmp_path_factory.mktemp("web"),
        Made(pre=Preprocessing(64, "center", 0.875), decision=WITH_STAGE),
    )
    onnx_bundle(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hard_pictures, "SIZES", hard_pictures.SIZES[:1])
        start(Order(run, to=("web",)))
    return run / "bundles" / "web"


@pytest.fixture(scope="module")
def site(web: Path) -> Iterator[Site]:
    pytest.importorskip("playwright", reason="no playwright: pip install playwright")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no {CHROMIUM}")
    with open_site(web) as opened:
        opened.page.wait_for_selector("#examples:not([hidden]) img")
        yield opened


def encoded(picture: Image.Image, format: str = "PNG", **how: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **how)
    return buffer.getvalue()


def pictures() -> dict[str, bytes]:
    """One of each kind that a browser decodes as Pillow does."""
    plain, sideways = hard_pictures.smooth(150, 110), Image.Exif()
    sideways[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 4), dtype=np.uint8)
    return {
        "rgb.png": encoded(plain),
        "grey.png": encoded(plain.convert("L")),
        "rgba.png": encoded(Image.fromarray(noise)),
        "exif6.jpg": encoded(plain, "JPEG", exif=sideways, quality=90),
        "palette.gif": encoded(plain.convert("P"), "GIF"),
        "rgba.webp": encoded(Image.fromarray(noise), "WEBP"),
        "tall.bmp": encoded(hard_pictures.smooth(20, 300), "BMP"),
        "flat.png": encoded(Image.new("RGB", (80, 60), (9, 99, 199))),
    }


def test_the_bundle_holds_all_that_the_page_needs(web: Path) -> None:
    assert {path.relative_to(web).as_posix() for path in web.rglob("*") if path.is_file()} == FILES
    assert (web / "model.onnx").read_bytes() == (web.parent / "onnx" / "model.onnx").read_bytes()
    assert open_bundle(web).content["versions_of_target"] == {"onnxruntime-web": web_target.VERSION}


def test_the_browser_answers_as_python(site: Site, web: Path) -> None:
    predictor, given = Predictor(web), pictures()
    said = site.ask(*given.items())
    expected = [predictor.predict(content) for content in given.values()]
    for name, one, other in zip(given, said, expected, strict=True):
        assert "error" not in one, (name, one)
        np.testing.assert_allclose(
            one["probabilities"], other.probabilities, atol=2e-5, err_msg=name
        )
        assert one["score"] == pytest.approx(other.unknown_score, abs=1e-4), name
        assert (one["label"], [label for label, _ in one["top"]], one["set"]) == (
            other.answer.label,
            [label for label, _ in other.answer.top],
            list(other.answer.prediction_set or ()),
        ), name
    # one after the other
    assert [one["id"] for one in said] == sorted((one["id"] for one in said), reverse=True)
    assert len({tuple(np.round(one["probabilities"], 3)) for one in said}) == len(given)
    cards = site.cards()[: len(given)]
    for name, card, other in zip(given, cards, expected, strict=True):
        assert card.startswith(name)
        assert ("resembles none" in card) == (other.answer.label is None)
        assert all(label in card for label in LABELS)


def test_a_large_jpeg_is_decoded_to_the_size_of_python(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixels are means of the browser's, where libjpeg scales: close, not equal. Here two million
    pixels are large."""
    monkeypatch.setattr(jpeg_file, "FULL_PIXELS", 2_000_000)
    sideways = Image.Exif()
    sideways[0x0112] = 6
    large = encoded(
        hard_pictures.smooth(290, 220).resize((2600, 2102)), "JPEG", exif=sideways, quality=60
    )
    pixels = np.asarray(decode(large)).astype(int)
    height, width, _ = pixels.shape
    *size, rows, shown = site.page.evaluate(
        """async (picture) => {
        const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
        const { decode } = await import("/decode.js");
        const { width, height, rgb, canvas } = await decode(new Blob([bytes]), 2e6);
        const rows = [];
        for (let y = 0; y < height; y += 97)
            rows.push(...rgb.subarray(3 * width * y, 3 * width * (y + 1)));
        const shown = canvas.getContext("2d").getImageData(0, 97, width, 1).data;
        return [width, height, rgb.length, rows, Array.from(shown)]; }""",
        base64.b64encode(large).decode(),
    )
    assert size == [width, height, pixels.size] == [1051, 1300, 1051 * 1300 * 3]
    seen = np.array(rows).reshape(-1, width, 3)
    assert np.abs(seen - pixels[::97]).max() <= 8
    assert np.abs(seen - pixels[::97]).mean() < 1
    assert np.array_equal(np.array(shown).reshape(width, 4)[:, :3], seen[1])


def test_the_part_of_a_large_jpeg_is_that_of_python(site: Site) -> None:
    random = np.random.default_rng(0)
    sizes = [
        *random.integers(1000, 20_000, (200, 2)).tolist(),
        [8160, 6144],
        [22000, 1500],
        [26000, 2000],
    ]
    parts = site.page.evaluate(
        """async (sizes) => {
        const { scale } = await import("/decode.js");
        return sizes.map(([width, height]) => scale(width, height)); }""",
        sizes,
    )
    assert parts == [jpeg_file.scale(*size) for size in sizes]
    assert {1, 2, 4} <= set(parts)


def test_what_cannot_be_read_is_said_in_words(site: Site) -> None:
    huge = encoded(Image.new("L", (9, 9)))
    huge = huge[:16] + struct.pack(">II", 30_000, 30_000) + huge[24:]
    broken = encoded(hard_pictures.smooth(150, 110), "JPEG")
    frame = broken.index(b"\xff\xc0") + 5
    vast = broken[:frame] + struct.pack(">HH", 12_300, 16_400) + broken[frame + 4 :]
    bad = {
        "text.png": b"hello",
        "empty.png": b"",
        "long.png": encoded(Image.new("L", (2100, 100))),
        "huge.png": huge,
        "vast.jpg": vast,
        "half.jpg": broken[: len(broken) // 2],
        "start.jpg": broken[:12],
        "fine.png": encoded(hard_pictures.smooth(30, 30)),
    }
    *said, fine = site.ask(*bad.items())
    assert "error" not in fine
    reasons = (
        "of no format",
        "the file is empty",
        "too elongated: 2100 x 100",
        "too large: 30000 x 30000",
        "too large: 16400 x 12300, at most 200 million pixels are decoded of a JPEG",
        "damaged",
        "damaged: its header",
    )
    for one, reason in zip(said, reasons, strict=True):
        assert one["error"].startswith(reason)
    assert "Not read: too elongated: 2100 x 100, at most 20:1 is accepted" in site.cards()[2]


@pytest.mark.parametrize(
    "made_decision",
    [
        Decision(),
        CALIBRATED,
        Decision(sets=Sets(0.8, 0.0)),
        Decision(sets=Sets(0.8, 0.3)),
        Decision(unknown=Unknown(1, 0.1, 0.25), sets=Sets(0.9, float(np.float32(0.3)) + 1e-9)),
    ],
)
def test_decisions_are_applied_as_in_python(site: Site, made_decision: Decision) -> None:
    labels = ["a", "b", "c", "d"]
    for p_C, score in (
        (np.float32([0.3, 0.3, 0.1, 0.3]), 0.25),
        (np.float32([0.01, 0.97, 0.02, 0]), 0.41),
    ):
        told = site.page.evaluate(
            "async ([p, ...rest]) => (await import('/answer.js')).answer(new Float32Array(p), "
            "...rest)",
            [p_C.tolist(), score, labels, made_decision.to_json(), 3],
        )
        answer = decision.answer(p_C, score, labels, made_decision, top=3)
        assert told == {
            "label": answer.label,
            "top": [list(row) for row in answer.top],
            "score": answer.unknown_score,
            "set": None if answer.prediction_set is None else list(answer.prediction_set),
        }


@pytest.mark.parametrize(
    "pre",
    [
        Preprocessing(64, "center", 0.875),
        Preprocessing(65, "squash", 0.9),
        Preprocessing(64, "border", 1.0),
        Preprocessing(64, "border", 0.9),
        Preprocessing(64, "center", 1.2),
        Preprocessing(64, "squash", 1.3),
    ],
    ids=lambda pre: f"{pre.crop_mode} {pre.crop_pct}",
)
def test_the_picture_shown_is_what_the_network_sees(site: Site, pre: Preprocessing) -> None:
    for size in ((150, 90), (80, 131)):
        picture = hard_pictures.smooth(*size)
        drawn = site.page.evaluate(
            """async ([picture, pre, side]) => {
            const image = new Image();
            image.src = "data:image/png;base64," + picture;
            await image.decode();
            const context = new OffscreenCanvas(side, side)
                .getContext("2d", {willReadFrequently: true});
            (await import("/answer.js")).drawSeen(context, image, pre, side);
            return Array.from(context.getImageData(0, 0, side, side).data); }""",
            [base64.b64encode(encoded(picture)).decode(), pre.to_config(), pre.size],
        )
        seen = np.array(drawn).reshape(pre.size, pre.size, 4)[:, :, :3]
        off = np.abs(seen - resize_crop(picture, pre).astype(int))
        assert np.median(off) <= 2  # browsers resize by other filters
        assert off.mean() < 6
        assert np.abs(seen[:, ::-1] - resize_crop(picture, pre).astype(int)).mean() > 15


def test_examples_are_answered_by_keyboard_and_compared(site: Site) -> None:
    site.page.focus("#files")
    site.page.keyboard.press("Tab")
    assert site.page.evaluate("document.activeElement.tagName") == "BUTTON"
    before = len(site.cards())
    site.page.keyboard.press("Enter")
    site.until(f"document.querySelectorAll('article').length > {before}")
    site.until("document.querySelector('article').innerText.includes('As where it was exported')")
    assert float(site.cards()[0].split("differ by ")[1].split(" at most")[0]) < 5e-5


def test_the_heat_map_can_be_taken_away(site: Site) -> None:
    site.ask(("one.png", encoded(hard_pictures.smooth(200, 150))))
    with_heat = site.page.evaluate("document.querySelector('article canvas').toDataURL()")
    site.page.locator("#heat").press("Space")
    assert site.page.evaluate("document.querySelector('article canvas').toDataURL()") != with_heat
    site.page.locator("#heat").press("Space")
    assert site.page.evaluate("document.querySelector('article canvas').toDataURL()") == with_heat


def test_dropped_and_pasted_pictures_are_answered(site: Site) -> None:
    for event, where in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        site.page.evaluate("window.said = []")
        site.page.evaluate(
            """([event, where, picture]) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(picture), (c) => c.charCodeAt(0));
            transfer.items.add(new File([bytes], "given.png"));
            const kind = event === "drop" ? DragEvent : ClipboardEvent;
            document.body.dispatchEvent(
                new kind(event, {bubbles: true, cancelable: true, [where]: transfer})); }""",
            [event, where, base64.b64encode(encoded(hard_pictures.smooth(50, 50))).decode()],
        )
        site.until("window.said.length === 1")
        assert len(site.page.evaluate("window.said[0].probabilities")) == len(LABELS)


def test_a_phone_and_a_dark_room(site: Site) -> None:
    site.ask(("a-very-long-name-" * 12 + ".png", encoded(hard_pictures.smooth(200, 150))))
    colours = []
    for scheme in ("light", "dark"):
        site.page.emulate_media(color_scheme=scheme)
        colours.append(site.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(set(colours)) == 2
    site.page.set_viewport_size({"width": 360, "height": 740})
    assert site.page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_page_asks_nobody_else_and_complains_of_nothing(site: Site) -> None:
    """After all of the above."""
    assert len(site.requests) > 10
    assert [
        url for url in site.requests if not url.startswith((site.address, "data:", "blob:"))
    ] == []
    assert site.complaints == []
    foreign = site.page.evaluate(
        "fetch('https://example.org/').then(() => 'asked', (error) => error.name)"
    )
    assert foreign == "TypeError"
    assert "Content Security Policy" in site.complaints[0]
    site.complaints.clear()


def test_names_of_classes_are_text(site: Site, web: Path) -> None:
    hostile = '<img src=x onerror="document.title=1">'
    content = json.loads((web / "bundle.json").read_text()) | {"labels": [hostile, "‮b", "c" * 300]}
    page = site.page.context.browser.new_page()
    page.add_init_script(LISTEN)
    page.route("**/bundle.json", lambda route: route.fulfill(json=content))
    page.goto(site.address)
    page.wait_for_selector("#examples:not([hidden]) button")
    Site(page, site.address).ask(("one.png", encoded(hard_pictures.smooth(200, 150))))
    assert hostile in page.inner_text("article")
    assert page.locator("article img").count() == 0
    page.close()


def test_opened_from_the_disk_the_page_says_what_to_do(site: Site, web: Path) -> None:
    page = site.page.context.browser.new_page()
    page.goto((web / "index.html").as_uri())
    said = page.get_by_text("python -m http.server")
    assert not said.is_visible()
    page.evaluate("document.getAnimations().forEach((wait) => wait.finish())")
    assert said.is_visible()
    page.close()


# --- onnxruntime-web


def npm(folder: Path, script: str) -> None:
    """A command `npm` that does what the script says."""
    folder.mkdir(exist_ok=True)
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(stat.S_IRWXU)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no program but those of `tmp_path / "bin"` and the system's smallest."""
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    return tmp_path / "home"


def test_without_npm_the_words_say_where_to_unpack_it(home: Path) -> None:
    with pytest.raises(
        UserError, match=r"expected the command npm, seen none. Install Node.js .*mkdir -p .*home"
    ):
        web_target.check()


def test_without_a_network_the_words_of_npm_are_passed_on(home: Path, tmp_path: Path) -> None:
    npm(
        tmp_path / "bin",
        "echo 'npm error code ENOTFOUND' >&2; echo 'npm error complete log: /x' >&2; exit 1",
    )
    with pytest.raises(UserError, match=r"seen: npm error code ENOTFOUND. Check the network"):
        web_target.check()
    assert list(home.iterdir()) == []


def test_another_package_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    pack(tmp_path / "one.tgz", {name: tmp_path / "other" for name in web_target.FILES})
    pack(tmp_path / "two.tgz", {"README.md": tmp_path / "other"})
    for archive, words in (
        ("two", "gave another onnxruntime-web"),
        ("one", "expected sha256 219e.*Delete"),
    ):
        npm(tmp_path / "bin", f"/bin/cp {tmp_path / archive}.tgz .")
        with pytest.raises(UserError, match=words):
            web_target.check()


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        (
            f"package/dist/{next(iter(web_target.FILES))}",
            100_000_000,
            "no regular file of at most 67,108,864 bytes",
        ),
        ("n" * 3_000_000, 0, "lacks|unpacks to more"),
        ("package/x", 10, "it lacks"),
    ],
)
def test_an_archive_is_unpacked_within_bounds(
    tmp_path: Path, name: str, size: int, words: str
) -> None:
    with (
        tarfile.open(tmp_path / "x.tgz", "w:gz", compresslevel=1) as tar,
        open("/dev/zero", "rb") as zeros,
    ):
        member = tarfile.TarInfo(name)
        member.size = size
        tar.addfile(member, zeros)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=words):
        web_target.unpack(tmp_path / "x.tgz", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_it_is_fetched_once_and_then_there_without_a_network(
    web: Path, home: Path, tmp_path: Path
) -> None:
    pack(tmp_path / "right.tgz", {name: web / "ort" / name for name in web_target.FILES})
    npm(tmp_path / "bin", f"/bin/cp {tmp_path / 'right.tgz'} .")
    web_target.check()
    shutil.rmtree(tmp_path / "bin")
    web_target.check()
    assert {path.name for path in home.rglob("*") if path.is_file()} == set(web_target.FILES)


def pack(archive: Path, files: dict[str, Path]) -> None:
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for name, path in files.items():
            tar.add(path, f"package/dist/{name}")
