"""A service under load, in a process of its own on this machine; the clients share its cores.

    python -m tests.bench.serve_load RUN PICTURE... --what throughput overload reloads hostile
    silent soak

RUN has a bundle for onnx; the pictures are what is sent. Each prints its figures and asserts what
is promised.
"""

import argparse
import itertools
import json
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from gradio_client import Client, handle_file

from tests.bench.hostile import BOUNDARY, form, hostile_requests
from tests.serve.running import Running, running
from zoo.answer.predict import Predictor
from zoo.contract import bundle, model_metadata, rundir


@dataclass
class Load:
    """What clients saw."""

    statuses: Counter[int]
    seconds: list[float]
    answers: list[Any]


def clients(
    service: Running,
    count: int,
    bodies: Sequence[bytes],
    *,
    seconds: float = 0,
    requests: int = 0,
    keep: bool = False,
) -> Load:
    """`count` clients on one connection each, for so many seconds or requests."""
    load, turn = Load(Counter(), [], []), itertools.count()
    end = time.monotonic() + seconds

    def client() -> None:
        connection = HTTPConnection(service.url.removeprefix("http://"), timeout=60)
        for place in turn:
            if place >= requests if requests else time.monotonic() >= end:
                break
            started = time.perf_counter()
            connection.request(
                "POST", "/v1/predict", bodies[place % len(bodies)], {"content-type": BOUNDARY}
            )
            answer = connection.getresponse()
            content = answer.read()
            load.seconds.append(time.perf_counter() - started)
            load.statuses[answer.status] += 1
            if keep:
                load.answers.append((place % len(bodies), answer.status, json.loads(content)))

        connection.close()

    with ThreadPoolExecutor(count) as pool:
        for one in [pool.submit(client) for _ in range(count)]:
            one.result()
    return load


def rss_mb(service: Running) -> float:
    return psutil.Process(service.process.pid).memory_info().rss / 1e6


def throughput(run: Path, pictures: list[Path], log: Path) -> None:
    """REST with 4 clients against a bare loop over the same bytes, and Gradio's own path, in
    turn."""
    contents = [path.read_bytes() for path in pictures]
    bodies, predictor, ratios = [form(content) for content in contents], Predictor(run), []
    with running(log, run, imports=None) as service:
        gradio = [Client(service.url, analytics_enabled=False, verbose=False) for _ in range(4)]
        clients(service, 4, bodies, requests=80)
        for _ in range(5):
            started = time.perf_counter()
            for place in range(400):
                predictor.predict(contents[place % len(contents)])
            bare = 400 / (time.perf_counter() - started)
            started = time.perf_counter()
            load = clients(service, 4, bodies, requests=400)
            rest = 400 / (time.perf_counter() - started)
            assert set(load.statuses) == {200}
            p50, p99 = np.quantile(load.seconds, [0.5, 0.99]) * 1e3
            started = time.perf_counter()
            with ThreadPoolExecutor(4) as pool:
                list(
                    pool.map(
                        lambda place: gradio[place % 4].predict(
                            handle_file(pictures[place % len(pictures)]), api_name="/predict"
                        ),
                        range(40),
                    )
                )
            page = 40 / (time.perf_counter() - started)
            ratios.append(rest / bare)
            print(
                f"bare loop {bare:.0f}/s, REST {rest:.0f}/s (ratio {rest / bare:.2f}), p50 "
                f"{p50:.1f} ms, p99 {p99:.1f} ms ({p99 / p50:.1f} x), Gradio's client {page:.1f}/s"
            )
    print(f"median ratio {median(ratios):.2f}")


def overload(run: Path, pictures: list[Path], log: Path) -> None:
    """Far more clients than places for 20 s."""
    bodies = [form(path.read_bytes()) for path in pictures]
    with running(log, run, "--api-only", "--queue", "6", imports=None) as service:
        clients(service, 8, bodies, seconds=5)
        before = rss_mb(service)
        load = clients(service, 32, bodies, seconds=20)
        after = rss_mb(service)
        print(
            f"32 clients against 8 places, 20 s: {dict(load.statuses)}, memory {before:.0f} -> "
            f"{after:.0f} MB ({after / before - 1:+.1%})"
        )
        assert set(load.statuses) == {200, 503}
        assert after <= 1.05 * before


def reloads(run: Path, pictures: list[Path], log: Path) -> None:
    """20 hot reloads between two versions under load."""
    folder = bundle.open_bundle(run).folder
    live, other = log.parent / "live", log.parent / "other"
    for copy in (live, other):
        shutil.copytree(folder, copy)
    content = rundir.read_json(other / bundle.BUNDLE)
    content["run"] = {**content["run"], "name": "other"}
    _rename(other, content)
    digests = {
        bundle.open_bundle(copy).model_sha256: name
        for copy, name in ((live, bundle.open_bundle(live).run["name"]), (other, "other"))
    }
    first = Path(shutil.copytree(live, log.parent / "first"))
    bodies = [form(path.read_bytes(), count=3) for path in pictures]
    with running(log, live, "--api-only", "--watch", imports=None) as service:
        loads: list[Load] = []
        seconds = 60.0
        asking = threading.Thread(
            target=lambda: loads.append(clients(service, 4, bodies, seconds=seconds, keep=True))
        )
        asking.start()
        swaps = 0
        for place in range(20):
            shutil.rmtree(live)
            shutil.copytree((other, first)[place % 2], live)
            wanted = sorted(digests)
            deadline = time.monotonic() + 20
            while _serves(service) != bundle.open_bundle(live).model_sha256:
                assert time.monotonic() < deadline, "not swapped"
                time.sleep(0.05)
            swaps += 1
        asking.join()
        seen = Counter(
            answer["model"]["digest"] for _, status, answer in loads[0].answers if status == 200
        )
        assert all(
            digests[answer["model"]["digest"]] == answer["model"]["name"]
            for _, _, answer in loads[0].answers
        )
        print(
            f"{swaps} reloads, {sum(loads[0].statuses.values())} requests: "
            f"{dict(loads[0].statuses)}, by version {[seen[digest] for digest in wanted]}"
        )
        assert set(loads[0].statuses) == {200}


def _rename(folder: Path, content: dict[str, Any]) -> None:
    """Another version of a bundle: the same model under another name, so with another digest."""
    import onnx

    model = onnx.load(folder / bundle.MODEL)
    onnx.helper.set_model_props(model, model_metadata.metadata(content))
    onnx.save(model, folder / bundle.MODEL)
    rundir.write_json(folder / bundle.BUNDLE, content)
    bundle.finish(folder)


def _serves(service: Running) -> str:
    connection = HTTPConnection(service.url.removeprefix("http://"), timeout=60)
    connection.request("GET", "/v1/models")
    return str(json.loads(connection.getresponse().read())["models"][0]["digest"])


def hostile(run: Path, pictures: list[Path], log: Path) -> None:
    """200 hostile requests from 4 clients, mixed with good ones, and the most memory that they
    took."""
    contents = [path.read_bytes() for path in pictures]
    predictor = Predictor(run)
    right = [float(predictor.predict(content).probabilities.max()) for content in contents]
    with running(log, run, imports=None) as service:
        clients(service, 4, [form(content) for content in contents], requests=100)
        before, most, done = rss_mb(service), [0.0], threading.Event()

        def sample() -> None:
            while not done.wait(0.01):
                most[0] = max(most[0], rss_mb(service))

        threading.Thread(target=sample).start()
        statuses: Counter[str] = Counter()

        def send(place: int) -> None:
            name, body, kind, good = requests[place]
            connection = HTTPConnection(service.url.removeprefix("http://"), timeout=60)
            try:
                headers = {"content-type": kind, "content-length": str(len(body))}
                connection.request("POST", "/v1/predict", body, headers)
                answer = connection.getresponse()
                content = answer.read().decode()
            except ConnectionError as error:  # refused while it was still being sent
                statuses[f"{name}: {type(error).__name__}"] += 1
                assert name.startswith("200 MB"), name
                return
            assert "Traceback" not in content
            assert str(run) not in content
            assert (
                (answer.status == 200)
                if good
                else (400 <= answer.status < 500 and json.loads(content)["error"])
            ), (name, answer.status, content)
            statuses["accepted" if answer.status == 200 else str(answer.status)] += 1

        def ask(place: int) -> None:
            answers = clients(
                service, 1, [form(contents[place % len(contents)])], requests=1, keep=True
            ).answers
            _, status, answer = answers[0]
            best = answer["predictions"][0]["top"][0]["probability"]
            assert (status, best) == (200, right[place % len(contents)])
            statuses["good ones right"] += 1

        requests = hostile_requests(200)
        with ThreadPoolExecutor(4) as pool:
            waiting = [
                pool.submit(job, place) for place in range(len(requests)) for job in (send, ask)
            ]
            for one in waiting:
                one.result()
        done.set()
        print(f"{dict(statuses)}; memory {before:.0f} MB, at most {most[0] - before:+.0f} MB")
        assert most[0] - before <= 300
        assert "Traceback" not in log.read_text(encoding="utf-8")


def silent(run: Path, pictures: list[Path], log: Path) -> None:
    """200 half-open connections: answers meanwhile, and when they are closed."""
    with running(log, run, "--api-only", imports=None) as service:
        host, port = service.url.removeprefix("http://").split(":")
        held = [socket.create_connection((host, int(port))) for _ in range(200)]
        for one in held:
            one.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx-half")
        load = clients(service, 1, [form(pictures[0].read_bytes())], requests=50)
        started = time.monotonic()
        for one in held:
            one.settimeout(60)
            assert one.recv(1) == b""
        print(
            f"200 half-open connections: {dict(load.statuses)}, p50 "
            f"{median(load.seconds) * 1e3:.1f} ms; all closed by the service after "
            f"{time.monotonic() - started:.0f} s"
        )


def soak(run: Path, pictures: list[Path], log: Path, *, minutes: float) -> None:
    """Two clients for minutes; the slope of memory over the second half, and open files."""
    bodies = [form(path.read_bytes()) for path in pictures]
    with running(log, run, imports=None) as service:
        clients(service, 2, bodies, seconds=20)
        process = psutil.Process(service.process.pid)
        files, points = process.num_fds(), []
        for _ in range(round(minutes * 12)):
            clients(service, 2, bodies, seconds=5)
            points.append(rss_mb(service))
        time.sleep(6)
        half = points[len(points) // 2 :]
        slope = float(np.polyfit(np.arange(len(half)) / 12, half, 1)[0])
        print(
            f"{minutes:g} minutes: memory {points[0]:.0f} -> {points[-1]:.0f} MB, slope of the "
            f"second half {slope:+.2f} MB/min, open files {files} -> {process.num_fds()}"
        )
        assert slope <= 1
        assert process.num_fds() <= files


WHAT: dict[str, Callable[..., None]] = {
    "throughput": throughput,
    "overload": overload,
    "reloads": reloads,
    "hostile": hostile,
    "silent": silent,
    "soak": soak,
}


def main() -> None:
    """Run what is asked for, in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--minutes", type=float, default=10)
    given = parser.parse_args()
    for name in given.what:
        with tempfile.TemporaryDirectory() as folder:
            more = {"minutes": given.minutes} if name == "soak" else {}
            print(f"{name}:", end=" ", flush=True)
            WHAT[name](given.run, given.pictures, Path(folder) / "log", **more)


if __name__ == "__main__":
    main()
