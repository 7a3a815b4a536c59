"""Text of users is never mark-up: the same names through figures, report, card, terminal and
printed commands."""

import io
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from markdown_it import MarkdownIt
from PIL import Image

from export import bench
from finetune.figures import certainty, confusion, learning
from finetune.figures.drawing import Drawing, printable
from finetune.report import next_steps, run_files
from finetune.report.advice import Advice
from finetune.report.write import write_report
from finetune.write_run import next_commands
from tests.made_run import Made, drawing_only, made_run
from zoo.comparison import finished_runs, models
from zoo.contract import rundir
from zoo.host import console
from zoo.host.text import one_line, shell, shell_path
from zoo.publish import card

EVIL = (
    "$",
    "$$",
    "$$$",
    "$x^2$",
    r"\frac{",
    "$_{$",
    "[bold]",
    "[/]",
    "[link=x]y[/link]",
    "<script>",
    "<b>x",
    "&amp;",
    "`",
    "```",
    "$(id)",
    ";rm -rf x",
    "it's",
    'a"b',
    "|",
    "_a_",
    "__init__",
    "**b**",
    "# x",
    "1. x",
    "- x",
    "> x",
    "{}",
    "{0}",
    "%s",
    "{{ x }}",
    "{% x %}",
    "~",
    "!!",
    "--help",
    "\U0001f41d\U0001f468\u200d\U0001f52c",
    "שלום",
    "\u732b",
    "=1+1",
    ":bee:",
    "a b",
    "n" * 255,
    "\u00e9" * 127,
)
"""Names that a folder can have, and that something would read as mathematics, as mark-up or as a
command."""
FILES = (
    "two\nlines{}.png",
    "$^{}$.png",
    "<img src=x onerror=alert(1)>{}.png",
    "\udcff{}.png",
    "[bold]{}.png",
    "`id`{}.png",
    "f" * 240 + "{}.png",
)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of these classes and files, with its report and card."""
    run, root = made_run(
        tmp_path_factory.mktemp("evil"),
        classes=EVIL,
        pictures=2,
        made=Made(right=0.4, file_names=FILES, sides=(32,)),
    )
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr(console, "warn", said.append)
        write_report(run, root)
    assert said == []  # no figure is left out
    (run / rundir.CARD).write_text(card.text(run), encoding="utf-8")
    return run


class Tags(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.words = set[str](), list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


def texts(drawing: str) -> list[str]:
    return [
        "".join(node.itertext())
        for node in ET.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")
    ]


def test_a_report_shows_them_as_they_are(evil: Path) -> None:
    labels = texts((evil / rundir.FIGURES / "confusion.svg").read_text(encoding="utf-8"))
    page = Tags((evil / rundir.PAGE).read_text(encoding="utf-8"))
    assert not page.tags & {"script", "b>x", "iframe", "object", "form"}
    shown = 0
    for name in EVIL:
        # above thirty classes not every one
        shown += (name if len(name) <= 20 else name[:19] + "\u2026") in labels
        assert name in page.words
    assert shown >= 20


LINES: dict[str, Callable[[str], Drawing]] = {
    "roc": lambda name: certainty.roc({name: ([0.0, 0.5, 1.0], 0.5)}),
    "precision and recall": lambda name: certainty.precision_recall(
        {"mean": ([1.0, 0.5], 0.5), name: ([1.0, 0.5], 0.5)}
    ),
    "errors": lambda name: learning.errors(
        {name: {"training": [(1, 0.5)], "select": [(0, 0.5), (1, 0.4)]}}
    ),
    "unknown": lambda name: certainty.unknown_scores(
        {"test": [0.5, 0.5], name: [0.2, 0.8]}, [0, 1, 2], 0.5
    ),
    "confusion": lambda name: confusion.confusion(["a", name], {(0, 0): 1, (1, 0): 2}, [1, 2]),
}


@pytest.mark.parametrize("kind", LINES)
def test_figures_draw_them_as_they_are(kind: str) -> None:
    for name in ("$$", "$x^2$", "_a_"):
        drawing = LINES[kind](name)
        assert drawing.svg, drawing.alt
        assert [text for text in texts(drawing.svg) if text.startswith(name)], name


def test_no_figure_holds_a_formula() -> None:
    curve = SimpleNamespace(
        lr=[1e-6, 1e-5, 1e-4, 1e-3], loss=[2.0, 2.0, 1.0, 3.0], smooth=[2.0, 2.0, 1.0, 3.0]
    )
    for lr in (curve.lr, [1e-4, 2e-4, 3e-4, 9e-4]):
        curve.lr = lr
        shown = texts(learning.lr_range(curve, lr[2]).svg)  # type: ignore[arg-type]
        assert any(re.fullmatch("(1e\u22120[456]|0[.]000[0-9])", text) for text in shown), shown
        assert not [text for text in shown if "$" in text or "\\" in text]


def test_pictures_of_comparisons_draw_them(tmp_path: Path) -> None:
    names = ("$$", "$x^2$", "_a_", r"\frac{", "__init__", "[bold]", "n" * 255, "\u732b")
    rows = [
        models.ComparedRun(name, name, 0.5, (0.4, 0.6), "test", 9, 1.0, 3.0, 0.1, None, "x")
        for name in names
    ]
    finished_runs.draw(rows, tmp_path / "compare.png")
    timing = {"batches": [{"median_ms": 1.0, "pictures_per_s": 2.0}]}
    bench.draw(
        [
            (SimpleNamespace(run={"name": name}, target=name), timing)
            for name in ("$$", "_a_", r"\frac{")
        ],  # type: ignore[misc]
        tmp_path / "bench.png",
    )
    for name in ("compare", "bench"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > 100


@pytest.mark.parametrize("error", [ValueError("no such\nglyph"), MemoryError(), OSError("disk")])
def test_a_figure_that_fails_is_named_and_left_out(
    tmp_path: Path,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, root = made_run(tmp_path, pictures=2)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(confusion, "_class_labels", fail)
    monkeypatch.setattr(certainty, "wilson_interval", fail)
    with drawing_only("confusion", "reliability", "losses"):
        write_report(run, root)
    page = (run / rundir.PAGE).read_text(encoding="utf-8")
    for name in ("confusion", "reliability"):
        assert (
            f"The figure {name} could not be drawn and is left out ({type(error).__name__}: "
            in page
        )
        assert not (run / rundir.FIGURES / f"{name}.svg").exists()
    assert (run / rundir.FIGURES / "loss.svg").is_file()
    assert capsys.readouterr().out.count("could not be drawn") == 2
    assert "reliability.svg" not in card.text(run)


def test_a_card_shows_them_as_text(evil: Path) -> None:
    source = (evil / rundir.CARD).read_text(encoding="utf-8").split("\n---\n", 1)[1]
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(source)
    page = Tags(rendered)
    assert page.tags <= {
        "h1",
        "h2",
        "h3",
        "p",
        "strong",
        "code",
        "pre",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "ul",
        "li",
        "img",
        "details",
        "summary",
        "blockquote",
        "em",
        "a",
    }, page.tags
    assert "em" not in page.tags
    shown = set(page.words)
    for name in EVIL:
        assert name.replace("`", "'") in shown, name


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_shows_them_as_text(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setenv("TERM", "xterm-256color")
    console._terminal.cache_clear()
    for name in EVIL:
        console.say(f"say {name}", style="bold")
        console.table([console.Column(name)], [(name,)])
        with console.bar(name, 1) as advance, console.busy(name):
            advance(1, note=name)
    console._terminal.cache_clear()
    shown = re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    for name in EVIL:
        assert f"say {name}\n" in shown
        # heading and cell
        assert len(re.findall(f"^{re.escape(name)} *$", shown, re.MULTILINE)) >= 2


def test_printed_commands_give_the_same_words_back(
    tmp_path: Path, evil: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bash = shutil.which("bash")
    for name in (*EVIL, *(name.format(1) for name in FILES)):
        if one_line(name) == name:
            assert shlex.split(f"x {shell(name)} {shell_path(name)}") == [
                "x",
                name,
                *([f"./{name}"] if name.startswith("-") else [name]),
            ]
    lines, run = [], run_files.read_run(evil)
    for name in EVIL:
        next_commands(tmp_path / name)
        rundir.write_json(
            evil / rundir.LOCAL,
            {"data": str(tmp_path / name), "base": name, "given": {"val": name}},
        )
        advice = Advice("", "", {"epochs": 3})
        own = next_steps.own_command(run, advice)
        assert shlex.split(own) == [
            "python",
            "-m",
            "finetune",
            "--data",
            str(tmp_path / name),
            "--base",
            name,
            "--out",
            str(next_steps.free_folder(evil)),
            "--val",
            name,
            "--epochs",
            "3",
        ]
        lines += [own, next_steps.command(run, advice)]
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  python")]
    assert len(printed) == 3 * len(EVIL)
    if bash:
        ran = subprocess.run(
            [bash, "-n"],
            input="\n".join(lines + printed),
            text=True,
            capture_output=True,
            timeout=20,
        )
        assert (ran.returncode, ran.stderr) == (0, "")


def test_what_cannot_be_shown_is_replaced_in_a_figure() -> None:
    assert printable("a\u202eb\x1bc") == "a\ufffdb\ufffdc"
