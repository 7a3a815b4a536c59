"""`python -m export.bench`: what it measures of a small made model, and what it refuses."""

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from export import bench
from export.bench import BenchOptions, main, measure, write_timing
from tests import warm
from tests.unprivileged import read_only
from tests.zoo.made_bundle import made_bundle
from zoo.contract import bundle, rundir
from zoo.host.errors import UserError


def measured_shortly(model: Path, options: BenchOptions) -> dict[str, Any]:
    """As `measure`, in the process that it is called in, but a tenth of the time for each batch
    size."""
    bench.LEAST_SECONDS = 0.1
    return measure(model, options)


def test_timing_of_a_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "measure", measured_shortly)
    folder = made_bundle(tmp_path / "run")
    main(BenchOptions((folder,), height=20, width=30, picture=tmp_path / "speed.png"))
    with Image.open(tmp_path / "speed.png") as drawn:
        assert drawn.width > 1000
    timing = rundir.read_json(folder / bundle.TIMING)
    assert [row["batch"] for row in timing["batches"]] == [1, 8, 32]
    assert timing["provider"] == "cpu"
    assert timing["picture"] == [20, 30]
    for row in timing["batches"]:
        assert row["runs"] >= 10
        assert 0 < row["median_ms"] <= row["p90_ms"]
        assert row["pictures_per_s"] == pytest.approx(
            1000 * row["batch"] / row["median_ms"], rel=0.5
        )
    assert 10 < timing["peak_mib"] < 1000
    assert "colours-tiny onnx" in capsys.readouterr().out
    bundle.open_bundle(folder)  # still whole


def test_a_folder_that_may_only_be_read_does_not_lose_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with read_only(made_bundle(tmp_path / "run")) as folder:
        write_timing(bundle.open_bundle(folder), {"batches": []})
        assert not (folder / bundle.TIMING).exists()
    shown = " ".join(capsys.readouterr().out.split())
    assert f"{folder.name} cannot be written (Permission denied)" in shown
    assert "The numbers are only shown here." in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "expected a bundle"),
        (["nothing"], "seen nothing"),
        (["x", "--width", "0"], "expected sides of 1 pixel"),
        (
            ["x", "--height", "100000", "--width", "100000"],
            "--height 100000 --width 100000: expected sides of 1 pixel at least, and at most "
            "50,000,000 pixels",
        ),
        (["x", "--threads", "100000"], "--threads 100000: expected 0 (one per core) to 1024"),
        (["x", "--picture", "speed.txt"], "expected a .png or .svg"),
    ],
)
def test_wrong_orders(words: list[str], said: str) -> None:
    ran = warm.run(warm.HUB, ["-m", "export.bench", *words])
    assert ran.returncode == 2
    assert said in " ".join((ran.stdout + ran.stderr).split())
    assert "Traceback" not in ran.stderr


def end_at_once(model: Path, options: BenchOptions) -> None:
    """What a system does to a process that takes too much memory."""
    os._exit(9)


def test_what_memory_has_no_room_for_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, words = (
        made_bundle(tmp_path / "run") / "model.onnx",
        "batches of up to 32 pictures of 400 x 300",
    )

    def no_memory(*_: object) -> list[float]:
        raise MemoryError("Unable to allocate")

    monkeypatch.setattr(bench, "run_times", no_memory)
    with pytest.raises(UserError, match=rf"{words} .* \(Unable to allocate\): .* smaller --height"):
        bench.measure(model, BenchOptions((model,)))
    monkeypatch.setattr(bench, "measure", end_at_once)
    with pytest.raises(UserError, match=rf"{words} .* \(the process was ended by the system\)"):
        bench.measure_alone(model, BenchOptions((model,)))


def test_a_gpu_that_cannot_be_had_is_an_error(tmp_path: Path) -> None:
    folder = made_bundle(tmp_path / "run")
    with pytest.raises(UserError, match="cuda"):
        main(BenchOptions((folder,), provider="cuda"))
