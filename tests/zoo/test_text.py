"""Text from outside stays text: on a terminal, in a spreadsheet, in Markdown, in a shell."""

import csv
import logging
import os
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.write_run import next_commands
from tests.made_run import made_run
from tests.zoo.made_bundle import made_bundle
from tests.zoo.made_published import ROOT
from zoo.bases import registry
from zoo.contract import rundir
from zoo.files import tables
from zoo.host.errors import BadImage, UserError
from zoo.host.text import csv_cell, one_line, plain, plain_cell, printable, shell, shell_path
from zoo.publish import card
from zoo.publish.destination import Destination
from zoo.publish.push_command import PushOptions

RAW = (
    "\x1b[2J",
    "\x1b]52;c;aGVsbG8=\x07",
    "\x9b31m",
    "\r",
    "\x08",
    "\x7f",
    "\u202e",
    "\u2066",
    "\u2028",
    "\udc9b",
    "\x00",
)
"""What a terminal would obey, one of each kind."""
HOSTILE = "x" + "".join(RAW) + "y"
BAD = set("\x1b\x07\x9b\r\x08\x7f\u202e\u2066\u2028\udc9b\x00")


# ---------------------------------------------------------------- terminals


@pytest.mark.parametrize("raw", RAW)
def test_a_control_character_becomes_visible(raw: str) -> None:
    shown = printable(f"a{raw}b\tc\nd")
    assert not set(shown) & BAD
    assert shown.startswith("a\\")
    assert shown.endswith("b\tc\nd")
    assert printable(shown) == shown
    assert printable("Ärger 猫 \U0001f41d a\u0301") == "Ärger 猫 \U0001f41d a\u0301"


def test_errors_are_clean_when_they_are_made() -> None:
    bad = BadImage(HOSTILE, HOSTILE)
    for text in (
        str(UserError(HOSTILE)),
        str(bad),
        bad.name,
        bad.reason,
        *map(str, UserError(HOSTILE).args),
    ):
        assert not set(text) & BAD
        assert "\\x1b[2J" in text
    assert one_line("a\nerror: b") == "a\\nerror: b"


def hostile_run(folder: Path) -> Path:
    """A finished run whose keys, name and bundle are hostile."""
    # ONNX Runtime opens names that are text only
    run = folder / HOSTILE.replace("\x00", "").replace("\udc9b", "")
    made_bundle(run)
    return run


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "an alias": lambda run: ["zoo", "show", "no\x1b]0;x\x07such"],
    "a revision": lambda run: ["zoo", "add", "mine", "hf-hub:a/b@\x1b[2J\u202e"],
    "a repository": lambda run: ["zoo", "push", str(run), "a/\x1b[2J", "--dry-run"],
    "a run folder": lambda run: ["zoo", "compare", str(run)],
    "a picture": lambda run: ["zoo.predictor", str(run), f"{run}.png", str(run / "FINISHED.json")],
    "a verified bundle": lambda run: ["export.verify", str(run)],
    "a measured bundle": lambda run: ["export.bench", f"{run}no"],
    "a Space": lambda run: ["serve.space", str(run), "--out", str(run.parent / "a\x1b[2Jb")],
    "a data folder": lambda run: ["finetune", "--data", f"{run}no", "--base", "efficientnet_lite0"],
    "a command": lambda run: ["zoo", "\x1b[2J\x07\u202eno"],
    "a number": lambda run: ["zoo", "list", "--max-params-m", "\x1b[2J\x07\u202eno"],
    "a recipe": lambda run: ["finetune", "--data", str(run), "--recipe", "x\x1b[2J\u202e"],
}


@pytest.mark.parametrize("kind", ["a command", "a Space"])
def test_a_process_prints_nothing_that_a_terminal_obeys(kind: str, tmp_path: Path) -> None:
    command = COMMANDS[kind](hostile_run(tmp_path))
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        capture_output=True,
        timeout=100,
        env=os.environ | {"ZOOTUNE_HOME": str(tmp_path / "home")},
    )
    check(ran.stdout.decode() + ran.stderr.decode())


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `run_main` changes of the process is put back."""
    factory = logging.getLogRecordFactory()
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    yield
    logging.setLogRecordFactory(factory)


@pytest.mark.usefixtures("kept")
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("kind", COMMANDS)
def test_no_command_prints_what_a_terminal_obeys(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    module, *words = COMMANDS[kind](hostile_run(tmp_path))
    monkeypatch.setattr(sys, "argv", [module, *words])
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))
    with pytest.raises(SystemExit):
        runpy.run_module(module, run_name="__main__", alter_sys=False)
    check("".join(capfd.readouterr()))


def check(shown: str) -> None:
    assert shown
    assert "Traceback" not in shown
    assert not set(shown) & BAD, repr(shown)


@pytest.mark.parametrize("file", ["FINISHED.json", "config.json", "bundles/onnx/bundle.json"])
def test_names_in_files_of_a_run_are_shown_clean(file: str, tmp_path: Path) -> None:
    folder = made_bundle(tmp_path / "run")
    path = tmp_path / "run" / file
    content = rundir.read_json(path)
    rundir.write_json(
        path,
        content | {"files": {HOSTILE: "0"}, "target": HOSTILE, "labels": [HOSTILE], HOSTILE: 1},
    )
    from zoo.contract import bundle

    opened = bundle.open_bundle if file.startswith("bundles") else rundir.open_finished
    with pytest.raises(UserError) as refused:
        opened(folder if file.startswith("bundles") else tmp_path / "run", verify=True)
    assert not set(str(refused.value)) & BAD


def test_an_alias_of_a_foreign_file_is_shown_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from zoo.__main__ import main

    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path))
    registry.aliases_file().parent.mkdir(parents=True, exist_ok=True)
    rundir.write_json(registry.aliases_file(), {HOSTILE: "hf-hub:a/b\x1b[2J"})
    main(["list", "--text", "lite0"])
    assert not set(capsys.readouterr().out) & BAD


# ---------------------------------------------------------------- spreadsheets

CELLS = st.text(
    st.sampled_from("=+-@\t\r\n';, \ufeff\u200b\uff1d\uff0d\u2212\xa0a1\"|"), max_size=8
)


@settings(max_examples=150, deadline=None)
@given(CELLS)
def test_every_cell_comes_back(text: str) -> None:
    assert plain_cell(csv_cell(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1-2",
        "-x",
        "@SUM(A1)",
        "\tx",
        "\rx",
        "\nx",
        "\uff1d1",
        "\uff0dx",
        " =1",
        "\ufeff=1",
        "'=1",
        "''=1",
        "=cmd|' /C calc'!A0",
    ],
)
def test_a_cell_that_runs_gets_one_apostrophe(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize(
    "text", ["a=1", "-1.5", "+3", "-1e-05", "'", "'a", "cr\r\nlf\r\n", "", "nan", "a, b"]
)
def test_other_cells_stay(text: str) -> None:
    assert csv_cell(text) == text


def test_a_formula_after_another_settings_separator_is_text_too() -> None:
    assert csv_cell("a;=1") == "a;'=1"
    assert csv_cell("a\n@x") == "a\n'@x"
    assert csv_cell(3.5) == 3.5


def test_tables_come_back_and_old_ones_are_read(tmp_path: Path) -> None:
    path, names = tmp_path / "t.csv", ["=1", "'=1", "-1", "\udcff=", "two\nlines", "a;=b", "plain"]
    tables.write_table(path, ("path", "n"), ((name, number) for number, name in enumerate(names)))
    assert [row["path"] for row in tables.rows(path, ("path",))] == names
    with open(path, "w", encoding="utf-8", newline="") as file:  # as versions before wrote it
        csv.writer(file).writerows([["path"], ["=1"], ["'a"], ["'=1"]])
    # the last is the ambiguous one
    assert [row["path"] for row in tables.rows(path, ("path",))] == ["=1", "'a", "=1"]
    path.write_text("path,n\n1\n")
    with pytest.raises(UserError, match="row 1 has 1 cells, expected 2"):
        list(tables.rows(path, ("path",)))
    assert tables.as_text(["a"], [["=x"]]) == "a\r\n'=x\r\n"


def test_escapes_take_linear_time() -> None:
    start = perf_counter()
    for text in (
        "'" * 100_000,
        " " * 100_000,
        ";'" * 50_000,
        "\\" * 100_000,
        "_" * 100_000,
        "http" * 30_000,
        "![](" * 30_000,
    ):
        for escape in (csv_cell, plain_cell, plain, shell, printable):
            escape(text)
    assert perf_counter() - start < 10


# ---------------------------------------------------------------- shells

NAMES = (
    "$(touch canary)",
    "`touch canary`",
    "a b",
    ";touch canary",
    "-x",
    "two\ntouch canary\nlines",
    "'; touch canary; '",
    "a\x1b[2J\rb",
    "a\\'; touch canary #",
    "$HOME",
    "!!",
    "~",
    "*",
    "{a,b}",
    "x\udcffy",
    "猫",
    "\u202ea",
    "&touch canary",
)
STUB = r"""
python() { printf '%s\0' "$@" >> seen; }
curl() { printf '%s\0' "$@" >> seen; }
open() { printf '%s\0' "$1" >> seen; }
tritonserver() { printf '%s\0' "$@" >> seen; }
"""


def run_lines(folder: Path, lines: str) -> list[str]:
    """The words of the commands that a real bash makes of `lines`, with stand-ins for the
    programs."""
    if not (bash := shutil.which("bash")):
        pytest.skip("bash is not installed")
    ran = subprocess.run([bash, "-c", STUB + lines], cwd=folder, capture_output=True, timeout=20)
    assert ran.returncode == 0, ran.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["seen"], "nothing ran"
    return os.fsdecode((folder / "seen").read_bytes()).split("\0")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_word_on_one_line(name: str, tmp_path: Path) -> None:
    line = f"python {shell(name)} {shell_path(name)}"
    assert "\n" not in line
    assert printable(line) == line
    assert run_lines(tmp_path, line)[:2] == [name, f"./{name}" if name.startswith("-") else name]


@pytest.mark.parametrize("name", NAMES)
def test_the_next_commands_of_a_run_do_nothing_else(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next_commands(Path(name))
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "next:"
    assert len(lines) == 4
    words = run_lines(tmp_path, "\n".join(line.replace(" in a browser", "") for line in lines))
    assert (f"./{name}" if name.startswith("-") else name) in words


@pytest.mark.parametrize("name", NAMES)
def test_commands_of_a_card_hold_no_other_names(name: str) -> None:
    with pytest.raises(UserError, match="expected user/name"):
        Destination(f"alice/{name}", {})
    with pytest.raises(UserError, match="expected user/name"):
        PushOptions(Path("run"), f"{name}/insects")


def test_the_commands_of_a_card_of_hostile_names_do_nothing_else(tmp_path: Path) -> None:
    classes = [name for name in NAMES if "/" not in name]
    run, _ = made_run(
        tmp_path / "made", classes=[*classes, "```\n```bash\ntouch canary\n```"], pictures=2
    )
    text = card.text(run, Destination("alice/insects", {"bundles/onnx/model.onnx": run}))
    [block] = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "empty").mkdir()
    assert run_lines(tmp_path / "empty", block)[:3] == ["-m", "serve", "hf-hub:alice/insects"]


# ---------------------------------------------------------------- Markdown


@pytest.mark.parametrize(
    "words",
    [
        "![x](http://t.example/a.png)",
        "<img src=http://t.example>",
        "[a](javascript:x)",
        "# h",
        "http://t.example",
        "www.t.example",
        "1. x",
        "- x",
        "`a",
        "a | b",
        "$x$",
        "***",
    ],
)
def test_plain_text_is_no_markdown(words: str) -> None:
    from markdown_it import MarkdownIt

    shown = MarkdownIt("commonmark", {"linkify": False}).enable("table").render(plain(words))
    assert shown.startswith("<p>")
    assert not any(tag in shown for tag in ("<a ", "<img", "<h1", "<code", "<em", "<strong", "<li"))
    assert card.plain is plain
    assert "http:" not in plain(words)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_no_cell_runs_in_any_settings(separator: str) -> None:
    text = tables.as_text(["a", "b"], [["x.png", 'a;"=1+1;"b'], ["y", 'a\t"@x\t"b']])
    cells = [cell for row in csv.reader(text.splitlines(), delimiter=separator) for cell in row]
    assert not [cell for cell in cells if cell.lstrip('" ').startswith(("=", "+", "-", "@"))]
