"""The run folder's contract, and the model card that stands in it."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from tests.made_run import FRUIT, Made, made_run
from zoo import card, rundir
from zoo.errors import UserError
from zoo.preprocess import Preprocessing

HOSTILE = ["---\nlicense: mit", "<script>alert(1)</script>", "a|b", "`code`", "``", "# title", "two\n\nparagraphs",
           "\n", "[link](http://x.example)", "{config}", "\u202egnp"]


# --- names


@pytest.mark.parametrize(("data", "base", "name"), [
    ("/pictures/mydataset", "vit_base_21k", "mydataset-vit_base_21k"),
    ("/pictures/mydataset/", "efficientnet_lite0", "mydataset-efficientnet_lite0"),
    ("/x/My  Pictures", "timm/resnet18.a1_in1k", "My-Pictures-resnet18.a1_in1k"),
    ("/x/flowers", "hf-hub:org/some.model", "flowers-org-some.model"),
    ("/x/ünïcödé 猫", "a:b*c?", "ünïcödé-猫-a-b-c"),
    ("/", "resnet18", "resnet18"),
])
def test_default_name(data: str, base: str, name: str) -> None:
    assert rundir.default_name(data, base) == name


def test_default_name_of_a_relative_path_is_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "birds").mkdir()
    monkeypatch.chdir(tmp_path / "birds")
    assert rundir.default_name(".", "resnet18") == "birds-resnet18"


# --- JSON


@pytest.mark.parametrize("value", [
    {"a": [1, 2.5, None, True]}, ["猫", "two\nlines", '"'], {"path": os.fsdecode(b"cat/\xff\\n.png")}, {}])
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
    with pytest.raises(UserError, match=r"x\.json is missing: expected a file of a run folder made by"):
        rundir.read_json(tmp_path / "x.json")
    for content in (b'{"a": ', b"", b"\xff\xfe"):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(UserError, match=r"x\.json is not readable as JSON .*changed or cut off"):
            rundir.read_json(tmp_path / "x.json")


# --- the manifest


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A small finished folder, with what does not belong to the manifest beside it."""
    run = tmp_path / "runs" / "x"
    for name in ("config.json", "model.safetensors", "figures/a.svg", "tensorboard/events.0", "resume/state.pt",
                 "resume/lock", "onnx/model.onnx", "bundles/onnx/FINISHED.json"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(name.encode())
    rundir.finish(run)
    return run


def test_the_manifest_holds_the_digests_of_the_runs_own_files(run: Path) -> None:
    own = ["config.json", "figures/a.svg", "model.safetensors", "tensorboard/events.0"]
    assert rundir.open_finished(run, verify=True) == {
        "version": 1, "files": {name: hashlib.sha256(name.encode()).hexdigest() for name in own}}
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
    with pytest.raises(UserError, match=r"x lacks figures/a\.svg, model\.safetensors: copy the whole folder again"):
        rundir.open_finished(run)


def test_a_changed_byte_is_found_on_request(run: Path) -> None:
    (run / "model.safetensors").write_bytes(b"model.safetensorz")
    rundir.open_finished(run)
    with pytest.raises(UserError, match=r"x: model\.safetensors changed since the run finished \(sha256 differs\)"):
        rundir.open_finished(run, verify=True)


def test_only_the_named_files_are_compared(run: Path) -> None:
    (run / "model.safetensors").write_bytes(b"model.safetensorz")
    assert rundir.open_finished(run, verify=("config.json", "figures/a.svg")) == rundir.open_finished(run)
    for names in (["model.safetensors"], ("config.json", "model.safetensors"), {"model.safetensors"}):
        with pytest.raises(UserError, match=r"x: model\.safetensors changed since the run finished \(sha256 differs\)"):
            rundir.open_finished(run, verify=names)
    (run / "model.safetensors").write_bytes(b"model.safetensors")
    rundir.open_finished(run, verify=("config.json", "model.safetensors"))


def test_a_file_that_the_run_did_not_write_cannot_pass_for_its_own(run: Path) -> None:
    (run / "bank.safetensors").write_bytes(b"planted")
    with pytest.raises(UserError, match=r"x: bank\.safetensors changed since the run finished"):
        rundir.open_finished(run, verify=("config.json", "bank.safetensors"))


def test_a_newer_contract_is_refused(run: Path) -> None:
    manifest = rundir.read_json(run / rundir.FINISHED)
    rundir.write_json(run / rundir.FINISHED, manifest | {"version": rundir.VERSION + 1})
    with pytest.raises(UserError, match="has contract version 2; this program reads up to 1: update it"):
        rundir.open_finished(run)


def test_an_unfinished_run_says_how_to_finish_it(run: Path) -> None:
    (run / rundir.FINISHED).unlink()
    assert not rundir.is_finished(run)
    command = re.escape(f"finish it with: python -m finetune --resume {run}")
    with pytest.raises(UserError, match=f"has no FINISHED.json: expected a finished run; {command}"):
        rundir.open_finished(run)
    shutil.rmtree(run / "resume")
    with pytest.raises(UserError, match=r"has no FINISHED\.json: expected a finished run; it is not a run folder"):
        rundir.open_finished(run)
    with pytest.raises(UserError, match="nothing is not a folder: expected a run folder, such as runs/NAME"):
        rundir.open_finished(run / "nothing")


# --- the card


def made_card(folder: Path, **how: Any) -> str:
    """The card of a made-up run, as it is written to disk."""
    run, _ = made_run(folder, pictures=2, **how)
    config = json.loads((run / rundir.CONFIG).read_text())
    pre = Preprocessing(size=96, crop_mode="squash", crop_pct=1.0, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    rundir.write_json(run / rundir.CONFIG, config | {"pretrained_cfg": pre.to_config()})
    rundir.write_text(run / rundir.CARD, card.text(run))
    return (run / rundir.CARD).read_text(encoding="utf-8")


def test_front_matter_is_what_the_hub_reads(tmp_path: Path) -> None:
    assert ModelCard(made_card(tmp_path)).data.to_dict() == {
        "library_name": "timm", "pipeline_tag": "image-classification", "license": "apache-2.0",
        "base_model": "timm/tf_efficientnet_lite0.in1k", "tags": ["image-classification", "timm"]}


def test_the_card_tells_the_numbers_of_the_run(tmp_path: Path) -> None:
    text = made_card(tmp_path)
    report = json.loads((tmp_path / "fruit-efficientnet_lite0" / rundir.REPORT).read_text())
    head = report["headline"]
    low, high = head["top1_interval"]
    assert f"| top-1 | {100 * head['top1']:.2f}% (95 % interval {100 * low:.1f}% to {100 * high:.1f}%) |" in text
    assert f"| macro F1 | {head['macro_f1']:.3f} |" in text
    assert f"| {head['split']} ({head['pictures']} pictures: {head['note']}) | |" in text
    assert all(f"`{name}`" in text for name in FRUIT)
    assert "Input: 96 px, `crop_mode` squash, mean [0.5, 0.5, 0.5], std [0.5, 0.5, 0.5]" in text
    assert "Pictures: 60 train, 20 val, 20 test." in text
    assert "| lr | `0.003` | interpolated between the anchors |" in text
    assert "forbids" not in text


@pytest.mark.parametrize(("licence", "warned"), [("cc-by-nc-4.0", True), ("apache-2.0", False), (None, False)])
def test_a_licence_that_forbids_commercial_use_is_told(tmp_path: Path, licence: str | None, warned: bool) -> None:
    text = made_card(tmp_path, made=Made(licence=licence))
    assert ("**The licence of the base forbids commercial use.**" in text) == warned
    assert f"licence {licence or 'unknown'})" in text
    assert ModelCard(text).data.to_dict().get("license") == licence


def test_hostile_class_names_stay_inline_code(tmp_path: Path) -> None:
    text = made_card(tmp_path, classes=HOSTILE)
    assert ModelCard(text).data.to_dict().get("license") == "apache-2.0"
    assert len(re.findall(r"^---$", text, re.M)) == 2
    [line] = [line for line in text.splitlines() if line.startswith("Image classifier with 11 classes: ")]
    named = line.removeprefix("Image classifier with 11 classes: ")
    assert named == ("`--- license: mit`, `<script>alert(1)</script>`, `a\\|b`, `'code'`, `''`, `# title`, "
                     "`two paragraphs`, (empty), `[link](http://x.example)`, `{config}`, `\u202egnp`.")
    assert "<script>" not in re.sub(r"`[^`\n]*`", "", text)


def test_only_the_first_of_many_classes_are_listed(tmp_path: Path) -> None:
    text = made_card(tmp_path, classes=[f"class {i:02}" for i in range(60)])
    assert "Image classifier with 60 classes: `class 00`, " in text
    assert "`class 49`, and more." in text
    assert "class 50" not in text


def test_what_a_killed_writer_left_is_not_part_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "FINISHED.json.tmp").write_text("half")
    rundir.finish(tmp_path)
    assert set(rundir.open_finished(tmp_path, verify=True)["files"]) == {"config.json"}
