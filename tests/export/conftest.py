"""What the tests of the export share."""

from collections.abc import Iterator
from functools import cache

import onnx
import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry

from export import graph
from export.graph import Deployed, Prepare
from export.pieces import Pieces


@pytest.fixture(scope="session", autouse=True)
def one_registry() -> Iterator[None]:
    """The exporter builds its table of operators at each call, which takes a second; here once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_trace_of_preparations() -> Iterator[None]:
    """What happens to pixels follows from the preprocessing alone: another run of the same takes the traced piece."""
    kept: dict[object, onnx.ModelProto] = {}
    real = Pieces._prepare

    def prepare(pieces: Pieces, deployed: Deployed) -> onnx.ModelProto:
        code = (Prepare.windows, Prepare.normalised, graph.interpolate)  # which tests put wrong ones in place of
        part = deployed.prepare
        key = (*code, part.pre, part.views, part.matmul, part.exact)
        if key not in kept:
            kept[key] = real(pieces, deployed)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pieces, "_prepare", prepare)
        yield
