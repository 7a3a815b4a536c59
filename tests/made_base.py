"""A base that needs no download."""

from pathlib import Path

import timm
import torch

from zoo import rundir
from zoo.preprocess import Preprocessing


def made_base(folder: Path) -> Path:
    """A finished run to start from, at 32 px: timm's tiny ResNet with random weights. Its licence is apache-2.0."""
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=2, pretrained_cfg_overlay={"license": "apache-2.0"})
    timm.models.save_for_hf(model, str(folder), {"label_names": ["a", "b"]}, safe_serialization=True,
                            data_config=Preprocessing(32).to_config())
    rundir.finish(folder)
    return folder
