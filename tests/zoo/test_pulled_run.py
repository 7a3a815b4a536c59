"""What a pull leaves on this machine, and what it says where it cannot: in one process, without a
Hub."""

from pathlib import Path

import pytest
from httpx2 import Request, Response
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from tests.made_run import made_run
from zoo.contract import rundir
from zoo.host.errors import UserError
from zoo.hub import pins, runs
from zoo.hub.calls import Words, asked_wait_s, explained
from zoo.hub.pins import Pin

COMMIT = "0" * 40


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which pins and pulled runs lie."""
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def finished(folder: Path) -> tuple[Path, dict[str, str]]:
    """A finished run, and name -> sha256 of its files."""
    run, _ = made_run(folder, pictures=2)
    rundir.finish(run)
    names = [*rundir.read_json(run / rundir.FINISHED)["files"], rundir.FINISHED]
    return run, {name: rundir.digest(run / name) for name in names}


@pytest.mark.parametrize("file", ["", "runs", "runs/a--b"])
def test_a_file_in_place_of_a_folder_is_told(home: Path, tmp_path: Path, file: str) -> None:
    run, digests = finished(tmp_path)
    (home / file).parent.mkdir(parents=True, exist_ok=True)
    (home / file).write_text("x")
    with pytest.raises(UserError, match=r"cannot be written \(.*\): free some space, or set ZOOT"):
        runs.keep("a/b", COMMIT, run, digests)
    if not file:
        with pytest.raises(UserError, match=r"pins\.json cannot be written"):
            pins.write_pin("a/b", Pin(COMMIT, "0", "x", None, True))


def test_a_repository_that_lacks_a_file_is_named_and_leaves_nothing(
    home: Path, tmp_path: Path
) -> None:
    run, digests = finished(tmp_path)
    assert runs.keep("a/b", COMMIT, run, digests) == home / f"runs/a--b/{COMMIT}"
    del digests[rundir.REPORT]
    with pytest.raises(UserError, match=r"seen: the repository lacks report\.json") as told:
        runs.keep("a/c", COMMIT, run, digests)
    assert "a/c at commit 000" in str(told.value)
    assert str(home) not in str(told.value)
    assert not list((home / "runs" / "a--c").iterdir())


PIN = {"commit": COMMIT, "sha256": "0", "filename": "x", "licence": None, "config": True}


@pytest.mark.parametrize(
    "content",
    [
        [1],
        "x",
        {"a/b": [1]},
        {"a/b": {}},
        {"a/b": PIN | {"commit": 5}},
        {"a/b": PIN | {"filename": "../x"}},
        {"a/b": PIN | {"run": [1]}},
        {"a/b": PIN | {"run": {"../x": "0"}}},
        {"a/b": PIN | {"run": {"x": 0}}},
    ],
)
def test_pins_of_another_form_are_one_error(home: Path, content: object) -> None:
    home.mkdir()
    rundir.write_json(home / "pins.json", content)
    with pytest.raises(UserError, match=r"pins\.json"):
        pins.read_pin("a/b")
    rundir.write_json(home / "pins.json", {"a/b": PIN | {"run": {"x/y": "0"}}, "a/c": PIN})
    assert pins.read_pin("a/b") == Pin(COMMIT, "0", "x", None, True, {"x/y": "0"})
    assert pins.read_pin("a/c") == Pin(COMMIT, "0", "x", None, True)


@pytest.mark.parametrize("asked", ["²", "9" * 400, "-5", "", "soon"])
def test_a_wait_that_is_no_number_is_not_asked_for(asked: str) -> None:
    assert asked_wait_s({"Retry-After": asked}) is None
    assert asked_wait_s({"Retry-After": "7"}) == 7


def test_a_download_that_is_refused_is_not_taken_for_a_lost_network() -> None:
    answer = Response(403, request=Request("GET", "http://hub.example/x"))
    with (
        pytest.raises(UserError, match="seen HTTP status 403: the token may not read"),
        explained(Words("a/b", "What works without it", "main")),
    ):
        raise LocalEntryNotFoundError("no file") from HfHubHTTPError("no", response=answer)
