"""Every route of a real service with hostile paths, headers and bodies, while good requests are
answered."""

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from serve.http import routes
from serve.limits import budgets
from tests import warm
from tests.bad_pictures import encode, photo
from tests.serve.running import Running, ask, running

FORM = "multipart/form-data; boundary=x"
JSON = {"content-type": "application/json"}
FILE = {"_type": "gradio.FileData"}
MORE_BYTES = 300_000_000
"""What the server's memory may grow by."""


def resident(service: Running) -> int:
    """Bytes of memory of the server's process."""
    status = Path(f"/proc/{service.process.pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1000


@pytest.fixture(scope="module", autouse=True)
def all_the_while(service: Running) -> Iterator[None]:
    """During all tests of this file: good requests are answered, and memory stays bounded."""
    picture, stop = encode(photo(), "PNG"), threading.Event()
    answers: list[int] = []
    peaks: list[int] = []
    before = resident(service)

    def good() -> None:
        while not stop.wait(0.2):
            answers.append(ask(service.url, picture).status_code)
            answers.append(httpx.get(f"{service.url}/healthz", timeout=10).status_code)
            peaks.append(resident(service))

    thread = threading.Thread(target=good)
    thread.start()
    yield
    stop.set()
    thread.join()
    assert set(answers) == {200}
    assert len(answers) > 20
    assert max(peaks) - before < MORE_BYTES


def connect(service: Running) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def raw(service: Running, head: str, body: bytes = b"") -> bytes:
    """The start of the answer to what no client library would send."""
    with connect(service) as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(head.encode("latin-1") + b"\r\n\r\n" + body)
        return connection.recv(65_536)
    return b""


# --- which routes there are


LISTING = """
import json, sys
from pathlib import Path
from serve.options import ServiceOptions
from serve.start import build_service

def paths_of(app):
    for route in app.routes:
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        if hasattr(inner, "routes") and not hasattr(route, "endpoint"):
            yield from paths_of(inner)
        else:
            yield from ((method, route.path) for method in route.methods)

with build_service(ServiceOptions(Path(sys.argv[1]), feedback=Path(sys.argv[2]))) as built:
    app, page = built.app._app, built.app._page
    gradio = next(route.app for route in app.routes if type(route).__name__ == "Mount")
    blocks = gradio.get_blocks()
    functions = [[number, one.name, one.inputs, one.queued]
                 for number, one in page.calls.functions.items()]
    own = [(route.path, method) for route in app.routes
           if hasattr(route, "methods") and "gradio" not in route.path
           for method in route.methods - {"HEAD"}]
    print(json.dumps([own, [*paths_of(gradio)], functions, blocks.get_config_file()["dependencies"],
                      [*blocks.get_api_info()["named_endpoints"]]], default=str))
"""


def test_every_route_of_gradio_is_let_through_or_refused_by_name(
    served: Path, tmp_path: Path
) -> None:
    """And every function of the page, those that only the page calls included, has its inputs
    written down."""
    ran = warm.run(warm.GRADIO, ["-c", LISTING, served, tmp_path], check=True)
    own, listed, functions, dependencies, named = json.loads(ran.stdout)
    found = {(method, path) for method, path in listed if path != "/openapi.json"}
    allowed = {(route.method, route.template) for route in routes.ALLOWED}
    assert len(found) > 60
    assert sorted(own) == sorted([*pair] for pair in routes.API.items())
    assert {path for _, path in found - allowed if path not in routes.REFUSED} <= {
        path for _, path in allowed
    }
    assert allowed <= found  # nothing is let through that there is not
    assert set(routes.REFUSED) <= {path for _, path in found} - {path for _, path in allowed}
    for path in routes.REFUSED:
        for method in ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"):
            assert routes.find_route(method, re.sub(r"\{[^}]*\}", "x", path)) is None
    assert functions == [
        [0, "", ["number"], False],
        [1, "correct", ["file", "text"], True],
        [3, "predict", ["file"], True],
        [4, "predict_many", ["files"], True],
        [5, "partial", [], True],
        [6, "partial_1", [], True],
    ]
    assert [one["id"] for one in dependencies if one["backend_fn"]] == [
        number for number, *_ in functions
    ]
    assert {f"/{name}" for _, name, *_ in functions if name} == set(named)


def test_what_is_not_let_through_is_not_found(service: Running) -> None:
    with httpx.Client(base_url=service.url, timeout=10) as client:
        for path in (
            *routes.REFUSED,
            "/gradio_api/queue/data",
            "/gradio_api/queue/data?session_hash=x",
            "/gradio_api/call/predict/x",
            "/gradio_api/upload_progress?upload_id=x",
            "/docs",
            "/redoc",
            "/gradio_api",
            "/gradio_api/",
            "/.git/config",
            "/x",
            "/gradio_api/mcp/",
            "/assets/../../../etc/passwd",
            "/assets/%2e%2e/%2e%2e/etc/passwd",
            "/static//etc/passwd",
            "/static/..%2f..%2froutes.py",
            "/assets/",
            "/assets/.",
            "/assets/a/../b",
            "/gradio_api/heartbeat/" + "a" * 65,
            "/gradio_api/heartbeat/a b",
            "/gradio_api/heartbeat/é",
            "/gradio_api/heartbeat/a%0a",
            "/gradio_api/call/predict/x/y",
            "/a" * 3_000,
        ):
            for method in ("GET", "POST"):
                answer = client.request(method, re.sub(r"\{[^}]*\}", "x", path))
                assert answer.status_code in (404, 405), (method, path)
                assert "passwd" not in answer.text


# --- Law 1: paths


def hostile_files(secret: Path, mine: str) -> list[Any]:
    """What somebody puts in place of an upload."""
    paths = [
        str(secret),
        "/etc/passwd",
        "/nonexistent",
        "/etc",
        "/dev/null",
        "/dev/zero",
        "/proc/self/environ",
        "",
        "http://127.0.0.1:9/x.png",
        "https://example.org/x.png",
        f"file://{secret}",
        f"{mine}/../../../{secret}",
        str(Path(mine).parent),
        f"{mine}\0",
        "~/.ssh/id_rsa",
        "serve/page/mount.py",
        mine.replace("/", "//", 2),
    ]
    forms: list[Any] = []
    for path in paths:
        forms += [
            {"path": path},
            {"path": path, "meta": FILE},
            {"path": path, "meta": FILE, "url": mine, "is_stream": True, "orig_name": path},
        ]
    return [
        *forms,
        {"url": "http://127.0.0.1:9/", "meta": FILE},
        {"path": None},
        {"path": [str(secret)]},
        str(secret),
        7,
        True,
        [{"path": str(secret)}],
        {"path": {"path": str(secret), "meta": FILE}},
        {"image": {"path": str(secret), "meta": FILE}},
        "data:image/png;base64,AAAA",
    ]


def test_no_path_from_outside_is_read(service: Running, tmp_path: Path, feedback: Path) -> None:
    """`file_read.py` and others of its kind: one answer to all, whatever lies there."""
    secret = tmp_path / "private.png"
    secret.write_bytes(encode(photo(333), "PNG"))
    kept = len([*feedback.rglob("*")])
    with httpx.Client(base_url=service.url, timeout=30) as client:
        (mine,) = client.post(
            "/gradio_api/upload", files=[("files", ("x.png", encode(photo(), "PNG")))]
        ).json()
        good = {"path": mine, "meta": FILE}
        answers = set()
        for path, body in (
            ("run/x", {"data": [99], "fn_index": 0}),
            ("run/x", {"data": [None], "fn_index": 0}),
            ("run/predict", {"data": [good], "fn_index": 3}),
            ("call/correct", {"data": [good, "../x"]}),
            ("call/correct", {"data": [good, ["red"]]}),
        ):
            assert client.post(f"/gradio_api/{path}", json=body).status_code == 422
        for file in hostile_files(secret, mine):
            for path, body in (
                ("call/predict", {"data": [file]}),
                ("call/predict_many", {"data": [[file]]}),
                ("call/predict_many", {"data": [[good, file]]}),
                ("call/correct", {"data": [file, "red"]}),
                ("queue/join", {"data": [file], "fn_index": 3, "session_hash": "x"}),
            ):
                answer = client.post(f"/gradio_api/{path}", json=body)
                answers.add((answer.status_code, answer.text))
        assert answers == {
            (
                422,
                '{"error": "The picture cannot be read: it was not uploaded here, is gone, or is '
                'too large; upload it again."}',
            )
        }
        for path in (
            str(secret),
            "/etc/passwd",
            "/etc",
            "/nonexistent",
            f"{mine}/../x.png",
            "http://127.0.0.1:9/x",
            "https://example.org/x.png",
            str(Path(mine).parent),
            "serve/page/mount.py",
            "%2e%2e/x",
            "\0",
        ):
            for form in (path, quote(path, safe="")):
                answer = client.get(f"/gradio_api/file={quote(form, safe='%')}")
                assert (answer.status_code, answer.json()) == (404, {"error": "Not found."})
        shown = client.get(f"/gradio_api/file={mine}", headers={"range": "bytes=0-1,1-2,2-3"})
        assert (shown.status_code, shown.content) == (200, encode(photo(), "PNG"))
    assert len([*feedback.rglob("*")]) == kept


def test_uploads_are_whole_or_gone(service: Running) -> None:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        names = (
            "../../x.png",
            "/etc/passwd",
            "..",
            ".hidden",
            ".",
            "a" * 3_000 + ".png",
            "x\\..\\y.png",
            "é\u202e",
        )
        files = [("files", (name, b"x")) for name in names]
        paths = client.post("/gradio_api/upload", files=files).json()
        folder = Path(paths[0]).parent.parent
        assert {Path(path).parent.parent for path in paths} == {folder}
        assert len({*paths}) == len(files)
        assert not any(Path(path).name.startswith(".") for path in paths)
        before = {*folder.iterdir()}
        part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\nabc\r\n'
        headers = b"".join(b"h%d: x\r\n" % number for number in range(100_000))
        bodies = {
            "none": b"",
            "half": part[:-6],
            "no end": part,
            "many": part * 1_001 + b"--x--\r\n",
            "other": b"\0" * 9_999,
            "field": part.replace(b'; filename="x"', b""),
            "no name": part.replace(b'name="files"; ', b""),
            "headers": b"--x\r\n" + headers + b"\r\n",
            "long header": b"--x\r\nh: " + b"a" * 10**6 + b"\r\n\r\n",
            "large": part.replace(b"abc", bytes(20_000_001)) + b"--x--\r\n",
            "nested": b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n"
            + part * 10,
        }
        for name, body in bodies.items():
            answer = client.post(
                "/gradio_api/upload?upload_id=abc", content=body, headers={"content-type": FORM}
            )
            assert answer.status_code in (400, 413), name
            assert list(answer.json()) == ["error"]
        for kind in (
            "multipart/form-data",
            "multipart/form-data; boundary=" + "b" * 300,
            "text/plain",
            "\xff",
        ):
            assert (
                client.post(
                    "/gradio_api/upload",
                    content=part,
                    headers={"content-type": kind.encode("latin-1")},
                ).status_code
                == 400
            )
        head = (
            "POST /gradio_api/upload HTTP/1.1\r\nhost: x\r\ncontent-type: "
            f"{FORM}\r\ncontent-length: "
        )
        with connect(service) as connection:
            connection.sendall(f"{head}1000000\r\n\r\n".encode() + part + part[:-6])
            time.sleep(0.3)
        deadline = time.monotonic() + 5
        while {*folder.iterdir()} != before and time.monotonic() < deadline:
            time.sleep(0.1)
        assert {*folder.iterdir()} == before
        assert raw(service, f"{head}999999999").startswith(b"HTTP/1.1 413 ")


# --- Law 5: what is held


def test_event_streams_are_bounded(service: Running) -> None:
    """`sse.py`: 805 idle streams of one address, and of many."""
    streams: list[socket.socket] = []

    def open_stream(path: str, address: str) -> bytes:
        connection = connect(service)
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {address}\r\n\r\n".encode()
        )
        start = connection.recv(4_096)
        streams.append(connection) if start.startswith(b"HTTP/1.1 200 ") else connection.close()
        return start

    try:
        refused = []
        for number in range(budgets.STREAMS_EACH + 20):
            start = open_stream(f"/gradio_api/heartbeat/s{number}", "10.0.0.1")
            refused += [start] if b" 429 " in start[:14] else []
        assert len(streams) == budgets.STREAMS_EACH
        assert len(refused) == 20
        assert b"retry-after: 10" in refused[0]
        for number in range(budgets.STREAMS + 20):
            open_stream(f"/gradio_api/heartbeat/t{number}", f"10.0.{number // 9}.2")
        assert len(streams) == budgets.STREAMS
        assert ask(service.url, encode(photo(), "PNG")).status_code == 200
        assert httpx.get(f"{service.url}/readyz").status_code == 200
    finally:
        for stream in streams:
            stream.close()
    deadline = time.monotonic() + 20
    while b" 429 " in open_stream("/gradio_api/heartbeat/after", "10.0.0.1")[:14]:
        assert time.monotonic() < deadline, "closed streams are still counted"
        time.sleep(0.2)
    streams[-1].close()


def test_streams_that_are_open_at_the_end_leave_no_traceback(served: Path, tmp_path: Path) -> None:
    with running(tmp_path / "log", served, "--workers", "1") as own:
        streams = []
        for number in range(10):
            streams.append(connect(own))
            streams[-1].sendall(
                f"GET /gradio_api/heartbeat/s{number} HTTP/1.1\r\nhost: x\r\n"
                "x-forwarded-host: evil.example\r\nx-gradio-server: http://x:y\r\n\r\n".encode()
            )
            assert streams[-1].recv(4_096).startswith(b"HTTP/1.1 200 ")
        hostile = {"x-forwarded-host": "evil.example", "x-gradio-server": "http://x:y"}
        config = httpx.get(f"{own.url}/config", headers=hostile, timeout=20)
        assert config.status_code == 200
        assert "evil" not in config.text
        assert own.stop() == 0
        for stream in streams:
            received = b""
            while more := stream.recv(4_096):
                received += more
            stream.close()
            assert received.endswith(b"0\r\n\r\n")  # a whole answer
        assert own.log.read_text(encoding="utf-8") == ""


def test_bodies_in_memory_are_bounded(service: Running) -> None:
    """Twelve times 19 MB that are nearly there: what is too much is refused, the rest waited
    for."""
    head = b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    head += b"content-length: 19000001\r\n\r\n"
    held = []
    try:
        for _ in range(12):
            connection = connect(service)
            held.append(connection)
            with contextlib.suppress(ConnectionError, TimeoutError):
                connection.sendall(head + b"[" * 19_000_000)
        starts = []
        for connection in held:
            connection.settimeout(0.3)
            with contextlib.suppress(ConnectionError, TimeoutError):
                starts.append(connection.recv(4_096))
        assert sum(b" 503 " in start[:14] for start in starts) >= 6
        with connect(service) as late:  # refused by its head, before anything of it is read
            late.sendall(head)
            answer = late.recv(4_096)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 2\r\n" in answer
            # and its sender may go on for a while, or it would not read why
            late.sendall(b"[" * 1_000_000)
    finally:
        for connection in held:
            connection.close()


def test_pictures_of_a_form_take_no_open_files(service: Running) -> None:
    """Two forms of 16 files of 1.1 MB each that are nearly there."""

    def files() -> int:
        return len([*Path(f"/proc/{service.process.pid}/fd").iterdir()])

    part = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        + bytes(1_100_000)
        + b"\r\n"
    )
    head = f"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: {FORM}\r\ncontent-length: "
    before, held = files(), [connect(service), connect(service)]
    for connection in held:
        connection.sendall(f"{head}{16 * len(part) + 7}\r\n\r\n".encode() + part * 16)
    time.sleep(0.3)
    # those of the requests that are answered all the while
    assert files() <= before + len(held) + 8
    for connection in held:
        connection.sendall(b"--x--\r\n")
        assert b" 422 " in connection.recv(4_096)[:14]
        connection.close()


def test_a_client_that_leaves_is_no_error(service: Running) -> None:
    """In the middle of a body, of each kind, or before its answer: nothing in the log, and no
    status 500."""
    form = b'--x\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\n\r\n' + b"A" * 1_000
    picture = form[:-1_000] % b"file" + encode(photo(900, 700), "PNG") + b"\r\n--x--\r\n"
    log = service.log.read_text(encoding="utf-8")
    for path, kind, body, length in (
        ("v1/predict", "application/json", b'{"images":["' + b"A" * 1_000, 100_000),
        ("v1/predict", FORM, form % b"file", 100_000),
        ("v1/predict", "text/plain", b"x", 100_000),
        ("v1/predict?heatmap=true", FORM, picture, len(picture)),
        ("gradio_api/upload", FORM, form % b"files", 100_000),
        ("gradio_api/upload", FORM, b"", 100_000),
        ("gradio_api/upload?upload_id=x", FORM, form % b"files", 100_000),
        ("gradio_api/queue/join", "application/json", b'{"data"', 5_000),
        ("gradio_api/call/predict", "application/json", b"", 5_000),
        ("gradio_api/cancel", "text/plain", b"{", 99),
        ("v1/predict", FORM, b"4000\r\n" + form % b"file", None),
        ("nothing", FORM, b"x", 1_000),
    ):
        size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
        head = f"POST /{path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\n{size}\r\n\r\n"
        with connect(service) as connection:
            connection.sendall(head.encode() + body)
            time.sleep(0.05)
    time.sleep(0.5)
    assert service.log.read_text(encoding="utf-8") == log
    assert 'status="500"' not in httpx.get(f"{service.url}/metrics").text


BODIES = {
    "arrays": b'{"images":[' + b"[]," * 6_000_000 + b"[]]}",
    "numbers": b"[" + b"0," * 9_000_000 + b"0]",
    "deep": b"[" * 19_000_000,
    "objects": b'{"images":' * 1_900_000,
    "keys": b'{"a":1,' * 2_000_000,
    "not base64": b'{"images": ["' + b"!" * 19_000_000 + b'"]}',
    "escapes": b'{"images": ["' + rb"\u0041" * 3_000_000 + b'"]}',
    "base64": b'{"images": ["' + b"AAAA" * 4_500_000 + b'"]}',
    "zeros": bytes(19_000_000),
    "text": b"\xff" * 19_000_000,
}


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_refused_soon(name: str, service: Running) -> None:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        assert client.post("/v1/predict", content=BODIES[name], headers=JSON).status_code == 422
        for path in ("queue/join", "call/predict", "run/predict"):
            assert (
                client.post(
                    f"/gradio_api/{path}", content=BODIES[name][:490_000], headers=JSON
                ).status_code
                == 422
            )
        assert (
            client.post(
                "/gradio_api/cancel", content=BODIES[name][:490_000], headers=JSON
            ).status_code
            == 413
        )


def test_hostile_heads(service: Running) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nabc\r\n'
    for body in (
        part * 100_000,
        b"--x\r\n" + b"h: x\r\n" * 100_000,
        b"--x\r\n" * 1_000_000,
        b"--x\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n" * 100_000,
    ):
        answer = httpx.post(
            f"{service.url}/v1/predict", content=body, headers={"content-type": FORM}, timeout=20
        )
        assert answer.status_code in (400, 422)
    get, post = "GET /v1/models HTTP/1.1\r\nhost: x", "POST /v1/predict HTTP/1.1\r\nhost: x"
    heads = {
        "long path": "GET /" + "a" * 60_000 + " HTTP/1.1\r\nhost: x",
        "long query": "GET /v1/models?" + "a=1&" * 10_000 + " HTTP/1.1\r\nhost: x",
        "many headers": get + "\r\nh: x" * 30_000,
        "long header": f"{get}\r\nh: " + "a" * 1_000_000,
        "two lengths": f"{post}\r\ncontent-length: 1\r\ncontent-length: 2",
        "long number": f"{post}\r\ncontent-length: " + "9" * 5_000,
        "no http": "\0\1\2",
        "session": "GET /gradio_api/queue/data?session_hash="
        + "a" * 3_000
        + " HTTP/1.1\r\nhost: x",
        "address": "GET /nothing HTTP/1.1\r\nhost: x\r\nx-forwarded-for: " + "a," * 20_000,
    }
    for name, head in heads.items():
        answer = raw(service, head)
        assert not answer or re.match(rb"HTTP/1.1 4\d\d ", answer), (name, answer[:80])


def test_a_reader_who_does_not_read_is_dropped() -> None:
    import asyncio

    class Transport:
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    class Cycle:
        transport = Transport()

        async def send(self, message: Any) -> None:
            await asyncio.sleep(0.3)

    async def answer(seconds: float) -> bool:
        cycle = Cycle()
        cycle.transport = Transport()
        with budgets.answered_in(seconds, cycle.send):
            await cycle.send({})
        return cycle.transport.aborted

    assert asyncio.run(answer(0.05))
    assert not asyncio.run(answer(5.0))


# --- Law 4: the policy


def test_every_answer_has_the_policy(service: Running) -> None:
    for path in ("/", "/config", "/v1/models", "/nothing", "/healthz", "/gradio_api/info"):
        policy = httpx.get(service.url + path, timeout=20).headers["content-security-policy"]
        for rule in (
            "default-src 'self'",
            "img-src 'self' data: blob:",
            "object-src 'none'",
            "connect-src 'self'",
            "frame-ancestors 'self' https://huggingface.co",
        ):
            assert rule in policy
        assert "*" not in policy


def test_the_log_holds_no_traceback(service: Running) -> None:
    log = service.log.read_text(encoding="utf-8")
    assert "Traceback" not in log, log[:3_000]
    json.loads(httpx.get(f"{service.url}/healthz").text)
