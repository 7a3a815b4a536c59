"""Whole runs: the exact files of a finished folder, who can open it, and what a run promises about
its result."""

import csv
import html
import json
import math
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import tyro
from huggingface_hub import ModelCard

from finetune import write_run
from finetune.__main__ import main
from finetune.pipeline import prepare_run, start
from finetune.recipe.run import Run
from finetune.report.history import epoch_means
from finetune.run_folder import events
from finetune.run_folder.claim import claim
from tests.file_modes import odd_modes
from tests.made_recipe import SHORT
from zoo.bases.catalog import find_base
from zoo.contract import recipe_rows, rundir
from zoo.files import tables
from zoo.host.errors import UserError
from zoo.network import build as zoo_model
from zoo.picture.decoding import decode
from zoo.picture.preprocess import Preprocessing, evaluate

FILES = {
    "config.json",
    "model.safetensors",
    "decision.json",
    "recipe.json",
    "data.json",
    "files.csv",
    "local.json",
    "metrics.jsonl",
    "report.json",
    "predictions.csv",
    "bank.safetensors",
    "report.html",
    "README.md",
    "FINISHED.json",
    "figures/confusion.svg",
    "figures/loss.svg",
    "figures/lr.svg",
    "figures/top1.svg",
    "figures/reliability.svg",
    "figures/unknown.svg",
    "figures/error.svg",
    "figures/precision-recall.svg",
    "figures/roc.svg",
}


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def predictions(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "predictions.csv").read_text().splitlines()))


def test_a_finished_run_has_exactly_these_files(finished_run: Path) -> None:
    found = files(finished_run)
    board = {name for name in found if name.startswith("tensorboard/events.out.tfevents.")}
    assert board
    assert found - board == FILES
    manifest = rundir.open_finished(finished_run, verify=True)
    assert set(manifest["files"]) == found - {"FINISHED.json"}
    assert odd_modes(finished_run) == {}  # whoever may read the folder may read its weights


def test_the_command_that_shows_the_curves_is_printed_once(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run.next_commands(finished_run)
    line = f"  tensorboard --logdir {finished_run}"
    assert capsys.readouterr().out.splitlines().count(line) == 1
    write_run.next_commands(tmp_path)  # as of a published copy, which has no events
    assert "tensorboard" not in capsys.readouterr().out


def test_nothing_of_the_run_names_a_path_of_this_machine_except_local_json(
    finished_run: Path,
) -> None:
    root = str(Path(json.loads((finished_run / "local.json").read_text())["data"]).parent)
    assert [
        name for name in files(finished_run) if root.encode() in (finished_run / name).read_bytes()
    ] == ["local.json"]


def test_timm_opens_the_run_without_our_code(finished_run: Path, digits: Path) -> None:
    theirs = timm.create_model(f"local-dir:{finished_run}", pretrained=True).eval()
    ours = zoo_model.load_network(finished_run)
    config = rundir.read_json(finished_run / "config.json")
    assert config["label_names"] == [str(digit) for digit in range(10)]
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32]
    assert config["pretrained_cfg"]["crop_mode"] == "squash"
    assert "num_classes" not in config.get("model_args", {})
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs))
    pre = Preprocessing.from_config(config["pretrained_cfg"])
    paths = sorted((digits / "test").rglob("*.png"))[::8]
    batch = torch.stack([transform(decode(path)) for path in paths])
    assert np.array_equal(batch.numpy(), np.stack([evaluate(decode(path), pre) for path in paths]))
    with torch.inference_mode():
        logits = theirs(batch)
        assert torch.equal(logits, ours(batch))
    rows = {row["path"]: row for row in predictions(finished_run)}
    for path, row in zip(paths, logits.softmax(1), strict=True):
        recorded = rows[path.relative_to(digits).as_posix()]
        assert recorded["plain_predicted"] == config["label_names"][int(row.argmax())]
        assert float(recorded["plain_confidence"]) == pytest.approx(float(row.max()), abs=1e-4)


def test_report_numbers_come_from_the_predictions(finished_run: Path) -> None:
    report = rundir.read_json(finished_run / "report.json")
    rows = [row for row in predictions(finished_run) if row["split"] == "test"]
    assert report["headline"]["split"] == "test"
    assert report["headline"]["pictures"] == len(rows) == 40
    assert report["headline"]["top1"] == pytest.approx(
        np.mean([row["label"] == row["predicted"] for row in rows])
    )
    loss = -np.mean([math.log(float(row["label_probability"])) for row in rows])
    assert report["headline"]["plain"]["loss"] == pytest.approx(
        -np.mean([math.log(float(row["plain_label_probability"])) for row in rows]), rel=1e-4
    )
    assert report["headline"]["loss"] == pytest.approx(loss, rel=1e-4)
    history = events.read_events(finished_run)
    # 100 pictures are 3.125 batches
    assert [step for step, _ in history["select/top1"]] == [0, 4, 7]
    assert report["best"]["top1"] == max(value for _, value in history["select/top1"])


def test_training_top1_stands_beside_that_of_select(
    finished_run: Path, printed_by_finished_run: str
) -> None:
    """On each epoch's line of augmented pictures; at the end also of pictures as they are."""
    history = events.read_events(finished_run)
    means = epoch_means(history, "train/top1")
    lines = [line for line in printed_by_finished_run.splitlines() if line.startswith("epoch ")]
    form = (
        r"epoch +\d/2  train loss [\d.]+ top-1 ([\d.]+)%  "
        r"select loss [\d.]+ top-1 ([\d.]+)%  \d+ img/s"
    )
    for line, training, (_, select) in zip(lines, means, history["select/top1"][1:], strict=True):
        found = re.fullmatch(form, line)
        assert found, line
        assert [*map(float, found.groups())] == pytest.approx(
            [100 * training, 100 * select], abs=0.06
        )
    # all 100 training pictures, as they are fewer than 256
    assert history["train/plain_pictures"] == [(7, 100)]
    [(_, plain)] = history["train/plain_top1"]
    assert 100 * plain == pytest.approx(round(100 * plain))
    figure = (finished_run / "figures" / "top1.svg").read_text()
    assert "training" in figure


def test_the_card_is_a_hub_card(finished_run: Path) -> None:
    card = ModelCard.load(finished_run / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.base_model == "timm/tf_efficientnet_lite0.in1k"
    assert f"{rundir.read_json(finished_run / 'report.json')['headline']['top1']:.2%}" in card.text


def test_a_finished_run_is_not_run_again(
    finished_run: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: (finished_run / name).stat().st_mtime_ns for name in files(finished_run)}
    start(Run(data=str(digits), out=finished_run), SHORT)
    assert "already finished" in capsys.readouterr().out
    assert before == {
        name: (finished_run / name).stat().st_mtime_ns for name in files(finished_run)
    }


def test_a_run_killed_after_its_last_file_is_tidied(run_copy: Path, digits: Path) -> None:
    (run_copy / "resume").mkdir()
    (run_copy / "resume" / "best-3.safetensors").write_bytes(b"left behind")
    start(Run(data=str(digits), out=run_copy), SHORT)
    assert not (run_copy / "resume").exists()


def test_first_line_is_the_device_and_the_recipe_has_its_reasons(
    finished_run: Path, printed_by_finished_run: str
) -> None:
    run, out = finished_run, printed_by_finished_run
    assert out.splitlines()[0] == "device: cpu (asked for by --device)"
    shown, folded = recipe_rows.parted(rundir.read_json(run / "recipe.json"))
    for name, row in shown.items():
        assert f"  {name.replace('_', '-')} " in out
        assert row["why"] in out
    assert {"epochs", "image_size", "lr", "batch_size", "features"} <= set(shown)
    assert len(shown) <= 15
    line = next(line for line in out.splitlines() if "further settings are off" in line)
    assert line.startswith(f"  {len(folded)} further settings are off or at their usual value: ")
    assert all(f"--{name.replace('_', '-')}" in line for name in folded)
    page = (run / "report.html").read_text()
    assert page.index(f"<summary>{len(folded)} further settings") < page.index(">sam-rho</abbr>")
    assert page.index(">epochs</abbr>") < page.index(f"<summary>{len(folded)} further settings")
    assert f"<summary>{len(folded)} further settings" in (run / "README.md").read_text()


def test_advice_is_a_command_that_starts_a_run(
    finished_run: Path,
    printed_by_finished_run: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    digits: Path,
) -> None:
    run, lines = finished_run, printed_by_finished_run.splitlines()
    printed = lines[
        next(i for i, line in enumerate(lines) if line.startswith("advice: ")) + 1
    ].strip()
    on_page = html.unescape(
        re.findall(
            r"<pre><code>(python -m finetune .*?)</code></pre>", (run / "report.html").read_text()
        )[0]
    )
    monkeypatch.chdir(tmp_path)
    started: list[tuple[Run, dict[str, Any]]] = []
    monkeypatch.setattr("finetune.pipeline.start", lambda run, given: started.append((run, given)))
    for command in (printed, on_page.replace(" DATA ", f" {digits} ")):
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "finetune"]
        tyro.cli(main, args=words[3:], config=(tyro.conf.FlagCreatePairsOff,))
    assert started[0][1] == started[1][1]
    for order, given in started:
        taken = claim(order, given)  # no folder of another command
        taken.lock.release()
        assert not taken.goes_on
        assert taken.order.data == digits
        assert len([name for name, value in SHORT.items() if given[name] != value]) == 1
        shutil.rmtree(taken.folder)


def test_a_run_is_never_worse_on_select_than_its_probe(
    finished_run: Path, printed_by_finished_run: str
) -> None:
    """Two epochs of few steps made this one worse."""
    run, out = finished_run, printed_by_finished_run
    report = rundir.read_json(run / "report.json")
    worse = events.read_events(run)["select/top1"]
    assert worse[1][1] < worse[0][1]
    assert report["probe"]["kept"] is True
    assert report["best"]["top1"] == report["probe"]["select_top1"]
    assert report["best"]["top1"] == pytest.approx(report["splits"]["val"]["plain"]["top1"])
    # ten classes at 32 px: features alone are far above chance
    assert report["headline"]["top1"] > 0.6
    assert "the probe is the result" in out
    assert "probe" in (run / "report.html").read_text()


def test_a_loss_that_is_not_finite_stops_the_run(
    digits: Path, tiny_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"the loss of step \d+ is (nan|inf).*--lr"):
        start(
            Run(data=str(digits), base=str(tiny_base), out=tmp_path / "run"),
            {
                "image_size": 32,
                "lr": 1e3,
                "optimizer": "sgd",
                "probe": "off",
                "batch_norm": "frozen",
                "batch_size": 4,
            },
        )
    assert not (tmp_path / "run" / "FINISHED.json").exists()


@pytest.mark.usefixtures("quick_end")
def test_the_published_recipe_starts_from_a_random_head(
    digits: Path, tiny_base: Path, tmp_path: Path
) -> None:
    start(
        Run(data=str(digits), base=str(tiny_base), out=tmp_path / "run"),
        {"recipe": "warmup-step", "epochs": 4, "image_size": 32, "threads": 1},
    )
    report = rundir.read_json(tmp_path / "run" / "report.json")
    assert report["probe"] is None
    history = events.read_events(tmp_path / "run")
    assert history["select/top1"][0][1] < 0.4
    # 100 pictures at batch 64: one step an epoch; warm-up over the first of 4, x0.1 from the fourth
    assert [lr for _, lr in history["train/lr"]] == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4])


@pytest.mark.usefixtures("quick_fit")
def test_a_finished_run_is_a_base(finished_run: Path, digits: Path, tmp_path: Path) -> None:
    start(
        Run(data=str(digits), base=str(finished_run), out=tmp_path / "run"),
        {"probe_only": True, "features": "fp32"},
    )
    assert rundir.read_json(tmp_path / "run" / "config.json")["pretrained_cfg"]["input_size"] == [
        3,
        32,
        32,
    ]
    assert [
        name
        for name in files(tmp_path / "run")
        if str(finished_run.parent).encode() in (tmp_path / "run" / name).read_bytes()
    ] == ["local.json"]
    report = rundir.read_json(tmp_path / "run" / "report.json")
    assert report["best"]["step"] == 0
    # nothing else was asked for
    assert report["probe"] == {"select_top1": report["best"]["top1"], "kept": False}
    base = find_base(str(finished_run))
    assert report["base"]["licence"] == base.licence == "apache-2.0"


@pytest.mark.usefixtures("quick_end")
def test_a_licence_without_commercial_use_is_said_when_such_a_base_is_used(
    tiny_base: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    config = rundir.read_json(base / "config.json")
    config["pretrained_cfg"]["license"] = "cc-by-nc-4.0"
    rundir.write_json(base / "config.json", config)
    rundir.finish(base)
    start(
        Run(data=str(digits), base=str(base), out=tmp_path / "next"),
        {"probe_only": True, "features": "fp32"},
    )
    assert "cc-by-nc-4.0" in capsys.readouterr().out
    assert "forbids commercial use" in (tmp_path / "next" / "README.md").read_text()
    assert (
        find_base(str(tmp_path / "next")).licence == "cc-by-nc-4.0"
    )  # and so on, from base to base


@pytest.mark.usefixtures("quick_end")
@pytest.mark.parametrize("broken", ["cut", "text"])
def test_an_unreadable_picture_is_named_and_not_replaced(
    digits: Path, tiny_base: Path, tmp_path: Path, broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(digits, tmp_path / "data"))
    bad = data / "train" / "3" / "bad.png"
    bad.write_bytes(
        (data / "train" / "3")
        .joinpath(sorted(p.name for p in (data / "train" / "3").iterdir())[0])
        .read_bytes()[:60]
        if broken == "cut"
        else b"<html>not a picture</html>"
    )
    start(
        Run(data=str(data), base=str(tiny_base), out=tmp_path / "run"),
        {"probe_only": True, "features": "fp32"},
    )
    printed = capsys.readouterr().out
    assert "train/3/bad.png" in printed
    assert (
        f"not used: 1 unreadable; every name with its reason: {tmp_path / 'run' / 'left_out.csv'}"
        in printed
    )
    assert "bad.png" not in (tmp_path / "run" / "files.csv").read_text()
    assert [
        row["path"]
        for row in tables.rows(tmp_path / "run" / "left_out.csv", ("path", "kind", "reason"))
    ] == ["train/3/bad.png"]
    assert "left_out.csv" in rundir.open_finished(tmp_path / "run", verify=True)["files"]
    assert rundir.read_json(tmp_path / "run" / "data.json")["counts"]["train"]["3"] == 10


def test_a_run_that_stops_at_the_limit_leaves_the_names_and_goes_on_with_a_higher_one(
    digits: Path, tiny_base: Path, tmp_path: Path
) -> None:
    data, out = Path(shutil.copytree(digits, tmp_path / "data")), tmp_path / "run"
    for number in range(30):
        (data / "train" / "3" / f"bad {number:02}.png").write_bytes(b"")
    where = {"data": str(data), "base": str(tiny_base), "out": out, "device": "cpu"}
    with pytest.raises(
        UserError, match=r"^30 of 210 .*expected at most 1%.*--bad-limit 0\.15"
    ) as caught:
        prepare_run(Run(**where), {})
    assert str(out / "left_out.csv") in str(caught.value)
    assert len(list(tables.rows(out / "left_out.csv", ("path",)))) == 30
    prepare_run(Run(**where, bad_limit=0.15), {"probe": "off"})
    about = rundir.read_json(out / "data.json")
    assert (about["bad_limit"], about["left_out_total"]) == (0.15, 30)
    prepare_run(Run(**where), {"probe": "off"})  # a run that goes on keeps its limit
    prepare_run(Run(resume=out, device="cpu"), {})
