"""torch modules -> ONNX files: one exporter call each, checked for what deployment needs."""

import traceback
from collections.abc import Iterable, Mapping, Sequence
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

from export.insides import of_timm
from export.insides.of_torch import REFUSED, exported
from zoo.contract import rundir
from zoo.host.errors import UserError, first_line

OPSET, IR_VERSION = 20, 9
"""The first with antialias in Resize is 18; 9 is the file format of 20. ONNX Runtime reads both
since 1.17."""
BATCH = "batch"
ANY_BATCH = torch.export.Dim(BATCH, min=1)
LARGEST_FILE = 2**31
"""Bytes that a message of protobuf holds at most, and so an ONNX file."""


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
    """Return `module` as a graph with these inputs and outputs.

    Raises `UserError` if the exporter refuses (its log is kept in `log`), or if the first dimension
    of an output, the batch, became a constant.
    """
    options = {
        "input_names": names_of(examples),
        "output_names": list(outputs),
        "dynamic_shapes": tuple(dict(example.dynamic) for example in examples),
        "opset_version": OPSET,
    }
    try:
        model = _exported(module, tuple(example.value for example in examples), options)
    except REFUSED as error:
        rundir.write_text(log, "".join(traceback.format_exception(error)))
        raise UserError(
            f"this architecture cannot be exported to ONNX: {first_line(error)[:300]}. The "
            f"exporter's whole log: {log}. Choose another base (python -m zoo list), or try "
            "another version of torch."
        ) from None
    for output in model.graph.output:
        # an exporter that cannot follow the batch writes the size of the example in its place
        batch = output.type.tensor_type.shape.dim[0]
        if not batch.dim_param:
            raise UserError(
                f"the batch of output {output.name!r} became the constant {batch.dim_value}: "
                "expected any batch. This architecture cannot be exported with this version of "
                "torch."
            )
        batch.dim_param = BATCH
    return model


def _exported(
    module: nn.Module, inputs: tuple[torch.Tensor, ...], options: Mapping[str, Any]
) -> onnx.ModelProto:
    """The exporter's answer; tried again without fused attention, which it refuses in some
    architectures (BEiT)."""
    try:
        return exported(module, inputs, options)
    except REFUSED:
        if not of_timm.write_out_attention(module):
            raise
        return exported(module, inputs, options)


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
    place = names_of(model.graph.initializer).index(name)
    weight = model.graph.initializer[place]
    del model.graph.value_info[:]  # shapes that follow from the old length
    weight.CopyFrom(onnx.numpy_helper.from_array(np.array(value, np.float32, order="C"), name))


def joined_graph(parts: Mapping[str, onnx.ModelProto]) -> onnx.ModelProto:
    """Return one graph of several, in order: each takes those outputs of the one before that are
    named like its inputs.

    Names inside a part begin with its name and a slash; the inputs of the first and the outputs of
    the last are as they were. Weights that two parts share are there once.
    """
    first, *_, last = parts
    before, whole = first, compose.add_prefix(parts[first], f"{first}/", rename_inputs=False)
    for name, part in parts.items():
        if name == first:
            continue
        # prefixes, because the exporter calls the nodes of every part alike
        renamed = compose.add_prefix(part, f"{name}/", rename_outputs=name != last)
        inputs = names_of(part.graph.input)
        pairs = [(f"{before}/{value}", f"{name}/{value}") for value in inputs]
        outputs = names_of(renamed.graph.output)
        whole = compose.merge_models(whole, renamed, pairs, outputs=outputs)
        before = name
    del whole.graph.value_info[:]  # a part's "batch" may be pictures times views
    del whole.opset_import[1:]
    model = onnx_ir.from_proto(whole)
    # network and answer both hold the classifier, which the heat map needs too
    DeduplicateInitializersPass()(model)
    return onnx_ir.to_proto(model)


def names_of(values: Iterable[Any]) -> list[str]:
    """Return the names of inputs, outputs or weights."""
    return [value.name for value in values]


def cut(model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.ModelProto:
    """Return the part of a graph between these values."""
    return onnx.utils.Extractor(model).extract_model(list(inputs), list(outputs))
