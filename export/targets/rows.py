"""The table of targets: one row for each name of `--to`.

The command line, its help and the order of events are made from it. A row loads its module when it
is asked for, so that the help needs neither torch nor onnx.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from export.proof.product import Product
    from export.proof.prove import Evidence

Make = Callable[["Evidence", Path], "Product"]
"""(The run with its pictures, the empty folder of the bundle) -> what was written into it."""


@dataclass(frozen=True)
class Target:
    """How one name of `--to` is made, and what that needs."""

    make: Mapping[str, Make]
    """By precision; tried in order until one is proved."""
    of_onnx: bool = False
    """Made from the finished bundle for `onnx`, which is exported first if there is none."""
    same_file: bool = False
    """Its model is that of the bundle for `onnx`, byte for byte, and so is its proof."""
    check: Callable[[], None] = lambda: None
    """Raises `UserError` if something has to be installed first."""
    advice: str = "Try another version of torch or onnxruntime, or report it with that file."
    """What to do where the proof fails."""


def _onnx() -> Target:
    from export.targets import onnx

    return Target({"fp32": onnx.make})


def _tensorrt() -> Target:
    from export.targets import tensorrt

    return Target({"fp16": tensorrt.make_fp16, "fp32": tensorrt.make_fp32}, check=tensorrt.check)


def _int8() -> Target:
    from export.targets import int8

    return Target({"int8": int8.make}, of_onnx=True, advice=int8.ADVICE)


def _openvino() -> Target:
    from export.targets import openvino

    return Target({"fp32": openvino.make}, check=openvino.check, advice=openvino.ADVICE)


def _triton() -> Target:
    from export.targets import triton

    return Target({"fp32": triton.make}, of_onnx=True, same_file=True)


def _web() -> Target:
    from export.targets import web

    return Target({"fp32": web.make}, of_onnx=True, same_file=True, check=web.check)


TARGETS: dict[str, Callable[[], Target]] = {
    "onnx": _onnx,
    "tensorrt": _tensorrt,
    "int8": _int8,
    "openvino": _openvino,
    "triton": _triton,
    "web": _web,
}
"""Name of `--to` -> what gives its row, in the order of the help."""
LOSSY = ("tensorrt", "int8")
"""Targets that have a precision which rounds, and are judged by the accuracy that it loses; stands
here so that the command line knows them without loading any."""
