"""Stopping, overload, silent connections: over real processes and sockets."""

import asyncio
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from serve.http import few_lines, life
from serve.http.life import on_signals
from serve.limits.budgets import CONNECTIONS
from tests.bench.hostile import BOUNDARY, form
from tests.serve.running import Running, ask, noise_png, running
from zoo.answer.predict import Predictor


def connect(service: Running) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def test_what_is_in_flight_at_sigterm_is_answered(served: Path, tmp_path: Path) -> None:
    """16 requests that take a second, then SIGTERM: not ready at once, 16 right answers, exit code
    0."""
    pictures = [noise_png(1000, seed) for seed in range(3)]
    right = [float(Predictor(served).predict(picture).probabilities.max()) for picture in pictures]
    with running(tmp_path / "log", served, "--api-only", "--workers", "1") as service:
        sent = [HTTPConnection(service.url.removeprefix("http://"), timeout=60) for _ in range(16)]
        for place, connection in enumerate(sent):
            # of two addresses: the bodies are more than one may have in memory
            headers = {"content-type": BOUNDARY, "x-forwarded-for": f"10.0.0.{place % 2}"}
            connection.request("POST", "/v1/predict", form(pictures[place % 3]), headers)
        stopping = threading.Thread(target=service.stop)
        stopping.start()
        time.sleep(0.15)
        assert httpx.get(f"{service.url}/readyz").status_code == 503
        assert httpx.get(f"{service.url}/healthz").status_code == 200
        answered = re.search(
            r'route="/v1/predict",status="200"\} (\d+)', httpx.get(f"{service.url}/metrics").text
        )
        assert not answered or int(answered[1]) < 8
        for place, connection in enumerate(sent):
            answer = connection.getresponse()
            assert answer.status == 200
            assert (
                json.loads(answer.read())["predictions"][0]["top"][0]["probability"]
                == right[place % 3]
            )
            connection.close()
        stopping.join(20)
        assert service.process.returncode == 0
        assert service.log.read_text() == ""


def test_a_second_signal_ends_it_at_once(served: Path, tmp_path: Path) -> None:
    """In the middle of answers, and of a body that never arrives: without a line in the log."""
    with running(tmp_path / "log", served, "--api-only", "--workers", "1") as service:
        picture = noise_png(1000)
        sent = [HTTPConnection(service.url.removeprefix("http://"), timeout=60) for _ in range(4)]
        for connection in sent:
            connection.request("POST", "/v1/predict", form(picture), {"content-type": BOUNDARY})
        with connect(service) as unfinished:
            unfinished.sendall(
                b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"
            )
            service.process.send_signal(signal.SIGINT)
            while httpx.get(f"{service.url}/readyz").status_code == 200:
                time.sleep(0.02)
            service.process.send_signal(signal.SIGINT)
            assert service.process.wait(15) == 0
        for connection in sent:
            connection.close()
        assert service.log.read_text() == ""


def test_signals_stop_it_where_the_loop_has_no_handlers() -> None:
    """As on Windows."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    calls: list[str] = []

    async def wait() -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()

        class Windows:
            def add_signal_handler(self, *_: object) -> None:
                raise NotImplementedError

            def call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
                loop.call_soon_threadsafe(callback)

        def stop() -> None:
            calls.append("stop")
            stopped.set()

        on_signals(Windows(), stop)  # type: ignore[arg-type]
        for number in before:
            signal.raise_signal(number)
            await asyncio.wait_for(stopped.wait(), 5)
            stopped.clear()

    try:
        asyncio.run(wait())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert calls == ["stop", "stop"]


def test_more_than_it_can_do_is_refused_with_a_time(served: Path, tmp_path: Path) -> None:
    """16 clients against a queue of 2 for a second: only 200 and 503, not ready meanwhile, ready
    again after."""
    picture = noise_png(700)
    with running(
        tmp_path / "log", served, "--api-only", "--workers", "1", "--queue", "2"
    ) as service:
        seen: list[httpx.Response] = []
        end = time.monotonic() + 1

        def hammer() -> None:
            with httpx.Client() as client:
                while time.monotonic() < end:
                    seen.append(ask(service.url, picture, client=client))

        with ThreadPoolExecutor(16) as pool:
            waiting = [pool.submit(hammer) for _ in range(16)]
            for one in waiting:
                one.result()
        assert {answer.status_code for answer in seen} == {200, 503}
        refused = next(answer for answer in seen if answer.status_code == 503)
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"].startswith("Too many pictures are waiting")
        assert httpx.get(f"{service.url}/readyz").status_code == 200
        many = ask(service.url, *[picture] * 4)  # more than the queue holds: all or nothing
        assert many.status_code == 503
        assert service.stop() == 0


def test_deadlines_and_slow_bodies(served: Path, tmp_path: Path) -> None:
    with running(
        tmp_path / "log", served, "--api-only", "--workers", "1", "--deadline-s", "0.8"
    ) as service:
        with ThreadPoolExecutor(8) as pool:
            large = noise_png(1400)
            answers = [
                answer.status_code
                for answer in pool.map(lambda _: ask(service.url, large), range(8))
            ]
        assert set(answers) <= {200, 408, 504}
        assert 504 in answers
        with connect(service) as slow:
            slow.sendall(
                b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b"content-length: 100\r\n\r\n{"
            )
            assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")
        for _ in range(20):
            with connect(service) as other:
                other.sendall(
                    b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n"
                    b"upgrade: websocket\r\n"
                    b"sec-websocket-key: eA==\r\nsec-websocket-version: 13\r\n\r\n"
                )
                assert other.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert 1 <= service.log.read_text().count("Unsupported upgrade request.") <= few_lines.LINES
        assert service.stop() == 0


def test_an_answer_does_not_wait_for_acknowledgements(service: Running) -> None:
    """40 ms without TCP_NODELAY, about 5 with it."""
    picture, seconds = noise_png(32), []
    with httpx.Client() as client:
        for _ in range(30):
            started = time.perf_counter()
            assert ask(service.url, picture, client=client).status_code == 200
            seconds.append(time.perf_counter() - started)
    assert sorted(seconds)[3] < 0.03


def test_half_open_connections_do_not_matter(service: Running) -> None:
    """200 that sent half a head and 200 that sent half a body: others are answered at once."""
    heads = [connect(service) for _ in range(200)]
    bodies = [connect(service) for _ in range(200)]
    try:
        for one in heads:
            one.sendall(b"POST /v1/predict HTTP/1.1\r\nhost: x\r\nx-half")
        for one in bodies:
            one.sendall(
                b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n"
                b"content-type: application/json\r\n\r\n{"
            )
        started = time.monotonic()
        assert httpx.get(f"{service.url}/readyz").status_code == 200
        assert ask(service.url, noise_png(32)).status_code == 200
        assert time.monotonic() - started < 3
    finally:
        for one in heads + bodies:
            one.close()


@pytest.mark.parametrize(
    ("since", "closed"),
    [
        ({"a": 100.0, "b": 100.0, "new": 100.0}, []),  # all of one look: the newest may be any
        ({"b": 99.8, "a": 99.5, "new": 100.0}, ["a"]),
        ({"a": 99.5, "b": 99.8}, []),  # no more than may wait
        ({"a": 100.0 - life.HEAD_S - 1}, ["a"]),
    ],
)
def test_a_request_that_has_just_come_is_no_silent_connection(
    since: dict[str, float], closed: list[str]
) -> None:
    assert life._waited_too_long(since, 100.0, 2) == closed


FEW_FILES = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
runpy.run_module("serve", run_name="__main__")
"""


def test_what_is_open_fits_the_files_that_a_process_may_open(served: Path, tmp_path: Path) -> None:
    """More connections than files: no error in the log, and others are answered at once or within a
    moment."""
    with running(tmp_path / "log", served, "--api-only", module=["-c", FEW_FILES]) as service:
        host, port = service.url.removeprefix("http://").split(":")
        silent = [socket.socket() for _ in range(400)]
        try:
            # without waiting: with few files, few connections wait to be accepted
            for connection in silent:
                connection.setblocking(False)
                connection.connect_ex((host, int(port)))
            deadline = time.monotonic() + 10
            while (answer := httpx.get(f"{service.url}/readyz")).status_code != 200:
                assert time.monotonic() < deadline, answer.text
                assert answer.json()["error"]
                time.sleep(0.2)
            assert ask(service.url, noise_png(32)).status_code == 200
        finally:
            for one in silent:
                one.close()
        assert service.stop() == 0
        # the 503 of that moment, and nothing else
        assert [
            line
            for line in service.log.read_text().splitlines()
            if "Exceeded concurrency limit" not in line
        ] == []


def test_connections_that_send_nothing_do_not_close_the_service(
    served: Path, tmp_path: Path
) -> None:
    """More than the service takes at all: those that wait longest make room for others within a
    second or two."""
    with running(tmp_path / "log", served, "--api-only") as service:
        silent = [connect(service) for _ in range(CONNECTIONS + 10)]
        try:
            seen = []
            for _ in range(20):
                time.sleep(0.5)
                seen.append(httpx.get(f"{service.url}/healthz").status_code)
                if seen[-1] == 200:
                    break
            assert seen[-1] == 200, seen
            assert ask(service.url, noise_png(32)).status_code == 200
        finally:
            for one in silent:
                one.close()
        assert service.stop() == 0
