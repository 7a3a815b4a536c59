"""The run folder's contract."""

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from zoo.contract import run_name, rundir
from zoo.files.folders import is_picture_path
from zoo.host.errors import UserError

# --- names


@pytest.mark.parametrize(
    ("data", "base", "name"),
    [
        ("/pictures/mydataset", "vit_base_21k", "mydataset-vit_base_21k"),
        ("/pictures/mydataset/", "efficientnet_lite0", "mydataset-efficientnet_lite0"),
        ("/x/My  Pictures", "timm/resnet18.a1_in1k", "My-Pictures-resnet18.a1_in1k"),
        ("/x/flowers", "hf-hub:org/some.model", "flowers-org-some.model"),
        ("/x/ünïcödé 猫", "a:b*c?", "ünïcödé-猫-a-b-c"),
        ("/", "resnet18", "resnet18"),
        (
            f"/x/{'猫' * 85}",
            "resnet18",
            f"{'猫' * 63}-2e65491c",
        ),  # a folder's name has up to 255 bytes
    ],
    ids=range(7),
)
def test_default_name(data: str, base: str, name: str) -> None:
    assert run_name.default_name(data, base) == name


def test_default_name_of_a_relative_path_is_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "birds").mkdir()
    monkeypatch.chdir(tmp_path / "birds")
    assert run_name.default_name(".", "resnet18") == "birds-resnet18"


# --- JSON


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True]},
        ["猫", "two\nlines", '"'],
        {"path": os.fsdecode(b"cat/\xff\\n.png")},
        {},
    ],
)
def test_json_comes_back_as_it_was(tmp_path: Path, value: Any) -> None:
    rundir.write_json(tmp_path / "x.json", value)
    assert rundir.read_json(tmp_path / "x.json") == value
    assert (tmp_path / "x.json").read_bytes().decode("utf-8").endswith("\n")
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    rundir.write_json(path, {"version": 1})
    before, seen = path.read_bytes(), []

    def watched(descriptor: int) -> None:
        seen.append(path.read_bytes())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", watched)
    with pytest.raises(OSError, match="No space left"):
        rundir.write_json(path, {"version": 2})
    assert seen == [before]
    assert path.read_bytes() == before
    monkeypatch.undo()
    rundir.write_json(path, {"version": 2})
    assert rundir.read_json(path) == {"version": 2}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_what_json_lacks_is_refused_before_the_file_is_touched(tmp_path: Path, value: Any) -> None:
    rundir.write_json(tmp_path / "x.json", 1)
    with pytest.raises((ValueError, TypeError)):
        rundir.write_json(tmp_path / "x.json", {"loss": value})
    assert rundir.read_json(tmp_path / "x.json") == 1


def test_json_that_is_missing_or_cut_off(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.json is missing: expected .*python -m finetune"):
        rundir.read_json(tmp_path / "x.json")
    for content in (b'{"a": ', b"", b"\xff\xfe"):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(
            UserError, match=r"x\.json is not readable as JSON .*changed or cut off"
        ):
            rundir.read_json(tmp_path / "x.json")


# --- the manifest


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A small finished folder, with what does not belong to the manifest beside it."""
    run = tmp_path / "runs" / "x"
    for name in (
        "config.json",
        "model.safetensors",
        "figures/a.svg",
        "tensorboard/events.0",
        "resume/best.safetensors",
        "resume/lock",
        "onnx/model.onnx",
        "bundles/onnx/FINISHED.json",
    ):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(name.encode())
    rundir.finish(run)
    return run


def test_the_manifest_holds_the_digests_of_the_runs_own_files(run: Path) -> None:
    own = ["config.json", "figures/a.svg", "model.safetensors", "tensorboard/events.0"]
    assert rundir.open_finished(run, verify=True) == {
        "version": 1,
        "files": {name: hashlib.sha256(name.encode()).hexdigest() for name in own},
    }
    assert rundir.is_finished(run)


def test_what_export_adds_later_changes_nothing(run: Path) -> None:
    manifest = rundir.open_finished(run)
    shutil.rmtree(run / "resume")
    (run / "onnx/model.onnx").write_bytes(b"another")
    (run / "bundles/int8").mkdir()
    (run / "bundles/int8/model.onnx").write_bytes(b"new")
    assert rundir.open_finished(run, verify=True) == manifest


def test_missing_files_are_named(run: Path) -> None:
    (run / "model.safetensors").unlink()
    (run / "figures/a.svg").unlink()
    with pytest.raises(
        UserError, match=r"x lacks figures/a\.svg, model\.safetensors: copy the whole folder again"
    ):
        rundir.open_finished(run)


def test_a_changed_byte_is_found_on_request(run: Path) -> None:
    (run / "model.safetensors").write_bytes(b"model.safetensorz")
    rundir.open_finished(run)
    with pytest.raises(
        UserError, match=r"x: model\.safetensors changed .*\(sha256 differs\): copy"
    ):
        rundir.open_finished(run, verify=True)


def test_only_the_named_files_are_compared(run: Path) -> None:
    (run / "model.safetensors").write_bytes(b"model.safetensorz")
    assert rundir.open_finished(
        run, verify=("config.json", "figures/a.svg")
    ) == rundir.open_finished(run)
    for names in (
        ["model.safetensors"],
        ("config.json", "model.safetensors"),
        {"model.safetensors"},
    ):
        with pytest.raises(
            UserError,
            match=r"x: model\.safetensors changed .*\(sha256 differs\): copy",
        ):
            rundir.open_finished(run, verify=names)
    (run / "model.safetensors").write_bytes(b"model.safetensors")
    rundir.open_finished(run, verify=("config.json", "model.safetensors"))


def test_a_file_that_the_run_did_not_write_cannot_pass_for_its_own(run: Path) -> None:
    (run / "bank.safetensors").write_bytes(b"planted")
    with pytest.raises(UserError, match=r"x: bank\.safetensors changed .*\(sha256 differs\): copy"):
        rundir.open_finished(run, verify=("config.json", "bank.safetensors"))


def test_a_newer_contract_is_refused(run: Path) -> None:
    manifest = rundir.read_json(run / rundir.FINISHED)
    rundir.write_json(run / rundir.FINISHED, manifest | {"version": rundir.VERSION + 1})
    with pytest.raises(UserError, match=r"contract version 2; .* up to 1: update it with pip"):
        rundir.open_finished(run)


def test_an_unfinished_run_says_how_to_finish_it(run: Path) -> None:
    (run / rundir.FINISHED).unlink()
    assert not rundir.is_finished(run)
    command = re.escape(f"finish it with: python -m finetune --resume {run}")
    with pytest.raises(
        UserError, match=f"has no FINISHED.json: expected a finished run; {command}"
    ):
        rundir.open_finished(run)
    shutil.rmtree(run / "resume")
    with pytest.raises(
        UserError, match=r"has no FINISHED\.json: expected a finished run; it is not a run folder"
    ):
        rundir.open_finished(run)
    with pytest.raises(
        UserError, match="nothing is not a folder: expected a run folder, such as runs/NAME"
    ):
        rundir.open_finished(run / "nothing")


def test_what_a_killed_writer_left_is_not_part_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "FINISHED.json.tmp").write_text("half")
    rundir.finish(tmp_path)
    assert set(rundir.open_finished(tmp_path, verify=True)["files"]) == {"config.json"}


def test_a_file_of_holes_is_refused_before_it_is_hashed(tmp_path: Path) -> None:
    rundir.write_json(tmp_path / rundir.CONFIG, {})
    rundir.finish(tmp_path)
    manifest = rundir.read_json(tmp_path / rundir.FINISHED)
    (tmp_path / rundir.WEIGHTS).touch()
    os.truncate(tmp_path / rundir.WEIGHTS, 1 << 40)
    rundir.write_json(
        tmp_path / rundir.FINISHED,
        {**manifest, "files": manifest["files"] | {rundir.WEIGHTS: "0" * 64}},
    )
    with pytest.raises(UserError, match="most of which are holes"):
        rundir.open_finished(tmp_path, verify=True)


@pytest.mark.skipif(os.name == "nt", reason="there a letter and a colon are a drive")
def test_a_class_may_be_called_like_a_drive() -> None:
    assert is_picture_path("A:colon/1.png")
    assert not is_picture_path("A:colon/../1.png")
