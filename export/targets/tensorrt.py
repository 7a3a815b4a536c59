"""`--to tensorrt`: `model.trt.onnx`, which NVIDIA's own parser and builder took here; on a GPU also
the engine.

The wheel `tensorrt-rtx` parses and builds without a GPU, so that what TensorRT would refuse is
known at export. Its engine is thrown away: it is not a TensorRT plan. With a GPU and the package
`tensorrt`, `model.plan` is built for that GPU, and must answer like the trained model before the
bundle is finished.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from export.graph.deployed import Deployed
from export.proof import unknown
from export.proof.product import Product, all_of
from export.proof.prove import Evidence
from export.proof.trained_run import TrainedRun
from export.targets.tensorrt_builder import build_engine, import_tensorrt
from zoo.contract import bundle, rundir
from zoo.host.errors import UserError

MODEL, PLAN, ENGINE = "model.trt.onnx", "model.plan", "engine.json"
BATCHES = (1, 8, 32)
"""Least, optimal and largest batch of the engine's profile."""
LARGEST_SIDE = 2048
"""Largest height and width of the profile, in pixels, if no picture of the run is larger."""
NOT_RUN = "built, not run"


def check() -> None:
    """`UserError` if no builder is installed."""
    import_tensorrt()


def make_fp16(evidence: Evidence, folder: Path) -> Product:
    """Write `model.trt.onnx`, the network in fp16 and its ends in fp32; `model.plan` and
    `engine.json` where they can run."""
    trained = evidence.trained
    deployed = Deployed(trained.parts, resize="matmul", half=True).eval()
    trained.write(deployed, folder / MODEL)
    return _built(evidence, folder, deployed, unknown.fit(trained, deployed, folder / MODEL))


def make_fp32(evidence: Evidence, folder: Path) -> Product:
    """Write the same in fp32."""
    trained = evidence.trained
    deployed = Deployed(trained.parts, resize="matmul").eval()
    trained.write(deployed, folder / MODEL)
    return _built(evidence, folder, deployed, unknown.Fitted(trained.parts.decision))


def _built(evidence: Evidence, folder: Path, deployed: Deployed, fitted: unknown.Fitted) -> Product:
    """What is known of the file in the folder once its engine is built."""
    trt, path = import_tensorrt(), folder / MODEL
    shapes = profile(evidence.trained)
    plan = build_engine(trt, path, shapes)
    status, engine = NOT_RUN, None
    # tensorrt_rtx makes an engine of another kind, which is only a proof that the file is taken
    if trt.__name__ == "tensorrt":
        keep(folder, plan, fingerprint(trt, path))
        status, engine = "ok", Engine(folder, shapes)
    facts = {
        "profile": shapes,
        "builder": {
            "name": trt.__name__,
            "version": trt.__version__,
            "engine_mb": round(len(plan) / 1e6, 1),
        },
    }
    return Product(
        deployed.outputs,
        deployed.resize,
        MODEL,
        pixels=deployed,
        engine=engine,
        status=all_of(status, fitted.status),
        facts=facts,
        decision=fitted.decision,
        rungs=fitted.rungs,
        labelled_NC=fitted.labelled_NC,
        next_steps=lambda folder: [trtexec(folder / MODEL, shapes)],
    )


def profile(trained: TrainedRun) -> dict[str, list[int]]:
    """Return least, optimal and largest shape of the input, by the sizes of the run's own
    pictures."""
    widths, heights = zip(*trained.sizes(), strict=True)
    least, optimal, largest = BATCHES
    return {
        "min": [least, 1, 1, 3],
        "opt": [optimal, round(median(heights)), round(median(widths)), 3],
        "max": [largest, max(LARGEST_SIDE, *heights), max(LARGEST_SIDE, *widths), 3],
    }


def trtexec(path: Path, shapes: Mapping[str, Sequence[int]]) -> str:
    """The command that builds the engine of this file on another machine."""
    command = f"trtexec --onnx={path} --saveEngine={path.with_name(PLAN)} --noTF32"
    for which, shape in shapes.items():
        command += f" --{which}Shapes={bundle.IMAGE}:{'x'.join(map(str, shape))}"
    return command


# --- on a GPU


def fingerprint(trt: Any, model: Path) -> dict[str, Any]:
    """What an engine depends on: it answers for no other GPU, TensorRT or model file."""
    gpu = torch.cuda.get_device_properties(0)
    return {
        "gpu": gpu.name,
        "compute_capability": f"{gpu.major}.{gpu.minor}",
        "tensorrt": trt.__version__,
        "model_sha256": rundir.digest(model),
    }


def keep(folder: Path, engine: bytes, made_for: Mapping[str, Any]) -> None:
    """Write an engine and what it depends on."""
    (folder / PLAN).write_bytes(engine)
    rundir.write_json(folder / ENGINE, made_for)


class Engine:
    """An engine on the current GPU, run like a session of ONNX Runtime; final.

    Rebuilt from the file beside it if it was made for another GPU, TensorRT or model.
    """

    def __init__(self, folder: Path, shapes: Mapping[str, Sequence[int]]):
        trt = import_tensorrt()
        now = fingerprint(trt, folder / MODEL)
        if not (folder / PLAN).is_file() or rundir.read_json(folder / ENGINE) != now:
            keep(folder, build_engine(trt, folder / MODEL, shapes), now)
        self._trt = trt
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine((folder / PLAN).read_bytes())
        self._context = self._engine.create_execution_context()

    def run(
        self, names: Sequence[str] | None, feed: Mapping[str, np.ndarray], /
    ) -> list[np.ndarray]:
        """Return the outputs named (None: all), for one batch on the input."""
        # a stream of its own: on the default one TensorRT synchronises more often than is needed
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            image = torch.from_numpy(np.ascontiguousarray(feed[bundle.IMAGE])).cuda()
            # before the outputs are made, whose sizes follow from it
            self._context.set_input_shape(bundle.IMAGE, tuple(image.shape))
            self._context.set_tensor_address(bundle.IMAGE, image.data_ptr())
            outputs = self._empty_outputs()
            if not self._context.execute_async_v3(stream.cuda_stream):
                raise UserError(
                    f"TensorRT's engine could not answer a picture of {image.shape[2]} x "
                    f"{image.shape[1]}: export again with another version of TensorRT, or to onnx."
                )
        stream.synchronize()
        return [outputs[name].cpu().numpy() for name in names or outputs]

    def _empty_outputs(self) -> dict[str, torch.Tensor]:
        """Memory for each output, whose sizes follow from the input's."""
        outputs = {}
        for number in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(number)
            if name != bundle.IMAGE:
                shape = tuple(self._context.get_tensor_shape(name))
                outputs[name] = torch.empty(shape, device="cuda")
                self._context.set_tensor_address(name, outputs[name].data_ptr())
        return outputs
