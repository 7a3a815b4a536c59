"""Hot reload: each answer from one version, no request lost, a broken bundle refused."""

import dataclasses
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from serve.engine.reload import load_model
from tests.serve.running import Running, ask, noise_png, running, served_bundle
from tests.zoo.made_bundle import CALIBRATED
from zoo.answer.predict import Predictor
from zoo.contract import bundle, rundir
from zoo.contract.bundle import open_bundle
from zoo.host.errors import UserError


def replace(folder: Path, new: Path) -> None:
    """Put another bundle in place, as an export does: the old one away, FINISHED.json last."""
    shutil.rmtree(folder)
    shutil.copytree(new, folder, ignore=shutil.ignore_patterns(bundle.FINISHED))
    shutil.copyfile(new / bundle.FINISHED, folder / bundle.FINISHED)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def digest(service: Running) -> str:
    return str(httpx.get(f"{service.url}/v1/models").json()["models"][0]["digest"])


def test_versions_change_under_load(tmp_path: Path) -> None:
    """Two versions, of which only the first has prediction sets."""
    decisions = (CALIBRATED, dataclasses.replace(CALIBRATED, sets=None))
    versions = [
        served_bundle(tmp_path / f"v{place}", decision=decision) / "bundles" / "onnx"
        for place, decision in enumerate(decisions)
    ]
    live = Path(shutil.copytree(versions[0], tmp_path / "live"))
    known = {open_bundle(folder).model_sha256: f"v{place}" for place, folder in enumerate(versions)}
    assert len(known) == 2
    picture = noise_png(64)
    right = Predictor(live).predict(picture).answer.top
    with running(tmp_path / "log", live, "--api-only", "--watch") as service:
        stopped: list[bool] = []

        def client() -> list[str]:
            seen = []
            while not stopped:
                answer = ask(service.url, *[picture] * 3)
                assert answer.status_code == 200, answer.text
                said, version = answer.json(), known[answer.json()["model"]["digest"]]
                for one in said["predictions"]:
                    assert (one["prediction_set"] is None) == (version == "v1")
                    assert [(row["label"], row["probability"]) for row in one["top"]] == [*right]
                seen.append(version)
            return seen

        with ThreadPoolExecutor(2) as pool:
            clients = [pool.submit(client) for _ in range(2)]
            try:
                for place in (1, 0):
                    replace(live, versions[place])
                    wait_for(lambda: known[digest(service)] == f"v{place}", "never swapped")  # noqa: B023
                (live / bundle.MODEL).write_bytes(b"broken")
                with open(live / bundle.FINISHED, "a", encoding="utf-8") as file:
                    file.write(" ")
                refused = 'zootune_reloads_total{result="refused"} 1.0'
                wait_for(
                    lambda: refused in httpx.get(f"{service.url}/metrics").text, "never refused"
                )
                assert known[digest(service)] == "v0"
                replace(live, versions[1])
                wait_for(lambda: known[digest(service)] == "v1", "not swapped after a refusal")
            finally:
                stopped.append(True)
            for one in clients:
                assert len(one.result()) > 3
        assert service.stop() == 0


def test_examples_that_are_answered_otherwise_are_an_error(tmp_path: Path) -> None:
    folder = served_bundle(tmp_path / "run") / "bundles" / "onnx"
    assert load_model(folder, provider="cpu", threads=1).name == "colours-tiny"
    expected = rundir.read_json(folder / bundle.EXAMPLES / bundle.EXPECTED)
    expected["red.png"]["probabilities"] = [0.1, 0.8, 0.1]
    rundir.write_json(folder / bundle.EXAMPLES / bundle.EXPECTED, expected)
    bundle.finish(folder)
    with pytest.raises(UserError, match=r"red\.png: expected the probabilities .*, seen class "):
        load_model(folder, provider="cpu", threads=1)
