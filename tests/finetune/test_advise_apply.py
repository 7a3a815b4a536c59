"""`--advise apply N`: which change is tried next, what is kept, and the table of what each
brought."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tyro

from finetune import compare
from finetune.__main__ import main
from finetune.machine import distributed
from finetune.recipe.run import Run
from finetune.report import next_steps, run_files
from finetune.report.advice import Advice
from finetune.studies import follow_advice, follow_up_page
from finetune.studies.follow_advice import FollowUp, follow_up, run_advised
from tests.finetune.report_page import Seen
from tests.made_run import made_run
from zoo.contract import rundir
from zoo.host.errors import UserError

LONGER = Advice(
    "Training ended too early.", "Train twice as long.", {"epochs": 16, "erasing": 0.25}
)
SLOWER = Advice("It jumped.", "Train with a third of the rate.", {"lr": 0.001})
LABELS = Advice("Labels are wrong.", "Correct them.")


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> FollowUp:
    return FollowUp(
        run_files.read_run(made_run(tmp_path_factory.mktemp("made"), pictures=3)[0]), {"seed": 1}
    )


def scored(trial: FollowUp, top1: float, loss: float, **given: float) -> FollowUp:
    report = replace(trial.run.report, best=replace(trial.run.report.best, top1=top1, loss=loss))
    return replace(trial, run=replace(trial.run, report=report), given={"seed": 1, **given})


def test_changes_are_shown_as_flags() -> None:
    assert LONGER.flags == "--epochs 16 --erasing 0.25"
    assert LABELS.flags == ""
    assert Advice("", "", {"lr": 1.0, "image_size": 128}).flags == "--lr 1 --image-size 128"
    words = Advice("", "", {"balance": "weights", "warmup": "2 epochs"})
    assert words.flags == "--balance weights --warmup '2 epochs'"


def test_the_best_run_is_changed_by_its_first_untried_advice(
    trial: FollowUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_steps, "advices", lambda run: [LABELS, LONGER, SLOWER])
    assert follow_up([trial]) == (trial, LONGER)
    worse, better = (
        scored(trial, 0.90, 0.3, epochs=16, erasing=0.25),
        scored(trial, 0.95, 0.3, epochs=16, erasing=0.25),
    )
    assert follow_up([trial, worse]) == (trial, SLOWER)  # back to the first, another change
    assert follow_up([trial, better]) == (better, SLOWER)
    assert (
        follow_up([trial, better, scored(trial, 0.95, 0.4, epochs=16, erasing=0.25, lr=0.001)])
        is None
    )
    tie = scored(trial, 0.92, 0.1, lr=0.001)  # as good as the first, by loss better
    assert follow_up([trial, tie]) == (tie, LONGER)


@pytest.mark.usefixtures("quick_end")
def test_follow_ups_are_trained_kept_apart_and_tabled(
    digits: Path,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = iter([[LABELS], [Advice("Short.", "Longer.", {"epochs": 2})], []])
    monkeypatch.setattr(
        follow_advice.next_steps, "advices", lambda run: next(asked) if run.name == "run" else []
    )
    # it asks for the advices too
    monkeypatch.setattr("finetune.write_run.say_advice", lambda folder: None)
    run = Run(data=str(digits), base=str(tiny_base), out=tmp_path / "run", device="cpu")
    given = {"epochs": 1, "lr": 1e-3, "threads": 1, "image_size": 32, "features": "fp32"}
    # no advice with a flag: nothing more is trained
    assert run_advised(run, given, most=2) == tmp_path / "run"
    assert not (tmp_path / "run-advised-1").exists()
    assert "no further advice" in capsys.readouterr().out
    best = run_advised(Run(resume=tmp_path / "run", device="cpu"), {}, most=1)
    made = tmp_path / "run-advised-1"
    rundir.open_finished(made, verify=True)
    assert rundir.read_json(made / "recipe.json")["epochs"] == {"value": 2, "why": "set by hand"}
    assert rundir.read_json(made / "recipe.json")["lr"]["value"] == 1e-3
    numbers = rundir.read_json(tmp_path / "run-advised" / follow_up_page.NUMBERS)
    first, second = numbers["runs"]
    assert (second["changed"], second["flags"]) == ("run", "--epochs 2")
    assert second["gain"] == pytest.approx(second["select_top1"] - first["select_top1"])
    assert best.name == next(row["run"] for row in numbers["runs"] if row["best"])
    assert sum(row["best"] for row in numbers["runs"]) == 1
    page = Seen((tmp_path / "run-advised" / follow_up_page.PAGE).read_text())
    assert "run --epochs 2 Short." in page.text
    assert [attributes["href"] for tag, attributes in page.tags if tag == "a"] == [
        "../run/report.html",
        "../run-advised-1/report.html",
    ]


@pytest.mark.parametrize("first", [True, False])
def test_what_rank_0_writes_is_read_after_a_wait_and_written_by_it_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: bool
) -> None:
    """Of `--advise apply` and of `finetune.compare`, in each of several processes."""
    happened: list[str] = []

    def note(word: str, result: Any = None) -> Callable[..., Any]:
        return lambda *_, **__: happened.append(word) or result

    monkeypatch.setattr(distributed, "first", lambda: first)
    monkeypatch.setattr(distributed, "wait_for_first", note("wait"))
    for place in ("finetune.studies.follow_advice.start", "finetune.pipeline.start"):
        monkeypatch.setattr(place, note("start"))
    monkeypatch.setattr("finetune.studies.cell_check.check_all", lambda runs: None)
    stopped = RuntimeError("far enough")

    def read(*_: Any, **__: Any) -> Any:
        happened.append("read")
        raise stopped

    monkeypatch.setattr("zoo.contract.rundir.read_json", read)
    monkeypatch.setattr("finetune.report.run_files.read_run", read)
    with pytest.raises(RuntimeError, match="far enough"):
        run_advised(Run(data="x", out=tmp_path / "run"), {}, most=1)
    assert happened == ["start", "wait", "read"]
    happened.clear()
    order = compare.Comparison("x", ("resnet18_1k", "resnet50_1k"))
    with pytest.raises(RuntimeError, match="far enough") if first else nullcontext():
        compare.compare(order, {})
    assert happened == ["start", "wait", "start", "wait", *["read"] * first]


def test_the_command_line_hands_the_number_over(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setattr(
        follow_advice,
        "run_advised",
        lambda run, given, most: seen.append((run.data[0], given, most)),
    )
    config = (tyro.conf.FlagCreatePairsOff,)
    tyro.cli(main, args=["--data", "x", "--advise", "apply", "3", "--epochs", "2"], config=config)
    assert seen == [("x", {"epochs": 2}, 3)]
    with pytest.raises(UserError, match="--advise apply 0: expected 1 to 100"):
        tyro.cli(main, args=["--data", "x", "--advise", "apply", "0"], config=config)
