"""What one stranger may hold or try, part by part: uploads, logins, corrections, the watched
bundle, the card."""

import asyncio
import json
import logging
import os
import re
import resource
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from serve.engine import reload
from serve.engine.answer_queue import AnswerQueue
from serve.http import bodies
from serve.http.few_lines import LINES, MESSAGES, WINDOW_S, FewLines
from serve.http.headers import passed_on
from serve.http.page_calls import Function, PageCalls, RefusedCall
from serve.http.repeat import Repeat
from serve.limits import budgets, uploads
from serve.limits.logins import Keys, Logins
from serve.limits.uploads import BLOCK, Full, Uploads
from serve.page import model_text
from serve.page.feedback import LOG, UNWRITTEN, Feedback
from tests.bad_pictures import encode, photo
from tests.serve.running import carded, served_bundle
from tests.zoo.made_bundle import LABELS, made_bundle
from zoo.answer import self_check
from zoo.answer.self_check import Checked
from zoo.contract import bundle, rundir
from zoo.host.errors import BadImage, UserError
from zoo.publish.card_sections import recipe_table

RIGHT = b"Bearer secret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "uploads").mkdir()
    return tmp_path / "uploads"


# --- uploads


def test_only_files_in_the_folder_are_read(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    (tmp_path / "uploads-too").mkdir()
    (tmp_path / "uploads-too" / "x").write_bytes(b"secret")
    own = Uploads(folder, quota_bytes=10**9)
    place = own.new_folder() / "x.png"
    place.write_bytes(b"mine")
    assert own.read(str(place), 4) == b"mine"
    (folder / "link.png").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path)
    (folder / "empty").mkdir()
    os.mkfifo(folder / "fifo")
    hostile: list[Any] = [
        str(secret),
        "/etc/passwd",
        "/etc",
        "/dev/zero",
        "/nonexistent",
        "",
        "x",
        None,
        3,
        {},
        [],
        True,
        str(folder),
        f"{folder}/",
        f"{folder}/link.png",
        f"{folder}/linked/secret.png",
        f"{folder}/../secret.png",
        f"{folder}/empty",
        f"{folder}/fifo",
        f"{folder}//{place.parent.name}/x.png",
        f"{folder}/./{place.parent.name}/x.png",
        f"{folder}-too/x",
        f"{place}\0.png",
        f"file://{place}",
        "http://127.0.0.1/x.png",
        f"{folder}/" + "a" * 5000,
        f"{folder}/\ud800",
        f"{place}/x",
        os.path.relpath(place),
    ]
    reasons = set()
    for path in hostile:
        with pytest.raises(BadImage) as refused:
            own.read(path, 100)
        reasons.add(str(refused.value))
    with pytest.raises(BadImage) as refused:
        own.read(str(place), 3)
    assert reasons == {str(refused.value)} == {f"picture: {uploads.ELSEWHERE}"}


def test_the_folder_of_uploads_stays_below_its_quota(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "example.png").write_bytes(bytes(BLOCK))
    own = Uploads(folder, quota_bytes=30 * BLOCK, quota_files=6)
    own.keep()

    def write(count: int) -> None:
        for _ in range(count):
            with own.room(3 * BLOCK, 1):
                (own.new_folder() / "x").write_bytes(bytes(3 * BLOCK))
                own.wrote(3 * BLOCK)

    write(5)
    with pytest.raises(Full), own.room(1, 1):  # six files, all young
        pass
    monkeypatch.setattr(uploads, "YOUNG_S", -1.0)
    write(3)  # the oldest make room
    assert (folder / "example.png").exists()
    assert len([*folder.glob("*/x")]) == 5
    with pytest.raises(Full), own.room(40 * BLOCK, 1):
        pass
    (folder / "broken-off").write_bytes(b"x")
    monkeypatch.setattr(uploads, "KEPT_S", -1.0)
    own.sweep()
    assert [path.name for path in folder.iterdir()] == ["example.png"]


def test_an_event_is_written_anew(folder: Path) -> None:
    own = Uploads(folder)
    place = own.new_folder() / "x.png"
    place.write_bytes(b"mine")
    calls = PageCalls(
        {
            0: Function("", ("number",), queued=False),
            1: Function("predict", ("file",)),
            2: Function("many", ("files",)),
            3: Function("correct", ("file", "text")),
        },
        own,
    )
    evil = {
        "path": str(place),
        "url": "http://127.0.0.1/x",
        "is_stream": True,
        "orig_name": "../../x",
        "meta": None,
        "nested": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    }
    plain = {"path": str(place), "meta": {"_type": "gradio.FileData"}}
    body = {
        "data": [evil],
        "session_hash": "abc",
        "event_data": {"path": "/etc/passwd"},
        "oauth_token": "x",
        "fn_index": 1,
        "batched": True,
        "trigger_id": "x",
        "event_id": "y",
        "request": {},
    }
    written = json.loads(calls.plain(json.dumps(body).encode(), "/gradio_api/queue/join"))
    assert written == {"data": [plain], "session_hash": "abc", "fn_index": 1, "trigger_id": None}
    assert json.loads(calls.plain(b'{"data": [null]}', "/gradio_api/call/predict"))["data"] == [
        None
    ]
    refused = [
        ("queue/join", {"data": [{"path": "/etc/passwd"}], "fn_index": 1}),
        (
            "queue/join",
            {
                "data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}],
                "fn_index": 1,
            },
        ),
        ("queue/join", {"data": [str(place)], "fn_index": 1}),
        ("queue/join", {"data": [[plain]], "fn_index": 1}),
        ("queue/join", {"data": [{"url": "http://127.0.0.1/"}], "fn_index": 1}),
        ("queue/join", {"data": [[plain, {"path": "/dev/zero"}]], "fn_index": 2}),
        ("queue/join", {"data": [plain], "fn_index": 9}),
        ("queue/join", {"data": [plain], "fn_index": [1]}),
        ("queue/join", {"data": [plain], "fn_index": True, "session_hash": "../x"}),
        ("queue/join", {"data": [], "fn_index": 1}),
        ("queue/join", {"data": {"0": plain}, "fn_index": 1}),
        ("queue/join", {"data": [plain, ["x"]], "fn_index": 3}),
        ("queue/join", [1]),
        ("run/predict", {"data": [plain], "fn_index": 1}),
        ("run/x", {"data": [1e308], "fn_index": 0}),
        ("run/x", {"data": ["1"], "fn_index": 0}),
        ("call/nothing", {"data": []}),
        ("call/", {"data": [1]}),
    ]
    for path, content in refused:
        with pytest.raises(RefusedCall):
            calls.plain(json.dumps(content).encode(), f"/gradio_api/{path}")
    for raw in (
        b"[" * 100_000,
        b"{",
        b"\xff",
        b'{"data": [NaN], "fn_index": 0}',
        b'{"data":' * 50_000,
        b"1" * 9_999,
    ):
        with pytest.raises(RefusedCall):
            calls.plain(raw, "/gradio_api/queue/join")


@pytest.mark.parametrize(
    ("number", "taken"),
    [
        ("0", True),
        ("-0.0", True),
        ("7", True),
        ("-999999", True),
        ("999999.5", True),
        ("1e5", True),
        ("1e-400", True),
        ("1000000", False),
        ("-1e6", False),
        ("9" * 400, False),
        ("-" + "9" * 4000, False),
        ("9" * 9000, False),
        ("1e400", False),
        ("-1e400", False),
        ("NaN", False),
        ("Infinity", False),
        ("-Infinity", False),
        ("true", False),
        ("false", False),
        ('"7"', False),
        ("[7]", False),
        ("07", False),
        ("0x7", False),
        ("1_000", False),
        ("+7", False),
    ],
)
@pytest.mark.parametrize("place", ["data", "fn_index", "trigger_id"])
def test_a_number_of_an_event_is_small_and_finite_or_refused(
    folder: Path, number: str, taken: bool, place: str
) -> None:
    calls = PageCalls({7: Function("", ("number",)), 0: Function("", ("number",))}, Uploads(folder))
    content = {"data": "[1]", "fn_index": "7", "trigger_id": "3"}
    content[place] = f"[{number}]" if place == "data" else number
    body = "{" + ", ".join(f'"{key}": {value}' for key, value in content.items()) + "}"
    try:
        written = json.loads(calls.plain(body.encode(), "/gradio_api/queue/join"))
    except RefusedCall:
        assert place != "data" or not taken
        return
    assert set(written) == {"data", "session_hash", "fn_index", "trigger_id"}
    # of which what is no number of an element is not passed on
    assert taken or place == "trigger_id"
    assert type(written["fn_index"]) is int
    assert written["trigger_id"] is None or (
        type(written["trigger_id"]) is int and 0 <= written["trigger_id"] < 10_000
    )


@pytest.mark.parametrize(
    ("chunk", "pause_s", "arrives"), [(1, 0.02, False), (400, 0.02, True), (400, 9.0, False)]
)
def test_a_body_that_trickles_gives_its_place_back(
    monkeypatch: pytest.MonkeyPatch, chunk: int, pause_s: float, arrives: bool
) -> None:
    """Long before a deadline of minutes; one that arrives at a usual rate is taken."""
    monkeypatch.setattr(bodies, "BEGIN_S", 0.2)
    rejected: list[str] = []
    budget = bodies.Bodies(600.0, rejected.append)
    left = iter(range(40))

    async def slow() -> Message:
        await asyncio.sleep(pause_s)
        return {"type": "http.request", "body": b"x" * chunk, "more_body": next(left) < 39}

    async def read() -> bytes:
        with budget.counted(slow, "10.0.0.1", 10**6, in_memory=True) as receive:
            return await bodies.whole_body(receive)

    if arrives:
        assert len(asyncio.run(read())) == 40 * chunk
    else:
        with pytest.raises(HTTPException) as refused:
            asyncio.run(read())
        assert refused.value.status_code == 408
        assert rejected == ["body"]
    assert budget.has_room(budgets.BODIES_BYTES // 2, "10.0.0.1")


def test_lines_that_strangers_cause_are_counted_not_written() -> None:
    now, written = [0.0], []
    few = FewLines(lambda: now[0])

    def log(message: str, *arguments: object) -> None:
        record = logging.LogRecord(
            "uvicorn.error", logging.WARNING, "", 0, message, arguments, None
        )
        if few.filter(record):
            written.append(record.getMessage())

    for _ in range(10_000):
        log("Unsupported upgrade request.")
    log("another %s", "one")
    assert written == ["Unsupported upgrade request."] * LINES + ["another one"]
    now[0] = WINDOW_S
    for _ in range(10_000):
        log("Unsupported upgrade request.")
    assert len(written) == 2 * LINES + 1
    assert written[LINES + 1] == (
        f"Unsupported upgrade request. ({10_000 - LINES:,} more lines like it were not written)"
    )
    written.clear()
    for number in range(10_000):
        log(f"a new message {number}")
    assert len(written) <= MESSAGES + LINES
    now[0] = 2 * WINDOW_S
    log("another %s", "one")  # in its own words again
    assert written[-1] == "another one"


# --- logins


def test_wrong_credentials_have_to_wait_longer_each_time() -> None:
    now = [1000.0]
    logins = Logins(Keys(token="secret"), clock=lambda: now[0])
    waits = []
    for _ in range(14):
        assert not logins.check("1.2.3.4", b"Bearer wrong")
        waits.append(logins.wait_s("1.2.3.4"))
        now[0] += waits[-1]
    assert waits == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert logins.wait_s("5.6.7.8") == 0
    assert logins.check("1.2.3.4", RIGHT)
    assert not logins.check("1.2.3.4", b"Bearer wrong")
    assert logins.wait_s("1.2.3.4") == 0


def test_the_table_of_addresses_is_bounded_and_so_are_all_tries_together() -> None:
    now = [1000.0]
    logins = Logins(Keys(auth="ann:secret"), clock=lambda: now[0])
    assert logins.check("9.9.9.9", b"Basic YW5uOnNlY3JldA==")
    looked_at = 0
    for number in range(30_000):  # as many addresses, three seconds
        now[0] += 0.0001
        if not logins.wait_s(f"new{number}"):
            looked_at += 1
            logins.check(f"new{number}", b"Basic !")
    assert 60 <= looked_at <= 100
    assert logins.wait_s("9.9.9.9") == 0  # let in before
    for number in range(20_000):
        logins.check(f"other{number}", b"Bearer x")
    assert len(logins._tries) == 10_000


# --- shares of one address


def test_all_connections_that_may_be_held_are_fewer_than_there_are() -> None:
    for files in (192, 256, 512, 1024, 1160, 4096, 10**6):
        room = budgets.room(files)
        assert room.silent + room.streams + room.requests < room.connections
        assert room.streams_each < room.streams
        assert room.requests_each < room.requests
        assert room.connections + 3 * room.backlog + room.requests + budgets.OTHER_FILES <= files
    assert budgets.room(10**6) == budgets.Room()
    with pytest.raises(UserError, match=r"expected .* 192 files .*, seen .* 100\b"):
        budgets.room(100)


def test_bodies_of_one_address_take_half() -> None:
    bodies = budgets.Bytes(100)
    assert bodies.has_room(10**9, "a")  # a single larger request is taken alone
    assert bodies.take(30, "a", already=0)
    assert bodies.has_room(20, "a")
    assert not bodies.has_room(21, "a")
    assert bodies.has_room(70, "b")
    assert not bodies.has_room(71, "b")
    assert not bodies.take(30, "a", already=0)
    assert not bodies.take(30, "a", already=10)
    assert bodies.take(30, "b", already=0)
    bodies.give_back(30, "a")
    assert bodies.take(65, "a", already=0)  # a single larger one, where there is room
    assert not bodies.take(10, "a", already=65)
    bodies.give_back(65, "a")
    bodies.give_back(30, "b")
    assert bodies.held == 0
    assert not bodies._of
    assert bodies.take(200, "c", already=0)
    assert not bodies.take(1, "d", already=0)


def test_kills_make_an_address_wait() -> None:
    now = [1000.0]
    kills = budgets.Kills(clock=lambda: now[0])
    waits = []
    for _ in range(6):
        kills.add("evil")
        waits.append(kills.wait_s("evil"))
        now[0] += 60
    assert waits == [0, 10, 20, 40, 60, 60]
    now[0] += 121
    kills.add("evil")
    assert kills.wait_s("evil") == kills.wait_s("good") == 0
    for number in range(20_000):
        kills.add(f"other{number}")
    assert len(kills._of) == 10_000


def test_uploads_of_one_address_reserve_a_quarter(folder: Path) -> None:
    own = Uploads(folder, quota_bytes=400 * BLOCK, quota_files=40)
    with own.room(1, 8, "a"), own.room(1, 2, "a"):
        with pytest.raises(Full), own.room(1, 1, "a"):
            pass
        with own.room(1, 10, "b"):
            pass
    with own.room(200 * BLOCK, 1, "a"):  # a single larger one
        with pytest.raises(Full), own.room(1, 1, "a"):
            pass
        with own.room(50 * BLOCK, 1, "b"), own.room(1, 1):
            pass
    assert own._reserved.bytes == own._reserved.files == 0
    assert not own._reserved_by
    assert [uploads.files_in(size) for size in (0, 4096, 10**6, 256 * 10**6)] == [1, 2, 245, 1000]


def test_the_page_gets_listed_headers_only() -> None:
    plain = [
        (b"host", b"x"),
        (b"cookie", b"a=b"),
        (b"content-length", b"3"),
        (b"x-forwarded-proto", b"https"),
    ]
    hostile = [
        (name, b"evil")
        for name in (
            b"x-forwarded-host",
            b"x-gradio-server",
            b"x-gradio-user",
            b"x-forwarded-proto",
            b"x-forwarded-prefix",
            b"origin",
            b"referer",
            b"range",
            b"authorization",
            b"session_hash",
            b"transfer-encoding",
        )
    ]
    assert passed_on([*plain, *hostile]) == plain


# --- corrections


@pytest.fixture(scope="module")
def engine(served: Path) -> Any:
    with_model = AnswerQueue(
        reload.load_model(served, provider="cpu", threads=1),
        workers=1,
        waiting=8,
        deadline_s=20.0,
        max_pixels=10**6,
    )
    yield with_model
    with_model.close()


def on_disk(folder: Path) -> int:
    return sum(uploads.on_disk(path.stat().st_size) for path in folder.rglob("*") if path.is_file())


def test_corrections_are_counted_as_they_lie_on_disk(
    engine: AnswerQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Feedback(tmp_path)
    pictures = [encode(photo(40 + place), "PNG") for place in range(3)]
    for picture in pictures:
        assert "kept as red" in kept.store(engine, picture, "red")
    for label in ("red", "blue", "green", "green"):
        assert f"kept as {label}" in kept.store(engine, pictures[0], label)
    assert kept.size == on_disk(tmp_path)
    assert len([*tmp_path.glob("train/*/*")]) == 3
    (tmp_path / "train" / "red" / "cut.part").write_bytes(b"half")  # of a process that was killed
    again = Feedback(tmp_path)
    assert again.size == kept.size == on_disk(tmp_path)
    assert not (tmp_path / "train" / "red" / "cut.part").exists()
    assert len((tmp_path / LOG).read_text(encoding="utf-8").splitlines()) == 7
    monkeypatch.setattr("serve.page.feedback.MAX_BYTES", again.size + BLOCK)
    assert "is full" in again.store(engine, encode(photo(60), "PNG"), "red")  # 4 KB and its name
    assert "kept as red" in again.store(engine, pictures[0], "red")  # moved: no more than before
    assert again.size == on_disk(tmp_path)


def test_a_correction_is_kept_whole_or_not_at_all(engine: AnswerQueue, tmp_path: Path) -> None:
    kept, picture = Feedback(tmp_path), encode(photo(40), "PNG")
    for label in ("red", "blue") * 20:  # a log that is longer than a picture
        assert "Thank you" in kept.store(engine, picture, label)
    before, size = (tmp_path / LOG).read_bytes(), kept.size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
    try:
        assert len(encode(photo(41), "PNG")) < len(before)
        assert kept.store(engine, encode(photo(41), "PNG"), "red") == UNWRITTEN
        assert kept.store(engine, picture, "red") == UNWRITTEN
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / LOG).read_bytes() == before
    assert [path.parent.name for path in tmp_path.glob("train/*/*")] == ["blue"]
    assert kept.size == size == on_disk(tmp_path)
    assert "kept as red" in kept.store(engine, encode(photo(41), "PNG"), "red")


def test_two_services_and_an_owner_share_the_folder_of_corrections(
    engine: AnswerQueue, tmp_path: Path
) -> None:
    """Of one picture the last class holds, whichever service was told; a folder that was taken away
    begins anew."""
    picture, folder = encode(photo(), "PNG"), tmp_path / "corrections"
    services = Feedback(folder), Feedback(folder)
    for service, label in zip((*services, services[0]), ("red", "blue", "red"), strict=True):
        assert service.store(engine, picture, label) == f"Thank you: kept as {label}."
        assert [path.parent.name for path in folder.rglob("*.png")] == [label]
    before = services[0].size
    folder.rename(tmp_path / "taken")
    assert services[0].store(engine, picture, "red") == "Thank you: kept as red."
    assert len([*folder.rglob("*.png")]) == 1
    assert services[0].size <= before


def test_labels_that_are_no_folder_are_not_kept(engine: AnswerQueue, tmp_path: Path) -> None:
    kept, labels = Feedback(tmp_path), engine.model.predictor.bundle.labels
    hostile = (
        "../x",
        "/x",
        "a/b",
        "a\\b",
        ".",
        "..",
        ".x",
        "",
        " x",
        "x.",
        "CON",
        "nul.txt",
        "a\nb",
        "\x1b[2J",
        "é" * 101,
        "\ud800",
    )
    object.__setattr__(engine.model.predictor.bundle, "labels", (*labels, *hostile))
    try:
        for label in hostile:
            assert kept.store(engine, encode(photo(), "PNG"), label) == "This class cannot be kept."
    finally:
        object.__setattr__(engine.model.predictor.bundle, "labels", labels)
    assert [path.name for path in tmp_path.rglob("*")] == ["train"]


# --- many pictures


def test_many_pictures_are_answered_within_a_time(
    engine: AnswerQueue, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # imports Gradio, for 4 seconds: not in every process that collects this file
    from serve.page import many_pictures

    own = Uploads(folder)
    paths = []
    for number in range(3):
        paths.append(str(own.new_folder() / "x.png"))
        Path(paths[-1]).write_bytes(encode(photo(40 + number), "PNG"))

    def answered() -> str:
        rows, shown = many_pictures.answer_all(engine, own, paths, 10**6)
        assert len(rows) == len(shown)
        return many_pictures.summarize(rows, len(paths))

    assert "3 of 3 pictures answered" in answered()
    monkeypatch.setattr(many_pictures, "LONGEST_S", -1.0)
    assert "0 of 3 pictures were answered" in answered()
    monkeypatch.undo()
    monkeypatch.setattr(engine, "closing", lambda: True)
    assert "0 of 3 pictures were answered" in answered()


def test_pictures_of_the_page_belong_to_the_address_that_asks() -> None:
    import gradio as gr

    from serve.page.settings import owner_of

    assert owner_of(None) == ""
    asked = Request({"type": "http", "client": ("2001:db8::1:2:3:4", 5)})
    assert owner_of(gr.Request(asked)) == "2001:db8::/64"
    assert owner_of(gr.Request(Request({"type": "http", "client": None}))) == "unknown"


# --- the watched bundle


def test_the_watch_survives_what_becomes_of_its_folder(tmp_path: Path) -> None:
    folder = served_bundle(tmp_path / "run") / "bundles" / "onnx"
    spare = shutil.copytree(folder, tmp_path / "spare")

    def load() -> reload.Model:
        return reload.load_model(folder, provider="cpu", threads=1)

    engine = AnswerQueue(load(), workers=1, waiting=1, deadline_s=5.0, max_pixels=10**6)
    told: list[str] = []
    watch = reload.Watch(engine, load, told.append)
    examples = f"{bundle.EXAMPLES}/{bundle.EXPECTED}"
    breaks = {
        examples: [
            "[]",
            "3",
            "null",
            '{"red.png": []}',
            '{"red.png": {"probabilities": [1]}}',
            "[" * 100_000,
            '{"../../config.json": {"probabilities": [1, 0, 0]}}',
            '{"red.png": {"probabilities": ["x", 1, {}]}}',
        ],
        bundle.FINISHED: [
            "[]",
            "{}",
            "[" * 100_000,
            '{"version": 1, "files": []}',
            '{"version": 1, "files": {"a": 1}}',
            "\0",
        ],
    }
    for name, contents in breaks.items():
        for content in contents:
            shutil.rmtree(folder)
            shutil.copytree(spare, folder)
            (folder / name).write_text(content, encoding="utf-8")
            if name == examples:
                bundle.finish(folder)
            count = len(told)
            watch.look()
            watch.look()  # what did not change is not tried again
            assert told[count:] == ["refused"], (name, content[:40])
    shutil.rmtree(folder)
    folder.write_text("a file", encoding="utf-8")
    watch.look()
    folder.unlink()
    folder.mkdir()
    with open(folder / bundle.FINISHED, "wb") as file:
        file.truncate(10**12)
    started = time.monotonic()
    watch.look()
    (folder / bundle.FINISHED).unlink()
    os.mkfifo(folder / bundle.FINISHED)
    watch.look()
    assert time.monotonic() - started < 5
    shutil.rmtree(folder)
    shutil.copytree(spare, folder)
    with open(folder / bundle.FINISHED, "a", encoding="utf-8") as file:
        file.write(" ")
    watch.look()
    assert told[-1] == "swapped"
    engine.close()


@pytest.mark.parametrize("labels", [["red", "green", "violet"], ["blue", "red", "green"]])
def test_a_page_keeps_its_classes(labels: list[str], tmp_path: Path) -> None:
    """Its title, examples and corrections were made for those it started with; their order may
    change."""
    folder = served_bundle(tmp_path / "run") / "bundles" / "onnx"
    engine = AnswerQueue(
        reload.load_model(folder, provider="cpu", threads=1),
        workers=1,
        waiting=1,
        deadline_s=5.0,
        max_pixels=10**6,
    )
    new = made_bundle(tmp_path / "new", labels=labels)
    told: list[str] = []

    def load() -> reload.Model:
        return reload.load_model(new, provider="cpu", threads=1)

    shutil.copyfile(new / bundle.FINISHED, folder / bundle.FINISHED)
    reload.Watch(engine, load, told.append, keep_classes=True).look()
    assert told == (["refused"] if "violet" in labels else ["swapped"])
    reload.Watch(engine, load, told.append).look()
    assert engine.model.predictor.bundle.labels == tuple(labels)
    engine.close()


def test_a_round_that_fails_does_not_end_the_thread() -> None:
    rounds: list[int] = []

    def work() -> None:
        rounds.append(1)
        raise (SystemExit, RecursionError, MemoryError, StopIteration, KeyboardInterrupt)[
            len(rounds) % 5
        ]

    thread = Repeat(work, seconds=0.001, name="test")
    thread.start()
    deadline = time.monotonic() + 10
    while len(rounds) < 12 and time.monotonic() < deadline:
        time.sleep(0.01)
    thread.stop()
    assert len(rounds) >= 12


def test_a_round_that_never_ends_does_not_keep_the_service() -> None:
    begun, end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        end.wait(30)

    thread = Repeat(work, seconds=0.001, name="test")
    thread.start()
    assert begun.wait(10)
    started = time.monotonic()
    thread.stop(patience_s=0.1)
    assert time.monotonic() - started < 5
    end.set()


def test_slots_say_when_nobody_is_given_one() -> None:
    slots = budgets.Slots(2, 1)
    with slots.one("a") as first, slots.one("a") as again:
        assert (first, again, slots.full()) == (True, False, False)
        with slots.one("b") as second:
            assert second
            assert slots.full()
    assert not slots.full()


# --- the card


class _Engine:
    """As much of an engine as the card looks at."""

    def __init__(self, found: bundle.Bundle):
        predictor = type(
            "Predictor",
            (),
            {"bundle": found, "provider": "cpu", "checked": Checked(3, 2e-7, "before")},
        )
        self.model = type("Model", (), {"predictor": predictor, "name": "x"})


def about(folder: Path) -> str:
    return model_text.markdown(_Engine(bundle.open_bundle(folder)))  # type: ignore[arg-type]


def test_the_card_is_shown_if_the_run_lists_it(tmp_path: Path) -> None:
    folder = carded(
        tmp_path / "run",
        "---\nlicense: x\n---\n# Mine\n\nthe card\n\n## Limits\n- its own\n\n## Recipe\nfast\n",
    )
    assert (
        about(folder).index("## Limits\n")
        < about(folder).index("- its own\n")
        < about(folder).index("## Recipe")
    )
    assert "the card" in about(folder)
    assert "license" not in about(folder)
    assert about(folder).count("## Limits\n") == 1
    assert " Here it answers on cpu: 3 pictures differ by at most 2e-07 from before.\n" in about(
        folder
    )
    # a bundle from elsewhere beside this card
    other = served_bundle(tmp_path / "other") / "bundles" / "onnx"
    shutil.rmtree(folder)
    shutil.copytree(other, folder)
    assert "the card" not in about(folder)
    folder = carded(tmp_path / "linked", "the card")
    secret = tmp_path / "secret"
    shutil.copyfile(tmp_path / "linked" / rundir.CARD, secret)
    (tmp_path / "linked" / rundir.CARD).unlink()
    (tmp_path / "linked" / rundir.CARD).symlink_to(secret)
    assert "the card" not in about(folder)
    folder = carded(tmp_path / "changed", "the card")
    (tmp_path / "changed" / rundir.CARD).write_text("another card", encoding="utf-8")
    assert "another card" not in about(folder)


@pytest.mark.parametrize("address", ["figures/x.svg", "http://x.example/x.png", ""])
def test_a_picture_of_the_card_is_its_description(address: str, tmp_path: Path) -> None:
    text = about(carded(tmp_path / "run", f"# Mine\n\n!![]()[x](y) ![Right answers]({address})\n"))
    assert "(A picture, not shown here: Right answers)" in text
    assert "![" not in text
    assert not address or address not in text


def test_what_was_not_judged_is_said_in_the_proof(tmp_path: Path) -> None:
    folder = served_bundle(tmp_path / "run") / "bundles" / "onnx"
    rungs = [
        {"name": "probabilities", "worst": 0.3, "limit": None, "pictures": 5},
        {"name": "embedding", "worst": None, "limit": None, "pictures": 5},
        {"name": "pixels", "worst": 0.5, "limit": 1, "pictures": 7},
    ]
    rundir.write_json(folder / bundle.PARITY, {"rungs": rungs})
    bundle.finish(folder)
    for line in (
        "| probabilities | 0.3 | not judged | 5 |",
        "| embedding | not judged | not judged | 5 |",
        "| pixels | 0.5 | 1 | 7 |",
    ):
        assert line in about(folder)


@pytest.mark.parametrize(
    "card",
    ["`<b>`", "`` <b> ``", "\\`<b>`", "`<b>", "<b>`", "`x\n<b>`", "```\n<b>\n```", "`<\u2060<b>`"],
)
def test_names_in_code_are_shown_as_they_are_and_are_no_html(card: str, tmp_path: Path) -> None:
    text = about(carded(tmp_path / "run", f"# Mine\n\n{card}\n"))
    assert not re.search(r"<[A-Za-z/!?]", text)
    if card == "`<b>`":
        assert card in text.replace("\u2060", "")


def test_the_settings_that_are_off_are_folded_and_nothing_else_is_html(tmp_path: Path) -> None:
    recipe = {
        name: {"value": value, "why": why}
        for name, value, why in (
            ("lr", 0.1, "<b>"),
            ("ema", 0.0, "off"),
            ("seed", "</details><script>", "default"),
        )
    }
    text = about(
        carded(tmp_path / "run", f"# Mine\n\n<details>\n\n## Recipe\n{recipe_table(recipe)}\n")
    )
    assert (
        "\n<details><summary>2 further settings are off or at their usual value</summary>\n\n|"
        in text
    )
    assert text.endswith("\n\n</details>")
    assert len(re.findall("<(?!\u2060)", text)) == 4  # what follows "<" keeps it from being HTML
    unclosed = about(
        carded(tmp_path / "other", "## Recipe\n<details><summary>2 further settings x</summary>\n")
    )
    assert "<" not in unclosed


@pytest.mark.parametrize(
    "card",
    [
        "<details><summary>2 further settings x</summary>\n" * 2_000,
        "![](" * 24_000,
        "<" * 99_000,
        "---\n" + "a\n" * 40_000,
        "![" * 49_000,
        "---\n" * 24_000,
        "[" * 99_000,
        "<!--" * 24_000,
        "\r" * 99_000,
        "x" * 2_000_000,
        "![](" * 80_000,
    ],
)
def test_a_card_is_cleaned_in_linear_time(card: str, tmp_path: Path) -> None:
    folder = carded(tmp_path / "run", card)
    found = bundle.open_bundle(folder)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        text = model_text.markdown(_Engine(found))  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.1
    assert "![" not in text
    assert "<" not in text
    assert len(text) < 600_000


def test_examples_are_files_that_the_manifest_lists(tmp_path: Path) -> None:
    folder = served_bundle(tmp_path / "run") / "bundles" / "onnx"
    (tmp_path / "run" / "private.png").write_bytes(encode(photo(), "PNG"))
    (folder / bundle.EXAMPLES / "unlisted.png").write_bytes(encode(photo(), "PNG"))
    shown = [path.name for path, _ in self_check.examples(bundle.open_bundle(folder))]
    assert shown == [f"{label}.png" for label in LABELS]
    answer = {"probabilities": [1, 0, 0], "label": "red", "probability": 1}
    for name in (
        "../../../private.png",
        "unlisted.png",
        str(tmp_path / "run" / "private.png"),
        ".",
        "",
        "..",
        "../bundle.json",
    ):
        expected = folder / bundle.EXAMPLES / bundle.EXPECTED
        rundir.write_json(expected, {name: answer})
        (folder / bundle.EXAMPLES / "unlisted.png").unlink(missing_ok=True)
        bundle.finish(folder)
        (folder / bundle.EXAMPLES / "unlisted.png").write_bytes(encode(photo(), "PNG"))
        with pytest.raises(UserError, match="expected names of pictures of this folder"):
            self_check.examples(bundle.open_bundle(folder))
