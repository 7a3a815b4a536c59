"""torch modules -> ONNX files: one exporter call each, checked for what deployment needs."""

import contextlib
import io
import logging
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import torch
from onnx import compose
from onnx_ir.passes.common import DeduplicateInitializersPass
from torch import nn

from zoo.contract import rundir
from zoo.host.errors import UserError, first_line

OPSET, IR_VERSION = 20, 9
"""The first with antialias in Resize is 18; 9 is the file format of 20. ONNX Runtime reads both
since 1.17."""
BATCH = "batch"
ANY_BATCH = torch.export.Dim(BATCH, min=1)
LARGEST_FILE = 2**31
"""Bytes that a message of protobuf holds at most, and so an ONNX file."""
REFUSED = (torch.onnx.OnnxExporterError, RuntimeError)
"""What the exporter raises for an architecture that it cannot take."""


@dataclass(frozen=True)
class Example:
    """What a module is traced with."""

    name: str
    value: torch.Tensor
    dynamic: Mapping[int, Any]
    """Dimension that may be of any size -> its `torch.export.Dim`."""


def trace(
    module: nn.Module, examples: Sequence[Example], outputs: Sequence[str], *, log: Path
) -> onnx.ModelProto:
    """`module` as a graph with these inputs and outputs.

    Raises `UserError` if the exporter refuses (its log is kept in `log`), or if the first dimension
    of an output, the batch, became a constant.
    """
    options = {
        "input_names": [example.name for example in examples],
        "output_names": list(outputs),
        "dynamic_shapes": tuple(dict(example.dynamic) for example in examples),
    }
    try:
        program = _program(module, tuple(example.value for example in examples), options)
    except REFUSED as error:
        rundir.write_text(log, "".join(traceback.format_exception(error)))
        raise UserError(
            f"this architecture cannot be exported to ONNX: {first_line(error)[:300]}. The "
            f"exporter's whole log: {log}. Choose another base (python -m zoo list), or try "
            "another version of torch."
        ) from None
    assert program is not None, "dynamo=True gives a program"
    for node in program.model.graph.all_nodes():  # stack traces with paths of this machine
        node.metadata_props.clear()
    model: onnx.ModelProto = program.model_proto
    for output in model.graph.output:
        batch = output.type.tensor_type.shape.dim[0]
        if not batch.dim_param:
            raise UserError(
                f"the batch of output {output.name!r} became the constant {batch.dim_value}: "
                "expected any batch. This architecture cannot be exported with this version of "
                "torch."
            )
        batch.dim_param = BATCH
    return model


def save(model: onnx.ModelProto, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a model as one file that ONNX's own checker takes; `UserError` above 2 GiB, which is
    the most that one file (a message of protobuf) can hold."""
    size = sum(len(weight.raw_data) for weight in model.graph.initializer)
    if size >= LARGEST_FILE:
        raise UserError(
            f"{path.name} would have {size / 2**30:.1f} GiB, and an ONNX file holds at most 2: "
            "expected a smaller network. Choose another base (python -m zoo list)."
        )
    onnx.helper.set_model_props(model, dict(metadata or {}))
    model.ir_version = IR_VERSION
    onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)


def set_weight(model: onnx.ModelProto, name: str, value: np.ndarray | np.floating[Any]) -> None:
    """Put other numbers, of any length, in place of a weight that the model has under this name."""
    [weight] = [weight for weight in model.graph.initializer if weight.name == name]
    del model.graph.value_info[:]  # shapes that follow from the old length
    weight.CopyFrom(onnx.numpy_helper.from_array(np.array(value, np.float32, order="C"), name))


def joined(parts: Mapping[str, onnx.ModelProto]) -> onnx.ModelProto:
    """One graph of several, in order: each takes those outputs of the one before that are named
    like its inputs.

    Names inside a part begin with its name and a slash; the inputs of the first and the outputs of
    the last are as they were. Weights that two parts share are there once.
    """
    names = list(parts)
    first, *_, last = names
    inner = [
        compose.add_prefix(
            part, f"{name}/", rename_inputs=name != first, rename_outputs=name != last
        )
        for name, part in parts.items()
    ]
    whole = inner[0]
    for before, name, after in zip(names, names[1:], inner[1:], strict=False):
        inputs = [value.name for value in parts[name].graph.input]
        whole = compose.merge_models(
            whole,
            after,
            [(f"{before}/{value}", f"{name}/{value}") for value in inputs],
            outputs=[value.name for value in after.graph.output],
        )
    del whole.graph.value_info[:]  # a part's "batch" may be pictures times views
    del whole.opset_import[1:]
    model = onnx_ir.from_proto(whole)
    DeduplicateInitializersPass()(model)
    return onnx_ir.to_proto(model)


def cut(model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.ModelProto:
    """The part of a graph between these values."""
    return onnx.utils.Extractor(model).extract_model(list(inputs), list(outputs))


def _program(
    module: nn.Module, examples: tuple[torch.Tensor, ...], options: Mapping[str, Any]
) -> Any:
    """The exporter's answer; tried again without fused attention, which it refuses in some
    architectures (BEiT)."""
    try:
        return _tried(module, examples, options)
    except REFUSED:
        fused: list[Any] = [part for part in module.modules() if getattr(part, "fused_attn", False)]
        if not fused:
            raise
        for part in fused:  # timm's flag: the same attention, written out
            part.fused_attn = False
        return _tried(module, examples, options)


def _tried(
    module: nn.Module, examples: tuple[torch.Tensor, ...], options: Mapping[str, Any]
) -> Any:
    with (
        torch.no_grad(),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        _out_of_place(module),
    ):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        return torch.onnx.export(
            module.eval(),
            examples,
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            verbose=False,
            **options,
        )


@contextlib.contextmanager
def _out_of_place(module: nn.Module) -> Iterator[None]:
    """Activations write new tensors: the same graph, and of a network with ReLU6 in two thirds of
    the time, because the exporter takes those that write in place (hardtanh_) apart and puts them
    together again."""
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
