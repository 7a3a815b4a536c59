"""torch modules -> ONNX files: one exporter call each, checked for what deployment needs."""

import contextlib
import io
import logging
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from zoo import rundir
from zoo.errors import UserError, first_line

OPSET = 20
"""The first with antialias in Resize is 18; ONNX Runtime reads 20 since 1.17."""
PICTURE = torch.zeros(2, 120, 160, 3, dtype=torch.uint8)
"""Example input of the deployed graph: two pictures, since one would be taken for a constant."""
ANY_PICTURE = {0: "batch", 1: "height", 2: "width"}
LARGEST_FILE = 2**31
"""Bytes that a message of protobuf holds at most, and so an ONNX file."""
NAMESPACE = "namespace"
"""Key of a node's metadata: the modules that it comes from."""
REFUSED = (torch.onnx.OnnxExporterError, RuntimeError)
"""What the exporter raises for an architecture that it cannot take."""


def export(module: nn.Module, example: torch.Tensor, path: Path, *, names: tuple[str, Sequence[str]],
           dynamic: Mapping[int, str], metadata: Mapping[str, str] | None = None) -> None:
    """Write `module` as one ONNX file without external data.

    `names`: (input, outputs); `dynamic`: dimension of the input -> its name. Raises `UserError` if the exporter refuses
    (its log is kept beside the file), or if the batch dimension of an output became a constant.
    """
    shapes = ({dim: torch.export.Dim(name, min=1) for dim, name in dynamic.items()},)
    options = {"input_names": [names[0]], "output_names": list(names[1]), "dynamic_shapes": shapes}
    try:
        program = _program(module, example, options)
    except REFUSED as error:
        log = path.with_suffix(".log")
        rundir.write_text(log, "".join(traceback.format_exception(error)))
        raise UserError(f"this architecture cannot be exported to ONNX: {first_line(error)[:300]}. The exporter's "
                        f"whole log: {log}. Choose another base (python -m zoo list), or try another version of torch."
                        ) from None
    assert program is not None, "dynamo=True gives a program"
    program.model.metadata_props.update(metadata or {})
    for node in program.model.graph.all_nodes():  # stack traces with paths of this machine
        for key in node.metadata_props.keys() - {NAMESPACE}:
            del node.metadata_props[key]
    program.save(path, external_data=False)
    _keep_to_one_file(path)
    onnx.checker.check_model(path, full_check=True)
    described = onnx.load(path)
    for output in described.graph.output:
        if not output.type.tensor_type.shape.dim[0].dim_param:
            raise UserError(f"{path.name}: the batch of output {output.name!r} became the constant "
                            f"{output.type.tensor_type.shape.dim[0].dim_value}: expected any batch. This architecture "
                            "cannot be exported with this version of torch.")


def _keep_to_one_file(path: Path) -> None:
    """Put weights that torch wrote beside the model into it: above 1.5 GiB it does so whatever it is asked.

    Raises `UserError` above 2 GiB, which is the most that one ONNX file (a message of protobuf) can hold.
    """
    beside = path.with_name(f"{path.name}.data")
    if not beside.is_file():
        return
    size = path.stat().st_size + beside.stat().st_size
    if size >= LARGEST_FILE:
        beside.unlink()
        path.unlink()
        raise UserError(f"{path.name} would have {size / 2**30:.1f} GiB, and an ONNX file holds at most 2: expected a "
                        "smaller network. Choose another base (python -m zoo list).")
    onnx.save(onnx.load(path), path)  # loading brings the weights in
    beside.unlink()


def _program(module: nn.Module, example: torch.Tensor, options: Mapping[str, Any]) -> Any:
    """The exporter's answer; tried again without fused attention, which it refuses in some architectures (BEiT)."""
    try:
        return _tried(module, example, options)
    except REFUSED:
        fused: list[Any] = [part for part in module.modules() if getattr(part, "fused_attn", False)]
        if not fused:
            raise
        for part in fused:  # timm's flag: the same attention, written out
            part.fused_attn = False
        return _tried(module, example, options)


def _tried(module: nn.Module, example: torch.Tensor, options: Mapping[str, Any]) -> Any:
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _out_of_place(module):
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        return torch.onnx.export(module.eval(), (example,), dynamo=True, external_data=False, opset_version=OPSET,
                                 verbose=False, **options)


@contextlib.contextmanager
def _out_of_place(module: nn.Module) -> Iterator[None]:
    """Activations write new tensors: the same graph, and of a network with ReLU6 in two thirds of the time, because the
    exporter takes those that write in place (hardtanh_) apart and puts them together again."""
    inplace: list[Any] = [part for part in module.modules() if getattr(part, "inplace", False) is True]
    for part in inplace:
        part.inplace = False
    try:
        yield
    finally:
        for part in inplace:
            part.inplace = True
