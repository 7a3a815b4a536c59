"""`--to int8`: weights and activations of the network in 8 bits, all before and after it in float32.

Per channel, because one scale for a whole weight tensor costs MobileNet-like networks many points. CPUs want unsigned
activations (U8S8), TensorRT wants signed ones and float biases (S8S8): the wrong file is slower than fp32.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from rich.console import Console
from rich.progress import track

from export import onnx_file, parity
from export.graph import Deployed
from export.parity import Rung
from export.subject import Labelled, Made, Subject
from zoo import bundle, runtime
from zoo.preprocess import decode

console = Console(highlight=False, soft_wrap=True)
MODEL, FOR_TENSORRT = "model.int8.onnx", "model.int8-trt.onnx"
CALIBRATED_ON = 128
"""Training pictures; 64 gave the same accuracy."""
QUANTIZED = ("Conv", "Gemm", "MatMul")
ADVICE = ("Try fine-tuning for longer (sharper answers survive rounding better) or another base: ResNets lose least, "
          "MobileNets and EfficientNets most. The bundles for onnx, openvino and tensorrt are exact.")


class TrainingPictures(CalibrationDataReader):
    """Decoded pictures, one at a time, as the quantiser asks for them."""

    def __init__(self, paths: Sequence[Path]):
        self._left: Iterator[Path] = iter(track(paths, "calibrating", transient=True))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next picture as the graph's input; None at the end."""
        path = next(self._left, None)
        return None if path is None else {bundle.IMAGE: np.asarray(decode(path))[None]}


def make(subject: Subject, folder: Path, precision: str) -> Made:
    """`model.int8.onnx` for CPUs; `model.int8-trt.onnx` for TensorRT, if it keeps the accuracy too."""
    pictures = subject.training(CALIBRATED_ON)
    quantize(subject.onnx_model, folder / MODEL, pictures)
    other, path = Deployed(subject.parts, resize="matmul").eval(), folder / FOR_TENSORRT
    with tempfile.TemporaryDirectory() as temporary:
        exact = Path(temporary) / "model.onnx"
        onnx_file.export(other, onnx_file.PICTURE, exact, names=(bundle.IMAGE, other.outputs),
                         dynamic=onnx_file.ANY_PICTURE, metadata=subject.metadata(other))
        quantize(exact, path, pictures, for_tensorrt=True)
    rung = judged(path, subject.labelled)
    if not rung.passed:
        path.unlink()
        console.print(f"warning: {FOR_TENSORRT} loses {rung.worst:.2f} points of accuracy (limit {rung.limit:g}), so it "
                      "is left out", style="bold yellow")
    return Made(Deployed(subject.parts, resize="op"), model=MODEL, facts={
        "calibrated_on": len(pictures), "for_tensorrt": {"file": FOR_TENSORRT if rung.passed else None,
                                                         "status": "not run by TensorRT", **parity.to_json([rung])[0]}})


def quantize(source: Path, path: Path, pictures: Sequence[Path], *, for_tensorrt: bool = False,
             per_channel: bool = True) -> None:
    """Write `source` to `path` with the network's layers in 8 bits, their ranges from the pictures' extremes."""
    activations = QuantType.QInt8 if for_tensorrt else QuantType.QUInt8
    options = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False} if for_tensorrt else {}
    quantize_static(source, path, TrainingPictures(pictures), quant_format=QuantFormat.QDQ, per_channel=per_channel,
                    activation_type=activations, weight_type=QuantType.QInt8, nodes_to_quantize=layers(source),
                    extra_options=options)


def layers(model: Path) -> list[str]:
    """Names of the nodes that compute the network proper: its products, not those of resizing or the answer."""
    named = []
    for node in onnx.load(model).graph.node:
        scope = next((one.value for one in node.metadata_props if one.key == onnx_file.NAMESPACE), "")
        if node.op_type in QUANTIZED and "Deployed/model" in scope:
            named.append(node.name)
    assert named, "the exporter names the module of each node"
    return named


def judged(model: Path, labelled: Sequence[Labelled]) -> Rung:
    """The accuracy of a model file against that of the trained model."""
    session, _ = runtime.load(model, "cpu")
    given = parity.run(session, [bundle.PROBABILITIES], [one.path for one in labelled])
    return parity.accuracy("int8", labelled, given[bundle.PROBABILITIES])
