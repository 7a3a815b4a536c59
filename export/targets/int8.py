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

import logging
import tempfile
from collections.abc import Iterator, Sequence
from inspect import signature
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from export.graph import pieces
from export.graph.deployed import Deployed
from export.proof import judging, parity, unknown
from export.proof.judging import Labelled, Rung
from export.proof.prove import Evidence
from export.proof.trained_run import Made, Subject
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
        return None if path is None else {bundle.IMAGE: np.asarray(decode(path))[None]}


def make(evidence: Evidence, folder: Path, precision: str) -> Made:
    """`model.int8.onnx` for CPUs; `model.int8-trt.onnx` for TensorRT, if it keeps the accuracy
    too."""
    subject = evidence.subject
    deployed = subject.deployed_onnx()
    other, path = Deployed(subject.parts, resize="matmul").eval(), folder / FOR_TENSORRT
    with tempfile.TemporaryDirectory() as temporary:
        ranges, exact = Path(temporary) / "ranges.json", Path(temporary) / "model.onnx"
        kept = best(subject, subject.onnx_model, folder / MODEL, ranges)
        own = unknown.fit(subject, deployed, folder / MODEL)
        subject.write(other, exact)
        kept_too = best(subject, exact, path, ranges, for_tensorrt=True)
    rung = judged(path, subject.labelled, subject.may_lose("int8"), as_stated=True)
    if rung.verdict == "passed":
        unknown.take_out(subject, other, path)  # nothing here runs it fast enough to fit one
    else:
        path.unlink()
        console.warn(f"{FOR_TENSORRT} loses {rung.lost} (limit {rung.limit:g}), so it is left out")
    about = {
        "file": FOR_TENSORRT if rung.verdict == "passed" else None,
        "float_layers": kept_too,
        "status": "not run by TensorRT",
        "accuracy": judging.to_json([rung])[0],
        "unknown": "not fitted, so it has no such output",
    }
    mine, exact_ms = side_by_side(
        [folder / MODEL, subject.onnx_model], next(iter(subject.pictures.values()))
    )
    gain = (
        f"{exact_ms / mine:.1f} times as fast"
        if mine < exact_ms / 1.1
        else "no gain on this machine"
    )
    console.say(
        f"  a picture takes {mine:.1f} ms, in the bundle for onnx {exact_ms:.1f} ms: {gain}"
    )
    facts = {
        "ms_a_picture": {"int8": mine, "fp32": exact_ms},
        "calibrated_on": len(subject.training(CALIBRATED_ON)),
        "float_layers": kept,
        "for_tensorrt": about,
    }
    return Made(
        deployed,
        model=MODEL,
        facts=facts,
        status=own.status,
        decision=own.decision,
        rungs=own.rungs,
        labelled_NC=own.labelled_NC,
        next_steps=lambda folder: [f"python -m zoo.predictor {shell_path(folder)} PICTURE..."],
    )


def side_by_side(models: Sequence[Path], picture: Path) -> list[float]:
    """Milliseconds that each model takes for the picture on this CPU: the median, the models in
    turn."""
    given = {bundle.IMAGE: np.asarray(decode(picture))[None]}
    sessions = [onnx_runtime.load(model, "cpu")[0] for model in models]
    seconds: list[list[float]] = [[] for _ in models]
    for _ in range(ROUNDS):
        for session, taken in zip(sessions, seconds, strict=True):
            start = perf_counter()
            session.run(None, given)
            taken.append(perf_counter() - start)
    return [1000 * median(taken) for taken in seconds]


def best(
    subject: Subject, source: Path, path: Path, ranges: Path, *, for_tensorrt: bool = False
) -> int:
    """Quantise `source` to `path` with as few float layers as keep the accuracy on validation
    pictures; how many.

    `ranges`: file for the extremes of the network's values, which are the same in every attempt.
    """
    pictures = subject.training(CALIBRATED_ON)
    lost: dict[int, float] = {}
    for count in FLOAT_LAYERS:
        quantize(source, path, pictures, ranges, for_tensorrt=for_tensorrt, float_layers=count)
        rung = judged_early(
            path, subject.validated, subject.may_lose("int8"), as_stated=for_tensorrt
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
    can (1.31 can).
    """
    activations = QuantType.QInt8 if for_tensorrt else QuantType.QUInt8
    options = (
        {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
        if for_tensorrt
        else {}
    )
    can_keep = "calibration_cache_path" in signature(quantize_static).parameters
    kept: dict[str, Any] = {"calibration_cache_path": ranges} if can_keep else {}
    # the quantiser writes to the root: it advises a preparation that the exporter has done
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        quantize_static(
            source,
            path,
            TrainingPictures(pictures),
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            reduce_range=not for_tensorrt,
            activation_type=activations,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes(
                onnx.load(source).graph, float_layers, clipped=not for_tensorrt
            ),
            extra_options=options,
            **kept,
        )
    finally:
        log.setLevel(level)


def nodes(graph: onnx.GraphProto, float_layers: int, *, clipped: bool) -> list[str]:
    """Names of the nodes to quantise: the network's products but for the first `float_layers`, none
    of resizing or the answer; `clipped`: with the activations that follow."""
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
    spread = [labelled[part::parts] for part in range(parts)]
    answered: list[Labelled] = []
    answers: list[np.ndarray] = []
    for number, part in enumerate(spread, start=1):
        answered += part
        answers.append(parity.probabilities(session, part))
        others = [picture for later in spread[number:] for picture in later]
        as_trained = np.eye(answers[0].shape[1])[[picture.said for picture in others]]
        at_best = parity.accuracy(
            "int8", limit, [*answered, *others], np.concatenate([*answers, as_trained])
        )
        if at_best.verdict != "passed":
            break
    return parity.accuracy("int8", limit, answered, np.concatenate(answers))


def judged(
    model: Path, labelled: Sequence[Labelled], limit: float, *, as_stated: bool = False
) -> Rung:
    """The accuracy of a model file against that of the trained model.

    `as_stated`: in the arithmetic that the file states, which accelerators follow, not as this
    CPU's 8-bit kernels shorten it.
    """
    p_NC = parity.probabilities(_session(model, as_stated=as_stated), labelled)
    return parity.accuracy("int8", limit, labelled, p_NC)


def _session(model: Path, *, as_stated: bool) -> Any:
    session, _ = onnx_runtime.load(model, "cpu", eight_bit_kernels=not as_stated)
    return session
