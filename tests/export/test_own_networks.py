"""Networks that timm lacks, through every floor: fine-tuned, exported with proof, answered by the
bundle."""

import io
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


def exported(run: Path) -> dict[str, Any]:
    """What parity.json says of a run's bundle."""
    exporting.start(ExportOptions(run))
    return dict(rundir.read_json(run / "bundles" / "onnx" / "parity.json"))


@pytest.mark.usefixtures("quick_end")
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "squeezenet1_1", "googlenet"])
def test_a_base_of_torchvision_goes_through_every_floor(
    name: str, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    torchvision_file.cache().mkdir(parents=True)
    torch.manual_seed(0)
    options = {"init_weights": False} if name == "googlenet" else {}
    file = torchvision_file.cache() / "weights.pth"
    torch.save(getattr(models, name)(**options).state_dict(), file)
    renamed = file.rename(file.with_name(f"{name}-{rundir.digest(file)[:8]}.pth"))
    alias = f"{name}_1k"
    row = replace(catalog.find(alias), url=f"https://nowhere.invalid/{renamed.name}")
    monkeypatch.setitem(catalog.BY_ALIAS, alias, row)
    run = tmp_path / "run"
    with redirect_stdout(io.StringIO()) as printed:
        training.start(
            Run(data=str(digits), base=alias, out=run, device="cpu"),
            {"epochs": 1, "image_size": 64, "layer_decay": 0.8, "threads": 1},
        )
    assert "import timm, zoo.network.build; timm.create_model(" in printed.getvalue()
    model = timm.create_model(f"local-dir:{run}", pretrained=True)
    assert model.num_classes == 10
    config = rundir.read_json(run / rundir.CONFIG)
    assert config["architecture"] == name
    assert config["pretrained_cfg"]["license"] == "bsd-3-clause"
    assert "import zoo.network.build  # of zootune" in card.text(run)
    assert exported(run)["passed"]
    assert verify.main(verify.VerifyOptions(run, data=digits / "test")) == 0
    # and it is a base in its turn
    assert catalog.find(str(run)).architecture == name
