"""Networks that timm lacks, through every floor: fine-tuned, exported with proof, answered by the
bundle."""

import io
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torchvision import models

from export import pipeline as exporting
from export import verify
from export.options import ExportOptions
from finetune import pipeline as training
from finetune.recipe.run import Run
from zoo.bases import catalog
from zoo.contract import rundir
from zoo.hub import torchvision_file
from zoo.publish import card


@pytest.fixture
def few(digits: Path, tmp_path: Path) -> Path:
    """A tenth of the digits: what is trained need not be good."""
    for split in ("train", "val", "test"):
        for folder in (digits / split).iterdir():
            to = tmp_path / "few" / split / folder.name
            to.mkdir(parents=True)
            for path in sorted(folder.iterdir())[::10]:
                shutil.copy(path, to)
    return tmp_path / "few"


def export_and_verify(run: Path, data: Path) -> None:
    """Export a run, which raises `NotProved` if the file answers otherwise, and ask the bundle."""
    exporting.start(ExportOptions(run, parity_images=8))
    assert verify.main(verify.VerifyOptions(run, data=data / "test")) == 0


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("quick_end")
@pytest.mark.parametrize(
    ("name", "given", "exported"),
    [
        # not exported, which takes 20 seconds more
        ("shufflenet_v2_x0_5", {"epochs": 1, "layer_decay": 0.8}, False),
        ("squeezenet1_1", {"probe_only": True}, True),
    ],
)
def test_a_base_of_torchvision_goes_through_every_floor(
    name: str,
    given: dict[str, Any],
    exported: bool,
    few: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    torchvision_file.cache().mkdir(parents=True)
    torch.manual_seed(0)
    file = torchvision_file.cache() / "weights.pth"
    torch.save(getattr(models, name)().state_dict(), file)
    renamed = file.rename(file.with_name(f"{name}-{rundir.digest(file)[:8]}.pth"))
    alias = f"{name}_1k"
    row = replace(catalog.find_base(alias), url=f"https://nowhere.invalid/{renamed.name}")
    monkeypatch.setitem(catalog.BY_ALIAS, alias, row)
    run = tmp_path / "run"
    with redirect_stdout(io.StringIO()) as printed:
        training.start(
            Run(data=str(few), base=alias, out=run, device="cpu"),
            {"image_size": 64, "threads": 1, **given},
        )
    assert "import timm, zoo.network.build; timm.create_model(" in printed.getvalue()
    model = timm.create_model(f"local-dir:{run}", pretrained=True)
    assert model.num_classes == 10
    config = rundir.read_json(run / rundir.CONFIG)
    assert config["architecture"] == name
    assert config["pretrained_cfg"]["license"] == "bsd-3-clause"
    assert "import zoo.network.build  # of zootune" in card.text(run)
    # and it is a base in its turn
    assert catalog.find_base(str(run)).architecture == name
    if exported:
        export_and_verify(run, few)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("quick_end")
def test_cifar_sam_trains_a_resnet_with_the_stem_of_its_source(few: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    training.start(
        Run(data=str(few), base="resnet18", out=run, device="cpu"),
        {"recipe": "cifar-sam", "from_scratch": True, "epochs": 1, "threads": 1, "sam_rho": 0.0},
    )
    recipe = rundir.read_json(run / rundir.RECIPE)
    values = {name: row["value"] for name, row in recipe.items()}
    assert (values["stem"], values["image_size"], values["crop_padding"]) == ("cifar", 32, 4)
    config = rundir.read_json(run / rundir.CONFIG)
    assert config["architecture"] == "resnet18_cifar"
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32]
    model = timm.create_model(f"local-dir:{run}", pretrained=True)
    assert model.conv1.weight.shape == (64, 3, 3, 3)
    export_and_verify(run, few)
