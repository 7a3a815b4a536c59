"""The learning-rate range test: what its curve suggests, that it leaves no trace, and that the run
takes its rate."""

from pathlib import Path

import numpy as np
import pytest
import torch
import tyro

from finetune import find_lr
from finetune.data.dataset import Picture
from finetune.data.loader import PictureSource
from finetune.data.scanning import scan
from finetune.evaluation import lr_curve
from finetune.evaluation.lr_curve import Curve, suggest
from finetune.pipeline import start
from finetune.recipe.run import Run
from finetune.run_folder import events
from finetune.sources.class_folders import read_folders
from finetune.train import lr_range
from finetune.train.step import Job
from tests.made_recipe import made_recipe
from zoo.contract import rundir
from zoo.host.errors import UserError
from zoo.picture.preprocess import Preprocessing

RATES = tuple(np.geomspace(1e-6, 10, 105).tolist())


def made_curve(*, edge: float, fall: float, noise: float = 0.0) -> Curve:
    """A loss of 1 that falls by `fall` over the decade below `edge` and then runs away."""
    lr, random = np.array(RATES), np.random.default_rng(0)
    loss = (
        1
        - fall * np.clip(np.log10(lr / edge) + 1.5, 0, 1)
        + 3 * np.clip(np.log10(lr / edge), 0, None)
    )
    kept = loss < 4
    return Curve(
        tuple(lr[kept].tolist()), tuple((loss + noise * random.normal(size=105))[kept].tolist())
    )


@pytest.mark.parametrize("edge", [3e-3, 0.1, 1.0])
@pytest.mark.parametrize(("fall", "noise"), [(0.8, 0.0), (0.1, 0.0), (0.5, 0.1)])
def test_the_suggestion_is_a_tenth_of_the_valley(edge: float, fall: float, noise: float) -> None:
    curve = made_curve(edge=edge, fall=fall, noise=noise)
    suggestion = suggest(curve)
    assert edge / 40 < suggestion.lr < edge / 9
    assert suggestion.lr == pytest.approx(curve.lr[curve.smooth.argmin()] / 10, rel=0.05)
    assert "where the loss is lowest" in suggestion.why


@pytest.mark.parametrize("edge", [3e-3, 0.1, 1.0])
@pytest.mark.parametrize("fall", [0.0, 0.01])
def test_without_a_valley_it_is_a_tenth_of_where_the_loss_rises(edge: float, fall: float) -> None:
    suggestion = suggest(made_curve(edge=edge, fall=fall, noise=0.1))
    assert edge / 50 < suggestion.lr < edge / 5
    assert "never fell" in suggestion.why


def test_a_loss_that_never_rises_gives_a_tenth_of_the_highest_rate() -> None:
    assert suggest(Curve(RATES, tuple(np.linspace(1, 0.5, 105).tolist()))).lr == 1.0


def test_the_model_ends_as_it_began_and_the_rates_rise_evenly(digits: Path) -> None:
    import timm

    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=10).to(memory_format=torch.channels_last)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recipe = made_recipe(batch_size=8, image_size=32, threads=1)
    job = Job(
        model,
        scan(read_folders(digits)).of("train"),
        PictureSource(digits, Preprocessing(32), 0, False),
        recipe,
        Path("unused"),
        lambda model: pytest.fail("no scores"),
    )
    seen = lr_range.range_test(job)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert seen.lr == pytest.approx(RATES[: len(seen.lr)])
    assert seen.smooth.min() < seen.smooth[:15].mean() - 0.1  # it learned on the way


def test_a_batch_that_does_not_fit_the_device_is_passed_in_parts_here_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import timm

    class TriedError(Exception):
        pass

    def fitted(*_: object) -> None:
        raise TriedError

    monkeypatch.setattr(lr_range.memory, "fitted", fitted)
    with torch.device("meta"):  # any device but the CPU
        model = timm.create_model("test_resnet", num_classes=2)
    pictures = [Picture("", label, "train", "", 1, 1) for label in (0, 1)]
    job = Job(
        model,
        pictures,
        PictureSource(Path(), Preprocessing(32), 0, False),
        made_recipe(image_size=32),
        Path("unused"),
        lambda model: pytest.fail("no scores"),
    )
    with pytest.raises(TriedError):
        lr_range.range_test(job)


def test_a_loss_that_ran_away_ends_the_test() -> None:
    flat = [0.5, 0.4, 0.6] * 8
    assert not lr_range.ran_away(flat, 2.3)
    assert not lr_range.ran_away([*flat, 9.0], 2.3)  # one bad batch
    assert lr_range.ran_away([*flat, 3.0, 3.2, 3.1, 3.4, 3.5], 2.3)


@pytest.mark.usefixtures("quick_end")
def test_the_tool_draws_the_curve_and_the_run_goes_on_with_the_rate(
    digits: Path,
    tiny_base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lr_range, "STEPS", 40)
    out = tmp_path / "run"
    arguments = [
        "--data",
        str(digits),
        "--base",
        str(tiny_base),
        "--out",
        str(out),
        "--device",
        "cpu",
        "--epochs",
        "1",
        "--batch-size",
        "8",
        "--threads",
        "1",
        "--seed",
        "3",
        "--features",
        "fp32",
    ]
    for _ in range(2):  # the second time nothing is measured again
        tyro.cli(find_lr.main, args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
    told = capsys.readouterr().out
    assert told.count("linear probe: top-1") == 1
    found = rundir.read_json(out / "recipe.json")["lr"]
    assert told.count(f"suggested learning rate: {found['value']:g} ({found['why']})") == 2
    curve = lr_curve.recorded(events.read(out))
    assert curve is not None
    assert suggest(curve).lr == found["value"]
    assert "Learning-rate range test" in (out / "figures" / "lr-range.svg").read_text()
    assert not rundir.is_finished(out)
    start(Run(resume=out), {})  # as the tool says
    assert rundir.read_json(out / "recipe.json")["lr"] == found
    assert max(lr for _, lr in events.read(out)["train/lr"]) <= found["value"]
    assert lr_curve.recorded(events.read(out)) == curve


def test_find_where_it_is_useless_is_refused(digits: Path, tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--lr find has no effect with --probe-only"):
        start(
            Run(data=str(digits), base=str(tiny_base), out=tmp_path / "run"),
            {"lr": "find", "probe_only": True},
        )
    for words, message in (
        (["--lr", "0.1"], "--lr is what"),
        (["--advise", "apply", "2"], "--advise has no effect"),
    ):
        with pytest.raises(UserError, match=message):
            tyro.cli(
                find_lr.main, args=["--data", "x", *words], config=(tyro.conf.FlagCreatePairsOff,)
            )
