"""Decoder processes: good pictures pass, those that hang or take memory cost one process, nothing
is left behind."""

import contextlib
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from serve.engine.decoders import Decoders, Unavailable
from tests.bad_pictures import BAD, ODD, encode
from tests.serve.running import Running, ask, noise_png, running
from zoo.host.errors import BadImage, UserError
from zoo.picture import decoding

MAX_PIXELS = 25_000_000
LITTLE = encode(Image.new("RGB", (9, 5), (250, 20, 10)), "PNG")
ODD_SERVICE = ("-m", "tests.serve.odd_service")


def order(word: str) -> bytes:
    """What makes tests.serve.odd_decoder do something."""
    return word.encode().ljust(16, b"\0")


@pytest.fixture(scope="module")
def odd() -> Iterator[Decoders]:
    decoders = Decoders(
        2, MAX_PIXELS, command=[sys.executable, "-m", "tests.serve.odd_decoder", str(MAX_PIXELS)]
    )
    decoders.wait()
    yield decoders
    decoders.close()


def decode(
    decoders: Decoders, data: bytes, *, seconds: float = 20, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    return decoders.decode(data, "picture", max_pixels=max_pixels, seconds=seconds)


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def lives(number: int) -> bool:
    """Whether there is such a process; a dead one that nobody has asked for its exit code is
    none."""
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pid(decoders: Decoders) -> int:
    """Of the decoder that answers."""
    height, width, _ = decode(decoders, order("pid")).shape
    return 1000 * (height - 1) + width - 1


@pytest.mark.parametrize(
    "name", ["plain.jpg", "16-bit.png", "cmyk.jpg", "animated.webp", "palette-alpha-bytes.png"]
)
def test_the_pixels_are_those_of_the_one_decoder(odd: Decoders, name: str) -> None:
    data = ODD[name][0]()
    assert np.array_equal(decode(odd, data), np.asarray(decoding.decode(data)))


def large(kind: str) -> bytes:
    """24 million pixels that take the most memory, turned by EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    colours = np.random.default_rng(0).integers(0, 256, (63, 94, 4), np.uint8)
    picture = Image.fromarray(colours).resize((6000, 4000), Image.Resampling.NEAREST)
    how: dict[str, dict[str, object]] = {"PNG": {"compress_level": 1}, "WEBP": {"method": 0}}
    return encode(picture, kind, exif=exif.tobytes(), **how[kind])


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_large_pictures_fit_into_the_memory(odd: Decoders, kind: str) -> None:
    assert decode(odd, large(kind), seconds=60).shape == (6000, 4000, 3)


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size(odd: Decoders) -> None:
    data = encode(Image.linear_gradient("L").resize((8160, 6144)), "JPEG", progressive=True)
    assert np.array_equal(decode(odd, data, seconds=60), np.asarray(decoding.decode(data)))


class Bits:
    """Bits of a lossless WebP, the lowest first."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def put(self, *numbers: tuple[int, int]) -> None:
        """(number, how many bits) each."""
        self.parts += [f"{number:0{count}b}"[::-1] for number, count in numbers]

    def bytes(self) -> bytes:
        text = "".join(self.parts)[::-1]
        return int(text, 2).to_bytes(-(-len(text) // 8), "little")


def webp_of_tables(side: int, tables: int) -> bytes:
    """A black lossless WebP that declares `tables` groups of five codes, each of one symbol; blocks
    of 4 x 4 pixels."""
    bits = Bits()
    bits.put(
        (0x2F, 8),
        (side - 1, 14),
        (side - 1, 14),
        (0, 1),
        (0, 3),
        (0, 1),
        (0, 1),
        (1, 1),
        (0, 3),
        (0, 1),
    )
    # green and red of the picture of groups: every byte takes 8 bits
    for alphabet in (256 + 24, 256):
        bits.put(
            (0, 1),
            (8, 4),
            *((order in (0, 8), 3) for order in (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8)),
            (0, 1),
            *((symbol < 256, 1) for symbol in range(alphabet)),
        )
    bits.parts.append("1000" * 3)  # a code of one symbol, 0
    for block in range((side // 4) ** 2):
        table = block % tables
        # codes are written from their highest bit
        bits.parts.append(f"{table & 255:08b}{table >> 8:08b}")
    bits.parts.append("1000" * 5 * tables)
    body = bits.bytes()
    chunk = b"VP8L" + struct.pack("<I", len(body)) + body + bytes(len(body) & 1)
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux enforces a limit on the memory of a process"
)
def test_a_small_picture_may_not_take_the_memory_of_the_largest(odd: Decoders) -> None:
    """65,536 tables take 0.4 GB, for one million pixels; libwebp itself writes up to 2,600."""
    ended = dict(odd.ended)
    assert decode(odd, webp_of_tables(1024, 2600)).shape == (1024, 1024, 3)
    evil = webp_of_tables(1024, 65_536)
    for _ in range(2):
        with pytest.raises(
            BadImage, match=r"or it needs more memory than a picture of its size may$"
        ):
            decode(odd, evil)
    assert decode(odd, LITTLE).shape == (5, 9, 3)
    assert dict(odd.ended) == ended


def test_refusals_keep_their_reason_and_cost_no_decoder(odd: Decoders) -> None:
    ended = dict(odd.ended)
    for data, limit, reason in (
        (b"", MAX_PIXELS, "the file is empty"),
        (b"<svg>", MAX_PIXELS, "an SVG drawing"),
        (LITTLE, 44, "too large: 9 x 5"),
        (BAD["canvas.webp"][0](), 4_000_000, "too large: 12000 x 12000"),
        (bytes(50_000_001), MAX_PIXELS, "larger than 50 MB"),
    ):
        with pytest.raises(BadImage, match=f"^picture: {reason}"):
            decode(odd, data, max_pixels=limit)
    assert dict(odd.ended) == ended


@pytest.mark.parametrize("word", ["hang", "spin"])
def test_a_decoder_that_takes_too_long_is_killed(odd: Decoders, word: str) -> None:
    started, killed = time.monotonic(), odd.ended["time"]
    with pytest.raises(BadImage, match=r"^picture: took longer than 0\.3 s to decode$"):
        decode(odd, order(word), seconds=0.3)
    assert 0.3 <= time.monotonic() - started < 2
    assert odd.ended["time"] == killed + 1
    assert decode(odd, LITTLE).shape == (5, 9, 3)


def test_a_request_that_the_decoder_does_not_read_does_not_block(tmp_path: Path) -> None:
    """Killing it also ends a write that waits for a full pipe."""
    code = (
        "import os, time; from serve.engine.decoder import ANSWER; "
        "os.write(1, ANSWER.pack(0, 0, 0)); time.sleep(100)"
    )
    decoders = Decoders(1, MAX_PIXELS, command=[sys.executable, "-c", code])
    try:
        with pytest.raises(BadImage, match="took longer"):
            decode(decoders, bytes(5_000_000), seconds=0.3)
    finally:
        decoders.close()


@pytest.mark.parametrize("word", ["eat", "crash", "too large"])
def test_memory_crashes_and_lies_cost_one_decoder(odd: Decoders, word: str) -> None:
    if word == "eat" and sys.platform != "linux":
        pytest.skip("only Linux enforces a limit on the memory of a process")
    started, before = time.monotonic(), odd.ended["memory or crash"]
    with pytest.raises(BadImage, match="could not be decoded within the memory"):
        decode(odd, order(word))
    assert time.monotonic() - started < 15
    assert odd.ended["memory or crash"] == before + 1
    assert decode(odd, LITTLE).shape == (5, 9, 3)


def test_text_of_a_decoder_is_harmless(odd: Decoders, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadImage) as refused:
        decode(odd, order("control"))
    assert refused.value.reason == "\\x1b[31mred?line\\u202e"
    with pytest.raises(BadImage) as refused:
        decode(odd, order("long"))
    assert refused.value.reason == "é" * 500
    decode(odd, order("print"))
    assert capfd.readouterr() == ("", "")


def test_one_that_dies_idle_is_replaced_without_a_word(odd: Decoders) -> None:
    ended, old = dict(odd.ended), {pid(odd) for _ in range(4)}
    for number in old:
        os.kill(number, signal.SIGKILL)
    until(lambda: not any(map(lives, old)))
    assert pid(odd) not in old
    assert dict(odd.ended) == ended


def test_others_do_not_wait_for_a_killed_one(odd: Decoders) -> None:
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(decode, odd, order("hang"), seconds=1.5)
        time.sleep(0.1)
        for _ in range(5):
            assert decode(odd, LITTLE).shape == (5, 9, 3)
        assert not hanging.done()
        with pytest.raises(BadImage, match="took longer"):
            hanging.result()


def test_closing_ends_what_waits() -> None:
    decoders = Decoders(
        1, MAX_PIXELS, command=[sys.executable, "-m", "tests.serve.odd_decoder", str(MAX_PIXELS)]
    )
    decoders.wait()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(decode, decoders, order("hang")) for _ in range(2)]
        time.sleep(0.2)
        started = time.monotonic()
        decoders.close()
        errors = {type(future.exception(5)) for future in waiting}
    assert errors == {BadImage, Unavailable}
    assert time.monotonic() - started < 2
    with pytest.raises(Unavailable):
        decode(decoders, LITTLE)


def test_one_that_cannot_start_is_an_error_at_the_start(capfd: pytest.CaptureFixture[str]) -> None:
    decoders = Decoders(1, MAX_PIXELS, command=[sys.executable, "-c", "import no_such_module"])
    try:
        with pytest.raises(UserError, match="expected the process that decodes pictures to start"):
            decoders.wait()
    finally:
        decoders.close()
    assert "no_such_module" in capfd.readouterr().err


def test_it_starts_fast_and_has_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOOTUNE_TOKEN", "secret")
    code = (
        "import sys, os, serve.engine.decoder; print(sorted(sys.modules), sorted(os.environ), "
        "file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code], env=None, capture_output=True, text=True, cwd=tmp_path
    )
    assert not {"torch", "onnxruntime", "tyro", "serve.engine.answer_queue"} & set(
        ran.stderr.replace("'", "").split(", ")
    )
    decoders = Decoders(1, MAX_PIXELS)
    try:
        decoders.wait()
        (child,) = [
            child
            for child in psutil.Process().children()
            if "serve.engine.decoder" in child.cmdline()
        ]
        environment = child.environ()
        assert "ZOOTUNE_TOKEN" not in environment
        assert environment["OPENBLAS_NUM_THREADS"] == "1"
    finally:
        decoders.close()


# --- the service


def children(service: Running) -> list[psutil.Process]:
    return psutil.Process(service.process.pid).children(recursive=True)


def send(url: str, word: str) -> threading.Thread:
    """A request in the background that ends when it ends."""

    def post() -> None:
        with (
            contextlib.suppress(httpx.HTTPError),  # the service is gone
            httpx.Client(verify=False, headers={"x-forwarded-for": "10.0.0.9"}) as client,
        ):
            ask(url, order(word), client=client)

    thread = threading.Thread(target=post)
    thread.start()
    return thread


def test_good_pictures_are_answered_after_those_that_hang(served: Path, tmp_path: Path) -> None:
    """Both decoders hang: health at once, a good picture after --decode-s, and the kills are
    counted."""
    with running(
        tmp_path / "log",
        served,
        "--api-only",
        "--workers",
        "2",
        "--decode-s",
        "1",
        module=ODD_SERVICE,
    ) as service:
        evil = [send(service.url, "hang") for _ in range(2)]
        time.sleep(0.3)
        with httpx.Client(verify=False) as client:
            started = time.monotonic()
            assert client.get(f"{service.url}/healthz").status_code == 200
            assert time.monotonic() - started < 1
            assert ask(service.url, noise_png(32), client=client).status_code == 200
            # a new decoder takes 0.2 s, on a busy machine more
            assert time.monotonic() - started < 1 + 8
            refused = ask(service.url, order("hang"), client=client)
        assert (refused.status_code, refused.json()) == (
            422,
            {"error": "Picture: took longer than 1 s to decode."},
        )
        for thread in evil:
            thread.join()
        with httpx.Client(verify=False, headers={"x-forwarded-for": "10.0.0.9"}) as client:
            waits = ask(service.url, noise_png(32), client=client)
        assert waits.status_code == 503
        assert 1 <= int(waits.headers["retry-after"]) <= 10
        assert ask(service.url, noise_png(32)).status_code == 200
        assert (
            'zootune_decoders_ended_total{reason="time"} 3.0'
            in httpx.get(f"{service.url}/metrics").text
        )
        assert service.stop() == 0
        assert service.log.read_text() == ""


@pytest.mark.parametrize(
    ("signals", "deadline_s", "at_most_s"),
    [
        ((signal.SIGTERM,), "1", 9),
        ((signal.SIGTERM, signal.SIGTERM), "9", 4),
        ((signal.SIGINT, signal.SIGINT), "9", 4),
        ((signal.SIGKILL,), "9", 4),
    ],
)
def test_hanging_decoders_do_not_outlive_the_service(
    signals: tuple[signal.Signals, ...],
    deadline_s: str,
    at_most_s: float,
    served: Path,
    tmp_path: Path,
) -> None:
    """SIGTERM: within the deadline, a second of grace and two for open streams; the second one at
    once."""
    with running(
        tmp_path / "log",
        served,
        "--api-only",
        "--workers",
        "2",
        "--deadline-s",
        deadline_s,
        module=ODD_SERVICE,
    ) as service:
        evil = [send(service.url, word) for word in ("spin", "hang", "hang")]
        time.sleep(0.4)
        decoders = children(service)
        assert len(decoders) == 2
        started = time.monotonic()
        for number in signals:
            service.process.send_signal(number)
            time.sleep(0.1)
        assert service.process.wait(20) == (-signal.SIGKILL if signal.SIGKILL in signals else 0)
        assert time.monotonic() - started < at_most_s
        until(lambda: not any(lives(process.pid) for process in decoders), 2)
        for thread in evil:
            thread.join()


def test_signals_to_the_group_leave_the_decoders_to_the_service(
    served: Path, tmp_path: Path
) -> None:
    """Ctrl-C reaches the decoders as well: what is in flight is answered all the same."""
    with running(tmp_path / "log", served, "--api-only", "--workers", "1") as service:
        for process in children(service):
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
        service.process.send_signal(signal.SIGINT)
        assert ask(service.url, noise_png(32)).status_code == 200
        assert service.process.wait(20) == 0
