"""What the tests of the export share."""

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry

from export.graph import Deployed
from export.proof import Evidence


@pytest.fixture(scope="session", autouse=True)
def one_registry() -> Iterator[None]:
    """The exporter builds its table of operators at each call, which takes a second; here once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_export_of_pixels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What gives the pixels of a proof follows from the preprocessing alone: another run of the same takes the file."""
    kept: dict[object, Path] = {}
    folder, real = tmp_path_factory.mktemp("pixels"), Evidence.windows

    def windows(evidence: Evidence, deployed: Deployed) -> Path:
        prepare = deployed.prepare
        key = (prepare.pre, prepare.views, prepare.matmul, prepare.exact)
        if key not in kept:
            kept[key] = Path(shutil.copyfile(real(evidence, deployed), folder / f"{len(kept)}.onnx"))
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evidence, "windows", windows)
        yield
