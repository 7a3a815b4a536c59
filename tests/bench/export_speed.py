"""Speed of exported graphs, in turn in one process: EfficientNet-Lite0 at 224 px, batch 1, two
threads.

python -m tests.bench.export_speed
"""

import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from export.graph.deployed import Deployed, DeployedParts
from export.graph.pieces import Pieces
from export.targets import int8
from zoo.answer import onnx_runtime
from zoo.bases.catalog import find_base
from zoo.contract import bundle
from zoo.contract.decision import Decision
from zoo.network.build import build_network
from zoo.picture.preprocess import Preprocessing

ROUNDS, RUNS = 7, 15


def main() -> None:
    """One line for each, in milliseconds and relative to the core in ONNX Runtime."""
    torch.set_num_threads(2)
    model = build_network(
        find_base("efficientnet_lite0"), [str(i) for i in range(10)], image_size=224
    ).eval()
    pre = Preprocessing.from_config(model.pretrained_cfg)  # type: ignore[arg-type]
    x = torch.rand(1, 3, 224, 224)
    picture = np.random.default_rng(0).integers(0, 256, (1, 300, 400, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        core = Path(folder) / "core.onnx"
        plain = DeployedParts(model, pre, Decision(), None)
        Pieces(plain, core.with_suffix(".log")).write_network(Deployed(plain, resize="op"), core)
        session, _ = onnx_runtime.load_session(core, "cpu", threads=2)
        jobs = {
            "core, ONNX Runtime": lambda: session.run(None, {"pixel_values": x.numpy()}),
            "core, eager torch": lambda: model(x),
        }
        for views in ("none", "flip", "five", "multiscale"):
            parts = DeployedParts(model, pre, Decision(views=views), None)
            path = Path(folder) / f"{views}.onnx"
            Pieces(parts, path.with_suffix(".log")).write(Deployed(parts, resize="op").eval(), path)
            whole, _ = onnx_runtime.load_session(path, "cpu", threads=2)
            jobs[f"whole graph on 300x400, views {views}"] = lambda session=whole: session.run(
                None, {bundle.IMAGE: picture}
            )
        for kept in (0, *int8.FLOAT_LAYERS[1:3]):
            path = Path(folder) / f"core-int8-{kept}.onnx"
            in_8_bits(core, path, kept)
            small, _ = onnx_runtime.load_session(path, "cpu", threads=2)
            jobs[f"core, int8 but for {kept} layers"] = lambda session=small: session.run(
                None, {"pixel_values": x.numpy()}
            )
        times: dict[str, list[float]] = {name: [] for name in jobs}
        with torch.inference_mode():
            for _ in range(ROUNDS):
                for name, job in jobs.items():
                    job()
                    seconds = []
                    for _ in range(RUNS):
                        start = perf_counter()
                        job()
                        seconds.append(perf_counter() - start)
                    times[name].append(median(seconds))
    reference = min(times["core, ONNX Runtime"])
    for name, seconds in times.items():
        print(f"| {name} | {1000 * min(seconds):.1f} ms | {min(seconds) / reference:.2f} |")


def in_8_bits(core: Path, path: Path, float_layers: int) -> None:
    """The bare network, quantised as export/targets/int8.py does; the ranges do not matter here."""
    graph = onnx.load(core).graph
    inside = [node for node in graph.node if node.op_type in int8.QUANTIZED + int8.CLIPPED]
    products = [place for place, node in enumerate(inside) if node.op_type in int8.QUANTIZED]
    quantize_static(
        core,
        path,
        RandomBatches(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=[node.name for node in inside[products[float_layers] :]],
    )


class RandomBatches(CalibrationDataReader):
    """Four random inputs."""

    def __init__(self) -> None:
        self._left = iter(np.random.default_rng(0).random((4, 1, 3, 224, 224), np.float32))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._left, None)
        return None if batch is None else {"pixel_values": batch}


if __name__ == "__main__":
    main()
