"""`--to int8`: weights and activations of the network in 8 bits, all before and after it in
float32.

Per channel, because one scale for a whole weight tensor costs MobileNet-like networks many points.
CPUs want unsigned activations (U8S8), TensorRT wants signed ones and float biases (S8S8): the wrong
file is slower than fp32.

CPUs without VNNI add two products in 16 bits and saturate without a word: EfficientNet-Lite0 lost
11 points on one, with weights of 7 bits 1. So the file for CPUs has weights of 7 bits and answers
alike on all of them (onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "When
and why do I need to try reduce-range?"). The first layers lose most by rounding; as many of them as
validation pictures ask for stay in float32.
"""

import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType

from export.graph import pieces
from export.graph.deployed import Deployed
from export.insides import of_onnxruntime
from export.proof import judging, parity, sessions, unknown
from export.proof.judging import Labelled, Rung
from export.proof.product import Product
from export.proof.prove import Evidence
from export.proof.sessions import Session
from export.proof.trained_run import TrainedRun
from zoo.answer import onnx_runtime
from zoo.contract import bundle
from zoo.host import console
from zoo.host.errors import UserError
from zoo.host.text import shell_path
from zoo.picture.decoding import decode

MODEL, FOR_TENSORRT = "model.int8.onnx", "model.int8-trt.onnx"
CALIBRATED_ON = 128
"""Training pictures; 64 gave the same accuracy."""
QUANTIZED = ("Conv", "Gemm", "MatMul")
CLIPPED = ("Relu", "Clip")
"""Activations that become part of the layer before: its 8 bits then cover their range and no
more."""
FLOAT_LAYERS = (0, 3, 6, 12)
"""How many of the first layers stay in float32: tried in order until the loss on validation
pictures, its 95 % interval included, is within the limit."""
FEW = 64
"""Validation pictures, evenly spread, after which it is asked again whether an attempt can pass."""
ROUNDS = 15
"""How often the two files are timed."""
ADVICE = (
    "Try fine-tuning for longer, which makes answers clearer, or another base. The bundles for "
    "onnx and openvino do not round."
)


class TrainingPictures(CalibrationDataReader):
    """Decoded pictures, one at a time, as the quantiser asks for them."""

    def __init__(self, paths: Sequence[Path]):
        self._left: Iterator[Path] = console.track(paths, "calibrating")

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next picture as the graph's input; None at the end."""
        path = next(self._left, None)
        if path is None:
            return None
        return {bundle.IMAGE: np.asarray(decode(path))[None]}


def make(evidence: Evidence, folder: Path) -> Product:
    """Write `model.int8.onnx` for CPUs; `model.int8-trt.onnx` for TensorRT, if it keeps the
    accuracy too."""
    trained = evidence.trained
    deployed = trained.deployed_onnx()
    with tempfile.TemporaryDirectory() as temporary:
        ranges = Path(temporary) / "ranges.json"
        float_layers = best(trained, trained.onnx_model, folder / MODEL, ranges)
        own = unknown.fit(trained, deployed, folder / MODEL)
        for_tensorrt = make_for_tensorrt(trained, folder / FOR_TENSORRT, ranges)
    picture = next(iter(trained.pictures.values()))
    int8_ms, fp32_ms = side_by_side([folder / MODEL, trained.onnx_model], picture)
    gain = "no gain on this machine"
    # a tenth may be chance
    if int8_ms < fp32_ms / 1.1:
        gain = f"{fp32_ms / int8_ms:.1f} times as fast"
    console.say(
        f"  a picture takes {int8_ms:.1f} ms, in the bundle for onnx {fp32_ms:.1f} ms: {gain}"
    )
    facts = {
        "ms_a_picture": {"int8": int8_ms, "fp32": fp32_ms},
        "calibrated_on": len(trained.training(CALIBRATED_ON)),
        "float_layers": float_layers,
        "for_tensorrt": for_tensorrt,
    }
    return Product(
        deployed.outputs,
        deployed.resize,
        MODEL,
        pixels=deployed,
        facts=facts,
        status=own.status,
        decision=own.decision,
        rungs=own.rungs,
        labelled_NC=own.labelled_NC,
        next_steps=lambda folder: [f"python -m zoo.predictor {shell_path(folder)} PICTURE..."],
    )


def make_for_tensorrt(trained: TrainedRun, path: Path, ranges: Path) -> dict[str, Any]:
    """Write the file for TensorRT to `path`, unless it loses too much; what bundle.json says of
    it."""
    deployed = Deployed(trained.parts, resize="matmul").eval()
    # resized by products, since TensorRT has no Resize with antialias
    exact = ranges.with_name("model.onnx")
    trained.write(deployed, exact)
    float_layers = best(trained, exact, path, ranges, for_tensorrt=True)
    rung = judged(path, trained.labelled, trained.may_lose("int8"), as_stated=True)
    file = None
    if rung.verdict == "passed":
        unknown.take_out(trained, deployed, path)  # nothing here runs it fast enough to fit one
        file = path.name
    else:
        path.unlink()
        console.warn(f"{path.name} loses {rung.lost} (limit {rung.limit:g}), so it is left out")
    return {
        "file": file,
        "float_layers": float_layers,
        "status": "not run by TensorRT",
        "accuracy": judging.rungs_json([rung])[0],
        "unknown": "not fitted, so it has no such output",
    }


def side_by_side(models: Sequence[Path], picture: Path) -> list[float]:
    """Return the milliseconds that each model takes for the picture on this CPU: the median, the
    models in turn."""
    feed = {bundle.IMAGE: np.asarray(decode(picture))[None]}
    loaded = [onnx_runtime.load_session(model, "cpu")[0] for model in models]
    seconds: list[list[float]] = [[] for _ in models]
    # in turn, so that other work on the machine slows both alike
    for _ in range(ROUNDS):
        for session, taken in zip(loaded, seconds, strict=True):
            start = perf_counter()
            session.run(None, feed)
            taken.append(perf_counter() - start)
    return [1000 * median(taken) for taken in seconds]


def best(
    trained: TrainedRun, source: Path, path: Path, ranges: Path, *, for_tensorrt: bool = False
) -> int:
    """Quantise `source` to `path` with as few float layers as keep the accuracy on validation
    pictures; how many.

    `ranges`: file for the extremes of the network's values, which are the same in every attempt.
    """
    pictures = trained.training(CALIBRATED_ON)
    lost: dict[int, float] = {}
    for count in FLOAT_LAYERS:
        quantize(source, path, pictures, ranges, for_tensorrt=for_tensorrt, float_layers=count)
        rung = judged_early(
            path, trained.validated, trained.may_lose("int8"), as_stated=for_tensorrt
        )
        lost[count] = rung.worst + rung.spread
        if rung.verdict == "passed":
            return count
    # none is good: the best of them goes to the proof
    least = min(FLOAT_LAYERS, key=lost.__getitem__)
    quantize(source, path, pictures, ranges, for_tensorrt=for_tensorrt, float_layers=least)
    return least


def quantize(
    source: Path,
    path: Path,
    pictures: Sequence[Path],
    ranges: Path,
    *,
    for_tensorrt: bool = False,
    per_channel: bool = True,
    float_layers: int = 0,
) -> None:
    """Write `source` to `path` with the network's layers in 8 bits, their ranges from the pictures'
    extremes.

    The extremes are kept in the file `ranges`, and taken from it if it is there, where ONNX Runtime
    can.
    """
    # U8S8 is what the 8-bit kernels of CPUs multiply
    activations, more = QuantType.QUInt8, {}
    if for_tensorrt:
        activations = QuantType.QInt8
        # TensorRT takes no zero points, and biases in float only
        more = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    inside = nodes(onnx.load(source).graph, float_layers, clipped=not for_tensorrt)
    of_onnxruntime.quantize(
        source,
        path,
        TrainingPictures(pictures),
        ranges,
        per_channel=per_channel,
        reduce_range=not for_tensorrt,
        activation_type=activations,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=inside,
        extra_options=more,
    )


def nodes(graph: onnx.GraphProto, float_layers: int, *, clipped: bool) -> list[str]:
    """Return the names of the nodes to quantise: the network's products but for the first
    `float_layers`, none of resizing or the answer; `clipped`: with the activations that follow."""
    # the names of a joined file begin with their piece
    inside = [node for node in graph.node if node.name.startswith(f"{pieces.NETWORK}/")]
    products = [place for place, node in enumerate(inside) if node.op_type in QUANTIZED]
    if not products:
        raise UserError(
            "the bundle for onnx was written by an earlier version: export the run to onnx again."
        )
    kinds = QUANTIZED + CLIPPED * clipped
    # an empty list would mean all of the graph
    first = products[min(float_layers, len(products) - 1)]
    return [node.name for node in inside[first:] if node.op_type in kinds]


def judged_early(
    model: Path, labelled: Sequence[Labelled], limit: float, *, as_stated: bool = False
) -> Rung:
    """`judged`, but of the pictures answered so far once the model would not pass even if it lost
    none of the others."""
    session = _session(model, as_stated=as_stated)
    parts = max(1, len(labelled) // FEW)
    spread = list(chain.from_iterable(labelled[part::parts] for part in range(parts)))
    answers: list[np.ndarray] = []
    answered = 0
    for part in range(parts):
        asked = labelled[part::parts]
        answers.append(sessions.probabilities(session, asked))
        answered += len(asked)
        others = [picture.predicted for picture in spread[answered:]]
        as_trained = np.eye(answers[0].shape[1])[others]
        at_best = parity.accuracy("int8", limit, spread, np.concatenate([*answers, as_trained]))
        # even if no other answer changed
        if at_best.verdict != "passed":
            break
    return parity.accuracy("int8", limit, spread[:answered], np.concatenate(answers))


def judged(
    model: Path, labelled: Sequence[Labelled], limit: float, *, as_stated: bool = False
) -> Rung:
    """Return the accuracy of a model file against that of the trained model.

    `as_stated`: in the arithmetic that the file states, which accelerators follow, not as this
    CPU's 8-bit kernels shorten it.
    """
    p_NC = sessions.probabilities(_session(model, as_stated=as_stated), labelled)
    return parity.accuracy("int8", limit, labelled, p_NC)


def _session(model: Path, *, as_stated: bool) -> Session:
    session: Session
    session, _ = onnx_runtime.load_session(model, "cpu", eight_bit_kernels=not as_stated)
    return session
