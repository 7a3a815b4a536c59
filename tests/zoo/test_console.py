"""What a terminal shows, and what a file gets instead."""

import io
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from zoo.host import console, streams

HOSTILE = "a\x1b]52;c;aGk=\x07b\x9b2Jc\rd\u202ee\x7f"
CLEAN = "a\\x1b]52;c;aGk=\\x07b\\x9b2Jc\\x0dd\\u202ee\\x7f"


class Terminal(io.StringIO):
    """Standard output that is a terminal; final."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    """What a bar within a bar, with a message between, writes."""
    out = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm-256color")
    console._terminal.cache_clear()
    with console.bar("training", 64) as advance:
        advance(32, note="epoch 1/2  loss 0.693")
        with console.bar("evaluating", 10) as inner:
            inner(10)
        console.say("epoch 1 [done]")
        advance(32, note=f"epoch 2/2  loss 0.500 [b]{HOSTILE}")
    console._terminal.cache_clear()
    return out.getvalue()


def test_a_terminal_shows_bars_with_rate_time_left_and_losses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = shown(monkeypatch, terminal=True)
    for words in (
        "training",
        "evaluating",
        "64/64",
        "/s",
        "left",
        "0:00:00",
        "epoch 2/2  loss 0.500 [b]",
        "epoch 1 [done]",
    ):
        assert words in text, words
    assert "\x1b]" not in text
    assert not set(text) & set("\x07\x9b\u202e\x7f")


def test_a_file_gets_only_the_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, terminal=False) == "epoch 1 [done]\n"


def test_messages_and_tables_are_clean(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(HOSTILE)
    console.warn(f"[bold]{HOSTILE}")
    console.table(
        [console.Column("[red]name"), console.Column("n", right=True)],
        [(f"[link=file:///]{HOSTILE}", 3)],
    )
    console.error(HOSTILE)
    console.say_json({"file": HOSTILE})
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[:2] == [CLEAN, f"warning: [bold]{CLEAN}"]
    assert f"[link=file:///]{CLEAN} 3" in out
    assert err == f"error: {CLEAN}\n"
    assert not set(out + err) & set("\x1b\x07\x9b\r\u202e\x7f")


def test_one_process_of_several_prints(capsys: pytest.CaptureFixture[str]) -> None:
    console.be_quiet(True)
    try:
        console.say("x")
        console.table([console.Column("x")], [("x",)])
        assert capsys.readouterr().out == ""
    finally:
        console.be_quiet(False)
    console.say("y")
    assert capsys.readouterr().out == "y\n"


class Narrow(io.TextIOWrapper):
    """A terminal that takes the characters of one encoding only; final."""

    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("guarded_after")
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("stream", [Narrow, io.TextIOWrapper])
def test_no_character_is_one_that_the_output_cannot_take(
    encoding: str, stream: type[io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = (stream(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("TERM", "xterm-256color")
    console._terminal.cache_clear()
    streams.guard()
    name = "猫 🐝 é → …"
    console.say(name)
    console.warn(name)
    console.error(name)
    console.say_json({"file": name})
    # cut with an ellipsis
    console.table([console.Column(name, whole=True), console.Column("n")], [(name * 9, 3)])
    with console.bar(name, 2) as advance, console.busy(name):
        advance(1, note=name)
    assert list(console.track([name], name)) == [name]
    out.write(name)  # whatever else a library prints
    sys.excepthook(ValueError, ValueError(name), None)
    console._terminal.cache_clear()
    for written in (out, err):
        written.flush()
        assert "\\u732b" in written.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


@pytest.fixture
def guarded_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `guard` changes is put back."""
    factory = logging.getLogRecordFactory()
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    yield
    logging.setLogRecordFactory(factory)


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`guard` for one test."""
    factory = logging.getLogRecordFactory()
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    streams.guard()
    yield
    logging.setLogRecordFactory(factory)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_command_runs_with_closed_streams(closed: str, tmp_path: Path) -> None:
    code = (
        "from zoo.host import console, errors\n"
        "def main():\n"
        "    console.say('said'); console.warn('warned'); console.error('wrong')\n"
        "    with open('file', 'wb') as file:\n"
        "        assert file.fileno() > 2\n"
        "        return 7\n"
        "errors.run_main(main)\n"
    )
    shell = f'cd "$1"; exec "$2" -c "$3" {closed}'
    words = ["sh", "-c", shell, "sh", str(tmp_path), sys.executable, code]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 7, ended.stderr
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("gone", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_a_command_outlives_the_reader_of_its_output(gone: tuple[str, ...], tmp_path: Path) -> None:
    """As in `command | head -1`: whoever reads no more misses nothing, and the work goes on."""
    code = (
        "import logging, sys\n"
        "from zoo.host import console, errors\n"
        "def main():\n"
        "    for _ in range(3):\n"
        "        console.say('said'); console.say_json({}); console.error('wrong')\n"
        "        logging.warning('logged'); print('x' * 100_000)\n"
        "    open('file', 'w').write('done')\n"
        "    return 7\n"
        "errors.run_main(main)\n"
    )
    read, write = os.pipe()
    os.close(read)
    streams_of = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | dict.fromkeys(gone, write)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, timeout=60, check=False, **streams_of
    )
    os.close(write)
    assert ended.returncode == 7
    assert (tmp_path / "file").read_text() == "done"
    if gone == ("stdout",):
        assert ended.stderr.count(b"wrong") == 3
        assert b"Traceback" not in ended.stderr


@pytest.mark.usefixtures("guarded")
def test_what_other_libraries_write_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    log, out = logging.getLogger("a.library"), io.StringIO()
    log.addHandler(handler := logging.StreamHandler(out))
    try:
        log.warning("pulled %s", HOSTILE)
        try:
            raise ValueError(HOSTILE)
        except ValueError as error:
            log.exception("failed")
            sys.excepthook(ValueError, error, error.__traceback__)
    finally:
        log.removeHandler(handler)
    assert f"pulled {CLEAN}\n" in out.getvalue()
    assert f"ValueError: {CLEAN}" in out.getvalue()
    written = warnings.formatwarning(HOSTILE, UserWarning, "file.py", 3)
    assert CLEAN in written
    err = capsys.readouterr().err
    assert f"ValueError: {CLEAN}" in err
    assert not set(out.getvalue() + written + err) & set("\x1b\x07\x9b\r\u202e\x7f")
