"""Pictures and runs that several tests share."""

import os
import shutil
from pathlib import Path

import pytest

from finetune.sample import write_digits

# before torch is imported: threads that spin while they wait slow every other process of the machine down
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 training, 40 validation and 40 test pictures of the digits sample, in 10 classes."""
    folder = write_digits(tmp_path_factory.mktemp("sample") / "digits")
    for split, kept in (("train", 10), ("val", 4), ("test", 4)):
        for class_folder in (folder / split).iterdir():
            for path in sorted(class_folder.iterdir())[kept:]:
                path.unlink()
    return folder


@pytest.fixture(scope="session")
def finished_run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on these digits: EfficientNet-Lite0 at 32 px, 2 epochs. Copy it before changing it."""
    from finetune.job import start
    from finetune.run import Run

    out = tmp_path_factory.mktemp("runs") / "digits"
    start(Run(data=str(digits), out=out), {"epochs": 2, "image_size": 32, "lr": 1e-3})
    return out


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))
