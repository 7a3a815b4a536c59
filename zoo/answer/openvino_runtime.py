"""OpenVINO behind the few calls of an ONNX Runtime session that we use, with its precision pinned.

Left to itself it computes in bf16 on CPUs that can, without a word: probabilities move by up to
0.16 (openvinotoolkit/openvino #27795).
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from zoo.host import machine
from zoo.host.errors import UserError, first_line

CONFIG = {"INFERENCE_PRECISION_HINT": "f32"}
"""What a model has to be compiled with, by whoever loads the files."""
ONNX_TYPES = {"u8": "uint8", "f32": "float"}
"""OpenVINO's name of a type of numbers -> ONNX Runtime's."""


def import_openvino() -> Any:
    """The module; `UserError` with the pip line if it is missing."""
    try:
        import openvino
    except ImportError as error:
        raise UserError(
            f"the target openvino needs OpenVINO ({first_line(error)}): pip install -e "
            '".[openvino]"'
        ) from None
    return openvino


def load_compiled(model: Path, *, threads: int = 0, metadata: str = "zoo") -> "OpenVinoSession":
    """A model (.xml or .onnx) compiled for the CPU; `metadata`: key of its description. `UserError`
    if it cannot be."""
    openvino, core = import_openvino(), _core()
    config: dict[str, Any] = {
        **CONFIG,
        "INFERENCE_NUM_THREADS": machine.library_threads(threads),
    }
    try:
        read = core.read_model(model)
        compiled = core.compile_model(read, "CPU", config)
    except RuntimeError as error:
        raise UserError(
            f"OpenVINO {openvino.__version__} cannot load {model}: {first_line(error)}. If it is "
            "an old version: pip install -U openvino"
        ) from None
    described = {}
    if read.has_rt_info([metadata]):
        described[metadata] = read.get_rt_info([metadata]).astype(str)
    return OpenVinoSession(compiled, described)


@cache
def _core() -> Any:
    """One for the life of the process."""
    # the CPU plugin puts a signal stack of its own under the thread that first compiles, and takes
    # it away in whichever thread it ends: the next signal would then kill the process
    return import_openvino().Core()


class OpenVinoSession:
    """A compiled model; final. Threads may share it: each call has an inference request of its
    own."""

    def __init__(self, compiled: Any, described: Mapping[str, str]):
        self._compiled, self._described = compiled, dict(described)

    def run(
        self, names: Sequence[str] | None, feed: Mapping[str, np.ndarray], options: Any = None
    ) -> list[np.ndarray]:
        """The outputs named (None: all), as `onnxruntime.InferenceSession.run` gives them."""
        # shared, not copied: nobody writes to the pixels during a pass
        results = self._compiled.create_infer_request().infer(dict(feed), share_inputs=True)
        if names is None:
            names = [output.get_any_name() for output in self._compiled.outputs]
        # copied, because the results belong to the request, which ends here
        return [np.array(results[name]) for name in names]

    def get_modelmeta(self) -> SimpleNamespace:
        """`custom_metadata_map`: what the exporter wrote into the file."""
        return SimpleNamespace(custom_metadata_map=self._described)

    def get_inputs(self) -> list[SimpleNamespace]:
        """Name and type of each input."""
        return list(map(_port, self._compiled.inputs))

    def get_outputs(self) -> list[SimpleNamespace]:
        """Name and type of each output."""
        return list(map(_port, self._compiled.outputs))


def _port(port: Any) -> SimpleNamespace:
    kind = port.element_type.get_type_name()
    kind = ONNX_TYPES.get(kind, kind)
    return SimpleNamespace(name=port.get_any_name(), type=f"tensor({kind})")
