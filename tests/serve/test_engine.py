"""The queue by itself: all or nothing, deadlines seen when a picture's turn comes, one large
picture at a time."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from serve.engine import answer_queue
from serve.engine.answer_queue import AnsweredPicture, AnswerQueue, Busy, Late, Model
from serve.engine.decoders import Killed
from serve.engine.reload import load_model
from tests.bad_pictures import encode
from tests.zoo.made_bundle import made_bundle, make_endless
from zoo.answer.predict import Predictor
from zoo.contract import bundle
from zoo.host.errors import BadImage

RED = encode(Image.new("RGB", (9, 5), (250, 20, 10)), "PNG")


@pytest.fixture
def engine(served: Path) -> Iterator[AnswerQueue]:
    """Two workers, two more places."""
    model = load_model(served, provider="cpu", threads=1)
    engine = AnswerQueue(model, workers=2, waiting=2, deadline_s=5, max_pixels=20_000_000)
    yield engine
    engine.close()


def label(answered: AnsweredPicture) -> str | None:
    return answered.prediction.answer.label


def wait_until_left(engine: AnswerQueue) -> None:
    """A place is left by a callback, which may come after the result."""
    until = time.monotonic() + 60
    while engine.outstanding and time.monotonic() < until:
        time.sleep(0.005)
    assert engine.outstanding == 0


def test_a_request_takes_all_its_places_or_none(engine: AnswerQueue) -> None:
    # a deadline that no load of the machine reaches
    held, deadline = threading.Event(), time.monotonic() + 300
    first = engine.submit([RED] * 2, lambda _: held.wait(300), deadline=deadline)
    with pytest.raises(Busy) as refused:
        engine.submit([RED] * 3, label)
    assert refused.value.retry_after_s >= 1
    second = engine.submit([RED] * 2, label, deadline=deadline)
    assert engine.full
    held.set()
    assert [future.result(300) for future in first + second] == [True, True, "red", "red"]
    wait_until_left(engine)


def test_a_late_picture_is_not_answered(engine: AnswerQueue) -> None:
    (late,) = engine.submit([RED], label, deadline=time.monotonic() - 1)
    with pytest.raises(Late):
        late.result(10)
    engine.deadline_s = 0.05
    with pytest.raises(Late):
        engine.answer(RED, lambda _: time.sleep(0.3))


def test_a_model_that_computes_without_end_is_stopped_at_the_deadline(tmp_path: Path) -> None:
    folder = made_bundle(tmp_path / "run")
    make_endless(folder / bundle.MODEL)
    bundle.finish(folder)
    model = Model(Predictor(folder, provider="cpu", threads=1), "endless", "", "")
    engine = AnswerQueue(model, workers=1, waiting=2, deadline_s=1, max_pixels=1000)
    futures = engine.submit([RED] * 2, label)
    for future in futures:  # the second meets a worker that is free again
        with pytest.raises(Late):
            future.result(10)
    engine.close()


def test_a_failed_picture_leaves_its_place(engine: AnswerQueue) -> None:
    for _ in range(9):
        with pytest.raises(BadImage, match=r"^picture: the file is empty"):
            engine.answer(b"", label)
    assert engine.answer(RED, label) == "red"


def test_an_answer_comes_from_the_model_at_its_acceptance(
    engine: AnswerQueue, served: Path
) -> None:
    held, old = threading.Event(), engine.model
    blocked = engine.submit([RED] * 2, lambda _: held.wait(10))
    (waiting,) = engine.submit([RED], lambda answered: answered.model)
    engine.model = load_model(served, provider="cpu", threads=1)
    held.set()
    assert waiting.result(10) is old
    assert [future.result(10) for future in blocked] == [True, True]
    assert engine.answer(RED, lambda answered: answered.model) is engine.model


def test_large_pictures_come_one_at_a_time(
    engine: AnswerQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_queue, "LARGE_PIXELS", 100)
    large = encode(Image.new("RGB", (20, 20), (250, 20, 10)), "PNG")
    inside, most = [0], [0]

    def work(_: AnsweredPicture) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.05)
        inside[0] -= 1

    for pictures, expected in (([large] * 4, 1), ([RED] * 4, 2)):
        most[0] = 0
        for future in engine.submit(pictures, work):
            future.result(10)
        assert most[0] == expected
    with pytest.raises(BadImage, match="too large: 5000 x 5000, at most 20 million pixels"):
        engine.answer(encode(Image.new("1", (5000, 5000)), "PNG"), label)


def test_one_address_takes_half_of_the_places_and_others_come_in_turn(served: Path) -> None:
    engine = AnswerQueue(
        load_model(served, provider="cpu", threads=1),
        workers=1,
        waiting=49,
        deadline_s=20,
        max_pixels=10**6,
    )
    held, order = threading.Event(), []
    first = engine.submit([RED], lambda _: held.wait(10))
    many = [
        engine.submit([RED], lambda _: order.append("greedy"), owner="greedy")[0] for _ in range(25)
    ]
    with pytest.raises(Busy):
        engine.submit([RED], label, owner="greedy")
    with pytest.raises(Busy):
        engine.submit([RED] * 17, label, owner="greedy")
    good = engine.submit([RED] * 2, lambda _: order.append("good"), owner="good")
    held.set()
    for future in first + many + good:
        future.result(10)
    assert order.index("good") <= 1
    assert order[:4].count("good") == 2
    assert engine.answer(RED, label, owner="greedy") == "red"
    waiting = engine.submit([RED] * 9, lambda _: time.sleep(0.2), owner="x")
    engine.close()
    assert sum(future.cancelled() for future in waiting) >= 7
    time.sleep(0.3)
    assert engine.outstanding == 0
    assert not engine._of


def test_an_address_whose_pictures_kill_decoders_waits(
    engine: AnswerQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = engine.decoders.decode

    def killing(data: bytes, name: str, *, max_pixels: int, seconds: float) -> object:
        if data == b"bomb":
            raise Killed(name, "took longer")
        return decode(data, name, max_pixels=max_pixels, seconds=seconds)

    monkeypatch.setattr(engine.decoders, "decode", killing)
    futures = engine.submit([b"bomb"] * 4, label, owner="evil")
    reasons = {type(future.exception(10)) for future in futures}
    assert reasons == {Killed, Busy}
    with pytest.raises(Busy) as refused:
        engine.answer(RED, label, owner="evil")
    assert 5 <= refused.value.retry_after_s <= 60
    assert engine.answer(RED, label, owner="good") == "red"
    for _ in range(4):  # so little time may be too short for a good picture
        with pytest.raises(Killed):
            engine.submit([b"bomb"], label, deadline=time.monotonic() + 0.5, owner="late")[
                0
            ].result(10)
