"""A bundle's examples are answered before it serves: a provider that computes otherwise is refused,
in words."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tyro
from fastapi.testclient import TestClient
from PIL import Image

from serve import start
from serve.engine import reload
from serve.http import life
from serve.options import ServiceOptions
from tests.serve.running import served_bundle
from tests.zoo.made_bundle import LABELS, made_bundle
from zoo import predictor
from zoo.answer import onnx_runtime
from zoo.answer.predict import Predictor
from zoo.answer.self_check import LOSSY_TOLERANCE, MOST
from zoo.contract import bundle, rundir
from zoo.contract.figures import figures
from zoo.host.errors import UserError


class Moved:
    """A session whose probabilities are moved from the first class to the last, or whose unknown
    score is; it counts the pictures."""

    def __init__(self, session: Any, by: float, name: str):
        self._session, self._by, self._name, self.answered = session, by, name, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, names: list[str], feed: dict[str, np.ndarray], options: Any) -> list[np.ndarray]:
        """As the session itself; `options` name memory of a GPU."""
        self.answered += 1
        outputs = self._session.run(names, feed)
        by = [-self._by, 0, self._by] if self._name == bundle.PROBABILITIES else self._by
        outputs[names.index(self._name)] += np.float32(by)
        return outputs


def pretend_gpu(
    monkeypatch: pytest.MonkeyPatch, by: float, name: str = bundle.PROBABILITIES
) -> list[Moved]:
    """From now on `auto` is a GPU that answers so much otherwise; the list of its sessions."""
    load, sessions = onnx_runtime.load_session, []

    def pretended(model: Path, provider: str, **how: Any) -> tuple[Any, str]:
        session, used = load(model, "cpu", **how)
        if provider == "cpu":
            return session, used
        sessions.append(Moved(session, by, name))
        return sessions[-1], "cuda"

    monkeypatch.setattr(onnx_runtime, "load_session", pretended)
    return sessions


def of_another_model(run: Path) -> Path:
    """A bundle whose expected answers are those of another model; its folder."""
    folder = served_bundle(run) / bundle.BUNDLES / "onnx"
    path = folder / bundle.EXAMPLES / bundle.EXPECTED
    expected = rundir.read_json(path)
    expected["red.png"]["probabilities"] = [0.1, 0.8, 0.1]
    rundir.write_json(path, expected)
    bundle.finish(folder)
    return folder


@pytest.mark.parametrize(
    ("precision", "by", "refused"),
    [
        ("fp32", 0.0, False),
        ("fp32", 0.9 * bundle.TOLERANCE, False),
        ("fp32", 1.1 * bundle.TOLERANCE, True),
        ("fp32", -0.3, True),
        ("int8", 0.9 * LOSSY_TOLERANCE, False),
        ("int8", 1.1 * LOSSY_TOLERANCE, True),
        ("fp16", 1.1 * LOSSY_TOLERANCE, True),
    ],
)
def test_examples_are_answered_on_the_provider_that_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, by: float, refused: bool
) -> None:
    run = served_bundle(tmp_path / "run", precision=precision)
    pretend_gpu(monkeypatch, by)
    assert Predictor(run, check=False).checked is None
    assert Predictor(run, provider="cpu").checked
    if not refused:
        checked = Predictor(run).checked
        assert checked
        assert checked.pictures == 3
        assert checked.worst == pytest.approx(abs(by), abs=1e-6)
        return
    with pytest.raises(UserError) as error:
        Predictor(run)
    told = str(error.value)
    assert (
        f"{bundle.EXAMPLES}/red.png: expected the probabilities that its export wrote down (class "
        "red at 0." in told
    )
    assert (
        f" on provider cuda of {onnx_runtime.program('cuda')}: a difference of {abs(by):.3g}, at "
        "most " in told
    )
    assert "Use --provider cpu, or another version of onnxruntime" in told
    assert "--no-self-check answers all the same" in told


@pytest.mark.parametrize(
    ("precision", "by", "refused"),
    [
        ("fp32", 0.9 * bundle.TOLERANCE, False),
        ("fp32", -1.1 * bundle.TOLERANCE, True),
        ("fp32", np.nan, True),
        ("int8", 0.9 * LOSSY_TOLERANCE, False),
        ("int8", 1.1 * LOSSY_TOLERANCE, True),
    ],
)
def test_the_unknown_score_is_part_of_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, by: float, refused: bool
) -> None:
    """A GPU on which it alone is off would call foreign pictures known, or one's own unknown."""
    folder = served_bundle(tmp_path / "run", precision=precision) / bundle.BUNDLES / "onnx"
    path, exact = folder / bundle.EXAMPLES / bundle.EXPECTED, Predictor(folder, provider="cpu")
    expected = rundir.read_json(path)
    pretend_gpu(monkeypatch, by, bundle.UNKNOWN_SCORE)
    assert Predictor(folder).checked, "an earlier version wrote no unknown score"
    for name in expected:
        expected[name]["unknown_score"] = exact.predict(
            folder / bundle.EXAMPLES / name
        ).unknown_score
    rundir.write_json(path, expected)
    bundle.finish(folder)
    if not refused:
        assert Predictor(folder).checked
        return
    with pytest.raises(
        UserError, match=r"down \(unknown score 0\.\d+\), seen unknown score (nan|-?0\.\d+) on "
    ):
        Predictor(folder)


@pytest.mark.parametrize("by", [0.0, 0.02])
def test_without_examples_a_gpu_must_answer_made_pictures_like_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    folder = made_bundle(tmp_path / "run")
    sessions = pretend_gpu(monkeypatch, by)
    on_cpu = Predictor(folder, provider="cpu").checked
    assert on_cpu
    assert on_cpu.pictures == 0
    if by:
        with pytest.raises(
            UserError, match="a made picture of 640 x 480: expected the probabilities that the CPU"
        ):
            Predictor(folder)
    else:
        checked = Predictor(folder).checked
        assert checked
        assert checked.pictures == sessions[0].answered == 2


def test_it_costs_six_answers_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = served_bundle(tmp_path / "run") / bundle.BUNDLES / "onnx"
    path = folder / bundle.EXAMPLES / bundle.EXPECTED
    expected = rundir.read_json(path)
    for number in range(2 * MOST):
        Image.open(folder / bundle.EXAMPLES / "red.png").save(
            folder / bundle.EXAMPLES / f"{number}.png"
        )
        expected[f"{number}.png"] = expected["red.png"]
    rundir.write_json(path, expected)
    bundle.finish(folder)
    sessions = pretend_gpu(monkeypatch, 0.0)
    assert Predictor(folder).checked
    assert sessions[0].answered == MOST == 6


def test_the_command_refuses_or_answers_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = of_another_model(tmp_path / "run")
    arguments = [str(folder), str(folder / bundle.EXAMPLES / "red.png"), "--provider", "cpu"]
    with pytest.raises(
        UserError,
        match=r"\(class green at 0\.800\), seen class red .* on provider cpu of onnxruntime",
    ):
        predictor.main(arguments)
    assert capsys.readouterr() == ("", "")
    assert predictor.main([*arguments, "--no-self-check"]) == 0
    shown = capsys.readouterr()
    assert '"label": "red"' in shown.out
    assert shown.err == ""


def test_a_service_refuses_before_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listened: list[Any] = []
    monkeypatch.setattr(life, "serve", lambda *given, **named: listened.append(given))
    with pytest.raises(
        UserError, match=r"red\.png: expected the probabilities .* on provider cpu of onnxruntime"
    ):
        start.start(
            ServiceOptions(of_another_model(tmp_path / "run"), port=0, api_only=True, workers=1)
        )
    assert not listened


def test_a_service_answers_all_the_same_if_it_is_told_to(tmp_path: Path) -> None:
    arguments = [
        str(of_another_model(tmp_path / "run")),
        "--api-only",
        "--no-self-check",
        "--workers",
        "1",
    ]
    options = tyro.cli(
        tyro.conf.OmitArgPrefixes[ServiceOptions],
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    with start.build_service(options) as service:
        assert (
            TestClient(service.app, base_url="http://127.0.0.1").get("/readyz").status_code == 200
        )


@pytest.mark.parametrize(("check", "told"), [(True, "refused"), (False, "swapped")])
def test_a_reload_that_is_refused_keeps_the_old_model(
    tmp_path: Path, check: bool, told: str
) -> None:
    folder = served_bundle(tmp_path / "run") / bundle.BUNDLES / "onnx"
    said: list[str] = []
    engine: Any = SimpleNamespace(
        model=reload.load_model(folder, provider="cpu", threads=1, check=check)
    )
    before = engine.model
    watch = reload.Watch(
        engine,
        lambda: reload.load_model(folder, provider="cpu", threads=1, check=check),
        said.append,
    )
    of_another_model(tmp_path / "run2")
    newer = tmp_path / "run2" / bundle.BUNDLES / "onnx"
    for name in (f"{bundle.EXAMPLES}/{bundle.EXPECTED}", bundle.FINISHED):
        (folder / name).write_bytes((newer / name).read_bytes())
    bundle.finish(folder)
    watch.look()
    assert said == [told]
    assert (engine.model is before) == check


@pytest.mark.parametrize(
    ("proof", "proved_on"),
    [
        ({}, "cpu"),
        ({"provider": "cuda of onnxruntime-gpu 1.31.1"}, "cuda of onnxruntime-gpu 1.31.1"),
        (
            {"provider": "cpu", "rungs": [{"name": "engine: top-1", "worst": 0, "pictures": 3}]},
            "cpu, TensorRT",
        ),
    ],
)
def test_a_bundle_says_where_it_was_proved(
    tmp_path: Path, proof: dict[str, Any], proved_on: str
) -> None:
    folder = made_bundle(tmp_path / "run")
    rundir.write_json(folder / bundle.PARITY, proof)
    bundle.finish(folder)
    opened = bundle.open_bundle(folder)
    assert opened.labels == LABELS
    assert figures(opened).proved_on == proved_on
