"""What an export that fails leaves: what was finished before, and the other targets."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from filelock import FileLock
from PIL import Image

from export import pipeline, place
from export.options import ExportOptions
from export.proof import hard_pictures, judging, parity, prove, sessions
from export.proof.judging import Rung
from export.proof.product import Product
from export.proof.prove import Evidence, Proof
from export.proof.torch_answer import TorchAnswer
from export.targets import int8, rows
from export.targets.rows import Target
from tests import warm
from tests.file_modes import odd_modes
from tests.unprivileged import read_only
from tests.zoo.made_bundle import made_bundle, made_content
from zoo.contract import bundle, rundir
from zoo.contract.bundle import open_bundle
from zoo.host.errors import NotProved, UserError


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    """Of a run with a finished bundle for onnx, whose model is three lines of arithmetic."""
    run = tmp_path / "run"
    folder = made_bundle(run)
    (folder / bundle.PARITY_PAGE).write_text("<html></html>")
    bundle.finish(folder)
    source = {"name": "colours-tiny", "finished_sha256": rundir.digest(run / rundir.FINISHED)}
    trained: Any = SimpleNamespace(
        run=run,
        pictures={},
        labels=["red"],
        describe=lambda target, product, precision: made_content(
            run=source, target=target, status=product.status
        ),
    )
    return Evidence(trained, tmp_path, {})


def copied(evidence: Evidence, folder: Path) -> Product:
    """What a target writes that takes the model for onnx as it is."""
    shutil.copyfile(evidence.trained.run / "bundles" / "onnx" / bundle.MODEL, folder / bundle.MODEL)
    return Product([], "op", status="made again")


def failing(error: BaseException) -> Callable[[Evidence, Path], Product]:
    """The same, interrupted after its first file."""

    def make(evidence: Evidence, folder: Path) -> Product:
        (folder / "part.onnx").write_bytes(b"half a model")
        raise error

    return make


def set_target(
    monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[..., Product], **how: Any
) -> None:
    """Replace a row of the table; its precision stays the first of those that it has."""
    precision = next(iter(rows.TARGETS[name]().make))
    monkeypatch.setitem(rows.TARGETS, name, lambda: Target({precision: make}, **how))


def test_a_new_bundle_takes_the_place_of_the_old_one(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = evidence.trained.run
    (run / "bundles" / "onnx" / "stale.json").write_text("{}")
    set_target(monkeypatch, "onnx", copied, same_file=True)
    with place.alone(run):
        pipeline.attempt(evidence, "onnx", {})
    assert open_bundle(run).status == "made again"
    assert sorted(os.listdir(run / "bundles")) == [".lock", "onnx"]
    assert not (run / "bundles" / "onnx" / "stale.json").exists()


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002])
@pytest.mark.parametrize("name", rows.TARGETS)
def test_every_file_of_every_target_has_the_permissions_of_a_new_file(
    name: str, umask: int, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever wrote it: a library of safe temporary files, a copy of what was read-only, a
    compiler."""

    def odd(evidence: Evidence, folder: Path) -> Product:
        product = copied(evidence, folder)
        for mode in (0o600, 0o755, 0o444, 0o640):
            file = folder / f"models{mode:o}" / "1" / "model.onnx"
            file.parent.mkdir(parents=True)
            file.touch()
            file.chmod(mode)
        (folder / bundle.MODEL).chmod(0o600)
        return product

    before = os.umask(umask)
    try:
        set_target(monkeypatch, name, odd, same_file=True)
        with place.alone(evidence.trained.run):
            pipeline.attempt(evidence, name, {})
        assert odd_modes(evidence.trained.run / "bundles" / name) == {}
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("error", "raised", "words"),
    [
        (
            UserError("this architecture cannot be exported"),
            UserError,
            "this architecture cannot be exported",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            UserError,
            "no space left .* what was finished before is whole",
        ),
        (
            OSError(errno.EFBIG, "File too large"),
            UserError,
            r"larger than this process or file system allows \(ulimit -f",
        ),
        (OSError(errno.EROFS, "Read-only file system"), UserError, "bundles cannot be written"),
        (KeyboardInterrupt("by hand"), KeyboardInterrupt, "by hand"),
        (RuntimeError("a fault of ours"), RuntimeError, "a fault of ours"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_fails_leaves_the_finished_bundle_alone(
    error: BaseException,
    raised: type[BaseException],
    words: str,
    evidence: Evidence,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = evidence.trained.run
    before = open_bundle(run)
    set_target(monkeypatch, "onnx", failing(error))
    with pytest.raises(raised, match=words), place.alone(run):
        pipeline.attempt(evidence, "onnx", {})
    assert open_bundle(run) == before
    assert list(bundle.of_run(run)) == [before]
    left = set(os.listdir(run / "bundles")) - {".lock", "onnx"}
    assert left == (
        {"onnx.tmp"} if raised is UserError and not isinstance(error, OSError) else set()
    )


def test_a_proof_that_fails_leaves_the_finished_bundle_alone(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = evidence.trained.run
    before = open_bundle(run)
    set_target(monkeypatch, "onnx", copied)
    rung = Rung("probabilities", 0.005, 0.4, "val/a.png", 3)
    monkeypatch.setattr(prove, "prove", lambda *_: Proof([rung], [], {}))
    with pytest.raises(
        NotProved, match=r"differs by 0\.4 on val/a\.png, .*/bundles/onnx\.tmp/parity\.json"
    ):
        pipeline.attempt(evidence, "onnx", {})
    assert open_bundle(run) == before
    with pytest.raises(UserError, match=r"has no FINISHED\.json: .* --to onnx$"):
        open_bundle(run / "bundles" / "onnx.tmp")


@pytest.mark.parametrize(
    ("worst", "error", "limit", "verdict"),
    [
        (0.9e-3, 0, 1e-3, "passed"),
        (1.1e-3, 0, 1e-3, "failed"),
        (float("inf"), 0, None, "failed"),
        (float("nan"), 0, 1.0, "failed"),
        (0.4, 0, None, "not judged"),
        (1.9, 1.84, 1.0, "inconclusive"),
        (-1.9, 1.84, 1.0, "inconclusive"),
        (0.5, 0.25, 1.0, "passed"),
        (3.0, 0.9, 1.0, "failed"),
        (0.0, 0.0, 0.2, "passed"),
    ],
)
def test_an_estimate_has_three_outcomes(
    worst: float, error: float, limit: float | None, verdict: str
) -> None:
    rung = Rung("accuracy", limit, worst, "a.png", 135, error)
    assert rung.verdict == verdict
    [row] = judging.rungs_json([rung])
    assert (row["verdict"], "passed" in row) == (verdict, False)
    assert row["worst"] is None or abs(row["worst"]) < 10


@pytest.mark.parametrize("batches", [(1,), (1, 2, 5), (4,)])
def test_an_engine_is_asked_in_batches_of_one_size_and_answers_stay_in_order(
    tmp_path: Path, batches: tuple[int, ...]
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(17)]
    for number, path in enumerate(paths):
        Image.new("RGB", (3 + number % 3, 4), (number, 0, 0)).save(path)
    asked: list[int] = []

    def answer(names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        asked.append(len(given["image"]))
        return [given["image"][:, 0, 0, 0], given["image"][:, 0, 0].astype(float)]

    found = sessions.run(SimpleNamespace(run=answer), ["first", "second"], paths, batches)
    assert found["first"].tolist() == list(range(17))
    assert found["second"].shape == (17, 3)
    assert sum(asked) == 17
    assert set(asked) >= set(batches)


def test_pictures_of_many_sizes_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for number, path in enumerate(paths):
        Image.new("RGB", (1 + number, 4), (number, 0, 0)).save(path)
    decoded, answered = [], []
    real = sessions.decode
    monkeypatch.setattr(sessions, "decode", lambda path: decoded.append(path) or real(path))

    def answer(names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        assert len(decoded) - len(answered) <= sessions.MOST_WAITING
        answered.extend(given["image"])
        return [given["image"][:, 0, 0, 0]]

    found = sessions.run(SimpleNamespace(run=answer), ["first"], paths, sessions.BATCHES)
    assert found["first"].tolist() == list(range(40))


def test_a_bundle_whose_layers_have_no_names_is_not_quantised() -> None:
    with pytest.raises(UserError, match="earlier version: export the run to onnx again"):
        int8.nodes(onnx.GraphProto(), 0, clipped=True)


@pytest.mark.parametrize("seen", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("judged", [True, False])
def test_what_overflowed_has_failed_whether_it_is_judged_or_not(seen: float, judged: bool) -> None:
    """fp16 overflows in torch and in ONNX Runtime at different places."""
    right, outputs = (
        np.array([0.9, 0.1]),
        {"probabilities": np.array([[0.9, 0.1]]), "heatmap": np.array([[seen]])},
    )
    answered = TorchAnswer(
        np.zeros(1), np.zeros(2), {"probabilities": right, "heatmap": np.ones(1)}
    )
    rungs = parity.compare_outputs(
        [parity.ComparedPicture("a.png", 0, 0, answered, answered)], outputs, judged=judged
    )
    [row] = [row for row in judging.rungs_json(rungs) if row["name"] == "heatmap"]
    assert (row["verdict"], row["worst"]) == ("failed", None)


@pytest.mark.parametrize(
    ("precision", "pictures", "changed", "verdict"),
    [
        ("int8", 3, 0, "inconclusive"),
        ("int8", 135, 0, "inconclusive"),
        ("int8", 300, 0, "passed"),
        ("int8", 2, 1, "inconclusive"),
        ("int8", 400, 40, "failed"),
        ("fp16", 3, 0, "passed"),
        ("fp16", 300, 1, "inconclusive"),
    ],
)
def test_a_few_answers_that_stay_the_same_prove_nothing(
    precision: str, pictures: int, changed: int, verdict: str
) -> None:
    labelled = [judging.Labelled(Path(f"{i}.png"), 0, 0) for i in range(pictures)]
    p_NC = np.tile([0.9, 0.1], (pictures, 1))
    p_NC[:changed] = [0.1, 0.9]
    rung = parity.accuracy(precision, judging.LOST_POINTS[precision], labelled, p_NC)
    assert rung.verdict == verdict
    assert rung.worst == pytest.approx(100 * changed / pictures)
    assert rung.agreement == pytest.approx(1 - changed / pictures)


def test_without_examples_no_page_with_pictures_is_taken_over(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of the bundle for onnx shows them if it has examples."""
    run = evidence.trained.run
    source = run / "bundles" / "onnx"
    set_target(monkeypatch, "web", copied, same_file=True)
    for has_examples in (True, False):
        if not has_examples:
            shutil.rmtree(source / bundle.EXAMPLES)
            bundle.finish(source)
        pipeline.attempt(replace(evidence, examples=False), "web", {})
        taken = os.listdir(run / "bundles" / "web")
        assert bundle.EXAMPLES not in taken
        assert (bundle.PARITY_PAGE in taken) is not has_examples


def test_too_few_pictures_are_refused_unless_they_are_accepted(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, rung = evidence.trained.run, Rung("accuracy", 1.0, 1.9, "a.png", 135, 1.84, 0.941)
    set_target(monkeypatch, "int8", copied)
    monkeypatch.setattr(prove, "prove", lambda *_: Proof([rung], [], {}))
    with pytest.raises(
        NotProved,
        match=r"cannot be told .* 1\.90 ± 3\.61 points .* 135 pictures, expected at most 1\. "
        r".*--max-loss .*--accept-inconclusive",
    ):
        pipeline.attempt(evidence, "int8", {})
    accepting = replace(evidence, accept_inconclusive=True, examples=False)
    pipeline.attempt(accepting, "int8", {})
    assert open_bundle(run / "bundles" / "int8").status.startswith(
        "inconclusive: it loses 1.90 ± 3.61 points"
    )
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "inconclusive accuracy points lost 1.9 ± 3.61 (limit 1), 135 pictures, 94.1% of the "
        "answers the" in shown
    )
    assert "bundles/int8 was made from the trained model (inconclusive: it loses 1.90" in shown


def test_a_power_cut_between_two_renames_is_put_right(evidence: Evidence) -> None:
    run = evidence.trained.run
    before, bundles = open_bundle(run), run / "bundles"
    shutil.copytree(bundles / "onnx", bundles / "onnx.tmp")
    (bundles / "onnx").rename(bundles / "onnx.old.tmp")
    # until the next export, whoever reads finds what was finished, under its name
    whole = replace(
        before, folder=bundles / "onnx.old.tmp", model=bundles / "onnx.old.tmp/model.onnx"
    )
    for path in (run, bundles / "onnx", bundles / "onnx" / "model.onnx", whole.folder):
        assert open_bundle(path) == whole
    assert [(found, found.place) for found in bundle.of_run(run)] == [(whole, before.folder)]
    with pytest.raises(UserError, match=r"expected .*/bundles/int8, seen onnx in .* --to int8"):
        open_bundle(bundles / "int8")
    (whole.folder / bundle.BUNDLE).write_text("{}")
    with pytest.raises(UserError, match=r"changed since .* --to onnx"):
        open_bundle(run)
    shutil.copy(bundles / "onnx.tmp" / bundle.BUNDLE, whole.folder)
    (bundles / "writable.0123.tmp").touch()  # of a process that was killed while it asked
    with place.alone(run):
        assert open_bundle(run) == before
    shutil.copytree(bundles / "onnx", bundles / "onnx.old.tmp")  # or after both of them
    with place.alone(run):
        assert sorted(os.listdir(bundles)) == [".lock", "onnx", "onnx.tmp"]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt("by hand"), OSError(errno.EBUSY, "Device or resource busy")]
)
@pytest.mark.parametrize("renamed", [0, 1])
def test_what_interrupts_two_renames_leaves_a_bundle(
    error: BaseException, renamed: int, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`renamed`: how many of them were done when it came."""
    run = evidence.trained.run
    before, bundles, rename, calls = open_bundle(run), run / "bundles", Path.rename, []

    def interrupted(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == renamed + 1:
            raise error
        return rename(path, target)

    shutil.copytree(bundles / "onnx", bundles / "onnx.tmp")
    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(type(error)):
        place.take_place(bundles / "onnx.tmp", bundles / "onnx")
    assert open_bundle(run) == before
    assert sorted(os.listdir(bundles)) == ["onnx", "onnx.tmp"]


@pytest.mark.parametrize("scores", [{}, {bundle.UNKNOWN_SCORE: np.array([0.25], np.float32)}])
def test_examples_hold_all_that_an_answer_depends_on(
    scores: dict[str, np.ndarray], evidence: Evidence, tmp_path: Path
) -> None:
    trained: Any = evidence.trained
    trained.pictures["val/1.png"] = tmp_path / "1.png"
    Image.new("RGB", (8, 6)).save(tmp_path / "1.png")
    outputs = {bundle.PROBABILITIES: np.array([[0.75]], np.float32), **scores}
    prove.write_examples(evidence, tmp_path, Proof([], [], outputs))
    [row] = json.loads((tmp_path / bundle.EXAMPLES / bundle.EXPECTED).read_text()).values()
    assert row == {"label": "red", "probability": 0.75, "probabilities": [0.75]} | {
        name: 0.25 for name in scores
    }


def test_two_exports_of_a_run_at_once_are_refused(evidence: Evidence) -> None:
    run = evidence.trained.run
    other = FileLock(str(run / "bundles" / place.LOCK))
    with (
        other,
        pytest.raises(UserError, match=f"{run} is being exported by another process: wait"),
        place.alone(run),
    ):
        raise AssertionError("it has the lock")
    with place.alone(run):
        assert other.lock_file.endswith(".lock")


def test_a_second_export_is_refused_before_torch_is_loaded(evidence: Evidence) -> None:
    run = evidence.trained.run
    command = (
        "import runpy, sys\n"
        f"sys.argv = ['export', {str(run)!r}]\n"
        "try: runpy.run_module('export', run_name='__main__')\n"
        "finally: print('torch' in sys.modules)\n"
    )
    with place.alone(run):
        ran = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "False\n")
    assert ran.stderr == (
        f"error: {run} is being exported by another process: wait for it, then export again.\n"
    )


def test_where_no_lock_can_be_made_is_told(evidence: Evidence, tmp_path: Path) -> None:
    run = evidence.trained.run
    with (
        pytest.raises(UserError, match="is not a folder: expected a run"),
        place.alone(tmp_path / "x"),
    ):
        raise AssertionError("there is no run")
    with (
        read_only(run) as closed,
        pytest.raises(UserError, match=f"^{closed / 'bundles'} cannot be written"),
        place.alone(closed),
    ):
        raise AssertionError("it cannot be written")
    shutil.rmtree(run / "bundles")
    (run / "bundles").write_text("")
    with pytest.raises(UserError, match="bundles is a file: expected a folder"), place.alone(run):
        raise AssertionError("it is a file")


def test_what_stands_in_the_place_of_the_lock_is_named(evidence: Evidence) -> None:
    run = evidence.trained.run
    (run / "bundles" / place.LOCK).mkdir()
    words = r"bundles/\.lock is a folder: expected a file\. .*Remove it"
    with pytest.raises(UserError, match=words):
        open_bundle(run)
    with pytest.raises(UserError, match=words), place.alone(run):
        raise AssertionError("there is no lock")


@pytest.fixture
def ordered(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`pipeline.start` on this run."""
    monkeypatch.setattr(pipeline, "open_run", lambda run, **how: evidence.trained)
    monkeypatch.setattr(hard_pictures, "SIZES", hard_pictures.SIZES[:1])
    for name in ("onnx", "triton", "web"):
        set_target(monkeypatch, name, copied, same_file=True, of_onnx=name != "onnx")
    return lambda *targets: pipeline.start(ExportOptions(evidence.trained.run, to=targets))


def test_a_target_that_fails_does_not_stop_the_others(
    ordered: Callable[..., None],
    evidence: Evidence,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def no_npm() -> None:
        raise UserError("there is no npm")

    set_target(monkeypatch, "openvino", failing(UserError("OpenVINO refuses it")))
    set_target(monkeypatch, "web", copied, check=no_npm)
    with pytest.raises(NotProved, match=r"2 of 4 targets .*: web, openvino") as raised:
        ordered("openvino", "onnx", "web", "triton")
    assert raised.value.exit_code == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines() == ["error: there is no npm", "error: OpenVINO refuses it"]
    table = [
        line.split()
        for line in printed.out.splitlines()
        if line.split()[:1] in (["onnx"], ["triton"], ["web"])
    ]
    assert table[-3:] == [
        ["onnx", "finished"],
        ["triton", "finished"],
        ["web", "there", "is", "no", "npm"],
    ]
    assert {found.target for found in bundle.of_run(evidence.trained.run)} == {"onnx", "triton"}
    # alone, its error is that of the command
    with pytest.raises(UserError, match=r"^OpenVINO refuses it$"):
        ordered("openvino")


def test_what_is_made_from_a_bundle_that_failed_is_not_tried(
    ordered: Callable[..., None],
    evidence: Evidence,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.rmtree(evidence.trained.run / "bundles" / "onnx")
    set_target(monkeypatch, "onnx", failing(UserError("no exporter")))
    with pytest.raises(UserError, match="no exporter"):
        ordered("triton")
    with pytest.raises(NotProved, match=r"3 of 3 targets .*: onnx, triton, web"):
        ordered("triton", "web")
    assert "triton is made from the bundle for onnx" in capsys.readouterr().err


STOPPED = """
import sys, time
from pathlib import Path
from export import __main__ as command
from export import pipeline, place
from zoo.contract import bundle
from zoo.host.errors import run_main

def proved(evidence, name, folder):
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"half")
    (folder.parent / "ready").touch()
    time.sleep(60)

class Trained:
    run = Path(sys.argv[1])

class Evidence:
    trained = Trained

pipeline._proved = proved
pipeline.start = lambda options: pipeline.attempt(Evidence, "onnx", {})
run_main(lambda: command.main(type("Options", (), {"run": Trained.run})))
"""


def test_a_process_that_is_terminated_removes_what_is_half_made(tmp_path: Path) -> None:
    run = tmp_path / "run"
    made_bundle(run)
    before, bundles = open_bundle(run), run / "bundles"
    process = warm.Process(
        warm.TORCH,
        ["-c", STOPPED, str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 60
    while not (bundles / "ready").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert (bundles / "onnx.tmp").is_dir()
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "stopped by SIGTERM" in errors
    assert "Traceback" not in errors
    assert open_bundle(run) == before
    assert sorted(os.listdir(bundles)) == [".lock", "onnx", "ready"]
