"""The report: its pictures, hostile names, runs that lack something, its size, what a browser
shows."""

import csv
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from finetune.figures import svg
from finetune.figures.drawing import printable
from finetune.report.page import fill, percent
from finetune.report.write import write_report
from tests.finetune.report_page import Seen, page_of, svg_texts, written
from tests.made_run import FRUIT, Made, made_run
from zoo.contract import rundir

HOSTILE = [
    "<script>document.title = 'taken'</script>",
    "a'b\"c&amp;",
    "$x_{$",
    "猫",
    "שלום",
    "👩‍🔬",
    "\u202egnp",
    "ß" * 60,
]
HOSTILE_FILES = (
    "{}.png",
    '"><img src=x onerror=alert(1)>{}.png',
    "قطة {}.png",
    "\udcff{}.png",
    "$^{}.png",
)
MANY = [f"class {i:03d}" for i in range(1000)]


def rows_of(run: Path) -> list[dict[str, str]]:
    with open(
        run / rundir.PREDICTIONS, encoding="utf-8", errors="surrogateescape", newline=""
    ) as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    runs: dict[str, dict[str, Any]] = {
        "ten": {
            "made": Made(findings=("a finding " * 20,), left_out=(("x" * 200 + ".png", "damaged"),))
        },
        "two": {"classes": ["defect", "good"], "made": Made(licence="cc-by-nc-4.0")},
        "hostile": {
            "classes": HOSTILE,
            "pictures": 5,
            "made": Made(
                right=0.5,
                file_names=HOSTILE_FILES,
                findings=("<img src=x>",),
                left_out=(("<b>\udcfe.png", "'\""),),
            ),
        },
        "many": {
            "classes": MANY,
            "pictures": 1,
            "made": Made(sides=(32,), measured=False, views="none"),
        },
    }
    found = {}
    for name, how in runs.items():
        run, root = made_run(folder / name, **how)
        write_report(run, root)
        found[name] = run / rundir.PAGE
    return found


def test_the_most_wrong_pictures_come_first_and_are_embedded(pages: dict[str, Path]) -> None:
    run, page = pages["ten"].parent, pages["ten"].read_text(encoding="utf-8")
    wrong = sorted(
        (
            row
            for row in rows_of(run)
            if row["split"] == "test" and row["label"] != row["predicted"]
        ),
        key=lambda row: -float(row["confidence"]),
    )[:24]
    text = Seen(page).after("Most wrong pictures")
    captions = [
        f"is {row['label']} , said {row['predicted']} {100 * float(row['confidence']):.0f} % "
        f"{row['path']}"
        for row in wrong
    ]
    places = [text.index(caption) for caption in captions]
    assert places == sorted(places)
    part = page[page.index("Most wrong pictures") : page.index("Which kinds of picture fail?")]
    assert part.count('src="data:image/webp;base64,') == 2 * len(wrong)  # each with its heat map


def test_a_picture_that_is_gone_or_damaged_is_shown_as_its_name(tmp_path: Path) -> None:
    run, root = made_run(tmp_path, pictures=8)
    wrong = sorted(
        (
            row
            for row in rows_of(run)
            if row["split"] == "test" and row["label"] != row["predicted"]
        ),
        key=lambda row: -float(row["confidence"]),
    )
    (root / wrong[0]["path"]).unlink()
    (root / wrong[1]["path"]).write_bytes(b"not a picture")
    text = Seen(written(run, root)).after("Most wrong pictures")
    for row in wrong[:2]:
        assert f"{Path(row['path']).name} cannot be read any more" in text
    assert text.count("cannot be read any more") == 2


def test_a_half_of_val_as_headline_takes_that_half_only(tmp_path: Path) -> None:
    run, page = page_of(
        tmp_path, "confusion", classes=FRUIT[:2], pictures=280, made=Made(test=False)
    )
    numbers = rundir.read_json(run / rundir.REPORT)
    assert numbers["headline"]["split"] == "calibrate"
    cells = [
        int(text) for text in svg_texts(run / rundir.FIGURES / "confusion.svg") if text.isdigit()
    ]
    assert sum(cells) == numbers["headline"]["pictures"] < 560
    right = sum(n for n in (row["recall"] * row["pictures"] for row in numbers["per_class"]))
    text = Seen(page).text
    assert f"calibrate top-1 {100 * right / sum(cells):.2f} %" in text
    assert "Top-5" not in text


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (Made(probe=False), "Linear probe none"),
        (Made(test=False), "val top-1"),
        (Made(right=2.0), "No wrong answer among the 40 pictures of test."),
        (Made(epochs=0), "No epoch was trained: the result is the linear probe."),
        (Made(epochs=0, probe=False), "No epoch was trained."),
        (
            Made(counts={"apple": 500}),
            "Strong imbalance: apple has 500 training pictures, apricot has 12 (42 times fewer",
        ),
        (Made(findings=("3 exact <duplicates>",)), "3 exact <duplicates>"),
        (Made(left_out=(("a/b.png", "damaged: cut off"),)), "a/b.png damaged: cut off"),
        (Made(licence=None), "is not known here"),
    ],
)
def test_what_a_run_lacks_or_warns_of(tmp_path: Path, made: Made, sentence: str) -> None:
    _, page = page_of(tmp_path, pictures=4, made=made)
    assert sentence in Seen(page).text


def test_a_licence_that_forbids_commercial_use_is_red(tmp_path: Path) -> None:
    page = page_of(tmp_path / "nc", pictures=4, made=Made(licence="cc-by-nc-4.0"))[1]
    assert '<span class="bad">licence cc-by-nc-4.0</span>' in page
    assert re.search(r'<p class="notice bad">[^<]*forbids commercial use', page)
    assert (
        'class="notice' not in page_of(tmp_path / "free", pictures=4, made=Made(licence="mit"))[1]
    )


def test_the_probe_kept_is_said(tmp_path: Path) -> None:
    run, root = made_run(tmp_path, pictures=4)
    numbers = rundir.read_json(run / rundir.REPORT)
    numbers["probe"]["kept"], numbers["best"]["step"], numbers["best"]["epoch"] = True, 0, 0
    rundir.write_json(run / rundir.REPORT, numbers)
    assert "No epoch was better on select than the linear probe" in Seen(written(run, root)).text


def test_a_class_without_evaluated_pictures_has_a_dash(tmp_path: Path) -> None:
    run, root = made_run(tmp_path, pictures=4)
    numbers = rundir.read_json(run / rundir.REPORT)
    numbers["per_class"][0] |= {"pictures": 0, "precision": None, "recall": None, "f1": None}
    rundir.write_json(run / rundir.REPORT, numbers)
    assert "apple – – – 0 Can I trust" in Seen(written(run, root)).text


def test_hostile_names_stay_text(pages: dict[str, Path]) -> None:
    run, seen = pages["hostile"].parent, Seen(pages["hostile"].read_text(encoding="utf-8"))
    assert not {tag for tag, _ in seen.tags} & {"script", "iframe", "object", "form"}
    for tag, attributes in seen.tags:
        assert not [key for key in attributes if key.startswith("on")], (tag, attributes)
        assert (attributes.get("src") or "data:").startswith("data:"), (tag, attributes)
        assert (attributes.get("href") or "#").startswith(("data:", "#")), (tag, attributes)
    for name in HOSTILE:
        assert printable(name) in seen.text
    labels = svg_texts(run / rundir.FIGURES / "confusion.svg")
    for name in HOSTILE[1:6]:
        assert name in labels


def test_many_classes_stay_small_and_say_what_is_left_out(pages: dict[str, Path]) -> None:
    run, text = pages["many"].parent, Seen(pages["many"].read_text(encoding="utf-8")).text
    assert pages["many"].stat().st_size < 1_000_000
    assert "the 50 classes (of 1,000) with the lowest F1" in text
    assert "(of 1,000) of the most frequent confusions" in text
    rows = [
        row for row in rows_of(run) if row["split"] == "test" and row["label"] != row["predicted"]
    ]
    (label, said), n = min(
        Counter((r["label"], r["predicted"]) for r in rows).items(), key=lambda i: (-i[1], i[0])
    )
    assert f"Of class Surest {label} {said} {n}" in text
    shown = [
        text
        for text in svg_texts(run / rundir.FIGURES / "confusion.svg")
        if text.startswith("class")
    ]
    assert {label, said} <= set(shown)
    assert len(shown) == 2 * len(set(shown)) <= 60


def test_labels_are_thinned_above_thirty_classes(tmp_path: Path) -> None:
    run, _ = page_of(tmp_path, "confusion", classes=MANY[:61], pictures=2)
    labels = [
        text
        for text in svg_texts(run / rundir.FIGURES / "confusion.svg")
        if text.startswith("class")
    ]
    assert labels == 2 * MANY[:61:3]


def test_the_page_is_the_same_each_time(pages: dict[str, Path], tmp_path: Path) -> None:
    before = pages["two"].parent
    run = Path(shutil.copytree(before, tmp_path / before.name))
    (run / rundir.PAGE).unlink()
    shutil.rmtree(run / rundir.FIGURES)
    write_report(run, before.with_name("fruit"))
    assert (run / rundir.PAGE).read_text() == pages["two"].read_text()
    assert sorted(path.name for path in (run / rundir.FIGURES).iterdir()) == [
        "confusion.svg",
        "loss.svg",
        "lr.svg",
        "reliability.svg",
        "top1.svg",
        "unknown.svg",
    ]


def test_long_series_are_averaged_and_what_is_not_finite_is_left_out() -> None:
    series = [(float(i), math.nan if i == 7 else 1.0) for i in range(10_000)]
    x, y = svg.columns(series)
    assert 200 <= len(x) <= svg.MOST_POINTS
    assert set(y) == {1.0}
    assert x[-1] > 9_900
    assert svg.columns([]) == ([], [])


def test_fill_escapes_what_is_not_html() -> None:
    assert fill('<a title="{}">{}</a>', "\"'", fill("<b>{}</b>", "<&>")) == (
        '<a title="&quot;&#x27;"><b>&lt;&amp;&gt;</b></a>'
    )
    assert percent(None) == "–"


# ---- in a browser
# -----------------------------------------------------------------------------------------------


def chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = chromium()
    if program is None:
        pytest.skip("no Chromium here: set CHROMIUM to its program, or install chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


WINDOWS = ((390, "dark"), (1280, "light"), (390, "light"), (1280, "dark"))
"""Width in pixels and the reader's colour scheme."""


@pytest.mark.parametrize("name", ["ten", "two", "hostile", "many"])
def test_in_a_browser(browser: Any, pages: dict[str, Path], name: str) -> None:
    context = browser.new_context()
    tab = context.new_page()
    problems: list[str] = []
    requests: list[str] = []
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("dialog", lambda dialog: problems.append(dialog.message))
    tab.on("request", lambda request: requests.append(request.url))
    for i, (width, scheme) in enumerate(WINDOWS):
        tab.set_viewport_size({"width": width, "height": 850})
        tab.emulate_media(color_scheme=scheme)
        if i == 0:
            tab.goto(pages[name].as_uri())
            tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert tab.evaluate("innerWidth") == width
        assert tab.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is (
            scheme == "dark"
        )
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert tab.evaluate("document.scripts.length") == 0
    assert tab.title().startswith("fruit-efficientnet_lite0: ")
    assert problems == []
    assert [url for url in requests if not url.startswith("data:")] == [pages[name].as_uri()]
    context.close()


def test_figures_follow_the_colour_scheme(
    browser: Any, pages: dict[str, Path], tmp_path: Path
) -> None:
    # grey levels of the first figure: (darkest, brightest, its empty corner)
    levels: dict[str, tuple[int, int, int]] = {}
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(pages["ten"].as_uri())
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        tab.locator(".panels img").first.screenshot(path=tmp_path / "figure.png")
        with Image.open(tmp_path / "figure.png") as picture:
            grey = np.asarray(picture.convert("L")).astype(int)
        levels[scheme] = grey.min(), grey.max(), grey[1, 1]
    context.close()
    darkest, _, paper = levels["light"]
    assert darkest < 110 < 240 < paper
    _, brightest, paper = levels["dark"]
    assert brightest > 150 > 40 > paper
