"""What the tests of the export share."""

import io
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from filelock import FileLock
from torch.onnx._internal.exporter._registration import ONNXRegistry

from export.graph import resize
from export.graph.deployed import AnswerGraph, Network, Prepare
from export.graph.pieces import ANSWER, NETWORK, PREPARE, Pieces
from export.proof import predictor_process
from zoo import predictor
from zoo.host.console import Advance
from zoo.network import class_maps


@pytest.fixture(scope="session", autouse=True)
def one_registry() -> Iterator[None]:
    """The exporter builds its table of operators at each call, which takes a second; here once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib))
        )
        yield


@pytest.fixture(scope="session", autouse=True)
def no_structured_log() -> Iterator[None]:
    """torch describes every step of a trace, with its stack, to a log that nobody reads, as long as
    it has a handler; pytest gives it one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch._logging._internal, "trace_log", logging.Logger("not read"))
        yield


def predict_here(command: Sequence[str], advance: Advance) -> tuple[bool, str]:
    """What `python -m zoo.predictor` does, without the second that a process of its own takes to
    start."""
    interpreter, option, module, *arguments = command
    assert (interpreter, option, module) == (sys.executable, "-m", "zoo.predictor")
    with redirect_stdout(io.StringIO()) as printed:
        status = predictor.main(arguments)
    lines = printed.getvalue().splitlines()
    advance(len(lines))
    return status == 0, lines[-1]


@pytest.fixture(scope="session", autouse=True)
def proofs_predict_here() -> Iterator[None]:
    """Proofs run the exported file in this process; in test_export.py one does it as users' proofs
    do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor_process, "run_predictor", predict_here)
        yield


def code_of(piece: str) -> tuple[Any, ...]:
    """What a piece is traced from, which tests replace."""
    own = {
        PREPARE: (Prepare.__init__, Prepare.windows, Prepare.normalised, resize.interpolate),
        NETWORK: (Network.forward,),
        ANSWER: (AnswerGraph.forward, AnswerGraph.first, class_maps.heatmap),
    }
    return (torch.onnx.export, *own[piece])


def depends_on(pieces: Pieces, key: tuple[Any, ...]) -> str:
    """Digest of all else that decides what a piece becomes: only of what it has of the run."""
    parts = pieces._parts
    if key[0] == PREPARE:
        return sha256(repr((key, parts.pre, parts.decision.views)).encode()).hexdigest()
    digest = sha256(
        repr(
            (
                key,
                parts.pre.size,
                type(parts.model),
                parts.decision.early,
                key[0] == ANSWER and parts.decision,
            )
        ).encode()
    )
    for name, tensor in parts.model.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    if key[0] == ANSWER and parts.bank is not None:
        digest.update(parts.bank.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="session", autouse=True)
def one_trace_of_each_piece(shared: Path) -> Iterator[None]:
    """What was traced of a network is taken again for every run that has the same, by all
    workers."""
    real, original = Pieces._once, {piece: code_of(piece) for piece in (PREPARE, NETWORK, ANSWER)}
    kept = shared / "traced"
    kept.mkdir(exist_ok=True)

    def once(
        pieces: Pieces, key: tuple[Any, ...], trace: Callable[[], onnx.ModelProto]
    ) -> onnx.ModelProto:
        if code_of(key[0]) != original[key[0]]:
            return real(pieces, key, trace)
        path = kept / f"{depends_on(pieces, key)}.onnx"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                onnx.save(real(pieces, key, trace), path)
        return onnx.load(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pieces, "_once", once)
        yield
