"""The service as a real process, and what asks it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import httpx
import numpy as np
from PIL import Image

from tests import warm
from tests.bad_pictures import encode
from tests.zoo.made_bundle import LABELS, made_bundle
from zoo.answer.predict import Predictor
from zoo.contract import bundle, rundir

ROOT = Path(__file__).parent.parent.parent
COLOURS = {"red": (250, 20, 10), "green": (10, 240, 30), "blue": (5, 15, 245)}
START_S = 60.0


@dataclass(frozen=True)
class Running:
    """A service that answers."""

    url: str
    process: subprocess.Popen[str]
    started_s: float
    """Seconds from the command to its first line."""
    log: Path

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def running(
    log: Path,
    *arguments: str | Path,
    module: Sequence[str | Path] = ("-m", "serve"),
    port: Sequence[str] = ("--port", "0"),
    imports: str | None = warm.GRADIO,
    **environment: str,
) -> Iterator[Running]:
    """`python -m serve ARGUMENTS` on a free port, until the block ends.

    `imports`: of the server that forks it (tests/warm.py); None is a start of the interpreter.
    """
    command = [*map(str, module), *map(str, arguments), *port]
    started = time.monotonic()
    env = os.environ | environment
    with (
        open(log, "w", encoding="utf-8") as errors,
        _started(imports, command, errors, env) as process,
    ):
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert " answers at " in line, log.read_text(encoding="utf-8")
            url = line.split(" answers at ")[1].strip().removesuffix("/v1/predict")
            yield Running(url, process, time.monotonic() - started, log)
        finally:
            process.kill()


def _started(
    imports: str | None, command: Sequence[str], errors: TextIO, env: Mapping[str, str]
) -> subprocess.Popen[str]:
    if imports is None:
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=env,
        )
    return warm.Process(imports, command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, env=env)


def served_bundle(run: Path, **how: object) -> Path:
    """A finished bundle with three examples and the answers that were expected of them. Gives the
    run folder."""
    folder = made_bundle(run, finished=False, **how)
    expected = {}
    predictor = Predictor(bundle.open_bundle(folder, finished=False), threads=1)
    for label, colour in COLOURS.items():
        Image.new("RGB", (64, 48), colour).save(folder / bundle.EXAMPLES / f"{label}.png")
        said = predictor.predict(folder / bundle.EXAMPLES / f"{label}.png").probabilities
        expected[f"{label}.png"] = {
            "label": label,
            "probability": float(said.max()),
            "probabilities": [round(float(p), 6) for p in said],
        }
    rundir.write_json(folder / bundle.EXAMPLES / bundle.EXPECTED, expected)
    rungs = [{"name": "probabilities", "worst": 0.0, "limit": 0.005, "pictures": 3}]
    rundir.write_json(folder / bundle.PARITY, {"passed": True, "rungs": rungs})
    bundle.finish(folder)
    assert set(LABELS) == set(COLOURS)
    return run


def noise_png(side: int, seed: int = 0) -> bytes:
    """A picture that takes a while to decode: about 25 ms per million pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return encode(Image.fromarray(pixels), "PNG", compress_level=1)


def ask(
    url: str,
    *pictures: bytes,
    client: httpx.Client | None = None,
    name: str = "x.jpg",
    **query: object,
) -> httpx.Response:
    """`POST /v1/predict` with these pictures as a form."""
    files = [("file", (name, picture, "image/jpeg")) for picture in pictures]
    if client:
        return client.post(f"{url}/v1/predict", files=files, params=query, timeout=60)  # type: ignore[arg-type]
    # reading the certificates takes longer than the answer
    with httpx.Client(verify=False, timeout=60) as own:
        return own.post(f"{url}/v1/predict", files=files, params=query)  # type: ignore[arg-type]


def carded(run: Path, card: str) -> Path:
    """A run with this card, and its bundle, whose folder is given."""
    run.mkdir()
    rundir.write_text(run / rundir.CARD, card)
    return served_bundle(run) / "bundles" / "onnx"
