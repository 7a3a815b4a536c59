"""`python -m zoo compare` and aliases of one's own."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.zoo.made_published import made_finished
from zoo import __main__ as cli
from zoo.answer.predict import Predictor
from zoo.bases import catalog, registry
from zoo.comparison import shares
from zoo.comparison.finished_runs import compare, draw
from zoo.comparison.measured import RecordedAnswers
from zoo.comparison.models import ComparedRun, foreign_of, rows_of
from zoo.comparison.verdicts import notes, verdicts
from zoo.contract import bundle, figures, run_pictures, rundir
from zoo.contract.report import Foreign, UnknownRates
from zoo.files import tables
from zoo.host.errors import UserError


def test_runs_are_compared_in_a_table_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made_finished(tmp_path)
    assert cli.main(["compare", str(run), "--out", str(tmp_path / "compare.png")]) == 0
    head = rundir.read_json(run / rundir.REPORT)["headline"]
    unknown = rundir.read_json(run / rundir.REPORT)["unknown"]
    timm, deployed = rows_of(run)
    assert timm.foreign is None  # timm has no such answer
    assert (
        deployed.foreign
        == unknown["weakest"]["rejected"]
        == min(row["rejected"] for row in unknown["foreign"].values())
    )
    plain, onnx = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("insects")
    ]
    assert plain.split()[1:3] == ["timm", f"{100 * head['plain']['top1']:.2f}"]
    assert onnx.split()[1:3] == ["onnx", f"{100 * head['top1']:.2f}"]
    assert onnx.split()[-4] == f"{deployed.foreign:.0%}"[:-1]
    assert onnx.split()[-2:] == ["3.2", f"{100 * head['ece']:.1f}"]
    with Image.open(tmp_path / "compare.png") as picture:
        assert picture.size == (1200, 750)
        assert len(set(picture.convert("RGB").resize((200, 125)).get_flattened_data())) > 20


def test_a_run_that_is_named_twice_is_one_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made_finished(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["compare", str(run), str(run.relative_to(tmp_path))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("insects")]) == 2  # timm and onnx


def test_the_size_of_a_model_counts_the_weights_beside_it(tmp_path: Path) -> None:
    for name, size in (("model.xml", 300_000), ("model.bin", 18_900_000), ("model.onnx", 400_000)):
        (tmp_path / name).write_bytes(bytes(size))
    assert figures.model_mb(tmp_path / "model.xml") == 19.2
    assert figures.model_mb(tmp_path / "model.onnx") == 0.4


@pytest.mark.parametrize(
    ("rejected", "least", "weak"),
    [
        ({"noise": 1.0, "digits": 0.07}, 0.07, True),
        ({"noise": 0.5, "digits": 0.9}, 0.5, False),
        ({}, None, False),
    ],
)
def test_a_model_that_calls_few_foreign_pictures_unknown_is_named(
    rejected: dict[str, float], least: float | None, weak: bool
) -> None:
    sets = {name: Foreign(9, 0.9, share, 0.5) for name, share in rejected.items()}
    found = foreign_of(UnknownRates(0.05, sets))
    assert found == least
    row = ComparedRun(
        "a", "onnx", 0.9, (0.8, 0.95), "test", 20, 1.0, None, 0.1, None, "data", foreign=found
    )
    assert [note[:57] for note in notes([row])] == [
        "a onnx: only 7% of some foreign pictures are called unkno"
    ] * weak


def with_int8(run: Path, lost: float, spread: float) -> None:
    """Beside `onnx` a bundle that rounds: its model is another one, the mean colour."""
    folder = Path(shutil.copytree(run / "bundles/onnx", run / "bundles/int8"))
    (folder / bundle.FINISHED).unlink()
    (folder / bundle.TIMING).unlink()
    bundle.write_description(folder, rundir.read_json(folder / bundle.BUNDLE) | {"target": "int8"})
    rung = {
        "name": "accuracy",
        "limit": 1.0,
        "worst": lost,
        "standard_error": spread / 1.96,
        "pictures": 27,
        "picture": None,
        "verdict": "passed",
    }
    rundir.write_json(folder / bundle.PARITY, {"rungs": [rung]})
    bundle.finish(folder)


@pytest.mark.parametrize(
    ("lost", "spread", "said"),
    [
        (0.9, 2.0, "cannot tell apart (-0.9 points, 95 % interval -2.9 to +1.1"),
        (0.9, 0.5, "differ (-0.9 points, 95 % interval -1.4 to -0.4"),
        (-0.9, 0.5, "differ (+0.9 points, 95 % interval +0.4 to +1.4"),
        (0.0, 0.0, "cannot tell apart (+0.0 points, 95 % interval +0.0 to +0.0"),
    ],
)
def test_a_bundle_shows_no_calibration_but_its_own(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    lost: float,
    spread: float,
    said: str,
) -> None:
    monkeypatch.setenv("COLUMNS", "160")  # no cell is wrapped
    run = made_finished(tmp_path)
    with_int8(run, lost, spread)
    assert cli.main(["compare", str(run), "--out", str(tmp_path / "compare.png")]) == 0
    shown = capsys.readouterr().out
    [int8] = [
        line for line in shown.splitlines() if line.startswith("insects") and "int8" in line.split()
    ]
    assert int8.split()[-3:] == ["-", "not", "measured"]
    assert (
        f"difference: insects int8 and its trained model: {said}, on 27 pictures of its proof)."
        in shown
    )
    assert "note: insects int8: top-1 is the trained model's with the loss" in " ".join(
        shown.split()
    )


def test_what_is_measured_is_the_bundles_own(tmp_path: Path) -> None:
    run = made_finished(tmp_path)
    with_int8(run, 0.9, 2.0)
    timm, onnx, int8 = rows_of(run, measure=True)
    assert int8.foreign is None  # its own unknown answer was not measured on foreign pictures
    head = rundir.read_json(run / rundir.REPORT)["headline"]
    assert (timm.answers and timm.answers.top1, timm.answers and timm.answers.ece) == pytest.approx(
        (head["plain"]["top1"], head["plain"]["ece"])
    )
    assert (onnx.answers and onnx.answers.top1, onnx.answers and onnx.answers.ece) == pytest.approx(
        (head["top1"], head["ece"]), abs=1e-6
    )
    predictor, right, confidence = Predictor(run / "bundles/int8", provider="cpu"), [], []
    own = [
        row
        for row in tables.rows(run / rundir.PREDICTIONS, ("path", "split", "label"))
        if row["split"] == "test"
    ]
    for row in own:
        label, probability = predictor.predict(
            run_pictures.data_root(run) / row["path"]
        ).answer.top[0]
        right.append(label == row["label"])
        confidence.append(probability)
    assert (int8.top1, int8.pictures, int8.lost) == (sum(right) / len(right), len(own), None)
    assert int8.ece == pytest.approx(
        shares.calibration_error(np.array(confidence), np.array(right))
    )
    (run_pictures.data_root(run) / own[0]["path"]).write_bytes(b"another")
    with pytest.raises(
        UserError, match=r"expected the picture .*, seen another one: .*without --measure"
    ):
        rows_of(run, measure=True)


def test_measuring_where_nothing_rounds_is_refused(tmp_path: Path) -> None:
    run = made_finished(tmp_path)
    with pytest.raises(
        UserError, match=r"--measure has no effect: .*python -m export RUN --to int8"
    ):
        compare((str(run),), tmp_path / "compare.png", measure=True)
    assert not (tmp_path / "compare.png").exists()


@pytest.mark.parametrize(
    ("changed", "of", "said"),
    [
        (0, 300, "cannot tell apart (+0.0 points"),
        (5, 300, "cannot tell apart (-1.7 points"),
        (6, 300, "differ (-2.0 points"),
        (40, 300, "differ (-13.3 points"),
    ],
)
def test_two_runs_differ_where_mcnemars_exact_test_says_so(
    changed: int, of: int, said: str
) -> None:
    """Six pictures that only one has right: 2 / 2**6 = 0.031; five: 0.0625."""
    first = RecordedAnswers({str(i): i < 280 for i in range(of)}, {str(i): 0.9 for i in range(of)})
    second = RecordedAnswers({str(i): changed <= i < 280 for i in range(of)}, first.confidence)
    row = ComparedRun(
        "a",
        "timm",
        first.top1,
        first.interval,
        "test",
        of,
        1.0,
        None,
        first.ece,
        None,
        "data",
        first,
    )
    other = replace(row, run="b", top1=second.top1, answers=second)
    [sentence] = verdicts([other, row])
    assert sentence.startswith(
        f"b timm and a timm: {said}" if changed else f"a timm and b timm: {said}"
    )
    assert (
        f"on {of} same pictures; McNemar's exact test, p = {2 / 2**changed if changed else 1:.2g})"
        in sentence
    )
    assert verdicts([row, replace(other, data="other")]) == []
    assert verdicts([row, replace(row, target="onnx")]) == []  # the very same answers


def test_what_cannot_be_compared_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made_finished(tmp_path)
    rows = rows_of(run)
    assert notes(rows) == []
    other = replace(rows[1], data="other", split="val", measured_on="cuda")
    assert [note.split()[2] for note in notes([*rows, other])] == ["have", "are", "measured"]
    (run / "bundles/onnx/timing.json").unlink()
    assert cli.main(["compare", str(run), "--out", str(tmp_path / "none.png")]) == 0
    assert "no latency is known. Measure it: python -m export.bench RUN" in capsys.readouterr().out
    assert not (tmp_path / "none.png").exists()
    with pytest.raises(UserError, match="expected a file that can be written"):
        draw([replace(rows[1], latency_ms=2.0)], tmp_path / "absent" / "x.png")
    with pytest.raises(UserError, match="expected one run at least"):
        cli.main(["compare"])


def test_aliases_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))
    assert cli.main(["add", "mine", "hf-hub:alice/insects@v1"]) == 0
    base = catalog.find_base("mine")
    assert (base.alias, base.hub_id, base.architecture) == ("mine", "alice/insects@v1", None)
    assert cli.main(["list", "--text", "atto"]) == 0
    assert "your own: mine = hf-hub:alice/insects@v1" in capsys.readouterr().out
    assert cli.main(["show", "mine"]) == 0
    assert "alice/insects@v1" in capsys.readouterr().out
    assert catalog.nearest("minne")[0] == "mine"
    for alias, target, said in (
        ("vit_base_21k", "hf-hub:a/b", "is an alias of the catalogue"),
        ("x y", "hf-hub:a/b", "expected an alias of letters"),
        ("other", "timm/x.y", "expected hf-hub:org/name"),
        ("other", "hf-hub:a", "expected hf-hub:org/name"),
    ):
        with pytest.raises(UserError, match=said):
            cli.main(["add", alias, target])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="a file or folder here has this name"):
        cli.main(["add", "home", "hf-hub:a/b"])
    assert cli.main(["remove", "mine"]) == 0
    with pytest.raises(UserError, match="unknown base 'mine'"):
        catalog.find_base("mine")
    with pytest.raises(UserError, match="is not an alias of yours: expected one of none"):
        cli.main(["remove", "mine"])
    registry.aliases_file().write_text("[1]")
    with pytest.raises(UserError, match="expected alias -> hf-hub:org/name"):
        catalog.find_base("anything")
    monkeypatch.delenv("ZOOTUNE_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert registry.aliases_file() == tmp_path / "config" / "zootune" / "aliases.json"
