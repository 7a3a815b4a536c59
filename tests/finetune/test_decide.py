"""Calibration of whole runs, and `python -m finetune.decide`: what it writes, what follows from
what, bad input."""

import csv
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.numpy import load_file

from finetune.data import dataset, foreign
from finetune.decide import main
from finetune.evaluation import predictions, predictions_csv
from finetune.evaluation.choices import Place, Wish
from finetune.evaluation.views import views_to_measure
from finetune.pipeline import start
from finetune.recipe.run import Run
from tests.finetune.made_pictures import write_classes
from tests.made_base import fit_quickly
from tests.made_run import drawing_only
from tests.zoo.made_published import made_finished
from zoo.contract import decision, rejection, rundir
from zoo.host.errors import UserError
from zoo.picture.decoding import decode
from zoo.picture.preprocess import Preprocessing, evaluate
from zoo.publish import staging

WRITTEN = {
    "decision.json",
    "bank.safetensors",
    "predictions.csv",
    "report.json",
    "report.html",
    "README.md",
    "FINISHED.json",
}


@pytest.fixture
def run_copy(tiny_run: Path, quick_fit: None, tmp_path: Path) -> Path:
    """A copy of the tiny finished run, of the same name, that a test may change."""
    return Path(shutil.copytree(tiny_run, tmp_path / "copy" / tiny_run.name))


def rows_of(run: Path) -> list[dict[str, str]]:
    with open(run / "predictions.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def digests(run: Path) -> dict[str, str]:
    return {p.relative_to(run).as_posix(): rundir.digest(p) for p in run.rglob("*") if p.is_file()}


def table_of(run: Path) -> predictions.Answers:
    return predictions_csv.read_predictions(run, rundir.read_json(run / "data.json")["classes"])


def embeddings(run: Path, root: Path, paths: list[str]) -> np.ndarray:
    """Pooled features by timm alone."""
    model = timm.create_model(f"local-dir:{run}", pretrained=True).eval()
    pre = Preprocessing.from_config(rundir.read_json(run / "config.json")["pretrained_cfg"])
    with torch.inference_mode():
        x = torch.from_numpy(np.stack([evaluate(decode(root / path), pre) for path in paths]))
        return model.forward_head(model.forward_features(x), pre_logits=True).numpy()


def with_stage(run: Path, root: Path, paths: list[str]) -> np.ndarray:
    """The embedding that the unknown score takes, by timm and decision.json alone."""
    made = decision.read_decision(run).early
    assert made is not None
    model = timm.create_model(f"local-dir:{run}", pretrained=True).eval()
    pre = Preprocessing.from_config(rundir.read_json(run / "config.json")["pretrained_cfg"])
    assert model.feature_info[made.stage]["reduction"] == 8
    with torch.inference_mode():
        x = torch.from_numpy(np.stack([evaluate(decode(root / path), pre) for path in paths]))
        stage = model.forward_intermediates(x, intermediates_only=True)[made.stage].numpy()
    parts = (embeddings(run, root, paths), stage.mean((2, 3)), stage.std((2, 3)))
    return np.concatenate(
        [decision.unit(part, least) for part, least in zip(parts, made.shortest, strict=True)], 1
    )


def test_the_bank_holds_training_pictures_of_all_classes(finished_run: Path, digits: Path) -> None:
    bank = load_file(finished_run / "bank.safetensors")["references"]
    with open(finished_run / "files.csv", newline="") as file:
        train = [row for row in csv.DictReader(file) if row["split"] == "train"]
    assert bank.shape == (100, 1280 + 2 * 40)
    assert np.allclose(np.linalg.norm(bank, axis=1), 1, atol=1e-5)
    theirs = decision.unit(with_stage(finished_run, digits, [row["path"] for row in train]))
    nearest = (theirs @ bank.T).argmax(1)
    assert sorted(nearest.tolist()) == list(range(100))
    assert np.allclose(theirs, bank[nearest], atol=1e-4)


def test_answers_follow_from_decision_json_and_the_outputs(
    finished_run: Path, digits: Path
) -> None:
    """Probabilities, unknown score and sets of predictions.csv, from timm's model and
    zoo.contract.decision alone."""
    rows = [row for row in rows_of(finished_run) if row["split"] == "test"][::4]
    made, labels = (
        decision.read_decision(finished_run),
        rundir.read_json(finished_run / "config.json")["label_names"],
    )
    model = timm.create_model(f"local-dir:{finished_run}", pretrained=True).eval()
    embedding = embeddings(finished_run, digits, [row["path"] for row in rows])
    with torch.inference_mode():
        logits = model.get_classifier()(torch.from_numpy(embedding)).numpy()
    assert made.views == "none"
    assert made.unknown is not None
    p_NC = decision.temper(decision.average(logits[:, None]), made.temperature)
    bank = load_file(finished_run / "bank.safetensors")["references"]
    joined = with_stage(finished_run, digits, [row["path"] for row in rows])
    scores = decision.knn_distance(joined, bank, made.unknown.neighbours, made.unknown.shortest)
    for row, p_C, score in zip(rows, p_NC, scores, strict=True):
        said = decision.answer(p_C, float(score), labels, made)
        assert row["predicted"] == said.top[0][0]
        assert float(row["confidence"]) == pytest.approx(said.top[0][1], abs=1e-4)
        assert float(row["unknown_score"]) == pytest.approx(score, abs=1e-4)
        assert said.prediction_set is not None
        assert int(row["set_size"]) == len(said.prediction_set)
        assert row["label_in_set"] == str(int(row["label"] in said.prediction_set))


def test_what_the_calibration_promises_holds_on_its_pictures(finished_run: Path) -> None:
    content = rundir.read_json(finished_run / "decision.json")
    fitted, table = content["fitted"], table_of(finished_run).of("val")
    assert fitted["split"] == "val"
    assert fitted["pictures"] == len(table) == 40
    assert "too small to be halved" in fitted["note"]
    assert fitted["temperature"]["loss_after"] <= fitted["temperature"]["loss_before"]
    loss_after = fitted["temperature"]["loss_after"]
    assert predictions.mean_loss(table.label_probability) == pytest.approx(loss_after, rel=1e-4)
    assert predictions.mean_loss(table.plain_label_probability) == pytest.approx(
        fitted["temperature"]["loss_before"], rel=1e-4
    )
    assert np.array_equal(table.predicted, table.plain_predicted)
    assert (table.unknown_score > content["unknown"]["threshold"]).mean() <= 0.05
    assert (
        fitted["unknown"]["rejected"]
        == (table.unknown_score > content["unknown"]["threshold"]).mean()
        > 0
    )
    assert 0.9 <= table.label_in_set.mean() <= 0.95
    assert table.set_size.min() >= 1


def test_views_are_measured_on_the_same_pictures_and_none_of_them_is_assumed(
    halved_run: Path,
) -> None:
    shown = rundir.read_json(halved_run / "decision.json")["fitted"]["views"]
    assert [(row["views"], row["passes"]) for row in shown["table"]] == [("none", 1), ("flip", 2)]
    table = table_of(halved_run).of("calibrate")
    for row in shown["table"]:
        said, probability = (
            table.views_predicted[row["views"]],
            table.views_label_probability[row["views"]],
        )
        assert row["pictures"] == (said != predictions.NOWHERE).sum() >= 200
        assert row["top1"] == pytest.approx((said == table.label).mean())
        assert row["loss"] == pytest.approx(predictions.mean_loss(probability), rel=1e-4)


@pytest.mark.parametrize(
    ("views", "pictures", "measured"),
    [
        ("auto", 199, []),
        ("auto", 200, ["flip"]),
        ("all", 200, ["flip", "five", "multiscale"]),
        ("all", 199, []),
        ("flip", 5000, []),
        ("none", 5000, []),
    ],
)
def test_a_default_may_cost_twice_the_time_and_needs_200_pictures(
    views: Any, pictures: int, measured: list[str]
) -> None:
    assert views_to_measure(Wish(views), pictures) == measured


def test_foreign_pictures_are_told_apart(finished_run: Path) -> None:
    """Digits are this run's own pictures, so parts of photographs take their place."""
    report, table = rundir.read_json(finished_run / "report.json"), table_of(finished_run)
    assert list(report["unknown"]["foreign"]) == table.foreign == ["noise", "photos"]
    for name, row in report["unknown"]["foreign"].items():
        assert row["pictures"] == foreign.PICTURES
        assert row["auroc"] == pytest.approx(
            rejection.auroc(table.of("test").unknown_score, table.of(name).unknown_score), abs=1e-4
        )
        assert row["auroc"] >= 0.9


def test_other_pictures_make_digits_foreign() -> None:
    assert [one.name for one in foreign.sets_for([])] == ["noise", "digits"]
    assert all(len(one.pictures) == foreign.PICTURES for one in foreign.sets_for([]))
    pixels = [np.asarray(p) for one in foreign.sets_for([]) for p in one.pictures]
    assert len({p.tobytes() for p in pixels}) == len(pixels)


def test_the_same_again_changes_nothing(run_copy: Path) -> None:
    before = digests(run_copy)
    main(Place(run_copy), Wish())
    assert digests(run_copy) == before


def test_views_by_hand_are_fitted_anew(
    run_copy: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digests(run_copy)
    (run_copy / "bundles").mkdir()
    main(Place(run_copy), Wish(views="flip", coverage=0.8))
    out = " ".join(capsys.readouterr().out.split())
    assert f"{run_copy / 'bundles'} " in out
    assert "run python -m export again" in out
    after = digests(run_copy)
    assert {name for name in after if before.get(name) != after[name]} - {
        "figures/confusion.svg",
        "figures/reliability.svg",
        "figures/unknown.svg",
        "figures/precision-recall.svg",
        "figures/roc.svg",
    } == WRITTEN - {"bank.safetensors"}
    rundir.open_finished(run_copy, verify=True)
    content, made = rundir.read_json(run_copy / "decision.json"), decision.read_decision(run_copy)
    assert content["views"] == "flip"
    assert content["fitted"]["views"] == {"why": "set by hand", "table": []}
    assert made.sets is not None
    assert made.sets.coverage == 0.8

    rows = [row for row in rows_of(run_copy) if row["split"] in ("val", "test")][::7]
    model = timm.create_model(f"local-dir:{run_copy}", pretrained=True).eval()
    pre = Preprocessing.from_config(rundir.read_json(run_copy / "config.json")["pretrained_cfg"])
    x = torch.from_numpy(np.stack([evaluate(decode(digits / row["path"]), pre) for row in rows]))
    with torch.inference_mode():
        logits = torch.stack([model(x), model(x.flip(3))], 1).numpy()
    p_NC = decision.temper(decision.average(logits), made.temperature)
    labels = rundir.read_json(run_copy / "config.json")["label_names"]
    assert [row["predicted"] for row in rows] == [labels[c] for c in p_NC.argmax(1)]
    assert np.allclose([float(row["confidence"]) for row in rows], p_NC.max(1), atol=1e-4)
    assert "flip_predicted" not in rows[0]


def test_a_decision_that_was_changed_or_half_written_is_refused_and_can_be_put_right(
    run_copy: Path,
) -> None:
    whole = digests(run_copy)
    content = rundir.read_json(run_copy / "decision.json")
    rundir.write_json(run_copy / "decision.json", content | {"temperature": 9.0})
    # and as if some of what follows had been written
    (run_copy / "predictions.csv").write_text("path,split\n")
    with pytest.raises(UserError, match=r"decision\.json.* changed since the run finished"):
        rundir.open_finished(run_copy, verify=True)
    main(Place(run_copy), Wish())
    rundir.open_finished(run_copy, verify=True)
    assert digests(run_copy) == whole


@pytest.mark.parametrize("name", ["report.json", "metrics.jsonl", "config.json", "files.csv"])
def test_what_training_wrote_is_not_certified_anew_once_it_changed(
    run_copy: Path, name: str
) -> None:
    (run_copy / name).write_text((run_copy / name).read_text().replace("1", "2", 1))
    with pytest.raises(UserError, match=f"{name} changed since the run finished"):
        main(Place(run_copy), Wish())


def test_other_pictures_under_the_same_names_are_refused(
    run_copy: Path, digits: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(digits, tmp_path / "other"))
    victim = next(row["path"] for row in rows_of(run_copy) if row["split"] == "test")
    (other / victim).write_bytes((other / rows_of(run_copy)[0]["path"]).read_bytes())
    with pytest.raises(UserError, match=rf"{victim}: its bytes are not those"):
        main(Place(run_copy, data=other), Wish())


@pytest.mark.parametrize("data", [None, "labelled"])
def test_a_published_copy_is_not_fitted_to_pictures_that_it_may_know(
    tmp_path: Path, data: str | None
) -> None:
    run = made_finished(tmp_path / "home")
    (tmp_path / "stage").mkdir()
    for name, path in staging.staged(
        run, tmp_path / "stage", repo="me/insects", examples=False
    ).items():
        (tmp_path / "pulled" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tmp_path / "pulled" / name)
    before = digests(tmp_path / "pulled")
    with pytest.raises(
        UserError,
        match=r"pulled has no files\.csv: .*published copy.* python -m finetune --data FOLDER "
        r"--base .*pulled --probe-only",
    ):
        main(Place(tmp_path / "pulled", data and tmp_path / data), Wish())
    assert digests(tmp_path / "pulled") == before


@pytest.mark.usefixtures("quick_fit")
def test_too_few_pictures_are_said(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_classes(
        tmp_path / "data",
        {
            f"{split}/{name}": 6 if split == "train" else 2
            for split in ("train", "val")
            for name in ("a", "b")
        },
        size=(40, 40),
    )
    with drawing_only():
        start(
            Run(data=str(data), base=str(tiny_base), out=tmp_path / "run"),
            {"probe_only": True, "image_size": 32, "features": "fp32"},
        )
    content, out = rundir.read_json(tmp_path / "run" / "decision.json"), capsys.readouterr().out
    assert (content["temperature"], content["views"]) == (1.0, "none")
    assert content["fitted"]["views"]["why"].startswith("not measured: fewer than 200")
    assert content["sets"]["least_probability"] == 0
    for warning in content["fitted"]["warnings"]:
        assert f"warning: {warning}" in out
        assert warning in (tmp_path / "run" / "report.html").read_text()
    assert [warning[:24] for warning in content["fitted"]["warnings"]] == [
        "4 calibration pictures a",
        "with fewer than 30 calib",
    ]


@pytest.mark.usefixtures("quick_end")
def test_pictures_that_moved_are_named_with_data(
    run_copy: Path, digits: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(digits, tmp_path / "moved"))
    rundir.write_json(
        run_copy / "local.json", rundir.read_json(run_copy / "local.json") | {"data": "/not/there"}
    )
    rundir.finish(run_copy)
    with pytest.raises(UserError, match=r"/not/there is not there.*--data"):
        main(Place(run_copy), Wish())
    main(Place(run_copy, data=moved), Wish(views="none"))
    victim = next(row["path"] for row in rows_of(run_copy) if row["split"] == "val")
    (moved / victim).unlink()
    with pytest.raises(
        UserError, match=rf"lacks 1 of the run's 180 pictures, for example {victim}"
    ):
        main(Place(run_copy, data=moved), Wish())


def test_pictures_beside_a_folder_are_found_through_a_link_to_it(
    run_copy: Path, digits: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(digits, tmp_path / "deep" / "data"))
    held = next(row["path"] for row in rows_of(run_copy) if row["split"] == "val")
    (data / held).rename(tmp_path / "deep" / "held.png")
    files = run_copy / rundir.FILES
    files.write_text(
        files.read_text(encoding="utf-8").replace(held, "../held.png"), encoding="utf-8"
    )
    (tmp_path / "link").symlink_to(data)
    assert dataset.of_run(run_copy, tmp_path / "link").root == data


def test_what_is_no_finished_run_is_refused(tmp_path: Path, run_copy: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        main(Place(tmp_path / "nothing"), Wish())
    (run_copy / "FINISHED.json").unlink()
    with pytest.raises(UserError, match="expected a finished run"):
        main(Place(run_copy), Wish())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--coverage", "1.5"], "expected a share between 0 and 1"),
        (["--views", "ten"], "invalid choice"),
        (["--vews", "flip"], "--views"),
    ],
)
def test_a_wrong_flag_is_answered_at_once(words: list[str], said: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "finetune.decide", "RUN", *words], capture_output=True, text=True
    )
    assert ran.returncode == 2
    assert said in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


def test_its_command_line_leaves_torch_unloaded() -> None:
    report = "import sys, finetune.decide; print(*{name.split('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    assert not set(ran.stdout.split()) & {"torch", "timm", "matplotlib", "sklearn"}


@pytest.fixture(scope="module")
def halved_run(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe on digits with just enough val pictures for two halves, no test, at 64 px so that
    there are heat maps."""
    from finetune.sources.digits import write_digits

    folder = tmp_path_factory.mktemp("halved")
    data = write_digits(folder / "digits")
    for path in (data / "test").rglob("*.png"):
        path.rename(data / "val" / path.parent.name / f"t{path.name}")
    shutil.rmtree(data / "test")
    for class_folder in (data / "train").iterdir():
        for path in sorted(class_folder.iterdir())[20:]:
            path.unlink()
    for class_folder in (data / "val").iterdir():
        for path in sorted(class_folder.iterdir())[46:]:
            path.unlink()
    with drawing_only(), pytest.MonkeyPatch.context() as patch:
        fit_quickly(patch)
        start(
            Run(data=str(data), base=str(tiny_base), out=folder / "run"),
            {"probe_only": True, "image_size": 64, "features": "fp32"},
        )
    return folder / "run"


def test_a_large_val_is_halved_and_calibrate_is_the_headline(halved_run: Path) -> None:
    report, table = rundir.read_json(halved_run / "report.json"), table_of(halved_run)
    fitted = rundir.read_json(halved_run / "decision.json")["fitted"]
    counts = Counter(table.split.tolist())
    assert set(counts) == {"select", "calibrate", "noise", "photos"}
    assert fitted["split"] == report["headline"]["split"] == "calibrate"
    assert fitted["pictures"] == report["headline"]["pictures"] == counts["calibrate"] >= 200
    assert list(report["splits"]) == ["val", "select", "calibrate"]
    assert report["splits"]["val"]["pictures"] == counts["select"] + counts["calibrate"]
    measured = table.views_predicted["flip"] != predictions.NOWHERE
    assert set(table.split[measured]) == {"calibrate"}


def test_the_most_wrong_pictures_have_heat_maps(halved_run: Path) -> None:
    maps = rundir.read_json(halved_run / "report.json")["heatmaps"]
    wrong = {
        row["path"]
        for row in rows_of(halved_run)
        if row["split"] == "calibrate" and row["label"] != row["predicted"]
    }
    assert maps
    assert set(maps) <= wrong
    for rows in maps.values():
        assert np.shape(rows) == (2, 2)
        assert 0 <= np.min(rows) <= np.max(rows) <= 1
    assert max(map(np.max, maps.values())) == 1
    assert "heat" in (halved_run / "report.html").read_text().lower()


def test_report_json_is_plain_json(halved_run: Path) -> None:
    assert json.loads(
        (halved_run / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name)
    )
