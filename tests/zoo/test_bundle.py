"""The bundle's contract: what is written, what is opened, and what is said about a bundle that
cannot be."""

import hashlib
import json
import re
import shlex
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import onnx
import pytest

from export import place
from serve.engine.reload import load_model
from tests.zoo.made_bundle import CALIBRATED, LABELS, PRE, made_bundle, made_content, write_model
from zoo.answer import onnx_runtime
from zoo.answer.predict import Predictor
from zoo.contract import bundle, model_metadata, rundir
from zoo.contract.bundle import open_bundle
from zoo.contract.decision import Decision
from zoo.host import disk
from zoo.host.errors import UserError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run with a finished bundle for onnx."""
    made_bundle(tmp_path / "my run")
    return tmp_path / "my run"


def refused(path: Path, **how: Any) -> str:
    """What is said about a bundle that cannot be opened."""
    with pytest.raises(UserError) as error:
        open_bundle(path, **how)
    return str(error.value)


def change(path: Path, **values: Any) -> None:
    rundir.write_json(path, rundir.read_json(path) | values)


def test_a_bundle_says_what_was_written(run: Path) -> None:
    folder = run / "bundles/onnx"
    opened = open_bundle(folder)
    assert (opened.folder, opened.model, opened.target, opened.status) == (
        folder,
        folder / "model.onnx",
        "onnx",
        "ok",
    )
    assert (opened.labels, opened.pre, opened.decision, opened.outputs) == (
        LABELS,
        PRE,
        CALIBRATED,
        bundle.OUTPUTS,
    )
    assert opened.model_sha256 == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    assert opened.run["name"] == "colours-tiny"
    assert opened.versions == {"opset": 20}
    assert {
        "version": 1,
        "model": "model.onnx",
        "input": bundle.INPUT,
    }.items() <= opened.content.items()
    assert opened.content == rundir.read_json(folder / "bundle.json")


def test_the_files_of_a_bundle(run: Path) -> None:
    folder = run / "bundles/onnx"
    assert sorted(path.name for path in folder.iterdir()) == [
        "FINISHED.json",
        "bundle.json",
        "examples",
        "model.onnx",
        "parity.json",
    ]
    manifest = rundir.read_json(folder / "FINISHED.json")
    assert manifest["version"] == 1
    assert set(manifest["files"]) == {"bundle.json", "model.onnx", "parity.json"}
    rundir.write_json(folder / bundle.TIMING, {"ms": 3})
    (folder / "examples/1.png").write_bytes(b"picture")
    bundle.finish(folder)
    assert set(rundir.read_json(folder / "FINISHED.json")["files"]) == {
        "bundle.json",
        "model.onnx",
        "parity.json",
        "examples/1.png",
    }
    rundir.write_json(folder / bundle.TIMING, {"ms": 4})
    open_bundle(folder)


@pytest.mark.parametrize(
    "path", ["", "bundles/onnx", "bundles/onnx/model.onnx", "bundles/onnx/bundle.json"]
)
def test_run_folder_bundle_folder_and_model_file_lead_to_the_same(run: Path, path: str) -> None:
    assert (
        open_bundle(run / path) == open_bundle(str(run / path)) == open_bundle(run / "bundles/onnx")
    )


def test_a_bundle_may_leave_its_run(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run / "bundles/onnx", tmp_path / "elsewhere"))
    assert open_bundle(copy).labels == open_bundle(copy / "model.onnx").labels == LABELS


def test_the_metadata_in_the_model_is_that_of_the_bundle(run: Path) -> None:
    opened = open_bundle(run)
    [entry] = onnx.load(opened.model).metadata_props
    assert entry.key == "zoo"
    assert json.loads(entry.value) == {
        key: opened.content[key]
        for key in ("labels", "preprocessing", "decision", "outputs", "run")
    }
    assert model_metadata.differences(opened, entry.value) == []
    other = model_metadata.metadata(
        made_content(
            labels=["a", "b", "c"],
            decision=Decision(2.0, unknown=CALIBRATED.unknown),
            run=opened.run,
        )
    )["zoo"]
    assert model_metadata.differences(opened, other) == ["labels", "decision"]
    for broken in ("", "[]", "{}", '{"labels": '):
        assert model_metadata.differences(opened, broken) == [
            "labels",
            "preprocessing",
            "decision",
            "outputs",
            "run",
        ]


# --- what cannot be opened


def test_a_path_that_holds_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    for path, seen in (
        ("nothing", "nothing"),
        ("notes.txt", "a file of something else"),
        (".", "a folder of something else"),
    ):
        said = refused(tmp_path / path)
        assert "expected a bundle (RUN/bundles/onnx)" in said
        assert f", seen {seen}. " in said
        assert said.endswith("python -m export RUN --to onnx")


def test_a_run_without_the_bundle_says_which_there_are_and_the_command(run: Path) -> None:
    command = f"Export it: python -m export {shlex.quote(str(run))} --to "
    made = (run / "bundles/onnx").rename(run / "bundles/int8")
    shutil.copytree(made, run / "bundles/web")
    shutil.copytree(made, run / "bundles/half")
    (run / "bundles/half/FINISHED.json").unlink()
    said = refused(run)
    assert (
        f"has no bundle for onnx: expected {run}/bundles/onnx, seen int8, web in {run}/bundles. "
        in said
    )
    assert said.endswith(command + "onnx")
    assert refused(run / "bundles/openvino").endswith(command + "openvino")
    shutil.rmtree(run / "bundles")
    assert "seen none in" in refused(run)


def test_an_unfinished_run_has_to_be_finished_first(run: Path) -> None:
    (run / "FINISHED.json").unlink()
    (run / "resume").mkdir()
    for path in (run, run / "bundles/web"):
        assert f"finish it with: python -m finetune --resume {shlex.quote(str(run))}" in refused(
            path
        )
    shutil.rmtree(run / "bundles")
    assert f"finish it with: python -m finetune --resume {shlex.quote(str(run))}" in refused(run)


def test_an_unfinished_bundle_opens_only_for_its_own_export(tmp_path: Path) -> None:
    folder = made_bundle(tmp_path / "run", finished=False)
    said = refused(folder)
    assert "has no FINISHED.json: expected a finished bundle" in said
    assert "parity.json" in said
    assert said.endswith(f"Export it: python -m export {tmp_path / 'run'} --to onnx")
    assert refused(tmp_path / "run") == said
    opened = open_bundle(folder, finished=False)
    assert (opened.labels, opened.model_sha256) == (LABELS, None)
    for name in ("parity.json", "bundle.json"):
        (folder / name).unlink()
    assert "expected a finished bundle; its export was stopped" in refused(folder)
    assert f"{folder} has no bundle.json of its export" in refused(folder, finished=False)


@pytest.mark.parametrize("name", ["model.onnx", "bundle.json", "parity.json"])
def test_a_missing_or_changed_file_is_named(run: Path, name: str) -> None:
    path = run / "bundles/onnx" / name
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    said = refused(run)
    assert f"bundles/onnx: {name} changed " in said
    assert "(sha256 differs): copy the folder again, " in said
    assert f"or export it again: python -m export {shlex.quote(str(run))} --to onnx" in said
    path.unlink()
    if name == "bundle.json":
        assert refused(path.parent) == refused(run)
    said = refused(run)
    assert f"bundles/onnx lacks {name}: copy the whole folder again, " in said
    assert f"python -m export {shlex.quote(str(run))} --to onnx" in said


def test_only_what_is_asked_for_is_hashed(run: Path) -> None:
    (run / "bundles/onnx/parity.json").write_text("{}")
    open_bundle(run, verify=False)
    open_bundle(run, verify=("model.onnx", "bundle.json"))
    assert "parity.json changed" in refused(run, verify=("parity.json",))


def test_a_newer_contract_is_refused(run: Path) -> None:
    folder = run / "bundles/onnx"
    change(folder / "FINISHED.json", version=2)
    said = refused(run)
    assert "contract version 2; " in said
    assert "up to 1: update it with pip" in said
    change(folder / "bundle.json", version=2)
    bundle.finish(folder)
    said = refused(run)
    assert "bundle.json has version 2; " in said
    assert "up to 1: update it with pip" in said


def test_a_bundle_of_an_earlier_state_of_the_run_is_refused(run: Path, tmp_path: Path) -> None:
    change(run / "config.json", label_names=["new"])
    rundir.finish(run)
    said = refused(run)
    assert f"earlier state of {run}: expected " in said
    assert f"Export it: python -m export {shlex.quote(str(run))} --to onnx" in said
    assert open_bundle(run / "bundles/onnx").labels == LABELS  # named itself, it stands for itself


def test_the_plain_model_of_a_run_is_not_a_bundle(run: Path) -> None:
    for path in (run / "onnx/model.onnx", run / "bundles/onnx/other.onnx"):
        path.parent.mkdir(exist_ok=True)
        write_model(path, made_content())
    assert "expected a bundle (RUN/bundles/onnx)" in refused(run / "onnx/model.onnx")
    assert refused(run / "bundles/onnx/other.onnx").endswith(
        f"expected {run}/bundles/onnx/model.onnx."
    )


@pytest.mark.parametrize(
    "manifest", ["[]", "{}", '{"version": "1", "files": {}}', '{"version": 1, "files": []}']
)
def test_a_manifest_of_something_else(run: Path, manifest: str) -> None:
    (run / "bundles/onnx/FINISHED.json").write_text(manifest)
    said = refused(run)
    assert "FINISHED.json " in said
    assert "(expected version and files): copy the folder again" in said


def test_a_manifest_that_lacks_the_bundle_itself(run: Path) -> None:
    path = run / "bundles/onnx/FINISHED.json"
    files = rundir.read_json(path)["files"]
    change(path, files={name: files[name] for name in ("model.onnx", "parity.json")})
    assert "bundles/onnx has no bundle.json " in refused(run)
    change(path, files={name: files[name] for name in ("bundle.json", "parity.json")})
    assert "bundle.json is not what an export wrote (KeyError('model.onnx'))" in refused(run)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"labels": None}, "is not what an export wrote"),
        ({"run": 1}, "is not what an export wrote"),
        ({"version": "1"}, "is not what an export wrote"),
        ({"preprocessing": {"input_size": [3, 8]}}, "is not what"),
        ({"preprocessing": {"input_size": [3, 8, 9]}}, "input_size must be"),
        ({"decision": {"temperature": 0}}, "expected temperature, views, unknown and sets"),
        ({"labels": []}, "seen 0 labels"),
        (
            {"outputs": ["probabilities"]},
            "the outputs embedding, probabilities, unknown_score, seen 3 labels",
        ),
        (
            {"outputs": ["probabilities", "embedding"]},
            "the outputs embedding, probabilities, unknown_score, seen 3",
        ),
        (
            {"outputs": [*bundle.OUTPUTS, "more"]},
            "seen 3 labels and the outputs probabilities, unknown_score, embedding",
        ),
    ],
)
def test_content_that_no_export_writes(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    content = made_content() | values
    with pytest.raises(UserError, match=re.escape(said)):
        bundle.write_description(tmp_path, content)
    assert list(tmp_path.iterdir()) == []
    rundir.write_json(tmp_path / "bundle.json", {"version": 1, "model": "model.onnx"} | content)
    write_model(tmp_path / "model.onnx", made_content())
    bundle.finish(tmp_path)
    assert said in refused(tmp_path)
    (tmp_path / "bundle.json").write_text("[1]")
    assert "bundle.json is not what an export wrote" in refused(tmp_path, verify=False)


def swap_once(run: Path) -> None:
    """Let an export of the same run take the place of the bundle, as export/place.py does."""
    place_of = run / "bundles" / "onnx"
    newer = run / "bundles" / "onnx.tmp"
    shutil.copytree(place_of, newer)
    change(newer / bundle.PARITY, written=time.monotonic_ns())
    bundle.finish(newer)
    place.take_place(newer, place_of)


def test_a_bundle_that_is_swapped_in_a_loop_while_it_is_opened_in_a_loop(run: Path) -> None:
    stopped, swapped = threading.Event(), []

    def swap() -> None:
        while not stopped.wait(0.1):
            swap_once(run)
            swapped.append(1)

    writer = threading.Thread(target=swap)
    writer.start()
    try:
        while len(swapped) < 10:
            assert open_bundle(run).labels == LABELS
    finally:
        stopped.set()
        writer.join()


@pytest.mark.parametrize("what", ["Predictor", "load"])
def test_a_bundle_that_is_swapped_before_its_model_is_loaded(
    run: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    folder, real, swaps = run / "bundles" / "onnx", onnx_runtime.load_session, []

    def swapped(model: Path, *args: Any, **options: Any) -> Any:
        if not swaps:
            swaps.append(1)
            change(folder / bundle.BUNDLE, status="newer")
            bundle.finish(folder)
            swap_once(run)
        return real(model, *args, **options)

    monkeypatch.setattr(onnx_runtime, "load_session", swapped)
    if what == "Predictor":
        opened = Predictor(run, provider="cpu", check=False).bundle
    else:
        opened = load_model(run, provider="cpu", threads=1, check=False).predictor.bundle
    assert swaps
    assert opened == open_bundle(run)
    assert opened.status == "newer"


@pytest.mark.parametrize("moment", ["read_manifest", "read_json"])
@pytest.mark.parametrize("between", [False, True])
def test_a_bundle_that_is_swapped_at_a_moment_of_its_reading(
    run: Path, monkeypatch: pytest.MonkeyPatch, moment: str, between: bool
) -> None:
    """`between`: it is opened between the two renames, from where it was set aside."""
    folder, real, swaps = run / "bundles" / "onnx", getattr(rundir, moment), []

    def swapped(*args: Any, **options: Any) -> Any:
        if not swaps:
            swaps.append(1)
            aside = disk.set_aside(folder)
            if between:
                (run / "bundles" / "newer").rename(folder)
                shutil.rmtree(aside)
            else:
                swap_once(run)
        return real(*args, **options)

    if between:
        shutil.copytree(folder, run / "bundles" / "newer")
        folder.rename(disk.set_aside(folder))
    monkeypatch.setattr(rundir, moment, swapped)
    opened = open_bundle(run)
    assert swaps
    assert opened.folder == folder
    assert opened.files == rundir.read_json(folder / bundle.FINISHED)["files"]


@pytest.mark.parametrize("path", ["no-such-run", ".", "..", "/", "run/..", "./"])
def test_any_path_without_a_bundle_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        bundle.open_bundle(Path(path))
