"""What the tests of the export share."""

from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from typing import Any

import onnx
import pytest
import torch
from torch.onnx._internal.exporter._registration import ONNXRegistry

from export import graph
from export.graph import Prepare
from export.pieces import PREPARE, Pieces


@pytest.fixture(scope="session", autouse=True)
def one_registry() -> Iterator[None]:
    """The exporter builds its table of operators at each call, which takes a second; here once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_trace_of_each_piece() -> Iterator[None]:
    """What was traced of a network is taken again for every run that has the same."""
    kept: dict[object, onnx.ModelProto] = {}
    real = Pieces._once

    def once(pieces: Pieces, key: tuple[Any, ...], trace: Callable[[], onnx.ModelProto]) -> onnx.ModelProto:
        code = (Prepare.windows, Prepare.normalised, graph.interpolate, torch.onnx.export)  # tests put others there
        parts, weights = pieces._parts, sha256()
        for tensor in () if key[0] == PREPARE else (*parts.model.state_dict().values(), parts.bank):
            weights.update(b"" if tensor is None else tensor.numpy().tobytes())
        of = (parts.pre, parts.decision.views if key[0] == PREPARE else parts.decision, weights.digest())
        if (*code, key, of) not in kept:
            kept[*code, key, of] = real(pieces, key, trace)
        return kept[*code, key, of]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pieces, "_once", once)
        yield
