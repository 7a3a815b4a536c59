"""A base that needs no download, pictures to train it on, and runs that end soon."""

from pathlib import Path

import pytest

from zoo.contract import rundir
from zoo.picture.preprocess import Preprocessing


def made_base(folder: Path) -> Path:
    """A finished run to start from, at 32 px: timm's tiny ResNet with random weights. Its licence
    is apache-2.0."""
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model(
        "test_resnet", num_classes=2, pretrained_cfg_overlay={"license": "apache-2.0"}
    )
    timm.models.save_for_hf(
        model,
        str(folder),
        {"label_names": ["a", "b"]},
        safe_serialization=True,
        data_config=Preprocessing(32).to_config(),
    )
    rundir.finish(folder)
    return folder


def made_digits(folder: Path) -> Path:
    """A part of the digits sample: of each class 10 pictures in train, 4 in val and 4 in test.
    Whole or not there."""
    from finetune.sources.digits import write_digits

    whole = write_digits(folder.with_name("whole"))
    for split, kept in (("train", 10), ("val", 4), ("test", 4)):
        for class_folder in (whole / split).iterdir():
            for path in sorted(class_folder.iterdir())[kept:]:
                path.unlink()
    return whole.rename(folder)


def fit_quickly(patch: pytest.MonkeyPatch) -> None:
    """The linear probe has one penalty, and runs end with 8 foreign pictures of each set."""
    patch.setattr("finetune.train.probe.PENALTIES", (0.1,))
    patch.setattr("finetune.data.foreign.PICTURES", 8)


def end_quickly(patch: pytest.MonkeyPatch) -> None:
    """As `fit_quickly`, and runs end without report.html."""
    fit_quickly(patch)
    patch.setattr("finetune.write_run.write_report", lambda folder, data_root: None)
