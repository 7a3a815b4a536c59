"""`--to tensorrt`: `model.trt.onnx`, which NVIDIA's own parser and builder took here; on a GPU also
the engine.

The wheel `tensorrt-rtx` parses and builds without a GPU, so that what TensorRT would refuse is
known at export. Its engine is thrown away: it is not a TensorRT plan. With a GPU and the package
`tensorrt`, `model.plan` is built for that GPU, and must answer like the trained model before the
bundle is finished. Networks are strongly typed: the precision is that of the file, there are no
precision flags (TensorRT 11).

A builder times many kernels for each layer, which takes minutes. What it measured is kept in
`$ZOOTUNE_HOME` (`~/.cache/zootune`) for each GPU and TensorRT, so that the next build of a like
network does not measure it again.
"""

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from zoo.contract import bundle, rundir
from zoo.host import console, disk
from zoo.host.errors import UserError
from zoo.hub import pins

MODEL, PLAN, ENGINE = "model.trt.onnx", "model.plan", "engine.json"
BATCHES = (1, 8, 32)
"""Least, optimal and largest batch of the engine's profile."""
LARGEST_SIDE = 2048
"""Largest height and width of the profile, in pixels, if no picture of the run is larger."""
NOT_RUN = "built, not run"


def import_tensorrt() -> Any:
    """`tensorrt` where there is a GPU and that package, else `tensorrt_rtx`; `UserError` with the
    install line."""
    if torch.cuda.is_available():
        try:
            import tensorrt
        except ImportError:
            console.warn(
                "no engine is built for this GPU without the package tensorrt: pip install tensorrt"
            )
        else:
            return tensorrt
    try:
        import tensorrt_rtx
    except ImportError:
        raise UserError(
            "the target tensorrt needs NVIDIA's parser and builder, which work without a GPU "
            "(Linux and "
            f"Windows on x86-64, seen {platform.system()} on {platform.machine()}): pip install -e "
            '".[tensorrt]"'
        ) from None
    return tensorrt_rtx


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
    plan = build(trt, path, shapes)
    status, engine = NOT_RUN, None
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


def build(trt: Any, path: Path, shapes: Mapping[str, Sequence[int]] | None) -> bytes:
    """Parse an ONNX file and build its engine; `UserError` with the parser's words. `trt`: tensorrt
    or tensorrt_rtx."""
    words: list[str] = []

    class Log(trt.ILogger):  # type: ignore[name-defined,misc]
        """Keeps what NVIDIA's code says, which would go to stderr."""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                words.append(message)

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(path.read_bytes()):
        raise UserError(
            f"TensorRT's parser refuses {path.name}: {_errors(parser)}. Export to onnx instead, or "
            "choose another base."
        )
    options = configuration(trt, builder)
    if shapes:
        sizes = builder.create_optimization_profile()
        sizes.set_shape(
            bundle.IMAGE, tuple(shapes["min"]), tuple(shapes["opt"]), tuple(shapes["max"])
        )
        options.add_optimization_profile(sizes)
    with known_timings(trt, options):
        engine = builder.build_serialized_network(network, options)
    if engine is None:
        raise UserError(
            f"TensorRT cannot build an engine of {path.name}: {'; '.join(words)[:500]}. Export to "
            "onnx instead, or choose another base."
        )
    return bytes(engine)


def _errors(parser: Any) -> str:
    """What TensorRT's parser has against a file."""
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    words = "; ".join(f"{error.node_name()}: {error.desc()}" for error in errors)
    return " ".join(words.split())[:500]


def network_flags(trt: Any) -> int:
    """Types as the file has them: TensorRT 10 would choose its own unless it is asked, 11 knows
    nothing else."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def configuration(trt: Any, builder: Any) -> Any:
    """A builder's configuration without TF32, which is on by default and keeps 10 bits of float32's
    23: the limits of the proof in fp32 are out of its reach."""
    options = builder.create_builder_config()
    options.clear_flag(trt.BuilderFlag.TF32)
    return options


def timings_file(trt: Any) -> Path | None:
    """Where the measured times of kernels are kept for this GPU and TensorRT; None where there is
    nothing to measure:
    without a GPU, and for `tensorrt_rtx`, which chooses kernels when an engine is loaded."""
    if trt.__name__ != "tensorrt":
        return None
    gpu = torch.cuda.get_device_properties(0)
    name = f"{gpu.name}-{gpu.major}.{gpu.minor}-tensorrt-{trt.__version__}"
    return pins.pins_file().parent / "timings" / re.sub(r"[^A-Za-z0-9_.-]+", "_", name)


@contextmanager
def known_timings(trt: Any, options: Any) -> Iterator[None]:
    """While an engine is built with these options: take times that were measured before, and keep
    the new ones.

    A file that is damaged, or from another GPU, is ignored with a warning; so is a folder that
    cannot be written.
    """
    file = timings_file(trt)
    if file is None:
        yield
        return
    before = file.read_bytes() if file.is_file() else b""
    if not _take_timings(options, before):
        console.warn(
            f"{file} is not a timing cache of this GPU and TensorRT: it is ignored, and written "
            "anew"
        )
        _take_timings(options, b"")
    yield
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        disk.write_whole(
            file, lambda new: new.write_bytes(bytes(options.get_timing_cache().serialize()))
        )
    except (OSError, UserError) as error:
        console.warn(f"the times of kernels cannot be kept for the next build: {error}")


def _take_timings(options: Any, content: bytes) -> bool:
    """Whether TensorRT accepts this timing cache; an empty one always."""
    try:
        timings = options.create_timing_cache(content)
    except RuntimeError:
        return False
    return timings is not None and bool(options.set_timing_cache(timings, ignore_mismatch=False))


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
            keep(folder, build(trt, folder / MODEL, shapes), now)
        self._trt = trt
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine((folder / PLAN).read_bytes())
        self._context = self._engine.create_execution_context()

    def run(
        self, names: Sequence[str] | None, feed: Mapping[str, np.ndarray], /
    ) -> list[np.ndarray]:
        """Return the outputs named (None: all), for one batch on the input."""
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            image = torch.from_numpy(np.ascontiguousarray(feed[bundle.IMAGE])).cuda()
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
