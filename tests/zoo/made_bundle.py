"""A bundle whose model is three lines of arithmetic, built without torch: the class is the mean
colour."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo.contract import bundle, model_metadata, rundir
from zoo.contract.decision import Decision, Sets, Unknown
from zoo.picture.preprocess import Preprocessing

LABELS = ("red", "green", "blue")
CALIBRATED = Decision(
    unknown=Unknown(neighbours=1, shortest=0.1, threshold=0.5), sets=Sets(0.9, 0.2)
)
PRE = Preprocessing(size=8, crop_mode="squash", crop_pct=1.0)
SHARPNESS = 4.0


def reference(pixels_HWC: np.ndarray) -> dict[str, np.ndarray]:
    """What the made model gives for one picture, in NumPy."""
    colour = (pixels_HWC / 255).mean((0, 1))
    exponentials = np.exp(SHARPNESS * colour)
    return {
        "probabilities": exponentials / exponentials.sum(),
        "unknown_score": 1 - colour.max(),
        "embedding": colour,
        "heatmap": colour[None],
    }


def made_content(
    *, decision: Decision = CALIBRATED, outputs: tuple[str, ...] = bundle.OUTPUTS, **other: Any
) -> dict[str, Any]:
    """What an exporter gives to `bundle.write_description`."""
    return {
        "target": "onnx",
        "labels": list(LABELS),
        "preprocessing": PRE.to_config(),
        "decision": decision.to_json(),
        "outputs": list(outputs),
        "run": {"name": "colours-tiny", "finished_sha256": "0" * 64},
        "versions": {"opset": 20},
        "status": "ok",
    } | other


def write_model(
    path: Path, content: Mapping[str, Any], *, metadata: Mapping[str, str] | None = None
) -> None:
    """An ONNX file with the outputs that `content` names; `metadata`: other than that of
    `content`."""
    constants = {
        "full": np.float32(255),
        "sharpness": np.float32(SHARPNESS),
        "one": np.float32(1),
        "sides": np.array([1, 2]),
        "last": np.array([1]),
    }
    steps = (
        ("Cast", ["image"], "pixels", {"to": TensorProto.FLOAT}),
        ("Div", ["pixels", "full"], "shares", {}),
        ("ReduceMean", ["shares", "sides"], "embedding", {"keepdims": 0}),
        ("Mul", ["embedding", "sharpness"], "logits", {}),
        ("Softmax", ["logits"], "probabilities", {"axis": 1}),
        ("ReduceMax", ["embedding", "last"], "strongest", {"keepdims": 0}),
        ("Sub", ["one", "strongest"], "unknown_score", {}),
        ("Unsqueeze", ["embedding", "last"], "heatmap", {}),
    )
    shapes = {
        "probabilities": ["batch", 3],
        "unknown_score": ["batch"],
        "embedding": ["batch", 3],
        "heatmap": ["batch", 1, 3],
    }
    graph = helper.make_graph(
        [helper.make_node(kind, given, [name], **how) for kind, given, name, how in steps],
        "colours",
        [
            helper.make_tensor_value_info(
                "image", TensorProto.UINT8, ["batch", "height", "width", 3]
            )
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name])
            for name in content["outputs"]
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(
        model, dict(model_metadata.metadata(content) if metadata is None else metadata)
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def make_endless(path: Path) -> None:
    """Put a Loop of 2**62 rounds between the input and everything else of a model that
    `write_model` wrote."""
    model = onnx.load(path)
    rounds = [
        helper.make_tensor_value_info("round", TensorProto.INT64, []),
        helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
    ]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Abs", ["before"], ["after"]),
        ],
        "body",
        rounds,
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(2**62), "rounds"),
            numpy_helper.from_array(np.array(True), "yes"),
        ]
    )
    cast, divide = model.graph.node[:2]
    divide.input[0] = "never"
    nodes = [
        cast,
        helper.make_node("Loop", ["rounds", "yes", cast.output[0]], ["never"], body=body),
        *model.graph.node[1:],
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)


def made_bundle(run: Path, *, finished: bool = True, target: str = "onnx", **how: Any) -> Path:
    """A run folder that is finished, and its bundle for `target`; `how` as in `made_content`. Gives
    the bundle's."""
    folder = run / "bundles" / target
    (folder / bundle.EXAMPLES).mkdir(parents=True)
    rundir.write_json(run / rundir.CONFIG, {"label_names": LABELS})
    rundir.finish(run)
    source = {"name": "colours-tiny", "finished_sha256": rundir.digest(run / rundir.FINISHED)}
    content = made_content(**{"run": source, "target": target} | how)
    write_model(folder / bundle.MODEL, content)
    bundle.write_description(folder, content)
    rundir.write_json(folder / bundle.PARITY, {"passed": True})
    if finished:
        bundle.finish(folder)
    return folder
