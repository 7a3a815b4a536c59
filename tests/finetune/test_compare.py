"""Bases side by side: the numbers of a paired comparison, and two residual networks from the tars
of ILSVRC2012."""

from pathlib import Path

import numpy as np
import pytest
import tyro

from finetune import compare
from finetune.compare import Comparison
from finetune.report import run_files
from finetune.studies import comparison_page
from finetune.studies.paired import paired, side_by_side
from tests.finetune.made_ilsvrc import WNIDS, write_ilsvrc
from tests.finetune.report_page import Seen, svg_texts
from tests.made_run import made_run
from zoo.contract import rundir
from zoo.host.errors import UserError


def test_a_paired_comparison_counts_what_only_one_has_right() -> None:
    first = np.array([True] * 60 + [False] * 40)
    second = np.concatenate([first[:50], ~first[50:]])  # 10 lost, 40 won
    found = paired(first, second)
    assert (found.pictures, found.only_first, found.only_second) == (100, 10, 40)
    assert found.difference == pytest.approx(0.3)
    # the binomial sum of McNemar's exact test
    from math import comb

    assert found.p_value == pytest.approx(2 * sum(comb(50, k) for k in range(11)) / 2**50)
    low, high = found.interval
    assert low < 0.3 < high
    assert high - 0.3 == pytest.approx(1.96 * (52 - 9) ** 0.5 / 100, rel=1e-3)
    same = paired(first, first)
    assert (same.difference, same.p_value) == (0.0, 1.0)
    assert same.interval[0] < 0 < same.interval[1]


def test_runs_of_other_pictures_are_not_paired(tmp_path: Path) -> None:
    runs = [
        run_files.read_run(made_run(tmp_path / name, pictures=count)[0])
        for name, count in (("a", 3), ("b", 4))
    ]
    for run in runs:
        (run.folder / rundir.WEIGHTS).write_bytes(b"")
        rundir.finish(run.folder)
    numbers = side_by_side(runs)
    assert numbers["pairs"] == []
    assert "different data" in numbers["notes"][0]


@pytest.mark.parametrize("bases", [["resnet18_1k"], ["resnet18_1k", "resnet18_1k"]])
def test_one_base_is_not_compared(bases: list[str]) -> None:
    with pytest.raises(UserError, match="expected two different bases or more"):
        Comparison("data", tuple(bases))


def test_an_unknown_base_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="resnet18_1j"):
        compare.compare(Comparison("data", ("resnet18_1k", "resnet18_1j")), {})
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick_end")
def test_two_networks_from_scratch_on_the_tars_of_ilsvrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_ilsvrc(tmp_path / "ilsvrc", train=6, val=3)
    arguments = [
        "--bases",
        "test_resnet",
        "test_byobnet",
        "--data",
        "ilsvrc",
        "--device",
        "cpu",
        "--recipe",
        "resnet18-imagenet",
        "--epochs",
        "2",
        "--image-size",
        "32",
        "--batch-size",
        "8",
        "--threads",
        "1",
    ]
    tyro.cli(compare.main, args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
    folder = Path("runs/ilsvrc-compare")
    assert {path.name for path in folder.iterdir()} == {
        "ilsvrc-test_resnet",
        "ilsvrc-test_byobnet",
        "figures",
        "compare.html",
        "compare.json",
        "compare.csv",
        "compare.md",
    }
    numbers = rundir.read_json(folder / "compare.json")
    runs = [run_files.read_run(folder / row["folder"]) for row in numbers["runs"]]
    for row, run in zip(numbers["runs"], runs, strict=True):
        rundir.open_finished(run.folder, verify=True)
        assert run.classes == sorted(WNIDS)
        assert run.recipe["from_scratch"]["value"] is True
        assert row["top1"] == run.report.headline.numbers.top1
        assert row["label"] == run.report.base.name
    assert [row["label"] for row in numbers["runs"]] == ["test_resnet", "test_byobnet"]
    (of,) = numbers["pairs"]
    assert of["difference"] == pytest.approx(
        numbers["runs"][1]["top1"] - numbers["runs"][0]["top1"]
    )
    assert of["pictures"] == 18
    for top in ("top-1", "top-5"):
        drawn = svg_texts(folder / "figures" / f"error-{top}.svg")
        assert {
            f"{name}, {split}"
            for name in ("test_resnet", "test_byobnet")
            for split in ("training", "select")
        } <= set(drawn)
    page = Seen((folder / comparison_page.PAGE).read_text())
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert sorted(links) == ["ilsvrc-test_byobnet/report.html", "ilsvrc-test_resnet/report.html"]
    assert "test_byobnet against test_resnet: " in capsys.readouterr().out
    tyro.cli(compare.main, args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
    assert capsys.readouterr().out.count("already finished") == 2
