"""What is borrowed from torch's exporter to ONNX. Tried with torch 2.14.1.

`torch.onnx.export` is public; where it writes its words, what it leaves in a file, how it names
weights, and what it raises for a network that it cannot take, is not.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import onnx
import torch
from torch import nn

REFUSED = (torch.onnx.OnnxExporterError, RuntimeError)
"""What the exporter raises for an architecture that it cannot take.

Borrowed: of some networks it is a plain RuntimeError of torch's tracing.
"""
LOG = "torch.onnx"
"""Name of the exporter's log."""


def exported(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], options: Mapping[str, Any]
) -> onnx.ModelProto:
    """Return `module` as a graph, whose weights are called like its parameters and buffers; raises
    `REFUSED`.

    Borrowed: the name `LOG`; the model of a program as objects of onnx_ir, and their stack traces
    under `metadata_props`, which name folders of this machine; the names of weights, by which
    export/proof/unknown.py finds those that it replaces.
    """
    with (
        torch.no_grad(),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        _out_of_place(module),
    ):
        warnings.simplefilter("ignore")
        logging.getLogger(LOG).setLevel(logging.ERROR)
        program = torch.onnx.export(
            # batch norms and dropout are traced as they are at this moment
            module.eval(),
            inputs,
            dynamo=True,
            external_data=False,
            verbose=False,
            **options,
        )
    assert program is not None, "dynamo=True gives a program"
    for node in program.model.graph.all_nodes():
        # stack traces, which name folders of this machine
        node.metadata_props.clear()
    model: onnx.ModelProto = program.model_proto
    return model


@contextlib.contextmanager
def _out_of_place(module: nn.Module) -> Iterator[None]:
    """Activations write new tensors: the same graph, and of a network with ReLU6 in two thirds of
    the time.

    Borrowed: the exporter takes those that write in place (hardtanh_) apart and puts them together
    again.
    """
    inplace: list[Any] = [
        part for part in module.modules() if getattr(part, "inplace", False) is True
    ]
    for part in inplace:
        part.inplace = False
    try:
        yield
    finally:
        for part in inplace:
            part.inplace = True
